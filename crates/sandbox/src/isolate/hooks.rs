//! Programs that the spec has run at points of a container's life (OCI runtime spec, "POSIX-platform Hooks").
//!
//! Each is handed the container's state as JSON on its stdin, and has a bound of time if it asks for one.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use oci_spec::runtime::{ContainerState, Hook, Spec};
use serde_json::json;

use super::errors::{Failed, Step};
use crate::pidfd::PidFd;
use crate::{Create, Error, unwritable};

/// What hooks are told of a container.
#[derive(Debug)]
pub struct State<'a> {
    create: &'a Create,
    spec: &'a Spec,
    /// `/dev/null`, which need not be there where hooks run.
    null: File,
}

impl<'a> State<'a> {
    /// Of the container that was asked for.
    pub fn new(create: &'a Create, spec: &'a Spec) -> Result<State<'a>, Error> {
        Ok(State { create, spec, null: unwritable::null()?.into() })
    }

    /// What is not to be closed before hooks run.
    pub fn descriptor(&self) -> RawFd {
        self.null.as_raw_fd()
    }

    /// Runs hooks in their order, up to the first that fails. `environment` is that of hooks that name none.
    pub fn run(
        &self,
        kind: &str,
        hooks: Option<&Vec<Hook>>,
        status: ContainerState,
        pid: Option<Pid>,
        environment: &[String],
    ) -> Result<(), Failed> {
        let state = json!({
            "ociVersion": self.spec.version(),
            "id": self.create.id,
            "status": status,
            "pid": pid.map(Pid::as_raw),
            "bundle": self.create.bundle,
            "annotations": self.spec.annotations(),
        });
        let state = state.to_string();
        hooks.into_iter().flatten().try_for_each(|hook| {
            let step = || Step::Hook(kind.to_owned(), hook.path().clone());
            let status = self.run_one(hook, &state, environment).map_err(Failed::at(step()))?;
            match status {
                None => Err(Failed::new(step(), "its time was up")),
                Some(status) if status.success() => Ok(()),
                Some(status) => Err(Failed::new(step(), how(status))),
            }
        })
    }

    /// `None` if its time was up.
    fn run_one(
        &self,
        hook: &Hook,
        state: &str,
        environment: &[String],
    ) -> io::Result<Option<ExitStatus>> {
        let args = hook.args().as_deref().unwrap_or_default();
        let (name, args) = match args.split_first() {
            Some((name, args)) => (Path::new(name), args),
            None => (hook.path().as_path(), args),
        };
        let environment = hook.env().as_deref().unwrap_or(environment);
        let child = Command::new(hook.path())
            .arg0(name)
            .args(args)
            .env_clear()
            .envs(environment.iter().filter_map(|it| it.split_once('=')))
            .stdin(Stdio::piped())
            .stdout(self.null.try_clone()?)
            .spawn()?;
        let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
        wait(child, state, timeout.map(Duration::from_secs))
    }
}

fn wait(
    mut child: Child,
    state: &str,
    timeout: Option<Duration>,
) -> io::Result<Option<ExitStatus>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(state.as_bytes()) {
            // It need not read.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
            _ => {}
        }
    }
    let Some(timeout) = timeout else { return child.wait().map(Some) };
    let until = Instant::now() + timeout;
    let process = PidFd::open(Pid::from_raw(child.id() as i32)).map_err(io::Error::other)?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = child.kill();
            return child.wait().map(|_| None);
        }
        let milliseconds = left.as_millis().clamp(1, 60_000) as u16;
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(milliseconds));
        if process.has_ended() {
            return child.wait().map(Some);
        }
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, signal) => format!("it was ended by signal {}", signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Workload;

    fn run(hooks: serde_json::Value) -> Result<(), Failed> {
        let create = Create {
            id: "c1".into(),
            bundle: "/bundle".into(),
            systemd_cgroup: false,
            no_pivot_root: false,
            stdio: [false; 3],
            console: false,
            workload: Workload::Pause,
            runtime: None,
            time: crate::limits::RUNTIME_TIME,
        };
        let spec = json!({ "ociVersion": "1.0.2", "annotations": { "a": "b" } });
        let spec: Spec = serde_json::from_value(spec).expect("a spec");
        let hooks: Vec<Hook> = serde_json::from_value(hooks).expect("hooks");
        let state = State::new(&create, &spec).expect("a state");
        let pid = Some(Pid::from_raw(7));
        state.run("prestart", Some(&hooks), ContainerState::Creating, pid, &["X=of all".into()])
    }

    fn shell(script: &str) -> serde_json::Value {
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    }

    #[test]
    fn a_hook_is_told_the_containers_state() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let told = directory.path().join("told");
        run(shell(&format!("cat >{0}; echo \"$X\" >>{0}", told.display()))).expect("runs");
        let told = std::fs::read_to_string(told).expect("told");
        let (state, environment) = told.split_once('}').expect("a state");
        let annotations = r#""annotations":{"a":"b""#;
        assert!(state.contains(annotations), "{told}");
        let (_, rest) = environment.split_once('}').expect("the end of the state");
        assert_eq!(rest.trim(), "of all");
        for part in [r#""id":"c1""#, r#""pid":7"#, r#""bundle":"/bundle""#, r#""creating""#] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }

    #[test]
    fn a_hook_that_fails_is_named_with_its_end() {
        let failed = run(shell("exit 3")).expect_err("fails").to_string();
        assert_eq!(failed, r#"cannot run the prestart hook "/bin/sh": it ended with exit code 3"#);
        let missing = run(json!([{ "path": "/no/hook" }])).expect_err("is missing").to_string();
        assert!(missing.contains("no such file"), "{missing}");
    }

    #[test]
    fn a_hook_has_its_time_and_no_more() {
        let slow =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "exec sleep 60"], "timeout": 1 }]);
        let begin = Instant::now();
        let failed = run(slow).expect_err("is too slow").to_string();
        assert!(failed.contains("its time was up"), "{failed}");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
