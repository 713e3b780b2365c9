//! Guests that serve HTTP in a Pod.

use std::fs;

use anyhow::Result;
use tests::{Container, Pod, on_each_containerd};

use crate::pod::PORT;

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
        // The server's own settings are not the guest's.
        assert_eq!(said("/env/WASMTIME_HTTP_PROXY_SOCKET_ADDR")?.0, 404);
        assert_eq!(said("/log?text=something")?.0, 200);
        server.wait_for_output("stdout: something\n")?;
        server.wait_for_error("stderr: something\n")
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
fn two_servers_listen_on_ports_of_their_own() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("ports"))?;
        let image = node.image("hello-http")?;
        let address = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";
        pod.run(&Container::new("first", &image))?;
        pod.run(&Container::new("second", &image).env(address, "0.0.0.0:9090"))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        assert_eq!(pod.http_get(9090, "/")?.status, 200);

        let third = pod.run(&Container::new("third", &image).env(address, "0.0.0.0:9090"))?;
        assert_eq!(third.wait()?.code, 126);
        let stderr = third.logs()?.stderr;
        for word in ["0.0.0.0:9090", "in use", address] {
            assert!(stderr.contains(word), "no {word} in {stderr}");
        }
        Ok(())
    })
}
