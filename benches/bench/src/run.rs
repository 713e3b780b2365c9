//! `run`: create, start, wait for the end and delete one container, `ctr run --rm`.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;
use tests::Node;
use tests::ctr::Run;

use crate::Effort;
use crate::contender::{Contender, GREETING};
use crate::statistics::{Times, in_turn};

/// What is run.
struct Case {
    what: &'static str,
    contender: Contender,
    image: &'static str,
    flags: &'static [&'static str],
    words: &'static [&'static str],
    says: &'static str,
}

/// What `ctr` has to be told for images that say they are for WASI.
const WASI: &[&str] = &["--platform", "wasip2/wasm"];

const CASES: [Case; 4] = [
    Case {
        what: "hello, 320 kB",
        contender: Contender::Ours,
        image: "hello-layer",
        flags: WASI,
        words: &[],
        says: GREETING,
    },
    Case {
        what: "hello, 320 kB",
        contender: Contender::Peer,
        image: "hello-layer",
        flags: WASI,
        words: &[],
        says: GREETING,
    },
    Case {
        what: "echo",
        contender: Contender::Runc,
        image: "linux",
        flags: &[],
        words: &["/bin/echo", "hello from wasi"],
        says: GREETING,
    },
    Case {
        what: "nothing",
        contender: Contender::Floor,
        image: "linux",
        flags: &[],
        words: &["/bin/true"],
        says: "",
    },
];

/// The times of one case.
#[derive(Debug, Serialize)]
pub struct Runs {
    /// Who.
    pub contender: &'static str,
    /// What was run.
    pub what: &'static str,
    /// Of the whole `ctr run`.
    pub times: Times,
}

/// Runs each case so many times.
pub fn measure(node: &Node, effort: Effort) -> Result<Vec<Runs>> {
    println!("run: {} rounds", effort.rounds);
    let times = in_turn(&CASES, effort.rounds, |case, _| once(node, case))?;
    let runs = |(case, times): (&Case, Times)| Runs {
        contender: case.contender.name(),
        what: case.what,
        times,
    };
    Ok(CASES.iter().zip(times).map(runs).collect())
}

fn once(node: &Node, case: &Case) -> Result<f64> {
    let image = node.ctr_image(case.image)?;
    let run = Run::new(&image).handler(case.contender.handler());
    let run = run.flags(case.flags).command(case.words);
    let before = Instant::now();
    let output = node.ctr.run_container(&run)?;
    let time = before.elapsed().as_secs_f64() * 1e3;
    let name = case.contender.name();
    ensure!(output.code == 0 && output.stdout == case.says, "{name}, {}: {output:?}", case.what);
    Ok(time)
}
