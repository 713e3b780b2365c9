//! Limits: how much a guest may use.
//!
//! A limit is named by the Pod, or else by the image, or else by the node's defaults. If none of them names it, the node's
//! ceiling applies, or the limit's own default if that is less.

use std::fmt::{self, Display};

use provided::{
    HTTP_IDLE_TIMEOUT, HTTP_MAX_BODY, HTTP_MAX_CONNECTIONS, HTTP_MAX_HEADER, HTTP_MAX_REQUESTS,
    HTTP_REQUEST_TIMEOUT, LOG_RATE, MAX_MEMORY, TIMEOUT,
};
use serde::{Deserialize, Serialize};

use crate::merge::{ExceedsCeiling, MergeInput};
use crate::quantity::{Body, Count, Head, Memory, Time};
use crate::{Giver, Requested};

/// A limit. What is named is never more than the ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit<T> {
    pub(crate) named: Option<(T, Giver)>,
    pub(crate) ceiling: Option<T>,
}

/// How much a guest may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all its instances.
    pub memory: Limit<Memory>,
    /// How long it may run.
    pub time: Limit<Time>,
    /// Lines a second on stdout and stderr.
    pub log_rate: Limit<Count>,
    /// Limits of a server.
    pub http: HttpLimits,
}

/// How much a server and its clients may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpLimits {
    /// Silence of a client.
    pub idle_time: Limit<Time>,
    /// Body of a request.
    pub body: Limit<Body>,
    /// Connections at a time.
    pub connections: Limit<Count>,
    /// Head of a request.
    pub head: Limit<Head>,
    /// Instances at a time.
    pub instances: Limit<Count>,
    /// Time until a response begins.
    pub request_time: Limit<Time>,
}

impl<T> Default for Limit<T> {
    fn default() -> Limit<T> {
        Limit { named: None, ceiling: None }
    }
}

impl<T: Copy + Ord> Limit<T> {
    /// The limit that applies, and who gave it. `None` if there is none.
    pub fn get(&self) -> Option<(T, Giver)> {
        self.named.or_else(|| self.ceiling.map(|most| (most, Giver::Node)))
    }

    /// The number that applies, of a limit that has a default.
    pub fn or<N: Ord>(&self, default: N, number: impl Fn(T) -> N) -> N {
        match (self.named, self.ceiling) {
            (Some((value, _)), _) => number(value),
            (None, Some(most)) => number(most).min(default),
            (None, None) => default,
        }
    }
}

impl Limits {
    /// Merges the limits.
    ///
    /// # Errors
    /// The first request for more than the ceiling.
    pub(crate) fn merge(input: &MergeInput) -> Result<Limits, ExceedsCeiling> {
        Ok(Limits {
            memory: limit(input, MAX_MEMORY.key, |it| it.max_memory)?,
            time: limit(input, TIMEOUT.key, |it| it.timeout)?,
            log_rate: limit(input, LOG_RATE.key, |it| it.log_rate)?,
            http: HttpLimits {
                idle_time: limit(input, HTTP_IDLE_TIMEOUT.key, |it| it.http_idle_timeout)?,
                body: limit(input, HTTP_MAX_BODY.key, |it| it.http_max_body)?,
                connections: limit(input, HTTP_MAX_CONNECTIONS.key, |it| it.http_max_connections)?,
                head: limit(input, HTTP_MAX_HEADER.key, |it| it.http_max_header)?,
                instances: limit(input, HTTP_MAX_REQUESTS.key, |it| it.http_max_requests)?,
                request_time: limit(input, HTTP_REQUEST_TIMEOUT.key, |it| it.http_request_timeout)?,
            },
        })
    }
}

/// Merges one limit.
pub(crate) fn limit<T: Copy + Ord + Display>(
    input: &MergeInput,
    key: &'static str,
    of: impl Fn(&Requested) -> Option<T>,
) -> Result<Limit<T>, ExceedsCeiling> {
    let ceiling = &input.rules.ceiling;
    let (named, most) = (input.first(&of), of(&ceiling.requested));
    match (named, most) {
        (Some((value, giver)), Some(most)) if value > most => Err(ExceedsCeiling {
            giver,
            key,
            value: value.to_string(),
            ceiling: ceiling.place.clone(),
            allowed: format!("{most} or less"),
        }),
        _ => Ok(Limit { named, ceiling: most }),
    }
}

impl Display for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { memory, time, log_rate, http } = self;
        show(formatter, MAX_MEMORY.key, memory)?;
        show(formatter, TIMEOUT.key, time)?;
        show(formatter, LOG_RATE.key, log_rate)?;
        let HttpLimits { idle_time, body, connections, head, instances, request_time } = http;
        show(formatter, HTTP_IDLE_TIMEOUT.key, idle_time)?;
        show(formatter, HTTP_MAX_BODY.key, body)?;
        show(formatter, HTTP_MAX_CONNECTIONS.key, connections)?;
        show(formatter, HTTP_MAX_HEADER.key, head)?;
        show(formatter, HTTP_MAX_REQUESTS.key, instances)?;
        show(formatter, HTTP_REQUEST_TIMEOUT.key, request_time)
    }
}

/// Writes a line about a limit that someone set.
pub(crate) fn show<T: Copy + Ord + Display>(
    formatter: &mut fmt::Formatter<'_>,
    key: &str,
    limit: &Limit<T>,
) -> fmt::Result {
    let Some((value, giver)) = limit.get() else { return Ok(()) };
    let name = key.strip_prefix(provided::PREFIX).unwrap_or(key);
    writeln!(formatter, "{name}: at most {value} ({}, {key})", giver.place())
}
