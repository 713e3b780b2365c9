//! Linux containers, as sidecars and init containers are: nothing here is about WebAssembly.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tests::spec::MountPropagation;
use tests::{Container, Pod, on_each_containerd};

#[test]
fn a_linux_server_answers_and_a_linux_command_is_heard() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("linux"))?;
        let linux = node.image("linux")?;
        let httpd = ["httpd", "-f", "-p", "8081", "-h", "/www"];
        let server = pod.run(&Container::new("server", &linux).command(&httpd))?;
        let answer = pod.http_get(8081, "/")?;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello from linux\n"));

        let script = "echo to stdout; echo to stderr >&2; exit 3";
        let command = pod.run(&Container::shell("command", &linux, script))?;
        assert_eq!(command.wait()?.code, 3);
        let logs = command.logs()?;
        assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("to stdout\n", "to stderr\n"));
        assert!(server.is_running()?);
        Ok(())
    })
}

#[test]
fn a_linux_container_sees_what_its_spec_gives_it() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("spec"))?;
        let volume = node.volume("shared")?;
        std::fs::write(volume.join("in"), "from the host\n")?;
        let script = "echo $COLOUR; pwd; hostname; id -u; id -g; cat /shared/in; \
                      touch /shared/new 2>/dev/null || echo refused";
        let container = Container::shell("spec", &node.image("linux")?, script)
            .env("COLOUR", "green")
            .working_dir("/www")
            .user(1000, 2000)
            .readonly_mount(&volume, "/shared");
        let container = pod.run(&container)?;
        assert_eq!(container.wait()?.code, 0);
        let expected = "green\n/www\nspec\n1000\n2000\nfrom the host\nrefused\n";
        assert_eq!(container.logs()?.stdout, expected);
        Ok(())
    })
}

#[test]
fn a_container_sees_what_the_host_mounts_later_where_it_asks_for_that() -> Result<()> {
    const NOTHING: Option<&str> = None;
    let ways = [
        (MountPropagation::PropagationHostToContainer, "mounted later\n"),
        (MountPropagation::PropagationBidirectional, "mounted later\n"),
        (MountPropagation::PropagationPrivate, "nothing\n"),
    ];
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("propagation"))?;
        let later = node.volume("later")?;
        std::fs::write(later.join("file"), "mounted later\n")?;
        for (attempt, (way, expected)) in (0..).zip(ways) {
            // CRI shares only what is below a mount that is shared itself.
            let volume = node.volume(&format!("volume-{attempt}"))?;
            std::fs::create_dir(volume.join("below"))?;
            mount(Some(&volume), &volume, NOTHING, MsFlags::MS_BIND, NOTHING)?;
            mount(NOTHING, &volume, NOTHING, MsFlags::MS_SHARED, NOTHING)?;
            let script = "echo waits; while [ ! -e /volume/go ]; do sleep 0.1; done; \
                          cat /volume/below/file 2>/dev/null || echo nothing";
            let container = Container::shell("app", &node.image("linux")?, script)
                .attempt(attempt)
                .mount_with(&volume, "/volume", way);
            let container = pod.run(&container)?;
            container.wait_for_output("waits")?;
            mount(Some(&later), &volume.join("below"), NOTHING, MsFlags::MS_BIND, NOTHING)?;
            std::fs::write(volume.join("go"), "")?;
            assert_eq!(container.wait()?.code, 0, "{way:?}: {:?}", container.logs()?);
            assert_eq!(container.logs()?.stdout, format!("waits\n{expected}"), "{way:?}");
            container.remove()?;
            umount2(&volume.join("below"), MntFlags::MNT_DETACH)?;
            umount2(&volume, MntFlags::MNT_DETACH)?;
        }
        Ok(())
    })
}

#[test]
fn a_working_directory_that_the_image_does_not_have_is_made() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("workdir"))?;
        let container = Container::shell("app", &node.image("linux")?, "pwd");
        let container = pod.run(&container.working_dir("/made/for/it"))?;
        assert_eq!(container.wait()?.code, 0, "{:?}", container.logs()?);
        assert_eq!(container.logs()?.stdout, "/made/for/it\n");
        Ok(())
    })
}

#[test]
fn linux_containers_end_with_their_own_exit_code() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("codes"))?;
        let linux = node.image("linux")?;
        for code in [0, 1, 127, 255] {
            let name = format!("exit-{code}");
            let command = pod.run(&Container::shell(&name, &linux, &format!("exit {code}")))?;
            assert_eq!(command.wait()?.code, code);
        }
        Ok(())
    })
}

#[test]
fn a_linux_container_that_ignores_sigterm_is_killed_after_the_grace_period() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("stubborn"))?;
        let script = "trap '' TERM; echo ready; sleep 1000";
        let stubborn = pod.run(&Container::shell("stubborn", &node.image("linux")?, script))?;
        stubborn.wait_for_output("ready")?;

        let start = Instant::now();
        let exit = stubborn.stop(Duration::from_secs(2))?;
        assert_eq!(exit.code, 137);
        assert!(start.elapsed() >= Duration::from_secs(2), "killed before its time was over");
        Ok(())
    })
}

#[test]
fn a_linux_program_that_is_not_there_is_named() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("typo"))?;
        let container =
            Container::new("typo", &node.image("linux")?).command(&["/no/such/program"]);
        let error = pod.run(&container).expect_err("there is nothing to run");
        assert!(format!("{error:#}").contains("/no/such/program"), "{error:#}");
        Ok(())
    })
}

#[test]
fn twenty_linux_pods_run_at_once() -> Result<()> {
    on_each_containerd(|node| {
        let linux = node.image("linux")?;
        let script = "echo ready; exec sleep 1000";
        crate::pod::twenty_at_once(node, &|pod| {
            let container = pod.run(&Container::shell("app", &linux, script))?;
            container.wait_for_output("ready")
        })
    })
}

#[test]
fn a_pod_that_shares_processes_ends_after_a_container_could_not_be_made() -> Result<()> {
    // Whether the process that failed is noticed in time was a matter of luck.
    const ATTEMPTS: u32 = 20;
    on_each_containerd(|node| {
        let image = node.image("linux")?;
        for attempt in 0..ATTEMPTS {
            let pod = node.run_pod(&Pod::new(&format!("shared-{attempt}")).shared_processes())?;
            let container = Container::shell("app", &image, "true").shared_processes();
            let container = pod.create(&container.working_dir("/bin/busybox"))?;
            let error = format!("{:#}", container.start().expect_err("a file is no folder"));
            assert!(error.contains("/bin/busybox: not a directory"), "{error}");
            pod.stop()?;
            pod.remove()?;
        }
        Ok(())
    })
}
