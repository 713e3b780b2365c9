//! Reads the events that containerd publishes, as `ctr events` prints them.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Node;
use crate::wait::{self, SOON};

/// A subscription. It ends with this value.
#[derive(Debug)]
pub struct Events<'node> {
    node: &'node Node,
    file: PathBuf,
    child: Child,
    marks: u32,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Topic, such as `/tasks/exit`.
    pub topic: String,
    /// Fields of the event.
    pub fields: Value,
}

impl<'node> Events<'node> {
    /// Subscribes. Returns when events arrive.
    pub fn subscribe(node: &'node Node) -> Result<Self> {
        let file = node.folder.join("events.txt");
        let child = node
            .ctr
            .command("default")
            .arg("events")
            .stdin(Stdio::null())
            .stdout(File::create(&file)?)
            .stderr(Stdio::null())
            .spawn()
            .context("start ctr events")?;
        let mut events = Self { node, file, child, marks: 0 };
        events.wait_for_a_mark()?;
        Ok(events)
    }

    /// Returns the events of that container's task until it was deleted, with any others in between.
    ///
    /// Shims send their events in the background, so some arrive after the call that caused them.
    pub fn of_life(&mut self, container: &str) -> Result<Vec<Event>> {
        wait::until(SOON, &format!("{container} to be deleted"), || {
            let events = self.so_far(container)?;
            Ok(events.iter().any(|event| event.topic == "/tasks/delete").then_some(()))
        })?;
        self.so_far(container)
    }

    /// Returns the events of that container's task that have arrived, in order.
    pub fn so_far(&mut self, container: &str) -> Result<Vec<Event>> {
        self.wait_for_a_mark()?;
        let mut events = self.read()?;
        events.retain(|event| event.topic.starts_with("/tasks/"));
        events.retain(|event| event.fields["container_id"] == container);
        Ok(events)
    }

    /// Causes meaningless events until one of them arrives. Then all earlier ones have arrived.
    fn wait_for_a_mark(&mut self) -> Result<()> {
        wait::until(SOON, "containerd's events", || {
            self.marks += 1;
            let mark = format!("mark-{}", self.marks);
            let words = ["namespaces", "label", "default", &format!("mark={mark}")];
            self.node.ctr.run("default", &words)?.success()?;
            let text = fs::read_to_string(&self.file)?;
            Ok(text.contains(&format!("\"{mark}\"")).then_some(()))
        })
    }

    fn read(&self) -> Result<Vec<Event>> {
        fs::read_to_string(&self.file)?.lines().map(Event::parse).collect()
    }
}

impl Event {
    /// `2024-01-02 03:04:05.6 +0000 UTC NAMESPACE TOPIC {JSON}`
    fn parse(line: &str) -> Result<Self> {
        let start = line.find(" /").context("no topic").with_context(|| line.to_owned())?;
        let (topic, fields) =
            line[start + 1..].split_once(' ').unwrap_or((&line[start + 1..], "null"));
        Ok(Self { topic: topic.into(), fields: serde_json::from_str(fields)? })
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
