//! What a guest may do: its grants, the node's policy, and hostile guests that try more.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::containerd::repository;
use tests::logs::Logs;
use tests::{Container, Node, Pod, RunningPod, command, config, network, on_each_containerd};

use crate::composing::packed_with;
use crate::pod::PORT;

/// Handler whose runtime options name a policy.
const POLICY: &str = "wasmtime-policy";

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
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(pod: &RunningPod) -> Result<Server> {
        let listener = network::within(&pod.network, || {
            for address in [METADATA, OTHER] {
                command::must(&format!("ip address add {address}/32 dev lo"))?;
            }
            Ok(TcpListener::bind(("0.0.0.0", SERVER))?)
        })?;
        listener.set_nonblocking(true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = is_over.clone();
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => drop(answer(client)),
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Ok(Server { is_over, thread: Some(thread) })
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

/// Answers a client, which may send no request. `/moved` leads to the metadata service.
fn answer(mut client: std::net::TcpStream) -> Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut request = [0; 1024];
    let length = client.read(&mut request).unwrap_or(0);
    let is_moved = request[..length].starts_with(b"GET /moved");
    let (status, body) = if is_moved {
        (format!("302 Found\r\nLocation: http://{METADATA}:{SERVER}/"), "moved\n")
    } else {
        ("200 OK".to_owned(), "reached\n")
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

#[test]
fn the_metadata_service_of_a_cloud_is_denied_by_default_and_nothing_else_is() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("default"))?;
        let _server = Server::start(&pod)?;
        let hosts = hosts(node)?;
        for host in [METADATA, "rebound"] {
            let target = format!("{host}:{SERVER}");
            let answer = connected(node, &pod, &hosts, &target)?;
            let line = format!(
                "denied: TCP connection to {METADATA}:{SERVER}: a metadata service of clouds, which the profile \
                 baseline forbids; {CONNECT} \"{METADATA}:{SERVER}\" would allow it\n"
            );
            assert_denied(&answer, &[&line]);
        }
        for host in [OTHER, "redis", "127.0.0.1"] {
            let answer = connected(node, &pod, &hosts, &format!("{host}:{SERVER}"))?;
            assert!(is_reached(&answer), "{host}: {answer:?}");
        }
        Ok(())
    })
}

#[test]
fn a_pod_that_names_destinations_reaches_no_others() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        for (handler, name) in [("wasmtime", "named"), (STOCK, "named-stock")] {
            let granted = format!("redis:{SERVER}, rebound:{SERVER}, 127.0.0.0/8:{SERVER}");
            let pod = Pod::new(name).handler(handler).annotation(CONNECT, &granted);
            let pod = node.run_pod(&pod)?;
            let _server = Server::start(&pod)?;
            let try_to = |host: &str| connected(node, &pod, &hosts, &format!("{host}:{SERVER}"));
            for host in ["redis", "127.0.0.1"] {
                let answer = try_to(host)?;
                assert!(is_reached(&answer), "{host}: {answer:?}");
            }
            // The same address without the name, and by another one.
            for host in [OTHER, "other"] {
                let grant = format!("not granted; {CONNECT} \"{OTHER}:{SERVER}\" would allow it");
                assert_denied(&try_to(host)?, &[&grant]);
            }
            assert_denied(&try_to("rebound")?, &["a metadata service of clouds"]);
            let port = connected(node, &pod, &hosts, "127.0.0.1:22")?;
            assert_denied(&port, &["TCP connection to 127.0.0.1:22: not granted"]);
        }
        Ok(())
    })
}

#[test]
fn a_restricted_guest_looks_up_only_granted_names() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let pod = Pod::new("restricted").annotation(PROFILE, "restricted");
        let pod = node.run_pod(&pod.annotation(CONNECT, &format!("redis:{SERVER}")))?;
        let _server = Server::start(&pod)?;
        let try_to = |host: &str| connected(node, &pod, &hosts, &format!("{host}:{SERVER}"));
        assert!(is_reached(&try_to("redis")?));
        assert_denied(&try_to("other")?, &["look-up of the name \"other\": not granted"]);
        assert_denied(&try_to("127.0.0.1")?, &["not granted"]);
        // It has no files either.
        let cat = Container::new("cat", &node.image("hello")?).args(&["cat", "/hello.wasm"]);
        assert_eq!(run(&pod, cat)?.0, 1);
        Ok(())
    })
}

#[test]
fn a_request_goes_to_granted_hosts_at_the_addresses_that_were_checked() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let granted = format!("http://redis:{SERVER}, http://rebound:{SERVER}");
        let pod = node.run_pod(&Pod::new("requests").annotation(HTTP, &granted))?;
        let _server = Server::start(&pod)?;
        let image = node.image("hello-http")?;
        let server = Container::new("server", &image).readonly_mount(&hosts, "/etc/hosts");
        let server = pod.run(&server)?;
        let fetch = |url: &str| -> Result<(u16, String)> {
            let answer = pod.http_get(PORT, &format!("/fetch?url=http://{url}"))?;
            Ok((answer.status, answer.body))
        };
        let reached = (200, "200\nreached\n".to_owned());
        // Twice: the second one may use a connection that was kept.
        for _ in 0..2 {
            assert_eq!(fetch(&format!("redis:{SERVER}/"))?, reached);
        }
        // It leads to the metadata service.
        let (status, reason) = fetch(&format!("redis:{SERVER}/moved"))?;
        assert_eq!((status, reason.contains("HttpRequestDenied")), (502, true), "{reason}");
        for host in [METADATA, "rebound", "other", OTHER, "127.0.0.1"] {
            let (status, reason) = fetch(&format!("{host}:{SERVER}/"))?;
            assert_eq!(status, 502, "{host}: {reason}");
            assert!(reason.contains("HttpRequestDenied"), "{host}: {reason}");
        }
        assert!(fetch("redis:9/")?.1.contains("HttpRequestDenied"));
        for line in [
            format!(
                "denied: HTTP request to http://other:{SERVER}: not granted; {HTTP} \"http://other:{SERVER}\""
            ),
            format!(
                "denied: HTTP request to http://rebound:{SERVER} at {METADATA}: a metadata service"
            ),
        ] {
            server.wait_for_error(&line)?;
        }
        // A refusal is reported once.
        let lines = server.logs()?.stderr;
        assert_eq!(lines.matches("to http://other:").count(), 1, "{lines}");
        Ok(())
    })
}

#[test]
fn a_guest_of_wasi_03_is_held_to_its_grants_too() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let granted = format!("redis:{SERVER}, rebound:{SERVER}, 127.0.0.1:{SERVER}");
        let pod = Pod::new("newest").annotation(PROFILE, "restricted");
        let pod = node.run_pod(&pod.annotation(CONNECT, &granted))?;
        let _server = Server::start(&pod)?;
        let guest = |words: &[&str]| {
            let container = Container::new(&number("newest"), &node.image("hello-p3")?);
            run(&pod, container.args(words).readonly_mount(&hosts, "/etc/hosts"))
        };
        let local = format!("127.0.0.1:{SERVER}");
        assert_eq!(guest(&["tcp-connect", &local])?.1.stdout, "connected\n");
        assert!(guest(&["look-up", "redis"])?.1.stdout.contains("192, 0, 2, 7"));
        let other = format!("{OTHER}:{SERVER}");
        for words in [["tcp-connect", other.as_str()], ["look-up", "other"]] {
            let (code, logs) = guest(&words)?;
            assert_eq!((code, logs.stdout.as_str()), (1, ""), "{words:?}: {logs:?}");
            for part in ["AccessDenied", "denied: ", "not granted"] {
                assert!(logs.stderr.contains(part), "no {part} in {logs:?}");
            }
        }
        let server = Container::new("server", &node.image("hello-http-p3")?);
        pod.run(&server.readonly_mount(&hosts, "/etc/hosts"))?;
        for (host, expected) in [
            ("redis", "200"),
            ("rebound", "ErrorCode::HttpRequestDenied"),
            ("other", "ErrorCode::HttpRequestDenied"),
            (METADATA, "ErrorCode::HttpRequestDenied"),
        ] {
            let fetched = pod.http_get(PORT, &format!("/fetch?url={host}:{SERVER}"))?.body;
            assert!(fetched.contains(expected), "{host}: {fetched}");
        }
        Ok(())
    })
}

/// A volume with a file, and links that lead within it and out of it.
fn volume(node: &Node) -> Result<PathBuf> {
    let volume = node.volume("data")?;
    fs::write(volume.join("file"), "found\n")?;
    fs::create_dir(volume.join("below"))?;
    symlink("../file", volume.join("below/within"))?;
    symlink("../etc/hosts", volume.join("out"))?;
    symlink("/etc/hosts", volume.join("absolute"))?;
    symlink("/", volume.join("root"))?;
    Ok(volume)
}

#[test]
fn a_guest_has_the_granted_directories_and_no_link_leads_out_of_them() -> Result<()> {
    on_each_containerd(|node| {
        let (volume, hosts) = (volume(node)?, hosts(node)?);
        // WASI 0.2, and a core module of WASI 0.1 that can only read.
        for (image, can_write) in [("hello", true), ("hello-c", false)] {
            let can = |words: &[&str]| can_write || words[0] == "cat";
            let pod = Pod::new(&format!("files-{image}"));
            let pod = node.run_pod(&pod.annotation(FILES, "/data=rw, /fixed=ro"))?;
            let image = node.image(image)?;
            let guest = |words: &[&str]| {
                let container = Container::new(&number("files"), &image).args(words);
                let container = container.mount(&volume, "/data").mount(&volume, "/fixed");
                run(&pod, container.readonly_mount(&hosts, "/etc/hosts"))
            };
            for (words, stdout) in [
                (&["cat", "/data/file"][..], "found\n"),
                (&["cat", "/data/below/within"], "found\n"),
                (&["cat", "/fixed/file"], "found\n"),
                (&["write", "/data/new", "text"], ""),
                (&["cat", "/fixed/below/within"], "found\n"),
            ] {
                if !can(words) {
                    continue;
                }
                let (code, logs) = guest(words)?;
                assert_eq!((code, logs.stdout.as_str()), (0, stdout), "{words:?}: {logs:?}");
            }
            for (words, is_reported) in [
                (&["cat", "/etc/hosts"][..], false),
                (&["cat", "/data/../etc/hosts"], true),
                (&["cat", "/data/out"], true),
                (&["cat", "/data/absolute"], true),
                (&["cat", "/data/root/etc/hosts"], true),
                (&["ls", "/data/root"], true),
                (&["ls", "/"], false),
                (&["write", "/fixed/file", "changed"], true),
                (&["rename", "/fixed/file", "/data/moved"], true),
                (&["rename", "/data/file", "/data/root/moved"], true),
            ] {
                if !can(words) {
                    continue;
                }
                let (code, logs) = guest(words)?;
                assert_eq!((code, logs.stdout.as_str()), (1, ""), "{words:?}: {logs:?}");
                let report =
                    format!("it is not in a granted directory, or may only be read; {FILES}");
                assert_eq!(logs.stderr.contains(&report), is_reported, "{words:?}: {logs:?}");
            }
            assert_eq!(fs::read_to_string(volume.join("file"))?, "found\n");
        }
        assert_eq!(fs::read_to_string(volume.join("new"))?, "text\n");
        Ok(())
    })
}

#[test]
fn a_guest_of_wasi_03_has_the_granted_directories_alone_too() -> Result<()> {
    on_each_containerd(|node| {
        let volume = volume(node)?;
        let pod = node.run_pod(&Pod::new("files-p3").annotation(FILES, "/data=ro"))?;
        let image = node.image("hello-p3")?;
        // It takes each path as relative to its only directory.
        let guest = |words: &[&str]| {
            let container = Container::new(&number("files"), &image).args(words);
            run(&pod, container.mount(&volume, "/data"))
        };
        let (code, logs) = guest(&["cat", "/below/within"])?;
        assert_eq!((code, logs.stdout.as_str()), (0, "found\n"), "{logs:?}");
        for words in [
            &["cat", "/out"][..],
            &["cat", "/absolute"],
            &["cat", "/../etc/passwd"],
            &["write", "/file", "changed"],
            &["rename", "/file", "/moved"],
        ] {
            let (code, logs) = guest(words)?;
            assert_eq!((code, logs.stdout.as_str()), (1, ""), "{words:?}: {logs:?}");
            assert!(logs.stderr.contains("NotPermitted"), "{words:?}: {logs:?}");
            assert!(
                logs.stderr.contains("it is not in a granted directory"),
                "{words:?}: {logs:?}"
            );
        }
        assert_eq!(fs::read_to_string(volume.join("file"))?, "found\n");
        Ok(())
    })
}

#[test]
fn a_granted_directory_that_a_link_leads_to_is_refused() -> Result<()> {
    on_each_containerd(|node| {
        let volume = volume(node)?;
        let pod = node.run_pod(&Pod::new("linked").annotation(FILES, "/data/root=ro"))?;
        let container = Container::new("app", &node.image("hello")?).args(&["ls", "/data/root"]);
        let (code, logs) = run(&pod, container.mount(&volume, "/data"))?;
        assert_ne!(code, 0, "{logs:?}");
        let expected = format!("cannot open the granted directory \"/data/root\" ({FILES})");
        assert!(logs.stderr.contains(&expected), "{logs:?}");
        assert!(logs.stderr.contains("a link leads to it"), "{logs:?}");
        Ok(())
    })
}

fn write_policy(node: &Node, text: &str) -> Result<()> {
    Ok(fs::write(config::policy(node.folder()), text)?)
}

/// Error with which a container of a Pod with this annotation is refused.
fn refusal(node: &Node, annotation: Option<(&str, &str)>) -> Result<String> {
    let pod = Pod::new(&number("refused")).handler(POLICY);
    let pod = annotation.into_iter().fold(pod, |pod, (key, value)| pod.annotation(key, value));
    let pod = node.run_pod(&pod)?;
    let refused = pod.run(&Container::new("app", &node.image("hello")?)).map(drop);
    Ok(format!("{:#}", refused.err().context("it runs")?))
}

#[test]
fn more_than_the_node_allows_is_refused_with_key_value_who_forbids_it_and_what_is_allowed()
-> Result<()> {
    on_each_containerd(|node| {
        write_policy(node, "[ceiling]\nallow-connect = [\"10.0.0.0/8:5432\"]\n")?;
        let path = config::policy(node.folder());
        let asked = Some((CONNECT, "10.0.0.0/8:5432, 10.0.0.0/8:22"));
        let text = refusal(node, asked)?;
        let expected = format!(
            "annotation {CONNECT}: \"10.0.0.0/8:22\" is more than [ceiling] in {} allows; \
             allowed is \"10.0.0.0/8:5432\"",
            path.display()
        );
        assert!(text.contains(&expected), "{text}");
        let text = refusal(node, Some((PROFILE, "privileged")))?;
        assert!(text.contains("allowed is baseline or a stricter one"), "{text}");
        Ok(())
    })
}

#[test]
fn a_policy_that_does_not_parse_or_is_not_there_is_never_no_policy() -> Result<()> {
    on_each_containerd(|node| {
        let path = config::policy(node.folder()).display().to_string();
        write_policy(node, "[ceiling]\nprofile = \"restricted\"\nallow-htp = []\n")?;
        let text = refusal(node, None)?;
        let expected = format!("{path}: line 3, column 1: unknown field `allow-htp`");
        assert!(text.contains(&expected), "{text}");
        fs::remove_file(&path)?;
        let text = refusal(node, None)?;
        assert!(
            text.contains(&format!("cannot read the node's policy for guests {path}")),
            "{text}"
        );
        Ok(())
    })
}

#[test]
fn a_changed_policy_counts_for_the_next_container_and_not_for_those_that_exist() -> Result<()> {
    on_each_containerd(|node| {
        write_policy(node, "")?;
        let pod = node.run_pod(&Pod::new("changing").handler(POLICY))?;
        let _server = Server::start(&pod)?;
        let image = node.image("hello")?;
        let sleeper = |name: &str| pod.run(&Container::new(name, &image).args(&["sleep", "60"]));
        let before = sleeper("before")?;
        write_policy(
            node,
            &format!(
                "[defaults]\nprofile = \"restricted\"\n[[rules]]\nnamespace = \"*\"\nimage = \"*/samples/hello:1\"\n\
                 defaults.allow-connect = [\"{OTHER}:{SERVER}\"]\n"
            ),
        )?;
        let after = sleeper("after")?;
        let connect = |container: &tests::RunningContainer, host: &str| {
            container.exec(&["/hello.wasm", "tcp-connect", &format!("{host}:{SERVER}")])
        };
        assert_eq!(connect(&before, "127.0.0.1")?.code, 0);
        assert_eq!(connect(&after, OTHER)?.code, 0);
        let denied = connect(&after, "127.0.0.1")?;
        assert!(denied.code == 1 && denied.stderr.contains("access-denied"), "{denied:?}");

        let grants = before.exec(&["grants"])?.success()?.stdout;
        assert!(grants.contains("profile: baseline (node)\n"), "{grants}");
        let grants = after.exec(&["grants"])?.success()?.stdout;
        let connect = format!("connect: {OTHER}:{SERVER} (node's file, {CONNECT})\n");
        for line in ["profile: restricted (node)\n", "files: nothing (node, ", &connect] {
            assert!(grants.contains(line), "no {line:?} in {grants}");
        }
        Ok(())
    })
}

#[test]
fn the_needs_of_an_image_are_granted_within_the_ceiling() -> Result<()> {
    on_each_containerd(|node| {
        let wasm = repository().join("target/images/hello.wasm").display().to_string();
        let need = format!("{CONNECT}={OTHER}:{SERVER}");
        let file = format!("{wasm}:/hello.wasm");
        let words = ["--label", &need, "--file", &file, "--entrypoint", "/hello.wasm"];
        let image = packed_with(node, "needy", &words)?;
        let target = |host: &str| format!("{host}:{SERVER}");
        write_policy(node, "[defaults]\nprofile = \"restricted\"\n")?;
        let pod = node.run_pod(&Pod::new("needy").handler(POLICY))?;
        let _server = Server::start(&pod)?;
        let guest = |host: &str| {
            let container = Container::new(&number("needy"), &image);
            run(&pod, container.args(&["tcp-connect", &target(host)]))
        };
        assert!(is_reached(&guest(OTHER)?));
        assert_denied(&guest("127.0.0.1")?, &["not granted"]);
        write_policy(node, "[ceiling]\nallow-connect = []\n")?;
        let refused = pod.run(&Container::new("more", &image)).map(drop);
        let text = format!("{:#}", refused.err().context("it runs")?);
        let expected = format!("image label {CONNECT}: \"{}\" is more than", target(OTHER));
        assert!(text.contains(&expected), "{text}");
        Ok(())
    })
}
