//! A shim without containerd. The test itself starts the shim, calls it and has it clean up. So a test can make calls
//! that containerd would never make, and measure times without containerd.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CreateTaskRequest, DeleteRequest, DeleteResponse, ExecProcessRequest,
    KillRequest, Mount, PauseRequest, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StateRequest, Status, UpdateTaskRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::{self, Code, context};
use containerd_shim_protos::{Client, TaskClient};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::command::{self, Output};
use crate::config;
use crate::containerd::{linux_rootfs, repository};
use crate::interrupt;
use crate::processes::shim_of;
use crate::traces::Traces;
use crate::wait::{self, SOON, patient};

/// containerd's namespace of these containers.
const NAMESPACE: &str = "tests";

/// Directory of a guest's image in its bundle.
pub(crate) const IMAGE: &str = "image";

/// Time limit of a call.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the directory of the programs that were built together with this one.
pub fn built() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().context("this program is in no directory")?;
    let built = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    Ok(built.context("this program is in no target directory")?.to_owned())
}

/// Returns the path of the shim that was built together with this program.
pub fn program() -> Result<PathBuf> {
    Ok(built()?.join("containerd-shim-wasmtime-v1"))
}

/// A bundle as containerd lays it out, for a container with the files of the image `linux`.
#[derive(Debug)]
pub struct Bundle {
    /// The container's id.
    pub id: String,
    /// Path of the bundle. Its `rootfs` is empty until the shim mounts the root there.
    pub folder: PathBuf,
    program: PathBuf,
    environment: Vec<String>,
    traces: Traces,
}

/// A running shim and its task service.
pub struct Shim {
    tasks: TaskClient,
    /// Path of its socket.
    pub socket: PathBuf,
}

/// The error of a refused call.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Code of ttrpc, by which containerd distinguishes errors.
    pub code: Code,
    /// Message that the user sees.
    pub message: String,
}

/// Result of a call.
pub type Answer<T> = Result<T, Refusal>;

impl Bundle {
    /// Makes a bundle whose container runs a shell script.
    pub fn shell(script: &str) -> Result<Self> {
        let making = interrupt::making();
        let folder = tempfile::Builder::new().prefix("wst-").tempdir_in("/tmp")?.keep();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bundle = Self {
            id: format!("{name}-c1"),
            traces: Traces::new(&name, &folder),
            folder: folder.join("bundle"),
            program: program()?,
            environment: Vec::new(),
        };
        making.note(&bundle.traces);
        bundle.traces.watch(NAMESPACE, &bundle.id);
        fs::create_dir_all(bundle.rootfs())?;
        // containerd reads a fifo of this name.
        fs::write(bundle.folder.join("log"), "")?;
        bundle.write_config(&json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs" },
            "process": { "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"],
                "args": ["/bin/sh", "-c", script] },
            "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }],
            "linux": { "cgroupsPath": format!("/{name}/c1"),
                "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }] },
        }))?;
        Ok(bundle)
    }

    /// Makes a bundle whose container runs the sample guest of that name, a file of its image.
    pub fn guest(name: &str) -> Result<Self> {
        let bundle = Self::shell("")?;
        let image = bundle.image();
        fs::create_dir(&image)?;
        let guest = repository().join(format!("target/images/{name}.wasm"));
        fs::copy(&guest, image.join("guest.wasm")).with_context(|| format!("copy {guest:?}"))?;
        bundle.edit_config(|config| config["process"]["args"] = json!(["/guest.wasm"]))?;
        Ok(bundle)
    }

    /// Returns the directory with the files of its guest's image.
    pub fn image(&self) -> PathBuf {
        self.folder.join(IMAGE)
    }

    /// Has another shim than the one that was built together with this program.
    pub fn use_shim(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// `config.json`.
    pub fn config(&self) -> Result<Value> {
        let text = fs::read_to_string(self.folder.join("config.json"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Changes `config.json`.
    pub fn edit_config(&self, edit: impl FnOnce(&mut Value)) -> Result<()> {
        let mut config = self.config()?;
        edit(&mut config);
        self.write_config(&config)
    }

    /// Replaces `config.json`.
    pub fn write_config(&self, config: &Value) -> Result<()> {
        Ok(fs::write(self.folder.join("config.json"), config.to_string())?)
    }

    /// Returns the path of the container's cgroup.
    pub fn cgroup(&self) -> String {
        format!("/{}/c1", self.name())
    }

    /// Returns the name by which its traces are found. It differs between two containers of the same spec.
    pub(crate) fn name(&self) -> String {
        self.traces_folder().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Makes a fifo of that name, for a container's stdio.
    pub fn fifo(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        mkfifo(&path, Mode::S_IRWXU)?;
        Ok(path)
    }

    /// Returns the path where the root is mounted.
    pub fn rootfs(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Returns the shim's log.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("log"))?)
    }

    /// Sets a variable of containerd's environment, for shims that are started from now on.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.environment.push(format!("{variable}={value}"));
    }

    /// Executes the shim in the bundle as containerd does, with an action or flags.
    pub fn execute(&self, words: &[&str]) -> Result<Output> {
        let unused = config::socket(self.traces_folder());
        let mut all = vec!["-C".into(), self.folder.display().to_string()];
        all.push(format!("TTRPC_ADDRESS={}.ttrpc", unused.display()));
        all.push(format!("WASMTIME_SHIM_CACHE={}", self.cache().display()));
        all.extend(self.environment.iter().cloned());
        all.extend([self.program.display().to_string(), "-namespace".into(), NAMESPACE.into()]);
        all.extend(["-id".into(), self.id.clone(), "-address".into()]);
        all.push(unused.display().to_string());
        all.extend(words.iter().map(|&word| word.to_owned()));
        command::run("env", all)
    }

    /// Runs the action `start`, and connects to the shim that it names.
    pub fn start(&self) -> Result<Shim> {
        let address = self.execute(&["start"])?.success()?.stdout;
        Self::connect(&address)
    }

    /// Connects to the shim at that address.
    pub fn connect(address: &str) -> Result<Shim> {
        let client = Client::connect(address).with_context(|| format!("connect to {address}"))?;
        let socket = address.strip_prefix("unix://").context("not a socket's address")?.into();
        Ok(Shim { tasks: TaskClient::new(client), socket })
    }

    /// Makes a Create request for this bundle. Its root is bound to the files of the image `linux`, or to its own.
    pub fn create_request(&self) -> CreateTaskRequest {
        let own = self.image();
        let is_own = own.is_dir();
        let files = if is_own { own } else { linux_rootfs() };
        let mut request = CreateTaskRequest::new();
        request.set_id(self.id.clone());
        request.set_bundle(self.folder.display().to_string());
        let access = if is_own { "rw" } else { "ro" };
        request.set_rootfs(vec![mount("bind", &files, &["rbind", access])]);
        request
    }

    /// Ends the story. Fails with the name of everything that is left.
    pub fn close(self) -> Result<()> {
        let gone = || Ok(self.traces.find(None).is_empty().then_some(()));
        if wait::until(SOON, "nothing to be left", gone).is_err() {
            bail!("left behind:\n  {}", self.traces.find(None).join("\n  "));
        }
        Ok(())
    }

    /// Returns the directory of compiled code, because there is no content store.
    pub fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    pub(crate) fn traces_folder(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.traces.wipe();
    }
}

/// Makes one mount of a container's root.
pub fn mount(kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::new();
    mount.set_type(kind.into());
    mount.set_source(source.display().to_string());
    mount.set_options(options.iter().map(|&option| option.into()).collect());
    mount
}

impl Shim {
    /// Calls Create, and returns the pid.
    pub fn create(&self, request: &CreateTaskRequest) -> Answer<u32> {
        self.create_within(LIMIT, request)
    }

    /// As [`Shim::create`], with a time limit.
    pub fn create_within(&self, limit: Duration, request: &CreateTaskRequest) -> Answer<u32> {
        let answer = self.tasks.create(context::with_duration(patient(limit)), request);
        answer.map(|answer| answer.pid()).map_err(refusal)
    }

    /// Calls Start.
    pub fn start(&self, id: &str) -> Answer<()> {
        self.start_within(LIMIT, id)
    }

    /// As [`Shim::start`], with a time limit.
    pub fn start_within(&self, limit: Duration, id: &str) -> Answer<()> {
        let request = StartRequest { id: id.into(), ..Default::default() };
        self.tasks.start(context::with_duration(limit), &request).map(drop).map_err(refusal)
    }

    /// Calls State, and returns the status.
    pub fn status(&self, id: &str) -> Answer<Status> {
        let request = StateRequest { id: id.into(), ..Default::default() };
        self.tasks.state(limit(), &request).map(|state| state.status()).map_err(refusal)
    }

    /// Calls Wait, and returns the exit code.
    pub fn wait(&self, id: &str) -> Answer<u32> {
        let request = WaitRequest { id: id.into(), ..Default::default() };
        self.tasks.wait(limit(), &request).map(|exit| exit.exit_status()).map_err(refusal)
    }

    /// Calls Kill for the first process.
    pub fn kill(&self, id: &str, signal: u32) -> Answer<()> {
        let request = KillRequest { id: id.into(), signal, ..Default::default() };
        self.tasks.kill(limit(), &request).map(drop).map_err(refusal)
    }

    /// Calls Kill for all processes, as clients do before Delete.
    pub fn kill_all(&self, id: &str, signal: u32) -> Answer<()> {
        let request = KillRequest { id: id.into(), signal, all: true, ..Default::default() };
        self.tasks.kill(limit(), &request).map(drop).map_err(refusal)
    }

    /// Calls Delete, and returns the exit code.
    pub fn delete(&self, id: &str) -> Answer<u32> {
        let request = DeleteRequest { id: id.into(), ..Default::default() };
        let answer = self.tasks.delete(limit(), &request);
        answer.map(|DeleteResponse { exit_status, .. }| exit_status).map_err(refusal)
    }

    /// Calls Pause.
    pub fn pause(&self, id: &str) -> Answer<()> {
        let request = PauseRequest { id: id.into(), ..Default::default() };
        self.tasks.pause(limit(), &request).map(drop).map_err(refusal)
    }

    /// Calls Resume.
    pub fn resume(&self, id: &str) -> Answer<()> {
        let request = ResumeRequest { id: id.into(), ..Default::default() };
        self.tasks.resume(limit(), &request).map(drop).map_err(refusal)
    }

    /// Calls Exec with a command, under that id.
    pub fn exec(&self, id: &str, exec_id: &str, command: &[&str]) -> Answer<()> {
        self.exec_to(id, exec_id, command, Path::new(""))
    }

    /// As [`Shim::exec`], with a fifo for its stdout.
    pub fn exec_to(&self, id: &str, exec_id: &str, command: &[&str], stdout: &Path) -> Answer<()> {
        let process = json!({ "cwd": "/", "args": command, "user": { "uid": 0, "gid": 0 } });
        self.exec_process(id, exec_id, &process, stdout)
    }

    /// As [`Shim::exec`], with a process of the OCI spec.
    pub fn exec_process(
        &self,
        id: &str,
        exec_id: &str,
        process: &Value,
        stdout: &Path,
    ) -> Answer<()> {
        let (id, exec_id) = (id.into(), exec_id.into());
        let spec = any("Process", process);
        let stdout = stdout.display().to_string();
        let request = ExecProcessRequest { id, exec_id, spec, stdout, ..Default::default() };
        self.tasks.exec(limit(), &request).map(drop).map_err(refusal)
    }

    /// Calls Start for an exec process.
    pub fn start_exec(&self, id: &str, exec_id: &str) -> Answer<()> {
        self.start_exec_within(LIMIT, id, exec_id)
    }

    /// As [`Shim::start_exec`], with a time limit.
    pub fn start_exec_within(&self, limit: Duration, id: &str, exec_id: &str) -> Answer<()> {
        let (id, exec_id) = (id.into(), exec_id.into());
        let request = StartRequest { id, exec_id, ..Default::default() };
        let answer = self.tasks.start(context::with_duration(patient(limit)), &request);
        answer.map(drop).map_err(refusal)
    }

    /// Calls Wait for an exec process, and returns the exit code.
    pub fn wait_exec(&self, id: &str, exec_id: &str) -> Answer<u32> {
        let (id, exec_id) = (id.into(), exec_id.into());
        let request = WaitRequest { id, exec_id, ..Default::default() };
        self.tasks.wait(limit(), &request).map(|exit| exit.exit_status()).map_err(refusal)
    }

    /// Kills an exec process with SIGKILL, calls Wait and Delete, and returns the exit code.
    pub fn end_exec(&self, id: &str, exec_id: &str) -> Answer<u32> {
        let kill =
            KillRequest { id: id.into(), exec_id: exec_id.into(), signal: 9, ..Default::default() };
        match self.tasks.kill(limit(), &kill).map_err(refusal) {
            Err(refusal) if refusal.code != Code::NOT_FOUND => return Err(refusal),
            _ => {}
        }
        self.wait_exec(id, exec_id)?;
        let (id, exec_id) = (id.into(), exec_id.into());
        let request = DeleteRequest { id, exec_id, ..Default::default() };
        self.tasks.delete(limit(), &request).map(|it| it.exit_status()).map_err(refusal)
    }

    /// Calls ResizePty for the first process, or for the exec process of that id.
    pub fn resize(&self, id: &str, exec_id: &str) -> Answer<()> {
        let request = ResizePtyRequest {
            id: id.into(),
            exec_id: exec_id.into(),
            width: 80,
            height: 24,
            ..Default::default()
        };
        self.tasks.resize_pty(limit(), &request).map(drop).map_err(refusal)
    }

    /// Calls Checkpoint.
    pub fn checkpoint(&self, id: &str) -> Answer<()> {
        let request = CheckpointTaskRequest { id: id.into(), ..Default::default() };
        self.tasks.checkpoint(limit(), &request).map(drop).map_err(refusal)
    }

    /// Calls Update with resources of the OCI spec.
    pub fn update(&self, id: &str, resources: &Value) -> Answer<()> {
        let resources = any("LinuxResources", resources);
        let request = UpdateTaskRequest { id: id.into(), resources, ..Default::default() };
        self.tasks.update(limit(), &request).map(drop).map_err(refusal)
    }

    /// Calls Shutdown. The shim may end before it has answered.
    pub fn shutdown(&self) {
        let _ = self.tasks.shutdown(limit(), &ShutdownRequest::new());
    }

    /// Calls Shutdown, and waits until the shim of that container has ended.
    pub fn end(&self, id: &str) -> Result<()> {
        self.shutdown();
        wait::until(SOON, "the shim to end", || Ok(shim_of(id).is_err().then_some(())))
    }
}

/// Encodes a type of the OCI runtime spec as containerd does.
fn any(name: &str, value: &Value) -> MessageField<Any> {
    MessageField::some(Any {
        type_url: format!("types.containerd.io/opencontainers/runtime-spec/1/{name}"),
        value: value.to_string().into_bytes(),
        ..Default::default()
    })
}

fn limit() -> context::Context {
    context::with_duration(patient(LIMIT))
}

fn refusal(error: ttrpc::Error) -> Refusal {
    match error {
        ttrpc::Error::RpcStatus(status) => {
            Refusal { code: status.code(), message: status.message().into() }
        }
        other => Refusal { code: Code::UNKNOWN, message: other.to_string() },
    }
}
