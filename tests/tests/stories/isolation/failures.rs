//! A Create that fails: the error has the step and what it failed on.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::shim::Bundle;

use super::server;
use crate::shim::ends;

/// The refusal of a Create.
fn refused(bundle: Bundle) -> Result<String> {
    let shim = bundle.start()?;
    let refusal = shim.create(&bundle.create_request()).expect_err("is refused");
    ends(&shim, &bundle)?;
    bundle.close()?;
    Ok(refusal.message)
}

/// A change to a bundle's `config.json`.
type Change = fn(&mut Value);

#[test]
fn a_create_that_fails_says_at_which_step_and_on_what() -> Result<()> {
    let cases: [(Change, &str); 6] = [
        (
            |config| {
                config["mounts"][0] = json!({ "destination": "/data", "type": "bind",
                    "source": "/no/such/volume", "options": ["rbind"] });
            },
            r#"cannot mount "/data" from "/no/such/volume": no such file or directory"#,
        ),
        (
            |config| {
                config["linux"]["namespaces"][0]["path"] = json!("/no/such/namespace");
            },
            r#"cannot join the pid namespace "/no/such/namespace": no such file or directory"#,
        ),
        (
            |config| config["process"]["cwd"] = json!("/guest.wasm"),
            r#"cannot enter the working directory "/guest.wasm": not a directory"#,
        ),
        (
            |config| config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }),
            r#"cannot set the kernel parameter "vm.swappiness": it applies to the whole node"#,
        ),
        (
            |config| {
                config["process"]["rlimits"] =
                    json!([{ "type": "RLIMIT_NPROC", "soft": 2, "hard": 1 }]);
            },
            "cannot set the limit RLIMIT_NPROC: invalid argument",
        ),
        (
            |config| {
                config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] });
            },
            r#"cannot run the createRuntime hook "/bin/false": it ended with exit code 1"#,
        ),
    ];
    for (change, expected) in cases {
        let bundle = server()?;
        bundle.edit_config(change)?;
        let message = refused(bundle)?;
        ensure!(message.contains(expected), "{message} is not {expected}");
    }
    Ok(())
}
