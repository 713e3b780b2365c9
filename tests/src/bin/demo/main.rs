//! Shows what the shim does, step by step, on a private containerd that is removed afterwards.
//!
//! It runs one Pod of RuntimeClass `wasmtime` with a Linux container, a WASI command and a WASI HTTP server. Then it
//! prints their output, their memory, and the duration of their start, all measured on this machine.
#![forbid(unsafe_code)]

mod measure;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::containerd::Containerd;
use tests::{Container, Node, Pod, RunningContainer, RunningPod, interrupt};

/// Port on which a served guest listens.
const PORT: u16 = 8080;

fn main() -> ExitCode {
    interrupt::end(demonstrate().context("the demonstration failed"))
}

fn demonstrate() -> Result<()> {
    let containerd = Containerd::available()?.pop().context("there is no containerd")?;
    println!("Starting a private containerd {} with a network of its own ...", containerd.version);
    interrupt::clean_up()?;
    let node = Node::start(containerd)?;

    println!("Running a Pod whose RuntimeClass is wasmtime ...");
    let pod = node.run_pod(&Pod::new("demo"))?;
    let (linux, server) = show_containers(&node, &pod)?;
    thread::sleep(measure::SETTLES);
    println!("\nIdle memory and threads:");
    measure::print_processes(&pod, &[("linux container", &linux), ("http guest", &server)])?;
    show_start_times(&node, &pod)?;

    println!("\nStopping the Pod ...");
    let exit = server.stop(Duration::from_secs(30))?;
    println!("  the server ended on SIGTERM with exit code {}", exit.code);
    ensure!(exit.code == 0, "the server did not end cleanly: {exit:?}");
    pod.stop()?;
    pod.remove()?;
    node.stop()?;
    println!("Nothing was left: no process, mount, cgroup, socket, interface or file.");
    Ok(())
}

/// Starts the three containers and prints their output. Two of them continue to run.
fn show_containers<'node>(
    node: &'node Node,
    pod: &RunningPod<'node>,
) -> Result<(RunningContainer<'node>, RunningContainer<'node>)> {
    let script = "echo I am a Linux container: $(uname -s) $(uname -m); sleep 1000";
    let linux = pod.run(&Container::shell("linux", &node.image("linux")?, script))?;
    let server = pod.run(&Container::new("http", &node.image("hello-http")?))?;
    let command = Container::new("command", &node.image("hello")?);
    let command = pod.run(&command.args(&["args", "I am a WASI command."]))?;

    let answer = pod.http_get(PORT, "/")?;
    println!("\nGET http://127.0.0.1:{PORT}/ inside the Pod: {}", answer.status);
    print_indented(&answer.body);
    ensure!(answer.status == 200, "the guest answered {answer:?}");
    pod.http_get(PORT, "/log?text=I%20am%20an%20HTTP%20guest.")?;
    let exit = command.wait()?;
    ensure!(exit.code == 0, "the command ended with {exit:?}: {:?}", command.logs()?);
    linux.wait_for_output("Linux container")?;

    for (name, container) in [("linux", &linux), ("command", &command), ("http", &server)] {
        let logs = container.logs()?;
        println!("Logs of container {name}:");
        print_indented(&logs.stdout);
        print_indented(&logs.stderr);
    }
    Ok((linux, server))
}

fn show_start_times(node: &Node, pod: &RunningPod<'_>) -> Result<()> {
    println!("\nFrom the request to the guest's first output, as seen from outside:");
    let cases = [
        ("hello-c", "a guest, compiled if it is new here"),
        ("hello-c", "the same guest again"),
        ("linux", "a Linux container, for comparison"),
    ];
    for (attempt, (image, what)) in (0..).zip(cases) {
        let container = Container::new("timed", &node.image(image)?).attempt(attempt);
        let container = match image {
            "linux" => container.command(&["echo", "hello"]),
            _ => container,
        };
        measure::print_start(pod, &container, what)?;
    }
    Ok(())
}

fn print_indented(text: &str) {
    text.lines().for_each(|line| println!("  {line}"));
}
