//! Scopes that systemd makes on request (org.freedesktop.systemd1(5); systemd.resource-control(5)).
//!
//! systemd gets the limits that it knows, because it writes them again when it reloads. All limits are also written to
//! the cgroup's files. systemd does not answer while it executes itself anew, so calls are repeated until their time is
//! up.
//!
//! A separate process makes each call, because the D-Bus library starts threads. They would stay in the shim, and a
//! process that forks later must not have them.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::unistd::{ForkResult, Pid, fork};
use oci_spec::runtime::LinuxResources;
use zbus::blocking::Proxy;
use zbus::blocking::connection::Builder;
use zbus::zvariant::{OwnedObjectPath, Value};

use super::scope::Scope;
use super::{Cgroup, properties};
use crate::child::{self, Ended, exit};
use crate::{Error, wait, wire};

/// How long systemd may take for a request in all, unless the caller has less time: as long as runc waits for a scope. It takes
/// systemd a second or two to execute itself anew; kubelet gives up on a container after two minutes.
const TIME: Duration = Duration::from_secs(30);

/// Pause before a call is repeated.
const PAUSE: Duration = Duration::from_millis(250);

/// Pause between two checks whether the process is in its scope.
const MOVING_PAUSE: Duration = Duration::from_millis(10);

const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const MISSING: &str = "org.freedesktop.systemd1.NoSuchUnit";

type Properties = BTreeMap<&'static str, Value<'static>>;

impl Cgroup {
    /// Makes the scope with a process in it, and returns when the process is there, or fails at `until`. The scope then also has
    /// the controllers that systemd does not know, such as that of huge pages.
    pub(crate) fn start_scope(
        &self,
        pid: Pid,
        resources: &LinuxResources,
        until: Instant,
    ) -> Result<(), Error> {
        let (begin, end) = (Instant::now(), until.min(Instant::now() + TIME));
        self.by_another(end, || self.start(pid, resources, end))?;
        let is_moved = || Ok(self.pids()?.contains(&pid));
        let is_final = |moved: &Result<bool, Error>| !matches!(moved, Ok(false));
        if !wait::repeat_by(end, MOVING_PAUSE, is_final, is_moved)? {
            let time = begin.elapsed().as_secs();
            let reason = format!("systemd has not moved process {pid} there within {time} s");
            return Err(self.refuse(&reason));
        }
        self.enable_above();
        Ok(())
    }

    /// Removes the scope, unless a process is still in it.
    pub(crate) fn stop_scope(&self) -> Result<(), Error> {
        if !self.pids()?.is_empty() {
            return Ok(());
        }
        let end = Instant::now() + TIME;
        self.by_another(end, || {
            let stopped = call(end, |manager| {
                manager.call::<_, _, OwnedObjectPath>("StopUnit", &(self.unit(), "replace"))
            });
            match stopped {
                Err(zbus::Error::MethodError(name, ..)) if *name == MISSING => Ok(()),
                other => other.map(drop),
            }
        })
    }

    /// Sets the limits that systemd knows.
    pub(super) fn limit_scope(&self, resources: &LinuxResources) -> Result<(), Error> {
        let properties: Vec<_> = properties::of(resources).into_iter().collect();
        let end = Instant::now() + TIME;
        self.by_another(end, || {
            call(end, |manager| {
                manager.call::<_, _, ()>("SetUnitProperties", &(self.unit(), true, &properties))
            })
        })
    }

    fn start(&self, pid: Pid, resources: &LinuxResources, end: Instant) -> zbus::Result<()> {
        let (unit, properties) = (self.unit(), self.properties(pid, resources));
        let properties: Vec<_> = properties.into_iter().collect();
        let none: [(&str, Vec<(&str, Value<'_>)>); 0] = [];
        let start = || {
            call(end, |manager| {
                let arguments = (&unit, "replace", &properties, &none[..]);
                manager.call::<_, _, OwnedObjectPath>("StartTransientUnit", &arguments).map(drop)
            })
        };
        let exists = |started: &zbus::Result<()>| matches!(started, Err(zbus::Error::MethodError(name, ..)) if *name == EXISTS);
        let started = start();
        if !exists(&started) {
            return started;
        }
        // Either a failed unit has that name, or it runs because other containers share the cgroup.
        let _ = call(end, |manager| manager.call::<_, _, ()>("ResetFailedUnit", &(&unit,)));
        let started = start();
        if !exists(&started) {
            return started;
        }
        call(end, |manager| {
            let pids = vec![pid.as_raw().unsigned_abs()];
            manager.call::<_, _, ()>("AttachProcessesToUnit", &(&unit, "", pids))
        })
    }

    /// Properties of the scope, as of runc's. A unit that fails is removed.
    fn properties(&self, pid: Pid, resources: &LinuxResources) -> Properties {
        let path = self.cgroups_path();
        let (slice, name) = Scope::parse(&path)
            .map_or_else(Default::default, |it| (it.slice().to_owned(), it.name().to_owned()));
        let mut properties = properties::of(resources);
        properties.extend([
            ("Description", Value::from(format!("libcontainer container {name}"))),
            ("Slice", Value::from(slice)),
            ("PIDs", Value::from(vec![pid.as_raw().unsigned_abs()])),
            ("Delegate", Value::from(true)),
            ("MemoryAccounting", Value::from(true)),
            ("CPUAccounting", Value::from(true)),
            ("IOAccounting", Value::from(true)),
            ("TasksAccounting", Value::from(true)),
            ("DefaultDependencies", Value::from(false)),
            ("CollectMode", Value::from("inactive-or-failed")),
        ]);
        properties
    }

    fn unit(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Makes calls in a further process, and waits for it up to `end`. For request processes, which have one thread.
    fn by_another(
        &self,
        end: Instant,
        calls: impl FnOnce() -> zbus::Result<()>,
    ) -> Result<(), Error> {
        let (mut ours, theirs) = UnixStream::pair().map_err(Error::io("make a socket pair"))?;
        // SAFETY: request processes have one thread.
        match unsafe { fork() }.map_err(Error::system("fork to ask systemd"))? {
            ForkResult::Child => {
                let reason = calls().err().map(|error| error.to_string());
                let _ = wire::write(&theirs, &reason.unwrap_or_default());
                exit(0)
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let begin = Instant::now();
                let ended = child::wait_by(child, Some(end)).map_err(Error::io("wait for systemd"));
                if ended? == Ended::Late {
                    let time = begin.elapsed().as_secs();
                    return Err(self.refuse(&format!("systemd has not answered within {time} s")));
                }
                // The process has ended, so its whole answer is in the socket.
                let mut bytes = Vec::new();
                ours.read_to_end(&mut bytes).map_err(Error::io("read systemd's answer"))?;
                match serde_json::from_slice::<String>(&bytes) {
                    Ok(reason) if reason.is_empty() => Ok(()),
                    Ok(reason) => Err(self.refuse(&format!("systemd: {reason}"))),
                    Err(_) => Err(Error::Gone { process: "request" }),
                }
            }
        }
    }
}

/// Calls a method of systemd.
fn call<T>(end: Instant, method: impl Fn(&Proxy<'_>) -> zbus::Result<T>) -> zbus::Result<T> {
    persist(end, || {
        let left = end.saturating_duration_since(Instant::now());
        let connection = Builder::system()?.method_timeout(left).build()?;
        let name = "org.freedesktop.systemd1";
        let interface = "org.freedesktop.systemd1.Manager";
        method(&Proxy::new(&connection, name, "/org/freedesktop/systemd1", interface)?)
    })
}

/// Repeats a call up to `end` while systemd cannot be reached. A refusal of systemd is final.
fn persist<T>(end: Instant, attempt: impl FnMut() -> zbus::Result<T>) -> zbus::Result<T> {
    let is_final = |answer: &zbus::Result<T>| !answer.as_ref().is_err_and(is_passing);
    wait::repeat_by(end, PAUSE, is_final, attempt)
}

/// Whether the error means that systemd cannot be reached for a moment.
fn is_passing(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(name, ..) => {
            let name = name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default();
            ["NoReply", "Disconnected", "ServiceUnknown", "NameHasNoOwner", "TimedOut", "Timeout"]
                .contains(&name)
        }
        zbus::Error::InputOutput(_) | zbus::Error::Handshake(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{Error as IoError, ErrorKind};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Set in the process that a test executes itself in.
    const INNER: &str = "SANDBOX_TEST_INNER";

    #[test]
    fn a_scope_is_asked_for_as_runcs_are_and_with_its_limits() {
        let host = tempfile::tempdir().expect("temporary directory");
        std::fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
        let path = Path::new("kubepods-pod1.slice:cri-containerd:c1");
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(path), "c1", true).expect("a scope");
        let resources = serde_json::json!({ "memory": { "limit": 4096 } });
        let resources = serde_json::from_value(resources).expect("resources");
        let properties = cgroup.properties(Pid::from_raw(7), &resources);
        assert_eq!(cgroup.unit(), "cri-containerd-c1.scope");
        for (name, value) in [
            ("Slice", Value::from("kubepods-pod1.slice")),
            ("PIDs", Value::from(vec![7_u32])),
            ("Delegate", Value::from(true)),
            ("MemoryMax", Value::from(4096_u64)),
            ("Description", Value::from("libcontainer container c1")),
            ("CollectMode", Value::from("inactive-or-failed")),
        ] {
            assert_eq!(properties.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn a_call_is_repeated_while_systemd_is_not_there_and_no_longer() {
        let gone = || zbus::Error::from(IoError::from(ErrorKind::ConnectionRefused));
        let soon = |pauses| Instant::now() + PAUSE * pauses;
        let mut left = 3;
        let answer = persist(soon(20), || {
            left -= 1;
            if left > 0 { Err(gone()) } else { Ok(7) }
        });
        assert_eq!(answer.expect("answers in the end"), 7);
        let (mut calls, begin) = (0, Instant::now());
        let answer: zbus::Result<()> = persist(soon(3), || {
            calls += 1;
            Err(gone())
        });
        assert!(answer.is_err() && begin.elapsed() < PAUSE * 4);
        assert!((2..=3).contains(&calls), "{calls}");
        let mut calls = 0;
        let answer: zbus::Result<()> = persist(soon(20), || {
            calls += 1;
            Err(zbus::Error::InvalidField)
        });
        assert!(answer.is_err());
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_bus_that_does_not_answer_is_given_up_when_the_time_is_up() {
        let host = tempfile::tempdir().expect("temporary directory");
        std::fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
        let path = Path::new("kubepods-pod1.slice:cri-containerd:c1");
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(path), "c1", true).expect("a scope");
        let begin = Instant::now();
        let answer = cgroup.by_another(begin + PAUSE, || {
            std::thread::sleep(TIME);
            Ok(())
        });
        let error = answer.expect_err("is given up").to_string();
        assert!(error.contains("has not answered"), "{error}");
        assert!(begin.elapsed() < TIME / 3);
    }

    /// Variable of zbus with the address of the bus. It is set in a further process, in which the test itself runs.
    const BUS: &str = "DBUS_SYSTEM_BUS_ADDRESS";

    #[test]
    fn a_scope_is_not_waited_for_longer_than_its_caller_waits() {
        let host = tempfile::tempdir().expect("temporary directory");
        if env::var_os(INNER).is_some() {
            std::fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
            let path = Some(Path::new("no-such.slice:cri-containerd:c1"));
            let cgroup = Cgroup::in_hierarchies(host.path(), path, "c1", true).expect("a scope");
            let (begin, none) = (Instant::now(), LinuxResources::default());
            let late = cgroup.start_scope(Pid::this(), &none, begin + PAUSE * 2);
            assert!(late.expect_err("is late").to_string().contains("has not answered"));
            assert!(begin.elapsed() < TIME / 3, "{:?}", begin.elapsed());
            return;
        }
        // It is connected to, and never answers.
        let socket = host.path().join("bus");
        let _silent = UnixListener::bind(&socket).expect("listens");
        let name = "cgroup::systemd::tests::a_scope_is_not_waited_for_longer_than_its_caller_waits";
        let itself = env::current_exe().expect("a path");
        let output = Command::new(itself)
            .args([name, "--exact", "--test-threads=1"])
            .env(BUS, format!("unix:path={}", socket.display()))
            .env(INNER, "1")
            .output()
            .expect("is executed");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "{output:?}");
    }
}
