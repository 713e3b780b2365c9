//! Annotations of a Pod for this runtime. All are checked before any is used.

use std::collections::HashMap;
use std::path::PathBuf;

use grants::Requested;
use provided::{
    CONFIG, CORE_DUMP, KEYVALUE, KEYVALUE_PASSWORD_FILE, OF_POD, PREFIX, PREINIT, SettingError,
};

use crate::{HttpSettings, KeyValue};

/// Annotations for this runtime.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    /// Whether a guest is initialised before it is compiled; `None` if the Pod does not say.
    pub preinit: Option<bool>,
    /// Directory for the core dump of a guest that traps.
    pub core_dump: Option<PathBuf>,
    /// Directory of a guest's configuration, instead of its environment.
    pub config: Option<PathBuf>,
    /// A guest's key-value store, instead of memory.
    pub keyvalue: Option<KeyValue>,
    /// What a guest may do.
    pub requested: Requested,
    /// Annotations of a server, by key.
    http: Vec<(String, String)>,
}

impl Annotations {
    /// Parses the annotations for this runtime.
    ///
    /// # Errors
    /// If one is unknown, or has an invalid value.
    pub fn parse(all: &HashMap<String, String>) -> Result<Annotations, SettingError> {
        let mut annotations = Annotations::default();
        let mut ours: Vec<_> = all.iter().filter(|(key, _)| is_ours(key)).collect();
        // They are sorted, so that the same of several mistakes is always reported.
        ours.sort();
        let mut password = None;
        for (key, value) in ours {
            OF_POD.check(key)?;
            annotations.requested.record_use(key, value);
            let is_grant = annotations.requested.set(key, value);
            if is_grant.map_err(|invalid| OF_POD.refused(key, &invalid.entry))? {
                continue;
            }
            match key.as_str() {
                PREINIT => annotations.preinit = Some(preinit(value)?),
                CORE_DUMP => annotations.core_dump = Some(path(CORE_DUMP, value)?),
                CONFIG => annotations.config = Some(path(CONFIG, value)?),
                KEYVALUE => annotations.keyvalue = Some(KeyValue::annotated(value)?),
                KEYVALUE_PASSWORD_FILE => password = Some(password_file(value)?),
                _ => {
                    HttpSettings::default().annotate(key, value)?;
                    annotations.http.push((key.clone(), value.clone()));
                }
            }
        }
        annotations.complete_keyvalue(password)?;
        Ok(annotations)
    }

    /// Adds the file of the password to the store that it is for, and the store to what the runtime connects to.
    fn complete_keyvalue(&mut self, password: Option<PathBuf>) -> Result<(), SettingError> {
        let target = self.keyvalue.as_ref().and_then(KeyValue::target).cloned();
        self.requested.reached.extend(target.map(|target| (KEYVALUE, target)));
        match (&mut self.keyvalue, password) {
            (Some(KeyValue::Redis(redis)), password) => {
                redis.password = password;
                Ok(())
            }
            (_, Some(path)) => {
                Err(OF_POD.refused(KEYVALUE_PASSWORD_FILE, &path.display().to_string()))
            }
            (_, None) => Ok(()),
        }
    }

    /// Applies the annotations of a server.
    ///
    /// # Errors
    /// None, because all were checked.
    pub fn serve_http(&self, settings: &mut HttpSettings) -> Result<(), SettingError> {
        self.http.iter().try_for_each(|(key, value)| settings.annotate(key, value))
    }
}

/// Whether an annotation is for this runtime.
pub fn is_ours(key: &str) -> bool {
    key.starts_with(PREFIX)
}

fn preinit(value: &str) -> Result<bool, SettingError> {
    value.parse().map_err(|_| OF_POD.refused(PREINIT, value))
}

/// Parses the path of a password. What is none may be the password itself, and is not repeated.
fn password_file(value: &str) -> Result<PathBuf, SettingError> {
    let part = |_| OF_POD.refused_part(KEYVALUE_PASSWORD_FILE, "the value");
    path(KEYVALUE_PASSWORD_FILE, value).map_err(part)
}

/// Parses an absolute path, which must not have a NUL byte.
fn path(key: &'static str, value: &str) -> Result<PathBuf, SettingError> {
    let path = PathBuf::from(value);
    match path.is_absolute() && !value.contains('\0') {
        true => Ok(path),
        false => Err(OF_POD.refused(key, value)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(key: &str, value: &str) -> Result<Annotations, String> {
        let all = [(key.to_owned(), value.to_owned()), ("other/http-listen".into(), "x".into())];
        Annotations::parse(&all.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_annotation_of_the_table_is_one_that_can_be_set() {
        for provided::Setting { key, .. } in provided::ANNOTATIONS {
            let text = parse(key, "\0").expect_err("no annotation has such a value");
            assert!(text.contains(key) && !text.contains("unknown"), "{text}");
        }
    }

    #[test]
    fn each_annotation_changes_what_it_is_for() {
        assert_eq!(parse("wasmtime.shim/preinit", "true").map(|it| it.preinit), Ok(Some(true)));
        assert_eq!(parse("wasmtime.shim/preinit", "false").map(|it| it.preinit), Ok(Some(false)));
        let dump = parse("wasmtime.shim/coredump", "/dumps").expect("is possible");
        assert_eq!(dump.core_dump.as_deref(), Some(Path::new("/dumps")));
        let config = parse("wasmtime.shim/config", "/etc/config").expect("is possible");
        assert_eq!(config.config.as_deref(), Some(Path::new("/etc/config")));
        let kept = parse("wasmtime.shim/keyvalue", "/data/store").expect("is possible");
        assert_eq!(kept.keyvalue, Some(KeyValue::File("/data/store".into())));
        let named = parse("wasmtime.shim/allow-connect", "redis:6379, 10.0.0.0/8:*");
        assert_eq!(named.map(|it| it.requested.allow_connect.map(|all| all.len())), Ok(Some(2)));
        let mut settings = HttpSettings::default();
        let server = parse("wasmtime.shim/http-access-log", "json").expect("is possible");
        server.serve_http(&mut settings).expect("taken");
        assert!(settings.has_access_log);
        let limited = parse("wasmtime.shim/timeout", "5m").expect("is possible");
        assert_eq!(limited.requested.timeout.map(|it| it.to_string()).as_deref(), Some("5m"));
    }

    #[test]
    fn a_value_that_an_annotation_cannot_have_is_refused_with_what_it_can() {
        for (key, value, part) in [
            ("preinit", "yes", "preinit: \"yes\" is not valid; allowed is true or false"),
            (
                "coredump",
                "dumps",
                "coredump: \"dumps\" is not valid; allowed is an absolute path in the container",
            ),
            (
                "config",
                "config",
                "config: \"config\" is not valid; allowed is an absolute path in the",
            ),
            (
                "keyvalue",
                "",
                "keyvalue: the value is not valid; allowed is an absolute path in the container",
            ),
            (
                "keyvalue",
                "redis://:secret@cache/0",
                "keyvalue: the password in the URL is not valid; allowed is an absolute path in the \
                 container, or redis://[USER@]HOST[:PORT][/DATABASE][?prefix=PREFIX] (rediss:// for \
                 TLS) without a password, which belongs in the file that \
                 wasmtime.shim/keyvalue-password-file names",
            ),
            (
                "keyvalue-password-file",
                "/etc/redis/password",
                "allowed is an absolute path in the container, beside a wasmtime.shim/keyvalue that is a URL",
            ),
            (
                "keyvalue-password-file",
                "open sesame",
                "annotation wasmtime.shim/keyvalue-password-file: the value is not valid; allowed is an absolute path",
            ),
            ("http-max-requests", "0", "a whole number of at least 1"),
            ("max-memory", "0", "a size of at least 64Ki, such as 64Mi"),
            ("timeout", "30", "a whole number with ms, s, m or h, such as 30s"),
            ("log-rate", "none", "a whole number of at least 1"),
        ] {
            let text = parse(&format!("{PREFIX}{key}"), value).expect_err("is refused");
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    #[test]
    fn a_password_is_for_the_redis_that_another_annotation_names() {
        let of = |store: &str| {
            let all = [("keyvalue", store), ("keyvalue-password-file", "/etc/redis/password")];
            let all = all.map(|(key, value)| (format!("{PREFIX}{key}"), value.to_owned()));
            Annotations::parse(&all.into())
        };
        let annotations = of("redis://cache:7000").expect("is possible");
        let Some(KeyValue::Redis(redis)) = annotations.keyvalue else { panic!("is Redis") };
        assert_eq!(redis.password.as_deref(), Some(Path::new("/etc/redis/password")));
        let target = "cache:7000".parse().expect("a destination");
        assert_eq!(annotations.requested.reached, [(KEYVALUE, target)]);
        let used = &annotations.requested.used;
        assert_eq!(used.len(), 1, "the URL is no path: {used:?}");
        of("/data/store").expect_err("a file has no password");
    }

    #[test]
    fn an_annotation_that_there_is_not_is_refused_with_the_nearest() {
        for key in ["core-dump", "metrics", "Http-Listen"] {
            let text = parse(&format!("{PREFIX}{key}"), "/x").expect_err("is refused");
            assert!(text.contains(key) && text.contains("did you mean"), "{text}");
        }
    }
}
