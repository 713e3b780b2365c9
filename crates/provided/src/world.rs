//! Worlds in which components run.

/// World in which a component runs. It determines which export is called, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// `wasi:http/service` 0.3.
    HttpService03,
    /// `wasi:http/proxy` 0.2.
    HttpProxy02,
    /// `wasi:cli/command` 0.3.
    Command03,
    /// `wasi:cli/command` 0.2.
    Command02,
}

/// Exports that identify a world, by the beginning of their versioned names. Newer worlds come first, and servers come
/// before commands, because `wasi:http/proxy` may have a `run` for tests.
const ENTRIES: [(&str, World); 4] = [
    ("wasi:http/handler@0.3.", World::HttpService03),
    ("wasi:http/incoming-handler@0.2.", World::HttpProxy02),
    ("wasi:cli/run@0.3.", World::Command03),
    ("wasi:cli/run@0.2.", World::Command02),
];

impl World {
    /// Returns the world of a component with these exports, if it has one.
    pub fn of_exports<T: AsRef<str>>(exports: &[T]) -> Option<World> {
        let is_there = |prefix| exports.iter().any(|it| it.as_ref().starts_with(prefix));
        ENTRIES.into_iter().find_map(|(prefix, world)| is_there(prefix).then_some(world))
    }

    /// Returns the name, with the significant part of the version.
    pub fn name(self) -> &'static str {
        match self {
            World::HttpService03 => "wasi:http/service@0.3",
            World::HttpProxy02 => "wasi:http/proxy@0.2",
            World::Command03 => "wasi:cli/command@0.3",
            World::Command02 => "wasi:cli/command@0.2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_a_command_as_well_is_a_server() {
        let both = ["wasi:cli/run@0.2.3", "wasi:http/incoming-handler@0.2.0"];
        assert_eq!(World::of_exports(&both), Some(World::HttpProxy02));
        assert_eq!(World::of_exports(&both[..1]), Some(World::Command02));
        assert_eq!(World::of_exports(&["wasi:cli/run@0.1.0", "run"]), None);
    }
}
