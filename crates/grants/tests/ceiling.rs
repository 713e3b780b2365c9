//! The merge, with given and with generated policies: its result never exceeds the ceiling.

use std::net::{IpAddr, SocketAddr};

use grants::policy::{Policy, Rules, Subject};
use grants::{
    Access, FileGrant, Grants, Host, MergeInput, Ports, Profile, Protocol, Requested, Scheme, merge,
};
use ipnet::IpNet;

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
const PROFILES: [&str; 3] = ["restricted", "baseline", "privileged"];

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
            used: vec![],
        }
    }

    /// A policy as text, so that it is made by its parser.
    fn rules(&mut self) -> (Rules, Requested) {
        let (ceiling, defaults) = (self.requested(), self.requested());
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
    format!(
        "[{name}]\n{profile}{}{}{}{}",
        list("allow-connect", &requested.allow_connect),
        list("allow-http", &requested.allow_http),
        list("allow-listen", &requested.allow_listen),
        list("files", &requested.files)
    )
}

/// What decides about the calls of a guest.
trait Decides {
    fn connects(&self, protocol: Protocol, name: &str, address: SocketAddr) -> bool;
    fn requests(&self, scheme: Scheme, name: &str, address: SocketAddr) -> bool;
    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool;
    fn looks_up(&self, name: &str) -> bool;
    fn has_file(&self, file: &FileGrant) -> bool;
}

impl Decides for Grants {
    fn connects(&self, protocol: Protocol, name: &str, address: SocketAddr) -> bool {
        self.connect(protocol, address, &[name.to_owned()]).is_ok()
    }

    fn requests(&self, scheme: Scheme, name: &str, address: SocketAddr) -> bool {
        self.request(scheme, name, address.port()).is_ok()
            && self.request_to(scheme, name, address).is_ok()
    }

    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.listen(protocol, address).is_ok()
    }

    fn looks_up(&self, name: &str) -> bool {
        self.look_up(name).is_ok()
    }

    fn has_file(&self, file: &FileGrant) -> bool {
        self.files.as_ref().is_none_or(|files| files.entries.iter().any(|it| it.covers(file)))
    }
}

/// A ceiling, as the documentation describes it. It shares no code with the merge.
struct Ceiling<'a>(&'a Requested);

impl Ceiling<'_> {
    fn profile(&self) -> Profile {
        self.0.profile.unwrap_or(Profile::Baseline)
    }

    fn is_strict(&self) -> bool {
        self.profile() == Profile::Restricted
    }

    /// Hosts and ports of the entries for sockets, or for requests as well. `None` if none are named.
    fn entries(&self, protocol: Protocol, scheme: Option<Scheme>) -> Option<Vec<(&Host, Ports)>> {
        let Requested { allow_connect, allow_http, .. } = self.0;
        if !self.is_strict() && allow_connect.is_none() && allow_http.is_none() {
            return None;
        }
        let targets = allow_connect.iter().flatten().filter(|it| it.protocol == protocol);
        let origins = allow_http.iter().flatten().filter(|it| Some(it.scheme) == scheme);
        let origins = origins.map(|it| (&it.host, it.ports));
        Some(targets.map(|it| (&it.host, it.ports)).chain(origins).collect())
    }

    fn reaches(
        &self,
        protocol: Protocol,
        scheme: Option<Scheme>,
        name: &str,
        address: SocketAddr,
    ) -> bool {
        let (ip, port) = (address.ip(), address.port());
        let entries = self.entries(protocol, scheme);
        let is_open = entries.is_none();
        let found: Vec<&Host> = entries
            .into_iter()
            .flatten()
            .filter(|(host, ports)| {
                (ports.first..=ports.last).contains(&port)
                    && (is_called(host, name) || is_at(host, ip))
            })
            .map(|(host, _)| host)
            .collect();
        let has_net = |is_in: &dyn Fn(IpAddr) -> bool| {
            let ends = |net: &IpNet| is_in(net.network()) && is_in(net.broadcast());
            found.iter().any(|host| match host {
                Host::Net(net) => net.contains(&ip) && ends(net),
                Host::Name(name) => name == "localhost" && ip.is_loopback() && is_in(ip),
                Host::Any => false,
            })
        };
        let is_forbidden = |is_in: &dyn Fn(IpAddr) -> bool| is_in(ip) && !has_net(is_in);
        let has_metadata = match ip.to_string().as_str() {
            "169.254.169.254" | "fd00:ec2::254" => true,
            "168.63.129.16" => port == 80,
            _ => false,
        };
        (is_open || !found.is_empty())
            && !(self.profile() <= Profile::Baseline
                && has_metadata
                && is_forbidden(&|it| it == ip))
            && !(self.is_strict()
                && (is_forbidden(&is_link_local) || is_forbidden(&|it| it.is_loopback())))
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_link_local())
}

fn is_called(host: &Host, name: &str) -> bool {
    match host {
        Host::Any => true,
        Host::Net(_) => false,
        Host::Name(own) => match own.strip_prefix('*') {
            Some(end) => name.ends_with(end),
            None => name == own,
        },
    }
}

fn is_at(host: &Host, ip: IpAddr) -> bool {
    matches!(host, Host::Any) || matches!(host, Host::Net(net) if net.contains(&ip))
}

impl Decides for Ceiling<'_> {
    fn connects(&self, protocol: Protocol, name: &str, address: SocketAddr) -> bool {
        self.reaches(protocol, None, name, address)
    }

    fn requests(&self, scheme: Scheme, name: &str, address: SocketAddr) -> bool {
        self.reaches(Protocol::Tcp, Some(scheme), name, address)
            && (name.parse::<IpAddr>().is_ok() || self.looks_up(name))
    }

    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let Some(entries) = &self.0.allow_listen else { return !self.is_strict() };
        entries.iter().any(|it| {
            it.protocol == protocol
                && (it.ports.first..=it.ports.last).contains(&address.port())
                && it.net.is_none_or(|net| net.contains(&address.ip()))
        })
    }

    fn looks_up(&self, name: &str) -> bool {
        let known = |entries: Vec<(&Host, Ports)>| entries.iter().any(|it| is_called(it.0, name));
        let all = [(Protocol::Tcp, Some(Scheme::Http)), (Protocol::Udp, Some(Scheme::Https))];
        name.parse::<IpAddr>().is_ok()
            || !self.is_strict()
            || all.into_iter().filter_map(|(it, scheme)| self.entries(it, scheme)).any(known)
    }

    fn has_file(&self, file: &FileGrant) -> bool {
        let Some(entries) = &self.0.files else { return !self.is_strict() };
        entries.iter().any(|it| file.path.starts_with(&it.path) && file.access <= it.access)
    }
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
    all
}

#[test]
fn the_result_never_exceeds_the_ceiling() {
    let (mut merged, mut refused) = (0, 0);
    for seed in 0..CASES {
        let mut maker = Maker(fastrand::Rng::with_seed(seed));
        let (rules, ceiling) = maker.rules();
        let input = MergeInput { rules, image: maker.requested(), pod: maker.requested() };
        match merge(&input) {
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
        let pod = Requested { profile: Some(Ceiling(&ceiling).profile()), ..ceiling.clone() };
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
    for seed in 0..CASES / 20 {
        let mut maker = Maker(fastrand::Rng::with_seed(seed));
        let (rules, _) = maker.rules();
        let given = MergeInput { rules, image: maker.requested(), pod: maker.requested() };
        let Ok(grants) = merge(&given) else { continue };
        let grants = Grants { node: vec![parse("10.1.1.1")], ..grants };
        let text = serde_json::to_string(&grants).expect("is written");
        assert_eq!(serde_json::from_str::<Grants>(&text).expect("is read"), grants);
    }
}

fn pod(requested: &[(&str, &str)]) -> Requested {
    let mut pod = Requested::default();
    for (key, value) in requested {
        let set = pod.set(&format!("wasmtime.shim/{key}"), value);
        assert!(set.unwrap_or_else(|error| panic!("{error}")), "{key}");
    }
    pod
}

fn of_pod(requested: &[(&str, &str)]) -> Grants {
    merge(&MergeInput { pod: pod(requested), ..MergeInput::default() })
        .unwrap_or_else(|error| panic!("{error}"))
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

fn refused(file: &str, requested: &[(&str, &str)]) -> String {
    let policy = Policy::parse("/p.toml", file).unwrap_or_else(|error| panic!("{error}"));
    let rules = policy.rules(Subject { namespace: "shop", image: "" });
    let merged = merge(&MergeInput { rules, pod: pod(requested), ..MergeInput::default() });
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
