//! Start and end of a guest: args, env, files and stdio, and its exit code and output.

use std::cell::Cell;
use std::path::Path;

use anyhow::Result;
use nix::sys::statvfs::{FsFlags, statvfs};
use tests::ctr::Run;
use tests::processes;
use tests::wait::{self, SOON};
use tests::{Container, Pod, on_each_containerd};

#[test]
fn arguments_environment_and_working_directory_arrive() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("given"))?;
        let hello = node.image("hello")?;
        let said = |container: Container| -> Result<String> {
            let container = pod.run(&container)?;
            let exit = container.wait()?;
            let logs = container.logs()?;
            assert_eq!(exit.code, 0, "{logs:?}");
            Ok(logs.stdout)
        };

        let args = Container::new("args", &hello).args(&["args", "one", "two words", "", "-ü"]);
        assert_eq!(said(args)?, "one\ntwo words\n\n-ü\n");

        let env = Container::new("env", &hello).args(&["env", "COLOUR", "EMPTY"]);
        assert_eq!(said(env.env("COLOUR", "green = grün").env("EMPTY", ""))?, "green = grün\n\n");

        // A working directory that the image does not have is made, as for a Linux container.
        let made = Container::new("made", &hello).args(&["ls", "/made/for"]);
        assert_eq!(said(made.working_dir("/made/for/it"))?, "it/\n");
        // A guest cannot look it up, so it has a default unless the container's env sets it.
        let at_work =
            |name| Container::new(name, &hello).args(&["env", "PWD"]).working_dir("/work");
        assert_eq!(said(at_work("pwd"))?, "/work\n");
        assert_eq!(said(at_work("own-pwd").env("PWD", "/elsewhere"))?, "/elsewhere\n");
        Ok(())
    })
}

#[test]
fn no_process_of_a_pod_keeps_containerds_environment() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("forgetful"))?;
        let guest = Container::new("guest", &node.image("hello")?).args(&["sleep", "60"]);
        let guest = pod.run(&guest)?;
        guest.wait_for_output("sleeping")?;
        for process in [pod.process()?, guest.process()?] {
            let environment = std::fs::read(format!("/proc/{}/environ", process.pid))?;
            let shown = String::from_utf8_lossy(&environment);
            assert_eq!(shown.trim_matches('\0'), "", "{}", process.name);
        }
        // The shim itself has such a variable, which must not reach the guest.
        assert!(!std::fs::read(format!("/proc/{}/environ", pod.shim()?.pid))?.is_empty());
        Ok(())
    })
}

#[test]
fn the_nodes_shim_cannot_be_written_through_a_process_of_a_pod() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("unwritable"))?;
        let guest = Container::new("guest", &node.image("hello")?).args(&["sleep", "60"]);
        pod.run(&guest)?;
        for process in processes::family(&pod.shim()?) {
            let program = statvfs(format!("/proc/{}/exe", process.pid).as_str())?;
            assert!(program.flags().contains(FsFlags::ST_RDONLY), "{process:?}");
        }
        Ok(())
    })
}

#[test]
fn absolute_paths_are_the_containers_in_any_working_directory() -> Result<()> {
    on_each_containerd(|node| {
        let volume = node.volume("work")?;
        std::fs::write(volume.join("file.txt"), "found\n")?;
        let pod = node.run_pod(&Pod::new("paths"))?;
        for (image, command) in [("hello", "/hello.wasm"), ("hello-c", "/hello-c.wasm")] {
            let at_work = |name: &str, path: &str| -> Result<String> {
                let container = Container::new(&format!("{image}-{name}"), &node.image(image)?)
                    .command(&[command, "cat", path])
                    .mount(&volume, "/work")
                    .working_dir("/work");
                let container = pod.run(&container)?;
                assert_eq!(container.wait()?.code, 0, "{image} {path}: {:?}", container.logs()?);
                Ok(container.logs()?.stdout)
            };
            assert_eq!(at_work("volume", "/work/file.txt")?, "found\n");
            assert!(at_work("hosts", "/etc/resolv.conf")?.contains("nameserver"));
        }
        Ok(())
    })
}

#[test]
fn a_variable_that_is_not_given_is_not_there() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("unset"))?;
        let container = Container::new("env", &node.image("hello")?).args(&["env", "SHELL"]);
        let container = pod.run(&container)?;
        assert_eq!(container.wait()?.code, 1);
        assert!(container.logs()?.stderr.contains("SHELL"), "{:?}", container.logs()?);
        Ok(())
    })
}

#[test]
fn a_guest_reads_its_standard_input_to_the_end() -> Result<()> {
    on_each_containerd(|node| {
        let text = "a line\nand one without an end";
        let run =
            Run::new(&node.ctr_image("hello")?).command(&["/hello.wasm", "stdin"]).stdin(text);
        let output = node.ctr.run_container(&run)?;
        assert_eq!((output.code, output.stdout.as_str()), (0, text), "{output:?}");
        Ok(())
    })
}

#[test]
fn a_guest_connects_to_its_neighbour_on_loopback() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("sockets"))?;
        let script = "echo hello over tcp | nc -l -p 7000";
        let server = pod.run(&Container::shell("server", &node.image("linux")?, script))?;
        let hello = node.image("hello")?;
        // The server may not listen yet.
        let attempt = Cell::new(0);
        let said = wait::until(SOON, "the server to listen", || {
            let name = format!("client-{}", attempt.replace(attempt.get() + 1));
            let container = Container::new(&name, &hello).args(&["tcp-connect", "localhost:7000"]);
            let client = pod.run(&container)?;
            Ok((client.wait()?.code == 0).then_some(client.logs()?.stdout))
        })?;
        assert_eq!(said, "hello over tcp\n");
        assert_eq!(server.wait()?.code, 0);
        Ok(())
    })
}

#[test]
fn guests_and_programs_run_under_the_runtimes_seccomp_profile() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("seccomp"))?;
        let server = Container::new("server", &node.image("hello-http")?);
        pod.run(&server.runtime_default_seccomp())?;
        assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200);
        let script = "grep Seccomp: /proc/self/status";
        let linux = Container::shell("linux", &node.image("linux")?, script);
        let linux = pod.run(&linux.runtime_default_seccomp())?;
        assert_eq!(linux.wait()?.code, 0, "{:?}", linux.logs()?);
        assert_eq!(linux.logs()?.stdout, "Seccomp:\t2\n");
        Ok(())
    })
}

#[test]
fn every_exit_code_comes_back() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("codes"))?;
        // This must be a module, because std's component of WASI 0.2 only distinguishes success and failure.
        let hello = node.image("hello-c")?;
        for code in [0, 1, 2, 3, 64, 126, 127, 128, 134, 137, 143, 254, 255] {
            let container = Container::new(&format!("exit-{code}"), &hello);
            let exit = pod.run(&container.args(&[&code.to_string()]))?.wait()?;
            let reason = if code == 0 { "Completed" } else { "Error" };
            assert_eq!((exit.code, exit.reason.as_str()), (code, reason));
        }
        Ok(())
    })
}

#[test]
fn all_of_a_long_output_is_kept_in_order() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("lines"))?;
        let container = Container::new("lines", &node.image("hello")?).args(&["lines", "20000"]);
        let container = pod.run(&container)?;
        assert_eq!(container.wait()?.code, 0);
        let expected: String = (1..=20_000).map(|n| format!("line {n}\n")).collect();
        assert!(container.logs()?.stdout == expected, "the log is not what was written");
        Ok(())
    })
}

#[test]
fn a_trap_is_exit_code_134_with_a_backtrace_of_names() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("trap"))?;
        let in_text = pod.run(&Container::new("text", &node.image("trap")?))?;
        let in_rust = Container::new("rust", &node.image("hello")?).args(&["trap"]);
        let in_rust = pod.run(&in_rust)?;
        for (container, names) in [(in_text, ["outer", "inner"]), (in_rust, ["middle", "inner"])] {
            assert_eq!(container.wait()?.code, 134);
            let stderr = container.logs()?.stderr;
            for expected in names.into_iter().chain(["unreachable"]) {
                assert!(stderr.contains(expected), "no {expected} in {stderr}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_panic_is_told_in_the_guests_own_words() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("panic"))?;
        let container = Container::new("panic", &node.image("hello")?).args(&["panic"]);
        let container = pod.run(&container)?;
        assert_eq!(container.wait()?.code, 134);
        assert!(container.logs()?.stderr.contains("asked to panic"), "{:?}", container.logs()?);
        Ok(())
    })
}

#[test]
fn the_pods_own_hosts_and_resolver_are_there() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("names"))?;
        let hello = node.image("hello")?;
        let resolver = Container::new("resolver", &hello).args(&["cat", "/etc/resolv.conf"]);
        let resolver = pod.run(&resolver)?;
        assert_eq!(resolver.wait()?.code, 0, "{:?}", resolver.logs()?);
        assert!(resolver.logs()?.stdout.contains("nameserver 10.96.0.10"));

        let hosts = Container::new("hosts", &hello).args(&["cat", "/etc/hosts"]);
        let hosts = hosts.readonly_mount(Path::new("/etc/hosts"), "/etc/hosts");
        let hosts = pod.run(&hosts)?;
        assert_eq!(hosts.wait()?.code, 0, "{:?}", hosts.logs()?);
        assert_eq!(hosts.logs()?.stdout, std::fs::read_to_string("/etc/hosts")?);
        Ok(())
    })
}

#[test]
fn a_command_of_wasi_03_has_its_arguments_and_files_and_streams_its_output() -> Result<()> {
    on_each_containerd(|node| {
        let volume = node.volume("p3")?;
        // More than fits into a pipe, or into one read of the file.
        let text: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(volume.join("text"), &text)?;
        let pod = node.run_pod(&Pod::new("p3"))?;
        let image = node.image("hello-p3")?;

        let greeting = Container::new("greeting", &image).args(&["one", "two words"]);
        let greeting = pod.run(&greeting)?;
        assert_eq!(greeting.wait()?.code, 0, "{:?}", greeting.logs()?);
        assert_eq!(greeting.logs()?.stdout, "hello from WASI 0.3\none\ntwo words\n");

        let file = Container::new("file", &image).args(&["cat", "/data/text"]);
        let file = pod.run(&file.readonly_mount(&volume, "/data"))?;
        assert_eq!(file.wait()?.code, 0, "{:?}", file.logs()?);
        let copied = file.logs()?.stdout;
        assert!(copied == text, "{} of {} bytes were copied", copied.len(), text.len());

        let missing = pod.run(&Container::new("missing", &image).args(&["cat", "/data/text"]))?;
        assert_eq!(missing.wait()?.code, 1);
        assert!(missing.logs()?.stderr.contains("/data/text"), "{:?}", missing.logs()?);
        Ok(())
    })
}
