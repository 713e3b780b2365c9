//! Client of the Kubernetes API: it labels a node, and changes the command of a DaemonSet.

use std::env;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::args::{ApiArgs, Retire};
use crate::cri;
use crate::errors::Error;

/// Label of a node whose containerd has the handler. RuntimeClasses select nodes by it.
pub const LABEL: &str = "wasmtime.shim/ready";

/// Directory with a Pod's credentials (Kubernetes, "Accessing the Kubernetes API from a Pod").
const CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Container of the DaemonSet that works on the node.
const CONTAINER: &str = "install";

const LIMIT: Duration = Duration::from_secs(30);

const INTERVAL: Duration = Duration::from_secs(2);

/// A client of the API server.
#[derive(Debug)]
pub struct Api {
    server: String,
    token: String,
    tls: ClientConfig,
}

impl Api {
    /// Makes a client with the address and the credentials that the Pod got.
    pub fn of_pod(args: &ApiArgs) -> Result<Self> {
        let server = args.api_server.clone().or_else(service).context(
            "cannot find the API server: KUBERNETES_SERVICE_HOST is not set; name the server with --api-server",
        )?;
        let read = |name: &str| {
            let path = Path::new(CREDENTIALS).join(name);
            fs::read(&path).map_err(Error::file("read", &path))
        };
        let token =
            String::from_utf8(read("token")?).context("the token of the service account")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&read("ca.crt")?) {
            roots.add(certificate.context("the certificates of the API server")?)?;
        }
        let provider = rustls::crypto::ring::default_provider().into();
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        Ok(Self {
            server: server.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
            tls,
        })
    }

    /// Labels a node, or removes the label.
    pub fn label(&self, node: &str, is_ready: bool) -> Result<()> {
        let value = if is_ready { json!("true") } else { Value::Null };
        let patch = json!({ "metadata": { "labels": { LABEL: value } } });
        let what = format!("label node {node:?}");
        self.ask(&what, Method::PATCH, &format!("/api/v1/nodes/{node}"), Some(&patch)).map(drop)
    }

    fn ask(&self, what: &str, method: Method, path: &str, patch: Option<&Value>) -> Result<Value> {
        let failed = |reason: String| Error::Api { what: what.to_owned(), reason };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "application/json")
            .header("content-type", "application/strategic-merge-patch+json")
            .body(Full::new(Bytes::from(patch.map(Value::to_string).unwrap_or_default())))?;
        let answer = cri::runtime()?
            .block_on(async { timeout(LIMIT, self.send(request)).await.context("no answer")? });
        let (status, body) = answer.map_err(|error| failed(format!("{error:#}")))?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !(200..300).contains(&status) {
            let message = body["message"].as_str().unwrap_or_default();
            return Err(failed(format!("HTTP {status} {message}")).into());
        }
        Ok(body)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
        let connector = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone());
        let connector = connector.https_only().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let answer = client.request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

/// Returns the API server's address from the Pod's environment.
fn service() -> Option<String> {
    let host = env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".into());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}

/// Gives a DaemonSet another command, and waits until it has run on all nodes.
pub fn retire(options: &Retire) -> Result<()> {
    let api = Api::of_pod(&options.api)?;
    let (namespace, name) = (&options.namespace, &options.name);
    let path = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}");
    let what = format!("retire DaemonSet \"{namespace}/{name}\"");
    let container = json!({ "name": CONTAINER, "args": options.args });
    let patch = json!({ "spec": { "template": { "spec": { "initContainers": [container] } } } });
    let patched = api.ask(&what, Method::PATCH, &path, Some(&patch))?;
    let generation = patched["metadata"]["generation"].as_i64().unwrap_or_default();
    let start = Instant::now();
    loop {
        let state = api.ask(&what, Method::GET, &path, None)?;
        let state = Rollout::of(&state["status"]);
        if state.observed >= generation && state.is_done() {
            println!("done on all {} nodes", state.desired);
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(options.wait) {
            let reason = format!(
                "done on {} of {} nodes within {} s; `kubectl logs --namespace {namespace} --container {CONTAINER}` of its \
                 Pods has the reason",
                state.ready.min(state.updated),
                state.desired,
                options.wait
            );
            return Err(Error::Api { what, reason }.into());
        }
        sleep(INTERVAL);
    }
}

/// Progress of a DaemonSet.
struct Rollout {
    observed: i64,
    desired: i64,
    updated: i64,
    ready: i64,
}

impl Rollout {
    fn of(status: &Value) -> Self {
        let number = |key: &str| status[key].as_i64().unwrap_or_default();
        Self {
            observed: number("observedGeneration"),
            desired: number("desiredNumberScheduled"),
            updated: number("updatedNumberScheduled"),
            ready: number("numberReady"),
        }
    }

    fn is_done(&self) -> bool {
        self.updated == self.desired && self.ready == self.desired
    }
}
