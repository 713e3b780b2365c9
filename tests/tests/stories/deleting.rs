//! The `delete` action, which containerd executes after a shim was killed: it removes what the shim left.

use std::fs;

use anyhow::Result;
use serde_json::json;
use tests::shim::Bundle;

use crate::shim::granted;
use crate::survival::kill;

#[test]
fn what_a_killed_shim_left_is_taken_away_by_the_delete_action() -> Result<()> {
    is_taken_away(Bundle::shell("sleep 1000 & sleep 1000")?, |_| Ok(()), "")
}

#[test]
fn what_a_killed_shim_of_another_version_left_is_taken_away_as_well() -> Result<()> {
    let bundle = Bundle::guest("hello")?;
    // Such a cgroup is the container's alone, as with CRI.
    let cgroup = bundle.cgroup().replace("c1", &bundle.id);
    bundle.edit_config(|config| {
        config["process"]["args"] = json!(["/guest.wasm", "sleep", "1000"]);
        config["linux"]["cgroupsPath"] = json!(cgroup);
    })?;
    let another = |bundle: &Bundle| {
        let record = bundle.folder.join("wasmtime/create.json");
        assert!(record.exists());
        Ok(fs::write(record, r#"{ "of": "another version" }"#)?)
    };
    is_taken_away(bundle, another, "another version of the shim made this container")
}

/// Kills a shim, changes what it left, and has it taken away. The action must say `warning`.
fn is_taken_away(
    bundle: Bundle,
    change: impl FnOnce(&Bundle) -> Result<()>,
    warning: &str,
) -> Result<()> {
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    kill(&bundle.shim()?)?;
    change(&bundle)?;
    // Twice: containerd asks again when it was itself interrupted.
    for warning in [warning, ""] {
        let output =
            bundle.execute(&["-bundle", &bundle.folder.display().to_string(), "delete"])?;
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stderr.contains(warning), "{output:?}");
    }
    assert!(!shim.socket.exists(), "{} is left", shim.socket.display());
    assert_eq!(fs::read_dir(bundle.rootfs())?.count(), 0, "the root is still mounted");
    bundle.close()
}
