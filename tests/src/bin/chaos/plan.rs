//! Decides from the seed and the Pod's number alone what each Pod is and what happens to it.

use std::time::Duration;

use fastrand::Rng;

/// The kind of harm to the Pods of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Processes are killed.
    Kill,
    /// Processes are stopped, and continued or killed after some time.
    Stop,
    /// The node's disk is full for some time.
    Disk,
    /// Images are deleted and imported again.
    Images,
}

impl Mode {
    /// Returns the text for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Kill => "processes are killed",
            Self::Stop => "processes are stopped",
            Self::Disk => "the disk is full at times",
            Self::Images => "images are deleted",
        }
    }
}

/// A Pod, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Number of the Pod in the run. Its name contains the number.
    pub number: usize,
    /// Containers of the Pod.
    pub shape: Shape,
    /// Exit code of a command or program.
    pub code: u8,
    /// Whether a command is executed in it while it runs.
    pub executes: bool,
    /// Time for which it runs without calls.
    pub dwell: Duration,
    /// Harm to one of its processes.
    pub strike: Option<Strike>,
}

/// Containers of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// A guest that ends by itself.
    Command,
    /// A guest that ends by itself, whose code the node has lost, so that it is compiled anew.
    Compiled,
    /// A guest that serves HTTP.
    Server,
    /// A Linux program that ends by itself.
    Script,
    /// A Linux program that ends when it is asked to.
    Daemon,
    /// A server and a daemon.
    Pair,
}

/// Harm to one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// The process.
    pub victim: Victim,
    /// Part of the Pod's life in which it is looked for.
    pub phase: Phase,
    /// Time between finding and harming it.
    pub after: Duration,
    /// The kind of harm.
    pub how: How,
}

/// A process that belongs to a Pod, or containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Victim {
    /// The process that serves containerd.
    Shim,
    /// The process from which all others are forked.
    Zygote,
    /// A process that carries out one request.
    Request,
    /// A process between the request process and the container: a guest's process before it is ready, or the OCI
    /// runtime.
    Builder,
    /// The compile worker.
    Compiler,
    /// The Pod's first process.
    Pause,
    /// A container's first process.
    Container,
    /// An exec process.
    Executed,
    /// The node's containerd.
    Containerd,
}

impl Victim {
    /// Returns the text for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Shim => "shim",
            Self::Zygote => "zygote",
            Self::Request => "request process",
            Self::Builder => "builder",
            Self::Compiler => "compile worker",
            Self::Pause => "pause",
            Self::Container => "container",
            Self::Executed => "exec process",
            Self::Containerd => "containerd",
        }
    }
}

/// A part of a Pod's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// RunPodSandbox.
    Sandbox,
    /// CreateContainer and StartContainer.
    Start,
    /// ExecSync.
    Exec,
    /// No call is made.
    Running,
    /// StopContainer and StopPodSandbox.
    Stop,
    /// RemovePodSandbox.
    Remove,
}

/// The kind of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT after that time.
    Pause(Duration),
    /// SIGSTOP, and SIGKILL after that time.
    PauseAndKill(Duration),
}

/// One of this many Pods is not harmed. The harm to others must not affect it.
const LEFT_ALONE: usize = 5;

/// The phases in which each victim exists, and its relative frequency.
const VICTIMS: [(Victim, usize, &[Phase]); 9] = {
    use Phase::*;
    const ALL: &[Phase] = &[Sandbox, Start, Exec, Running, Stop, Remove];
    [
        (Victim::Shim, 4, ALL),
        (Victim::Zygote, 3, ALL),
        (Victim::Request, 4, &[Sandbox, Start, Exec, Stop, Remove]),
        (Victim::Builder, 4, &[Sandbox, Start]),
        (Victim::Compiler, 3, &[Start]),
        (Victim::Pause, 3, &[Sandbox, Start, Exec, Running, Stop]),
        (Victim::Container, 3, &[Start, Exec, Running, Stop]),
        (Victim::Executed, 2, &[Exec]),
        // A restart takes a second, and affects every other Pod of the node.
        (Victim::Containerd, 1, ALL),
    ]
};

/// Processes that only live for a few milliseconds. They are harmed at once.
const FLEETING: [Victim; 4] =
    [Victim::Request, Victim::Builder, Victim::Compiler, Victim::Executed];

impl Plan {
    /// Makes the plan of the Pod of that number.
    pub fn new(seed: u64, number: usize, mode: Mode) -> Self {
        // An odd factor separates the seeds of neighbours.
        let mut rng =
            Rng::with_seed(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let strike = match mode {
            Mode::Kill | Mode::Stop if rng.usize(..LEFT_ALONE) != 0 => Some(strike(&mut rng, mode)),
            _ => None,
        };
        let executes = strike.is_some_and(|it| it.phase == Phase::Exec) || rng.usize(..4) == 0;
        let shapes: &[Shape] = match strike {
            Some(Strike { victim: Victim::Compiler, .. }) => &[Shape::Compiled],
            Some(Strike { phase: Phase::Exec, .. }) => &[Shape::Daemon, Shape::Pair],
            // A container that ends by itself may have ended before.
            Some(Strike { victim: Victim::Container, .. }) => {
                &[Shape::Server, Shape::Daemon, Shape::Pair]
            }
            _ => &ANY,
        };
        let shape = shapes[rng.usize(..shapes.len())];
        Self {
            number,
            shape,
            // These codes are not used by a shell for its own errors, or for signals.
            code: rng.u8(0..120),
            executes: executes && shape.has_daemon(),
            dwell: Duration::from_millis(rng.u64(..150)),
            strike,
        }
    }

    /// Returns the Pod's name.
    pub fn name(&self) -> String {
        format!("chaos-{}", self.number)
    }
}

/// Shapes with their frequency. Commands are the quickest, so they are the most frequent.
const ANY: [Shape; 7] = [
    Shape::Command,
    Shape::Command,
    Shape::Server,
    Shape::Script,
    Shape::Daemon,
    Shape::Pair,
    Shape::Compiled,
];

impl Shape {
    /// Returns whether there is a Linux program that keeps running, in which a command can be executed.
    pub fn has_daemon(self) -> bool {
        matches!(self, Self::Daemon | Self::Pair)
    }
}

fn strike(rng: &mut Rng, mode: Mode) -> Strike {
    let total: usize = VICTIMS.iter().map(|(_, weight, _)| weight).sum();
    let mut left = rng.usize(..total);
    let mut chosen = VICTIMS[0];
    for candidate in VICTIMS {
        chosen = candidate;
        if left < candidate.1 {
            break;
        }
        left -= candidate.1;
    }
    let (victim, _, phases) = chosen;
    // Early harm is more frequent than late harm, because a process that is gone by then must be found again, and may
    // not come back.
    let longest = if FLEETING.contains(&victim) { 25.0 } else { 150.0 };
    let after = Duration::from_secs_f64(longest * rng.f64().powi(2) / 1e3);
    Strike { victim, phase: phases[rng.usize(..phases.len())], after, how: how(rng, mode, victim) }
}

fn how(rng: &mut Rng, mode: Mode, victim: Victim) -> How {
    let lasts = Duration::from_millis(rng.u64(50..2000));
    match (mode, victim) {
        (Mode::Stop, Victim::Containerd) => How::Pause(lasts),
        (Mode::Stop, _) if rng.bool() => How::PauseAndKill(lasts),
        (Mode::Stop, _) => How::Pause(lasts),
        _ => How::Kill,
    }
}

#[cfg(test)]
mod test {
    use std::collections::BTreeSet;

    use super::*;

    fn plans(seed: u64, mode: Mode) -> Vec<Plan> {
        (0..2000).map(|number| Plan::new(seed, number, mode)).collect()
    }

    #[test]
    fn a_seed_is_repeatable() {
        assert_eq!(plans(7, Mode::Kill), plans(7, Mode::Kill));
        assert_ne!(plans(7, Mode::Kill), plans(8, Mode::Kill));
    }

    #[test]
    fn a_pod_is_the_same_alone_as_among_others() {
        assert_eq!(Plan::new(7, 123, Mode::Stop), plans(7, Mode::Stop)[123]);
    }

    #[test]
    fn every_victim_is_struck_in_every_phase_in_which_it_exists() {
        let struck: BTreeSet<_> = plans(1, Mode::Kill)
            .iter()
            .filter_map(|plan| plan.strike.map(|strike| (strike.victim, strike.phase)))
            .collect();
        let wanted: BTreeSet<_> = VICTIMS
            .iter()
            .flat_map(|(victim, _, phases)| phases.iter().map(|phase| (*victim, *phase)))
            .collect();
        assert_eq!(struck, wanted);
    }

    #[test]
    fn three_hundred_pods_leave_no_victim_out() {
        let struck: BTreeSet<_> = (0..150)
            .filter_map(|number| Plan::new(1, number, Mode::Kill).strike)
            .map(|strike| strike.victim)
            .collect();
        assert_eq!(struck.len(), VICTIMS.len(), "{struck:?}");
    }

    #[test]
    fn some_pods_are_left_alone() {
        let alone = plans(1, Mode::Kill).iter().filter(|plan| plan.strike.is_none()).count();
        assert!((200..800).contains(&alone), "{alone}");
    }

    #[test]
    fn a_full_disk_and_deleted_images_are_harm_enough() {
        for mode in [Mode::Disk, Mode::Images] {
            assert!(plans(1, mode).iter().all(|plan| plan.strike.is_none()), "{mode:?}");
        }
    }

    #[test]
    fn a_pod_has_what_its_strike_looks_for() {
        for plan in plans(1, Mode::Stop) {
            let Some(strike) = plan.strike else { continue };
            if strike.phase == Phase::Exec {
                assert!(plan.executes, "{plan:?}");
            }
            if strike.victim == Victim::Compiler {
                assert_eq!(plan.shape, Shape::Compiled);
            }
            assert_ne!(strike.how, How::Kill, "{plan:?}");
        }
    }
}
