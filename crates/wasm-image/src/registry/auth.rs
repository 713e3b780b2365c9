//! Sets the `Authorization` header of each request, with `oci-client`, which knows the registries' challenges and token
//! services.

use anyhow::Result;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use reqwest::{RequestBuilder, StatusCode};
use tokio::sync::Mutex;

use super::credentials::{self, Found};
use super::{Task, answers, origin};
use crate::errors::Error;
use crate::limits;

/// A bearer token. `None` if the registry wants the credentials themselves, or nothing.
type Token = Option<String>;

/// The credentials for one registry, and the tokens that it gave for them.
pub struct Auth {
    client: Client,
    credentials: RegistryAuth,
    /// Source of the credentials, as text.
    origin: Option<String>,
    /// Tokens to pull and to push, if the registry gives tokens. Unknown before the first request.
    tokens: Mutex<[Option<Token>; 2]>,
}

impl Auth {
    /// Reads the credentials for an image.
    pub fn new(reference: &Reference, plain_http: bool, authorities: &[Vec<u8>]) -> Result<Self> {
        let registry = reference.resolve_registry();
        let found = credentials::find(registry, reference.repository())?;
        let (credentials, origin) = match found {
            Some(Found { user, secret, origin }) => {
                (RegistryAuth::Basic(user, secret), Some(origin))
            }
            None => (RegistryAuth::Anonymous, None),
        };
        let config = ClientConfig {
            protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(limits::CONNECT_TIME),
            read_timeout: Some(limits::SILENCE),
            user_agent: concat!("wasm-image/", env!("CARGO_PKG_VERSION")),
            extra_root_certificates: authorities.iter().map(|it| certificate(it)).collect(),
            ..ClientConfig::default()
        };
        let config = if origin::is_loopback(registry) { without_proxy(config) } else { config };
        Ok(Self {
            client: Client::try_from(config)?,
            credentials,
            origin,
            tokens: Mutex::default(),
        })
    }

    /// Adds the authorization that the registry requires to a request.
    pub async fn apply(
        &self,
        reference: &Reference,
        task: &Task<'_>,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, Error> {
        let token = self.token(reference, task).await?;
        Ok(match (token, &self.credentials) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(user, secret)) => request.basic_auth(user, Some(secret)),
            (None, _) => request,
        })
    }

    async fn token(&self, reference: &Reference, task: &Task<'_>) -> Result<Token, Error> {
        let mut tokens = self.tokens.lock().await;
        let known = &mut tokens[index(task.operation)];
        if let Some(token) = known {
            return Ok(token.clone());
        }
        let asked = self.client.auth(reference, &self.credentials, task.operation).await;
        let token = asked.map_err(|error| self.refusal(reference, task, error))?;
        *known = Some(token.clone());
        Ok(token)
    }

    /// Drops a token that may have expired. Returns whether there was one.
    pub async fn forget(&self, operation: RegistryOperation) -> bool {
        self.tokens.lock().await[index(operation)].take().flatten().is_some()
    }

    /// Returns the owner of the credentials as text.
    pub fn who(&self) -> String {
        match &self.credentials {
            RegistryAuth::Basic(user, _) => format!("user {user}"),
            _ => "anybody".into(),
        }
    }

    /// Returns what to do if the credentials are not sufficient.
    pub fn advice(&self, registry: &str) -> String {
        match &self.origin {
            Some(origin) => format!("the credentials are from {origin}"),
            None => format!("log in with `docker login {registry}` or `podman login {registry}`"),
        }
    }

    fn refusal(
        &self,
        reference: &Reference,
        task: &Task<'_>,
        error: OciDistributionError,
    ) -> Error {
        let (registry, what) = (reference.resolve_registry(), task.what);
        match error {
            OciDistributionError::RequestError(error) => {
                answers::unreachable(registry, what, &error)
            }
            OciDistributionError::AuthenticationFailure(_) => Error::Denied {
                registry: registry.into(),
                who: self.who(),
                what: what.into(),
                status: StatusCode::UNAUTHORIZED.as_u16(),
                detail: " (its token service gives no token)".into(),
                advice: self.advice(registry),
            },
            other => {
                let reason = other.to_string();
                Error::Refused { registry: registry.into(), what: what.into(), reason }
            }
        }
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("who", &self.who()).finish_non_exhaustive()
    }
}

fn certificate(authority: &[u8]) -> Certificate {
    Certificate { encoding: CertificateEncoding::Der, data: authority.to_vec() }
}

/// Disables the proxy, because a registry on this machine is not behind one. Naming a proxy is the only way to disable
/// that of the environment.
fn without_proxy(config: ClientConfig) -> ClientConfig {
    let none = Some("http://127.0.0.1".to_owned());
    let no_proxy = Some("127.0.0.0/8,::1,localhost".to_owned());
    ClientConfig { http_proxy: none.clone(), https_proxy: none, no_proxy, ..config }
}

fn index(operation: RegistryOperation) -> usize {
    usize::from(operation == RegistryOperation::Push)
}
