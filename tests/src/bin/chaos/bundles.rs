//! Finds the id of each Pod from the bundles of containerd. Before RunPodSandbox returns, and if it never returns, only
//! the bundle has both the Pod's name and its id.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::Node;
use tests::node::KUBERNETES;

/// Interval between checks. A bundle exists much longer.
const INTERVAL: Duration = Duration::from_millis(3);

/// The bundles of one node.
#[derive(Debug)]
pub struct Bundles {
    folder: PathBuf,
    /// The Pod's name for each id, and whether the id is that of the Pod itself.
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    pod: String,
    is_sandbox: bool,
}

impl Bundles {
    /// Watches the bundles of that node.
    pub fn new(node: &Node) -> Self {
        Self { folder: node.bundles_of(KUBERNETES), known: Mutex::default() }
    }

    /// Records bundles until `over` is set, and adds their traces to what is looked for at the end.
    pub fn watch(&self, node: &Node, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                let id = entry.file_name().to_string_lossy().into_owned();
                if !self.known().contains_key(&id)
                    && let Some(known) = read(&entry.path().join("config.json"))
                {
                    node.traces.watch(KUBERNETES, &id);
                    self.known().insert(id, known);
                }
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Returns the id of the Pod of that name. If there were several, it is the last one.
    pub fn sandbox(&self, pod: &str) -> Option<String> {
        let known = self.known();
        let mut ids = known.iter().filter(|(_, it)| it.is_sandbox && it.pod == pod);
        ids.next().map(|(id, _)| id.clone())
    }

    /// Returns the names of the Pods whose name, or one of whose ids, is in the text.
    pub fn mentioned(&self, text: &str) -> Vec<String> {
        let known = self.known();
        let mut pods: Vec<_> = known
            .iter()
            .filter(|(id, _)| text.contains(id.as_str()))
            .map(|(_, known)| known.pod.clone())
            .collect();
        pods.sort();
        pods.dedup();
        pods
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns `None` as long as the config is not written.
fn read(config: &PathBuf) -> Option<Known> {
    let config: Value = serde_json::from_slice(&fs::read(config).ok()?).ok()?;
    let annotation = |name: &str| {
        let text = &config["annotations"][format!("io.kubernetes.cri.{name}")];
        text.as_str().map(str::to_owned)
    };
    let is_sandbox = annotation("container-type")? == "sandbox";
    Some(Known { pod: annotation("sandbox-name")?, is_sandbox })
}
