//! `churn`: measures many short tasks, some at a time.

use std::time::Instant;

use anyhow::Result;
use tests::Node;

use crate::contender::Contender;
use crate::effort::{self, Bench};
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::task::{Tasks, Work};

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "churn", title: "Many short tasks, some at a time", measure };

/// Numbers of tasks at a time.
const AT_ONCE: [usize; 3] = [1, 4, 16];

/// Number of parts in which each contender's tasks run, in turn.
const TURNS: usize = 4;

fn measure(bench: &Bench) -> Result<Section> {
    let node = bench.node()?;
    let tasks = Tasks::new(&node)?;
    let works = Contender::REAL.iter().map(|who| work(&node, *who)).collect::<Result<Vec<_>>>()?;
    // This run compiles what must be compiled.
    works.iter().try_for_each(|work| tasks.run(work, 2, 1))?;
    let rates = AT_ONCE.map(|at_once| rates(&tasks, &works, tasks_of(bench, at_once), at_once));
    let rates = rates.into_iter().collect::<Result<Vec<_>>>()?;
    drop(tasks);
    effort::end(node);
    let method = format!(
        "Each contender runs {} tasks with four at a time. For other numbers at a time, it runs a quarter of them, but at \
        least {TURNS} times\nthat number. They run in {TURNS} turns, by containerd's API: Create, Start, Wait, Delete. The \
        root is a bind mount, not a snapshot.",
        bench.effort.tasks
    );
    let numbers = AT_ONCE.iter().zip(&rates).map(|(at_once, rates)| {
        let of = Contender::REAL.iter().map(|who| who.name()).zip(rates);
        Ok((at_once.to_string(), data(of)?))
    });
    let section = Section::new(&SCENARIO, &method, data(numbers.collect::<Result<Vec<_>>>()?)?);
    let [ours, peer, _] = rates[1];
    let what = format!("churn {} × 4, tasks/s", bench.effort.tasks);
    let figure = Figure::new(&what, "× peer", Reach::AtLeast(2.0), ours / peer);
    Ok(section.table(table(&rates)).figures([figure]))
}

fn work(node: &Node, who: Contender) -> Result<Work> {
    let (image, args) = match who {
        Contender::Runc | Contender::Floor => ("linux", &["/bin/echo", "hello from wasi"][..]),
        Contender::Ours | Contender::Before | Contender::Peer => {
            ("hello-layer", &["hello.wasm"][..])
        }
    };
    let image = node.ctr_image(image)?;
    Ok(Work { handler: who.handler(), image, args, says: "hello from wasi\n" })
}

/// Returns the number of tasks. The compared work runs all of them. In each turn there are at least as many as run at a
/// time.
fn tasks_of(bench: &Bench, at_once: usize) -> usize {
    let part = if at_once == 4 { 1 } else { 4 };
    (bench.effort.tasks / part).max(TURNS * at_once)
}

/// Returns the tasks per second of each contender.
fn rates(tasks: &Tasks, works: &[Work], count: usize, at_once: usize) -> Result<[f64; 3]> {
    println!("  {at_once} at a time");
    let mut seconds = [0.0; 3];
    for _ in 0..TURNS {
        for (work, seconds) in works.iter().zip(&mut seconds) {
            let before = Instant::now();
            tasks.run(work, count / TURNS, at_once)?;
            *seconds += before.elapsed().as_secs_f64();
        }
    }
    let count = (count / TURNS * TURNS) as f64;
    Ok(seconds.map(|seconds| count / seconds))
}

fn table(rates: &[[f64; 3]]) -> Table {
    let mut table = Table::new(&["at a time", "who", "tasks/s", "of the peer's"]);
    for (at_once, rates) in AT_ONCE.iter().zip(rates) {
        for (who, rate) in Contender::REAL.iter().zip(rates) {
            let ratio = format!("{:.2}", rate / rates[1]);
            table.row([at_once.to_string(), who.name().into(), format!("{rate:.1}"), ratio]);
        }
    }
    table
}
