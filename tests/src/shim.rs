//! A shim without containerd. The test itself starts the shim, calls it and has it clean up. So a test can make calls
//! that containerd would never make, and measure times without containerd.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CreateTaskRequest, DeleteRequest, DeleteResponse, ExecProcessRequest,
    KillRequest, PauseRequest, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
    StateRequest, Status, UpdateTaskRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::{self, Code, context};
use containerd_shim_protos::{Client, TaskClient};
use serde_json::{Value, json};

use crate::processes::shim_of;
use crate::wait::{self, SOON, patient};

mod bundle;

pub(crate) use bundle::IMAGE;
pub use bundle::{Bundle, mount};

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

impl Shim {
    fn connect(address: &str) -> Result<Shim> {
        let client = Client::connect(address).with_context(|| format!("connect to {address}"))?;
        let socket = address.strip_prefix("unix://").context("not a socket's address")?.into();
        Ok(Shim { tasks: TaskClient::new(client), socket })
    }

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
        let context = context::with_duration(patient(limit));
        self.tasks.start(context, &request).map(drop).map_err(refusal)
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
