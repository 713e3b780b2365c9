//! What a guest may do: its grants, the node's policy, and hostile guests that try more.

mod climbing;
mod code;
mod files;
mod interfaces;
mod limits;
mod names;
mod neighbours;
mod network;
mod policy;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::logs::Logs;
use tests::{Container, Node, Pod, RunningPod, command, network as networks};

/// Handler whose runtime options name a policy.
const POLICY: &str = "wasmtime-policy";

/// Handler for which containerd passes some annotations on, and not those of grants.
const PARTIAL: &str = "wasmtime-partial";

/// Handler of a stock node, on which containerd is not configured to pass annotations on.
const STOCK: &str = "wasmtime-stock";

const CONNECT: &str = "wasmtime.shim/allow-connect";
const HTTP: &str = "wasmtime.shim/allow-http";
const FILES: &str = "wasmtime.shim/files";
const PROFILE: &str = "wasmtime.shim/profile";

/// A metadata service of clouds.
const METADATA: &str = "169.254.169.254";

/// Another address of the Pod.
const OTHER: &str = "192.0.2.7";

/// Port of the server on all these addresses.
const SERVER: u16 = 8123;

/// A server in the Pod's network, also on the address of a metadata service: everything that is allowed is answered.
struct Server {
    reached: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(pod: &RunningPod) -> Result<Server> {
        let listener = networks::within(&pod.network, || {
            for address in [METADATA, OTHER] {
                command::must(&format!("ip address add {address}/32 dev lo"))?;
            }
            Ok(TcpListener::bind(("0.0.0.0", SERVER))?)
        })?;
        Server::of(listener)
    }

    fn of(listener: TcpListener) -> Result<Server> {
        listener.set_nonblocking(true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let reached = Arc::<Mutex<Vec<String>>>::default();
        let (ends, notes) = (is_over.clone(), reached.clone());
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => {
                        let address = client.local_addr().map(|it| it.ip().to_string());
                        notes.lock().unwrap().extend(address);
                        drop(answer(client));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Ok(Server { reached, is_over, thread: Some(thread) })
    }

    /// The addresses to which clients have connected.
    fn reached(&self) -> Vec<String> {
        self.reached.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers a client, which may send no request. `/moved/HOST` leads to the same port of that host.
fn answer(mut client: std::net::TcpStream) -> Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut request = [0; 1024];
    let length = client.read(&mut request).unwrap_or(0);
    let request = String::from_utf8_lossy(&request[..length]);
    let moved = request.strip_prefix("GET /moved/").and_then(|rest| rest.split(' ').next());
    let (status, body) = match moved {
        Some(host) => (format!("302 Found\r\nLocation: http://{host}:{SERVER}/"), "moved\n"),
        None => ("200 OK".to_owned(), "reached\n"),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    Ok(client.write_all(format!("{head}{body}").as_bytes())?)
}

/// Names of the Pod: one that is what it seems, and one that an attacker has pointed at the metadata service.
fn hosts(node: &Node) -> Result<PathBuf> {
    let file = node.volume("hosts")?.join("hosts");
    let text = format!("{OTHER} redis\n{OTHER} other\n{METADATA} rebound\n127.0.0.1 localhost\n");
    fs::write(&file, text)?;
    Ok(file)
}

/// Runs the guest `hello` to its end.
fn run(pod: &RunningPod, container: Container) -> Result<(i32, Logs)> {
    let container = pod.run(&container)?;
    Ok((container.wait()?.code, container.logs()?))
}

/// A Pod with these annotations, on a handler with the node's file.
fn under_policy<'a>(node: &'a Node, annotations: &[(&str, &str)]) -> Result<RunningPod<'a>> {
    let pod = Pod::new(&number("policy")).handler(POLICY);
    node.run_pod(&annotations.iter().fold(pod, |pod, (key, value)| pod.annotation(key, value)))
}

/// Error with which a container of the image is refused in such a Pod.
fn refusal(node: &Node, image: &str, annotations: &[(&str, &str)]) -> Result<String> {
    let pod = under_policy(node, annotations)?;
    let refused = pod.run(&Container::new("app", image)).map(drop);
    Ok(format!("{:#}", refused.err().context("it runs")?))
}

fn number(name: &str) -> String {
    use std::sync::atomic::AtomicU32;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a guest gets that connects to `target`.
fn connected(node: &Node, pod: &RunningPod, hosts: &Path, target: &str) -> Result<(i32, Logs)> {
    let container = Container::new(&number("connect"), &node.image("hello")?);
    let container = container.args(&["tcp-connect", target]).readonly_mount(hosts, "/etc/hosts");
    run(pod, container)
}

fn is_reached(answer: &(i32, Logs)) -> bool {
    answer.0 == 0 && answer.1.stdout.ends_with("reached\n")
}

/// Checks that a call was denied with the interface's own error, and that stderr says so.
fn assert_denied(answer: &(i32, Logs), parts: &[&str]) {
    let (code, logs) = answer;
    assert_eq!((*code, logs.stdout.as_str()), (1, ""), "{logs:?}");
    for part in parts.iter().chain(&["denied: ", "access-denied"]) {
        assert!(logs.stderr.contains(part), "no {part:?} in {}", logs.stderr);
    }
}
