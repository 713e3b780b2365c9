//! Settings of how the code of a guest is made. It is one value from the merge to the compilation, and from there to the run.

use provided::FEATURES;
use provided::wasm::Features;
use serde::{Deserialize, Serialize};

use crate::quantity::Fuel;
use crate::{Feature, Giver, Limit, Names, Requested};

/// What a guest may use of WebAssembly, and how much of its code may be executed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeSettings {
    /// WebAssembly beyond version 2.0.
    pub features: Names<Feature>,
    /// The fuel of a run, or of a request to a server.
    pub fuel: Limit<Fuel>,
}

impl CodeSettings {
    /// Settings of an image's guest for which the node and the Pod set nothing.
    pub fn of_image(image: &Requested) -> CodeSettings {
        let features = Names::of_image(image.features.clone());
        let fuel = Limit { named: image.fuel.map(|fuel| (fuel, Giver::Image)), ceiling: None };
        CodeSettings { features, fuel }
    }

    /// What the guest may use beyond WebAssembly 2.0.
    pub fn features(&self) -> Features {
        let named = self.features.named.as_ref().map(|granted| Feature::all(&granted.entries));
        named.unwrap_or_default().intersection(self.most())
    }

    /// Units of fuel, if they are limited.
    pub fn fuel(&self) -> Option<u64> {
        self.fuel.get().map(|(fuel, _)| fuel.units())
    }

    /// Whether the guest is compiled as one for which nothing is set.
    pub fn is_usual(&self) -> bool {
        self.variant().is_none()
    }

    /// Whether the compiled code runs in an engine for guests for which nothing is set. It does if it uses less.
    pub fn runs_as_usual(&self) -> bool {
        self.fuel().is_none() && Features::DEFAULT.contains(self.features())
    }

    /// Text of everything here that decides the compiled code: the same code has the same text. `None` if nothing is set.
    pub fn variant(&self) -> Option<String> {
        let features = self.features();
        let features = (features != Features::DEFAULT).then(|| format!("features {features}"));
        // How much fuel there is does not matter.
        let fuel = self.fuel().map(|_| "fuel".to_owned());
        let parts: Vec<String> = features.into_iter().chain(fuel).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// What would allow the proposals that a guest lacks, for its refusal.
    pub fn remedy(&self, off: Features) -> String {
        let key = FEATURES.key;
        match &self.features.ceiling {
            Some(ceiling) if !self.most().contains(off) => ceiling.forbids(key),
            _ => format!("{key} \"{}\" would allow that", self.features().union(off)),
        }
    }

    fn most(&self) -> Features {
        let ceiling = self.features.ceiling.as_ref();
        let ceiling = ceiling.map(|ceiling| Feature::all(&ceiling.entries));
        ceiling.unwrap_or(Features::OFFERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<Feature> {
        crate::text::list(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn code(features: Option<&str>, ceiling: Option<&str>) -> CodeSettings {
        CodeSettings {
            features: Names::example(features.map(|text| (text, Giver::Pod)), ceiling),
            fuel: Limit::default(),
        }
    }

    fn off(text: &str) -> Features {
        Feature::all(&entries(text))
    }

    #[test]
    fn code_that_is_made_alike_has_the_same_variant_and_other_code_another() {
        assert_eq!(CodeSettings::default().variant(), None);
        assert_eq!(code(Some("wasm3"), None).variant(), None);
        assert_eq!(code(None, Some("wasm3, wide-arithmetic")).variant(), None);
        let narrow = code(None, Some("gc, wide-arithmetic"));
        assert_eq!(narrow.variant(), code(Some("gc"), None).variant());
        assert!(narrow.variant().is_some() && narrow.runs_as_usual());
        let wide = code(Some("wasm3, wide-arithmetic"), None);
        assert!(wide.variant().is_some() && wide.variant() != narrow.variant());
        assert!(!wide.runs_as_usual());
        let fuel = |units: &str, code: CodeSettings| {
            let named = Some((units.parse().expect("is fuel"), Giver::Pod));
            CodeSettings { fuel: Limit { named, ceiling: None }, ..code }
        };
        let metered = fuel("7", CodeSettings::default());
        assert_eq!((metered.fuel(), metered.runs_as_usual()), (Some(7), false));
        assert_eq!(metered.variant(), fuel("8", CodeSettings::default()).variant());
        assert_ne!(metered.variant(), fuel("7", wide.clone()).variant());
        assert_ne!(fuel("7", wide.clone()).variant(), wide.variant());
    }

    #[test]
    fn an_images_code_is_as_its_labels_say_whatever_else_they_ask_for() {
        let mut image = Requested::default();
        for (key, value) in [
            (FEATURES.key, "gc"),
            (provided::FUEL.key, "7"),
            // More than a node without a file allows.
            (provided::ALLOW_CONNECT.key, "169.254.169.254:80"),
        ] {
            assert!(image.set(key, value).expect("is valid"));
        }
        let code = CodeSettings::of_image(&image);
        assert_eq!((code.features(), code.fuel()), (off("gc"), Some(7)));
    }

    #[test]
    fn what_is_off_is_turned_on_by_the_setting_unless_the_node_forbids_it() {
        for (code, lacks, remedy) in [
            (
                code(None, None),
                "wide-arithmetic",
                "wasmtime.shim/features \"wasm3, wide-arithmetic\" would allow that",
            ),
            (
                code(Some("gc"), None),
                "tail-call",
                "wasmtime.shim/features \"tail-call, function-references, gc\" would allow that",
            ),
            (
                code(None, Some("gc, exceptions")),
                "tail-call",
                "[ceiling] in /p forbids that; its key features allows gc, exceptions",
            ),
            (
                code(None, Some("")),
                "gc",
                "[ceiling] in /p forbids that; its key features allows nothing",
            ),
            (
                code(None, Some("wasm3, wide-arithmetic")),
                "wide-arithmetic",
                "wasmtime.shim/features \"wasm3, wide-arithmetic\" would allow that",
            ),
        ] {
            assert_eq!(code.remedy(off(lacks)), remedy);
        }
    }
}
