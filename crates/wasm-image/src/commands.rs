//! Runs each command, step by step.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::CommandFactory;
use oci_client::Reference;
use serde::Serialize;

use crate::args::{
    Args, Build, Check, Command, Convert, Copy, Destination, Format, Inspect, Kind, Policy, Pull,
    Push, Turn, tagged,
};
use crate::compose;
use crate::composition::Part;
use crate::errors::Error;
use crate::location::{self, Location};
use crate::registry::Options;
use crate::store::{Layout, output};
use crate::transfer::{Source, Target};
use crate::{
    build, componentize, convert, inspect, policy, progress, sbom, scratch, transfer, warm,
};

/// Runs a command.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Build(it) => make(&it).await,
        Command::Push(it) => push(&it).await,
        Command::Pull(it) => pull(&it).await,
        Command::Copy(it) => copy(&it).await,
        Command::Convert(it) => turn_into_image(&it).await,
        Command::Inspect(it) => look(&it).await,
        Command::Policy(Policy::Check(it)) => check(&it).await,
        Command::Warm(it) => report(&warm::run(&it).await?, it.format),
        Command::Compose(it) => {
            say(&in_form(&compose::run(&it).await?, it.format)?, output::is_stdout(&it.output))
        }
        Command::Componentize(it) => turn(&it, "a component", componentize::componentize),
        Command::Pages(pages) => Ok(pages.write(Args::command())?),
        Command::Wat(it) => turn(&it, "a module", |text| Ok(wat::parse_bytes(text)?.into())),
    }
}

async fn make(asked: &Build) -> Result<()> {
    let name = asked.reference()?;
    let scratch = scratch::Directory::new()?;
    let layout = Layout::create(scratch.path())?;
    let image = build::build(asked, &layout)?;
    warn(asked)?;
    if asked.sbom {
        sbom::attach(asked, &image, &layout)?;
    }
    let source = Source::made(layout, image, name.clone(), None);
    deliver(&source, &name, &asked.destination, &asked.registry, asked.format).await
}

/// Warns about parts of a new image that will not run or are not needed.
fn warn(asked: &Build) -> Result<()> {
    let guests = asked.components.iter().map(|path| build::guest::Guest::read(path));
    let part = |it: build::guest::Guest| Part { name: it.name(), wasm: Ok(it.wasm) };
    let parts: Vec<_> = guests.map(|it| it.map(part)).collect::<Result<_>>()?;
    let has_files = asked.rootfs.is_some() || !asked.files.is_empty();
    for platform in asked.platforms.iter().filter(|it| has_files && it.is_wasm()) {
        progress::note(&format!(
            "warning: containerd 2.3 and later unpack no files of an image for {platform}: leave \
             --platform out"
        ));
    }
    let labels = asked.labels.iter().map(|it| (it.key.clone(), it.value.clone()));
    let labels: Vec<_> = labels.collect();
    let report = inspect::of_parts(&parts, &asked.entrypoint, &labels);
    if let Some(reason) = &report.reason {
        progress::note(&format!("warning: it will not run on this version of the shim: {reason}"));
    }
    let unused = report.composition.iter().flat_map(|it| &it.unused);
    unused.for_each(|it| compose::warn_of_unused(it));
    Ok(())
}

async fn turn_into_image(asked: &Convert) -> Result<()> {
    let name = tagged(&asked.tag)?;
    let source = Source::open(&asked.source, None, None, &asked.registry).await?;
    let scratch = scratch::Directory::new()?;
    let layout = Layout::create(scratch.path())?;
    let image = convert::convert(asked, &source, &layout).await?;
    let made = Source::made(layout, image, name.clone(), source.origin.clone());
    deliver(&made, &name, &asked.destination, &asked.registry, asked.format).await
}

/// Puts a new image where the command line asks for it.
async fn deliver(
    source: &Source,
    name: &Reference,
    destination: &Destination,
    options: &Options,
    format: Format,
) -> Result<()> {
    let registry = destination.push.then(|| Location::Registry(name.clone()));
    let written = destination.output.as_deref().map(Location::of_path);
    let aside = written.as_ref().is_some_and(Location::is_stdout);
    let mut all = Vec::new();
    for place in written.into_iter().chain(registry) {
        let target = Target::open(&place, options)?;
        all.push(transfer::copy(source, &target, name, true).await?);
    }
    match (format.kind, all.as_slice()) {
        (Kind::Json, several @ [_, _, ..]) => say(&serde_json::to_string_pretty(&several)?, aside),
        (_, each) => each.iter().try_for_each(|it| report_copied(it, format, aside)),
    }
}

async fn push(asked: &Push) -> Result<()> {
    let place = Location::of_path(&asked.source);
    let source = Source::open(&place, asked.image.as_deref(), None, &asked.registry).await?;
    let name = match &asked.target {
        Some(name) => location::reference(name)?,
        None => own_name(&source, "name one after it")?,
    };
    let target = Target::open(&Location::Registry(name.clone()), &asked.registry)?;
    report(&transfer::copy(&source, &target, &name, true).await?, asked.format)
}

async fn pull(asked: &Pull) -> Result<()> {
    let name = location::reference(&asked.source)?;
    let written = Location::of_path(&asked.output);
    let target = Target::open(&written, &asked.registry)?;
    let place = Location::Registry(name.clone());
    let mut source = Source::open(&place, None, target.layout(), &asked.registry).await?;
    if let Some(platform) = &asked.apart.platform {
        source.take_apart(platform).await?;
    }
    let copied = transfer::copy(&source, &target, &name, asked.referrers).await?;
    report_copied(&copied, asked.format, written.is_stdout())
}

async fn copy(asked: &Copy) -> Result<()> {
    let target = Target::open(&asked.target, &asked.to())?;
    let keep = target.layout();
    let mut source =
        Source::open(&asked.source, asked.image.as_deref(), keep, &asked.from()).await?;
    if let Some(platform) = &asked.apart.platform {
        source.take_apart(platform).await?;
    }
    let name = match (&asked.target, &asked.tag) {
        (Location::Registry(name), _) => name.clone(),
        (_, Some(name)) => tagged(name)?,
        (_, None) => own_name(&source, "give --tag")?,
    };
    let copied = transfer::copy(&source, &target, &name, asked.referrers).await?;
    report_copied(&copied, asked.format, asked.target.is_stdout())
}

fn own_name(source: &Source, advice: &str) -> Result<Reference, Error> {
    let unnamed = || Error::Usage(format!("the image in {} has no name: {advice}", source.title()));
    source.name.clone().ok_or_else(unnamed)
}

async fn look(asked: &Inspect) -> Result<()> {
    let found = inspect::inspect(asked).await?;
    report(&found, asked.format)?;
    inspect::refusal(&found).map_or(Ok(()), |error| Err(error.into()))
}

async fn check(asked: &Check) -> Result<()> {
    let checked = policy::check(asked).await?;
    report(&checked, asked.format)?;
    checked.refusal().map_or(Ok(()), |error| Err(error.into()))
}

fn report(done: &(impl Serialize + Display), format: Format) -> Result<()> {
    say(&in_form(done, format)?, false)
}

/// Reports a copy. The report goes to standard error if the image itself goes to standard output.
fn report_copied(done: &transfer::Copied, format: Format, aside: bool) -> Result<()> {
    say(&in_form(done, format)?, aside)
}

fn in_form(done: &(impl Serialize + Display), format: Format) -> Result<String> {
    Ok(match format.kind {
        Kind::Json => serde_json::to_string_pretty(done)?,
        Kind::Text => progress::printable(&done.to_string()),
    })
}

/// Prints a text. It is no error if the reader has closed the pipe (`| head`).
fn say(text: &str, aside: bool) -> Result<()> {
    if aside {
        progress::note(text);
        return Ok(());
    }
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// Reads the input, converts it into `what`, and writes the result.
fn turn(it: &Turn, what: &str, turn: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<()> {
    let made = turn(&crate::read(&it.input)?)
        .with_context(|| format!("cannot make {what} of {}", it.input.display()))?;
    output::write(&it.output, &made)
}
