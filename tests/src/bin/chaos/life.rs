//! Runs one Pod from its first call to its last, as kubelet would.
//!
//! A call may fail once the Pod was harmed, or if its node was harmed during the call. In a Pod without harm, each call
//! must succeed. The ledger checks all reported exit codes.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread::{self, Scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_cri::v1::ContainerState;
use nix::sys::signal::Signal;
use tests::node::sample;
use tests::{Container, Pod, RunningContainer, RunningPod};

use crate::ledger::{Fate, Ledger};
use crate::plan::{Phase, Plan, Shape, Victim};
use crate::story::Story;
use crate::strike::{Scene, Striking};
use crate::tally::{self, Tally};
use crate::weather::Mark;

mod calls;

/// Time limit for the removal of a Pod. containerd waits for a shim that does not answer, and kubelet asks again.
pub const REMOVAL: Duration = Duration::from_secs(90);

/// Time after its end, or that of its shim, within which a container must be reported as ended.
const REPORTED: Duration = Duration::from_secs(45);

/// Wait between two attempts, and between two checks.
const AGAIN: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(40);

/// Number of attempts to stop a container before its Pod is stopped.
const STOPS: usize = 3;

/// Time for a program to end by itself, which must be sufficient. After it, the program is killed.
const GRACE: Duration = Duration::from_secs(30);

/// Port of a guest that serves HTTP.
const PORT: u16 = 8080;

/// A command to execute, and its exit code.
const EXECUTED: (&[&str], i32) = (&["/bin/sh", "-c", "sleep 0.1; exit 6"], 6);

/// Name of a Linux program that keeps running.
const DAEMON: &str = "daemon";

/// Call that makes a Pod.
pub const MAKING: &str = "RunPodSandbox";

/// Call that changes nothing.
const LOOKING: &str = "ContainerStatus";

/// Exit code of an executed command that was killed.
const KILLED: i32 = 137;

/// A Pod that is running.
pub struct Life<'a> {
    scene: Scene<'a>,
    plan: &'a Plan,
    tally: &'a Tally,
    story: &'a Story,
    striking: Option<&'a Striking>,
    containers: Vec<Member<'a>>,
    harmed: bool,
}

/// One of its containers.
struct Member<'a> {
    name: &'static str,
    container: RunningContainer<'a>,
    ledger: Ledger,
    ends_by_itself: bool,
    fate: Fate,
    started: Mark,
    /// Since when it may have ended, by itself or because it was asked to.
    may_end_since: Mark,
}

/// Runs the Pod of a plan to its end, and returns its story.
///
/// # Errors
/// Fails if containerd does not come back after it was killed.
pub fn live(scene: Scene<'_>, plan: &Plan, tally: &Tally) -> Result<Story> {
    let story = Story::new(format!("{plan:?}"));
    let striking = plan.strike.map(Striking::new);
    let struck = thread::scope(|scope| {
        let mut life = Life {
            scene,
            plan,
            tally,
            story: &story,
            striking: striking.as_ref(),
            containers: Vec::new(),
            harmed: false,
        };
        life.run(scope)
    });
    if let Some(striking) = &striking {
        tally.struck(&striking.strike, striking.done.load(Ordering::SeqCst));
    }
    struck.map(|()| story)
}

/// A thread that does the harm.
type Blow<'scope> = thread::ScopedJoinHandle<'scope, Result<()>>;

impl<'a> Life<'a> {
    fn run<'scope>(&mut self, scope: &'scope Scope<'scope, '_>) -> Result<()>
    where
        'a: 'scope,
    {
        let mut blow = None;
        if let Some(pod) = self.during(Phase::Sandbox, scope, &mut blow, Self::sandbox) {
            self.during(Phase::Start, scope, &mut blow, |life| life.start(&pod));
            if self.plan.executes {
                self.during(Phase::Exec, scope, &mut blow, Self::execute);
            }
            self.during(Phase::Running, scope, &mut blow, |life| life.dwell(&pod));
            self.during(Phase::Stop, scope, &mut blow, |life| life.stop(&pod));
        }
        self.during(Phase::Remove, scope, &mut blow, Self::remove);
        match blow.map(Blow::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => bail!("the thread that does the harm has panicked"),
            None => Ok(()),
        }
    }

    /// Runs a part of the Pod's life. As long as it lasts, its victim is looked for.
    fn during<'scope, T>(
        &mut self,
        phase: Phase,
        scope: &'scope Scope<'scope, '_>,
        blow: &mut Option<Blow<'scope>>,
        part: impl FnOnce(&mut Self) -> T,
    ) -> T
    where
        'a: 'scope,
    {
        let striking = self.striking.filter(|striking| striking.strike.phase == phase);
        if let Some(striking) = striking {
            let (scene, story, name) = (self.scene, self.story, self.plan.name());
            *blow = Some(scope.spawn(move || striking.carry_out(scene, &name, story)));
        }
        let result = part(self);
        if let Some(striking) = striking {
            striking.over.store(true, Ordering::SeqCst);
        }
        result
    }

    fn sandbox(&mut self) -> Option<RunningPod<'a>> {
        let pod = Pod::new(&self.plan.name());
        let node = self.scene.node;
        self.call(MAKING, || node.run_pod(&pod))
    }

    fn start(&mut self, pod: &RunningPod<'a>) {
        let code = self.plan.code.to_string();
        for (name, own, ends_by_itself) in members(self.plan) {
            let Some(container) = self.container(name, &code) else { continue };
            let Some(container) = self.call("CreateContainer", || pod.create(&container)) else {
                continue;
            };
            let started = self.call("StartContainer", || container.start()).is_some();
            let fate = Fate { unstarted: !started, ..Fate::default() };
            let (ledger, mark) = (Ledger::new(own), self.scene.weather.mark());
            self.containers.push(Member {
                name,
                container,
                ledger,
                ends_by_itself,
                fate,
                started: mark,
                may_end_since: mark,
            });
        }
    }

    /// Returns a container of the plan, once its image is available.
    fn container(&mut self, name: &str, code: &str) -> Option<Container> {
        let node = self.scene.node;
        if self.plan.shape == Shape::Compiled {
            forget_code(&node.code());
        }
        let image = match name {
            "command" => "hello-c",
            "compiled" => "hello",
            "server" => "hello-http",
            _ => "linux",
        };
        let image = sample(image);
        let container = Container::new(name, &image);
        Some(match name {
            "command" => container.args(&[code]),
            "server" | "compiled" => container,
            "script" => Container::shell(name, &image, &format!("exit {code}")),
            _ => Container::shell(
                name,
                &image,
                &format!("trap 'exit {code}' TERM; while :; do sleep 0.05; done"),
            ),
        })
    }

    fn execute(&mut self) {
        let Some(at) = self.daemon() else { return };
        self.until_ready(at);
        let cri = self.scene.node.cri.clone();
        let id = self.containers[at].container.id.clone();
        let (command, code) = EXECUTED;
        if let Some(output) = self.call("ExecSync", || cri.exec_sync(&id, command, GRACE)) {
            let may_be_killed = self.has_met(&[Victim::Executed, Victim::Container]);
            if output.code != code && !(may_be_killed && output.code == KILLED) {
                self.violation(&format!("ExecSync answered {output:?}, where {code} is true"));
            }
        }
    }

    /// Waits until the daemon handles SIGTERM, in a Pod without harm. It does not wait for output, because containerd
    /// loses output on a full disk.
    fn until_ready(&self, daemon: usize) {
        let end = Instant::now() + REPORTED;
        let container = &self.containers[daemon].container;
        let is_ready = || container.process().is_ok_and(|it| it.catches(Signal::SIGTERM));
        while !self.is_harmed() && !is_ready() {
            if Instant::now() > end {
                return self.violation("the daemon does not take SIGTERM");
            }
            sleep(LOOK);
        }
    }

    fn daemon(&self) -> Option<usize> {
        self.containers.iter().position(|it| it.name == DAEMON && !it.fate.unstarted)
    }

    fn dwell(&mut self, pod: &RunningPod<'a>) {
        let serves = matches!(self.plan.shape, Shape::Server | Shape::Pair);
        if serves && !self.is_harmed() {
            match pod.http_get(PORT, "/") {
                Ok(answer) if answer.status == 200 => {}
                _ if self.is_harmed() => {}
                answer => self.violation(&format!("the server answered {answer:?}")),
            }
        }
        sleep(self.plan.dwell);
    }

    fn stop(&mut self, pod: &RunningPod<'a>) {
        for at in 0..self.containers.len() {
            let Member { ends_by_itself, fate, .. } = self.containers[at];
            match (fate.unstarted, ends_by_itself) {
                (true, _) => {}
                (false, true) => self.until_reported(at),
                (false, false) => self.stop_container(at),
            }
        }
        // This kills what still runs.
        self.containers.iter_mut().for_each(|it| it.fate.killed |= !it.ledger.has_ended());
        self.call("StopPodSandbox", || pod.stop());
        for at in 0..self.containers.len() {
            self.look(at);
        }
    }

    fn stop_container(&mut self, at: usize) {
        if self.daemon() == Some(at) {
            self.until_ready(at);
        }
        let cri = self.scene.node.cri.clone();
        let id = self.containers[at].container.id.clone();
        self.containers[at].may_end_since = self.scene.weather.mark();
        for _ in 0..STOPS {
            if self.call("StopContainer", || cri.stop(&id, GRACE)).is_some() {
                return self.until_reported(at);
            }
        }
    }

    /// Waits until the container is reported as ended.
    fn until_reported(&mut self, at: usize) {
        let end = Instant::now() + REPORTED;
        self.look(at);
        while !self.containers[at].ledger.has_ended() {
            if Instant::now() > end {
                let id = self.containers[at].container.id.clone();
                return self.violation(&format!("the end of {id} is not reported"));
            }
            sleep(LOOK);
            self.look(at);
        }
    }

    /// Reads the container's status into the ledger.
    fn look(&mut self, at: usize) {
        let cri = self.scene.node.cri.clone();
        let id = self.containers[at].container.id.clone();
        let Some(state) = self.call(LOOKING, || cri.status(&id)) else { return };
        let has_ended = state.status.state() == ContainerState::ContainerExited;
        let code = has_ended.then_some(state.status.exit_code);
        let struck = self.struck_fate();
        let member = &mut self.containers[at];
        // A container that was harmed may have ended at any time.
        let since = if struck.killed { member.started } else { member.may_end_since };
        member.fate.unwritten |= self.scene.weather.was_restarted_since(since);
        let fate = Fate {
            killed: member.fate.killed || struck.killed,
            unwatched: member.fate.unwatched || struck.unwatched,
            unwritten: member.fate.unwritten,
            unstarted: member.fate.unstarted,
        };
        let is_first = !member.ledger.has_ended();
        let noted = member.ledger.note(code, fate);
        if let (true, Some(code)) = (is_first, code) {
            self.story.note(&format!("{} ended with {code}", &id[..12]));
        }
        if let Err(wrong) = noted {
            self.violation(&format!("{wrong} of {id}"));
        }
    }

    /// Returns what the harm may have done to the containers.
    fn struck_fate(&self) -> Fate {
        Fate {
            // A guest's process is built in that process itself, and the OCI runtime's last process becomes the
            // program.
            killed: self.has_met(&[Victim::Container, Victim::Builder]),
            unwatched: self.has_met(&[Victim::Shim]),
            ..Fate::default()
        }
    }

    /// Stops and removes everything of the Pod. Tries again until that succeeds.
    fn remove(&mut self) {
        let (start, name) = (Instant::now(), self.plan.name());
        let cri = self.scene.node.cri.clone();
        loop {
            self.scene.weather.wait_for_calm();
            let pods = cri.pods_named(&name);
            if pods.as_ref().is_ok_and(Vec::is_empty) {
                self.tally.call(tally::REMOVAL, start.elapsed());
                return;
            }
            for pod in pods.into_iter().flatten() {
                if self.call("StopPodSandbox", || cri.stop_pod(&pod)).is_some() {
                    self.call("RemovePodSandbox", || cri.remove_pod(&pod));
                }
            }
            if start.elapsed() > REMOVAL {
                let seconds = REMOVAL.as_secs();
                return self.violation(&format!("the Pod is not removed after {seconds} s"));
            }
            if self.harmed {
                sleep(AGAIN);
            }
        }
    }
}

/// Returns the containers of a Pod: name, exit code, and whether each ends without being asked.
fn members(plan: &Plan) -> Vec<(&'static str, i32, bool)> {
    let code = i32::from(plan.code);
    match plan.shape {
        Shape::Command => vec![("command", code, true)],
        Shape::Compiled => vec![("compiled", 0, true)],
        Shape::Script => vec![("script", code, true)],
        Shape::Server => vec![("server", 0, false)],
        Shape::Daemon => vec![(DAEMON, code, false)],
        Shape::Pair => vec![(DAEMON, code, false), ("server", 0, false)],
    }
}

/// Deletes compiled code, so that the next guest that is a file of its image is compiled anew. Locks stay, because
/// another process may hold them.
fn forget_code(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() != "lock" {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
