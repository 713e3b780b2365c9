//! What a guest is given to start with, and what comes back from it.

use std::path::Path;

use anyhow::Result;
use tests::ctr::Run;
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

        let root = Container::new("root", &hello).args(&["cwd"]);
        assert_eq!(said(root)?, "/\n");

        let file = node.volume("work")?;
        std::fs::write(file.join("relative.txt"), "found\n")?;
        let relative = Container::new("relative", &hello).args(&["cat", "relative.txt"]);
        assert_eq!(said(relative.mount(&file, "/work").working_dir("/work"))?, "found\n");
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
fn every_exit_code_comes_back() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("codes"))?;
        // A module: std's component of WASI 0.2 only tells success from failure.
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
