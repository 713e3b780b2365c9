//! `install`: plans, has containerd check the plan, records how to undo it, writes, restarts, verifies, and rolls back
//! if necessary.
//!
//! The only state is on disk. After a kill at any step, the next `install` finds which files are already correct and
//! whether containerd has the handler, and does the rest.

use anyhow::Result;

use crate::args::Install;
use crate::config;
use crate::cri;
use crate::environment;
use crate::errors::Error;
use crate::files::{self, Attributes};
use crate::node::Node;
use crate::record::{Before, Change, Record, Store, digest};
use crate::restart::Restart;
use crate::shim::{self, Shim};
use crate::target::{Target, Targets};

/// Installs the shim, and prints what was done.
pub fn run(options: &Install, shim: &Shim) -> Result<()> {
    let node = Node::find(&options.node)?;
    if options.node.dry_run {
        let record = Store::peek(&node.tree, &options.node.state_dir)?;
        let targets = Targets::of(&node, options, shim, record.as_ref())?;
        print!("{}", targets.diff(&node.tree)?);
        return Ok(());
    }
    let store = Store::open(&node.tree, &options.node.state_dir)?;
    let record = store.read()?;
    for change in record.iter().flat_map(|it| &it.changes) {
        files::remove_unfinished(&node.tree.at(&change.path))?;
    }
    let targets = Targets::of(&node, options, shim, record.as_ref())?;
    println!("{}, containerd {}", node.layout.distribution, node.version);
    for (path, words) in shim::others(&node.tree, &targets.binary) {
        println!(
            "note: {} is another shim of the same name ({words}); the handler does not use it",
            path.display()
        );
    }
    let is_complete = record.as_ref().is_some_and(|it| it.is_complete);
    let is_known = node.restart == Restart::Later || is_served(&node, &targets);
    if targets.files.is_empty() && is_complete && is_known {
        println!("{} is up to date: there is nothing to do", targets.binary.display());
        return Ok(());
    }
    if let (Some(program), Some(candidate)) = (&node.program, &targets.candidate) {
        program.check(candidate)?;
    }
    node.restart.check()?;
    change(&node, store, record, shim, &targets)
}

/// Changes the node as planned, or leaves it as it was.
fn change(
    node: &Node,
    store: Store,
    earlier: Option<Record>,
    shim: &Shim,
    targets: &Targets,
) -> Result<()> {
    let mut record = earlier.clone().unwrap_or_default();
    prepare(node, &store, &mut record, targets)?;
    let former = match write(node, shim, targets) {
        Ok(former) => former,
        Err(error) => {
            forget(node, store, earlier, &record)?;
            return Err(error.into());
        }
    };
    let is_shim = |file: &Target| file.path == targets.binary;
    let needs_restart = !targets.files.iter().all(is_shim) || !is_served(node, targets);
    if needs_restart && let Err(reason) = restart(node, targets) {
        roll_back(node, &former, &format!("{reason:#}"))?;
        forget(node, store, earlier, &record)?;
        return Err(Error::RolledBack { reason: format!("{reason:#}") }.into());
    }
    record.is_complete = true;
    store.write(&record)?;
    println!("{} is installed", targets.binary.display());
    if node.restart == Restart::Later {
        println!("containerd has to be restarted to know the handler");
    }
    Ok(())
}

/// Removes files from the record that were not changed after all.
fn forget(
    node: &Node,
    store: Store,
    earlier: Option<Record>,
    record: &Record,
) -> Result<(), Error> {
    match earlier {
        Some(earlier) => store.write(&earlier),
        None => {
            store.sweep()?;
            let dirs: Vec<_> = record.dirs.iter().map(|it| node.tree.at(it)).collect();
            files::remove_dirs(&dirs);
            Ok(())
        }
    }
}

/// Keeps copies of the files as they were before the first installation, and records which will be changed.
fn prepare(
    node: &Node,
    store: &Store,
    record: &mut Record,
    targets: &Targets,
) -> Result<(), Error> {
    record.version = env!("CARGO_PKG_VERSION").into();
    record.is_complete = false;
    for file in &targets.files {
        let earlier = record.changes.iter().find(|it| it.path == file.path).cloned();
        let change = Change {
            path: file.path.clone(),
            before: before(node, store, file, earlier)?,
            after: digest(&file.bytes),
            is_ours: file.is_ours,
        };
        record.changes.retain(|it| it.path != file.path);
        record.changes.push(change);
        let dir = file.path.parent().unwrap_or(&file.path);
        let missing = dir.ancestors().take_while(|it| !node.tree.exists(it));
        let mut missing: Vec<_> = missing.map(ToOwned::to_owned).collect();
        missing.retain(|it| !record.dirs.contains(it));
        record.dirs.extend(missing.into_iter().rev());
    }
    store.write(record)
}

/// Returns the file as it was before the first installation.
fn before(
    node: &Node,
    store: &Store,
    file: &Target,
    earlier: Option<Change>,
) -> Result<Option<Before>, Error> {
    let Some(there) = node.tree.bytes(&file.path)? else { return Ok(None) };
    if let Some(earlier) = earlier
        && (earlier.is_ours || earlier.after == digest(&there))
    {
        return Ok(earlier.before);
    }
    let attributes =
        Attributes::of(&node.tree.at(&file.path)).map_err(Error::file("read", &file.path))?;
    // The configuration has our handler, but its record is lost.
    let original = match std::str::from_utf8(&there) {
        Ok(text) if !file.is_ours && environment::is_file(&file.path) => {
            environment::without(text).into()
        }
        Ok(text) if !file.is_ours => config::without_our_part(text).into(),
        _ => there,
    };
    store.keep(&original, attributes).map(Some)
}

/// A file as it was before this installation, for a rollback.
struct Former {
    target: std::path::PathBuf,
    before: Option<(Vec<u8>, Attributes)>,
}

/// Replaces the files. If one cannot be written, all former files are restored.
fn write(node: &Node, shim: &Shim, targets: &Targets) -> Result<Vec<Former>, Error> {
    let mut former = Vec::new();
    for file in &targets.files {
        let path = node.tree.at(&file.path);
        let there = node.tree.bytes(&file.path)?;
        let before = there.zip(Attributes::of(&path).ok());
        let written = path.parent().map_or(Ok(Vec::new()), files::make_dirs);
        let attributes = file.attributes(&node.tree);
        let written = written.and_then(|_| match file.path == targets.binary {
            true => {
                files::write_if(&path, &file.bytes, &attributes, |new| shim.try_on(new).map(drop))
            }
            false => files::write(&path, &file.bytes, &attributes),
        });
        if let Err(error) = written {
            put_back(node, &former)?;
            return Err(error);
        }
        former.push(Former { target: file.path.clone(), before });
    }
    Ok(former)
}

fn put_back(node: &Node, former: &[Former]) -> Result<(), Error> {
    for file in former.iter().rev() {
        let path = node.tree.at(&file.target);
        match &file.before {
            Some((bytes, attributes)) => files::write(&path, bytes, attributes)?,
            None => files::remove(&path)?,
        }
    }
    Ok(())
}

fn restart(node: &Node, targets: &Targets) -> Result<()> {
    if node.restart == Restart::Later {
        return Ok(());
    }
    println!("restarting containerd");
    node.restart.run()?;
    node.until(|| is_served(node, targets)).ok_or_else(|| match cri::handler(&node.layout.socket) {
        Err(error) => error,
        Ok(Some(served)) => anyhow::anyhow!("its handler is {served:?}"),
        Ok(None) => anyhow::anyhow!("containerd answers, and does not have it"),
    })
}

/// Returns whether containerd has the handler with this shim.
fn is_served(node: &Node, targets: &Targets) -> bool {
    let served = cri::handler(&node.layout.socket).ok().flatten();
    served.is_some_and(|it| it.program() == targets.binary)
}

/// Restores all files as they were before this installation, and has containerd read them.
fn roll_back(node: &Node, former: &[Former], reason: &str) -> Result<(), Error> {
    println!("containerd did not come back with the handler; rolling back");
    let failed = |error: Error| Error::NotRolledBack { reason: format!("{reason}; {error}") };
    put_back(node, former).and_then(|()| node.restart.run()).map_err(failed)?;
    let answers = || cri::handler(&node.layout.socket).is_ok();
    node.until(answers).ok_or_else(|| Error::NotRolledBack { reason: reason.to_owned() })
}
