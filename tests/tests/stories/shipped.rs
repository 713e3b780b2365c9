//! What is promised of the programs of a release (docs/install.md).

use anyhow::Result;
use tests::containerd::{repository, wasm_image};
use tests::{command, figure, shim};

/// glibc of Debian 12, on which releases are built. With a newer one, other functions have newer versions.
const RELEASES_ARE_BUILT_WITH: &str = "glibc 2.36";

#[test]
fn programs_that_are_built_like_a_release_need_no_newer_glibc_than_supported() -> Result<()> {
    let here = command::run("getconf", ["GNU_LIBC_VERSION"])?.success()?.stdout;
    if here.trim() != RELEASES_ARE_BUILT_WITH {
        return figure::note(&format!("not built like a release: {here}"));
    }
    for program in [shim::program()?, wasm_image()] {
        command::run(repository().join("scripts/glibc-floor.sh"), [program])?.success()?;
    }
    Ok(())
}
