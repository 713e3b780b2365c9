//! The images: which tool makes them in which form, and what is expected of them.
//!
//! What containerd does with a form is its own; what is expected is what its users have to know. `own` has those of
//! `wasm-image`, `others` those of tools that need no daemon, `buildkit` those of BuildKit.

mod buildkit;
mod others;
mod own;

use std::fmt;

/// What should become of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// It runs.
    Runs,
    /// It is refused with these words.
    Refused(&'static str),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Runs => f.write_str("runs"),
            Expected::Refused(word) => write!(f, "refused: {word}"),
        }
    }
}

/// Releases of containerd of which something else is expected than of the one before.
const RELEASES: [(u32, u32); 4] = [(1, 6), (1, 7), (2, 1), (2, 3)];

/// What is expected of each of [`RELEASES`].
type ByRelease = [Expected; RELEASES.len()];

/// Which of [`RELEASES`] a version is of, such as `2.2.9`; the first for one that is older than all of them.
pub fn release(version: &str) -> usize {
    let mut numbers = version.split('.').map(|it| it.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    RELEASES.iter().rposition(|it| *it <= version).unwrap_or(0)
}

/// An image.
pub struct Form {
    /// Its repository in the registry.
    pub image: &'static str,
    /// The tool that makes it.
    pub tool: &'static str,
    /// In which form, in words.
    pub form: &'static str,
    /// The lines of shell that make it, as `$IMAGE:1`.
    pub make: &'static str,
    /// Whether its Pod has to give a `command`.
    pub needs_command: bool,
    /// The platform that `ctr` and `docker` are told.
    pub platform: Option<&'static str>,
    /// What `wasm-image inspect` should say of a node with that containerd.
    pub inspect: ByRelease,
    /// What CRI should do.
    pub cri: ByRelease,
    /// What `ctr` should do.
    pub ctr: ByRelease,
    /// What dockerd should do, with the newest containerd.
    pub dockerd: Expected,
}

use Expected::{Refused, Runs};

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Form> {
    own::FORMS.iter().chain(&others::FORMS).chain(&buildkit::FORMS)
}

/// containerd 1.6 counts a wasm layer as one that it has to unpack.
const COUNTS: Expected = Refused("mismatched image rootfs");

/// An ordinary image for the node: it runs everywhere. Others say what differs.
const ORDINARY: Form = Form {
    image: "",
    tool: "",
    form: "",
    make: "",
    needs_command: false,
    platform: None,
    inspect: [Runs; 4],
    cri: [Runs; 4],
    ctr: [Runs; 4],
    dockerd: Runs,
};

/// An image with wasm layers.
const LAYER: Form = Form {
    inspect: [Refused("containerd 1.6 refuses an image"), Runs, Runs, Runs],
    cri: [COUNTS, Runs, Runs, Runs],
    ctr: [COUNTS, Runs, Runs, Runs],
    ..ORDINARY
};

/// `ctr` knows no config but an image's.
const UNKNOWN_CONFIG: Expected = Refused("unknown image config media type");

/// An artifact.
const ARTIFACT: Form = Form {
    needs_command: true,
    ctr: [COUNTS, UNKNOWN_CONFIG, UNKNOWN_CONFIG, UNKNOWN_CONFIG],
    ..LAYER
};

/// An image for a platform of wasm with ordinary layers: containerd 2.3 and later do not unpack it.
const NOT_UNPACKED: Form = Form {
    platform: Some("wasi/wasm"),
    inspect: [Runs, Runs, Runs, Refused("does not unpack its files")],
    cri: [Runs, Runs, Runs, Refused("parent snapshot")],
    ..ORDINARY
};
