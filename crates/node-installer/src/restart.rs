//! Restarts containerd so that it reads its configuration again.

use std::path::Path;

use crate::args::NodeArgs;
use crate::distribution::{Layout, Service};
use crate::errors::Error;
use crate::run;
use crate::tree::Tree;

/// Way to restart containerd. A restart ends no Pod, because the shims are processes of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restart {
    /// systemd, with this unit.
    Systemd(String),
    /// A shell command.
    Command(String),
    /// containerd's service reads the configuration by itself.
    ByItself,
    /// The administrator restarts it later.
    Later,
}

impl Restart {
    /// Returns the way to restart containerd on this node.
    ///
    /// # Errors
    /// [`Error::NoRestart`], before anything is changed.
    pub fn of(tree: &Tree, layout: &Layout, args: &NodeArgs) -> Result<Self, Error> {
        if let Some(command) = &args.restart_command {
            return Ok(Restart::Command(command.clone()));
        }
        if args.no_restart || !tree.is_live() {
            return Ok(Restart::Later);
        }
        match layout.service {
            Service::ByItself => Ok(Restart::ByItself),
            Service::Container => Err(Error::NoRestart {
                reason: "the node is a container without systemd; install with --no-restart, then restart the container \
                         (`docker restart`)"
                    .into(),
            }),
            Service::Systemd(unit) if tree.exists(Path::new("/run/systemd/system")) => {
                Ok(Restart::Systemd(unit.to_owned()))
            }
            Service::Systemd(_) => Err(Error::NoRestart {
                reason: "systemd does not run here; name a command with --restart-command, or use --no-restart".into(),
            }),
        }
    }

    /// Checks that a restart does not end the Pods.
    pub fn check(&self) -> Result<(), Error> {
        let Restart::Systemd(unit) = self else { return Ok(()) };
        let mode = systemctl(&["show", "--property=KillMode", "--value", unit])?;
        match mode.trim() {
            "process" | "none" => Ok(()),
            mode => Err(Error::KillMode { unit: unit.clone(), mode: mode.to_owned() }),
        }
    }

    /// Restarts containerd. Returns when the restart is done, or has begun.
    pub fn run(&self) -> Result<(), Error> {
        match self {
            Restart::Systemd(unit) => {
                systemctl(&["daemon-reload"])?;
                systemctl(&["restart", unit]).map(drop)
            }
            Restart::Command(line) => {
                run::shell(line).map_err(|reason| Error::NoRestart { reason })
            }
            Restart::ByItself | Restart::Later => Ok(()),
        }
    }
}

fn systemctl(words: &[&str]) -> Result<String, Error> {
    run::output(Path::new("systemctl"), words).map_err(|reason| Error::NoRestart { reason })
}
