//! What the node's file, an image or a Pod names, key by key.

use provided::{
    ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, CONFIG, CORE_DUMP, FEATURES, FILES, FUEL,
    GRANT_PROFILE, HTTP_IDLE_TIMEOUT, HTTP_MAX_BODY, HTTP_MAX_CONNECTIONS, HTTP_MAX_HEADER,
    HTTP_MAX_REQUESTS, HTTP_REQUEST_TIMEOUT, INTERFACES, KEYVALUE, KEYVALUE_PASSWORD_FILE,
    LOG_RATE, MAX_MEMORY, PREFIX, SettingError, TIMEOUT, Table,
};
use serde::Deserialize;

use crate::quantity::{Body, Count, Fuel, Head, Memory, Time};
use crate::text::{Invalid, list};
use crate::{Access, Feature, FileGrant, Listen, Origin, Package, Profile, Target};

/// What is named. `None` is a key that is not set, which is not the same as an empty list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Requested {
    /// The profile.
    pub profile: Option<Profile>,
    /// Destinations of sockets.
    pub allow_connect: Option<Vec<Target>>,
    /// Destinations of HTTP requests.
    pub allow_http: Option<Vec<Origin>>,
    /// Where the guest may listen.
    pub allow_listen: Option<Vec<Listen>>,
    /// Directories.
    pub files: Option<Vec<FileGrant>>,
    /// Proposals of WebAssembly.
    pub features: Option<Vec<Feature>>,
    /// Optional interfaces.
    pub interfaces: Option<Vec<Package>>,
    /// Fuel.
    pub fuel: Option<Fuel>,
    /// Memory of all instances.
    pub max_memory: Option<Memory>,
    /// How long the guest may run.
    pub timeout: Option<Time>,
    /// Lines a second.
    pub log_rate: Option<Count>,
    /// Silence of a server's client.
    pub http_idle_timeout: Option<Time>,
    /// Body of a request.
    pub http_max_body: Option<Body>,
    /// Connections of a server at a time.
    pub http_max_connections: Option<Count>,
    /// Head of a request.
    pub http_max_header: Option<Head>,
    /// Instances of a server at a time.
    pub http_max_requests: Option<Count>,
    /// Time until a response begins.
    pub http_request_timeout: Option<Time>,
    /// Paths that the runtime itself reads or writes for the guest, by the annotation that names each.
    #[serde(skip)]
    pub used: Vec<(&'static str, FileGrant)>,
    /// Destinations that the runtime itself connects to for the guest, by the annotation that names each.
    #[serde(skip)]
    pub reached: Vec<(&'static str, Target)>,
}

impl Requested {
    /// What annotations or labels of this table name, in their order. Those that are not for this runtime are left out.
    ///
    /// # Errors
    /// The first one that is not known, or not valid.
    pub fn of<'a>(
        table: &Table,
        named: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Requested, SettingError> {
        let mut requested = Requested::default();
        for (key, value) in named.into_iter().filter(|(key, _)| key.starts_with(PREFIX)) {
            table.check(key)?;
            requested.set(key, value).map_err(|invalid| table.refused(key, &invalid.entry))?;
            requested.record_use(key, value);
        }
        Ok(requested)
    }

    /// Sets a key of an annotation or a label. Returns whether there is one of that name.
    ///
    /// # Errors
    /// The entry that is not valid.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, Invalid> {
        match key {
            key if key == GRANT_PROFILE.key => self.profile = Some(value.parse()?),
            key if key == ALLOW_CONNECT.key => self.allow_connect = Some(list(value)?),
            key if key == ALLOW_HTTP.key => self.allow_http = Some(list(value)?),
            key if key == ALLOW_LISTEN.key => self.allow_listen = Some(list(value)?),
            key if key == FILES.key => self.files = Some(list(value)?),
            key if key == FEATURES.key => self.features = Some(list(value)?),
            key if key == INTERFACES.key => self.interfaces = Some(list(value)?),
            _ => return self.set_limit(key, value),
        }
        Ok(true)
    }

    fn set_limit(&mut self, key: &str, value: &str) -> Result<bool, Invalid> {
        match key {
            key if key == FUEL.key => self.fuel = Some(value.parse()?),
            key if key == MAX_MEMORY.key => self.max_memory = Some(value.parse()?),
            key if key == TIMEOUT.key => self.timeout = Some(value.parse()?),
            key if key == LOG_RATE.key => self.log_rate = Some(value.parse()?),
            key if key == HTTP_IDLE_TIMEOUT.key => self.http_idle_timeout = Some(value.parse()?),
            key if key == HTTP_MAX_BODY.key => self.http_max_body = Some(value.parse()?),
            key if key == HTTP_MAX_CONNECTIONS.key => {
                self.http_max_connections = Some(value.parse()?);
            }
            key if key == HTTP_MAX_HEADER.key => self.http_max_header = Some(value.parse()?),
            key if key == HTTP_MAX_REQUESTS.key => self.http_max_requests = Some(value.parse()?),
            key if key == HTTP_REQUEST_TIMEOUT.key => {
                self.http_request_timeout = Some(value.parse()?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Records the path of an annotation by which the runtime reads or writes a file for the guest. Other keys name none, and
    /// a URL is no path.
    pub fn record_use(&mut self, key: &str, path: &str) {
        let uses = [
            (CONFIG, Access::Read),
            (CORE_DUMP, Access::Write),
            (KEYVALUE, Access::Write),
            (KEYVALUE_PASSWORD_FILE, Access::Read),
        ];
        let named = uses.into_iter().find(|(known, _)| *known == key);
        if let Some((key, access)) = named.filter(|_| path.starts_with('/')) {
            self.used.push((key, FileGrant { path: path.into(), access }));
        }
    }

    /// Takes what the other names and this does not.
    #[must_use]
    pub fn or(self, other: &Requested) -> Requested {
        Requested {
            profile: self.profile.or(other.profile),
            allow_connect: self.allow_connect.or_else(|| other.allow_connect.clone()),
            allow_http: self.allow_http.or_else(|| other.allow_http.clone()),
            allow_listen: self.allow_listen.or_else(|| other.allow_listen.clone()),
            files: self.files.or_else(|| other.files.clone()),
            features: self.features.or_else(|| other.features.clone()),
            interfaces: self.interfaces.or_else(|| other.interfaces.clone()),
            fuel: self.fuel.or(other.fuel),
            max_memory: self.max_memory.or(other.max_memory),
            timeout: self.timeout.or(other.timeout),
            log_rate: self.log_rate.or(other.log_rate),
            http_idle_timeout: self.http_idle_timeout.or(other.http_idle_timeout),
            http_max_body: self.http_max_body.or(other.http_max_body),
            http_max_connections: self.http_max_connections.or(other.http_max_connections),
            http_max_header: self.http_max_header.or(other.http_max_header),
            http_max_requests: self.http_max_requests.or(other.http_max_requests),
            http_request_timeout: self.http_request_timeout.or(other.http_request_timeout),
            used: self.used,
            reached: self.reached,
        }
    }
}
