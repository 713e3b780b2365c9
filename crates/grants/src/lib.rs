//! Grants of a guest: everything that it may do with files and the network, which optional interfaces it is offered, how much
//! it may use, how its code is made, and who gave each grant.
//!
//! Read in this order: [`Grants`] here; [`Profile`] (what applies to a guest that names nothing); [`Target`], [`Origin`],
//! [`Listen`], [`FileGrant`], [`Feature`] and [`Package`] (what can be granted, and how it is written); [`Limits`] with
//! [`quantity`] (how much a guest may use); [`Names`] (what is named and allowed of a list of names); [`CodeSettings`] (how
//! its code is made); [`Requested`] (what the node's file, an image or a Pod names); [`policy`] (the node's file); `merge`
//! (how these become the grants); `decide` (what the grants say about one call of a guest).
//!
//! The result of a merge never exceeds the node's ceiling, for two reasons. A request beyond the ceiling is refused before
//! the container exists. And each call is compared with the ceiling as well, because only then the address of a name is
//! known.
//!
//! This crate does no I/O, and knows neither Wasmtime nor containerd.
#![forbid(unsafe_code)]

mod code_settings;
mod decide;
mod feature;
mod files;
mod host;
mod limits;
mod listen;
mod merge;
mod names;
mod network;
mod origin;
mod package;
pub mod policy;
mod profile;
pub mod quantity;
mod requested;
mod show;
mod text;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use code_settings::CodeSettings;
pub use decide::Refusal;
pub use feature::Feature;
pub use files::{Access, FileGrant};
pub use host::{Host, Ports};
pub use limits::{HttpLimits, Limit, Limits};
pub use listen::Listen;
pub use merge::{ExceedsCeiling, MergeInput, merge};
pub use names::{Names, NamesCeiling};
pub use network::{Protocol, Target};
pub use origin::{Origin, Scheme};
pub use package::{NotOffered, Package};
pub use profile::Profile;
pub use requested::Requested;

/// Who gave a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Giver {
    /// The node: its file, or the default profile.
    Node,
    /// The image, by a label.
    Image,
    /// The Pod, by an annotation.
    Pod,
    /// The profile, for what nothing names.
    Profile,
}

/// Entries of one key, and who gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted<T> {
    /// What is granted. It may be nothing.
    pub entries: Vec<T>,
    /// Who gave it.
    pub giver: Giver,
}

impl<T> Granted<T> {
    /// What a strict profile grants of what nothing names.
    fn nothing() -> Granted<T> {
        Granted { entries: vec![], giver: Giver::Profile }
    }
}

/// Destinations of a guest: of its sockets, and of its HTTP requests. If one of them is named, the other one is not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destinations {
    /// Destinations of sockets. `None` if nothing names any.
    pub connect: Option<Granted<Target>>,
    /// Destinations of HTTP requests. `None` if nothing names any.
    pub http: Option<Granted<Origin>>,
}

/// What may be done with the network. `None` is everything that the profile does not forbid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The profile, which forbids some addresses.
    pub profile: Profile,
    /// Where a guest may connect to.
    pub destinations: Option<Destinations>,
    /// Where it may listen.
    pub listen: Option<Granted<Listen>>,
}

/// Everything that a guest may do with files and the network, which optional interfaces it is offered, how much it may use, and
/// how its code is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Who chose the profile.
    pub profile_giver: Giver,
    /// What was granted of the network.
    pub network: Network,
    /// The node's ceiling. A call must be allowed by both.
    pub ceiling: Network,
    /// Directories that the guest may use. `None` is all that the container has.
    pub files: Option<Granted<FileGrant>>,
    /// Optional interfaces.
    pub interfaces: Names<Package>,
    /// How much the guest may use.
    pub limits: Limits,
    /// Addresses of the node itself, which `restricted` forbids.
    pub node: Vec<IpAddr>,
    /// How the guest's code is made.
    pub code: CodeSettings,
}

impl Default for Grants {
    /// Grants of a guest on a node without a file, of an image and a Pod that name nothing.
    fn default() -> Grants {
        let network = Network { profile: Profile::default(), destinations: None, listen: None };
        let ceiling = network.clone();
        let (files, interfaces, limits) = (None, Names::default(), Limits::default());
        let (profile_giver, node, code) = (Giver::Node, vec![], CodeSettings::default());
        Grants { profile_giver, network, ceiling, files, interfaces, limits, node, code }
    }
}

impl Grants {
    /// The profile.
    pub fn profile(&self) -> Profile {
        self.network.profile
    }

    /// What applies to the runtime's own requests for a container, such as those with spans, whose destination the Pod has
    /// set: the ceiling, and not what the Pod grants its guest.
    #[must_use]
    pub fn of_runtime(&self) -> Grants {
        Grants { network: self.ceiling.clone(), ..self.clone() }
    }
}

impl std::fmt::Display for Giver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Giver::Node => "node",
            Giver::Image => "image",
            Giver::Pod => "Pod",
            Giver::Profile => "profile",
        })
    }
}
