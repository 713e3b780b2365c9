//! `wasm-image policy check`: whether a node would create the containers of a Pod, and what their guests would be granted.
//!
//! [`workload`] finds the Pods of a manifest. The crate `grants` merges and decides, as it does for the shim.

mod workload;

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use grants::policy::{Policy, Rules, Subject};
use grants::{MergeInput, merge};
use plan::Annotations;
use provided::OF_IMAGE;
use serde::Serialize;

use crate::args::Check;
use crate::errors::Error;
use crate::inspect::{asks, labels, this_machine};
use crate::location::Location;
use crate::transfer::Source;
use workload::Pod;

/// Name of standard input on the command line.
const STDIN: &str = "-";

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Each container of each Pod.
    pub containers: Vec<Checked>,
}

/// A container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// Kind and name of the object, with its namespace.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// Its image.
    pub image: String,
    /// Whether it would be created.
    pub admitted: bool,
    /// What its guest would be granted, each with who gives it.
    pub grants: Vec<String>,
    /// Why it would not be created.
    pub reason: Option<String>,
}

impl Report {
    /// Returns the error if a container would not be created.
    pub fn refusal(&self) -> Option<Error> {
        let refused = self.containers.iter().filter(|it| !it.admitted).count();
        let all = self.containers.len();
        (refused > 0).then_some(Error::NotAdmitted { refused, all })
    }
}

/// Checks what the command line names.
///
/// # Errors
/// If a file cannot be read or parsed, or there is no Pod in any.
pub async fn check(asked: &Check) -> Result<Report> {
    let policy = asked.policy.as_deref().map(policy).transpose()?;
    let mut containers = Vec::new();
    for file in &asked.files {
        let text = text(file)?;
        let pods =
            workload::read(&text).with_context(|| format!("cannot read {}", file.display()))?;
        for pod in &pods {
            for (name, image) in &pod.containers {
                containers.push(of_container(asked, policy.as_ref(), pod, name, image).await?);
            }
        }
    }
    match containers.is_empty() {
        true => Err(Error::Usage("there is no Pod in these files".into()).into()),
        false => Ok(Report { containers }),
    }
}

fn policy(file: &Path) -> Result<Policy> {
    Ok(Policy::parse(&file.display().to_string(), &text(file)?)?)
}

fn text(file: &Path) -> Result<String> {
    if file == Path::new(STDIN) {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        return Ok(text);
    }
    String::from_utf8(crate::read(file)?).with_context(|| format!("cannot read {}", file.display()))
}

async fn of_container(
    asked: &Check,
    policy: Option<&Policy>,
    pod: &Pod,
    name: &str,
    image: &str,
) -> Result<Checked> {
    let namespace = pod.namespace.as_deref().unwrap_or(&asked.namespace);
    let labels = if asked.images { labels_of(asked, image).await? } else { vec![] };
    let rules = policy.map(|policy| policy.rules(Subject { namespace, image }));
    let decided = decide(pod, &labels, rules.unwrap_or_default());
    let (grants, reason) = match decided {
        Ok(grants) => (grants.lines().map(str::to_owned).collect(), None),
        Err(reason) => (vec![], Some(reason)),
    };
    Ok(Checked {
        pod: format!("{} in {namespace}", pod.name),
        container: name.to_owned(),
        image: image.to_owned(),
        admitted: reason.is_none(),
        grants,
        reason,
    })
}

async fn labels_of(asked: &Check, image: &str) -> Result<Vec<(String, String)>> {
    let source = Source::open(&Location::parse(image)?, None, None, &asked.registry).await?;
    labels(&source, &this_machine()).await
}

/// The grants as text, or the reason why the container would not be created.
fn decide(pod: &Pod, labels: &[(String, String)], rules: Rules) -> Result<String, String> {
    let image = asks::requested(&OF_IMAGE, labels).map_err(|error| error.to_string())?;
    let annotations: HashMap<_, _> = pod.annotations.iter().cloned().collect();
    let pod = Annotations::parse(&annotations).map_err(|error| error.to_string())?.requested;
    let merged = merge(&MergeInput { rules, image, pod });
    merged.map(|grants| grants.to_string()).map_err(|error| error.to_string())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, checked) in self.containers.iter().enumerate() {
            let Checked { pod, container, image, grants, reason, .. } = checked;
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{pod}, container {container} ({image}): ")?;
            match reason {
                Some(reason) => write!(f, "refused\n  {reason}")?,
                None => write!(f, "admitted")?,
            }
            grants.iter().try_for_each(|grant| write!(f, "\n  {grant}"))?;
        }
        Ok(())
    }
}
