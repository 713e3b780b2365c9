//! A bundle, in place of those that containerd makes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use containerd_shim_protos::api::{CreateTaskRequest, Mount};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::{Shim, program};
use crate::command::{self, Output};
use crate::config;
use crate::containerd::{linux_rootfs, repository};
use crate::interrupt;
use crate::processes::{Process, shim_of};
use crate::traces::Traces;
use crate::wait::{self, SOON};

/// containerd's namespace of these containers.
const NAMESPACE: &str = "tests";

/// Directory of a guest's image in its bundle.
pub(crate) const IMAGE: &str = "image";

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

    /// Returns the process of the shim that was started. While a process executes a program, it has no command line for a moment.
    pub fn shim(&self) -> Result<Process> {
        wait::until(SOON, "the shim", || Ok(shim_of(&self.id).ok()))
    }

    /// Connects to the shim at that address.
    pub fn connect(address: &str) -> Result<Shim> {
        Shim::connect(address)
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
