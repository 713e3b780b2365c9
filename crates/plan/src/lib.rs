//! Plan of a container's guest: how it is run, in a form that can be sent to another process.
//!
//! The shim makes the plan from the container's settings, and the engine runs it. Read in this order: [`Plan`] here;
//! [`World`] (what kind of guest it is); [`http`] (how a server serves); [`KeyValue`] (where its key-value store is);
//! [`FailureArtifacts`] (what a failure leaves); [`exit_code`]; [`Annotations`] (what a Pod says of all this).
//!
//! This crate uses neither Wasmtime nor containerd. The crate `provided` declares the settings, with their texts and
//! defaults, and the crate `grants` what a guest may do.
#![forbid(unsafe_code)]

pub mod annotations;
mod artifacts;
pub mod exit_code;
pub mod http;
pub mod keyvalue;
mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use grants::{Grants, Host, Target};
use provided::{Place, SettingError};
use serde::{Deserialize, Serialize};
use url::Url;

pub use annotations::Annotations;
pub use artifacts::FailureArtifacts;
pub use http::HttpSettings;
pub use keyvalue::KeyValue;
pub use world::World;

/// The beginning of all variables of OpenTelemetry.
pub const TELEMETRY: &str = "OTEL_";

/// The end of those with the URL of a collector.
const ENDPOINT: &str = "_ENDPOINT";

/// The variable that sets the address of the HTTP server, as in runwasi.
pub const LISTEN: &str = provided::LISTEN.key;

/// The variable that sets the length of its accept queue, as in runwasi.
const BACKLOG: &str = provided::BACKLOG.key;

/// The variable with the working directory (POSIX, "Environment Variables"). Go for WASI 0.1 takes it from there, because
/// that has no function for it.
const WORKING_DIRECTORY: &str = "PWD";

/// How a guest is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What it is.
    pub world: World,
    /// The export to call, in place of the world's own entry.
    pub export: Option<String>,
    /// Its arguments, the first its own name.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Its working directory, absolute.
    pub cwd: PathBuf,
    /// For a guest that serves HTTP.
    pub http: HttpSettings,
    /// Where its failure artifacts go.
    pub artifacts: FailureArtifacts,
    /// The directory with the values of `wasi:config`, in place of the environment.
    pub config: Option<PathBuf>,
    /// The store of `wasi:keyvalue`, in place of memory.
    pub keyvalue: Option<KeyValue>,
    /// What it may do with files and the network, and how much it may use.
    pub grants: Grants,
}

impl Plan {
    /// A plan from a container's settings. `env` is a list of `KEY=VALUE`, of which the guest sees what [`environment`]
    /// says.
    ///
    /// # Errors
    /// For a variable of the server's with a value that does not parse.
    pub fn new(
        world: World,
        export: Option<String>,
        args: Vec<String>,
        env: &[String],
        cwd: PathBuf,
    ) -> Result<Plan, SettingError> {
        let mut http = HttpSettings::default();
        for (key, value) in env.iter().map(|entry| variable(entry)) {
            match key {
                LISTEN => http.listen = Some(listen(value)?),
                BACKLOG => http.backlog = backlog(value)?,
                _ => {}
            }
        }
        let (env, artifacts) = (environment(env, &cwd), FailureArtifacts::default());
        let (config, keyvalue, grants) = (None, None, Grants::default());
        Ok(Plan { world, export, args, env, cwd, http, artifacts, config, keyvalue, grants })
    }

    /// Gives the guest these grants, and a server their limits.
    pub fn grant(&mut self, grants: Grants) {
        self.http.limit(&grants.limits);
        self.grants = grants;
    }

    /// The guest's own name.
    pub fn name(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// The value of a variable of its environment: of several, the last.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The variables of a server's environment that are for the runtime as well: those of OpenTelemetry.
    pub fn telemetry(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.env.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        entries.filter(|(key, _)| self.world.serves_http() && key.starts_with(TELEMETRY))
    }

    /// Whether it matters what names of hosts mean: to a grant, or because the runtime connects to a host by its name.
    pub fn names_hosts(&self) -> bool {
        let is_name = |target: &Target| matches!(target.host, Host::Name(_));
        let has_name = |url: &str| Url::parse(url).is_ok_and(|url| url.domain().is_some());
        let mut endpoints = self.telemetry().filter(|(key, _)| key.ends_with(ENDPOINT));
        self.grants.name_hosts()
            || self.keyvalue.as_ref().and_then(KeyValue::target).is_some_and(is_name)
            || endpoints.any(|(_, url)| has_name(url))
    }
}

/// The environment that a guest sees in a container with this one: without the variables that set up the HTTP server, and
/// with the working directory, for which a guest cannot ask the kernel as a program does.
pub fn environment(env: &[String], cwd: &Path) -> Vec<(String, String)> {
    let entries = env.iter().map(|entry| variable(entry));
    let passed = entries.filter(|(key, _)| ![LISTEN, BACKLOG].contains(key));
    let mut seen: Vec<_> = passed.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if seen.iter().all(|(key, _)| key != WORKING_DIRECTORY) {
        seen.push((WORKING_DIRECTORY.to_owned(), cwd.to_string_lossy().into_owned()));
    }
    seen
}

fn variable(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
}

fn listen(value: &str) -> Result<SocketAddr, SettingError> {
    value.parse().map_err(|_| provided::LISTEN.refused(Place::Container, value))
}

fn backlog(value: &str) -> Result<u32, SettingError> {
    let backlog = value.parse().ok().filter(|backlog| *backlog > 0);
    backlog.ok_or_else(|| provided::BACKLOG.refused(Place::Container, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(env: &[&str]) -> Result<Plan, SettingError> {
        let env: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
        Plan::new(World::HttpProxy02, None, vec!["app".into()], &env, "/".into())
    }

    #[test]
    fn the_servers_own_variables_are_taken_and_not_passed_on() {
        let plan = plan(&[
            "A=1=2",
            "WASMTIME_HTTP_PROXY_SOCKET_ADDR=127.0.0.1:9",
            "WASMTIME_HTTP_BACKLOG=7",
        ]);
        let plan = plan.expect("a plan");
        assert_eq!(plan.variable("A"), Some("1=2"));
        assert_eq!((plan.variable(LISTEN), plan.variable(BACKLOG)), (None, None));
        assert_eq!(plan.http.listen, Some("127.0.0.1:9".parse().expect("an address")));
        assert_eq!(plan.http.backlog, 7);
    }

    #[test]
    fn names_matter_to_a_guest_for_which_the_runtime_connects_to_one() {
        let has_names = |env: &[&str], keyvalue: &str| {
            let keyvalue = (!keyvalue.is_empty()).then(|| KeyValue::annotated(keyvalue));
            let keyvalue = keyvalue.transpose().expect("a store");
            Plan { keyvalue, ..plan(env).expect("a plan") }.names_hosts()
        };
        assert!(!has_names(&[], "") && !has_names(&[], "/data/store"));
        assert!(has_names(&[], "redis://redis.shop.svc/0"));
        assert!(!has_names(&[], "redis://10.0.0.1/0") && !has_names(&[], "rediss://[fd00::1]"));
        assert!(has_names(&["OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"], ""));
        assert!(has_names(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://a.example/v1"], ""));
        assert!(!has_names(&["OTEL_EXPORTER_OTLP_ENDPOINT=http://10.0.0.1:4318"], ""));
        assert!(!has_names(&["OTEL_EXPORTER_OTLP_ENDPOINT=http://[::1]:4318"], ""));
    }

    #[test]
    fn the_working_directory_is_a_variable_unless_there_is_one_already() {
        let seen = |env: &[&str]| {
            let env: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
            environment(&env, Path::new("/work"))
        };
        assert_eq!(seen(&[]), [("PWD".to_owned(), "/work".to_owned())]);
        assert_eq!(seen(&["PWD=/own"]), [("PWD".to_owned(), "/own".to_owned())]);
    }

    #[test]
    fn a_bad_value_is_refused_and_not_replaced_by_the_default() {
        let text =
            plan(&["WASMTIME_HTTP_PROXY_SOCKET_ADDR=localhost"]).expect_err("refused").to_string();
        assert!(
            text.contains(LISTEN) && text.contains("localhost") && text.contains("0.0.0.0:8080"),
            "{text}"
        );
        assert!(plan(&["WASMTIME_HTTP_BACKLOG=0"]).is_err());
    }
}
