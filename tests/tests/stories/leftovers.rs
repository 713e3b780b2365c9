//! The harness itself: what is left behind is found by name, and wiped away after a failure.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use tests::Node;
use tests::containerd::Containerd;
use tests::processes::Process;
use tests::wait::{self, SOON};

#[test]
fn a_process_a_mount_and_a_cgroup_are_found_and_wiped_away() -> Result<()> {
    let containerd = Containerd::available()?.pop().context("there is no containerd")?;
    let node = Node::start(containerd)?;
    let daemon = node.daemon_pid();
    assert_eq!(node.traces.find(daemon), Vec::<String>::new());

    let folder = node.volume("left")?;
    let mut process =
        Command::new("sleep").arg("1000").current_dir(node.volume("process")?).spawn()?;
    // posix_spawn(3) is back before the new program's arguments are in place.
    let has_begun = || Ok(Process::at(process.id() as i32).filter(|it| !it.command.is_empty()));
    wait::until(SOON, "sleep to be executed", has_begun)?;
    mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let hierarchy = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
    let hierarchy = hierarchy.into_iter().find(|path| path.exists()).context("no cgroups")?;
    fs::create_dir_all(hierarchy.join(&node.cgroup_parent()[1..]).join("left"))?;

    let found = node.traces.find(daemon).join("\n");
    for expected in
        [format!("process {}: sleep", process.id()), format!("mount {}", folder.display())]
    {
        assert!(found.contains(&expected), "no {expected} in {found}");
    }
    assert!(found.lines().any(|line| line.starts_with("cgroup ") && line.ends_with("/left")));

    let traces = node.traces.clone();
    drop(node);
    process.wait()?;
    assert_eq!(traces.find(None), Vec::<String>::new());
    Ok(())
}
