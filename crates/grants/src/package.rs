//! Interfaces that a guest gets only if it is offered them.

use std::fmt;

use provided::INTERFACES;

use crate::names::or_nothing;
use crate::text::as_text;
use crate::{Giver, Names};

/// A package of optional interfaces, as `wasmtime.shim/interfaces` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Package {
    /// Configuration.
    Config,
    /// HTTP requests that a guest sends. A server needs none of it.
    Http,
    /// A key-value store.
    KeyValue,
    /// Log lines.
    Logging,
    /// Inference.
    Nn,
    /// TLS over the guest's own connections.
    Tls,
}

as_text!(Package, INTERFACES);

/// The only interface of `wasi:http` by which a guest sends no requests. It belongs to servers as well.
const TYPES: &str = "wasi:http/types";

impl Package {
    /// All packages.
    pub const ALL: [Package; 6] = [
        Package::Config,
        Package::Http,
        Package::KeyValue,
        Package::Logging,
        Package::Nn,
        Package::Tls,
    ];

    /// Name of the package.
    pub fn name(self) -> &'static str {
        match self {
            Package::Config => "wasi:config",
            Package::Http => "wasi:http",
            Package::KeyValue => "wasi:keyvalue",
            Package::Logging => "wasi:logging",
            Package::Nn => "wasi:nn",
            Package::Tls => "wasi:tls",
        }
    }

    fn parse(text: &str) -> Option<Package> {
        Package::ALL.into_iter().find(|package| package.name() == text)
    }

    /// The packages that a guest with these imports must be offered. An import is such as `wasi:config/store@0.2.0-rc.1`.
    pub fn of_imports<'a>(imports: impl IntoIterator<Item = &'a str>) -> Vec<Package> {
        let mut packages: Vec<_> = imports.into_iter().filter_map(Package::of_import).collect();
        packages.sort();
        packages.dedup();
        packages
    }

    fn of_import(interface: &str) -> Option<Package> {
        let (name, _) = interface.split_once('@').unwrap_or((interface, ""));
        let package = Package::parse(name.split_once('/')?.0)?;
        (name != TYPES).then_some(package)
    }
}

impl fmt::Display for Package {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a guest is not created that imports what it is not offered, as a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it imports {withheld}, which it is not offered; {remedy}")]
pub struct NotOffered {
    withheld: String,
    /// Who withholds it, and what would change that.
    remedy: String,
}

impl Names<Package> {
    /// The packages that the guest is offered.
    pub fn offered(&self) -> Vec<Package> {
        let named = self.named.as_ref();
        let is_named = |it: &Package| named.is_none_or(|named| named.entries.contains(it));
        Package::ALL.into_iter().filter(|it| is_named(it) && self.allows(it)).collect()
    }

    /// Checks that a guest is offered all packages that it imports.
    ///
    /// # Errors
    /// [`NotOffered`], with those that it is not offered.
    pub fn check(&self, imported: &[Package]) -> Result<(), NotOffered> {
        let offered = self.offered();
        let withheld = imported.iter().copied().filter(|it| !offered.contains(it));
        let withheld: Vec<Package> = withheld.collect();
        if withheld.is_empty() {
            return Ok(());
        }
        let remedy = self.remedy(&offered, &withheld);
        Err(NotOffered { withheld: or_nothing(&withheld), remedy })
    }

    fn remedy(&self, offered: &[Package], withheld: &[Package]) -> String {
        let key = INTERFACES.key;
        match &self.ceiling {
            Some(ceiling) if !withheld.iter().all(|it| self.allows(it)) => ceiling.forbids(key),
            _ => {
                let place = self.named.as_ref().map_or(Giver::Node, |named| named.giver).place();
                let mut needed = [offered, withheld].concat();
                needed.sort();
                let (offered, needed) = (or_nothing(offered), or_nothing(&needed));
                format!("the {place} offers {offered}; {key} \"{needed}\" would allow that")
            }
        }
    }

    fn allows(&self, package: &Package) -> bool {
        self.ceiling.as_ref().is_none_or(|ceiling| ceiling.entries.contains(package))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::list;

    /// Interfaces that each component may import.
    const BASE: [&str; 7] = [
        "wasi:cli/",
        "wasi:clocks/",
        "wasi:filesystem/",
        "wasi:http/types",
        "wasi:io/",
        "wasi:random/",
        "wasi:sockets/",
    ];

    fn entries(text: &str) -> Vec<Package> {
        list(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_package_is_written_as_it_is_read_and_the_setting_has_all() {
        for package in Package::ALL {
            assert_eq!(package.name().parse(), Ok(package));
            assert!(INTERFACES.allowed.contains(package.name()), "{package}");
        }
        for text in ["", "wasi:io", "config", "wasi:config/store", "wasi:http/client", "all"] {
            let error = text.parse::<Package>().expect_err(text).to_string();
            assert!(error.contains("allowed is names with commas between"), "{error}");
        }
    }

    #[test]
    fn each_interface_that_is_provided_is_of_a_package_or_for_every_guest() {
        let mut found = Vec::new();
        for interface in provided::interfaces() {
            let name = interface.to_string();
            let packages = Package::of_imports([name.as_str()]);
            let is_base = BASE.iter().any(|base| name.starts_with(base));
            assert_eq!(packages.len(), usize::from(!is_base), "{name}");
            found.extend(packages);
        }
        found.sort();
        found.dedup();
        assert_eq!(found, Package::ALL);
        let twice =
            ["wasi:http/client@0.3.0", "wasi:http/outgoing-handler@0.2.0", "wasi:logging/logging"];
        assert_eq!(Package::of_imports(twice), [Package::Http, Package::Logging]);
    }

    #[test]
    fn a_guest_is_offered_what_is_named_and_allowed() {
        for (named, ceiling, offered) in [
            (None, None, "wasi:config, wasi:http, wasi:keyvalue, wasi:logging, wasi:nn, wasi:tls"),
            (None, Some("wasi:tls, wasi:nn"), "wasi:nn, wasi:tls"),
            (Some("wasi:tls"), None, "wasi:tls"),
            (Some("wasi:tls"), Some("wasi:nn, wasi:tls"), "wasi:tls"),
            (Some(""), None, ""),
            (None, Some(""), ""),
        ] {
            let names = Names::example(named.map(|text| (text, Giver::Pod)), ceiling);
            assert_eq!(names.offered(), entries(offered), "{names:?}");
            assert_eq!(names.check(&names.offered()), Ok(()));
        }
    }

    #[test]
    fn the_refusal_names_who_withholds_what_a_guest_imports_and_what_would_allow_it() {
        let imported = [Package::Config, Package::KeyValue];
        let withheld = "it imports wasi:keyvalue, which it is not offered; ";
        let key = "wasmtime.shim/interfaces";
        for (named, ceiling, remedy) in [
            (
                Some(("wasi:tls, wasi:config", Giver::Pod)),
                None,
                format!(
                    "the annotation of the Pod offers wasi:config, wasi:tls; {key} \"wasi:config, wasi:keyvalue, wasi:tls\" would allow that"
                ),
            ),
            (
                Some(("wasi:config", Giver::Image)),
                Some("wasi:config, wasi:keyvalue"),
                format!(
                    "the label of the image offers wasi:config; {key} \"wasi:config, wasi:keyvalue\" would allow that"
                ),
            ),
            (
                Some(("wasi:config", Giver::Node)),
                None,
                format!(
                    "the node's file offers wasi:config; {key} \"wasi:config, wasi:keyvalue\" would allow that"
                ),
            ),
            (
                None,
                Some("wasi:http, wasi:config"),
                "[ceiling] in /p forbids that; its key interfaces allows wasi:http, wasi:config"
                    .into(),
            ),
            (
                Some(("wasi:config", Giver::Pod)),
                Some("wasi:config"),
                "[ceiling] in /p forbids that; its key interfaces allows wasi:config".into(),
            ),
        ] {
            let refused = Names::example(named, ceiling).check(&imported).expect_err("is refused");
            assert_eq!(refused.to_string(), format!("{withheld}{remedy}"));
        }
        let nothing = Names::example(Some(("", Giver::Pod)), None);
        let refused = nothing.check(&imported).expect_err("is refused");
        let expected = format!(
            "it imports wasi:config, wasi:keyvalue, which it is not offered; the annotation of the Pod offers nothing; {key} \"wasi:config, wasi:keyvalue\" would allow that"
        );
        assert_eq!(refused.to_string(), expected);
    }
}
