//! Runs a node and its Pods, some at the same time, until nothing is left of them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use fastrand::Rng;
use tests::Node;
use tests::containerd::Containerd;

use crate::bundles::Bundles;
use crate::life;
use crate::options::Options;
use crate::panics;
use crate::plan::{Mode, Plan};
use crate::story::Story;
use crate::strike::Scene;
use crate::tally::Tally;
use crate::weather::Weather;

/// Number of Pods at a time. It is larger than the number of processors of a small machine, so that they compete.
const SIDE_BY_SIDE: usize = 6;

/// Largest number of Pods on one node, because the search for leftovers takes longer with each.
const AT_MOST: usize = 400;

/// Time limit of a call. It is half of kubelet's, on a machine that does other work as well.
const LIMIT: Duration = Duration::from_secs(60);

/// Size of the disk that fills up: a few times that of the images.
const DISK_BYTES: u64 = 256 << 20;

/// Images that are deleted. A real node pins the sandbox's own image.
const IMAGES: [&str; 4] = ["hello", "hello-c", "hello-http", "linux"];

/// A number of Pods on one node.
#[derive(Debug)]
pub struct Round {
    containerd: Containerd,
    mode: Mode,
    pods: Range<usize>,
}

/// Returns the rounds of a run. Processes are killed with each available containerd. All other rounds use the newest.
pub fn rounds(options: &Options, containerds: &[Containerd]) -> Vec<Round> {
    let mut rounds = Vec::new();
    let mut first = 0;
    for (mode, pods) in options.shares() {
        let nodes = if mode == Mode::Kill { containerds } else { newest(containerds) };
        for (at, containerd) in nodes.iter().enumerate() {
            let end = first + pods / nodes.len() + usize::from(at < pods % nodes.len());
            for start in (first..end).step_by(AT_MOST) {
                let pods = start..end.min(start + AT_MOST);
                rounds.push(Round { containerd: containerd.clone(), mode, pods });
            }
            first = end;
        }
    }
    if let Some(pod) = options.pod {
        rounds.retain(|round| round.pods.contains(&pod));
        rounds.iter_mut().for_each(|round| round.pods = pod..pod + 1);
    }
    rounds
}

fn newest(containerds: &[Containerd]) -> &[Containerd] {
    &containerds[containerds.len().saturating_sub(1)..]
}

impl Round {
    /// Runs the round.
    ///
    /// # Errors
    /// Fails if the node does not start, or if containerd does not come back. Violations by Pods are in the tally.
    pub fn run(&self, options: &Options, seed: u64, tally: &Tally) -> Result<()> {
        let (version, count) = (&self.containerd.version, self.pods.len());
        println!("{count} Pods with containerd {version}: {}", self.mode.words());
        let mut node = match self.mode {
            Mode::Disk => Node::start_with_disk(self.containerd.clone(), DISK_BYTES),
            _ => Node::start(self.containerd.clone()),
        }?;
        node.cri = node.cri.within(LIMIT);
        for image in IMAGES {
            node.image(image)?;
        }
        let bundles = Bundles::new(&node);
        let before = tally.violations();
        let is_enough = || tally.violations() >= options.give_up_after;
        let stories = self.live(seed, &node, &bundles, tally, &is_enough)?;
        let is_well = tally.violations() == before;
        for line in panics::below(node.folder()) {
            tally.violation(format!("a panic: {line}"), among(&stories, &bundles, &line));
        }
        // Otherwise, the leftovers belong to Pods whose violations are known.
        if is_well && let Err(error) = node.stop() {
            judge_left(&format!("{error:#}"), &stories, &bundles, tally);
        }
        Ok(())
    }

    /// Runs the Pods, and returns their stories.
    fn live(
        &self,
        seed: u64,
        node: &Node,
        bundles: &Bundles,
        tally: &Tally,
        is_enough: &(impl Fn() -> bool + Sync),
    ) -> Result<Vec<(Plan, Story)>> {
        let (weather, over) = (Weather::default(), AtomicBool::new(false));
        let scene = Scene { node, bundles, weather: &weather };
        let (next, stories) = (AtomicUsize::new(self.pods.start), Mutex::new(Vec::new()));
        let work = || {
            while let Some(number) = self.take(&next).filter(|_| !is_enough()) {
                let plan = Plan::new(seed, number, self.mode);
                tally.begun(self.mode);
                let story = life::live(scene, &plan, tally)
                    .with_context(|| format!("Pod {number} of seed {seed}"))?;
                tally.ended(&plan, &story, &self.containerd.version);
                stories.lock().unwrap_or_else(PoisonError::into_inner).push((plan, story));
            }
            Ok::<_, anyhow::Error>(())
        };
        thread::scope(|scope| {
            scope.spawn(|| bundles.watch(node, &over));
            let spells = self.spells(scope, seed, scene, &over);
            let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(work)).collect();
            let ended: Vec<_> = workers.into_iter().map(join).collect();
            over.store(true, Ordering::SeqCst);
            let spells = spells.map(join).transpose()?.unwrap_or_default();
            tally.spells(self.mode, spells);
            ended.into_iter().collect::<Result<Vec<()>>>()
        })?;
        Ok(stories.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, next: &AtomicUsize) -> Option<usize> {
        let number = next.fetch_add(1, Ordering::SeqCst);
        self.pods.contains(&number).then_some(number)
    }

    /// Starts the thread that harms the whole node, if the mode has one.
    fn spells<'scope, 'env>(
        &self,
        scope: &'scope Scope<'scope, 'env>,
        seed: u64,
        scene: Scene<'env>,
        over: &'env AtomicBool,
    ) -> Option<ScopedJoinHandle<'scope, Result<usize>>> {
        let rng = Rng::with_seed(seed.wrapping_add(self.pods.start as u64));
        match (self.mode, scene.node.disk()) {
            (Mode::Disk, Some(disk)) => {
                Some(scope.spawn(move || scene.weather.fill_disk(disk, rng, over)))
            }
            (Mode::Images, _) => Some(
                scope.spawn(move || scene.weather.delete_images(scene.node, &IMAGES, rng, over)),
            ),
            _ => None,
        }
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the run has panicked"))?
}

/// Returns the stories of the Pods whose ids a text mentions.
fn among(stories: &[(Plan, Story)], bundles: &Bundles, text: &str) -> String {
    let pods = bundles.mentioned(text);
    let mentioned = stories.iter().filter(|(plan, _)| pods.contains(&plan.name()));
    mentioned.map(|(plan, story)| format!("{}:\n{}", plan.name(), story.text())).collect()
}

/// What containerd keeps of a call during which it was killed, and never of a call that ended: a lease, which expires;
/// what the lease holds; and a bundle under the name that it has while it is removed.
const OF_A_CUT_CALL: [&str; 4] =
    ["leases list", "snapshot in", "k8s.io/.", "file /run/containerd/s/"];

/// Part of the path of a network namespace. containerd makes the namespace before it saves the path, so a containerd
/// that is killed in between never removes it.
const NETWORK_NAMESPACE: &str = "/netns/cni-";

/// Judges what is left of a round, one thing per line. If containerd was killed during a call, it does not know what
/// the call had begun. What is left of such a Pod is only counted.
fn judge_left(left: &str, stories: &[(Plan, Story)], bundles: &Bundles, tally: &Tally) {
    let cut: Vec<_> = stories.iter().filter(|(_, story)| story.is_cut()).collect();
    let is_cut_in_making = cut.iter().any(|(_, story)| story.is_cut_in(life::MAKING));
    let is_cut = |line: &str| {
        let pods = bundles.mentioned(line);
        let of_cut = pods.iter().any(|pod| cut.iter().any(|(plan, _)| plan.name() == *pod));
        of_cut
            || (!cut.is_empty() && OF_A_CUT_CALL.iter().any(|part| line.contains(part)))
            || (is_cut_in_making && line.contains(NETWORK_NAMESPACE))
    };
    // The first line says that something is left. The cgroup above those of the Pods exists as long as they do.
    let things = left.lines().skip(1).map(str::trim);
    let is_parent = |line: &str| line.starts_with("cgroup ") && !cut.is_empty();
    let is_id = |line: &str| line.rsplit('/').next().is_some_and(|name| name.len() == 64);
    let things: Vec<_> = things.filter(|line| !is_parent(line) || is_id(line)).collect();
    let (excused, rest): (Vec<&str>, Vec<&str>) = things.into_iter().partition(|it| is_cut(it));
    tally.left(excused.len());
    if !rest.is_empty() || left.lines().count() == 1 {
        let text = format!("left behind:\n  {}", rest.join("\n  "));
        let text = if rest.is_empty() { left.to_owned() } else { text };
        tally.violation(text.clone(), among(stories, bundles, &text));
    }
}
