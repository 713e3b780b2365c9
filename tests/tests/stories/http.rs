//! Guests that serve HTTP in a Pod.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use tests::containerd::repository;
use tests::network::within;
use tests::wait::{self, EVENTUALLY, SOON};
use tests::{Container, Pod, RunningPod, command, on_each_containerd};

use crate::clients;
use crate::pod::{LISTEN, PORT};

#[test]
fn a_server_has_the_containers_arguments_environment_and_files() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("given"))?;
        let volume = node.volume("config")?;
        fs::write(volume.join("colour"), "green")?;
        let server = Container::new("server", &node.image("hello-http")?)
            .args(&["one", "two"])
            .env("COLOUR", "blue")
            .readonly_mount(&volume, "/etc/config");
        let server = pod.run(&server)?;
        let said = |path: &str| -> Result<(u16, String)> {
            let answer = pod.http_get(PORT, path)?;
            Ok((answer.status, answer.body))
        };
        assert_eq!(said("/args")?, (200, "/hello-http.wasm\none\ntwo\n".into()));
        assert_eq!(said("/env/COLOUR")?, (200, "blue".into()));
        assert_eq!(said("/file?path=/etc/config/colour")?, (200, "green".into()));
        assert_eq!(said("/file?path=/etc/config/shape")?.0, 404);
        // The guest does not get the server's own settings.
        assert_eq!(said(&format!("/env/{LISTEN}"))?.0, 404);
        assert_eq!(said("/log?text=something")?.0, 200);
        server.wait_for_output("stdout: something\n")?;
        server.wait_for_error("stderr: something\n")?;
        // A container has no /proc, so its page map was passed to it.
        let stderr = server.logs()?.stderr;
        assert!(!stderr.contains("page map"), "{stderr}");
        Ok(())
    })
}

#[test]
fn a_server_that_nobody_asks_has_one_thread_and_others_come_back_with_a_connection() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("idle"))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let process = server.process()?;
        let is_alone = || -> Result<()> {
            wait::until(EVENTUALLY, "the server's threads to end", || {
                Ok((process.threads()? == 1).then_some(()))
            })
        };
        // As a proxy keeps it open.
        let mut open = clients::connect(&pod, "127.0.0.1")?;
        open.set_read_timeout(Some(SOON))?;
        for _ in 0..2 {
            open.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nhello\n")?;
            clients::read_to(&mut open, "hello\n")?;
            assert!(process.threads()? > 1);
            is_alone()?;
            let switches = || -> Result<Vec<String>> {
                let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
                let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
                Ok(lines.map(str::to_owned).collect())
            };
            // On a slow machine, it is still awake when its last thread has ended.
            thread::sleep(wait::patient(Duration::from_millis(100)));
            let before = switches()?;
            thread::sleep(Duration::from_secs(3));
            assert_eq!(before, switches()?, "it wakes while nobody asks");
        }
        let exit = server.stop(SOON)?;
        assert_eq!(exit.code, 0, "the first thread is told of signals");
        Ok(())
    })
}

#[test]
fn no_connection_is_lost_while_threads_end() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("ending"))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let process = server.process()?;
        pod.http_get(PORT, "/")?;
        let mut ended = 0;
        // The pauses are about as long as an unused thread lingers.
        for round in 0..10_u64 {
            thread::sleep(Duration::from_millis(1990 + 5 * round));
            let before = process.threads()?;
            for number in 0..100 {
                let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
                let mut answer = String::new();
                clients::send(&pod, request)?.read_to_string(&mut answer)?;
                assert!(answer.starts_with("HTTP/1.1 200"), "{round} {number}: {answer}");
            }
            ended += usize::from(before < process.threads()?);
        }
        assert!(ended > 0, "no thread ended meanwhile");
        Ok(())
    })
}

#[test]
fn a_body_is_streamed_both_ways() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("echo"))?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let text: String = (0..100_000).map(|line| format!("line {line}\n")).collect();
        let file = node.volume("echo")?.join("body");
        fs::write(&file, &text)?;
        let answer = pod.http_post(PORT, "/echo", &file)?;
        assert_eq!(answer.status, 200);
        assert!(answer.body == text, "{} of {} bytes came back", answer.body.len(), text.len());
        Ok(())
    })
}

/// Cases of RFC 7540 and 7541 that fail, of an independent client that tests each with requests of that path.
fn failures(pod: &RunningPod, path: &str) -> Result<BTreeSet<String>> {
    let h2spec = repository().join("target/go/h2spec/h2spec");
    ensure!(h2spec.exists(), "{} is not there: make h2spec", h2spec.display());
    let network = format!("--net={}", pod.network.display());
    let (h2spec, port) = (h2spec.display().to_string(), PORT.to_string());
    let options = [&*network, &h2spec, "-o", "5", "-P", path, "-h", "127.0.0.1", "-p", &port];
    let checked = command::run("nsenter", options)?;
    ensure!(checked.stdout.contains(" tests, "), "{checked:?}");
    let failed = checked.stdout.split('×').skip(1).filter_map(|rest| rest.lines().next());
    Ok(failed.map(|case| case.trim().to_owned()).collect())
}

/// Some cases are about what comes before a response has ended: a guest that answers at once, and one that reads its
/// request to the end, are each too fast for some of them.
#[test]
fn http_2_is_spoken_as_it_is_specified() -> Result<()> {
    // What does not begin as HTTP/2 does is taken for HTTP/1.1, and answered in that. And a hundred requests may have
    // been answered before one too many comes.
    let known = BTreeSet::from([
        "2: Sends invalid connection preface".to_owned(),
        "1: Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded".to_owned(),
    ]);
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("h2spec"))?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let failed = &failures(&pod, "/")? & &failures(&pod, "/echo")?;
        assert_eq!(&failed - &known, BTreeSet::new());
        Ok(())
    })
}

#[test]
fn a_request_that_traps_is_answered_and_told_and_the_next_is_served() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("trap"))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let answer = pod.http_get(PORT, "/trap")?;
        assert_eq!((answer.status, answer.body.as_str()), (500, "internal server error\n"));
        for word in ["wasm backtrace", "abort", "unreachable"] {
            server.wait_for_error(word)?;
        }
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        assert!(server.is_running()?);
        Ok(())
    })
}

#[test]
fn guests_that_never_come_back_are_ended_and_others_served_meanwhile() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("spin").annotation("wasmtime.shim/http-request-timeout", "3s");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        thread::scope(|scope| {
            // More than there are threads that serve.
            let late = [(); 6].map(|()| scope.spawn(|| pod.http_get(PORT, "/spin")));
            thread::sleep(Duration::from_millis(500));
            assert_eq!(pod.http_get(PORT, "/args")?.status, 200);
            let meanwhile = late.iter().any(|request| !request.is_finished());
            assert!(meanwhile, "was answered while the others ran");
            for request in late {
                let answer = request.join().map_err(|_| anyhow!("a request panicked"))??;
                assert_eq!((answer.status, answer.body.as_str()), (504, "no response in time\n"));
            }
            anyhow::Ok(())
        })?;
        server.wait_for_error("GET /spin: no response within 3s")?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        Ok(())
    })
}

#[test]
fn an_instance_is_for_one_request_unless_an_annotation_says_otherwise() -> Result<()> {
    on_each_containerd(|node| {
        let fresh = node.run_pod(&Pod::new("fresh"))?;
        let image = node.image("hello-http")?;
        fresh.run(&Container::new("server", &image))?;
        // There is one instance in all. Otherwise each thread that serves has its own.
        let spec = Pod::new("reused")
            .annotation("wasmtime.shim/http-instances", "reuse=3")
            .annotation("wasmtime.shim/http-max-requests", "1");
        let reused = node.run_pod(&spec)?;
        reused.run(&Container::new("server", &image))?;
        let counts = |pod: &RunningPod| -> Result<Vec<String>> {
            (0..4).map(|_| Ok(answer_of(pod, "/count")?.trim().to_owned())).collect()
        };
        assert_eq!(counts(&fresh)?, ["1", "1", "1", "1"]);
        assert_eq!(counts(&reused)?, ["1", "2", "3", "1"]);
        Ok(())
    })
}

#[test]
fn an_instance_that_waits_serves_whichever_connection_asks() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("shared")
            .annotation("wasmtime.shim/http-instances", "reuse=1000")
            .annotation("wasmtime.shim/http-max-requests", "1");
        let pod = node.run_pod(&spec)?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/count")?.body, "1\n");
        // Those that are open are spread over the threads.
        let open: Vec<_> = (0..6).map(|_| counted(&pod)).collect::<Result<_>>()?;
        assert_eq!(answer_of(&pod, "/count")?, format!("{}\n", open.len() + 2));
        Ok(())
    })
}

/// Of a server with one instance. Just after another request it may be too early.
fn answer_of(pod: &RunningPod, path: &str) -> Result<String> {
    wait::until(SOON, "an answer", || {
        let answer = pod.http_get(PORT, path)?;
        Ok((answer.status == 200).then_some(answer.body))
    })
}

/// The same of a connection that stays open.
fn counted(pod: &RunningPod) -> Result<TcpStream> {
    let network = pod.network.clone();
    within(&network, || {
        wait::until(SOON, "an answer on a further connection", || {
            let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(b"GET /count HTTP/1.1\r\nHost: test\r\n\r\n")?;
            let mut status = [0; 12];
            stream.read_exact(&mut status)?;
            Ok((&status == b"HTTP/1.1 200").then_some(stream))
        })
    })
}

#[test]
fn a_body_is_read_as_far_as_it_may_be_long() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("bounded").annotation("wasmtime.shim/http-max-body", "64Ki");
        let pod = node.run_pod(&spec)?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let file = node.volume("bounded")?.join("body");
        fs::write(&file, vec![b'x'; 60 << 10])?;
        assert_eq!(pod.http_post(PORT, "/echo", &file)?.body.len(), 60 << 10);
        // The response has begun without its length, so it breaks off.
        fs::write(&file, vec![b'x'; 1 << 20])?;
        assert!(pod.http_post(PORT, "/echo", &file).is_err());
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        Ok(())
    })
}

#[test]
fn two_servers_listen_on_ports_of_their_own() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("ports"))?;
        let image = node.image("hello-http")?;
        pod.run(&Container::new("first", &image))?;
        pod.run(&Container::new("second", &image).env(LISTEN, "0.0.0.0:9090"))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        assert_eq!(pod.http_get(9090, "/")?.status, 200);

        let third = pod.run(&Container::new("third", &image).env(LISTEN, "0.0.0.0:9090"))?;
        assert_eq!(third.wait()?.code, 126);
        let stderr = third.logs()?.stderr;
        for word in ["0.0.0.0:9090", "in use", LISTEN] {
            assert!(stderr.contains(word), "no {word} in {stderr}");
        }
        Ok(())
    })
}
