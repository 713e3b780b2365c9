//! A repository in a registry (OCI distribution specification).
//!
//! Read [`Remote`] here, then [`pull`] and [`push`]. [`retry`] repeats requests, [`answers`] turns answers without
//! success into errors, [`auth`] and [`credentials`] authenticate, and [`origin`], [`trust`] and [`proxy`] decide which
//! servers are trusted. [`referrers`] finds what refers to an image, such as signatures. `oci-client` does the
//! authentication. The requests themselves are here, because `oci-client` does not return how long a registry asks to
//! wait, and does not continue an upload that was cut.

mod answers;
mod auth;
mod credentials;
mod origin;
mod proxy;
mod pull;
mod push;
mod referrers;
mod retry;
mod trust;

use std::path::PathBuf;

use anyhow::{Context, Result};
use oci_client::{Reference, RegistryOperation};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url};

use crate::errors::Error;
use crate::limits;
use auth::Auth;
pub use retry::Retries;

/// Header with the digest of the content (OCI distribution specification, "Pulling manifests").
const CONTENT_DIGEST: &str = "docker-content-digest";

/// How to reach registries.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Use HTTP instead of HTTPS for a registry on this machine (127.0.0.0/8, ::1, localhost)
    #[arg(long)]
    pub plain_http: bool,

    /// A file with certificates of authorities to trust, in addition to those of the system (or of SSL_CERT_FILE)
    #[arg(long, value_name = "FILE.pem")]
    pub ca_file: Vec<PathBuf>,

    /// How often a request is repeated if the registry answers 429 or 5xx, or the connection is cut
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub retries: u32,
}

/// A repository, and the name of an image in it.
#[derive(Debug)]
pub struct Remote {
    /// The image.
    pub reference: Reference,
    client: Client,
    auth: Auth,
    base: Url,
    retries: u32,
}

impl Remote {
    /// Makes a client for the repository of `reference`. It does not send anything yet.
    ///
    /// # Errors
    /// [`Error::Usage`] for plain HTTP to another machine, and errors of credentials that cannot be read.
    pub fn new(reference: Reference, options: &Options) -> Result<Self> {
        let registry = reference.resolve_registry().to_owned();
        if options.plain_http && !origin::is_loopback(&registry) {
            let text = format!("--plain-http is for registries on this machine, not {registry}");
            return Err(Error::Usage(text).into());
        }
        // This fails if another repository has installed the provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scheme = if options.plain_http { "http" } else { "https" };
        let base = format!("{scheme}://{registry}/v2/{}/", reference.repository());
        let authorities = trust::authorities(&options.ca_file)?;
        let is_local = origin::is_loopback(&registry);
        Ok(Self {
            base: Url::parse(&base).with_context(|| format!("{registry} is not a registry"))?,
            client: client(options.plain_http, is_local, &authorities)?,
            auth: Auth::new(&reference, options.plain_http, &authorities)?,
            retries: options.retries,
            reference,
        })
    }

    /// Returns host and port, for messages.
    pub fn registry(&self) -> &str {
        self.reference.resolve_registry()
    }

    /// Returns registry and repository, for messages.
    pub fn title(&self) -> String {
        format!("{}/{}", self.reference.registry(), self.reference.repository())
    }

    /// Returns whether the connection is unencrypted, because the registry is on this machine.
    fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    fn retries(&self) -> Retries {
        Retries::new(self.retries)
    }

    fn url(&self, path: &str) -> Result<Url> {
        Ok(self.base.join(path)?)
    }

    /// Sends a request until the answer is no passing failure.
    async fn send(
        &self,
        task: &Task<'_>,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response> {
        let mut retries = self.retries();
        loop {
            match self.send_once(task, &request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => retries.wait(error).await?,
            }
        }
    }

    /// Sends a request. If the registry no longer accepts its token, fetches another one and sends the request once
    /// more.
    async fn send_once(
        &self,
        task: &Task<'_>,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response> {
        let (client, mut request) = request(&self.client).build_split();
        let body = request.as_mut().ok().and_then(|it| it.try_clone());
        let answer = self.execute(task, &client, request).await?;
        match (answer.status(), body) {
            (StatusCode::UNAUTHORIZED, Some(again)) if self.auth.forget(task.operation).await => {
                let answer = self.execute(task, &client, Ok(again)).await?;
                self.check(task, answer).await
            }
            _ => self.check(task, answer).await,
        }
    }

    async fn execute(
        &self,
        task: &Task<'_>,
        client: &Client,
        request: reqwest::Result<reqwest::Request>,
    ) -> Result<Response> {
        let request = request.with_context(|| format!("cannot {}", task.what))?;
        let is_own = origin::same(request.url(), &self.base);
        let mut request = RequestBuilder::from_parts(client.clone(), request);
        if is_own {
            request = self.auth.apply(&self.reference, task, request).await?;
        }
        let answer = request.send().await;
        Ok(answer.map_err(|error| answers::unreachable(self.registry(), task.what, &error))?)
    }

    /// Returns the answer if it is a success.
    async fn check(&self, task: &Task<'_>, answer: Response) -> Result<Response> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(answers::error(self, task, answer).await.into())
    }
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    /// The action, as text that follows "cannot be used to".
    what: &'a str,
    /// The thing that does not exist if the answer is 404.
    subject: &'a str,
    operation: RegistryOperation,
}

fn client(is_plain: bool, is_local: bool, authorities: &[Vec<u8>]) -> Result<Client> {
    let authorities: reqwest::Result<Vec<_>> =
        authorities.iter().map(|it| Certificate::from_der(it)).collect();
    let mut builder = ClientBuilder::new()
        .user_agent(concat!("wasm-image/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits::CONNECT_TIME)
        .read_timeout(limits::SILENCE)
        .tcp_user_timeout(limits::SILENCE)
        .tls_certs_merge(authorities.context("--ca-file has an invalid certificate")?)
        .https_only(!is_plain)
        .redirect(origin::redirects(is_plain));
    if is_local {
        builder = builder.no_proxy();
    }
    let failed = || format!("cannot set up TLS; of an authority, {}", trust::ADVICE);
    builder.build().with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_to_another_machine_is_a_mistake() {
        let reference: Reference = "registry.example/app:1".parse().unwrap();
        let error = Remote::new(reference, &Options { plain_http: true, ..Options::default() })
            .unwrap_err();
        assert_eq!(crate::errors::exit_code(&error), 2, "{error}");
    }
}
