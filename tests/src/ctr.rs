//! Runs `ctr`, containerd's own client, which runs single containers without a Pod.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::command::{self, Output};
use crate::config;
use crate::containerd::Containerd;
use crate::spec;
use crate::wait::{self, SOON};

/// The client of one node.
#[derive(Debug)]
pub struct Ctr {
    program: PathBuf,
    node: String,
    folder: PathBuf,
    runs: AtomicU32,
}

/// A container for `ctr run`.
#[derive(Debug, Clone)]
pub struct Run {
    handler: String,
    image: String,
    flags: Vec<String>,
    args: Vec<String>,
    stdin: String,
}

impl Ctr {
    pub(crate) fn new(containerd: &Containerd, node: &str, folder: &Path) -> Self {
        let (node, folder) = (node.to_owned(), folder.to_owned());
        Self { program: containerd.ctr.clone(), node, folder, runs: AtomicU32::default() }
    }

    /// Runs any of its commands.
    pub fn run(&self, namespace: &str, words: &[&str]) -> Result<Output> {
        let words = words.iter().map(|&word| word.to_owned());
        command::run(&self.program, self.words(namespace).into_iter().chain(words))
    }

    /// Returns the lines that a command prints.
    pub fn lines(&self, namespace: &str, words: &str) -> Result<Vec<String>> {
        let words: Vec<_> = words.split(' ').collect();
        let stdout = self.run(namespace, &words)?.success()?.stdout;
        Ok(stdout.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Returns a command as a line for a shell.
    pub fn line(&self, namespace: &str, words: &[&str]) -> String {
        let words = words.iter().map(|&word| word.to_owned());
        self.quoted(self.words(namespace).into_iter().chain(words))
    }

    /// Returns the line for [`Ctr::run_container_as`].
    pub fn run_line(&self, id: &str, run: &Run) -> Result<String> {
        Ok(self.quoted(self.run_words(id, run, "--rm")?.into_iter()))
    }

    fn quoted(&self, words: impl Iterator<Item = String>) -> String {
        let program = self.program.display().to_string();
        let quote = |word: String| format!("'{}'", word.replace('\'', "'\\''"));
        [program].into_iter().chain(words).map(quote).collect::<Vec<_>>().join(" ")
    }

    /// Returns a command in a namespace. The caller starts and ends it.
    pub(crate) fn command(&self, namespace: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.words(namespace));
        command
    }

    fn words(&self, namespace: &str) -> [String; 4] {
        let socket = config::socket(&self.folder).display().to_string();
        ["--address".into(), socket, "--namespace".into(), namespace.into()]
    }

    /// Returns an id that no other container has.
    pub fn new_id(&self) -> String {
        format!("{}-run-{}", self.node, self.runs.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs a container to its end and removes it: `ctr run --rm`.
    pub fn run_container(&self, run: &Run) -> Result<Output> {
        self.run_container_as(&self.new_id(), run)
    }

    /// As [`Ctr::run_container`], under the caller's id.
    pub fn run_container_as(&self, id: &str, run: &Run) -> Result<Output> {
        let words = self.run_words(id, run, "--rm")?;
        command::run_and_feed(&self.program, words, |pipe| self.feed(id, run, pipe))
    }

    /// Starts a container and leaves it running without output: `ctr run --detach`.
    pub fn run_detached(&self, id: &str, run: &Run) -> Result<Output> {
        let run = run.clone().flags(&["--null-io"]);
        command::run(&self.program, self.run_words(id, &run, "--detach")?)
    }

    /// Starts `ctr run`. The caller must end it.
    pub fn start(&self, id: &str, run: &Run) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(self.run_words(id, &run.clone().flags(&["--null-io"]), "--rm")?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    /// Writes the container's input once it runs, because `ctr` 1.6 loses an end of the input that comes earlier.
    fn feed(&self, id: &str, run: &Run, mut pipe: ChildStdin) {
        let started = || Ok(self.is(id, "RUNNING")?.then_some(()));
        if !run.stdin.is_empty() && wait::until(SOON, "the task to run", started).is_ok() {
            // It is no error here if the container ends without reading. The exit code shows it.
            let _ = pipe.write_all(run.stdin.as_bytes());
        }
    }

    /// Returns whether the task of that container has that status.
    pub fn is(&self, id: &str, status: &str) -> Result<bool> {
        let tasks = self.lines("default", "tasks list")?;
        Ok(tasks.iter().any(|line| line.starts_with(id) && line.ends_with(status)))
    }

    fn run_words(&self, id: &str, run: &Run, how: &str) -> Result<Vec<String>> {
        let fifos = self.folder.join("fifo");
        fs::create_dir_all(&fifos)?;
        let fixed = ["run", how, "--runtime", &spec::runtime_of(&run.handler), "--fifo-dir"];
        let mut words = self.words("default").to_vec();
        words.extend(fixed.map(str::to_owned));
        words.extend([
            fifos.display().to_string(),
            "--cgroup".into(),
            format!("/{}/{id}", self.node),
        ]);
        words.extend(run.flags.iter().cloned().chain([run.image.clone(), id.to_owned()]));
        words.extend(run.args.iter().cloned());
        Ok(words)
    }
}

impl Run {
    /// Makes a container of that image with its entrypoint.
    pub fn new(image: &str) -> Self {
        let (handler, image) = (spec::handler(), image.into());
        Self { handler, image, flags: vec![], args: vec![], stdin: String::new() }
    }

    /// Uses the runtime of another handler.
    pub fn handler(mut self, name: &str) -> Self {
        self.handler = name.into();
        self
    }

    /// Adds flags of `ctr run`.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Replaces the image's whole command line, because `ctr` has no separate entrypoint.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.args = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Sets the text on standard input.
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.into();
        self
    }
}
