//! Building to an archive or a layout, with its output and errors.

use std::fs;

use serde_json::Value;

use crate::convert::Layout;
use crate::registry::Registry;
use crate::support::{COMMAND, UNPROVIDED, Work};

#[test]
fn the_same_input_gives_the_same_bytes() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    work.file("root/etc/motd", "hello\n");
    let options =
        "--rootfs root --env B=2 --env A=1 --label y=2 --label x=1 --annotation n=v --expose 80";
    for name in ["one", "two"] {
        work.run(&format!("build app.wat -t r.example/app:1 -o {name}.tar {options}")).ok();
        fs::write(work.path("root/etc/motd"), "hello\n").unwrap();
    }
    let bytes = |name: &str| fs::read(work.path(name)).unwrap();
    assert!(bytes("one.tar") == bytes("two.tar"));
    work.run(&format!("build app.wat -t r.example/app:1 -o other.tar {options} --user 1")).ok();
    assert!(bytes("one.tar") != bytes("other.tar"));
    assert_eq!(work.left(), [""; 0]);
}

#[test]
fn an_annotation_is_in_the_manifest_and_goes_where_the_image_goes() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let name = format!("{}/app:1", registry.address);
    let options = "--annotation org.opencontainers.image.revision=abc --annotation a=b=c";
    work.run(&format!("build app.wat -t {name} {options} -o app.tar")).ok();
    work.run("push app.tar --plain-http").ok();
    work.run(&format!("pull {name} -o pulled --plain-http")).ok();
    let pulled = work.path("pulled");
    let annotations = &Layout(&pulled).first()["annotations"];
    assert_eq!(annotations["org.opencontainers.image.revision"], "abc");
    assert_eq!(annotations["a"], "b=c");
}

#[test]
fn several_components_stay_layers_in_their_order() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    work.file("lib.wat", "(component)");
    work.run("build app.wat lib.wat -t r.example/app:1 -o app.tar").ok();
    let done = work.run("inspect app.tar --format json");
    let sizes: Vec<u64> = done.json()["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["size"].as_u64().unwrap())
        .collect();
    assert_eq!((sizes.len(), sizes[1]), (2, 8));
    assert_eq!(done.json()["entrypoint"], serde_json::json!(["/app.wasm"]));
}

#[test]
fn an_image_that_would_not_run_is_built_with_a_warning() {
    let work = Work::new();
    work.file("app.wat", UNPROVIDED);
    let done = work.run("build app.wat -t r.example/app:1 -o app.tar").ok();
    assert!(
        done.stderr.contains("warning: ") && done.stderr.contains("acme:db/query@1.0.0"),
        "{done:?}"
    );
}

/// The labels must be known to OCI, because tools such as `crane mutate` drop unknown fields of a config.
#[test]
fn what_tells_images_apart_is_kept_by_tools_that_know_no_wasm() {
    let work = Work::new();
    work.file("one.wat", COMMAND);
    work.file("two.wat", COMMAND.replace("i32.const 0", "i32.const 1"));
    let config = |guest: &str| -> Value {
        let line = "--entrypoint /app.wasm -t r.example/app:1 -o";
        work.run(&format!("build {guest}.wat {line} {guest}/")).ok();
        let json = |path: &str| -> Value {
            serde_json::from_slice(&fs::read(work.path(guest).join(path)).unwrap()).unwrap()
        };
        let blob = |of: &Value| {
            json(&format!("blobs/{}", of["digest"].as_str().unwrap().replacen(':', "/", 1)))
        };
        blob(&blob(&json("index.json")["manifests"][0])["config"])
    };
    let (one, two) = (config("one"), config("two"));
    assert_ne!(one, two);
    let known = ["architecture", "config", "os", "rootfs"];
    assert!(one.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{one}");
    assert_eq!(one, config("one"), "the same input gives the same config");
}

#[test]
fn files_for_a_platform_of_wasm_are_built_with_a_warning() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    let line = "build --file app.wat:/app.wat --entrypoint /app.wat -t r.example/app:1 -o app.tar";
    let done = work.run(line).ok();
    assert!(!done.stderr.contains("warning"), "{done:?}");
    let done = work.run(&format!("{line} --platform wasip2/wasm")).ok();
    assert!(done.stderr.contains("no files of an image for wasip2/wasm"), "{done:?}");
}

#[test]
fn a_component_of_a_gigabyte_is_refused_before_it_is_read() {
    let work = Work::new();
    let file = fs::File::create(work.path("app.wasm")).unwrap();
    file.set_len(1 << 30).unwrap();
    let error = work.run("build app.wasm -t r.example/app:1 -o app.tar").fails(1);
    assert!(
        error.contains("app.wasm has 1073741824 bytes; allowed is at most 134217728"),
        "{error}"
    );
    assert!(!work.path("app.tar").exists());
}

#[test]
fn a_mistaken_command_line_has_its_own_exit_code() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    work.file("full/of/things", "");
    for (line, word) in [
        ("build app.wat -t r.example/App:1 -o app.tar", "is not an image reference"),
        ("build app.wat -t r.example/app:1", "--output"),
        ("build app.wat -t r.example/app:1 -o full", "neither empty nor an OCI image layout"),
        ("build app.wat -t r.example/app:1 --push --plain-http", "for registries on this machine"),
        ("pull r.example/app:1", "--output"),
    ] {
        let done = work.run(line);
        assert_eq!(done.code, 2, "{line}: {done:?}");
        assert!(done.stderr.contains(word), "{line}: {done:?}");
    }
}

#[test]
fn every_command_teaches_by_an_example() {
    let work = Work::new();
    for command in ["build", "push", "pull", "copy", "convert", "inspect", "compose", "warm"] {
        let help = work.run(&format!("{command} --help")).ok().stdout;
        assert!(help.contains(&format!("wasm-image {command} ")), "{help}");
    }
    assert!(work.run("--help").ok().stdout.contains("Exit codes:"));
}
