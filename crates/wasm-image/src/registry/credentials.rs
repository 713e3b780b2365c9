//! Reads the credentials of `docker login` and `podman login`, from files or credential helpers.
//!
//! The first file that has any for the registry is used: `$REGISTRY_AUTH_FILE`, then docker's
//! `$DOCKER_CONFIG/config.json` (`~/.docker`), then podman's `$XDG_RUNTIME_DIR/containers/auth.json` and
//! `~/.config/containers/auth.json`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use serde_json::Value;

use crate::errors::Error;

/// Names of docker's own registry in these files.
const DOCKER_HUB: [&str; 2] = ["index.docker.io", "https://index.docker.io/v1/"];

/// Credentials and their source.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// Name of the user.
    pub user: String,
    /// Password or token.
    pub secret: String,
    /// The file they are from.
    pub origin: String,
}

/// Looks for the credentials for a repository.
///
/// # Errors
/// [`Error::Credentials`].
pub fn find(registry: &str, repository: &str) -> Result<Option<Found>, Error> {
    for file in files(|name| env::var_os(name).map(PathBuf::from)) {
        if let Some(found) = in_file(&file, registry, repository)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns the files that may have credentials.
fn files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = |below: &str| variable("HOME").map(|home| home.join(below));
    let podman = "containers/auth.json";
    let files = [
        variable("REGISTRY_AUTH_FILE"),
        variable("DOCKER_CONFIG").or_else(|| home(".docker")).map(|it| it.join("config.json")),
        variable("XDG_RUNTIME_DIR").map(|it| it.join(podman)),
        variable("XDG_CONFIG_HOME").or_else(|| home(".config")).map(|it| it.join(podman)),
    ];
    files.into_iter().flatten().collect()
}

fn in_file(file: &Path, registry: &str, repository: &str) -> Result<Option<Found>, Error> {
    let origin = file.display().to_string();
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Credentials(format!("cannot read {origin}: {error}"))),
    };
    let json: Value = serde_json::from_slice(&text)
        .map_err(|error| Error::Credentials(format!("{origin} is not JSON: {error}")))?;
    let key = key(&json, registry, repository);
    match get_credential_from_reader(text.as_slice(), &key) {
        Ok(DockerCredential::UsernamePassword(user, secret)) => {
            Ok(Some(Found { user, secret, origin }))
        }
        Ok(DockerCredential::IdentityToken(_)) => Err(Error::Credentials(format!(
            "{origin} has an identity token for {registry}, which is not supported: \
             log in with a user and a password or access token"
        ))),
        Err(error) => none_or(error, &origin, registry),
    }
}

/// Returns the longest name for which the file has credentials, because podman stores them for parts of a registry.
fn key(json: &Value, registry: &str, repository: &str) -> String {
    if registry == DOCKER_HUB[0] {
        return DOCKER_HUB[1].into();
    }
    let whole = format!("{registry}/{repository}");
    let parents = whole.rmatch_indices('/').map(|(at, _)| &whole[..at]);
    let is_there = |name: &&str| json["auths"].get(name).is_some();
    [whole.as_str()].into_iter().chain(parents).find(is_there).unwrap_or(registry).to_owned()
}

/// Returns `Ok` if the error means that there are no credentials.
fn none_or(
    error: CredentialRetrievalError,
    origin: &str,
    registry: &str,
) -> Result<Option<Found>, Error> {
    let reason = match error {
        CredentialRetrievalError::NoCredentialConfigured => return Ok(None),
        CredentialRetrievalError::HelperFailure { helper, stdout, stderr } => {
            let said = format!("{} {}", stdout.trim(), stderr.trim());
            // Helpers report this text, whatever their storage is (docker-credential-helpers).
            if said.contains("credentials not found") {
                return Ok(None);
            }
            format!("{helper} fails: {}", said.trim())
        }
        CredentialRetrievalError::HelperCommunicationError => {
            "its credential helper cannot be run".to_owned()
        }
        other => other.to_string().to_lowercase(),
    };
    Err(Error::Credentials(format!("{origin} gives no credentials for {registry}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, registry: &str) -> Result<Option<(String, String)>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        fs::write(&file, text).unwrap();
        let found = in_file(&file, registry, "team/app")?;
        Ok(found.map(|it| (it.user, it.secret)))
    }

    fn some(user: &str, secret: &str) -> Option<(String, String)> {
        Some((user.into(), secret.into()))
    }

    #[test]
    fn the_most_exact_name_wins() {
        // ci:one, ci:two
        let text = r#"{"auths": {"r.example": {"auth": "Y2k6b25l"},
                                 "r.example/team": {"auth": "Y2k6dHdv"}, "r.example/te": {}}}"#;
        assert_eq!(found(text, "r.example").unwrap(), some("ci", "two"));
        assert_eq!(found(text, "other.example").unwrap(), None);
    }

    #[test]
    fn the_docker_hub_has_its_old_name() {
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "Y2k6b25l"}}}"#;
        assert_eq!(found(text, "index.docker.io").unwrap(), some("ci", "one"));
    }

    #[test]
    fn what_is_there_and_of_no_use_is_an_error() {
        for (text, word) in [
            ("{", "is not JSON"),
            (r#"{"auths": {"r.example": {"identitytoken": "x"}}}"#, "identity token"),
            (r#"{"credHelpers": {"r.example": "no-such-helper"}}"#, "cannot be run"),
            (r#"{"auths": {"r.example": {"auth": "?"}}}"#, "unable to decode"),
        ] {
            let error = found(text, "r.example").unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.exit_code(), 4);
        }
    }

    #[test]
    fn the_files_are_docker_s_and_podman_s() {
        let variable = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/h")),
            "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run/user/1")),
            _ => None,
        };
        let expected = [
            "/h/.docker/config.json",
            "/run/user/1/containers/auth.json",
            "/h/.config/containers/auth.json",
        ];
        assert_eq!(files(variable), expected.map(PathBuf::from));
        let chosen = files(|name| (name == "DOCKER_CONFIG").then(|| "/ci".into()));
        assert_eq!(chosen, [PathBuf::from("/ci/config.json")]);
    }
}
