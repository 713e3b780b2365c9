//! `docs/settings.md`, the table of all settings.

use std::collections::BTreeSet;
use std::fs;

use provided::{SETTINGS, Setting, Unset};

use super::{compare, files, root};

/// The page above its table.
const HEAD: &str = "# Settings

Every annotation, label, environment variable and runtime option. `make documents` writes this page from
what `crates/provided/src/settings.rs` declares; do not edit it.

Create fails if an annotation, a label, a runtime option, or a variable of compilation or of the HTTP server has an invalid value.
The error, which `kubectl describe` shows, says what is allowed. Create also fails for an annotation or a label
`wasmtime.shim/...` that is not in this table. The error then names the nearest key that is. If a variable of OpenTelemetry or
`SSL_CERT_FILE` cannot be used, the container's stderr says so, or it is ignored as the OpenTelemetry specification requires.

[Grants](grants.md) explains what a guest may do and its limits, [HTTP](http.md) the settings of servers, [Interfaces](interfaces.md) `config` and `keyvalue`, [Compiled code](cache.md)
the settings of compilation, [Debugging](debugging.md) the core dump, and [On a node](node.md) the runtime options.

| setting | where | sets | allowed | if it is not set |
|---|---|---|---|---|
";

#[test]
fn the_page_of_settings_is_what_the_code_declares() {
    compare("docs/settings.md", &page());
}

#[test]
fn each_variable_that_the_code_reads_is_on_the_page() {
    let page = page();
    let mut variables = BTreeSet::new();
    for file in files(&root().join("crates"), "rs") {
        let text = fs::read_to_string(&file).expect("source");
        variables.extend(own_variables(&text).map(str::to_owned));
    }
    assert!(variables.len() >= 6, "{variables:?}");
    for variable in variables {
        assert!(page.contains(&format!("`{variable}`")), "{variable} is not on the page");
    }
}

fn page() -> String {
    let rows = SETTINGS.iter().flat_map(|group| {
        group.settings.iter().map(|setting| {
            let Setting { key, sets, allowed, unset } = setting;
            let keys: Vec<_> = key.split(", ").map(|key| format!("`{key}`")).collect();
            let unset = match unset {
                Unset::Is(value) => format!("`{value}`"),
                Unset::Means(text) => (*text).to_owned(),
            };
            format!("| {} | {} | {sets} | {allowed} | {unset} |\n", keys.join(", "), group.place)
        })
    });
    HEAD.to_owned() + &rows.collect::<String>()
}

/// Names of variables of this project's own in a source text, in quotation marks, without the prefix of all and those of its
/// tests.
fn own_variables(text: &str) -> impl Iterator<Item = &str> {
    let literals = text.split('"').filter(|literal| literal.starts_with("WASMTIME_"));
    let is_name = |it: &&str| it.chars().all(|it| it.is_ascii_uppercase() || it == '_');
    literals.filter(is_name).filter(|name| !name.contains("_TEST_") && !name.ends_with('_'))
}
