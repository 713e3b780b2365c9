//! `policy check`, and what an image asks for.

use crate::support::{COMMAND, Work};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: app
  annotations:
    wasmtime.shim/allow-connect: "10.0.0.0/8:5432, redis:6379"
spec:
  runtimeClassName: wasmtime
  containers:
    - { name: app, image: "registry.example/you/app:1" }
"#;

#[test]
fn a_pod_within_the_ceiling_is_admitted_with_its_grants() {
    let work = Work::new();
    work.file("pod.yaml", POD);
    work.file("node.toml", "[ceiling]\nallow-connect = [\"10.0.0.0/8:*\"]\n");
    for flags in ["", "--policy node.toml"] {
        let done = work.run(&format!("policy check pod.yaml {flags}")).ok();
        for line in [
            "Pod app in default, container app (registry.example/you/app:1): admitted",
            "  connect: redis:6379 (annotation of the Pod, wasmtime.shim/allow-connect)",
            "  HTTP: as connect, because wasmtime.shim/allow-connect is set and wasmtime.shim/allow-http is not",
        ] {
            assert!(done.stdout.lines().any(|it| it == line), "no {line:?} in {}", done.stdout);
        }
    }
}

#[test]
fn a_pod_beyond_the_ceiling_ends_with_code_7_and_the_error_of_the_node() {
    let work = Work::new();
    work.file("pod.yaml", POD);
    let rule = "[[rules]]\nnamespace = \"shop\"\nceiling.allow-connect = [\"10.0.0.0/8:*\"]\n";
    work.file("node.toml", format!("[ceiling]\nallow-connect = []\n{rule}"));
    let done = work.run("policy check pod.yaml --policy node.toml --format json");
    let checked = &done.json()["containers"][0];
    let reason = checked["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("annotation wasmtime.shim/allow-connect: \"10.0.0.0/8:5432\" is more than [ceiling] in node.toml"),
        "{reason}"
    );
    assert_eq!(checked["admitted"], false);
    assert_eq!(done.fails(7), "error: the node refuses 1 of 1 containers");
    work.run("policy check pod.yaml --policy node.toml --namespace shop").ok();
}

#[test]
fn a_store_of_another_host_is_compared_with_the_ceiling_as_the_node_does() {
    let work = Work::new();
    let pod = |store: &str| POD.replace("allow-connect: \"10.0.0.0/8:5432, redis:6379\"", store);
    work.file("pod.yaml", pod("keyvalue: redis://cache/1"));
    work.file("secret.yaml", pod("keyvalue: redis://:sesame@cache/1"));
    work.file("node.toml", "[ceiling]\nallow-connect = [\"redis:6379\"]\n");
    let done = work.run("policy check pod.yaml --policy node.toml");
    let reason = "annotation wasmtime.shim/keyvalue: \"cache:6379\" is more than [ceiling]";
    assert!(done.stdout.contains(reason), "{}", done.stdout);
    done.fails(7);
    work.run("policy check pod.yaml").ok();
    let done = work.run("policy check secret.yaml");
    assert!(done.stdout.contains("the password in the URL is not valid"), "{}", done.stdout);
    assert!(!done.stdout.contains("sesame"), "{}", done.stdout);
    done.fails(7);
}

#[test]
fn an_annotation_that_the_node_refuses_is_refused() {
    let work = Work::new();
    for (annotation, reason) in [
        (
            "keyvalue-password-file: /etc/redis/password",
            "beside a wasmtime.shim/keyvalue that is a URL",
        ),
        ("config: etc/config", "config: \"etc/config\" is not valid; allowed is an absolute path"),
        ("preinit: maybe", "preinit: \"maybe\" is not valid; allowed is true or false"),
        ("http-listen: everywhere", "http-listen"),
    ] {
        let text = POD.replace("allow-connect: \"10.0.0.0/8:5432, redis:6379\"", annotation);
        work.file("pod.yaml", text);
        let done = work.run("policy check pod.yaml");
        assert!(done.stdout.contains(reason), "{annotation}: {}", done.stdout);
        done.fails(7);
    }
}

#[test]
fn what_cannot_be_checked_is_an_error_and_never_an_admission() {
    let work = Work::new();
    work.file("pod.yaml", POD);
    work.file("bad.toml", "[ceiling]\nallow-htp = []\n");
    work.file("none.yaml", "kind: Service\nmetadata: { name: a }\n");
    work.file("broken.yaml", "kind: [");
    work.file("typo.yaml", POD.replace("allow-connect", "allow-conect"));
    let error = work.run("policy check pod.yaml --policy bad.toml").fails(1);
    assert!(error.contains("bad.toml: line 2, column 1: unknown field"), "{error}");
    let error = work.run("policy check pod.yaml --policy missing.toml").fails(3);
    assert!(error.contains("missing.toml"), "{error}");
    assert!(work.run("policy check none.yaml").fails(2).contains("no Pod"));
    assert!(work.run("policy check broken.yaml").fails(1).contains("broken.yaml"));
    let done = work.run("policy check typo.yaml");
    assert!(
        done.stdout.contains("did you mean \"wasmtime.shim/allow-connect\"?"),
        "{}",
        done.stdout
    );
    done.fails(7);
}

#[test]
fn inspect_shows_what_an_image_asks_for_and_refuses_what_the_shim_would() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    let build = |label: &str| {
        work.run(&format!("build app.wat -t r.example/app:1 -o app.tar --label {label}")).ok();
        work.run("inspect app.tar")
    };
    let report = build("wasmtime.shim/files=/data=rw").ok().stdout;
    assert!(report.contains("asks for      wasmtime.shim/files=/data=rw"), "{report}");
    let report = build("wasmtime.shim/timeout=5m").ok().stdout;
    assert!(report.contains("asks for      wasmtime.shim/timeout=5m"), "{report}");
    let error = build("wasmtime.shim/log-rate=0").fails(5);
    assert!(error.contains("log-rate: \"0\" is not valid; allowed is a whole number"), "{error}");
    let error = build("wasmtime.shim/files=/data").fails(5);
    assert!(error.contains("image label wasmtime.shim/files: \"/data\" is not valid"), "{error}");
    let error = build("wasmtime.shim/profile=privileged").fails(5);
    assert!(error.contains("unknown key \"wasmtime.shim/profile\""), "{error}");
}

#[test]
fn interfaces_are_checked_against_the_ceiling_and_shown() {
    let work = Work::new();
    let pod = |value: &str| {
        let pod = POD.replace("allow-connect", "interfaces");
        work.file("pod.yaml", pod.replace("10.0.0.0/8:5432, redis:6379", value));
        work.run("policy check pod.yaml --policy node.toml")
    };
    work.file("node.toml", "[ceiling]\ninterfaces = [\"wasi:config\", \"wasi:http\"]\n");
    let shown = pod("wasi:config").ok().stdout;
    let line = "  interfaces: wasi:config (annotation of the Pod, wasmtime.shim/interfaces)";
    assert!(shown.lines().any(|it| it == line), "{shown}");
    let done = pod("wasi:config, wasi:nn");
    let reason = "interfaces: \"wasi:nn\" is more than [ceiling] in node.toml allows; allowed is \
        \"wasi:config\", \"wasi:http\"";
    assert!(done.stdout.contains(reason), "{}", done.stdout);
    done.fails(7);
}

#[test]
fn limits_are_checked_against_the_ceiling_those_of_a_server_too() {
    let work = Work::new();
    let pod = |key: &str, value: &str| {
        work.file(
            "pod.yaml",
            POD.replace("allow-connect", key).replace("10.0.0.0/8:5432, redis:6379", value),
        );
        work.run("policy check pod.yaml --policy node.toml")
    };
    work.file("node.toml", "[ceiling]\nmax-memory = \"64Mi\"\nhttp-max-body = \"1Mi\"\n");
    let shown = pod("max-memory", "32Mi").ok().stdout;
    for line in [
        "  max-memory: at most 32Mi (annotation of the Pod, wasmtime.shim/max-memory)",
        "  http-max-body: at most 1Mi (node's file, wasmtime.shim/http-max-body)",
    ] {
        assert!(shown.lines().any(|it| it == line), "no {line:?} in {shown}");
    }
    for (key, value, allowed) in [("max-memory", "1Gi", "64Mi"), ("http-max-body", "2Mi", "1Mi")] {
        let done = pod(key, value);
        let expected = format!(
            "{key}: \"{value}\" is more than [ceiling] in node.toml allows; allowed is {allowed} or less"
        );
        assert!(done.stdout.contains(&expected), "{}", done.stdout);
        done.fails(7);
    }
}
