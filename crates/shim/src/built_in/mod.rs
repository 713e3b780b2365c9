//! Built-in commands. They can be executed in a guest's container if its image has no file of that name, so that a user
//! can look into an image that only has a component.
//!
//! They run in the isolated process, with the container's own rights, and see what the guest sees ([`load`]). If only
//! the shim knows an answer, it makes the answer beforehand ([`BuiltIn::Print`], made in [`answers`]).

pub mod answers;
mod files;
mod wget;

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use plan::exit_code::MISUSED;
use sandbox::{Descriptors, Loaded};
use serde::{Deserialize, Serialize};

/// Name of the descriptor of the connection to the guest that is asked for a profile.
pub const GUEST: &str = "guest";

/// Exit code of success.
const DONE: u8 = 0;

/// Exit code of failure.
const FAILED: u8 = 1;

/// Longest profile, in seconds.
const LONGEST_PROFILE: u64 = 60;

const PROFILE: &str = "profile SECONDS, from 1 to 60";

/// Output of `help`.
pub const HELP: &str = "\
commands that can be executed here if the image has no file of that name:
  ls [-l] [PATH...]       what is in a directory
  cat [PATH...]           a file's bytes, or stdin's
  stat PATH...            a file's type, mode, owner, size and time
  env                     the environment
  ps                      the container's processes
  wget URL                asks an HTTP server and prints its answer
  wit                     what the guest imports and exports
  grants                  what the guest may do, and why
  profile SECONDS         where it spends its processor time, for profiler.firefox.com
  invoke 'EXPORT(ARGS)'   calls an export, with arguments in WAVE notation; of a core
                          module, with numbers
  '#EXPORT' ARG...        the same
  PATH.wasm ARG...        another guest of the image
  help                    this
";

/// A built-in command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuiltIn {
    /// Prints an answer of the shim.
    Print(String),
    /// `ls`.
    List {
        /// Whether with type, mode, owner and size.
        long: bool,
        /// Directories or files.
        paths: Vec<String>,
    },
    /// `cat`; without a path stdin.
    Cat(Vec<String>),
    /// `stat`.
    Stat(Vec<String>),
    /// `wget`.
    Wget(String),
    /// `profile` of so many seconds, with the descriptor [`GUEST`].
    Profile(u64),
    /// A command with invalid arguments, and its usage.
    Misused(String),
}

/// What a command does.
type Work = Box<dyn FnOnce() -> io::Result<()>>;

impl BuiltIn {
    /// Parses a command that needs no answer of the shim.
    pub fn parse(args: &[String]) -> Option<BuiltIn> {
        let (name, rest) = args.split_first()?;
        let (flags, words): (Vec<&String>, Vec<&String>) =
            rest.iter().partition(|arg| arg.len() > 1 && arg.starts_with('-'));
        let words: Vec<String> = words.into_iter().cloned().collect();
        let misused =
            |usage: &str| BuiltIn::Misused(format!("usage: {usage}; `help` has the rest"));
        Some(match (name.as_str(), flags.as_slice(), words.len()) {
            ("help", _, _) => BuiltIn::Print(HELP.to_owned()),
            ("ls", flags, _)
                if flags.iter().all(|flag| ["-l", "-a", "-la", "-al"].contains(&flag.as_str())) =>
            {
                let long = flags.iter().any(|flag| flag.contains('l'));
                BuiltIn::List { long, paths: words }
            }
            ("ls", _, _) => misused("ls [-l] [PATH...]"),
            ("cat", [], _) => BuiltIn::Cat(words),
            ("cat", _, _) => misused("cat [PATH...]"),
            ("stat", [], 1..) => BuiltIn::Stat(words),
            ("stat", _, _) => misused("stat PATH..."),
            // Users often write options for the output and for less of it, which have no effect here.
            ("wget", _, 1..) => match words.into_iter().find(|word| word != "-") {
                Some(url) => BuiltIn::Wget(url),
                None => misused("wget URL"),
            },
            ("wget", _, _) => misused("wget URL"),
            ("profile", [], 1) => match seconds(&words[0]) {
                Some(seconds) => BuiltIn::Profile(seconds),
                None => misused(PROFILE),
            },
            ("profile", _, _) => misused(PROFILE),
            _ => return None,
        })
    }
}

/// Parses `10s` or `10`.
fn seconds(text: &str) -> Option<u64> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    seconds.filter(|seconds| (1..=LONGEST_PROFILE).contains(seconds))
}

fn profile(seconds: u64, mut files: Descriptors) -> io::Result<()> {
    let guest = File::from(files.require(GUEST).map_err(io::Error::other)?);
    engine::ask_for_profile(guest, Duration::from_secs(seconds), io::stdout().lock())
}

/// Loads a command, in the isolated process. Returns what runs it, to its exit code.
///
/// # Errors
/// If the process cannot have what the command needs.
pub fn load(command: BuiltIn, files: Descriptors) -> io::Result<Loaded> {
    let is_misused = matches!(command, BuiltIn::Misused(_));
    let work: Work = match command {
        BuiltIn::Print(text) => Box::new(move || io::stdout().write_all(text.as_bytes())),
        BuiltIn::List { long, paths } => Box::new(move || files::list(long, &paths)),
        BuiltIn::Cat(paths) => Box::new(move || files::cat(&paths)),
        BuiltIn::Stat(paths) => Box::new(move || files::stat(&paths)),
        BuiltIn::Wget(url) => {
            let tokio = wget::event_loop()?;
            Box::new(move || wget::get(&url, &tokio))
        }
        BuiltIn::Profile(seconds) => Box::new(move || profile(seconds, files)),
        BuiltIn::Misused(usage) => {
            Box::new(move || Err(io::Error::new(io::ErrorKind::InvalidInput, usage)))
        }
    };
    Ok(Box::new(move || run(work, if is_misused { MISUSED } else { FAILED })))
}

/// Runs a command. Returns the exit code.
fn run(work: Work, failed: u8) -> u8 {
    // They are blocked for a guest, which waits for them. Here each ends the process, as usual.
    let unblocked = engine::ending_signals().thread_unblock();
    let done = unblocked.map_err(io::Error::from).and_then(|()| work());
    match done.and_then(|()| io::stdout().flush()) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("{error}");
            failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<BuiltIn> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        BuiltIn::parse(&args)
    }

    #[test]
    fn a_command_is_known_by_its_name_and_has_a_usage() {
        assert_eq!(parse("cat /a /b"), Some(BuiltIn::Cat(vec!["/a".into(), "/b".into()])));
        assert_eq!(parse("ls -l /"), Some(BuiltIn::List { long: true, paths: vec!["/".into()] }));
        assert_eq!(
            parse("wget -qO- http://localhost"),
            Some(BuiltIn::Wget("http://localhost".into()))
        );
        assert_eq!(parse("wget -q -O - http://a"), Some(BuiltIn::Wget("http://a".into())));
        assert_eq!(parse("profile 10s"), Some(BuiltIn::Profile(10)));
        assert_eq!(parse("profile 1"), Some(BuiltIn::Profile(1)));
        assert_eq!(parse("sh -c ls"), None);
        assert_eq!(parse(""), None);
        for line in ["ls -R", "stat", "cat -n x", "wget", "profile", "profile 0s", "profile 61"] {
            let Some(BuiltIn::Misused(usage)) = parse(line) else { panic!("{line} is understood") };
            assert!(usage.contains(line.split(' ').next().expect("a word")), "{usage}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for word in
            ["ls", "cat", "stat", "env", "ps", "wget", "wit", "grants", "profile", "invoke", "help"]
        {
            assert!(HELP.contains(&format!("\n  {word}")), "{word}");
        }
    }
}
