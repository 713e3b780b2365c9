//! The shim's guests for its zygote: how a worker compiles, and how an isolated process runs what it made.
//!
//! The messages of both sides are here: [`compile`] is called in the shim; [`guests`] in the zygote. What a
//! worker may use is in [`crate::worker`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use engine::{Given, Layer, Runtime};
use plan::exit_code::CANNOT_RUN;
use plan::{Plan, World};
use sandbox::{Guests, Reply, Request, SingleThread, Zygote, environment, unwritable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::errors::Error;
use crate::toolbox::{self, Word};
use crate::worker::Worker;

/// What the worker is asked; the layers' files come as descriptors, in the order of their names.
#[derive(Serialize, Deserialize)]
enum Job {
    /// To be compiled; the file for the code comes last.
    Compile {
        /// What the layers are called in errors.
        names: Vec<String>,
        /// In place of the world's own entry.
        export: Option<String>,
        /// Whether it is initialised before.
        preinit: bool,
    },
    /// To be described.
    Describe {
        /// What the layers are called in errors.
        names: Vec<String>,
    },
}

/// In place of the engine's version where there is none, and so nothing to compile with: why is told when that is tried.
const NO_ENGINE: &str = "none";

/// What it found, or why the guest cannot run.
type Found<T> = Result<T, Refused>;

/// Why the worker cannot do what it is asked.
#[derive(Serialize, Deserialize)]
enum Refused {
    /// For what the guest is.
    Guest(String),
    /// For want of memory.
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

/// What an isolated process does in place of a program.
#[derive(Serialize, Deserialize)]
pub enum Task {
    /// Runs a guest. Files: as listed.
    Guest(Box<Plan>, Vec<Handed>),
    /// Says a word of the toolbox. Files: those of the word.
    Word(Word),
}

/// What a file is that a guest is handed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handed {
    /// Its compiled code.
    Code,
    /// Where it is asked for a profile.
    Profiles,
    /// The certificates that the node trusts.
    Roots,
    /// The process's own page map: the last, since there may be none.
    PageMap,
}

/// Has the layers compiled in a confined worker. Returns the world and the sealed file with the code.
///
/// # Errors
/// [`Error::Guest`] with the reason when the image cannot run.
pub fn compile(
    zygote: &Zygote,
    worker: Worker,
    names: Vec<String>,
    layers: Vec<File>,
    export: Option<String>,
    preinit: bool,
) -> Result<(World, File), Error> {
    let _span = trace::span("compile");
    let failed = || Error::io("a file for the compiled code");
    let code = unwritable::in_memory(c"wasm-code").map_err(failed())?;
    let mut fds: Vec<OwnedFd> = layers.into_iter().map(OwnedFd::from).collect();
    fds.push(code.try_clone().map_err(failed())?.into());
    let world = ask(zygote, worker, &Job::Compile { names, export, preinit }, fds)?;
    // The worker has it open still.
    unwritable::seal(&code).map_err(failed())?;
    Ok((world, code))
}

/// Has a confined worker say what the layers import and export, a line each.
///
/// # Errors
/// [`Error::Guest`] with the reason when that cannot be read.
pub fn describe(
    zygote: &Zygote,
    worker: Worker,
    names: Vec<String>,
    layers: Vec<File>,
) -> Result<String, Error> {
    let fds = layers.into_iter().map(OwnedFd::from).collect();
    ask(zygote, worker, &Job::Describe { names }, fds)
}

fn ask<T: DeserializeOwned>(
    zygote: &Zygote,
    worker: Worker,
    job: &Job,
    fds: Vec<OwnedFd>,
) -> Result<T, Error> {
    let Worker { share, charged, leash } = worker;
    let request = Request::Job { value: encode(job), bounds: share.bounds, charged };
    let fds: Vec<OwnedFd> = [leash].into_iter().chain(fds).collect();
    let found = match zygote.call(&request, &fds) {
        Ok(Reply::Job(value)) => serde_json::from_value::<Found<T>>(value),
        Ok(_) => return Err(Error::Guest("the compile worker gave another answer".into())),
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

/// Made in the zygote: the engine and its linkers, built once for the Pod.
pub fn guests() -> Guests {
    let _span = trace::span("engine and linkers");
    let runtime = Rc::new(Runtime::new());
    let version = runtime.as_ref().as_ref().map_or_else(|_| NO_ENGINE.to_owned(), Runtime::version);
    let for_run = runtime.clone();
    Guests {
        job: Rc::new(move |value, files| answer(&runtime, value, files)),
        run: Rc::new(move |value, files, single| run(&for_run, value, files, &single)),
        signals: engine::ending_signals(),
        version,
    }
}

fn answer(runtime: &Result<Runtime, engine::Error>, value: Value, files: Vec<File>) -> Value {
    let job = serde_json::from_value::<Job>(value).map_err(|error| error.to_string());
    let runtime = runtime.as_ref().map_err(ToString::to_string);
    match (runtime, job) {
        (Ok(runtime), Ok(Job::Compile { names, export, preinit })) => {
            encode(&compile_job(runtime, names, export, preinit, files))
        }
        (Ok(runtime), Ok(Job::Describe { names })) => encode(&describe_job(runtime, names, files)),
        (Err(error), _) | (_, Err(error)) => encode(&Found::<()>::Err(Refused::Guest(error))),
    }
}

fn compile_job(
    runtime: &Runtime,
    names: Vec<String>,
    export: Option<String>,
    preinit: bool,
    mut files: Vec<File>,
) -> Found<World> {
    let missing = || Refused::Guest("the compile worker was given no files".into());
    let mut output = files.pop().ok_or_else(missing)?;
    let mut layers = read(names, files)?;
    if preinit {
        layers = vec![runtime.preinitialise(&layers)?];
    }
    let compiled = runtime.compile(&layers, export.as_deref())?;
    output.write_all(&compiled.code).map_err(|error| refused("write the compiled code", &error))?;
    Ok(compiled.world)
}

fn describe_job(runtime: &Runtime, names: Vec<String>, files: Vec<File>) -> Found<String> {
    Ok(runtime.describe(&read(names, files)?)?)
}

fn read(names: Vec<String>, files: Vec<File>) -> Found<Vec<Layer>> {
    let read = |(name, mut file): (String, File)| {
        let mut wasm = Vec::new();
        let read = file.read_to_end(&mut wasm);
        read.map_err(|error| refused(&format!("read {name}"), &error))?;
        Ok(Layer { name, wasm })
    };
    names.into_iter().zip(files).map(read).collect()
}

fn refused(action: &str, error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::OutOfMemory => Refused::Memory,
        _ => Refused::Guest(format!("{action}: {error}")),
    }
}

fn run(
    runtime: &Result<Runtime, engine::Error>,
    value: Value,
    files: Vec<File>,
    single: &SingleThread,
) -> u8 {
    let reading = trace::span("plan");
    let ready = runtime.as_ref().map_err(ToString::to_string);
    let task = serde_json::from_value::<Task>(value).map_err(|error| error.to_string());
    let failure = match (ready, task) {
        (_, Ok(Task::Word(word))) => return toolbox::run(&word, files.into_iter().next()),
        (Ok(runtime), Ok(Task::Guest(plan, handed))) => match given(handed, files) {
            Some(given) => {
                drop(reading);
                sandbox::heap::merge_at_once();
                environment::put(single, plan.telemetry());
                return runtime.run(&plan, given, release_memory);
            }
            None => "the guest's code did not arrive".to_owned(),
        },
        (Err(error), _) | (_, Err(error)) => error,
    };
    eprintln!("error: {failure}");
    CANNOT_RUN
}

/// Gives back what a server needs no more when it waits: called on its first thread, also of the stack.
fn release_memory() {
    sandbox::heap::trim();
    sandbox::stack::trim();
}

/// None without code.
fn given(handed: Vec<Handed>, files: Vec<File>) -> Option<Given> {
    let mut files: Vec<_> = handed.into_iter().zip(files).collect();
    let mut take = |wanted| {
        let place = files.iter().position(|(handed, _)| *handed == wanted)?;
        Some(files.swap_remove(place).1)
    };
    let code = take(Handed::Code)?;
    let profiles = take(Handed::Profiles).map(|file| UnixListener::from(OwnedFd::from(file)));
    Some(Given { code, profiles, roots: take(Handed::Roots), page_map: take(Handed::PageMap) })
}

/// Messages of this module encode: they hold texts and enums alone.
pub fn encode<T: Serialize>(message: &T) -> Value {
    serde_json::to_value(message).unwrap_or(Value::Null)
}
