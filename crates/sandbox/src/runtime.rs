//! The node's OCI runtime (runc, or another one with its command line), which makes the containers of Linux programs.
//!
//! Each call is one process. It logs as JSON to a file in memory, and its last error becomes the error of the call. It is
//! killed when its time is up or its caller ends.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use serde::{Deserialize, Serialize};

use crate::child::{self, Ended};
use crate::{Error, limits, read_only};

/// The runtime if the options name none, as of containerd's own shim.
pub const DEFAULT_PROGRAM: &str = "runc";

/// Directory of the runtime's state, with a directory for each namespace of containerd, as of containerd's own shim.
pub const DEFAULT_ROOT: &str = "/run/containerd/runc";

/// An OCI runtime, as containerd's runtime options describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Path of the program, or a name that is looked up in PATH.
    pub program: String,
    /// Directory of its state (`--root`), with a directory for each container.
    pub root: PathBuf,
    /// Changes the root with `chroot` (`--no-pivot`).
    pub no_pivot_root: bool,
    /// Leaves the session keyring as it is (`--no-new-keyring`).
    pub no_new_keyring: bool,
}

impl Runtime {
    /// Path of the program.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] when there is none.
    pub fn locate(&self) -> Result<PathBuf, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        self.locate_in(std::env::split_paths(&path))
    }

    fn locate_in(&self, path: impl Iterator<Item = PathBuf>) -> Result<PathBuf, Error> {
        let searched: Vec<PathBuf> = match self.program.contains('/') {
            true => vec![PathBuf::from("/")],
            false => path.filter(|directory| directory.is_absolute()).collect(),
        };
        // join keeps an absolute path as it is.
        let mut candidates = searched.iter().map(|directory| directory.join(&self.program));
        candidates.find(|candidate| is_executable(candidate)).ok_or_else(|| {
            let searched = searched.iter().map(|directory| directory.display().to_string());
            Error::NoRuntime {
                program: self.program.clone(),
                searched: searched.collect::<Vec<_>>().join(":"),
            }
        })
    }

    /// Directory of a container's state.
    pub(crate) fn state(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Features of the runtime (OCI runtime spec, "Features Structure"), as JSON. `None` if it has no such command, as runc
    /// before 1.1.
    ///
    /// # Errors
    /// [`Error::NoRuntime`]; errors of executing it.
    pub fn features(&self) -> Result<Option<serde_json::Value>, Error> {
        let mut output = in_memory(c"features")?;
        let mut call = Call::of(self, "features", limits::FEATURES_TIME);
        let stdout = output.try_clone().map_err(Error::io("duplicate the runtime's output"))?;
        call.stdio = [None, Some(stdout.into()), None];
        match call.run() {
            Ok(_) => {}
            Err(Error::Runtime { .. } | Error::RuntimeKilled { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let text = read_back(&mut output, limits::SPEC_BYTES);
        Ok(serde_json::from_str(&text).ok())
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// One call of a runtime.
pub(crate) struct Call<'a> {
    runtime: &'a Runtime,
    verb: &'static str,
    /// Time after which it is killed.
    pub limit: Duration,
    /// Whether systemd manages the cgroups (`--systemd-cgroup`).
    pub systemd: bool,
    /// Arguments after the verb.
    pub args: Vec<OsString>,
    /// Its stdin, stdout and stderr, which `create` and `exec` pass on to the container; `None` is `/dev/null`.
    pub stdio: [Option<OwnedFd>; 3],
    /// A further descriptor that it inherits.
    pub inherited: Option<BorrowedFd<'a>>,
    /// Whether it runs in a mount namespace in which no cgroup can be found.
    pub hides_cgroups: bool,
}

impl<'a> Call<'a> {
    /// A call without arguments.
    pub fn of(runtime: &'a Runtime, verb: &'static str, limit: Duration) -> Call<'a> {
        Call {
            runtime,
            verb,
            limit,
            systemd: false,
            args: Vec::new(),
            stdio: [None, None, None],
            inherited: None,
            hides_cgroups: false,
        }
    }

    /// Runs it. Returns errors that the runtime logged although it succeeded, such as that of a hook.
    ///
    /// # Errors
    /// [`Error::NoRuntime`]; with the last error of its log, [`Error::Runtime`] if it failed and
    /// [`Error::RuntimeKilled`] if it was killed.
    pub fn run(mut self) -> Result<Vec<String>, Error> {
        let program = self.runtime.locate()?;
        let mut log = in_memory(c"runtime-log")?;
        let mut command = Command::new(&program);
        command.arg("--root").arg(&self.runtime.root).arg("--log").arg(path_of(&log));
        command.args(["--log-format", "json"]).args(self.systemd.then_some("--systemd-cgroup"));
        command.arg(self.verb).args(&self.args);
        // If it were set, runc would wait for the container to report to systemd.
        command.env_remove("NOTIFY_SOCKET");
        self.connect(&mut command)?;
        self.prepare(&mut command);
        let spawned = command.spawn();
        let child = spawned.map_err(Error::io(format!("execute {}", program.display())))?;
        let until = Instant::now() + self.limit;
        let ended = child::wait_by(Pid::from_raw(child.id() as i32), Some(until));
        let errors = errors(&read_back(&mut log, limits::RUNTIME_LOG_BYTES));
        let failed = |reason| Error::Runtime { verb: self.verb, reason };
        let killed = |reason| Error::RuntimeKilled { verb: self.verb, reason };
        match ended.map_err(Error::io(format!("wait for {}", program.display())))? {
            Ended::Late => Err(killed(self.is_late(&program, errors))),
            Ended::With(status) if status.signal().is_some() => {
                Err(killed(errors.last().cloned().unwrap_or_else(|| describe(&program, status))))
            }
            Ended::With(status) if !status.success() => {
                Err(failed(errors.last().cloned().unwrap_or_else(|| describe(&program, status))))
            }
            // The caller is the shim itself.
            Ended::Reaped if !errors.is_empty() => {
                Err(failed(errors.last().cloned().unwrap_or_default()))
            }
            Ended::With(_) | Ended::Reaped => Ok(errors),
        }
    }

    fn is_late(&self, program: &Path, errors: Vec<String>) -> String {
        let seconds = self.limit.as_secs_f32();
        let last = errors.last().map(|last| format!(" (its last error: {last})"));
        let last = last.unwrap_or_default();
        format!("{} did not end within {seconds} s and was killed{last}", program.display())
    }

    fn connect(&mut self, command: &mut Command) -> Result<(), Error> {
        let [stdin, stdout, stderr] = std::mem::take(&mut self.stdio);
        let or_null = |fd: Option<OwnedFd>| fd.map_or_else(read_only::null, Ok).map(Stdio::from);
        command.stdin(or_null(stdin)?).stdout(or_null(stdout)?).stderr(or_null(stderr)?);
        Ok(())
    }

    fn prepare(&self, command: &mut Command) {
        let (caller, hides_cgroups) = (getpid(), self.hides_cgroups);
        let inherited = self.inherited.map(|fd| fd.as_raw_fd());
        let prepare = move || {
            set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != caller {
                return Err(nix::Error::ESRCH.into());
            }
            if let Some(fd) = inherited {
                // SAFETY: the number of a descriptor of the calling process, which this one has a copy of.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            if hides_cgroups { hide_cgroups().map_err(io::Error::from) } else { Ok(()) }
        };
        // SAFETY: between fork and execve it makes system calls with arguments on the stack: it allocates nothing and
        // takes no lock.
        unsafe { command.pre_exec(prepare) };
    }
}

/// Moves this process to a new mount namespace in which the cgroups are hidden.
fn hide_cgroups() -> nix::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING)?;
    mount(Some("none"), "/sys/fs/cgroup", Some("tmpfs"), MsFlags::MS_RDONLY, NOTHING)
}

fn describe(program: &Path, status: ExitStatus) -> String {
    let program = program.display();
    match status.signal() {
        Some(signal) => format!("{program} was ended by signal {signal}"),
        None => format!("{program} ended with exit code {}", status.code().unwrap_or_default()),
    }
}

/// The messages of level error or above in a log, oldest first.
fn errors(log: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let is_error = |line: &Line| ["error", "fatal", "panic"].contains(&line.level.as_str());
    lines.filter(is_error).map(|line| line.msg).collect()
}

/// A file in memory for a call.
pub(crate) fn in_memory(name: &std::ffi::CStr) -> Result<File, Error> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC);
    file.map(File::from).map_err(Error::system("make a file for the OCI runtime"))
}

/// Path by which another process can open a file of this one.
pub(crate) fn path_of(file: &impl AsFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_fd().as_raw_fd()).into()
}

fn read_back(file: &mut File, limit: u64) -> String {
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(0));
    let _ = file.take(limit).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Removes the state of a container that a runtime has left because it was killed or uninstalled.
pub(crate) fn remove_state(state: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", state.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(program: impl Into<String>) -> Runtime {
        Runtime {
            program: program.into(),
            root: "/nowhere".into(),
            no_pivot_root: false,
            no_new_keyring: false,
        }
    }

    /// A runtime that is a shell script.
    fn script(text: &str) -> (tempfile::TempDir, Runtime) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let program = directory.path().join("fake");
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        let runtime = runtime(program.display().to_string());
        (directory, runtime)
    }

    fn call(runtime: &Runtime, limit: Duration) -> Result<Vec<String>, Error> {
        let mut call = Call::of(runtime, "create", limit);
        call.args = vec!["c1".into()];
        call.run()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_program_that_is_nowhere_is_reported_with_where_it_was_looked_for() {
        let path = ["/no/such", "relative", "/neither"].map(PathBuf::from);
        let error = runtime("no-runc").locate_in(path.into_iter()).expect_err("is nowhere");
        let text = error.to_string();
        for word in ["no-runc", "/no/such:/neither", "BinaryName"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
    }

    #[test]
    fn a_name_is_found_in_path_and_a_path_where_it_is() {
        let (directory, by_path) = script("true");
        fs::write(directory.path().join("plain"), "").expect("written");
        let find = |runtime: &Runtime| {
            let path = [Path::new("/no/such"), directory.path()].map(Path::to_owned);
            runtime.locate_in(path.into_iter())
        };
        let program = directory.path().join("fake");
        assert_eq!(find(&runtime("fake")).expect("found"), program);
        assert_eq!(find(&by_path).expect("found"), program);
        assert!(find(&runtime("plain")).is_err(), "it cannot be executed");
    }

    #[test]
    fn the_last_error_of_the_log_is_ours() {
        let text = r#"echo '{"level":"error","msg":"first"}' >$4
                      echo '{"level":"error","msg":"the cause"}' >>$4
                      echo '{"level":"warning","msg":"no matter"}' >>$4; exit 1"#;
        let (_directory, fake) = script(text);
        let error = call(&fake, LONG).expect_err("fails").to_string();
        assert_eq!(error, "OCI runtime create failed: the cause");
    }

    #[test]
    fn a_failure_without_a_log_is_described_by_its_end() {
        let (_directory, fake) = script("exit 7");
        let error = call(&fake, LONG).expect_err("fails").to_string();
        assert!(error.ends_with("ended with exit code 7"), "{error}");
        let (_directory, fake) = script("kill -9 $$");
        let error = call(&fake, LONG).expect_err("fails").to_string();
        assert!(error.ends_with("was ended by signal 9"), "{error}");
    }

    #[test]
    fn errors_of_a_call_that_succeeds_are_returned() {
        let (_directory, fake) = script(r#"echo '{"level":"error","msg":"a hook failed"}' >$4"#);
        assert_eq!(call(&fake, LONG).expect("succeeds"), ["a hook failed"]);
    }

    #[test]
    fn a_runtime_that_hangs_is_killed_when_its_time_is_up() {
        let (_directory, fake) = script("exec sleep 1000");
        let start = Instant::now();
        let error = call(&fake, Duration::from_millis(200)).expect_err("is killed").to_string();
        assert!(error.contains("did not end within 0.2 s and was killed"), "{error}");
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn a_call_for_systemd_is_made_with_the_flag_before_the_verb() {
        let (directory, fake) = script(r#"echo "$@" >$2/args"#);
        let fake = Runtime { root: directory.path().into(), ..fake };
        let mut call = Call::of(&fake, "start", LONG);
        call.systemd = true;
        call.args = vec!["c1".into()];
        call.run().expect("succeeds");
        let args = fs::read_to_string(directory.path().join("args")).expect("written");
        assert!(args.ends_with("--log-format json --systemd-cgroup start c1\n"), "{args}");
    }

    #[test]
    fn a_runtime_without_features_has_none() {
        let (_directory, old) = script("exit 1");
        assert_eq!(old.features().expect("is asked"), None);
        let (_directory, new) = script(r#"echo '{"mountOptions":["rro"]}'"#);
        let features = new.features().expect("is asked").expect("are reported");
        assert_eq!(features["mountOptions"][0], "rro");
    }
}
