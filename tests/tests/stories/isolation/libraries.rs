//! Native code that an image brings along: a guest's process must not load it.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use serde_json::json;
use tests::containerd::repository;
use tests::shim::Bundle;

use crate::shim::{ends, granted};

#[test]
fn no_library_of_an_image_is_loaded_to_look_up_a_name() -> Result<()> {
    let bundle = Bundle::guest("hello")?;
    let (etc, lib) = (bundle.image().join("etc"), bundle.image().join("lib"));
    fs::create_dir(&etc)?;
    fs::create_dir(&lib)?;
    fs::write(etc.join("hosts"), "127.0.0.1 name.example\n")?;
    fs::write(etc.join("nsswitch.conf"), "hosts: planted\n")?;
    let library = repository().join("target/images/planted.so");
    fs::copy(&library, lib.join("libnss_planted.so.2"))
        .with_context(|| format!("{}: run make images", library.display()))?;
    bundle.edit_config(|config| {
        // No server listens at the first port.
        config["process"]["args"] = json!(["/guest.wasm", "tcp-connect", "name.example:1"]);
    })?;
    let mut request = bundle.create_request();
    let stderr = bundle.fifo("stderr")?;
    request.set_stderr(stderr.display().to_string());
    let stderr = thread::spawn(move || fs::read_to_string(stderr));
    let shim = bundle.start()?;
    granted(shim.create(&request))?;
    granted(shim.start(&bundle.id))?;
    assert_eq!(granted(shim.wait(&bundle.id))?, 1);
    let stderr = stderr.join().expect("no panic")?;
    assert!(stderr.contains("connection-refused") && !stderr.contains("planted code"), "{stderr}");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}
