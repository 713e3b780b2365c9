//! Decides whether this version of the shim can run a guest.

use grants::{CodeSettings, Names, Package};
use provided::wasm::{Features, Refusal};
use provided::{Interface, provides};

use super::guest::Guest;

/// Number of missing imports that are named. The first ones show which kind of host the guest expects.
const SHOWN: usize = 5;

/// Returns why the shim cannot run `guest`, or `None` if it can. The guest runs by its world, or by the `export` that
/// the entrypoint names, its code is made as its image asks for, and it is offered the interfaces that its image names.
pub fn reason(
    guest: &Guest,
    export: Option<&str>,
    code: &CodeSettings,
    interfaces: &Names<Package>,
) -> Option<String> {
    if let Some(invalid) = &guest.invalid {
        return Some(invalid.clone());
    }
    if guest.size > provided::WASM_BYTES {
        let (size, limit) = (guest.size, provided::WASM_BYTES);
        return Some(format!("it has {size} bytes; allowed is at most {limit}"));
    }
    let off = needed(guest).difference(code.features());
    if !off.is_empty() {
        return Some(format!("{}; {}", Refusal::Off(off), code.remedy(off)));
    }
    let missing = missing(guest);
    if !missing.is_empty() {
        return Some(format!("it imports what is not provided: {}", list(&missing)));
    }
    if let Err(error) = interfaces.check(&guest.interfaces) {
        return Some(error.to_string());
    }
    let exports = if guest.exports.is_empty() { "nothing" } else { &guest.exports.join(", ") };
    match export {
        Some(export) if exported(guest, export) => None,
        Some(export) => Some(format!("it has no export {export:?}: it exports {exports}")),
        None if guest.world.is_some() => None,
        None => {
            let needed = entries(guest);
            let calls = "an entrypoint such as \"PATH#EXPORT\" calls one export";
            Some(format!("it has no entry: it exports {exports}, and {needed} is needed; {calls}"))
        }
    }
}

fn needed(guest: &Guest) -> Features {
    let named = guest.features.iter().filter_map(|name| Features::named(name));
    named.fold(Features::NONE, Features::union)
}

/// Returns whether a guest exports a function, or an interface that may have it: `function` or `interface#function`.
fn exported(guest: &Guest, export: &str) -> bool {
    let name = export.rsplit_once('#').map_or(export, |(interface, _)| interface);
    guest.exports.iter().any(|it| it == name)
}

/// Returns the imports that nothing provides: interfaces, or functions of interfaces.
pub fn missing(guest: &Guest) -> Vec<String> {
    match guest.kind {
        "module" => missing_functions(guest),
        _ => missing_interfaces(guest, &provided::interfaces()),
    }
}

fn missing_functions(guest: &Guest) -> Vec<String> {
    let has = |module: &str, item: &str| {
        module == provided::MODULE && provided::MODULE_FUNCTIONS.contains(&item)
    };
    let imports = guest.imports.iter();
    let all = imports.flat_map(|it| it.items.iter().map(|item| (it.name.as_str(), item.as_str())));
    all.filter(|(module, item)| !has(module, item))
        .map(|(module, item)| format!("{module}::{item}"))
        .collect()
}

fn missing_interfaces(guest: &Guest, table: &[Interface]) -> Vec<String> {
    let mut missing = Vec::new();
    for import in &guest.imports {
        if !provides(table, &import.name, None) {
            missing.push(import.name.clone());
            continue;
        }
        let items = import.items.iter().filter(|it| !provides(table, &import.name, Some(it)));
        missing.extend(items.map(|item| format!("{} {item}", import.name)));
    }
    missing
}

fn list(missing: &[String]) -> String {
    let shown = missing.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match missing.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn entries(guest: &Guest) -> &'static str {
    match guest.kind {
        "module" => "_start",
        _ => "wasi:cli/run@0.2 or @0.3, wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_export(wasm: &[u8], export: Option<&str>) -> Option<String> {
        let guest = Guest::read("app.wasm", wasm);
        reason(&guest, export, &CodeSettings::default(), &Names::default())
    }

    fn of(text: &str) -> Option<String> {
        of_export(&wat::parse_str(text).unwrap(), None)
    }

    fn refusal(wasm: &[u8]) -> String {
        of_export(wasm, None).unwrap()
    }

    #[test]
    fn a_command_of_wasi_01_runs_unless_it_imports_more_which_is_named() {
        let wasi = |name: &str| {
            of(&format!(
                r#"(module (import "wasi_snapshot_preview1" "{name}" (func))
                    (memory (export "memory") 1) (func (export "_start")))"#
            ))
        };
        assert_eq!(wasi("fd_write"), None);
        let text = wasi("sock_open").unwrap();
        assert!(
            text.contains("it imports") && text.contains("wasi_snapshot_preview1::sock_open"),
            "{text}"
        );
    }

    #[test]
    fn an_import_is_named_with_its_version_and_a_function_with_its_interface() {
        let import = |name: &str, function: &str| {
            of(&format!(r#"(component (import "{name}" (instance (export "{function}" (func)))))"#))
                .unwrap()
        };
        assert!(import("acme:db/query@1.0.0", "get").contains("provided: acme:db/query@1.0.0"));
        let text = import("wasi:cli/environment@0.2.3", "get-colour");
        assert!(text.ends_with("wasi:cli/environment@0.2.3 get-colour"), "{text}");
        assert!(import("wasi:cli/environment@0.2.3", "initial-cwd").contains("has no entry"));
    }

    #[test]
    fn the_refusal_of_a_guest_without_an_entry_names_its_exports() {
        let text = of(r#"(module (func (export "greet")))"#).unwrap();
        assert!(text.contains("exports greet, and _start is needed; an entrypoint"), "{text}");
        let wasm = wat::parse_str(r#"(module (func (export "greet")))"#).unwrap();
        let of = |export| of_export(&wasm, Some(export));
        assert_eq!(of("greet"), None);
        let text = of("part").unwrap();
        assert!(text.contains("no export \"part\": it exports greet"), "{text}");
    }

    #[test]
    fn an_invalid_guest_is_refused_with_the_place_of_the_fault() {
        let wasm = b"\0asm\x01\0\0\0junk";
        let text = refusal(wasm);
        assert!(text.contains("not valid WebAssembly") && text.contains("offset"), "{text}");
    }

    #[test]
    fn what_the_node_does_not_compile_is_named() {
        for (module, words) in [
            ("(memory 1 1 shared)", "shared memory"),
            ("(memory 1 (pagesize 1))", "custom-page-sizes"),
            (
                "(func (param i64 i64 i64 i64) (result i64 i64)
                    local.get 0 local.get 1 local.get 2 local.get 3 i64.add128)",
                "wide-arithmetic",
            ),
        ] {
            let text = of(&format!(r#"(module {module} (func (export "_start")))"#)).unwrap();
            assert!(text.contains(words), "{text}");
        }
        let wide = of("(module (memory 1 (pagesize 1)) (func (export \"_start\")))").unwrap();
        let remedy = "; wasmtime.shim/features \"wasm3, custom-page-sizes\" would allow that";
        assert!(wide.ends_with(remedy), "{wide}");
        // `try` and `catch_all` of an earlier proposal, which the text form no longer has.
        let legacy = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x08\x01\x06\0\x06\x40\x19\x0b\x0b";
        let text = refusal(legacy);
        assert!(text.contains("legacy-exceptions"), "{text}");
    }

    #[test]
    fn ten_thousand_components_in_each_other_are_refused_before_they_are_followed() {
        let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
        for _ in 0..10_000 {
            let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
            let mut size = wasm.len();
            while size >= 0x80 {
                outer.push((size & 0x7f) as u8 | 0x80);
                size >>= 7;
            }
            outer.push(size as u8);
            outer.extend(&wasm);
            wasm = outer;
        }
        let text = refusal(&wasm);
        assert!(text.contains("nested too deeply"), "{text}");
    }
}
