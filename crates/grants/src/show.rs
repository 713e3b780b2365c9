//! Grants as text, for people: a line for each, with who gave it.

use std::fmt::{self, Display};

use provided::{ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FEATURES, FILES, FUEL, INTERFACES};

use crate::names::or_nothing;
use crate::{Destinations, Giver, Granted, Grants, Names, Network, Profile, limits};

impl Display for Grants {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (profile, giver) = (self.profile(), self.profile_giver);
        writeln!(formatter, "profile: {profile} ({giver})")?;
        match &self.files {
            None => writeln!(formatter, "files: all of the container (profile {profile})")?,
            Some(files) => lines(formatter, "files", FILES.key, files)?,
        }
        let (code, interfaces) = (&self.code, &self.interfaces);
        let offered = or_nothing(&interfaces.offered());
        names(formatter, "interfaces", INTERFACES.key, interfaces, &offered)?;
        let features = code.features().to_string();
        names(formatter, "WebAssembly beyond 2.0", FEATURES.key, &code.features, &features)?;
        network(formatter, "", &self.network)?;
        match &self.ceiling {
            Network { destinations: None, listen: None, .. } => {}
            ceiling => {
                network(formatter, "and of these only what the node's ceiling allows, ", ceiling)?;
            }
        }
        limits::show(formatter, FUEL.key, &self.code.fuel)?;
        write!(formatter, "{}", self.limits)
    }
}

impl Giver {
    /// The place where this one gives something, for people.
    pub fn place(self) -> &'static str {
        match self {
            Giver::Node => "node's file",
            Giver::Image => "label of the image",
            Giver::Pod => "annotation of the Pod",
            Giver::Profile => "profile",
        }
    }
}

/// Writes what is named, or else what applies because of the ceiling.
fn names<T: Display>(
    formatter: &mut fmt::Formatter<'_>,
    what: &str,
    key: &str,
    names: &Names<T>,
    applies: &str,
) -> fmt::Result {
    match (&names.named, &names.ceiling) {
        (Some(named), _) => lines(formatter, what, key, named),
        // What applies without any setting is not shown, as with memory.
        (None, None) => Ok(()),
        (None, Some(_)) => {
            let applies = if applies.is_empty() { "nothing" } else { applies };
            writeln!(formatter, "{what}: {applies} (node's file, {key})")
        }
    }
}

fn network(formatter: &mut fmt::Formatter<'_>, of: &str, network: &Network) -> fmt::Result {
    let Network { profile, destinations, listen } = network;
    match destinations {
        None => {
            let except = match profile {
                Profile::Privileged => "",
                _ => ", except metadata services of clouds",
            };
            writeln!(formatter, "{of}connect: every address{except} (profile {profile})")?;
        }
        Some(Destinations { connect, http }) => {
            match (connect, http) {
                (Some(connect), _) => {
                    lines(formatter, &format!("{of}connect"), ALLOW_CONNECT.key, connect)?;
                }
                (None, Some(_)) => writeln!(
                    formatter,
                    "{of}connect: nothing, because {} is set and {} is not",
                    ALLOW_HTTP.key, ALLOW_CONNECT.key
                )?,
                (None, None) => writeln!(formatter, "{of}connect: nothing (profile {profile})")?,
            }
            match (connect, http) {
                (_, Some(http)) => {
                    lines(formatter, &format!("{of}HTTP"), ALLOW_HTTP.key, http)?;
                }
                (Some(_), None) => writeln!(
                    formatter,
                    "{of}HTTP: as connect, because {} is set and {} is not",
                    ALLOW_CONNECT.key, ALLOW_HTTP.key
                )?,
                (None, None) => writeln!(formatter, "{of}HTTP: nothing (profile {profile})")?,
            }
        }
    }
    match listen {
        None => writeln!(formatter, "{of}listen: every port (profile {profile})"),
        Some(listen) => lines(formatter, &format!("{of}listen"), ALLOW_LISTEN.key, listen),
    }
}

fn lines<T: Display>(
    formatter: &mut fmt::Formatter<'_>,
    what: &str,
    key: &str,
    granted: &Granted<T>,
) -> fmt::Result {
    let Granted { entries, giver } = granted;
    // It names nothing.
    if *giver == Giver::Profile {
        return writeln!(formatter, "{what}: nothing (profile restricted)");
    }
    let by = giver.place();
    if entries.is_empty() {
        return writeln!(formatter, "{what}: nothing ({by}, {key})");
    }
    entries.iter().try_for_each(|entry| writeln!(formatter, "{what}: {entry} ({by}, {key})"))
}
