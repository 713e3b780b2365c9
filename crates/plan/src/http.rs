//! How HTTP is served: defaults, and the annotations that change them.

use std::net::SocketAddr;
use std::time::Duration;

use grants::quantity::{Body, Count, Head, Time};
use grants::{HttpLimits, Limit, Limits};
use provided::{OF_POD, SettingError};
use serde::{Deserialize, Serialize};

use crate::World;

/// The beginning of all its annotations but [`METRICS`].
pub const PREFIX: &str = "wasmtime.shim/http-";

/// The annotation with the address where metrics are served.
pub const METRICS: &str = "wasmtime.shim/metrics-listen";

/// The port if nothing else is set, as in runwasi and `wasmtime serve`.
const PORT: u16 = 8080;

/// Connections that wait to be accepted: what Linux bounds a listener at by default
/// (net.core.somaxconn before 5.4; Apache's and nginx's defaults are of the same order).
const BACKLOG: u32 = 128;

/// As long as proxies usually wait for a response.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// As nginx and Apache wait for the next part of a request, and for a client to take the next part of a response.
const IDLE_TIME: Duration = Duration::from_secs(60);

const HEAD: u32 = 64 << 10;

const BODY: u64 = 100 << 20;

const INSTANCES: u32 = 128;

/// Memory that one instance is assumed to need of what the container has for its guests, and the instances that are always possible.
const INSTANCE_MEMORY: u64 = 1 << 20;
const FEWEST_INSTANCES: u64 = 4;

const CONNECTIONS: u32 = 1024;

/// Requests of an instance of `wasi:http` 0.3, which is made for several at a time.
const REQUESTS_03: u32 = 128;

/// Settings of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSettings {
    /// The address; none for `port` of every address, IPv6 where there is any.
    pub listen: Option<SocketAddr>,
    /// The port, without an address.
    pub port: u16,
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// How long the guest may take to begin its response.
    pub request_time: Duration,
    /// How long a client may take for the head of a request, and keep waiting between two requests, with the next part of
    /// a body, or, of HTTP/1.1, without taking the next part of a response.
    pub idle_time: Duration,
    /// The largest head of a request, in bytes; also what is read at a time.
    pub head: u32,
    /// The largest body of a request, in bytes.
    pub body: u64,
    /// Instances at a time; without a limit what the container's memory has room for.
    pub instances: Limit<Count>,
    /// Connections at a time.
    pub connections: u32,
    /// Requests that an instance serves, one after the other or, with 0.3, at a time; none for what the world has.
    pub requests_per_instance: Option<u32>,
    /// Whether each response is a line of JSON on stdout.
    pub has_access_log: bool,
    /// Whether the guest's lines begin with the id of their request.
    pub has_request_ids: bool,
    /// The address where metrics are served; none for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Processors that the container may use; none for all.
    pub processors: Option<usize>,
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings {
            listen: None,
            port: PORT,
            backlog: BACKLOG,
            request_time: REQUEST_TIME,
            idle_time: IDLE_TIME,
            head: HEAD,
            body: BODY,
            instances: Limit::default(),
            connections: CONNECTIONS,
            requests_per_instance: None,
            has_access_log: false,
            has_request_ids: false,
            metrics: None,
            processors: None,
        }
    }
}

impl HttpSettings {
    /// Takes over limits. A guest takes no longer for a request than it may run.
    pub fn limit(&mut self, limits: &Limits) {
        let HttpLimits { idle_time, body, connections, head, instances, request_time } =
            &limits.http;
        let request_time = request_time.or(REQUEST_TIME, Time::get);
        self.request_time =
            limits.time.get().map_or(request_time, |(most, _)| request_time.min(most.get()));
        self.idle_time = idle_time.or(IDLE_TIME, Time::get);
        self.body = body.or(BODY, Body::bytes);
        self.connections = connections.or(CONNECTIONS, Count::get);
        self.head = head.or(HEAD, Head::bytes);
        self.instances = *instances;
    }

    /// Takes over an annotation that is not a limit.
    ///
    /// # Errors
    /// For one that there is not, or a value that it cannot have.
    pub fn annotate(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let refused = || OF_POD.refused(key, value);
        let address = || value.parse().map_err(|_| refused());
        match key.strip_prefix(PREFIX) {
            None if key == METRICS => self.metrics = Some(address()?),
            Some("listen") => self.listen = Some(address()?),
            Some("access-log") => {
                self.has_access_log = match value {
                    "json" => true,
                    "off" => false,
                    _ => return Err(refused()),
                }
            }
            Some("request-ids") => {
                self.has_request_ids = value.parse().map_err(|_| refused())?;
            }
            Some("instances") => {
                self.requests_per_instance = Some(match value.split_once('=') {
                    None if value == "per-request" => 1,
                    Some(("reuse", requests)) => {
                        let requests = requests.parse().ok().filter(|requests| *requests > 0);
                        requests.ok_or_else(refused)?
                    }
                    _ => return Err(refused()),
                });
            }
            // What is in the table and not here is not for a server.
            _ => OF_POD.check(key)?,
        }
        Ok(())
    }

    /// Whether lines on stdout and stderr are kept apart by the request that they are of.
    pub fn keeps_lines_apart(&self) -> bool {
        self.has_access_log || self.has_request_ids
    }

    /// Requests that an instance serves, all in all.
    pub fn requests(&self, world: World) -> u32 {
        let default = if world == World::HttpService03 { REQUESTS_03 } else { 1 };
        self.requests_per_instance.unwrap_or(default)
    }

    /// Instances at a time, in a container that has this many bytes of memory for its guests; none for no limit.
    pub fn instances(&self, memory: Option<u64>) -> u32 {
        let room = (memory.unwrap_or(u64::MAX) / INSTANCE_MEMORY).max(FEWEST_INSTANCES);
        let default = u32::try_from(room).unwrap_or(INSTANCES).min(INSTANCES);
        self.instances.or(default, Count::get)
    }
}

#[cfg(test)]
mod tests {
    use grants::policy::{Policy, Subject};
    use grants::{MergeInput, Requested, merge};
    use provided::Unset;

    use super::*;

    fn annotated(key: &str, value: &str) -> Result<HttpSettings, String> {
        let mut settings = HttpSettings::default();
        let taken = settings.annotate(&format!("{PREFIX}{key}"), value);
        taken.map(|()| settings).map_err(|error| error.to_string())
    }

    /// Limits of a Pod that names these, on a node with that ceiling.
    fn limits(pod: &[(&str, &str)], ceiling: &str) -> Limits {
        let mut requested = Requested::default();
        for (key, value) in pod {
            let taken = requested.set(&format!("{}{key}", provided::PREFIX), value);
            assert_eq!(taken, Ok(true), "{key}");
        }
        let policy = Policy::parse("/p.toml", &format!("[ceiling]\n{ceiling}")).expect("parses");
        let rules = policy.rules(Subject::default());
        let input = MergeInput { rules, pod: requested, ..MergeInput::default() };
        merge(&input).expect("is within the ceiling").limits
    }

    fn limited(pod: &[(&str, &str)], ceiling: &str) -> HttpSettings {
        let mut settings = HttpSettings::default();
        settings.limit(&limits(pod, ceiling));
        settings
    }

    #[test]
    fn each_annotation_changes_its_setting_alone() {
        let limited = |key: &str, value: &str| limited(&[(&format!("http-{key}"), value)], "");
        let expected =
            HttpSettings { request_time: Duration::from_millis(250), ..Default::default() };
        assert_eq!(limited("request-timeout", "250ms"), expected);
        assert_eq!(limited("max-body", "10Mi").body, 10 << 20);
        assert_eq!(limited("max-header", "8Ki").head, 8 << 10);
        assert_eq!(limited("idle-timeout", "5s").idle_time, Duration::from_secs(5));
        assert_eq!(limited("max-requests", "7").instances(Some(1)), 7);
        assert_eq!(limited("max-connections", "9").connections, 9);
        let listen = annotated("listen", "127.0.0.1:90").map(|it| it.listen);
        assert_eq!(listen, Ok("127.0.0.1:90".parse().ok()));
    }

    #[test]
    fn a_ceiling_lowers_a_default_and_does_not_raise_it() {
        let low = "http-max-body = \"1Mi\"\nhttp-max-requests = 5\nhttp-idle-timeout = \"1s\"";
        let settings = limited(&[], low);
        assert_eq!((settings.body, settings.instances(None)), (1 << 20, 5));
        assert_eq!(settings.idle_time, Duration::from_secs(1));
        let high = "http-max-body = \"1Gi\"\nhttp-max-requests = 500\nhttp-max-header = \"1Mi\"";
        let settings = limited(&[], high);
        assert_eq!((settings.body, settings.head), (BODY, HEAD));
        assert_eq!(settings.instances(None), INSTANCES);
        let settings = limited(&[("http-max-body", "1Gi"), ("http-max-requests", "200")], high);
        assert_eq!((settings.body, settings.instances(None)), (1 << 30, 200));
    }

    #[test]
    fn a_request_takes_no_longer_than_the_guest_may_run() {
        let request_time = |pod: &[(&str, &str)]| limited(pod, "").request_time;
        assert_eq!(request_time(&[("timeout", "10m")]), REQUEST_TIME);
        assert_eq!(request_time(&[("timeout", "5s")]), Duration::from_secs(5));
        let both = [("timeout", "10m"), ("http-request-timeout", "5m")];
        assert_eq!(request_time(&both), Duration::from_secs(300));
    }

    #[test]
    fn an_instance_serves_what_its_world_or_the_annotation_says() {
        let requests = |world| HttpSettings::default().requests(world);
        assert_eq!((requests(World::HttpProxy02), requests(World::HttpService03)), (1, 128));
        let reused = annotated("instances", "reuse=50").expect("taken");
        assert_eq!(reused.requests(World::HttpProxy02), 50);
        let fresh = annotated("instances", "per-request").expect("taken");
        assert_eq!(fresh.requests(World::HttpService03), 1);
    }

    #[test]
    fn there_are_as_many_instances_as_the_memory_has_room_for_and_always_a_few() {
        let instances = |memory| HttpSettings::default().instances(memory);
        assert_eq!((instances(None), instances(Some(1 << 40))), (INSTANCES, INSTANCES));
        assert_eq!((instances(Some(56 << 20)), instances(Some(1))), (56, 4));
    }

    #[test]
    fn what_is_misspelt_is_refused_with_what_is_allowed() {
        for (key, value, part) in [
            ("instances", "reuse=0", "reuse=N"),
            ("instances", "fresh", "per-request"),
            ("listen", "localhost", "0.0.0.0:8080"),
            ("access-log", "true", "json or off"),
            ("request-ids", "yes", "true or false"),
        ] {
            let text = annotated(key, value).expect_err("refused");
            assert!(text.contains(part) && text.contains(key) && text.contains(value), "{text}");
        }
        let text = annotated("timeout", "30s").expect_err("refused");
        assert!(text.contains("http-timeout") && text.contains("http-request-timeout"), "{text}");
    }

    #[test]
    fn each_key_of_the_table_that_is_for_a_server_is_taken() {
        for provided::Setting { key, allowed, .. } in provided::ANNOTATIONS {
            // No setting has such a value: who does not know the key, takes it.
            let taken = HttpSettings::default().annotate(key, "\0");
            let is_for_servers = key.starts_with(PREFIX) || key == METRICS;
            let is_limit = Requested::default().set(key, "\0").is_err();
            assert_eq!(taken.is_err(), is_for_servers && !is_limit, "{key}");
            let text = taken.err().map(|error| error.to_string());
            assert!(text.is_none_or(|text| text.ends_with(allowed)), "{key}");
        }
    }

    #[test]
    fn the_default_that_the_table_says_is_the_default() {
        for provided::Setting { key, unset, .. } in provided::ANNOTATIONS {
            let Unset::Is(value) = unset else { continue };
            let mut settings = HttpSettings::default();
            match Requested::default().set(key, value) {
                Ok(true) => {
                    let key = key.strip_prefix(provided::PREFIX).unwrap_or(key);
                    settings = limited(&[(key, value)], "");
                }
                _ => settings.annotate(key, value).expect("taken"),
            }
            assert_eq!(settings, HttpSettings::default(), "{key}");
        }
        let Unset::Is(backlog) = provided::BACKLOG.unset else { panic!("no value") };
        assert_eq!(backlog, BACKLOG.to_string());
    }
}
