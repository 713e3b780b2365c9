//! `uninstall`: restores everything byte for byte. If somebody else has changed a file since, only the handler is
//! removed from it.

use std::path::Path;

use anyhow::Result;

use crate::args::Uninstall;
use crate::config;
use crate::cri;
use crate::environment;
use crate::errors::Error;
use crate::files::{self, Attributes};
use crate::node::Node;
use crate::record::{Change, Record, Store, digest};
use crate::restart::Restart;
use crate::shim;

/// Uninstalls the shim, and prints what was done.
pub fn run(options: &Uninstall) -> Result<()> {
    let node = Node::find(&options.node)?;
    if options.node.dry_run {
        let record = Store::peek(&node.tree, &options.node.state_dir)?;
        let changes = record.iter().flat_map(|it| &it.changes);
        changes.for_each(|it| println!("{}", it.path.display()));
        return Ok(());
    }
    let store = Store::open(&node.tree, &options.node.state_dir)?;
    let Some(record) = store.read()? else {
        // An installer that was killed before it wrote the record has changed nothing.
        store.sweep()?;
        println!("nothing is installed");
        return Ok(());
    };
    if !options.force {
        refuse_with_pods(&node)?;
    }
    node.restart.check()?;
    let (shims, texts): (Vec<_>, Vec<_>) = record.changes.iter().partition(|it| is_shim(&it.path));
    for change in &texts {
        restore(&node, &store, change)?;
    }
    // The shim is deleted last, because containerd has the handler until it is restarted.
    restart(&node, &texts)?;
    for change in &shims {
        restore(&node, &store, change)?;
    }
    finish(&node, store, &record)?;
    println!("everything is as it was before");
    Ok(())
}

fn is_shim(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == shim::NAME)
}

/// Refuses while Pods of the handler run, because nothing could stop their guests afterwards. If containerd does not
/// answer, it has no Pods to report.
fn refuse_with_pods(node: &Node) -> Result<(), Error> {
    if node.restart == Restart::Later {
        return Ok(());
    }
    let pods = cri::pods(&node.layout.socket).unwrap_or_default();
    if pods.is_empty() { Ok(()) } else { Err(Error::PodsRunning { pods: pods.join(", ") }) }
}

fn restore(node: &Node, store: &Store, change: &Change) -> Result<(), Error> {
    let path = node.tree.at(&change.path);
    // Delete what an installer that was killed has left.
    files::remove_unfinished(&path)?;
    let Some(there) = node.tree.bytes(&change.path)? else {
        return match (&change.before, change.is_ours) {
            (Some(before), true) => files::write(&path, &store.copy(before)?, &before.attributes),
            _ => Ok(()),
        };
    };
    if change.is_ours || digest(&there) == change.after {
        return match &change.before {
            Some(before) if before.copy == digest(&there) => Ok(()),
            Some(before) => files::write(&path, &store.copy(before)?, &before.attributes),
            None => files::remove(&path),
        };
    }
    let attributes = Attributes::of(&path).map_err(Error::file("read", &change.path))?;
    let text = String::from_utf8_lossy(&there);
    let without = if environment::is_file(&change.path) {
        environment::without(&text)
    } else {
        let before = change.before.as_ref().map(|before| store.copy(before)).transpose()?;
        let before = before.and_then(|it| String::from_utf8(it).ok());
        config::without_handler(&change.path, &text, before.as_deref())?
    };
    if without == text { Ok(()) } else { files::write(&path, without.as_bytes(), &attributes) }
}

fn restart(node: &Node, changes: &[&Change]) -> Result<(), Error> {
    if changes.is_empty() || node.restart == Restart::Later {
        return Ok(());
    }
    println!("restarting containerd");
    node.restart.run()?;
    let answers = || cri::handler(&node.layout.socket).is_ok();
    let reason = || "it does not answer without the handler".to_owned();
    node.until(answers).ok_or_else(|| Error::NotRolledBack { reason: reason() })
}

fn finish(node: &Node, store: Store, record: &Record) -> Result<(), Error> {
    let dirs: Vec<_> = record.dirs.iter().map(|it| node.tree.at(it)).collect();
    store.clear()?;
    files::remove_dirs(&dirs);
    Ok(())
}
