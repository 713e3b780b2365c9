//! Runs the guest of a language, one container for each case.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use tests::ctr::Run;
use tests::logs::Logs;
use tests::wait::{self, EVENTUALLY};
use tests::{Container, Node, Pod, RunningPod};

use crate::language::{Built, Language};

/// Names of the cases, which are the guest's first arguments, and what they are called in the document.
pub const CASES: [(&str, &str); 9] = [
    ("args", "arguments"),
    ("env", "environment"),
    ("files", "files"),
    ("clock", "clock"),
    ("exit", "exit code"),
    ("stdin", "stdin"),
    ("panic", "uncaught error"),
    ("cwd", "`workingDir`"),
    ("http", "HTTP"),
];

/// Arguments, the value of a variable, and what a guest reads and writes.
const ARGUMENTS: [&str; 2] = ["two words", "ünïcode"];
const GREETING: &str = "grüße";
const INPUT: &str = "from the volume\n";
const WRITTEN: &str = "written\n";
const TYPED: &str = "typed\n";

/// Code with which a guest ends itself.
const CODE: i32 = 7;

/// Message of the error that no guest catches.
const MESSAGE: &str = "no such luck";

/// How far a guest's clock may be from this one, in seconds.
const CLOCKS: u64 = 10;

/// Port of a server.
const PORT: u16 = 8080;

/// Results of a language.
pub enum Ran {
    /// The result of each case, in the order of [`CASES`].
    Cases(Vec<Result<(), String>>),
    /// Whether the shim refused the guest as declared.
    Refused(Result<(), String>),
}

impl Ran {
    /// Returns what is not as declared.
    pub fn surprises(&self, language: &Language) -> Vec<String> {
        let results = match self {
            Ran::Refused(Ok(())) => return Vec::new(),
            Ran::Refused(Err(error)) => return vec![error.clone()],
            Ran::Cases(results) => results,
        };
        let mut found = Vec::new();
        for ((case, _), result) in CASES.iter().zip(results) {
            match (result, language.fails.get(*case)) {
                (Ok(()), Some(why)) => {
                    found.push(format!("{case}: works, but is declared not to: {why}"));
                }
                (Err(error), None) => found.push(format!("{case}: {error}")),
                _ => {}
            }
        }
        found
    }
}

/// A started guest with everything that a case needs.
struct Guest<'a> {
    node: &'a Node,
    pod: RunningPod<'a>,
    language: &'a Language,
    image: &'a str,
    volume: &'a Path,
}

/// Runs all cases of a language.
pub fn run(node: &Node, language: &Language, built: &Built) -> Ran {
    let text = |error: anyhow::Error| format!("{error:#}").replace('\n', " ");
    match prepare(node, language, built) {
        Err(error) => Ran::Refused(Err(text(error))),
        Ok((pod, volume)) => {
            let guest = Guest { node, pod, language, image: &built.image, volume: &volume };
            let ran = match &language.refused {
                Some(refused) => Ran::Refused(guest.refused(&refused.error).map_err(text)),
                None => Ran::Cases(
                    CASES.iter().map(|(case, _)| guest.case(case).map_err(text)).collect(),
                ),
            };
            // The node ends what is left, and reports it.
            let _ = guest.pod.stop().and_then(|()| guest.pod.remove());
            ran
        }
    }
}

fn prepare<'a>(
    node: &'a Node,
    language: &Language,
    built: &Built,
) -> Result<(RunningPod<'a>, PathBuf)> {
    let volume = node.volume(&language.directory)?;
    fs::write(volume.join("in.txt"), INPUT)?;
    node.import_archive(tests::node::KUBERNETES, &built.archive)?;
    node.import_archive("default", &built.archive)?;
    node.until_known(&built.image)?;
    Ok((node.run_pod(&Pod::new(&language.directory))?, volume))
}

impl Guest<'_> {
    /// Checks that the shim refuses it for that reason.
    fn refused(&self, reason: &str) -> Result<()> {
        match self.pod.run(&self.container("args", &[])) {
            Ok(_) => bail!("runs, but is declared to be refused with {reason:?}"),
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(error.contains(reason), "refused, but not with {reason:?}: {error}");
                Ok(())
            }
        }
    }

    fn container(&self, case: &str, args: &[&str]) -> Container {
        let before = self.language.arguments.iter().map(String::as_str);
        let args: Vec<_> = before.chain([case]).chain(args.iter().copied()).collect();
        Container::new(case, self.image)
            .args(&args)
            .env("GREETING", GREETING)
            .mount(self.volume, "/data")
    }

    fn case(&self, case: &str) -> Result<()> {
        match case {
            "args" => {
                let logs = self.ends(case, &ARGUMENTS, 0)?;
                same(&logs.stdout, &format!("{}\n", ARGUMENTS.join("\n")))
            }
            "env" => same(&self.ends(case, &[], 0)?.stdout, &format!("{GREETING}\n")),
            "files" => self.files(),
            "clock" => self.clock(),
            "exit" => self.ends(case, &[], CODE).map(drop),
            "stdin" => self.stdin(),
            "panic" => self.panic(),
            "cwd" => {
                let container = self.container(case, &[]).working_dir("/data");
                same(&self.run(&container, 0)?.stdout, INPUT)
            }
            "http" => self.http(),
            _ => bail!("there is no case {case}"),
        }
    }

    /// Runs a case to its end, which must have that exit code, and returns its output.
    fn ends(&self, case: &str, args: &[&str], code: i32) -> Result<Logs> {
        self.run(&self.container(case, args), code)
    }

    fn run(&self, container: &Container, code: i32) -> Result<Logs> {
        let running = self.pod.run(container)?;
        let exit = running.wait()?;
        let logs = running.logs()?;
        ensure!(exit.code == code, "exit code {}, expected {code}: {logs:?}", exit.code);
        Ok(logs)
    }

    fn files(&self) -> Result<()> {
        let stdout = self.ends("files", &[], 0)?.stdout;
        let out = fs::read_to_string(self.volume.join("out.txt")).context("out.txt")?;
        same(&out, WRITTEN)?;
        let names = stdout.strip_prefix(WRITTEN).with_context(|| format!("stdout {stdout:?}"))?;
        let mut names: Vec<_> = names.lines().filter(|it| !it.starts_with('.')).collect();
        names.sort_unstable();
        ensure!(names == ["in.txt", "out.txt"], "it lists {names:?}");
        Ok(())
    }

    fn clock(&self) -> Result<()> {
        let stdout = self.ends("clock", &[], 0)?.stdout;
        let said: u64 = stdout.trim().parse().with_context(|| format!("stdout {stdout:?}"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        ensure!(now.abs_diff(said) <= CLOCKS, "its clock has {said}, this one {now}");
        Ok(())
    }

    /// CRI has no input without a client that attaches, so `ctr` runs this case.
    fn stdin(&self) -> Result<()> {
        let before = self.language.arguments.iter().map(String::as_str);
        let words: Vec<_> = ["/guest.wasm"].into_iter().chain(before).chain(["stdin"]).collect();
        let done =
            self.node.ctr.run_container(&Run::new(self.image).command(&words).stdin(TYPED))?;
        ensure!(done.code == 0, "exit code {}: {}", done.code, done.stderr);
        same(&done.stdout, TYPED)
    }

    fn panic(&self) -> Result<()> {
        let code = self.language.panic.context("its exit code after an error is not declared")?;
        let stderr = self.ends("panic", &[], code)?.stderr;
        ensure!(stderr.contains(MESSAGE), "stderr has no {MESSAGE:?}: {stderr}");
        Ok(())
    }

    fn http(&self) -> Result<()> {
        let name = self.language.http.as_ref().context("there is no guest that serves HTTP")?;
        let image = self.node.image(name)?;
        let server = self.pod.run(&Container::new("http", &image))?;
        let answer =
            wait::until(EVENTUALLY, "an answer", || Ok(self.pod.http_get(PORT, "/").ok()))?;
        ensure!(answer.status == 200 && answer.body.contains("hello"), "it answers {answer:?}");
        server.stop(Duration::from_secs(5)).map(drop)
    }
}

fn same(seen: &str, expected: &str) -> Result<()> {
    ensure!(seen == expected, "{seen:?}, expected {expected:?}");
    Ok(())
}
