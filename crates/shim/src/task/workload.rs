//! Workload of a container or an exec process: finds it, and compiles a guest.

use std::path::Path;
use std::sync::Arc;

use grants::Grants;
use oci_spec::image::Descriptor;
use oci_spec::runtime::Process;
use plan::{FailureArtifacts, Plan, World};
use sandbox::{Descriptors, Kind, Workload, read_only};

use super::compile;
use crate::built_in::{BuiltIn, GUEST, answers};
use crate::config::ContainerConfig;
use crate::container::Container;
use crate::errors::Error;
use crate::guests::{self, CODE, PROFILES, ROOTS, Task};
use crate::options::Options;
use crate::pod::{Caller, Shared};
use crate::{policy, profiles, roots};

/// Built-in command that calls an export, given in one argument: `exec POD -- invoke 'get-user(42)'`.
const INVOKE: &str = "invoke";

/// Files that say what a name means (hosts(5), resolv.conf(5)). A guest with grants for names, or for which the runtime connects
/// to a host by its name, must not choose that itself. The runtime does not read nsswitch.conf(5).
const NAME_SERVICE: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// A workload, with its descriptors if it is a guest.
pub struct Found {
    /// Workload for the zygote.
    pub workload: Workload,
    /// Descriptors of its [`Task`].
    pub files: Descriptors,
    /// Wasm layers of the image.
    pub layers: Vec<Descriptor>,
    /// What a guest may do.
    pub grants: Option<Grants>,
}

impl Found {
    fn without_files(workload: Workload) -> Found {
        Found { workload, files: Descriptors::default(), layers: vec![], grants: None }
    }
}

/// Properties of a container's first process that exec processes do not have.
struct First<'a> {
    id: &'a str,
    artifacts: FailureArtifacts,
    /// Bundle, which has the socket for profiles.
    bundle: &'a Path,
}

/// Where the grants of a guest come from.
#[derive(Clone, Copy)]
enum GrantsOf<'a> {
    /// They are merged, with these runtime options.
    Options(&'a Options),
    /// They are those of the container, whatever the node's file says now.
    Container(&'a Container),
}

/// Finds the workload of a container whose root is mounted.
pub async fn find(
    shared: &Arc<Shared>,
    id: &str,
    bundle: &Path,
    config: &ContainerConfig,
    options: &Options,
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
    let (of, first) = (GrantsOf::Options(options), First { id, artifacts, bundle });
    prepare(shared, found, config, process, of, caller, Some(first)).await
}

/// Finds the workload of an exec process. A name is never that of the image's wasm layer; only `#export` refers to it.
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
        Some(found) => {
            let of = GrantsOf::Container(executed_in);
            prepare(shared, found, config, process, of, caller, None).await
        }
        None if executed_in.kind() == Kind::Program => Ok(Found::without_files(Workload::Program)),
        None => match args(process) {
            [command, call] if command == INVOKE => {
                let (export, arguments) = split_call(call);
                let arguments = vec![arguments.to_owned()];
                find_export(shared, executed_in, config, process, export, arguments, caller).await
            }
            args => match find_built_in(shared, executed_in, config, process).await? {
                Some(command) => built_in(executed_in, command),
                None => Err(Error::NoSuchFile(args.first().cloned().unwrap_or_default())),
            },
        },
    }
}

/// Finds the built-in command of a process's args.
async fn find_built_in(
    shared: &Arc<Shared>,
    executed_in: &Container,
    config: &ContainerConfig,
    process: &Process,
) -> Result<Option<BuiltIn>, Error> {
    let text = match name(process) {
        "env" => answers::env(process),
        "ps" => answers::ps(executed_in)?,
        "grants" => answers::grants(config, executed_in),
        "wit" => {
            let own = of_created(shared, executed_in, config, config.process());
            let image::Workload::Guest(component) = image::resolve(&own).await? else {
                return Ok(None);
            };
            let code = executed_in.grants().map(|grants| grants.code.clone()).unwrap_or_default();
            compile::describe(shared, &component, code).await?
        }
        _ => return Ok(BuiltIn::parse(args(process))),
    };
    Ok(Some(BuiltIn::Print(text)))
}

fn built_in(executed_in: &Container, command: BuiltIn) -> Result<Found, Error> {
    let mut files = Descriptors::default();
    if let BuiltIn::Profile(_) = command {
        files.add(GUEST, profiles::connect(executed_in.bundle())?);
    }
    let value = guests::encode(&Task::BuiltIn(command));
    let workload = Workload::Guest { value, page_map: false, fixed: vec![] };
    Ok(Found { workload, files, layers: vec![], grants: None })
}

/// Splits `get-user(42)` into the export and what is in the parentheses.
fn split_call(call: &str) -> (&str, &str) {
    let (export, arguments) = call.split_once('(').unwrap_or((call, ""));
    (export, arguments.strip_suffix(')').unwrap_or(arguments))
}

/// Finds an export of the container's own guest, to be called with arguments.
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
    let of = GrantsOf::Container(executed_in);
    prepare(shared, found, config, &called, of, caller, None).await
}

/// Args with the container's own entrypoint and another export.
fn own_export(config: &ContainerConfig, export: &str, arguments: Vec<String>) -> Vec<String> {
    let entrypoint = config.args().first().map_or("", String::as_str);
    let path = entrypoint.split('#').next().unwrap_or_default();
    [format!("{path}#{export}")].into_iter().chain(arguments).collect()
}

/// Process of an existing container. It has the layers of the container's image, whose name may refer to another image by now.
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
    of: GrantsOf<'_>,
    caller: &Caller,
    first: Option<First<'_>>,
) -> Result<Found, Error> {
    match found {
        image::Workload::Program => Ok(Found::without_files(Workload::Program)),
        image::Workload::Guest(component) => {
            guest(shared, *component, config, process, of, caller, first).await
        }
    }
}

async fn guest(
    shared: &Arc<Shared>,
    mut component: image::Component,
    config: &ContainerConfig,
    process: &Process,
    of: GrantsOf<'_>,
    caller: &Caller,
    first: Option<First<'_>>,
) -> Result<Found, Error> {
    // Before the guest is compiled, which may take long.
    let grants = match of {
        GrantsOf::Options(options) => policy::grants(config, &component.labels, options).await?,
        GrantsOf::Container(container) => match container.grants() {
            Some(grants) => grants.clone(),
            // The container's own workload is a program.
            None => policy::grants(config, &component.labels, container.options()).await?,
        },
    };
    component.variant = grants.code.variant();
    let component = Arc::new(component);
    let compiled = compile::code(shared, &component, &grants.code, caller).await;
    let offered = compiled.and_then(|(about, code)| {
        let checked = grants.interfaces.check(&about.packages);
        checked.map_err(|error| Error::Guest(format!("cannot run the image's wasm: {error}")))?;
        Ok((about.world, code))
    });
    let (world, code) = offered.map_err(|error| match error {
        // Only the name, because the error ends in events and logs, and args may have secrets.
        Error::Guest(reason) => Error::Guest(format!("{}: {reason}", name(process))),
        other => other,
    })?;
    let env = process.env().as_deref().unwrap_or_default();
    let (export, args) = (component.export.clone(), component.args.clone());
    let mut plan = Plan::new(world, export, args, env, process.cwd().clone())?;
    plan.config = config.guest_config().map(Path::to_owned);
    plan.keyvalue = config.keyvalue().cloned();
    let mut files = Descriptors::default();
    files.add(CODE, read_only::file(code)?);
    // Modules have no `wasi:http`, so they need no certificates.
    let trusted = (world != World::Module).then(roots::open).flatten();
    if let Some(roots) = trusted.and_then(|file| read_only::file(file).ok()) {
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
    plan.grant(grants.clone());
    let page_map = world.serves_http();
    let fixed = match plan.names_hosts() {
        true => NAME_SERVICE.map(str::to_owned).to_vec(),
        false => vec![],
    };
    let value = guests::encode(&Task::Guest(Box::new(plan)));
    let layers = component.image_layers().to_vec();
    let workload = Workload::Guest { value, page_map, fixed };
    Ok(Found { workload, files, layers, grants: Some(grants) })
}

/// Name of what is executed: the first of the args.
fn name(process: &Process) -> &str {
    args(process).first().map_or("", String::as_str)
}

fn args(process: &Process) -> &[String] {
    process.args().as_deref().unwrap_or_default()
}
