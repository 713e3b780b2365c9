//! Properties of the merge, with generated policies.

use std::net::{IpAddr, SocketAddr};

use grants::policy::{Policy, Rules, Subject};
use grants::{Access, FileGrant, Grants, MergeInput, Package, Protocol, Requested, Scheme, merge};

use crate::oracle::{Ceiling, Decides};
use crate::parse;

/// Cases of each property.
const CASES: u64 = 4_000;

/// Entries of which policies are made: few hosts and ports, so that they often meet.
const HOSTS: [&str; 12] = [
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
    "168.63.129.16",
];
const PORTS: [&str; 5] = ["*", "80", "443", "80-90", "79-80"];
const FILES: [&str; 6] = ["/=ro", "/=rw", "/a=ro", "/a=rw", "/a/b=ro", "/a/b=rw"];
const FEATURES: [&str; 4] = ["wasm3", "gc", "tail-call", "wide-arithmetic"];
const INTERFACES: [&str; 4] = ["wasi:config", "wasi:http", "wasi:keyvalue", "wasi:logging"];
const FUEL: [&str; 3] = ["1", "10", "100"];
const PROFILES: [&str; 3] = ["restricted", "baseline", "privileged"];
const SIZES: [&str; 5] = ["65536", "100Ki", "1Mi", "1024Ki", "1Gi"];
const TIMES: [&str; 5] = ["250ms", "1s", "1000ms", "90s", "1h"];
const COUNTS: [&str; 4] = ["1", "10", "11", "4294967295"];

/// What guests try.
const NAMES: [&str; 6] =
    ["a.svc", "b.a.svc", "c.example.com", "localhost", "10.1.1.1", "169.254.169.254"];
const ADDRESSES: [&str; 8] = [
    "10.1.1.1",
    "10.2.2.2",
    "169.254.169.254",
    "169.254.20.10",
    "127.0.0.1",
    "8.8.8.8",
    "fd00:ec2::254",
    "168.63.129.16",
];

struct Maker(fastrand::Rng);

impl Maker {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.usize(..of.len())]
    }

    fn list<T>(&mut self, mut entry: impl FnMut(&mut Maker) -> Option<T>) -> Option<Vec<T>> {
        self.0.bool().then(|| (0..self.0.usize(..4)).filter_map(|_| entry(self)).collect())
    }

    fn value<T: std::str::FromStr>(&mut self, of: &[&str]) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        self.0.bool().then(|| parse(self.one(of)))
    }

    fn requested(&mut self) -> Requested {
        let end = |maker: &mut Maker| maker.one(&["", "", "/udp"]);
        Requested {
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
            features: self.list(|it| Some(parse(it.one(&FEATURES)))),
            interfaces: self.list(|it| Some(parse(it.one(&INTERFACES)))),
            fuel: self.value(&FUEL),
            max_memory: self.value(&SIZES),
            timeout: self.value(&TIMES),
            log_rate: self.value(&COUNTS),
            http_idle_timeout: self.value(&TIMES),
            http_max_body: self.value(&SIZES),
            http_max_connections: self.value(&COUNTS),
            http_max_header: self.value(&SIZES[..4]),
            http_max_requests: self.value(&COUNTS),
            http_request_timeout: self.value(&TIMES),
            used: vec![],
            reached: vec![],
        }
    }

    /// What asks for no more than a ceiling does, in its limits and interfaces. Otherwise most of what is made would be refused
    /// for one of them.
    fn modest(&mut self, ceiling: &Requested) -> Requested {
        let requested = self.requested();
        if self.0.u8(..4) == 0 {
            return requested;
        }
        let keeps = |one: bool| one.then_some(());
        let is_within =
            |it: &Package| ceiling.interfaces.as_ref().is_none_or(|most| most.contains(it));
        let interfaces = requested.interfaces.map(|it| it.into_iter().filter(is_within).collect());
        Requested {
            interfaces,
            fuel: keeps(self.0.bool()).and(ceiling.fuel),
            max_memory: keeps(self.0.bool()).and(ceiling.max_memory),
            timeout: keeps(self.0.bool()).and(ceiling.timeout),
            log_rate: keeps(self.0.bool()).and(ceiling.log_rate),
            http_idle_timeout: keeps(self.0.bool()).and(ceiling.http_idle_timeout),
            http_max_body: keeps(self.0.bool()).and(ceiling.http_max_body),
            http_max_connections: keeps(self.0.bool()).and(ceiling.http_max_connections),
            http_max_header: keeps(self.0.bool()).and(ceiling.http_max_header),
            http_max_requests: keeps(self.0.bool()).and(ceiling.http_max_requests),
            http_request_timeout: keeps(self.0.bool()).and(ceiling.http_request_timeout),
            ..requested
        }
    }

    /// A policy as text, so that it is made by its parser.
    fn rules(&mut self) -> (Rules, Requested) {
        let ceiling = self.requested();
        let defaults = self.modest(&ceiling);
        let text = format!("{}\n{}", table("ceiling", &ceiling), table("defaults", &defaults));
        let policy =
            Policy::parse("/p.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        (policy.rules(Subject::default()), ceiling)
    }
}

fn table(name: &str, requested: &Requested) -> String {
    fn list<T: ToString>(key: &str, entries: &Option<Vec<T>>) -> String {
        let Some(entries) = entries else { return String::new() };
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        format!("{key} = {entries:?}\n")
    }
    let profile = requested.profile.map_or(String::new(), |it| format!("profile = \"{it}\"\n"));
    let limits: String = limits(requested)
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        // A number may be written as one.
        .map(|(key, value)| match value.parse::<u32>() {
            Ok(number) => format!("{key} = {number}\n"),
            Err(_) => format!("{key} = \"{value}\"\n"),
        })
        .collect();
    format!(
        "[{name}]\n{profile}{limits}{}{}{}{}{}{}",
        list("allow-connect", &requested.allow_connect),
        list("allow-http", &requested.allow_http),
        list("allow-listen", &requested.allow_listen),
        list("files", &requested.files),
        list("features", &requested.features),
        list("interfaces", &requested.interfaces)
    )
}

/// The limits that are named, as text.
fn limits(requested: &Requested) -> [(&'static str, Option<String>); 10] {
    fn text(value: Option<impl ToString>) -> Option<String> {
        value.map(|it| it.to_string())
    }
    [
        ("fuel", text(requested.fuel)),
        ("max-memory", text(requested.max_memory)),
        ("timeout", text(requested.timeout)),
        ("log-rate", text(requested.log_rate)),
        ("http-idle-timeout", text(requested.http_idle_timeout)),
        ("http-max-body", text(requested.http_max_body)),
        ("http-max-connections", text(requested.http_max_connections)),
        ("http-max-header", text(requested.http_max_header)),
        ("http-max-requests", text(requested.http_max_requests)),
        ("http-request-timeout", text(requested.http_request_timeout)),
    ]
}

/// Everything that is allowed of what guests try.
fn allowed(by: &dyn Decides) -> Vec<String> {
    let mut all = Vec::new();
    let mut add = |is_allowed: bool, what: String| all.extend(is_allowed.then_some(what));
    let addresses = ADDRESSES.map(parse::<IpAddr>);
    for address in
        [80, 90, 443, 9].into_iter().flat_map(|port| addresses.map(|ip| SocketAddr::new(ip, port)))
    {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            add(by.listens(protocol, address), format!("listen {protocol} {address}"));
            for name in NAMES {
                let what = format!("{protocol} {name} {address}");
                add(by.connects(protocol, name, address), what);
            }
        }
        for scheme in [Scheme::Http, Scheme::Https] {
            // The address of an address is the same.
            let is_its = |name: &&str| name.parse::<IpAddr>().is_ok_and(|it| it == address.ip());
            let names = NAMES.into_iter().filter(|it| it.parse::<IpAddr>().is_err() || is_its(it));
            for name in names {
                let what = format!("{} {name} {address}", scheme.name());
                add(by.requests(scheme, name, address), what);
            }
        }
    }
    for name in NAMES {
        add(by.looks_up(name), format!("look up {name}"));
    }
    for path in ["/", "/a", "/a/b", "/c"] {
        for access in [Access::Read, Access::Write] {
            let file = FileGrant { path: path.into(), access };
            add(by.has_file(&file), file.to_string());
        }
    }
    for name in ["gc", "function-references", "tail-call", "memory64", "wide-arithmetic"] {
        add(by.has_feature(name), format!("feature {name}"));
    }
    for name in INTERFACES.into_iter().chain(["wasi:nn", "wasi:tls"]) {
        add(by.has_interface(name), format!("interface {name}"));
    }
    for (key, _) in limits(&Requested::default()) {
        for amount in [1, 10, 250, 1000, 65_536, 90_000, 102_400, 1 << 20, 3_600_000, u64::MAX] {
            add(by.may_use(key, amount), format!("{key} {amount}"));
        }
    }
    all
}

#[test]
fn the_result_never_exceeds_the_ceiling() {
    let (mut merged, mut refused) = (0, 0);
    for seed in 0..CASES {
        let mut maker = Maker(fastrand::Rng::with_seed(seed));
        let (rules, ceiling) = maker.rules();
        let (image, pod) = (maker.modest(&ceiling), maker.modest(&ceiling));
        match merge(&MergeInput { rules, image, pod }) {
            Err(_) => refused += 1,
            Ok(grants) => {
                merged += 1;
                let most = allowed(&Ceiling(&ceiling));
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
fn a_pod_that_asks_for_a_ceiling_has_all_of_it() {
    let mut same = 0;
    for seed in 0..CASES / 4 {
        let (rules, ceiling) = Maker(fastrand::Rng::with_seed(seed)).rules();
        // What needs a request is not granted without one, even if the ceiling allows it.
        let all = || vec![parse("wasm3"), parse("wide-arithmetic")];
        let features = Some(ceiling.features.clone().unwrap_or_else(all));
        let profile = Some(Ceiling(&ceiling).profile());
        let pod = Requested { profile, features, ..ceiling.clone() };
        let rules = Rules { defaults: Requested::default(), ..rules };
        // An entry that the ceiling's own profile forbids is not within it.
        let Ok(grants) = merge(&MergeInput { rules, pod, ..MergeInput::default() }) else {
            continue;
        };
        same += 1;
        assert_eq!(allowed(&grants), allowed(&Ceiling(&ceiling)), "seed {seed}: {ceiling:#?}");
    }
    assert!(same > CASES / 20, "{same}");
}

#[test]
fn a_message_to_another_process_has_the_same_grants() {
    let mut merged = 0;
    for seed in 0..CASES / 20 {
        let mut maker = Maker(fastrand::Rng::with_seed(seed));
        let (rules, ceiling) = maker.rules();
        let (image, pod) = (maker.modest(&ceiling), maker.modest(&ceiling));
        let Ok(grants) = merge(&MergeInput { rules, image, pod }) else { continue };
        merged += 1;
        let grants = Grants { node: vec![parse("10.1.1.1")], ..grants };
        let text = serde_json::to_string(&grants).expect("is written");
        assert_eq!(serde_json::from_str::<Grants>(&text).expect("is read"), grants);
    }
    assert!(merged > CASES / 400, "{merged}");
}
