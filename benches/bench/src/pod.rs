//! `pod`: measures RunPodSandbox, CreateContainer and StartContainer until the first HTTP 200.

use anyhow::Result;

use crate::contender::Contender;
use crate::effort::{self, Bench};
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::serving;
use crate::statistics::in_turn;

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "pod", title: "A Pod, from RunPodSandbox to its first HTTP 200", measure };

fn measure(bench: &Bench) -> Result<Section> {
    let node = bench.node()?;
    let contenders = Contender::real();
    let times = in_turn(&contenders, bench.effort.rounds, |contender, round| {
        let (pod, time) = serving::start(&node, *contender, &format!("pod-{round}"))?;
        serving::take_away(vec![pod])?;
        Ok(time)
    })?;
    effort::end(node);
    let [ours, peer, runc] = [times[0], times[1], times[2]];
    let mut table = Table::new(&["who", "ms", "of the peer's"]);
    for (contender, it) in contenders.iter().zip(&times) {
        let ratio = it.median / peer.median;
        table.row([contender.name().into(), it.to_string(), format!("{ratio:.2}")]);
    }
    let figure = |than, other: f64| {
        Figure::new("pod to its first HTTP 200", than, Reach::AtMost(0.5), ours.median / other)
    };
    let method = "The calls go through CRI, as kubelet's do. The request comes from within the Pod's network.";
    let data = data(contenders.iter().map(|it| it.name()).zip(&times))?;
    Ok(Section::new(&SCENARIO, method, data)
        .table(table)
        .figures([figure("× peer", peer.median), figure("× runc", runc.median)]))
}
