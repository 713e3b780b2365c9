//! `run`: measures `ctr run --rm`, which creates, starts, awaits and deletes one container.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::Node;
use tests::ctr::Run;

use crate::contender::Contender;
use crate::effort::{self, Bench, Effort};
use crate::guest;
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::statistics::{Times, in_turn};

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "run", title: "One container to its end: `ctr run --rm`", measure };

/// `ctr`'s namespace.
const NAMESPACE: &str = "default";

/// Output of most guests.
const GREETING: &str = "hello from wasi\n";

/// Options of `ctr` for images whose platform is WASI.
const WASI: &[&str] = &["--platform", "wasip2/wasm"];

/// Work that some contenders run in turn.
struct Work {
    what: &'static str,
    guest: Guest,
    contenders: &'static [Contender],
    is_slow: bool,
}

/// What the contenders with WASI run.
enum Guest {
    /// A Linux program. In a contender with WASI, the node's OCI runtime runs it.
    Program,
    /// An image that was compiled in the first round at the latest, and its output.
    Seen(&'static str, &'static str),
    /// A sample guest that is new each time.
    Unseen(&'static str),
}

const WASI_RUNNERS: &[Contender] = &[Contender::Ours, Contender::Peer];

const WORKS: [Work; 6] = [
    Work {
        what: "hello, a component of 0.8 MB",
        guest: Guest::Seen("hello-layer", GREETING),
        contenders: &[Contender::Ours, Contender::Peer, Contender::Runc, Contender::Floor],
        is_slow: false,
    },
    Work {
        what: "hello, a core module of 200 bytes",
        guest: Guest::Seen("hello-module", "hello from wat\n"),
        contenders: WASI_RUNNERS,
        is_slow: false,
    },
    Work {
        what: "hello, a component never seen before",
        guest: Guest::Unseen("hello"),
        contenders: WASI_RUNNERS,
        is_slow: false,
    },
    Work {
        what: "hello in Python, a component of 36 MB",
        guest: Guest::Seen("hello-python", GREETING),
        contenders: WASI_RUNNERS,
        is_slow: false,
    },
    Work {
        what: "the same, never seen before",
        guest: Guest::Unseen("hello-python"),
        contenders: WASI_RUNNERS,
        is_slow: true,
    },
    Work {
        what: "a Linux program",
        guest: Guest::Program,
        contenders: &[Contender::Ours, Contender::Runc],
        is_slow: false,
    },
];

/// Index of the small component.
const HELLO: usize = 0;

/// Index of the Linux program.
const PROGRAM: usize = 5;

/// Index of the large guest that was compiled before.
const LARGE: usize = 3;

impl Work {
    /// Returns the contenders, with the older build where it shows what changed.
    fn contenders(&self) -> Vec<Contender> {
        let before = match self.guest {
            Guest::Seen("hello-layer", _) | Guest::Program => Contender::before(),
            _ => None,
        };
        self.contenders.iter().copied().chain(before).collect()
    }

    fn rounds(&self, effort: Effort) -> usize {
        match (self.is_slow, &self.guest) {
            (false, Guest::Seen(..) | Guest::Program) => effort.rounds,
            (false, Guest::Unseen(_)) => effort.rounds.div_ceil(4),
            (true, _) => effort.slow_rounds,
        }
    }
}

fn measure(bench: &Bench) -> Result<Section> {
    let node = bench.node()?;
    let mut all = Vec::new();
    for work in &WORKS {
        println!("  {}", work.what);
        let rounds = work.rounds(bench.effort);
        let run = |who: &Contender, round| once(&node, work, *who, round);
        all.push(in_turn(&work.contenders(), rounds, run)?);
    }
    let method = "Guests are wasm layers of images. A guest that was *never seen before* has a new section each time, so \
        that it must be\ncompiled. All others were compiled in the first round at the latest, which helps a shim that \
        keeps the code. runc runs `echo`\nof a static busybox.";
    let section = Section::new(&SCENARIO, method, numbers(&all)?);
    let pair = [&WORKS[HELLO], &WORKS[LARGE]];
    let pair = in_turn(&pair, bench.effort.rounds, |work, round| {
        once(&node, work, Contender::Ours, round)
    })?;
    let python = pair[1].median / pair[0].median;
    effort::end(node);
    let python = Figure::new("run Python, warm", "× hello", Reach::AtMost(1.3), python);
    Ok(section.table(table(&all)).figures(figures(&all)).figures([python]))
}

fn once(node: &Node, work: &Work, who: Contender, round: usize) -> Result<f64> {
    let (image, flags, words, says) = match (who, &work.guest) {
        (Contender::Runc, _) | (_, Guest::Program) => {
            (node.ctr_image("linux")?, &[][..], &["/bin/echo", "hello from wasi"][..], GREETING)
        }
        (Contender::Floor, _) => (node.ctr_image("linux")?, &[][..], &["/bin/true"][..], ""),
        (_, Guest::Seen(image, says)) => (node.ctr_image(image)?, WASI, &[][..], *says),
        (_, Guest::Unseen(sample)) => {
            let round = format!("{}-{round}", who.handler());
            (guest::unseen(node, NAMESPACE, sample, &round)?, WASI, &[][..], GREETING)
        }
    };
    let run = Run::new(&image).handler(who.handler()).flags(flags).command(words);
    let id = node.ctr.new_id();
    node.traces.watch(NAMESPACE, &id);
    let before = Instant::now();
    let output = node.ctr.run_container_as(&id, &run)?;
    let time = before.elapsed().as_secs_f64() * 1e3;
    ensure!(output.code == 0 && output.stdout == says, "{}, {}: {output:?}", who.name(), work.what);
    Ok(time)
}

fn table(all: &[Vec<Times>]) -> Table {
    let mut table = Table::new(&["what", "who", "ms", "of the peer's"]);
    for (work, times) in WORKS.iter().zip(all) {
        for (who, it) in work.contenders().iter().zip(times) {
            let ratio = format!("{:.2}", it.median / times[1].median);
            table.row([work.what.into(), who.name().into(), it.to_string(), ratio]);
        }
    }
    table
}

fn numbers(all: &[Vec<Times>]) -> Result<Value> {
    let works = WORKS.iter().zip(all).map(|(work, times)| {
        let contenders = work.contenders();
        let of = contenders.iter().map(|who| who.name()).zip(times);
        Ok((work.what, data(of)?))
    });
    data(works.collect::<Result<Vec<_>>>()?)
}

fn figures(all: &[Vec<Times>]) -> Vec<Figure> {
    let (hello, program) = (&all[HELLO], &all[PROGRAM]);
    let figure = |work: &str, unit, most, times: &[Times], other: usize| {
        let ratio = times[0].median / times[other].median;
        Figure::new(work, unit, Reach::AtMost(most), ratio)
    };
    let hello = |unit, most, other| figure("run hello, warm", unit, most, hello, other);
    vec![
        hello("× peer", 0.75, 1),
        hello("× runc", 0.5, 2),
        hello("× floor", 1.15, 3),
        figure("run a Linux program", "× runc's handler", 0.9, program, 1),
    ]
}
