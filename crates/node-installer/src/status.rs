//! `status`: reports what is installed, and whether containerd has the handler.

use anyhow::Result;

use crate::args::Status;
use crate::cri;
use crate::node::Node;
use crate::record::Store;
use crate::shim::{self, Identity};

/// Exit code if nothing is installed, or not everything.
const NOT_INSTALLED: u8 = 3;

/// Prints the state of a node, and returns the exit code.
pub fn run(options: &Status) -> Result<u8> {
    let mut args = options.node.clone();
    args.dry_run = true;
    let node = Node::find(&args)?;
    let (layout, tree) = (&node.layout, &node.tree);
    println!("node:       {}, containerd {}", layout.distribution, node.version);
    let record = Store::peek(tree, &args.state_dir)?;
    let files = record.iter().flat_map(|it| &it.changes).filter(|it| tree.exists(&it.path));
    for change in files {
        let identity = match change.path.ends_with(shim::NAME) {
            true => shim::identify(&tree.at(&change.path)),
            false => None,
        };
        let words = match identity {
            Some(Identity::Ours(version)) => format!(" ({version})"),
            Some(Identity::Others(words)) => format!(" (another's: {words})"),
            None => String::new(),
        };
        println!("file:       {}{words}", change.path.display());
    }
    let served = cri::handler(&layout.socket);
    match &served {
        Ok(Some(served)) => {
            println!("containerd: has the handler, {}", served.program().display());
            if served.has_options {
                println!(
                    "note:       the handler has runtime options, with which containerd 2.0.5 to 2.4.2 starts no \
                     container of a Pod with hostUsers: false"
                );
            }
        }
        Ok(None) => println!("containerd: does not have the handler"),
        Err(error) => println!("containerd: {error:#}"),
    }
    let state = match &record {
        None => "not installed",
        Some(record) if !record.is_complete => {
            "not complete: `install` and `uninstall` both finish it"
        }
        Some(_) if !matches!(served, Ok(Some(_))) => "installed, and containerd has not read it",
        Some(_) => "installed",
    };
    println!("state:      {state}");
    Ok(if state == "installed" { 0 } else { NOT_INSTALLED })
}
