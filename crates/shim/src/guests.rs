//! Guests: how a worker compiles them, and how an isolated process runs them.
//!
//! The messages of both sides are here. [`compile`] is called in the shim, and [`guests`] in the zygote. [`crate::worker`] has the
//! limits of a worker.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use engine::{Given, Layer, Runtime};
use grants::{CodeSettings, Package};
use plan::{Plan, World};
use sandbox::{
    Descriptors, Guests, JobFds, Loaded, PAGE_MAP, SingleThread, Zygote, environment, read_only,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::built_in::{self, BuiltIn};
use crate::errors::Error;
use crate::worker::Worker;

/// Name of the descriptors of a job's layers, in the order of the layers' names.
const LAYER: &str = "layer";

/// Name of the descriptor of compiled code: a worker writes it, and a guest is run from it.
pub const CODE: &str = "code";

/// Name of the socket on which a guest is asked for a profile.
pub const PROFILES: &str = "profiles";

/// Name of the file with the certificates that the node trusts.
pub const ROOTS: &str = "certificates";

/// Job for a worker. The files of the layers come as descriptors.
#[derive(Serialize, Deserialize)]
enum Job {
    /// Compile the layers; the file for the code comes as a descriptor, too.
    Compile(Compile),
    /// Describe the layers.
    Describe {
        /// Names of the layers, for errors.
        names: Vec<String>,
        /// How their code is made.
        code: CodeSettings,
    },
}

/// How layers are compiled.
#[derive(Serialize, Deserialize)]
pub struct Compile {
    /// Names of the layers, for errors.
    pub names: Vec<String>,
    /// Export to be called instead of the world's own entry.
    pub export: Option<String>,
    /// Whether the guest is initialised before.
    pub preinit: bool,
    /// How the code is made.
    pub code: CodeSettings,
}

/// Version if there is no engine, and so no compilation. The reason is returned to each attempt to compile.
const NO_ENGINE: &str = "none";

/// What a compiled guest is. The cache keeps it with the code.
#[derive(Serialize, Deserialize)]
pub struct About {
    /// How the guest is run.
    pub world: World,
    /// What it imports that it must be offered.
    pub packages: Vec<Package>,
}

/// Result of a worker, or the reason why the guest cannot run.
type Found<T> = Result<T, Refused>;

/// Reason why a worker refuses a job.
#[derive(Serialize, Deserialize)]
enum Refused {
    /// The guest cannot run.
    Guest(String),
    /// The worker has not enough memory.
    Memory,
}

impl From<engine::Error> for Refused {
    fn from(error: engine::Error) -> Refused {
        match error {
            engine::Error::Memory => Refused::Memory,
            other => Refused::Guest(other.to_string()),
        }
    }
}

impl From<sandbox::Error> for Refused {
    fn from(error: sandbox::Error) -> Refused {
        Refused::Guest(error.to_string())
    }
}

/// Task of an isolated process that is a guest.
#[derive(Serialize, Deserialize)]
pub enum Task {
    /// Runs a guest, with the descriptors [`CODE`], [`PROFILES`], [`ROOTS`] and [`PAGE_MAP`].
    Guest(Box<Plan>),
    /// Runs a built-in command, with its own descriptors.
    BuiltIn(BuiltIn),
}

/// Compiles the layers in a worker. Returns what the guest is, and the sealed file with the code.
///
/// # Errors
/// [`Error::Guest`] with the reason if the image cannot run.
pub fn compile(
    zygote: &Zygote,
    worker: Worker,
    how: Compile,
    layers: Vec<File>,
) -> Result<(About, File), Error> {
    let _span = trace::span("compile");
    let failed = || Error::io("make a file for the compiled code");
    let code = read_only::in_memory(c"wasm-code").map_err(failed())?;
    let mut descriptors = of_layers(layers);
    descriptors.add(CODE, code.try_clone().map_err(failed())?);
    let about = ask(zygote, worker, &Job::Compile(how), descriptors)?;
    // The worker still has it open.
    read_only::seal(&code).map_err(failed())?;
    Ok((about, code))
}

/// Describes the imports and exports of the layers, one a line, by a worker.
///
/// # Errors
/// [`Error::Guest`] with the reason if the layers cannot be read.
pub fn describe(
    zygote: &Zygote,
    worker: Worker,
    names: Vec<String>,
    code: CodeSettings,
    layers: Vec<File>,
) -> Result<String, Error> {
    ask(zygote, worker, &Job::Describe { names, code }, of_layers(layers))
}

fn of_layers(layers: Vec<File>) -> Descriptors {
    let mut descriptors = Descriptors::default();
    layers.into_iter().for_each(|layer| descriptors.add(LAYER, layer));
    descriptors
}

fn ask<T: DeserializeOwned>(
    zygote: &Zygote,
    worker: Worker,
    job: &Job,
    guest: Descriptors,
) -> Result<T, Error> {
    let Worker { share, charged, leash } = worker;
    let job = sandbox::Job { value: encode(job), bounds: share.bounds, charged };
    let found = match zygote.job(job, JobFds { leash, guest }) {
        Ok(value) => serde_json::from_value::<Found<T>>(value),
        Err(sandbox::Error::Worker(end)) => return Err(Error::Guest(share.unfinished(end))),
        Err(error) => return Err(error.into()),
    };
    found
        .unwrap_or_else(|error| {
            Err(Refused::Guest(format!("the compile worker's answer is malformed: {error}")))
        })
        .map_err(|refused| match refused {
            Refused::Guest(reason) => Error::Guest(reason),
            Refused::Memory => Error::Guest(share.out_of_memory()),
        })
}

/// Makes the engine and its linkers, once for the Pod. To be called in the zygote.
pub fn guests() -> Guests {
    // The log is closed in this process and its children, and the number of its descriptor may be reused.
    log::set_max_level(log::LevelFilter::Off);
    std::panic::set_hook(Box::new(engine::log_panic));
    let _span = trace::span("engine and linkers");
    let runtime = Rc::new(Runtime::new());
    let version = runtime.as_ref().as_ref().map_or_else(|_| NO_ENGINE.to_owned(), Runtime::version);
    let for_load = runtime.clone();
    Guests {
        job: Rc::new(move |value, files| answer(&runtime, value, files)),
        load: Rc::new(move |value, files, single| load(&for_load, value, files, &single)),
        signals: engine::ending_signals(),
        version,
    }
}

fn answer(runtime: &Result<Runtime, engine::Error>, value: Value, files: Descriptors) -> Value {
    let job = serde_json::from_value::<Job>(value).map_err(|error| error.to_string());
    let runtime = runtime.as_ref().map_err(ToString::to_string);
    match (runtime, job) {
        (Ok(runtime), Ok(Job::Compile(how))) => encode(&compile_job(runtime, how, files)),
        (Ok(runtime), Ok(Job::Describe { names, code })) => {
            encode(&describe_job(runtime, names, &code, files))
        }
        (Err(error), _) | (_, Err(error)) => encode(&Found::<()>::Err(Refused::Guest(error))),
    }
}

fn compile_job(runtime: &Runtime, how: Compile, mut files: Descriptors) -> Found<About> {
    let Compile { names, export, preinit, code } = how;
    let mut output = File::from(files.require(CODE)?);
    let mut layers = read(names, files)?;
    if preinit {
        layers = vec![runtime.preinitialise(&layers, &code)?];
    }
    let compiled = runtime.compile(&layers, export.as_deref(), &code)?;
    output.write_all(&compiled.code).map_err(|error| refused("write the compiled code", &error))?;
    Ok(About { world: compiled.world, packages: compiled.packages })
}

fn describe_job(
    runtime: &Runtime,
    names: Vec<String>,
    code: &CodeSettings,
    files: Descriptors,
) -> Found<String> {
    Ok(runtime.describe(&read(names, files)?, code)?)
}

fn read(names: Vec<String>, mut files: Descriptors) -> Found<Vec<Layer>> {
    let read = |name: String| {
        let mut wasm = Vec::new();
        let read = File::from(files.require(LAYER)?).read_to_end(&mut wasm);
        read.map_err(|error| refused(&format!("read {name}"), &error))?;
        Ok(Layer { name, wasm })
    };
    let layers = names.into_iter().map(read).collect::<Found<Vec<Layer>>>()?;
    files.finish()?;
    Ok(layers)
}

fn refused(action: &str, error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::OutOfMemory => Refused::Memory,
        _ => Refused::Guest(format!("cannot {action}: {error}")),
    }
}

fn load(
    runtime: &Result<Runtime, engine::Error>,
    value: Value,
    files: Descriptors,
    single: &SingleThread,
) -> Result<Loaded, String> {
    let reading = trace::span("plan");
    let runtime = runtime.as_ref().map_err(ToString::to_string);
    match serde_json::from_value::<Task>(value).map_err(|error| error.to_string())? {
        Task::BuiltIn(command) => built_in::load(command, files)
            .map_err(|error| format!("cannot load the command: {error}")),
        Task::Guest(plan) => {
            let (runtime, given) = (runtime?, given(files).map_err(|error| error.to_string())?);
            drop(reading);
            sandbox::heap::merge_at_once();
            environment::put(single, plan.telemetry());
            let guest = runtime.load(*plan, given);
            Ok(Box::new(|| guest.run(release_memory)))
        }
    }
}

/// Releases memory that a server does not need while it waits. Also releases stack, if it is called on the first thread.
fn release_memory() {
    sandbox::heap::trim();
    sandbox::stack::trim();
}

fn given(mut files: Descriptors) -> Result<Given, sandbox::Error> {
    let given = Given {
        code: files.require(CODE)?.into(),
        profiles: files.take(PROFILES).map(UnixListener::from),
        roots: files.take(ROOTS).map(File::from),
        page_map: files.take(PAGE_MAP).map(File::from),
    };
    files.finish().map(|()| given)
}

/// Encodes a message of this module. That cannot fail, because the messages only have texts and enums.
pub fn encode<T: Serialize>(message: &T) -> Value {
    serde_json::to_value(message).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_guests_writes_nothing_to_the_shims_log() {
        log::set_max_level(log::LevelFilter::Debug);
        guests();
        let level = log::max_level();
        // Other tests of this process report their panics as before.
        drop(std::panic::take_hook());
        assert_eq!(level, log::LevelFilter::Off);
    }
}
