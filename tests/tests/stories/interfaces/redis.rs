//! The key-value store in a real Redis, and beside servers that only look like one.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use nix::sys::socket::{Shutdown, shutdown};
use tests::network::within;
use tests::on_each_containerd;
use tests::redis::{PORT as REDIS_PORT, Redis};
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, RunningContainer, RunningPod, certificates, config};

use super::{
    KEYVALUE, ask, goes_on_after_what_it_refuses, keeps_entries_and_gives_them_back,
    loses_nothing_of_four_clients,
};
use crate::outgoing::connections_to;
use crate::pod::{LISTEN, PORT};

/// The annotation that names the file of the password.
const PASSWORD: &str = "wasmtime.shim/keyvalue-password-file";

#[test]
fn a_store_in_redis_is_used_as_any_other_and_has_the_keys_of_its_prefix() -> Result<()> {
    on_each_containerd(|node| {
        let url = "redis://localhost/2?prefix=app:";
        let pod = node.run_pod(&Pod::new("redis").annotation(KEYVALUE, url))?;
        let redis = Redis::start_on_disk(&pod, &node.volume("redis")?, &[])?;
        redis.cli(&["-n", "2", "SET", "other", "1"])?;
        let server = pod.run(&Container::new("server", &node.image("hello-keyvalue")?))?;
        keeps_entries_and_gives_them_back(&pod)?;
        loses_nothing_of_four_clients(&pod)?;
        goes_on_after_what_it_refuses(&pod)?;
        assert_eq!(redis.cli(&["-n", "2", "GET", "app:count"])?, "40\n");

        // What another client stores is met by the bounds and types of the interface.
        redis.cli(&["-n", "2", "SETRANGE", "app:long", "2000000", "x"])?;
        redis.cli(&["-n", "2", "LPUSH", "app:list", "x"])?;
        redis.cli(&["-n", "2", "SET", "app:most", "9223372036854775807"])?;
        for (method, path, reason) in [
            ("GET", "/long", "the value has 2000001 bytes, and at most 1048576 are allowed"),
            ("GET", "/?many=y,long", "at most 1048576 are allowed"),
            ("GET", "/list", "it refuses: WRONGTYPE (the key has no text"),
            ("POST", "/most?add=1", "the sum is not within the range"),
        ] {
            let (status, text) = ask(&pod, method, path, "")?;
            assert!(status == 500 && text.contains(reason), "{path}: {text}");
        }
        assert_eq!(ask(&pod, "GET", "/y", "")?, (200, "y".into()));
        // After a failover, another connection may lead to the new primary.
        redis.cli(&["REPLICAOF", "127.0.0.1", "1"])?;
        let (status, text) = ask(&pod, "POST", "/y", "y")?;
        assert!(status == 500 && text.contains("READONLY (it is a replica)"), "{text}");
        assert_eq!(connections_to(&pod, REDIS_PORT)?, 0);
        redis.cli(&["REPLICAOF", "NO", "ONE"])?;
        assert_eq!(ask(&pod, "POST", "/y", "y")?, (200, "kept\n".into()));
        let grants = server.exec(&["grants"])?;
        let line = "wasi:keyvalue redis://localhost:6379/2?prefix=app: (annotation ";
        assert!(grants.stdout.contains(line), "{}", grants.stdout);

        // An idle server has no connection.
        wait::until(SOON, "the connection to be closed", || {
            Ok((connections_to(&pod, REDIS_PORT)? == 0).then_some(()))
        })?;
        assert_eq!(ask(&pod, "GET", "/y", "")?, (200, "y".into()));
        Ok(())
    })
}

#[test]
fn containers_that_share_a_redis_lose_nothing_of_each_other() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("shared").annotation(KEYVALUE, "redis://127.0.0.1"))?;
        let _redis = Redis::start_on_disk(&pod, &node.volume("redis")?, &[])?;
        let image = node.image("hello-keyvalue")?;
        let ports = [PORT, PORT + 1];
        for port in ports {
            let server = Container::new(&format!("server-{port}"), &image);
            pod.run(&server.env(LISTEN, &format!("0.0.0.0:{port}")))?;
        }
        let (post, pod) = (["-X", "POST"], &pod);
        let client = |port: u16| {
            for _ in 0..25 {
                for path in ["/count?add=1", "/text?append=x"] {
                    let answer = pod.http_get_with(port, path, &post)?;
                    assert_eq!(answer.status, 200, "{}", answer.body);
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        thread::scope(|scope| {
            let clients = [0, 1, 0, 1].map(|index| scope.spawn(move || client(ports[index])));
            clients.into_iter().try_for_each(|it| it.join().expect("no panic"))
        })?;
        assert_eq!(ask(pod, "GET", "/count", "")?, (200, "100".into()));
        assert_eq!(ask(pod, "GET", "/text", "")?, (200, "x".repeat(100)));
        Ok(())
    })
}

/// A server of `wasi:http` beside others in its Pod.
struct Beside<'a> {
    container: RunningContainer<'a>,
    port: u16,
}

/// Options of a server with TLS, whose certificate is in that directory, and with the password `open sesame`.
fn secured(tls: &Path) -> Vec<String> {
    let file = |name: &str| tls.join(name).display().to_string();
    let mut options: Vec<String> = [
        ["--port", "0"],
        ["--tls-port", "6379"],
        ["--tls-auth-clients", "no"],
        ["--requirepass", "open sesame"],
    ]
    .as_flattened()
    .iter()
    .map(ToString::to_string)
    .collect();
    for (option, name) in [("ca-cert", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")] {
        options.extend([format!("--tls-{option}-file"), file(name)]);
    }
    options
}

#[test]
fn redis_is_asked_over_tls_and_with_the_password_of_a_file() -> Result<()> {
    on_each_containerd(|node| {
        let (data, tls) = (node.volume("data")?, node.volume("tls")?);
        certificates::make(&tls, "DNS:localhost")?;
        let pod = Pod::new("tls").annotation(KEYVALUE, "rediss://localhost");
        let pod = node.run_pod(&pod.annotation(PASSWORD, "/etc/redis/password"))?;
        let options = secured(&tls);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let _redis = Redis::start_on_disk(&pod, &data, &options)?;
        let image = node.image("hello-keyvalue")?;
        let mut port = PORT;
        let mut server = |name: &str, password: Option<&str>, roots: Option<&str>| {
            port += 1;
            let secret = node.volume(name)?;
            if let Some(password) = password {
                fs::write(secret.join("password"), password)?;
            }
            let container = Container::new(name, &image)
                .env(LISTEN, &format!("127.0.0.1:{port}"))
                .readonly_mount(&tls, "/etc/tls")
                .readonly_mount(&secret, "/etc/redis");
            let container = pod.run(&match roots {
                Some(roots) => container.env("SSL_CERT_FILE", roots),
                None => container,
            })?;
            Ok::<_, anyhow::Error>(Beside { container, port })
        };
        let roots = Some("/etc/tls/ca.pem");
        let right = server("right", Some("open sesame\n"), roots)?;
        let answer = pod.http_get(right.port, "/?many=a")?;
        assert_eq!(answer.status, 200, "{}", answer.body);

        for (server, reason) in [
            (server("wrong", Some("sesame"), roots)?, "it refuses: WRONGPASS (the user or"),
            (server("none", Some(""), roots)?, "it refuses: WRONGPASS (the user or"),
            (
                server("missing", None, roots)?,
                "cannot read the password /etc/redis/password: No such",
            ),
            (
                server("stranger", Some("open sesame"), None)?,
                "TLS: invalid peer certificate: UnknownIssuer",
            ),
        ] {
            let reason = format!("cannot use the store rediss://localhost:6379/0: {reason}");
            for _ in 0..2 {
                assert_eq!(pod.http_get(server.port, "/a")?.status, 500);
            }
            server.container.wait_for_error(&reason)?;
            let stderr = server.container.logs()?.stderr;
            assert_eq!(stderr.matches(&reason).count(), 1, "{stderr}");
            assert!(!stderr.contains("sesame"), "{stderr}");
        }
        Ok(())
    })
}

#[test]
fn redis_with_a_certificate_of_another_name_is_not_asked() -> Result<()> {
    on_each_containerd(|node| {
        let (data, tls, secret) =
            (node.volume("data")?, node.volume("tls")?, node.volume("secret")?);
        certificates::make(&tls, "DNS:localhost")?;
        fs::write(secret.join("password"), "open sesame")?;
        let pod = Pod::new("address").annotation(KEYVALUE, "rediss://127.0.0.1");
        let pod = node.run_pod(&pod.annotation(PASSWORD, "/etc/redis/password"))?;
        let options = secured(&tls);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let _redis = Redis::start_on_disk(&pod, &data, &options)?;
        let server = Container::new("server", &node.image("hello-keyvalue")?)
            .readonly_mount(&tls, "/etc/tls")
            .readonly_mount(&secret, "/etc/redis")
            .env("SSL_CERT_FILE", "/etc/tls/ca.pem");
        pod.run(&server)?;
        let (status, text) = ask(&pod, "GET", "/a", "")?;
        assert!(status == 500 && text.contains("certificate not valid for name"), "{text}");
        Ok(())
    })
}

#[test]
fn a_redis_that_goes_away_and_comes_back_has_what_it_acknowledged() -> Result<()> {
    on_each_containerd(|node| {
        let data = node.volume("data")?;
        let pod = Pod::new("away").annotation(KEYVALUE, "redis://127.0.0.1");
        let pod = node.run_pod(&pod)?;
        let server = pod.run(&Container::new("server", &node.image("hello-keyvalue")?))?;
        let reason = "cannot connect: Connection refused";
        let (status, text) = ask(&pod, "GET", "/count", "")?;
        assert!(status == 500 && text.contains(reason), "{text}");
        for round in 1..=2 {
            let redis = Redis::start_on_disk(&pod, &data, &[])?;
            wait::until(SOON, "the store to be back", || {
                Ok((ask(&pod, "GET", "/", "")?.0 == 200).then_some(()))
            })?;
            for number in [2 * round - 1, 2 * round] {
                let sum = ask(&pod, "POST", "/count?add=1", "")?;
                assert_eq!(sum, (200, format!("{number}\n")));
                // This closes the kept connection, which is noticed before anything is sent over it.
                redis.cli(&["CLIENT", "KILL", "TYPE", "normal"])?;
            }
            drop(redis);
            let (status, text) = ask(&pod, "POST", "/count?add=1", "")?;
            assert!(status == 500 && text.contains(reason), "{text}");
        }
        let stderr = server.logs()?.stderr;
        assert_eq!(stderr.matches(reason).count(), 1, "{stderr}");
        Ok(())
    })
}

/// Commands that a server was sent.
#[derive(Default)]
struct Counted {
    increments: AtomicUsize,
    unanswered: AtomicUsize,
}

/// A server that lies, until it is dropped.
struct Liar {
    counted: Arc<Counted>,
    listener: TcpListener,
    thread: Option<thread::JoinHandle<()>>,
}

impl Liar {
    fn start(pod: &RunningPod) -> Result<Liar> {
        let listener = within(&pod.network, || Ok(TcpListener::bind(("127.0.0.1", REDIS_PORT))?))?;
        let counted = Arc::new(Counted::default());
        let (accepting, counter) = (listener.try_clone()?, counted.clone());
        let thread = thread::spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                let counter = counter.clone();
                // It ends with its client.
                thread::spawn(move || lie(&mut stream, &counter));
            }
        });
        Ok(Liar { counted, listener, thread: Some(thread) })
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        // `accept` fails from now on.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Lets everyone in, and replies as the key says that is asked for.
fn lie(stream: &mut TcpStream, counted: &Counted) -> Result<()> {
    let mut command = [0; 4096];
    loop {
        let read = stream.read(&mut command)?;
        ensure!(read > 0, "the client is gone");
        let text = String::from_utf8_lossy(&command[..read]).into_owned();
        counted.increments.fetch_add(usize::from(text.contains("INCRBY")), Ordering::SeqCst);
        counted.unanswered.fetch_add(usize::from(text.contains("silent")), Ordering::SeqCst);
        let (reply, goes_on): (&[u8], bool) = match &*text {
            text if text.contains("PING") => (b"+PONG\r\n", true),
            text if text.contains("huge") => (b"$1000000000000\r\nx", true),
            text if text.contains("other") => (b"HTTP/1.1 200 OK\r\n\r\n", true),
            text if text.contains("cut") => (b"$5\r\nab", false),
            text if text.contains("lost") => (b"", false),
            text if text.contains("silent") => (b"", true),
            _ => (b"*1000000000\r\n", true),
        };
        stream.write_all(reply)?;
        ensure!(goes_on, "as it should");
    }
}

#[test]
fn a_server_that_lies_is_an_error_and_no_change_is_made_twice() -> Result<()> {
    on_each_containerd(|node| {
        let pod = Pod::new("lies").annotation(KEYVALUE, "redis://127.0.0.1");
        let pod = node.run_pod(&pod)?;
        let liar = Liar::start(&pod)?;
        let server = pod.run(&Container::new("server", &node.image("hello-keyvalue")?))?;
        for (method, path, reason) in [
            ("GET", "/huge", "the value has 1000000000000 bytes"),
            ("GET", "/other", "it does not answer as Redis does"),
            ("GET", "/", "it does not answer as Redis does"),
            ("GET", "/?many=a,b", "it does not answer as Redis does"),
            ("GET", "/cut", "the connection broke off"),
            ("POST", "/lost?add=1", "broke off; the change may have been made or not"),
            ("POST", "/other?add=1", "as Redis does; the change may have been made or not"),
        ] {
            let (status, text) = ask(&pod, method, path, "")?;
            assert!(status == 500 && text.contains(reason), "{path}: {text}");
        }
        let increments = liar.counted.increments.load(Ordering::SeqCst);
        assert_eq!(increments, 2, "an increment was sent again");

        thread::scope(|scope| {
            let ask = || scope.spawn(|| ask(&pod, "GET", "/silent", ""));
            for asked in [ask(), ask(), ask(), ask()] {
                let (status, text) = asked.join().expect("no panic")?;
                assert!(status == 500 && text.contains(" within 5 s"), "{text}");
            }
            Ok::<_, anyhow::Error>(())
        })?;
        // While the first waits, the others wait for it, and then do not ask.
        let asked = liar.counted.unanswered.load(Ordering::SeqCst);
        assert!(asked < 4, "they ask one after the other");
        assert!(server.is_running()?);
        Ok(())
    })
}

/// The error with which a container is refused, or what its store answers.
fn refused(node: &Node, name: &str, url: &str) -> Result<String> {
    let pod = Pod::new(name).handler("wasmtime-policy").annotation(KEYVALUE, url);
    let pod = node.run_pod(&pod)?;
    let server = Container::new("server", &node.image("hello-keyvalue")?);
    match pod.run(&server) {
        Err(error) => Ok(format!("{error:#}")),
        Ok(server) => {
            assert_eq!(ask(&pod, "GET", "/a", "")?, (500, "Error::AccessDenied\n".into()));
            Ok(server.logs()?.stderr)
        }
    }
}

#[test]
fn the_runtime_connects_where_the_node_lets_a_guest_connect() -> Result<()> {
    on_each_containerd(|node| {
        let policy = "[ceiling]\nallow-connect = [\"10.0.0.0/8:6379\"]\n";
        fs::write(config::policy(node.folder()), policy)?;
        let text = refused(node, "address", "redis://127.0.0.1")?;
        let reason =
            "annotation wasmtime.shim/keyvalue: \"127.0.0.1:6379\" is more than [ceiling] in";
        assert!(text.contains(reason), "{text}");
        // A name may be one of a range, until it is looked up.
        let text = refused(node, "name", "redis://localhost")?;
        assert!(text.contains("the node does not allow the connection"), "{text}");
        assert!(text.contains("denied: TCP connection to 127.0.0.1:6379"), "{text}");
        let text = refused(node, "password", "redis://:sesame@localhost")?;
        assert!(text.contains("the password in the URL is not valid; allowed is an abs"), "{text}");
        assert!(!text.contains("sesame"), "{text}");
        Ok(())
    })
}
