//! Defines the images: the tool and form of each, and what is expected of it.
//!
//! containerd decides what happens to a form. The expectations are what its users should know. `own` has the images of
//! `wasm-image`, `others` those of tools that need no daemon, and `buildkit` those of BuildKit.

mod buildkit;
mod others;
mod own;

use std::fmt;

/// Expected result of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// It runs.
    Runs,
    /// It is refused with this text.
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

/// Releases of containerd whose expectations differ from those of the release before.
const RELEASES: [(u32, u32); 4] = [(1, 6), (1, 7), (2, 1), (2, 3)];

/// Expectations for each of [`RELEASES`].
type ByRelease = [Expected; RELEASES.len()];

/// Returns the index in [`RELEASES`] for a version such as `2.2.9`. A version that is older than all of them gets the
/// first.
pub fn release(version: &str) -> usize {
    let mut numbers = version.split('.').map(|it| it.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    RELEASES.iter().rposition(|it| *it <= version).unwrap_or(0)
}

/// An image in one form.
pub struct Form {
    /// Repository in the registry.
    pub image: &'static str,
    /// The tool that makes it.
    pub tool: &'static str,
    /// Description of the form.
    pub form: &'static str,
    /// Shell commands that make it as `$IMAGE:1`.
    pub make: &'static str,
    /// Whether its Pod must give a `command`.
    pub needs_command: bool,
    /// Platform option for `ctr` and `docker`.
    pub platform: Option<&'static str>,
    /// Expected answer of `wasm-image inspect` for a node with that containerd.
    pub inspect: ByRelease,
    /// Expected result with CRI.
    pub cri: ByRelease,
    /// Expected result with `ctr`.
    pub ctr: ByRelease,
    /// Expected result with dockerd, on the newest containerd.
    pub dockerd: Expected,
}

use Expected::{Refused, Runs};

/// Returns all forms.
pub fn all() -> impl Iterator<Item = &'static Form> {
    own::FORMS.iter().chain(&others::FORMS).chain(&buildkit::FORMS)
}

/// containerd 1.6 counts a wasm layer among the layers that it must unpack.
const COUNTS: Expected = Refused("mismatched image rootfs");

/// An ordinary image for the node, which runs everywhere. Other forms change some of its fields.
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

/// `ctr` only knows configs of images.
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
