//! What the program is asked to do, on its command line.

use clap::{Parser, ValueEnum};

use crate::plan::Mode;

/// A run of so many Pods is worth a page of the documentation.
const DOCUMENTED: usize = 1000;

/// Runs Pods on private containerds, kills what belongs to them, and checks that nothing is lost or left.
#[derive(Debug, Parser)]
pub struct Options {
    /// Number of Pods in all.
    #[arg(long, default_value_t = 300)]
    pub pods: usize,
    /// What decides which Pods run and what is done to them; without it a new one, which is printed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// What is done: one kind, or all of them, each to a share of the Pods.
    #[arg(long, value_enum, default_value_t = Modes::All)]
    pub mode: Modes,
    /// Runs only the Pod of that number, to repeat what a report tells of.
    #[arg(long)]
    pub pod: Option<usize>,
    /// Ends the run after so many Pods that were not as they must be.
    #[arg(long, default_value_t = 10)]
    pub give_up_after: usize,
}

/// One mode or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Modes {
    /// Each of the others.
    All,
    /// Processes are killed.
    Kill,
    /// Processes are stopped, and go on or are killed after some time.
    Stop,
    /// The disk that has all of containerd's files is full for some time.
    Disk,
    /// Images are deleted and imported again.
    Images,
}

impl Options {
    /// Whether the run is one of those that `docs/reliability.md` tells of.
    pub fn is_worth_a_document(&self) -> bool {
        self.mode == Modes::All && self.pod.is_none() && self.pods >= DOCUMENTED
    }

    /// The modes to run, and how many Pods each has.
    pub fn shares(&self) -> Vec<(Mode, usize)> {
        let only = |mode| vec![(mode, self.pods)];
        match self.mode {
            Modes::Kill => only(Mode::Kill),
            Modes::Stop => only(Mode::Stop),
            Modes::Disk => only(Mode::Disk),
            Modes::Images => only(Mode::Images),
            Modes::All => {
                let [stop, disk, images] = [6, 8, 8].map(|part| self.pods / part);
                let kill = self.pods - stop - disk - images;
                vec![
                    (Mode::Kill, kill),
                    (Mode::Stop, stop),
                    (Mode::Disk, disk),
                    (Mode::Images, images),
                ]
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn all_modes_together_have_all_pods() {
        let options = Options::parse_from(["chaos", "--pods", "301"]);
        let shares = options.shares();
        assert_eq!(shares.iter().map(|(_, pods)| pods).sum::<usize>(), 301);
        assert!(shares.iter().all(|(_, pods)| *pods > 30), "{shares:?}");
    }

    #[test]
    fn one_mode_has_them_alone() {
        let options = Options::parse_from(["chaos", "--mode", "disk", "--pods", "7"]);
        assert_eq!(options.shares(), [(Mode::Disk, 7)]);
        assert!(!options.is_worth_a_document());
    }
}
