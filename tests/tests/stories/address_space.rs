//! Guests where addresses are few: kernels for small boards are often built with 39 bits of them, 512 GiB for a process. Such a
//! kernel is not to be had here, so containerd and its shims get that limit (`RLIMIT_AS`).

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use tests::{Container, Node, Pod, RunningPod, command, on_each_containerd};

use crate::clients;
use crate::pod::PORT;

/// Bytes that 39 bits address.
const ADDRESSES: u64 = 1 << 39;

fn limit(node: &Node) -> Result<()> {
    let daemon = node.daemon_pid().context("containerd does not run")?;
    command::must(&format!("prlimit --pid={daemon} --as={ADDRESSES}")).map(drop)
}

#[test]
fn guests_run_and_serve_where_addresses_have_39_bits() -> Result<()> {
    on_each_containerd(|node| {
        limit(node)?;
        let pod = node.run_pod(&Pod::new("small"))?;
        let command = pod.run(&Container::new("command", &node.image("hello")?))?;
        assert_eq!(command.wait()?.code, 0, "{:?}", command.logs()?);
        assert_eq!(command.logs()?.stdout, "hello from wasi\n");
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process()?.pid))?;
        assert!(limits.contains(&ADDRESSES.to_string()), "{limits}");
        Ok(())
    })
}

#[test]
fn requests_that_find_no_addresses_get_503_and_others_are_answered() -> Result<()> {
    on_each_containerd(|node| {
        limit(node)?;
        // Each has 4 GiB of addresses for its memory.
        let many = Pod::new("full").annotation("wasmtime.shim/http-max-requests", "200");
        let pod = node.run_pod(&many)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let waiting = (0..160).map(|_| half_a_request(&pod)).collect::<Result<Vec<_>>>()?;
        let (mut answered, mut refused) = (0, 0);
        for mut client in waiting {
            // Who was refused has been sent all that there is.
            let _ = client.write_all(b"rest\n");
            let mut answer = String::new();
            // A refusal may end with a reset.
            let _ = client.read_to_string(&mut answer);
            // Its first byte was read before.
            match answer.split(' ').nth(1) {
                Some("200") => answered += 1,
                Some("503") => refused += 1,
                _ => bail!("{answer:?}: {:?}", server.logs()?),
            }
        }
        ensure!(answered > 64 && refused > 0, "{answered} answered, {refused} refused");
        server.wait_for_error("no addresses are left for another instance")?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        Ok(())
    })
}

/// A request whose instance waits for the rest of its body.
fn half_a_request(pod: &RunningPod<'_>) -> Result<TcpStream> {
    let head =
        "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\nhalf\n";
    let mut client = clients::send(pod, head)?;
    // It has begun when its head is there, or it was refused.
    let mut byte = [0];
    client.read_exact(&mut byte)?;
    Ok(client)
}
