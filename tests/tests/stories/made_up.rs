//! Guests beside programs: makes a container of each generated spec twice, and compares what the two processes have.
//!
//! The node's OCI runtime shows what a spec allows. `make specs` makes the same specs by an older build of the shim, and
//! others that only guests can have.

use anyhow::{Context, Result, ensure};
use tests::cgroups::is_unified;
use tests::isolation::bounds;
use tests::isolation::made::{self, Host, Outcome};
use tests::isolation::places::Joined;
use tests::isolation::specs::{Fields, Spec};

const SPECS: usize = 40;
const SEED: u64 = 7;

/// Of so many specs there has to be something to compare: the rest is what neither takes, or not on this kernel. Half of the
/// limits are of cgroups v1 alone.
fn least_compared() -> usize {
    if is_unified() { 20 } else { 30 }
}

#[test]
fn a_guests_process_has_nothing_that_a_program_of_the_same_spec_has_not() -> Result<()> {
    let cache = tempfile::tempdir()?;
    let (joined, shim) = (Joined::start()?, Host::start(&tests::shim::program()?, cache.path())?);
    let (mut compared, mut exceeded) = (0, Vec::new());
    for spec in (0..SPECS).map(|number| Spec::new(SEED, number, Fields::OfPrograms)) {
        let of = |who: &str| format!("spec {}, {who}", spec.number);
        let guest = shim.make(&spec, &joined).with_context(|| of("guest"))?;
        let program = made::by_runc(&spec, &joined).with_context(|| of("program"))?;
        match (guest, program) {
            (Outcome::Runs(guest), Outcome::Runs(program)) => {
                compared += 1;
                let found = bounds::exceeded(&guest, &program).into_iter();
                exceeded.extend(found.map(|it| format!("spec {}: {it}", spec.number)));
            }
            (Outcome::Runs(_), Outcome::Refused(why)) => {
                exceeded.push(format!("spec {}: the program is refused: {why}", spec.number));
            }
            // A guest that is refused has nothing.
            (Outcome::Refused(_), _) => {}
        }
    }
    shim.end()?;
    ensure!(exceeded.is_empty(), "{}", exceeded.join("\n"));
    ensure!(compared >= least_compared(), "only {compared} of {SPECS} specs could be compared");
    Ok(())
}
