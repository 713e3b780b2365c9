//! Words that can be executed in a guest's container whose image has no program of that name: an image of one
//! component is no black box then.
//!
//! They run in the isolated process, with the container's own rights, and see what the guest sees ([`run`]). What
//! only the shim knows is written down by it beforehand ([`Word::Print`], made in [`answers`]).

pub mod answers;
mod files;
mod wget;

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use plan::exit_code::MISUSED;
use sandbox::Descriptors;
use serde::{Deserialize, Serialize};

/// Name of the descriptor of the connection to the guest that is asked for a profile.
pub const GUEST: &str = "guest";

/// Exit code: the word did what it was asked to.
const DONE: u8 = 0;

/// Exit code: it did not.
const FAILED: u8 = 1;

/// How long a profile may be, in seconds.
const LONGEST_PROFILE: u64 = 60;

const PROFILE: &str = "profile SECONDS, from 1 to 60";

/// What `help` says.
pub const HELP: &str = "\
words that can be executed here, where the image has no file of that name:
  ls [-l] [PATH...]       what is in a folder
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

/// One of them, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// Prints what the shim has found out.
    Print(String),
    /// `ls`.
    List {
        /// Whether with type, mode, owner and size.
        long: bool,
        /// Which folders or files.
        paths: Vec<String>,
    },
    /// `cat`; without a path stdin.
    Cat(Vec<String>),
    /// `stat`.
    Stat(Vec<String>),
    /// `wget`.
    Wget(String),
    /// `profile`, so many seconds long, with the descriptor [`GUEST`].
    Profile(u64),
    /// A word with other words than it knows; how it is to be used.
    Misused(String),
}

impl Word {
    /// The word that `args` are, where the shim has nothing to find out for it.
    pub fn parse(args: &[String]) -> Option<Word> {
        let (name, rest) = args.split_first()?;
        let (flags, words): (Vec<&String>, Vec<&String>) =
            rest.iter().partition(|arg| arg.len() > 1 && arg.starts_with('-'));
        let words: Vec<String> = words.into_iter().cloned().collect();
        let misused = |usage: &str| Word::Misused(format!("usage: {usage}; `help` has the rest"));
        Some(match (name.as_str(), flags.as_slice(), words.len()) {
            ("help", _, _) => Word::Print(HELP.to_owned()),
            ("ls", flags, _)
                if flags.iter().all(|flag| ["-l", "-a", "-la", "-al"].contains(&flag.as_str())) =>
            {
                let long = flags.iter().any(|flag| flag.contains('l'));
                Word::List { long, paths: words }
            }
            ("ls", _, _) => misused("ls [-l] [PATH...]"),
            ("cat", [], _) => Word::Cat(words),
            ("cat", _, _) => misused("cat [PATH...]"),
            ("stat", [], 1..) => Word::Stat(words),
            ("stat", _, _) => misused("stat PATH..."),
            // Where to and how quietly is what everybody writes; there is one way here.
            ("wget", _, 1..) => match words.into_iter().find(|word| word != "-") {
                Some(url) => Word::Wget(url),
                None => misused("wget URL"),
            },
            ("wget", _, _) => misused("wget URL"),
            ("profile", [], 1) => match seconds(&words[0]) {
                Some(seconds) => Word::Profile(seconds),
                None => misused(PROFILE),
            },
            ("profile", _, _) => misused(PROFILE),
            _ => return None,
        })
    }
}

/// `10s` or `10`.
fn seconds(text: &str) -> Option<u64> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    seconds.filter(|seconds| (1..=LONGEST_PROFILE).contains(seconds))
}

fn profile(seconds: u64, mut files: Descriptors) -> io::Result<()> {
    let guest = File::from(files.require(GUEST).map_err(io::Error::other)?);
    engine::ask_for_profile(guest, Duration::from_secs(seconds), io::stdout().lock())
}

/// Says it, in the isolated process. Returns the exit code.
pub fn run(word: &Word, files: Descriptors) -> u8 {
    // Blocked for a guest, who waits for them; here each ends the process as ever.
    let unblocked = engine::ending_signals().thread_unblock();
    let said = unblocked.map_err(io::Error::from).and_then(|()| match word {
        Word::Print(text) => io::stdout().write_all(text.as_bytes()),
        Word::List { long, paths } => files::list(*long, paths),
        Word::Cat(paths) => files::cat(paths),
        Word::Stat(paths) => files::stat(paths),
        Word::Wget(url) => wget::get(url),
        Word::Profile(seconds) => profile(*seconds, files),
        Word::Misused(usage) => Err(io::Error::new(io::ErrorKind::InvalidInput, usage.as_str())),
    });
    let told = said.and_then(|()| io::stdout().flush());
    match told {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("{error}");
            if matches!(word, Word::Misused(_)) { MISUSED } else { FAILED }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Word> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Word::parse(&args)
    }

    #[test]
    fn a_word_is_known_by_its_name_and_told_how_to_be_used() {
        assert_eq!(parse("cat /a /b"), Some(Word::Cat(vec!["/a".into(), "/b".into()])));
        assert_eq!(parse("ls -l /"), Some(Word::List { long: true, paths: vec!["/".into()] }));
        assert_eq!(
            parse("wget -qO- http://localhost"),
            Some(Word::Wget("http://localhost".into()))
        );
        assert_eq!(parse("wget -q -O - http://a"), Some(Word::Wget("http://a".into())));
        assert_eq!(parse("profile 10s"), Some(Word::Profile(10)));
        assert_eq!(parse("profile 1"), Some(Word::Profile(1)));
        assert_eq!(parse("sh -c ls"), None);
        assert_eq!(parse(""), None);
        for line in ["ls -R", "stat", "cat -n x", "wget", "profile", "profile 0s", "profile 61"] {
            let Some(Word::Misused(usage)) = parse(line) else { panic!("{line} is understood") };
            assert!(usage.contains(line.split(' ').next().expect("a word")), "{usage}");
        }
    }

    #[test]
    fn help_names_every_word() {
        for word in
            ["ls", "cat", "stat", "env", "ps", "wget", "wit", "grants", "profile", "invoke", "help"]
        {
            assert!(HELP.contains(&format!("\n  {word}")), "{word}");
        }
    }
}
