//! Measures how long the actions of the shim's binary take, from exec to exit.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests::command::in_path;
use tests::shim::Bundle;

use crate::effort::Bench;
use crate::report::Table;
use crate::statistics::Times;

/// The actions, in the order in which they run. The first one does nothing.
const ACTIONS: [&str; 3] = ["-v", "start", "delete"];

/// Measures each action.
pub fn time(bench: &Bench) -> Result<Table> {
    let mut times = ACTIONS.map(|_| Vec::new());
    for _ in 0..bench.effort.rounds {
        let bundle = Bundle::shell("true")?;
        for (action, times) in ACTIONS.into_iter().zip(&mut times) {
            let (time, answer) = execute(&bundle, action)?;
            times.push(time);
            if action == "start" {
                Bundle::connect(&answer)?.shutdown();
            }
        }
        bundle.close()?;
    }
    let mut table = Table::new(&["action", "ms", "99 %"]);
    for (action, times) in ACTIONS.iter().zip(times) {
        let times = Times::of(times);
        table.row([(*action).into(), times.to_string(), format!("{:.1}", times.p99)]);
    }
    Ok(table)
}

/// Executes an action as containerd does. Returns the milliseconds and the output.
fn execute(bundle: &Bundle, action: &str) -> Result<(f64, String)> {
    let shim = in_path("containerd-shim-wasmtime-v1").context("the shim is not in PATH")?;
    let unused = bundle.folder.join("unused.sock").display().to_string();
    let mut command = Command::new(shim);
    command.args(["-namespace", "tests", "-id", &bundle.id, "-address", &unused, action]);
    command.env("TTRPC_ADDRESS", format!("{unused}.ttrpc")).current_dir(&bundle.folder);
    let before = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let time = before.elapsed().as_secs_f64() * 1e3;
    ensure!(output.status.success(), "{action}: {output:?}");
    Ok((time, String::from_utf8_lossy(&output.stdout).into_owned()))
}
