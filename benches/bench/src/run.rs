//! `run`: create, start, wait for the end and delete one container, `ctr run --rm`.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;
use tests::Node;

use crate::Effort;
use crate::contender::{Contender, GREETING};
use crate::statistics::{Times, in_turn};

/// What is run.
struct Case {
    what: &'static str,
    contender: Contender,
    image: &'static str,
    words: &'static [&'static str],
    says: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        what: "hello, 320 kB",
        contender: Contender::Ours,
        image: "hello-layer",
        words: &[],
        says: GREETING,
    },
    Case {
        what: "hello, 320 kB",
        contender: Contender::Peer,
        image: "hello-layer",
        words: &[],
        says: GREETING,
    },
    Case {
        what: "echo",
        contender: Contender::Runc,
        image: "linux",
        words: &["/bin/echo", "hello from wasi"],
        says: GREETING,
    },
    Case {
        what: "nothing",
        contender: Contender::Floor,
        image: "linux",
        words: &["/bin/true"],
        says: "",
    },
];

/// The times of one case.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Who.
    pub contender: &'static str,
    /// What was run.
    pub what: &'static str,
    /// Of the whole `ctr run`.
    pub times: Times,
}

/// Runs each case so many times.
pub fn measure(node: &Node, effort: Effort) -> Result<Vec<Run>> {
    println!("run: {} rounds", effort.rounds);
    let times = in_turn(&CASES, effort.rounds, |case, _| once(node, case))?;
    let run = |(case, times): (&Case, Times)| Run {
        contender: case.contender.name(),
        what: case.what,
        times,
    };
    Ok(CASES.iter().zip(times).map(run).collect())
}

fn once(node: &Node, case: &Case) -> Result<f64> {
    let image = node.ctr_image(case.image)?;
    let id = node.ctr.new_id();
    let mut words = vec!["run", "--rm", "--runtime", case.contender.runtime()];
    if case.image == "hello-layer" {
        words.extend(["--platform", "wasip1/wasm"]);
    }
    words.extend([image.as_str(), id.as_str()]);
    words.extend(case.words);
    let before = Instant::now();
    let output = node.ctr.run("default", &words)?;
    let time = before.elapsed().as_secs_f64() * 1e3;
    let name = case.contender.name();
    ensure!(output.code == 0 && output.stdout == case.says, "{name}, {}: {output:?}", case.what);
    Ok(time)
}
