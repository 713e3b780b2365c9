//! Finds out what a container runs, and has a guest compiled.

use std::path::Path;
use std::sync::Arc;

use oci_spec::image::Descriptor;
use oci_spec::runtime::Process;
use plan::{FailureArtifacts, Plan, World};
use sandbox::{Descriptors, Kind, Workload, unwritable};

use super::compile;
use crate::config::ContainerConfig;
use crate::container::Container;
use crate::errors::Error;
use crate::guests::{self, CODE, PROFILES, ROOTS, Task};
use crate::pod::{Caller, Shared};
use crate::toolbox::{self, Word, answers};
use crate::{profiles, roots};

/// The word before a call in one argument: `exec POD -- invoke 'get-user(42)'`.
const INVOKE: &str = "invoke";

/// A workload, with its files if it is a guest.
pub struct Found {
    /// For the zygote.
    pub workload: Workload,
    /// Those of its [`Task`].
    pub files: Descriptors,
    /// The wasm layers of the image that it is made of.
    pub layers: Vec<Descriptor>,
}

impl Found {
    fn without_files(workload: Workload) -> Found {
        Found { workload, files: Descriptors::default(), layers: vec![] }
    }
}

/// What a container's first process has beside those that are executed later.
struct First<'a> {
    id: &'a str,
    artifacts: FailureArtifacts,
    /// Where it is asked for a profile.
    bundle: &'a Path,
}

/// The workload of a container whose root is mounted.
pub async fn find(
    shared: &Arc<Shared>,
    id: &str,
    bundle: &Path,
    config: &ContainerConfig,
    caller: &Caller,
) -> Result<Found, Error> {
    if config.is_sandbox() {
        return Ok(Found::without_files(Workload::Pause));
    }
    let process = config.process();
    let artifacts = config.artifacts();
    let resolving = trace::span("resolve the image");
    let found = image::resolve(&container(shared, id, config, process, &[])).await?;
    drop(resolving);
    prepare(shared, found, config, process, caller, Some(First { id, artifacts, bundle })).await
}

/// The workload of a process that is executed in a container. Whatever its name, it is not the image's wasm layer:
/// only `#export` is.
pub async fn find_exec(
    shared: &Arc<Shared>,
    executed_in: &Container,
    config: &ContainerConfig,
    process: &Process,
    caller: &Caller,
) -> Result<Found, Error> {
    if let Some(export) = args(process).first().and_then(|name| name.strip_prefix('#')) {
        let arguments = args(process)[1..].to_vec();
        return find_export(shared, executed_in, config, process, export, arguments, caller).await;
    }
    match image::resolve_file(&of_created(shared, executed_in, config, process)).await? {
        Some(found) => prepare(shared, found, config, process, caller, None).await,
        None if executed_in.kind() == Kind::Program => Ok(Found::without_files(Workload::Program)),
        None => match args(process) {
            [word, call] if word == INVOKE => {
                let (export, arguments) = split_call(call);
                let arguments = vec![arguments.to_owned()];
                find_export(shared, executed_in, config, process, export, arguments, caller).await
            }
            args => match find_word(shared, executed_in, config, process).await? {
                Some(word) => say(executed_in, word),
                None => Err(Error::NoSuchFile(args.first().cloned().unwrap_or_default())),
            },
        },
    }
}

/// The word of the toolbox that a process's args are.
async fn find_word(
    shared: &Arc<Shared>,
    executed_in: &Container,
    config: &ContainerConfig,
    process: &Process,
) -> Result<Option<Word>, Error> {
    let text = match name(process) {
        "env" => answers::env(process),
        "ps" => answers::ps(executed_in)?,
        "grants" => answers::grants(config),
        "wit" => {
            let own = of_created(shared, executed_in, config, config.process());
            let image::Workload::Guest(component) = image::resolve(&own).await? else {
                return Ok(None);
            };
            compile::describe(shared, &component).await?
        }
        _ => return Ok(Word::parse(args(process))),
    };
    Ok(Some(Word::Print(text)))
}

fn say(executed_in: &Container, word: Word) -> Result<Found, Error> {
    let mut files = Descriptors::default();
    if let Word::Profile(_) = word {
        files.add(toolbox::GUEST, profiles::connect(executed_in.bundle())?);
    }
    let value = guests::encode(&Task::Word(word));
    Ok(Found { workload: Workload::Guest { value, page_map: false }, files, layers: vec![] })
}

/// `get-user(42)` is the export and what is in its parentheses.
fn split_call(call: &str) -> (&str, &str) {
    let (export, arguments) = call.split_once('(').unwrap_or((call, ""));
    (export, arguments.strip_suffix(')').unwrap_or(arguments))
}

/// An export of the container's own guest, with arguments.
async fn find_export(
    shared: &Arc<Shared>,
    executed_in: &Container,
    config: &ContainerConfig,
    process: &Process,
    export: &str,
    arguments: Vec<String>,
    caller: &Caller,
) -> Result<Found, Error> {
    let mut called = process.clone();
    called.set_args(Some(own_export(config, export, arguments)));
    let found = image::resolve(&of_created(shared, executed_in, config, &called)).await?;
    prepare(shared, found, config, &called, caller, None).await
}

/// The container's own entrypoint with another export.
fn own_export(config: &ContainerConfig, export: &str, arguments: Vec<String>) -> Vec<String> {
    let entrypoint = config.args().first().map_or("", String::as_str);
    let path = entrypoint.split('#').next().unwrap_or_default();
    [format!("{path}#{export}")].into_iter().chain(arguments).collect()
}

/// A process of a container that is there: its image's name may be another image's by now, and its layers are not.
fn of_created<'a>(
    shared: &'a Shared,
    created: &'a Container,
    config: &'a ContainerConfig,
    process: &'a Process,
) -> image::Container<'a> {
    container(shared, created.id(), config, process, created.layers())
}

fn container<'a>(
    shared: &'a Shared,
    id: &'a str,
    config: &'a ContainerConfig,
    process: &'a Process,
    layers: &'a [Descriptor],
) -> image::Container<'a> {
    image::Container {
        containerd: Some(&shared.containerd),
        namespace: &shared.namespace,
        id,
        rootfs: config.rootfs(),
        args: args(process),
        cwd: process.cwd(),
        env: process.env().as_deref().unwrap_or_default(),
        mounts: config.mounts(),
        preinit: config.preinit(),
        layers,
    }
}

async fn prepare(
    shared: &Arc<Shared>,
    found: image::Workload,
    config: &ContainerConfig,
    process: &Process,
    caller: &Caller,
    first: Option<First<'_>>,
) -> Result<Found, Error> {
    match found {
        image::Workload::Program => Ok(Found::without_files(Workload::Program)),
        image::Workload::Guest(component) => {
            guest(shared, component, config, process, caller, first).await
        }
    }
}

async fn guest(
    shared: &Arc<Shared>,
    component: image::Component,
    config: &ContainerConfig,
    process: &Process,
    caller: &Caller,
    first: Option<First<'_>>,
) -> Result<Found, Error> {
    let component = Arc::new(component);
    let code = compile::code(shared, &component, caller).await;
    let (world, code) = code.map_err(|error| match error {
        // Not all args: this ends in events and logs, and secrets are among them.
        Error::Guest(reason) => Error::Guest(format!("{}: {reason}", name(process))),
        other => other,
    })?;
    let env = process.env().as_deref().unwrap_or_default();
    let (export, args) = (component.export.clone(), component.args.clone());
    let mut plan = Plan::new(world, export, args, env, process.cwd().clone())?;
    plan.config = config.guest_config().map(Path::to_owned);
    plan.keyvalue = config.keyvalue().map(Path::to_owned);
    let mut files = Descriptors::default();
    files.add(CODE, unwritable::file(code)?);
    // A module has no `wasi:http`.
    let trusted = (world != World::Module).then(roots::open).flatten();
    if let Some(roots) = trusted.and_then(|file| unwritable::file(file).ok()) {
        files.add(ROOTS, roots);
    }
    if let Some(First { id, artifacts, bundle }) = first {
        plan.artifacts = artifacts;
        config.serve_http(&mut plan.http)?;
        if world.serves_http() && plan.http.listen.is_none() {
            let exposed =
                component.exposed_port(&container(shared, id, config, process, &[])).await?;
            plan.http.port = exposed.unwrap_or(plan.http.port);
        }
        files.add(PROFILES, profiles::listen(bundle)?);
    }
    let page_map = world.serves_http();
    let value = guests::encode(&Task::Guest(Box::new(plan)));
    let layers = component.image_layers().to_vec();
    Ok(Found { workload: Workload::Guest { value, page_map }, files, layers })
}

/// What is executed: the first of the args.
fn name(process: &Process) -> &str {
    args(process).first().map_or("", String::as_str)
}

fn args(process: &Process) -> &[String] {
    process.args().as_deref().unwrap_or_default()
}
