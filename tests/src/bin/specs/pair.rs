//! Makes the containers of one spec under two builds of the shim, side by side.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use tests::containerd::repository;
use tests::isolation::made::{Host, Outcome};
use tests::isolation::places::Joined;
use tests::isolation::specs::Spec;

/// A shim of each build. Each keeps its compiled code apart, so that neither meets the other's.
pub struct Builds {
    before: Host,
    now: Host,
}

/// A fact that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Its name; [`MADE`] if one build refuses what the other makes.
    pub fact: String,
    /// What the process has under the build to compare with.
    pub before: String,
    /// What it has under this build.
    pub now: String,
}

/// Whether there is a process at all.
pub const MADE: &str = "made";

/// Value of a fact that is not there.
pub const NONE: &str = "none";

impl Builds {
    /// Starts the build at that path, and the one that was built together with this program.
    pub fn start(before: &Path) -> Result<Self> {
        let start = |program: &Path, name: &str| {
            let cache = repository().join("target/specs").join(name);
            fs::create_dir_all(&cache)?;
            Host::start(program, &cache).with_context(|| format!("start {}", program.display()))
        };
        Ok(Self { before: start(before, "before")?, now: start(&tests::shim::program()?, "now")? })
    }

    /// Ends both.
    pub fn end(self) -> Result<()> {
        self.before.end()?;
        self.now.end()
    }
}

/// What came of a spec.
pub struct Compared {
    /// Whether both builds refuse it, and why this one does.
    pub refused: Option<String>,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// Makes the spec by both builds, and compares.
pub fn compare(builds: &Builds, spec: &Spec, joined: &Joined) -> Result<Compared> {
    let [before, now] = thread::scope(|scope| {
        let threads = [&builds.before, &builds.now].map(|it| scope.spawn(|| it.make(spec, joined)));
        threads.map(|it| it.join().unwrap_or_else(|_| Err(anyhow!("it has panicked"))))
    });
    let of = |name: &str| format!("spec {} {name}", spec.number);
    Ok(differences(before.with_context(|| of("before"))?, now.with_context(|| of("now"))?))
}

fn differences(before: Outcome, now: Outcome) -> Compared {
    let made = |before: String, now: String| Difference { fact: MADE.into(), before, now };
    let yes = || "yes".to_owned();
    let (before, now) = match (before, now) {
        (Outcome::Refused(_), Outcome::Refused(why)) => {
            return Compared { refused: Some(why), differences: Vec::new() };
        }
        (Outcome::Refused(why), Outcome::Runs(_)) => {
            return Compared { refused: None, differences: vec![made(why, yes())] };
        }
        (Outcome::Runs(_), Outcome::Refused(why)) => {
            return Compared { refused: None, differences: vec![made(yes(), why)] };
        }
        (Outcome::Runs(before), Outcome::Runs(now)) => (before, now),
    };
    let more = now.keys().filter(|fact| !before.contains_key(*fact));
    let all = before.keys().chain(more).map(|fact| {
        let [before, now] =
            [&before, &now].map(|it| it.get(fact).cloned().unwrap_or_else(|| NONE.into()));
        Difference { fact: fact.clone(), before, now }
    });
    Compared { refused: None, differences: all.filter(|it| it.before != it.now).collect() }
}

#[cfg(test)]
mod test {
    use super::*;

    fn runs(all: &[(&str, &str)]) -> Outcome {
        let facts = all.iter().map(|(fact, value)| ((*fact).to_owned(), (*value).to_owned()));
        Outcome::Runs(Box::new(facts.collect()))
    }

    #[test]
    fn facts_that_are_others_or_only_on_one_side_differ() {
        let before = runs(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let compared = differences(before, runs(&[("b", "1"), ("c", "2"), ("d", "1")]));
        let found: Vec<_> =
            compared.differences.iter().map(|it| (&*it.fact, &*it.before, &*it.now)).collect();
        assert_eq!(found, [("a", "1", NONE), ("c", "1", "2"), ("d", NONE, "1")]);
    }

    #[test]
    fn a_refusal_by_one_of_them_differs_and_by_both_does_not() {
        let refused = || Outcome::Refused("why".into());
        assert_eq!(differences(refused(), runs(&[])).differences.len(), 1);
        assert_eq!(differences(runs(&[]), refused()).differences.len(), 1);
        let both = differences(refused(), refused());
        assert_eq!((both.differences.len(), both.refused.as_deref()), (0, Some("why")));
    }
}
