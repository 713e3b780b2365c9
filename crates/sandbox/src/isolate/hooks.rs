//! Hooks: programs that run at points of a container's life (OCI runtime spec, "POSIX-platform Hooks").
//!
//! Each gets the container's state as JSON on its stdin. Its own time limit and those of Create, Start and Delete bound
//! how long it may run. It is killed when that time is up, or when the process that waits for it ends.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use oci_spec::runtime::{ContainerState, Hook, Spec};
use serde_json::{Value, json};

use super::errors::{Failed, Step};
use crate::child::{self, Ended};
use crate::{Create, Error, read_only};

/// State of a container, for its hooks.
#[derive(Debug)]
pub struct State<'a> {
    create: &'a Create,
    spec: &'a Spec,
    /// `/dev/null`, opened here because it may not exist where hooks run.
    null: File,
}

/// Hooks of one kind, prepared so that running them opens nothing but their programs.
pub struct Prepared<'a> {
    kind: &'a str,
    /// Each hook with its stdin.
    hooks: Vec<(&'a Hook, File)>,
    null: &'a File,
}

impl<'a> State<'a> {
    /// State of the container of a request.
    pub fn new(create: &'a Create, spec: &'a Spec) -> Result<State<'a>, Error> {
        Ok(State { create, spec, null: read_only::null()?.into() })
    }

    /// Runs hooks in their order, up to the first that fails or has not ended by `until`. `pid` is the container's first
    /// process in the pid namespace of the hooks; `None` when it has ended.
    pub fn run(
        &self,
        kind: &str,
        hooks: Option<&Vec<Hook>>,
        status: ContainerState,
        pid: Option<Pid>,
        until: Option<Instant>,
    ) -> Result<(), Failed> {
        self.prepare(kind, hooks, status, pid)?.run(&[], until)
    }

    /// Prepares hooks that run later.
    pub fn prepare<'b>(
        &'b self,
        kind: &'b str,
        hooks: Option<&'b Vec<Hook>>,
        status: ContainerState,
        pid: Option<Pid>,
    ) -> Result<Prepared<'b>, Failed> {
        let hooks = hooks.map(Vec::as_slice).unwrap_or_default();
        let state =
            if hooks.is_empty() { String::new() } else { self.json(status, pid).to_string() };
        let with_stdin = |hook: &'b Hook| {
            let stdin = in_memory(&state).map_err(Failed::at(step(kind, hook)))?;
            Ok((hook, stdin))
        };
        let hooks = hooks.iter().map(with_stdin).collect::<Result<_, _>>()?;
        Ok(Prepared { kind, hooks, null: &self.null })
    }

    fn json(&self, status: ContainerState, pid: Option<Pid>) -> Value {
        let mut state = json!({
            "ociVersion": self.spec.version(),
            "id": self.create.id,
            "status": status,
            "bundle": self.create.bundle,
        });
        if let Some(annotations) = self.spec.annotations() {
            state["annotations"] = json!(annotations);
        }
        if let Some(pid) = pid {
            state["pid"] = pid.as_raw().into();
        }
        state
    }
}

impl Prepared<'_> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Descriptors that must stay open until they run.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let null = (!self.hooks.is_empty()).then_some(self.null);
        self.hooks.iter().map(|(_, stdin)| stdin).chain(null).map(AsRawFd::as_raw_fd)
    }

    /// Runs the hooks as [`State::run`] does. `environment` is for hooks that have none of their own.
    pub fn run(self, environment: &[String], until: Option<Instant>) -> Result<(), Failed> {
        let (kind, null) = (self.kind, self.null);
        self.hooks.into_iter().try_for_each(|(hook, stdin)| {
            let step = || step(kind, hook);
            let limit = limit(hook, until);
            let ended = execute(hook, environment, stdin, null)
                .and_then(|hook| child::wait_by(hook, limit.map(|limit| Instant::now() + limit)));
            match ended.map_err(Failed::at(step()))? {
                Ended::With(status) if status.success() => Ok(()),
                Ended::With(status) => Err(Failed::new(step(), how(status))),
                Ended::Reaped => Err(Failed::new(step(), "another process waited for it")),
                Ended::Late => {
                    let seconds = limit.unwrap_or_default().as_secs_f32().round();
                    let reason = format!("it did not end within {seconds} s and was killed");
                    Err(Failed::new(step(), reason))
                }
            }
        })
    }
}

fn step(kind: &str, hook: &Hook) -> Step {
    Step::Hook(kind.to_owned(), hook.path().clone())
}

/// File in memory with the state. It is not a pipe, because a hook may leave more unread than a pipe holds.
fn in_memory(state: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"container-state", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(state.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// How long a hook may take: as long as it says itself, but not longer than `until`.
fn limit(hook: &Hook, until: Option<Instant>) -> Option<Duration> {
    let own = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    own.map(Duration::from_secs).into_iter().chain(left).min()
}

fn execute(hook: &Hook, environment: &[String], stdin: File, null: &File) -> io::Result<Pid> {
    let args = hook.args().as_deref().unwrap_or_default();
    let (name, args) = match args.split_first() {
        Some((name, args)) => (Path::new(name), args),
        None => (hook.path().as_path(), args),
    };
    let environment = hook.env().as_deref().unwrap_or(environment);
    let mut command = Command::new(hook.path());
    command.arg0(name).args(args).stdin(stdin).stdout(null.try_clone()?);
    command.env_clear().envs(environment.iter().filter_map(|it| it.split_once('=')));
    let caller = getpid();
    let end_with_caller = move || {
        // A seccomp filter may refuse this.
        let _ = set_pdeathsig(Signal::SIGKILL);
        if getppid() == caller { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
    };
    // SAFETY: between fork and execve it makes system calls with numbers: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(end_with_caller) };
    command.spawn().map(|child| Pid::from_raw(child.id() as i32))
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

    fn run(hooks: Value) -> Result<(), Failed> {
        run_with(json!({ "a": "b" }), hooks, None)
    }

    fn run_with(annotations: Value, hooks: Value, until: Option<Instant>) -> Result<(), Failed> {
        let create = Create {
            id: "c1".into(),
            bundle: "/bundle".into(),
            systemd_cgroup: false,
            no_pivot_root: false,
            workload: Workload::Pause,
            runtime: None,
            time: crate::limits::RUNTIME_TIME,
        };
        let spec = json!({ "ociVersion": "1.0.2", "annotations": annotations });
        let spec: Spec = serde_json::from_value(spec).expect("a spec");
        let hooks: Vec<Hook> = serde_json::from_value(hooks).expect("hooks");
        let state = State::new(&create, &spec).expect("a state");
        let pid = Some(Pid::from_raw(7));
        let prepared = state.prepare("prestart", Some(&hooks), ContainerState::Creating, pid)?;
        prepared.run(&["X=of all".into()], until)
    }

    fn shell(script: &str) -> Value {
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    }

    #[test]
    fn a_hook_gets_the_containers_state() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let received = directory.path().join("received");
        run(shell(&format!("cat >{0}; echo \"$X\" >>{0}", received.display()))).expect("runs");
        let received = std::fs::read_to_string(received).expect("written");
        let (state, environment) = received.split_once('}').expect("a state");
        let annotations = r#""annotations":{"a":"b""#;
        assert!(state.contains(annotations), "{received}");
        let (_, rest) = environment.split_once('}').expect("the end of the state");
        assert_eq!(rest.trim(), "of all");
        for part in [r#""id":"c1""#, r#""pid":7"#, r#""bundle":"/bundle""#, r#""creating""#] {
            assert!(received.contains(part), "{part} is not in {received}");
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
        let mut slow = shell("exec sleep 60");
        let begin = Instant::now();
        let failed = run_with(json!({}), slow.clone(), Some(begin + Duration::from_secs(1)));
        let failed = failed.expect_err("is too slow").to_string();
        assert!(failed.contains("did not end within 1 s and was killed"), "{failed}");
        slow[0]["timeout"] = 1.into();
        let failed = run(slow).expect_err("is too slow").to_string();
        assert!(failed.contains("did not end within 1 s and was killed"), "{failed}");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_large_state_is_read_whole_and_need_not_be_read() {
        let annotations = json!({ "large": "a".repeat(1 << 20) });
        let hook = shell("test $(wc -c) -gt 1048576");
        run_with(annotations.clone(), hook, None).expect("reads all");
        let mut slow = shell("exec sleep 60");
        slow[0]["timeout"] = 1.into();
        let begin = Instant::now();
        run_with(annotations, slow, None).expect_err("is too slow");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
