//! The shim's guests for its zygote: how a worker compiles, and how an isolated process runs what it made.
//!
//! The messages of both sides are here: [`compile`] is called in the shim; [`guests`] in the zygote.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use engine::{Plan, Runtime, World};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sandbox::{Guests, Reply, Request, Zygote};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::errors::Error;

/// What the worker is asked; the layers' files and the file for the code come as descriptors.
#[derive(Serialize, Deserialize)]
struct Job {
    export: Option<String>,
}

/// What it found, or why the guest cannot run.
type Found = Result<World, String>;

/// Has the layers compiled in a confined worker. Returns the world and the sealed file with the code.
///
/// # Errors
/// [`Error::Guest`] with the reason when the image cannot run.
pub fn compile(
    zygote: &Zygote,
    layers: Vec<File>,
    export: Option<String>,
) -> Result<(World, OwnedFd), Error> {
    let system = |errno: nix::Error| Error::io("a file for the compiled code")(errno.into());
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let code = memfd_create(c"wasm-code", flags).map_err(system)?;
    let mut fds: Vec<OwnedFd> = layers.into_iter().map(OwnedFd::from).collect();
    fds.push(code.try_clone().map_err(Error::io("a file for the compiled code"))?);
    let job = encode(&Job { export });
    let found = match zygote.call(&Request::Job(job), &fds) {
        Ok(Reply::Job(value)) => serde_json::from_value::<Found>(value),
        Ok(_) => Ok(Err("the compile worker gave another answer".into())),
        Err(error @ sandbox::Error::Worker) => Ok(Err(format!("compile: {error}"))),
        Err(error) => return Err(error.into()),
    };
    let world = found
        .unwrap_or_else(|error| Err(format!("the compile worker's answer is malformed: {error}")))
        .map_err(Error::Guest)?;
    // From here on nobody can change it, the worker neither.
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&code, FcntlArg::F_ADD_SEALS(seals)).map_err(system)?;
    Ok((world, code))
}

/// Made in the zygote: the engine and its linkers, built once for the Pod.
pub fn guests() -> Guests {
    let runtime = Rc::new(Runtime::new());
    let for_run = runtime.clone();
    Guests {
        job: Rc::new(move |value, files| encode(&answer(&runtime, value, files))),
        run: Rc::new(move |value, code| run(&for_run, value, code)),
        signals: engine::ending_signals(),
    }
}

fn answer(runtime: &Result<Runtime, engine::Error>, value: Value, files: Vec<File>) -> Found {
    let runtime = runtime.as_ref().map_err(ToString::to_string)?;
    let job: Job = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let (mut output, layers) = split(files)?;
    let compiled =
        runtime.compile(&layers, job.export.as_deref()).map_err(|error| error.to_string())?;
    output
        .write_all(&compiled.code)
        .map_err(|error| format!("write the compiled code: {error}"))?;
    Ok(compiled.world)
}

fn split(mut files: Vec<File>) -> Result<(File, Vec<Vec<u8>>), String> {
    let output = files.pop().ok_or("the compile worker was given no files")?;
    let read = |mut file: File| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map(|_| bytes)
            .map_err(|error| format!("read a layer: {error}"))
    };
    Ok((output, files.into_iter().map(read).collect::<Result<_, _>>()?))
}

fn run(runtime: &Result<Runtime, engine::Error>, value: Value, code: File) -> u8 {
    let ready = runtime.as_ref().map_err(ToString::to_string);
    let plan = serde_json::from_value::<Plan>(value).map_err(|error| error.to_string());
    match ready.and_then(|runtime| Ok((runtime, plan?))) {
        Ok((runtime, plan)) => runtime.run(&plan, code),
        Err(error) => {
            eprintln!("error: {error}");
            engine::CANNOT_RUN
        }
    }
}

/// Messages of this module encode: they hold texts and enums alone.
pub fn encode<T: Serialize>(message: &T) -> Value {
    serde_json::to_value(message).unwrap_or(Value::Null)
}
