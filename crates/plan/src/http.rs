//! How HTTP is served: defaults, and the annotations that change them.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use provided::{OF_POD, SettingError};
use serde::{Deserialize, Serialize};

use crate::World;
use crate::quantity::{duration, size};

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

/// hyper takes no less, and allocates as much for a connection where it is used.
const HEADS: RangeInclusive<u64> = 8 << 10..=1 << 20;

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
    /// Instances at a time; none for what the container's memory has room for.
    pub instances: Option<u32>,
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
            instances: None,
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
    /// Whether an annotation is for [`HttpSettings::annotate`].
    pub fn knows(key: &str) -> bool {
        key.starts_with(PREFIX) || key == METRICS
    }

    /// Takes over an annotation.
    ///
    /// # Errors
    /// For one that there is not, or a value that it cannot have.
    pub fn annotate(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let refused = || OF_POD.refused(key, value);
        let count = || value.parse().ok().filter(|count| *count > 0).ok_or_else(refused);
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
            Some("request-timeout") => {
                self.request_time = duration(value).ok_or_else(refused)?;
            }
            Some("idle-timeout") => self.idle_time = duration(value).ok_or_else(refused)?,
            Some("max-header") => {
                let head = size(value).filter(|size| HEADS.contains(size));
                self.head = head.and_then(|it| it.try_into().ok()).ok_or_else(refused)?;
            }
            Some("max-body") => self.body = size(value).ok_or_else(refused)?,
            Some("max-requests") => self.instances = Some(count()?),
            Some("max-connections") => self.connections = count()?,
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
        self.instances.unwrap_or_else(|| {
            let room = (memory.unwrap_or(u64::MAX) / INSTANCE_MEMORY).max(FEWEST_INSTANCES);
            u32::try_from(room).unwrap_or(INSTANCES).min(INSTANCES)
        })
    }
}

#[cfg(test)]
mod tests {
    use provided::Unset;

    use super::*;

    fn annotated(key: &str, value: &str) -> Result<HttpSettings, String> {
        let mut settings = HttpSettings::default();
        let taken = settings.annotate(&format!("{PREFIX}{key}"), value);
        taken.map(|()| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn each_annotation_changes_its_setting_alone() {
        let settings = annotated("request-timeout", "250ms").expect("taken");
        let expected =
            HttpSettings { request_time: Duration::from_millis(250), ..Default::default() };
        assert_eq!(settings, expected);
        assert_eq!(annotated("max-body", "10Mi").map(|it| it.body), Ok(10 << 20));
        assert_eq!(annotated("max-header", "8Ki").map(|it| it.head), Ok(8 << 10));
        let idle = annotated("idle-timeout", "5s").map(|it| it.idle_time);
        assert_eq!(idle, Ok(Duration::from_secs(5)));
        assert_eq!(annotated("max-requests", "7").map(|it| it.instances(Some(1))), Ok(7));
        assert_eq!(annotated("max-connections", "9").map(|it| it.connections), Ok(9));
        let listen = annotated("listen", "127.0.0.1:90").map(|it| it.listen);
        assert_eq!(listen, Ok("127.0.0.1:90".parse().ok()));
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
            ("request-timeout", "30", "30s"),
            ("request-timeout", "0s", "30s"),
            ("request-timeout", "99999999999999999999s", "30s"),
            ("max-body", "10MB", "10Mi"),
            ("max-header", "1Ki", "8Ki"),
            ("max-header", "5Gi", "1Mi"),
            ("idle-timeout", "never", "30s"),
            ("max-requests", "0", "at least 1"),
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
            assert_eq!(taken.is_ok(), !HttpSettings::knows(key), "{key}");
            let text = taken.err().map(|error| error.to_string());
            assert!(text.is_none_or(|text| text.ends_with(allowed)), "{key}");
        }
    }

    #[test]
    fn the_default_that_the_table_says_is_the_default() {
        for provided::Setting { key, unset, .. } in provided::ANNOTATIONS {
            let Unset::Is(value) = unset else { continue };
            let mut settings = HttpSettings::default();
            settings.annotate(key, value).expect("taken");
            assert_eq!(settings, HttpSettings::default(), "{key}");
        }
        let Unset::Is(backlog) = provided::BACKLOG.unset else { panic!("no value") };
        assert_eq!(backlog, BACKLOG.to_string());
    }
}
