//! The merge, with given and with generated policies: its result never exceeds the ceiling.

use std::net::{IpAddr, SocketAddr};

use grants::policy::{Policy, Rules, Subject};
use grants::{Access, Given, Grants, Profile, Protocol, Scheme, Wishes, merge};

/// Cases of each property.
const CASES: u64 = 4_000;

/// Entries of which policies are made: few hosts and ports, so that they often meet.
const HOSTS: [&str; 11] = [
    "*",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.1.1",
    "169.254.169.254",
    "169.254.0.0/16",
    "*.svc",
    "a.svc",
    "b.a.svc",
    "localhost",
    "127.0.0.1",
];
const PORTS: [&str; 4] = ["*", "80", "443", "80-90"];
const FILES: [&str; 6] = ["/=ro", "/=rw", "/a=ro", "/a=rw", "/a/b=ro", "/a/b=rw"];
const PROFILES: [&str; 3] = ["restricted", "baseline", "privileged"];

/// What guests try.
const NAMES: [&str; 6] =
    ["a.svc", "b.a.svc", "c.example.com", "localhost", "10.1.1.1", "169.254.169.254"];
const ADDRESSES: [&str; 7] = [
    "10.1.1.1",
    "10.2.2.2",
    "169.254.169.254",
    "169.254.20.10",
    "127.0.0.1",
    "8.8.8.8",
    "fd00:ec2::254",
];

fn parse<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Display,
{
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

struct Maker(fastrand::Rng);

impl Maker {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.usize(..of.len())]
    }

    fn list<T>(&mut self, mut entry: impl FnMut(&mut Maker) -> Option<T>) -> Option<Vec<T>> {
        self.0.bool().then(|| (0..self.0.usize(..4)).filter_map(|_| entry(self)).collect())
    }

    fn wishes(&mut self) -> Wishes {
        let end = |maker: &mut Maker| maker.one(&["", "", "/udp"]);
        Wishes {
            profile: self.0.bool().then(|| parse(self.one(&PROFILES))),
            allow_connect: self.list(|it| {
                let text = format!("{}:{}{}", it.one(&HOSTS), it.one(&PORTS), end(it));
                Some(parse(&text))
            }),
            allow_http: self.list(|it| {
                let host = it.one(&HOSTS);
                let text = format!("{}://{host}:{}", it.one(&["http", "https"]), it.one(&PORTS));
                text.parse().ok()
            }),
            allow_listen: self.list(|it| {
                let host = it.one(&["", "", "127.0.0.1:", "10.0.0.0/8:"]);
                Some(parse(&format!("{host}{}{}", it.one(&PORTS), end(it))))
            }),
            files: self.list(|it| Some(parse(it.one(&FILES)))),
            used: vec![],
        }
    }

    /// A policy as text, so that it is made by its parser.
    fn rules(&mut self) -> (Rules, Wishes) {
        let (ceiling, defaults) = (self.wishes(), self.wishes());
        let text = format!("{}\n{}", table("ceiling", &ceiling), table("defaults", &defaults));
        let policy =
            Policy::parse("/p.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        (policy.rules(Subject::default()), ceiling)
    }
}

fn table(name: &str, wishes: &Wishes) -> String {
    fn list<T: ToString>(key: &str, entries: &Option<Vec<T>>) -> String {
        let Some(entries) = entries else { return String::new() };
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        format!("{key} = {entries:?}\n")
    }
    let profile = wishes.profile.map_or(String::new(), |it| format!("profile = \"{it}\"\n"));
    format!(
        "[{name}]\n{profile}{}{}{}{}",
        list("allow-connect", &wishes.allow_connect),
        list("allow-http", &wishes.allow_http),
        list("allow-listen", &wishes.allow_listen),
        list("files", &wishes.files)
    )
}

/// Everything that these grants allow, of what guests try.
fn allowed(grants: &Grants) -> Vec<String> {
    let mut all = Vec::new();
    let addresses = ADDRESSES.map(parse::<IpAddr>);
    for port in [80, 90, 443, 9] {
        for address in addresses.map(|ip| SocketAddr::new(ip, port)) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for name in NAMES {
                    if grants.connect(protocol, address, &[name.to_owned()]).is_ok() {
                        all.push(format!("{protocol} {name} {address}"));
                    }
                }
                if grants.listen(protocol, address).is_ok() {
                    all.push(format!("listen {protocol} {address}"));
                }
            }
            for (scheme, name) in [Scheme::Http, Scheme::Https]
                .into_iter()
                .flat_map(|it| NAMES.map(|name| (it, name)))
            {
                let asked = grants.request(scheme, name, port);
                if asked.is_ok() && grants.request_to(scheme, name, address).is_ok() {
                    all.push(format!("{} {name} {address}", scheme.name()));
                }
            }
        }
    }
    all.extend(
        NAMES
            .into_iter()
            .filter(|name| grants.look_up(name).is_ok())
            .map(|name| format!("look up {name}")),
    );
    for path in ["/", "/a", "/a/b", "/c"] {
        let covered = |access| {
            let wanted = grants::FileGrant { path: path.into(), access };
            grants
                .files
                .as_ref()
                .is_none_or(|files| files.entries.iter().any(|it| it.covers(&wanted)))
        };
        all.extend(
            [Access::Read, Access::Write]
                .into_iter()
                .filter(|it| covered(*it))
                .map(|it| format!("{path} {it:?}")),
        );
    }
    all
}

/// The grants of a Pod that asks for exactly what the ceiling has: the most that there can be.
fn most(rules: &Rules, ceiling: &Wishes) -> Grants {
    let pod = Wishes { profile: Some(ceiling.profile.unwrap_or_default()), ..ceiling.clone() };
    let rules = Rules { defaults: Wishes::default(), ..rules.clone() };
    merge(&Given { rules, pod, ..Given::default() }).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_result_never_exceeds_the_ceiling() {
    let (mut merged, mut refused) = (0, 0);
    for seed in 0..CASES {
        let mut maker = Maker(fastrand::Rng::with_seed(seed));
        let (rules, ceiling) = maker.rules();
        // Entries that the ceiling's own profile forbids are no part of what it allows.
        let pod = Wishes { profile: Some(ceiling.profile.unwrap_or_default()), ..ceiling.clone() };
        let own = Rules { defaults: Wishes::default(), ..rules.clone() };
        if merge(&Given { rules: own, pod, ..Given::default() }).is_err() {
            continue;
        }
        let given = Given { rules: rules.clone(), image: maker.wishes(), pod: maker.wishes() };
        match merge(&given) {
            Err(_) => refused += 1,
            Ok(grants) => {
                merged += 1;
                let most = allowed(&most(&rules, &ceiling));
                let more: Vec<String> =
                    allowed(&grants).into_iter().filter(|it| !most.contains(it)).collect();
                assert!(
                    more.is_empty(),
                    "seed {seed}: {more:?} of {grants:#?}, ceiling {ceiling:#?}"
                );
            }
        }
    }
    assert!(merged > CASES / 20 && refused > CASES / 20, "{merged} merged, {refused} refused");
}

#[test]
fn a_message_to_another_process_has_the_same_grants() {
    for seed in 0..CASES / 20 {
        let mut maker = Maker(fastrand::Rng::with_seed(seed));
        let (rules, _) = maker.rules();
        let given = Given { rules, image: maker.wishes(), pod: maker.wishes() };
        let Ok(grants) = merge(&given) else { continue };
        let grants = Grants { node: vec![parse("10.1.1.1")], ..grants };
        let text = serde_json::to_string(&grants).expect("is written");
        assert_eq!(serde_json::from_str::<Grants>(&text).expect("is read"), grants);
    }
}

fn pod(wishes: &[(&str, &str)]) -> Wishes {
    let mut pod = Wishes::default();
    for (key, value) in wishes {
        let set = pod.set(&format!("wasmtime.shim/{key}"), value);
        assert!(set.unwrap_or_else(|error| panic!("{error}")), "{key}");
    }
    pod
}

fn of_pod(wishes: &[(&str, &str)]) -> Grants {
    merge(&Given { pod: pod(wishes), ..Given::default() }).unwrap_or_else(|error| panic!("{error}"))
}

fn connects(grants: &Grants, address: &str, names: &[&str]) -> bool {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    grants.connect(Protocol::Tcp, parse(address), &names).is_ok()
}

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
         wasmtime.shim/allow-connect \"169.254.169.254:80\" would allow it"
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
    // A look-up is a message to whoever serves the name, also that of an HTTP request's host.
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

fn refused(file: &str, wishes: &[(&str, &str)]) -> String {
    let policy = Policy::parse("/p.toml", file).unwrap_or_else(|error| panic!("{error}"));
    let rules = policy.rules(Subject { namespace: "shop", image: "" });
    let merged = merge(&Given { rules, pod: pod(wishes), ..Given::default() });
    merged.expect_err("is more than the ceiling").to_string()
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
        let mut pod = Wishes::default();
        pod.record_use(&format!("wasmtime.shim/{key}"), path);
        merge(&Given { rules: rules.clone(), pod, ..Given::default() })
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
fn the_node_can_name_a_metadata_service_and_then_a_pod_can_too() {
    let file = "[ceiling]\nallow-connect = [\"*:*\", \"169.254.169.254:80\"]\n";
    let rules = Policy::parse("/p.toml", file).expect("parses").rules(Subject::default());
    let silent = merge(&Given { rules: rules.clone(), ..Given::default() }).expect("merges");
    assert!(!connects(&silent, "169.254.169.254:80", &[]));
    let pod = pod(&[("allow-connect", "169.254.169.254:80")]);
    let named = merge(&Given { rules, pod, ..Given::default() }).expect("merges");
    assert!(connects(&named, "169.254.169.254:80", &[]));
}

#[test]
fn a_name_within_a_ceiling_of_addresses_is_compared_at_the_call() {
    let rules = Policy::parse("/p.toml", "[ceiling]\nallow-connect = [\"10.0.0.0/8:*\"]\n");
    let rules = rules.expect("parses").rules(Subject::default());
    let pod = pod(&[("allow-connect", "redis:6379")]);
    let grants = merge(&Given { rules, pod, ..Given::default() }).expect("merges");
    assert!(connects(&grants, "10.1.1.1:6379", &["redis"]));
    assert!(!connects(&grants, "192.168.1.1:6379", &["redis"]));
}

#[test]
fn the_pod_replaces_the_image_and_the_image_the_defaults() {
    let file = "[defaults]\nallow-connect = [\"a:1\"]\nfiles = [\"/a=ro\"]\n";
    let rules = Policy::parse("/p.toml", file).expect("parses").rules(Subject::default());
    let image = pod(&[("allow-connect", "b:1"), ("allow-http", "http://b")]);
    let pod = pod(&[("allow-connect", "c:1")]);
    let shown = merge(&Given { rules, image, pod }).expect("merges").to_string();
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
