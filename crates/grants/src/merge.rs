//! Merge of the node's policy, an image's labels and a Pod's annotations.
//!
//! Each key is taken from the Pod, or else from the image, or else from the node's defaults. What none of them names is
//! as the profile says. `allow-connect` and `allow-http` belong together: if one is named, nothing else can be reached,
//! as with a NetworkPolicy.

use std::fmt;

use provided::{
    ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FEATURES, FILES, FUEL, GRANT_PROFILE, INTERFACES,
    PREFIX,
};

use crate::host::{Host, Ports};
use crate::policy::{Ceiling, Rules};
use crate::profile::Forbidden;
use crate::{
    CodeSettings, Destinations, Feature, FileGrant, Giver, Granted, Grants, Limits, Listen, Names,
    NamesCeiling, Network, Origin, Package, Profile, Protocol, Requested, Target, limits,
};

/// What is merged.
#[derive(Debug, Clone, Default)]
pub struct MergeInput {
    /// Ceiling and defaults of the node, for this container.
    pub rules: Rules,
    /// What the image's labels name.
    pub image: Requested,
    /// What the Pod's annotations name.
    pub pod: Requested,
}

/// A request for more than the node allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ExceedsCeiling {
    pub(crate) giver: Giver,
    pub(crate) key: &'static str,
    pub(crate) value: String,
    /// Where the ceiling is.
    pub(crate) ceiling: String,
    pub(crate) allowed: String,
}

impl MergeInput {
    /// What the first of them names: the Pod, the image, or the node's defaults.
    pub(crate) fn first<'a, T>(
        &'a self,
        of: impl Fn(&'a Requested) -> Option<T>,
    ) -> Option<(T, Giver)> {
        let givers = [
            (&self.pod, Giver::Pod),
            (&self.image, Giver::Image),
            (&self.rules.defaults, Giver::Node),
        ];
        givers.into_iter().find_map(|(requested, giver)| of(requested).map(|it| (it, giver)))
    }
}

impl fmt::Display for ExceedsCeiling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExceedsCeiling { giver, key, value, ceiling, allowed } = self;
        let (place, key) = match giver {
            // The keys of the file have no prefix.
            Giver::Node | Giver::Profile => {
                ("[defaults] of the node's file, key", key.strip_prefix(PREFIX).unwrap_or(key))
            }
            Giver::Image => ("image label", *key),
            Giver::Pod => ("annotation", *key),
        };
        write!(formatter, "{place} {key}: {value:?} is more than {ceiling} allows")?;
        write!(formatter, "; allowed is {allowed}")
    }
}

/// Merges the input. The addresses of the node are left out.
///
/// # Errors
/// The first request for more than the ceiling.
pub fn merge(input: &MergeInput) -> Result<Grants, ExceedsCeiling> {
    let ceiling = &input.rules.ceiling;
    let (profile, profile_giver) = profile(input)?;
    let limit = WithinCeiling { ceiling, network: ceiling.network() };
    let connect = limit.entries(input, ALLOW_CONNECT.key, |it| it.allow_connect.as_deref())?;
    let http = limit.entries(input, ALLOW_HTTP.key, |it| it.allow_http.as_deref())?;
    let listen = limit.entries(input, ALLOW_LISTEN.key, |it| it.allow_listen.as_deref())?;
    let files = limit.entries(input, FILES.key, |it| it.files.as_deref())?;
    limit.check_used(&input.pod)?;
    let limits = Limits::merge(input)?;
    let destinations = match (connect, http) {
        (None, None) if profile > Profile::Restricted => None,
        (connect, http) => Some(Destinations { connect, http }),
    };
    let is_strict = profile == Profile::Restricted;
    let listen = listen.or_else(|| is_strict.then(Granted::nothing));
    let own = ceiling.requested.files.clone();
    let files = files
        .or_else(|| is_strict.then(Granted::nothing))
        .or_else(|| own.map(|entries| Granted { entries, giver: Giver::Node }));
    let network = Network { profile, destinations, listen };
    let interfaces = limit.names(input, INTERFACES.key, |it| it.interfaces.as_deref())?;
    let (code, node, ceiling) = (limit.code(input)?, vec![], limit.network);
    Ok(Grants { profile_giver, network, ceiling, files, interfaces, limits, node, code })
}

/// The profile, and who chose it. An image chooses none.
fn profile(input: &MergeInput) -> Result<(Profile, Giver), ExceedsCeiling> {
    let Rules { ceiling, defaults } = &input.rules;
    let most = ceiling.profile();
    let pod = input.pod.profile.map(|profile| (profile, Giver::Pod));
    let default = defaults.profile.map(|profile| (profile, Giver::Node));
    // A wide ceiling makes no guest privileged that does not ask for it.
    let unnamed = (most.min(Profile::default()), Giver::Node);
    let (profile, giver) = pod.or(default).unwrap_or(unnamed);
    match profile <= most {
        true => Ok((profile, giver)),
        false => Err(ExceedsCeiling {
            giver,
            key: GRANT_PROFILE.key,
            value: profile.to_string(),
            ceiling: ceiling.place.clone(),
            allowed: match most {
                Profile::Restricted => most.to_string(),
                _ => format!("{most} or a stricter one"),
            },
        }),
    }
}

/// The ceiling, with which requests are compared.
struct WithinCeiling<'a> {
    ceiling: &'a Ceiling,
    network: Network,
}

impl WithinCeiling<'_> {
    /// How the code is made.
    fn code(&self, input: &MergeInput) -> Result<CodeSettings, ExceedsCeiling> {
        let features = self.names(input, FEATURES.key, |it| it.features.as_deref())?;
        let fuel = limits::limit(input, FUEL.key, |it| it.fuel)?;
        Ok(CodeSettings { features, fuel })
    }

    /// What is named of a key, and what the ceiling allows of it.
    fn names<'a, T: Entry + 'a>(
        &'a self,
        input: &'a MergeInput,
        key: &'static str,
        of: impl Fn(&'a Requested) -> Option<&'a [T]>,
    ) -> Result<Names<T>, ExceedsCeiling> {
        let Ceiling { requested, place } = self.ceiling;
        let ceiling = of(requested).map(<[T]>::to_vec);
        let ceiling = ceiling.map(|entries| NamesCeiling { entries, place: place.clone() });
        Ok(Names { named: self.entries(input, key, of)?, ceiling })
    }

    /// The entries of a key from the first that names it.
    fn entries<'a, T: Entry + 'a>(
        &self,
        input: &'a MergeInput,
        key: &'static str,
        of: impl Fn(&'a Requested) -> Option<&'a [T]>,
    ) -> Result<Option<Granted<T>>, ExceedsCeiling> {
        let Some((entries, giver)) = input.first(of) else { return Ok(None) };
        if let Some(entry) = entries.iter().find(|entry| !entry.is_within(self)) {
            let (value, allowed) = (entry.to_string(), entry.allowed(self));
            let ceiling = self.ceiling.place.clone();
            return Err(ExceedsCeiling { giver, key, value, ceiling, allowed });
        }
        Ok(Some(Granted { entries: entries.to_vec(), giver }))
    }

    /// Checks the paths and the destinations that the runtime uses because the Pod says so: a key-value store must not be where
    /// its guest must not write.
    fn check_used(&self, pod: &Requested) -> Result<(), ExceedsCeiling> {
        let beyond = |key, value: String, allowed: String| {
            let ceiling = self.ceiling.place.clone();
            Err(ExceedsCeiling { giver: Giver::Pod, key, value, ceiling, allowed })
        };
        if let Some((key, path)) = pod.used.iter().find(|(_, path)| !path.is_within(self)) {
            return beyond(key, path.path.display().to_string(), path.allowed(self));
        }
        if let Some((key, target)) = pod.reached.iter().find(|(_, to)| !to.is_within(self)) {
            return beyond(key, target.to_string(), target.allowed(self));
        }
        Ok(())
    }

    /// Whether the ceiling's profile forbids each address of a range, on one of the ports at least, and the ceiling's `own`
    /// hosts do not name that range. A range that is only partly forbidden is compared at each call.
    fn forbids(&self, host: &Host, ports: Ports, own: &[&Host]) -> bool {
        let Host::Net(net) = host else { return false };
        let is_named = |range| {
            let names = |host: &&Host| {
                [net.network(), net.broadcast()].iter().all(|end| host.names(*end, range))
            };
            own.iter().any(names)
        };
        let is_forbidden =
            |it: Forbidden| it.net.contains(net) && it.ports.overlap(ports) && !is_named(it.net);
        self.network.profile.forbidden(&[]).any(is_forbidden)
    }

    /// Whether it allows a host. `own` are the hosts of its entries that cover that one, if it has entries.
    fn allows<'a>(
        &'a self,
        host: &Host,
        ports: Ports,
        own: impl FnOnce(&'a Destinations) -> Vec<&'a Host>,
    ) -> bool {
        let own = self.network.destinations.as_ref().map(own);
        own.as_ref().is_none_or(|own| !own.is_empty())
            && !self.forbids(host, ports, &own.unwrap_or_default())
    }

    /// Text of what the profile of the ceiling allows.
    fn in_profile(&self) -> String {
        match self.network.profile {
            Profile::Restricted => "nothing".to_owned(),
            Profile::Baseline => "every address except the metadata services of clouds".to_owned(),
            Profile::Privileged => "every address".to_owned(),
        }
    }
}

/// An entry of a key that can be compared with the ceiling.
trait Entry: Clone + fmt::Display {
    /// Whether the ceiling allows it.
    fn is_within(&self, limit: &WithinCeiling<'_>) -> bool;
    /// What the ceiling allows.
    fn allowed(&self, limit: &WithinCeiling<'_>) -> String;
}

fn listed<T: fmt::Display>(entries: &[T]) -> String {
    let entries: Vec<String> =
        entries.iter().map(|entry| format!("{:?}", entry.to_string())).collect();
    if entries.is_empty() { "nothing".to_owned() } else { entries.join(", ") }
}

impl Entry for Target {
    fn is_within(&self, limit: &WithinCeiling<'_>) -> bool {
        limit.allows(&self.host, self.ports, |own| {
            own.hosts(|target| target.covers(self), |_| false).collect()
        })
    }

    fn allowed(&self, limit: &WithinCeiling<'_>) -> String {
        let named = limit.network.destinations.as_ref();
        named.map_or_else(|| limit.in_profile(), |it| listed(it.targets()))
    }
}

impl Entry for Origin {
    fn is_within(&self, limit: &WithinCeiling<'_>) -> bool {
        let as_target =
            Target { host: self.host.clone(), ports: self.ports, protocol: Protocol::Tcp };
        limit.allows(&self.host, self.ports, |own| {
            own.hosts(|target| target.covers(&as_target), |origin| origin.covers(self)).collect()
        })
    }

    fn allowed(&self, limit: &WithinCeiling<'_>) -> String {
        let Some(named) = &limit.network.destinations else { return limit.in_profile() };
        let (targets, origins) = (named.targets(), named.origins());
        match (targets.is_empty(), origins.is_empty()) {
            (true, _) => listed(origins),
            (false, true) => listed(targets),
            (false, false) => format!("{}, {}", listed(origins), listed(targets)),
        }
    }
}

impl Entry for Listen {
    fn is_within(&self, limit: &WithinCeiling<'_>) -> bool {
        let own = limit.network.listen.as_ref();
        own.is_none_or(|own| own.entries.iter().any(|own| own.covers(self)))
    }

    fn allowed(&self, limit: &WithinCeiling<'_>) -> String {
        let own = limit.network.listen.as_ref();
        own.map_or_else(|| "every port".to_owned(), |own| listed(&own.entries))
    }
}

impl Entry for FileGrant {
    fn is_within(&self, limit: &WithinCeiling<'_>) -> bool {
        let own = limit.ceiling.files();
        own.is_none_or(|own| own.iter().any(|own| own.covers(self)))
    }

    fn allowed(&self, limit: &WithinCeiling<'_>) -> String {
        limit.ceiling.files().map_or_else(|| "every directory".to_owned(), |own| listed(&own))
    }
}

impl Entry for Feature {
    fn is_within(&self, limit: &WithinCeiling<'_>) -> bool {
        let own = limit.ceiling.requested.features.as_ref();
        own.is_none_or(|own| Feature::all(own).contains(self.features))
    }

    fn allowed(&self, limit: &WithinCeiling<'_>) -> String {
        let own = limit.ceiling.requested.features.as_ref();
        own.map_or_else(|| FEATURES.allowed.to_owned(), |own| listed(own))
    }
}

impl Entry for Package {
    fn is_within(&self, limit: &WithinCeiling<'_>) -> bool {
        let own = limit.ceiling.requested.interfaces.as_ref();
        own.is_none_or(|own| own.contains(self))
    }

    fn allowed(&self, limit: &WithinCeiling<'_>) -> String {
        let own = limit.ceiling.requested.interfaces.as_ref();
        own.map_or_else(|| INTERFACES.allowed.to_owned(), |own| listed(own))
    }
}
