//! What code could do that has broken out of Wasmtime's sandbox, in the process of a guest that runs: an escape drill.
//!
//! The process is made to do system calls of the story's choice in place of its own (`tests::captive`). The container is
//! the worst case: its user is root, its spec grants every capability, and its Pod has no seccomp profile.
//! `confinement.txt` has what is reached. With `WASMTIME_SHIM_TEST_RECORD` in the environment it is written anew, so that
//! the changes can be reviewed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result};
use libseccomp::ScmpSyscall;
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;
use tests::captive::{Answer, Arg, Captive};
use tests::processes;
use tests::shim::{Bundle, Shim};
use tests::wait::{self, SOON};

use crate::isolation::end;
use crate::shim::granted;

mod attempts;

use attempts::ATTEMPTS;

/// Variable with which the story writes the file.
const RECORD: &str = "WASMTIME_SHIM_TEST_RECORD";

/// Every system call of Linux 6.18 on this processor has a lower number.
const NUMBERS: i32 = 480;

/// Calls that would end the process or the drill, and one that writes all of the node's files to their disks. The last two are
/// uretprobe and uprobe, which the kernel takes only from itself.
const NOT_TRIED: [i64; 6] =
    [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigreturn, libc::SYS_sync, 335, 336];

/// An argument that means nothing, whichever it is: no descriptor, no address, no flags that exist together.
const NOTHING: Arg = Arg::Number(u64::MAX);

/// Heading of those calls in the file.
const REACHED: &str = "# reached, of all system calls, with arguments that mean nothing\n";

fn recorded() -> PathBuf {
    tests::containerd::repository().join("tests/tests/stories/confinement.txt")
}

/// A guest's container in which nothing but the runtime itself bounds the process.
fn container(image: &str, args: &[&str]) -> Result<Bundle> {
    let bundle = Bundle::guest(image)?;
    let all: Vec<String> = fs::read_to_string("/proc/self/status")?
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .map(capabilities)
        .unwrap_or_default();
    bundle.edit_config(|config| {
        config["process"]["args"] = json!(["/guest.wasm"]);
        config["process"]["args"]
            .as_array_mut()
            .expect("a list")
            .extend(args.iter().map(|&it| json!(it)));
        config["process"]["capabilities"] = json!({ "bounding": all, "effective": all,
            "permitted": all, "inheritable": all, "ambient": all });
        let kinds = ["pid", "mount", "ipc", "uts", "network"];
        config["linux"]["namespaces"] = kinds.map(|kind| json!({ "type": kind })).into();
    })?;
    Ok(bundle)
}

/// The capabilities of a set that is written as a hexadecimal number, of those that a spec can name.
fn capabilities(set: &str) -> Vec<String> {
    const NAMES: [(u32, &str); 8] = [
        (0, "CAP_CHOWN"),
        (1, "CAP_DAC_OVERRIDE"),
        (7, "CAP_SETUID"),
        (10, "CAP_NET_BIND_SERVICE"),
        (13, "CAP_NET_RAW"),
        (12, "CAP_NET_ADMIN"),
        (19, "CAP_SYS_PTRACE"),
        (21, "CAP_SYS_ADMIN"),
    ];
    let set = u64::from_str_radix(set.trim(), 16).unwrap_or_default();
    let names = NAMES.iter().filter(|(bit, _)| set & (1 << bit) != 0);
    names.map(|(_, name)| (*name).to_owned()).collect()
}

/// Names of the system calls that the kernel begins to carry out, whatever comes of it.
fn reached(captive: &Captive) -> Result<BTreeSet<String>> {
    let mut reached = BTreeSet::new();
    for number in (0..NUMBERS).filter(|number| !NOT_TRIED.contains(&i64::from(*number))) {
        // A number that this library does not know has no name yet.
        let name = ScmpSyscall::from(number).get_name().unwrap_or_else(|_| number.to_string());
        // The kernel answers as if there were no such call if only the operation means nothing.
        let args = if name == "futex" { [Arg::Number(0); 6] } else { [NOTHING; 6] };
        let answer = captive.call(number.into(), &args).with_context(|| name.clone())?;
        if !matches!(answer, Answer::Failed(Errno::EPERM | Errno::ENOSYS)) {
            reached.insert(name);
        }
    }
    Ok(reached)
}

fn attempted(captive: &Captive) -> Result<String> {
    let mut lines = String::new();
    for (what, number, args) in ATTEMPTS {
        let answer = match captive.call(*number, args).context(*what)? {
            Answer::Done(_) => "done".to_owned(),
            Answer::Waits => "waits".to_owned(),
            Answer::Failed(errno) => format!("{errno:?}"),
        };
        writeln!(lines, "{what}: {answer}")?;
    }
    Ok(lines)
}

/// Fields of a status (proc(5)) that say what a process may do.
fn rights(pid: u32) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kinds = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];
    let lines =
        status.lines().filter(|line| kinds.contains(&line.split(':').next().unwrap_or_default()));
    Ok(lines.map(|line| format!("{}\n", line.replace('\t', " "))).collect())
}

/// Waits until a process waits in one of these system calls, as one does whose guest has begun.
fn waits_in(pid: u32, calls: &[i64]) -> Result<()> {
    wait::until(SOON, "the guest to wait", || {
        let call = processes::system_call(pid);
        Ok(call.is_some_and(|(number, _)| calls.contains(&number)).then_some(()))
    })
}

/// An exec process of the container, beside its first one.
fn exec(shim: &Shim, bundle: &Bundle, id: &str, command: &[&str]) -> Result<u32> {
    let members = || -> Result<BTreeSet<i32>> {
        let family = processes::family(&bundle.shim()?);
        Ok(family.into_iter().filter(|it| it.name == "wasm").map(|it| it.pid).collect())
    };
    let before = members()?;
    granted(shim.exec(&bundle.id, id, command))?;
    granted(shim.start_exec(&bundle.id, id))?;
    let pid =
        wait::until(SOON, "the process", || Ok(members()?.difference(&before).next().copied()))?;
    Ok(pid.try_into()?)
}

#[test]
fn what_has_broken_out_of_a_guest_reaches_what_was_recorded() -> Result<()> {
    let bundle = container("hello-http", &[])?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    waits_in(pid, &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait])?;
    let rights = rights(pid)?;
    let captive = Captive::seize(pid)?;
    let calls: Vec<String> = reached(&captive)?.into_iter().collect();
    let found = format!(
        "# rights\n{rights}\n{REACHED}{}\n\n# attempts\n{}",
        calls.join("\n"),
        attempted(&captive)?
    );
    drop(captive);
    end(&shim, &bundle)?;
    bundle.close()?;
    if env::var_os(RECORD).is_some() {
        return Ok(fs::write(recorded(), found)?);
    }
    let expected = fs::read_to_string(recorded())?;
    for (expected, found) in expected.split("# ").zip(found.split("# ")) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn a_command_and_what_is_executed_beside_it_reach_no_more_than_a_server() -> Result<()> {
    let recorded = fs::read_to_string(recorded())?;
    let (_, after) = recorded.split_once(REACHED).context("no calls are recorded")?;
    let of_server: BTreeSet<&str> = after.lines().take_while(|line| !line.is_empty()).collect();
    let bundle = container("hello", &["sleep", "1000"])?;
    let (shim, fifo) = (bundle.start()?, bundle.folder.join("image/fifo"));
    mkfifo(&fifo, Mode::S_IRWXU)?;
    let first = granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    let waits = &[libc::SYS_epoll_wait, libc::SYS_clock_nanosleep][..];
    waits_in(first, waits)?;
    let guest = exec(&shim, &bundle, "guest", &["/guest.wasm", "sleep", "1000"])?;
    let built_in = exec(&shim, &bundle, "built-in", &["cat", "/fifo"])?;
    for (what, pid, waiting) in [
        ("command", first, waits),
        ("executed guest", guest, waits),
        ("built-in command", built_in, &[libc::SYS_openat]),
    ] {
        waits_in(pid, waiting).context(what)?;
        let rights = rights(pid)?;
        assert!(recorded.contains(&rights), "{what}: {rights}");
        let captive = Captive::seize(pid)?;
        let reached = reached(&captive).context(what)?;
        let more: Vec<_> = reached.iter().filter(|it| !of_server.contains(it.as_str())).collect();
        assert!(more.is_empty(), "{what}: {more:?}");
    }
    end(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_profile_that_forbids_filters_does_not_keep_the_runtimes_own_away() -> Result<()> {
    let every = "SCMP_ACT_ALLOW";
    for (default, action) in [(every, "SCMP_ACT_KILL_PROCESS"), ("SCMP_ACT_LOG", "SCMP_ACT_ERRNO")]
    {
        let bundle = container("hello-http", &[])?;
        bundle.edit_config(|config| {
            config["linux"]["seccomp"] = json!({ "defaultAction": default,
                "syscalls": [{ "names": ["seccomp", "mkdir"], "action": action }] });
        })?;
        let shim = bundle.start()?;
        let pid = granted(shim.create(&bundle.create_request()))?;
        granted(shim.start(&bundle.id))?;
        waits_in(pid, &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait])?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let filters = status.lines().find(|line| line.starts_with("Seccomp_filters"));
        assert_eq!(filters, Some("Seccomp_filters:\t3"));
        end(&shim, &bundle)?;
        bundle.close()?;
    }
    Ok(())
}
