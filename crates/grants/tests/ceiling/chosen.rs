//! Chosen policies, requests and calls.

use grants::policy::{Policy, Subject};
use grants::{Grants, MergeInput, Profile, Protocol, Requested, Scheme, merge};

use crate::{connects, of_pod, parse, pod, refused};

#[test]
fn without_a_file_everything_is_reached_but_the_metadata_services() {
    let grants = Grants::default();
    assert_eq!(grants.profile(), Profile::Baseline);
    for address in ["10.96.0.1:443", "169.254.20.10:53", "127.0.0.1:80", "8.8.8.8:53"] {
        assert!(connects(&grants, address, &[]), "{address}");
    }
    for address in ["169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:80"]
    {
        assert!(!connects(&grants, address, &[]), "{address}");
    }
    let refusal =
        grants.connect(Protocol::Tcp, parse("169.254.169.254:80"), &[]).expect_err("refused");
    assert_eq!(
        refusal.to_string(),
        "TCP connection to 169.254.169.254:80: a metadata service of clouds, which the profile baseline forbids; \
         only the ceiling of the node's policy can allow it"
    );
}

#[test]
fn what_is_named_of_destinations_closes_all_others() {
    let grants = of_pod(&[("allow-connect", "10.0.0.0/8:5432, redis:6379")]);
    assert!(connects(&grants, "10.1.1.1:5432", &[]));
    assert!(connects(&grants, "192.168.1.1:6379", &["redis"]));
    for (address, names) in [
        ("10.1.1.1:22", &[][..]),
        ("192.168.1.1:6379", &[]),
        ("192.168.1.1:6379", &["other"]),
        ("169.254.169.254:6379", &["other"]),
    ] {
        assert!(!connects(&grants, address, names), "{address} {names:?}");
    }
    assert!(grants.request(Scheme::Http, "api.example.com", 80).is_err());
    assert!(grants.look_up("anything.example.com").is_ok());
}

#[test]
fn a_name_does_not_lead_to_a_forbidden_address() {
    let grants = of_pod(&[("allow-http", "http://api.example.com"), ("allow-connect", "api:80")]);
    let asked = |address: &str| grants.request_to(Scheme::Http, "api.example.com", parse(address));
    assert!(asked("10.1.1.1:80").is_ok());
    let refusal = asked("169.254.169.254:80").expect_err("refused").to_string();
    assert!(refusal.contains("at 169.254.169.254") && refusal.contains("metadata"), "{refusal}");
    assert!(!connects(&grants, "169.254.169.254:80", &["api"]));
}

#[test]
fn restricted_allows_what_is_named_and_nothing_else() {
    let nothing = of_pod(&[("profile", "restricted")]);
    assert!(!connects(&nothing, "10.1.1.1:80", &["a"]) && nothing.look_up("a").is_err());
    assert!(nothing.listen(Protocol::Tcp, parse("0.0.0.0:80")).is_err());
    assert_eq!(nothing.files.as_ref().map(|files| files.entries.len()), Some(0));
    // A look-up is a message to the servers of the name, also that of an HTTP request's host.
    let range = of_pod(&[("profile", "restricted"), ("allow-connect", "10.0.0.0/8:80")]);
    assert!(range.request(Scheme::Http, "secret.example.com", 80).is_err());
    assert!(range.request(Scheme::Http, "10.1.1.1", 80).is_ok());
    let some = of_pod(&[
        ("profile", "restricted"),
        ("allow-connect", "a:80, 169.254.20.10:53/udp, *.b:80"),
        ("allow-listen", "8080"),
        ("files", "/data=rw"),
    ]);
    assert!(some.look_up("a").is_ok() && some.look_up("x.b").is_ok() && some.look_up("c").is_err());
    assert!(connects(&some, "10.1.1.1:80", &["a"]) && !connects(&some, "127.0.0.1:80", &["a"]));
    assert!(some.connect(Protocol::Udp, parse("169.254.20.10:53"), &[]).is_ok());
    assert!(some.listen(Protocol::Tcp, parse("[::]:8080")).is_ok());
    assert!(some.listen(Protocol::Tcp, parse("[::]:8081")).is_err());
}

#[test]
fn more_than_the_ceiling_is_refused_with_key_value_who_forbids_it_and_what_is_allowed() {
    let file = "[ceiling]\nallow-connect = [\"10.0.0.0/8:5432\"]\nfiles = [\"/data=rw\"]\n";
    assert_eq!(
        refused(file, &[("allow-connect", "10.0.0.0/8:5432, 10.0.0.0/8:22")]),
        "annotation wasmtime.shim/allow-connect: \"10.0.0.0/8:22\" is more than [ceiling] in /p.toml allows; \
         allowed is \"10.0.0.0/8:5432\""
    );
    assert_eq!(
        refused(file, &[("files", "/etc=ro")]),
        "annotation wasmtime.shim/files: \"/etc=ro\" is more than [ceiling] in /p.toml allows; \
         allowed is \"/data=rw\""
    );
    assert_eq!(
        refused("", &[("profile", "privileged")]),
        "annotation wasmtime.shim/profile: \"privileged\" is more than [ceiling] in /p.toml allows; \
         allowed is baseline or a stricter one"
    );
    let rule = "[[rules]]\nnamespace = \"shop\"\nceiling.allow-http = []\n";
    assert_eq!(
        refused(rule, &[("allow-http", "https://a")]),
        "annotation wasmtime.shim/allow-http: \"https://a\" is more than rule 1, namespace \"shop\" in /p.toml \
         allows; allowed is nothing"
    );
    let default = "[ceiling]\nprofile = \"restricted\"\n[defaults]\nprofile = \"baseline\"\n";
    assert_eq!(
        refused(default, &[]),
        "[defaults] of the node's file, key profile: \"baseline\" is more than [ceiling] in /p.toml allows; \
         allowed is restricted"
    );
    let metadata = [("allow-connect", "169.254.169.254:80")];
    assert!(
        refused("", &metadata)
            .ends_with("allowed is every address except the metadata services of clouds")
    );
}

#[test]
fn a_store_or_a_core_dump_must_be_where_the_ceiling_lets_a_guest_write() {
    let file = "[ceiling]\nfiles = [\"/data=rw\", \"/etc=ro\"]\n";
    let rules = Policy::parse("/p.toml", file).expect("parses").rules(Subject::default());
    let merged = |key: &str, path: &str| {
        let mut pod = Requested::default();
        pod.record_use(&format!("wasmtime.shim/{key}"), path);
        merge(&MergeInput { rules: rules.clone(), pod, ..MergeInput::default() })
    };
    for (key, path) in
        [("keyvalue", "/data/store"), ("config", "/etc/config"), ("coredump", "/data")]
    {
        assert!(merged(key, path).is_ok(), "{key} {path}");
    }
    for (key, path) in [("keyvalue", "/etc/store"), ("config", "/config"), ("coredump", "/")] {
        let text = merged(key, path).expect_err("is more than the ceiling").to_string();
        let expected = format!("annotation wasmtime.shim/{key}: \"{path}\" is more than [ceiling]");
        assert!(text.starts_with(&expected), "{text}");
    }
}

#[test]
fn a_store_of_another_host_must_be_where_the_ceiling_lets_a_guest_connect() {
    let file = "[ceiling]\nallow-connect = [\"redis:6379\", \"10.0.0.0/8:6379\"]\n";
    let rules = Policy::parse("/p.toml", file).expect("parses").rules(Subject::default());
    let merged = |target: &str| {
        // What the Pod lets its guest do is no matter.
        let mut pod = pod(&[("allow-connect", "")]);
        pod.reached.push(("wasmtime.shim/keyvalue", parse(target)));
        merge(&MergeInput { rules: rules.clone(), pod, ..MergeInput::default() })
    };
    for target in ["redis:6379", "10.1.1.1:6379"] {
        assert!(merged(target).is_ok(), "{target}");
    }
    let text = merged("redis:6380").expect_err("is more than the ceiling").to_string();
    assert_eq!(
        text,
        "annotation wasmtime.shim/keyvalue: \"redis:6380\" is more than [ceiling] in /p.toml allows; \
         allowed is \"redis:6379\", \"10.0.0.0/8:6379\""
    );
}

#[test]
fn the_node_can_name_a_metadata_service_and_then_a_pod_can_too() {
    let file = "[ceiling]\nallow-connect = [\"*:*\", \"169.254.169.254:80\"]\n";
    let rules = Policy::parse("/p.toml", file).expect("parses").rules(Subject::default());
    let silent =
        merge(&MergeInput { rules: rules.clone(), ..MergeInput::default() }).expect("merges");
    assert!(!connects(&silent, "169.254.169.254:80", &[]));
    let pod = pod(&[("allow-connect", "169.254.169.254:80")]);
    let named = merge(&MergeInput { rules, pod, ..MergeInput::default() }).expect("merges");
    assert!(connects(&named, "169.254.169.254:80", &[]));
}

#[test]
fn a_name_within_a_ceiling_of_addresses_is_compared_at_the_call() {
    let rules = Policy::parse("/p.toml", "[ceiling]\nallow-connect = [\"10.0.0.0/8:*\"]\n");
    let rules = rules.expect("parses").rules(Subject::default());
    let pod = pod(&[("allow-connect", "redis:6379")]);
    let grants = merge(&MergeInput { rules, pod, ..MergeInput::default() }).expect("merges");
    assert!(connects(&grants, "10.1.1.1:6379", &["redis"]));
    assert!(!connects(&grants, "192.168.1.1:6379", &["redis"]));
}

#[test]
fn the_pod_replaces_the_image_and_the_image_the_defaults() {
    let file = "[defaults]\nallow-connect = [\"a:1\"]\nfiles = [\"/a=ro\"]\n";
    let rules = Policy::parse("/p.toml", file).expect("parses").rules(Subject::default());
    let image = pod(&[("allow-connect", "b:1"), ("allow-http", "http://b")]);
    let pod = pod(&[("allow-connect", "c:1")]);
    let shown = merge(&MergeInput { rules, image, pod }).expect("merges").to_string();
    for line in [
        "profile: baseline (node)",
        "files: /a=ro (node's file, wasmtime.shim/files)",
        "connect: c:1 (annotation of the Pod, wasmtime.shim/allow-connect)",
        "HTTP: http://b (label of the image, wasmtime.shim/allow-http)",
        "listen: every port (profile baseline)",
    ] {
        assert!(shown.lines().any(|it| it == line), "no {line:?} in\n{shown}");
    }
}

#[test]
fn no_range_of_ports_leads_to_a_port_of_a_metadata_service() {
    for wide in ["168.63.129.16:*", "168.63.129.16:79-80", "168.63.129.16:32000-33000"] {
        let text = refused("", &[("allow-connect", wide)]);
        assert!(text.ends_with("except the metadata services of clouds"), "{text}");
    }
    assert!(!refused("", &[("allow-http", "http://168.63.129.16:1-80")]).is_empty());
    // A range that is forbidden only in part is compared at each call.
    let part = of_pod(&[("allow-connect", "169.254.169.254/31:80")]);
    assert!(connects(&part, "169.254.169.255:80", &[]));
    assert!(!connects(&part, "169.254.169.254:80", &[]));
    let dns = of_pod(&[("allow-connect", "168.63.129.16:53, 168.0.0.0/8:*")]);
    assert!(connects(&dns, "168.63.129.16:53", &[]) && !connects(&dns, "168.63.129.16:80", &[]));
}

#[test]
fn a_guest_that_names_no_profile_is_never_privileged() {
    let silent = |file: &str| {
        let rules = Policy::parse("/p.toml", file).expect("parses").rules(Subject::default());
        merge(&MergeInput { rules, ..MergeInput::default() }).expect("merges").profile()
    };
    assert_eq!(silent("ceiling.profile = \"privileged\""), Profile::Baseline);
    assert_eq!(silent("ceiling.profile = \"restricted\""), Profile::Restricted);
    let both = "ceiling.profile = \"privileged\"\ndefaults.profile = \"privileged\"";
    assert_eq!(silent(both), Profile::Privileged);
}

#[test]
fn a_path_that_climbs_is_not_within_a_ceiling() {
    let rules = Policy::parse("/p.toml", "ceiling.files = [\"/data=rw\"]").expect("parses");
    let mut pod = Requested::default();
    pod.record_use("wasmtime.shim/keyvalue", "/data/../etc/store");
    let rules = rules.rules(Subject::default());
    merge(&MergeInput { rules, pod, ..MergeInput::default() }).expect_err("is beyond the ceiling");
}

#[test]
fn an_unspecified_address_to_listen_at_is_every_address() {
    for text in ["0.0.0.0:8080", "[::]:8080", "0.0.0.0/0:8080", "[::/0]:8080"] {
        let grants = of_pod(&[("allow-listen", text)]);
        for address in ["0.0.0.0:8080", "[::]:8080", "10.1.1.1:8080", "127.0.0.1:8080"] {
            assert!(grants.listen(Protocol::Tcp, parse(address)).is_ok(), "{text} {address}");
        }
        assert!(grants.listen(Protocol::Tcp, parse("0.0.0.0:8081")).is_err());
    }
}

#[test]
fn a_refusal_says_what_would_allow_the_call_and_nothing_that_would_not() {
    let refused = |grants: &Grants, address: &str| {
        let refusal = grants.connect(Protocol::Tcp, parse(address), &[]).expect_err("refused");
        refusal.to_string()
    };
    let strict = of_pod(&[("profile", "restricted")]);
    let hint = "wasmtime.shim/allow-connect \"127.0.0.1:80\" would allow it";
    let text =
        refused(&of_pod(&[("profile", "restricted"), ("allow-connect", "*:*")]), "127.0.0.1:80");
    assert!(text.ends_with(&format!("which the profile restricted forbids; {hint}")), "{text}");
    let text = refused(&strict, "10.1.1.1:80");
    assert!(
        text.ends_with("not granted; wasmtime.shim/allow-connect \"10.1.1.1:80\" would allow it")
    );
    // The node's ceiling is privileged, and the Pod has named no destinations.
    let rules = Policy::parse("/p.toml", "ceiling.profile = \"privileged\"").expect("parses");
    let input = MergeInput { rules: rules.rules(Subject::default()), ..MergeInput::default() };
    let text = refused(&merge(&input).expect("merges"), "169.254.169.254:80");
    assert!(
        text.ends_with("would allow it, and then all other destinations must be named too"),
        "{text}"
    );
}

#[test]
fn what_is_shown_is_who_closed_a_key_and_by_what() {
    let shown = |requested: &[(&str, &str)]| of_pod(requested).to_string();
    for (requested, lines) in [
        (
            &[("files", ""), ("allow-connect", "a:1")][..],
            [
                "files: nothing (annotation of the Pod, wasmtime.shim/files)",
                "HTTP: as connect, because wasmtime.shim/allow-connect is set and wasmtime.shim/allow-http is not",
            ],
        ),
        (
            &[("allow-http", "https://a"), ("allow-listen", "")],
            [
                "connect: nothing, because wasmtime.shim/allow-http is set and wasmtime.shim/allow-connect is not",
                "listen: nothing (annotation of the Pod, wasmtime.shim/allow-listen)",
            ],
        ),
        (
            &[("profile", "restricted")],
            ["files: nothing (profile restricted)", "HTTP: nothing (profile restricted)"],
        ),
    ] {
        let shown = shown(requested);
        for line in lines {
            assert!(shown.lines().any(|it| it == line), "no {line:?} in\n{shown}");
        }
    }
    assert!(!Grants::default().to_string().contains("ceiling"));
}

#[test]
fn a_limit_is_the_pods_or_the_images_or_the_defaults_and_never_more_than_the_ceiling() {
    let file = "[ceiling]\nmax-memory = \"64Mi\"\ntimeout = \"1h\"\nlog-rate = 1000\n\
                [defaults]\ntimeout = \"10m\"\nhttp-max-body = \"1Mi\"\n";
    let rules = Policy::parse("/p.toml", file).expect("parses").rules(Subject::default());
    let image = pod(&[("max-memory", "32Mi"), ("log-rate", "500")]);
    let asked = pod(&[("log-rate", "20")]);
    let input = MergeInput { rules, image, pod: asked };
    let shown = merge(&input).expect("merges").to_string();
    for line in [
        "max-memory: at most 32Mi (label of the image, wasmtime.shim/max-memory)",
        "timeout: at most 10m (node's file, wasmtime.shim/timeout)",
        "log-rate: at most 20 (annotation of the Pod, wasmtime.shim/log-rate)",
        "http-max-body: at most 1Mi (node's file, wasmtime.shim/http-max-body)",
    ] {
        assert!(shown.lines().any(|it| it == line), "no {line:?} in\n{shown}");
    }
    assert!(!shown.contains("http-max-header"), "{shown}");
    let silent = merge(&MergeInput { rules: input.rules, ..MergeInput::default() });
    let silent = silent.expect("merges").to_string();
    assert!(silent.contains("max-memory: at most 64Mi (node's file, "), "{silent}");
    for (key, value, text) in [
        (
            "max-memory",
            "65Mi",
            "\"65Mi\" is more than [ceiling] in /p.toml allows; allowed is 64Mi or less",
        ),
        (
            "timeout",
            "61m",
            "\"61m\" is more than [ceiling] in /p.toml allows; allowed is 1h or less",
        ),
        (
            "log-rate",
            "1001",
            "\"1001\" is more than [ceiling] in /p.toml allows; allowed is 1000 or less",
        ),
    ] {
        let expected = format!("annotation wasmtime.shim/{key}: {text}");
        assert_eq!(refused(file, &[(key, value)]), expected);
    }
    let header = "ceiling.http-max-header = \"16Ki\"";
    assert!(refused(header, &[("http-max-header", "64Ki")]).ends_with("allowed is 16Ki or less"));
}

#[test]
fn a_limit_of_the_nodes_file_that_is_not_valid_is_refused_with_its_place() {
    for (text, expected) in [
        (
            "[ceiling]\nmax-memory = \"1MB\"",
            "/p.toml: line 2, column 14: \"1MB\" is not valid; allowed is a size",
        ),
        (
            "defaults.log-rate = 0",
            "/p.toml: line 1, column 21: \"0\" is not valid; allowed is a whole number",
        ),
        ("[[rules]]\nceiling.timeout = 30", "/p.toml: line 2, column 19: \"30\" is not valid"),
        ("ceiling.log-rate = 1.5", "/p.toml: line 1, column 20: invalid type"),
    ] {
        let error = Policy::parse("/p.toml", text).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_rule_leaves_each_limit_that_it_does_not_have_as_it_is_above() {
    for (key, most, more) in [
        ("max-memory", "1Mi", "2Mi"),
        ("timeout", "1m", "61s"),
        ("log-rate", "10", "11"),
        ("http-idle-timeout", "1m", "2m"),
        ("http-max-body", "1Ki", "1025"),
        ("http-max-connections", "9", "10"),
        ("http-max-header", "8Ki", "16Ki"),
        ("http-max-requests", "2", "3"),
        ("http-request-timeout", "1s", "1001ms"),
    ] {
        let rule = "[[rules]]\nnamespace = \"shop\"\nceiling.profile = \"privileged\"\n";
        let text = refused(&format!("[ceiling]\n{key} = \"{most}\"\n{rule}"), &[(key, more)]);
        let expected = format!("annotation wasmtime.shim/{key}: \"{more}\" is more than rule 1, ");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.ends_with(&format!("allowed is {most} or less")), "{text}");
        // The ceiling applies to a Pod that names nothing, and a Pod may name as much.
        for asked in [&[][..], &[(key, most)]] {
            let policy = Policy::parse("/p.toml", &format!("ceiling.{key} = \"{most}\"\n{rule}"));
            let rules = policy.expect("parses").rules(Subject { namespace: "shop", image: "" });
            let input = MergeInput { rules, pod: pod(asked), ..MergeInput::default() };
            let shown = merge(&input).expect("merges").to_string();
            assert!(shown.contains(&format!("{key}: at most {most} (")), "{shown}");
        }
    }
}
