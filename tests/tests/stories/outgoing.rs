//! Requests that guests send.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, RunningPod, certificates, on_each_containerd};

use crate::pod::{LISTEN, PORT};

/// Of a server beside the guest.
pub const OTHER: u16 = 8443;

/// The variable of a file with the certificates that are trusted.
pub const ROOTS: &str = "SSL_CERT_FILE";

/// What the guest that serves at `port` got from `url`.
fn fetched(pod: &RunningPod, port: u16, url: &str) -> Result<(u16, String)> {
    let answer = pod.http_get(port, &format!("/fetch?url={url}"))?;
    Ok((answer.status, answer.body))
}

/// The state of a socket that listens.
const LISTENING: &str = "0A";

/// The state of a socket that is connected.
const ESTABLISHED: &str = "01";

/// A socket of TCP.
struct Socket {
    local: u16,
    remote: u16,
    state: String,
}

/// Those of a Pod's network namespace (proc(5), `/proc/net/tcp`).
fn sockets(pod: &RunningPod) -> Result<Vec<Socket>> {
    let (pid, mut sockets) = (pod.process()?.pid, Vec::new());
    for file in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{file}"))?;
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, ..] = fields[..] else { bail!("{file}: {line}") };
            let (local, remote) = (port(local)?, port(remote)?);
            sockets.push(Socket { local, remote, state: state.to_owned() });
        }
    }
    Ok(sockets)
}

/// How many connections of a Pod lead to a port, and are not ended by both sides.
pub fn connections_to(pod: &RunningPod, port: u16) -> Result<usize> {
    let is_one = |socket: &&Socket| socket.remote == port && socket.state == ESTABLISHED;
    Ok(sockets(pod)?.iter().filter(is_one).count())
}

fn port(address: &str) -> Result<u16> {
    let (_, port) = address.rsplit_once(':').context("no port")?;
    Ok(u16::from_str_radix(port, 16)?)
}

#[test]
fn requests_of_several_instances_go_over_one_connection() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("reuse"))?;
        let image = node.image("hello-http")?;
        pod.run(&Container::new("front", &image))?;
        let address = format!("127.0.0.1:{OTHER}");
        let back = Container::new("back", &image).env(LISTEN, &address);
        let back = pod.run(&back)?;
        assert_eq!(pod.http_get(OTHER, "/")?.status, 200);
        for _ in 0..5 {
            let answer = fetched(&pod, PORT, &format!("http://{address}/args"))?;
            assert_eq!(answer, (200, "200\n/hello-http.wasm\n".into()));
        }
        // One, and those of the first request, which is curl's, as they end.
        let count = sockets(&pod)?.iter().filter(|socket| socket.remote == OTHER).count();
        assert!(count <= 3, "{count} connections");
        back.stop(std::time::Duration::from_secs(10))?;
        let (status, reason) = fetched(&pod, PORT, &format!("http://{address}/args"))?;
        assert_eq!((status, reason.contains("ConnectionRefused")), (502, true), "{reason}");
        Ok(())
    })
}

/// A server of TLS in the Pod, whose certificate for `localhost` is signed by an authority of its own.
pub struct TlsServer(Child);

impl TlsServer {
    /// Starts it with its files in this directory, of which `ca.pem` is the authority.
    pub fn start(pod: &RunningPod, folder: &Path) -> Result<TlsServer> {
        certificates::make(folder, "DNS:localhost,IP:127.0.0.1")?;
        let server = Command::new("nsenter")
            .arg(format!("--net={}", pod.network.display()))
            .args(["openssl", "s_server", "-quiet", "-www", "-accept", &OTHER.to_string()])
            .args(["-cert", "cert.pem", "-key", "key.pem"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = TlsServer(server);
        let listens = |socket: &Socket| socket.local == OTHER && socket.state == LISTENING;
        wait::until(SOON, "openssl to listen", || {
            Ok(sockets(pod)?.iter().any(listens).then_some(()))
        })?;
        Ok(server)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn tls(node: &Node) -> Result<()> {
    let pod = node.run_pod(&Pod::new("tls"))?;
    let folder = node.volume("tls")?;
    let _server = TlsServer::start(&pod, &folder)?;
    let image = node.image("hello-http")?;
    let server = |name: &str, port: u16, roots: Option<&str>| {
        let address = format!("127.0.0.1:{port}");
        let container =
            Container::new(name, &image).env(LISTEN, &address).readonly_mount(&folder, "/etc/tls");
        pod.run(&match roots {
            Some(roots) => container.env(ROOTS, roots),
            None => container,
        })
    };
    server("trusting", 8081, Some("/etc/tls/ca.pem"))?;
    server("stranger", 8082, None)?;
    let misled = server("misled", 8083, Some("/etc/tls/missing.pem"))?;
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{OTHER}/");
        let (status, text) = fetched(&pod, 8081, &url)?;
        assert_eq!((status, text.starts_with("200\n")), (200, true), "{host}: {text}");
    }
    for port in [8082, 8083] {
        let (status, reason) = fetched(&pod, port, &format!("https://localhost:{OTHER}/"))?;
        assert_eq!((status, reason.contains("TlsCertificateError")), (502, true), "{reason}");
    }
    misled.wait_for_error("warning: SSL_CERT_FILE: /etc/tls/missing.pem: No such file")
}

#[test]
fn tls_is_spoken_with_those_that_the_containers_own_file_trusts() -> Result<()> {
    on_each_containerd(tls)
}
