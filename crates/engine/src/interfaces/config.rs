//! `wasi:config`: values by key, from the container's environment, or from the directory of a mounted ConfigMap or Secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::LinkerInstance;

use super::directory::Directory;
use super::types::ConfigError;
use super::{Interfaces, log_once};
use crate::Plan;
use crate::blocking::blocking;
use crate::host_calls;
use crate::named_path::NamedPath;
use crate::state::State;

/// Where the values are.
#[derive(Debug)]
pub enum Config {
    /// In the environment of the guest.
    Environment(Vec<(String, String)>),
    /// In files, each named after its key.
    Directory(Directory),
}

/// Defines the interface, whose drafts differ in their names alone.
pub fn define(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_wrap_async("get", |store, (key,): (String,)| {
        host_calls::enter("wasi:config get");
        let (shared, is_quick) = source(store.data());
        let get = move || logged(shared.config.get(&key));
        Box::new(async move { Ok((blocking(is_quick, get).await?,)) })
    })?;
    interface.func_wrap_async("get-all", |store, (): ()| {
        host_calls::enter("wasi:config get-all");
        let (shared, is_quick) = source(store.data());
        let all = move || logged(shared.config.all());
        Box::new(async move { Ok((blocking(is_quick, all).await?,)) })
    })
}

/// What has the values, and whether they may be read on this thread.
fn source(state: &State) -> (Arc<Interfaces>, bool) {
    let shared = state.interfaces().clone();
    let is_quick = state.is_sequential() || matches!(shared.config, Config::Environment(_));
    (shared, is_quick)
}

/// Logs the reason of a failure.
fn logged<T>(read: Result<T, ConfigError>) -> Result<T, ConfigError> {
    if let Err(ConfigError::Upstream(reason) | ConfigError::Io(reason)) = &read {
        log_once(reason, &format!("warning: wasi:config: {reason}"));
    }
    read
}

impl Config {
    /// As the plan says.
    pub fn new(plan: &Plan) -> Config {
        match &plan.config {
            Some(path) => {
                Config::Directory(Directory::new(NamedPath::new(path.clone(), &plan.grants)))
            }
            None => Config::Environment(plan.env.clone()),
        }
    }

    fn get(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self {
            Config::Directory(directory) => directory.get(key),
            // Of several, the last.
            Config::Environment(all) => {
                let found = all.iter().rev().find(|(name, _)| name == key);
                Ok(found.map(|(_, value)| value.clone()))
            }
        }
    }

    fn all(&self) -> Result<Vec<(String, String)>, ConfigError> {
        match self {
            Config::Directory(directory) => directory.all(),
            // Of several, the last.
            Config::Environment(all) => {
                let last: BTreeMap<_, _> = all.iter().cloned().collect();
                Ok(last.into_iter().collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_variable_that_is_set_twice_the_last_value_counts_and_is_there_once() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let config = Config::Environment(vec![pair("B", "1"), pair("A", "2"), pair("B", "3")]);
        assert_eq!(config.get("B"), Ok(Some("3".into())));
        assert_eq!(config.get("C"), Ok(None));
        assert_eq!(config.all(), Ok(vec![pair("A", "2"), pair("B", "3")]));
    }
}
