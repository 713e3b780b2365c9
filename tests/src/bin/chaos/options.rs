//! The command line.

use clap::{Parser, ValueEnum};

use crate::plan::Mode;

/// Number of Pods from which a run is documented.
const DOCUMENTED: usize = 1000;

/// Runs Pods on private containerds, kills what belongs to them, and checks that nothing is lost or left.
#[derive(Debug, Parser)]
pub struct Options {
    /// Number of Pods in all.
    #[arg(long, default_value_t = 300)]
    pub pods: usize,
    /// Decides which Pods run and what is done to them; without it, a new one is chosen and printed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The kind of harm; by default all kinds, each to a share of the Pods.
    #[arg(long, value_enum, default_value_t = Modes::All)]
    pub mode: Modes,
    /// Runs only the Pod of that number, to repeat it.
    #[arg(long)]
    pub pod: Option<usize>,
    /// Ends the run after this many Pods with violations.
    #[arg(long, default_value_t = 10)]
    pub give_up_after: usize,
}

/// One mode, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Modes {
    /// All modes.
    All,
    /// Kills processes.
    Kill,
    /// Stops processes, and continues or kills them after some time.
    Stop,
    /// Fills the disk that has all of containerd's files, for some time.
    Disk,
    /// Deletes images and imports them again.
    Images,
}

impl Options {
    /// Returns whether the run is one for `docs/reliability.md`.
    pub fn is_worth_a_document(&self) -> bool {
        self.mode == Modes::All && self.pod.is_none() && self.pods >= DOCUMENTED
    }

    /// Returns the modes to run, and the number of Pods of each.
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
