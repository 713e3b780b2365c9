//! Pods in manifests of Kubernetes: those of their own, and the templates of workloads.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_yaml_ng::Deserializer;

/// Pod, or the template of one.
#[derive(Debug)]
pub struct Pod {
    /// Kind and name of the object.
    pub name: String,
    /// Namespace that the object names.
    pub namespace: Option<String>,
    /// Annotations of the Pod, in the order of their keys.
    pub annotations: Vec<(String, String)>,
    /// Name and image of each container.
    pub containers: Vec<(String, String)>,
}

/// Lists of containers in the spec of a Pod.
const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// Reads the Pods of a file with any number of documents. Objects without a Pod are left out.
///
/// # Errors
/// If it is not YAML, or a Pod is malformed.
pub fn read(text: &str) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for document in Deserializer::from_str(text) {
        add(&Value::deserialize(document)?, &mut pods)?;
    }
    Ok(pods)
}

fn add(object: &Value, pods: &mut Vec<Pod>) -> Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind == "List" {
        let items = object["items"].as_array().into_iter().flatten();
        return items.into_iter().try_for_each(|item| add(item, pods));
    }
    let template = match kind {
        "Pod" => object,
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => &object["spec"]["template"],
    };
    if template["spec"]["containers"].is_null() {
        return Ok(());
    }
    let text = |name: &str| object["metadata"][name].as_str().map(str::to_owned);
    let name =
        format!("{kind} {}", text("name").or_else(|| text("generateName")).unwrap_or_default());
    let pod = pod(template, name.clone(), text("namespace"));
    pods.push(pod.with_context(|| name)?);
    Ok(())
}

fn pod(template: &Value, name: String, namespace: Option<String>) -> Result<Pod> {
    let none = Map::new();
    let annotations = template["metadata"]["annotations"].as_object().unwrap_or(&none);
    let mut texts = Vec::new();
    for (key, value) in annotations {
        let Some(value) = value.as_str() else {
            bail!("annotation {key}: {value} is no text; allowed is a text in quotes");
        };
        texts.push((key.clone(), value.to_owned()));
    }
    texts.sort();
    let lists = CONTAINERS.iter().filter_map(|list| template["spec"][list].as_array());
    let field =
        |container: &Value, name: &str| container[name].as_str().unwrap_or_default().to_owned();
    let containers = lists.flatten().map(|it| (field(it, "name"), field(it, "image"))).collect();
    Ok(Pod { name, namespace, annotations: texts, containers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_found_in_every_kind_of_workload() {
        let text = "
apiVersion: v1
kind: Pod
metadata: { name: one, namespace: shop, annotations: { b: x, a: y } }
spec: { initContainers: [{ name: i, image: i:1 }], containers: [{ name: c, image: c:1 }] }
---
kind: Service
metadata: { name: none }
---
kind: Deployment
metadata: { name: two }
spec: { template: { spec: { containers: [{ name: c, image: c:2 }] } } }
---
kind: List
items:
  - kind: CronJob
    metadata: { name: three }
    spec: { jobTemplate: { spec: { template: { spec: { containers: [{ name: c, image: c:3 }] } } } } }
";
        let pods = read(text).unwrap();
        let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(names, ["Pod one", "Deployment two", "CronJob three"]);
        assert_eq!(pods[0].namespace.as_deref(), Some("shop"));
        assert_eq!(pods[0].annotations[0], ("a".into(), "y".into()));
        assert_eq!(pods[0].containers, [("i".into(), "i:1".into()), ("c".into(), "c:1".into())]);
    }

    #[test]
    fn an_annotation_that_is_no_text_is_refused_as_the_api_server_does() {
        let text =
            "{kind: Pod, metadata: {name: a, annotations: {k: true}}, spec: {containers: []}}";
        let error = format!("{:#}", read(text).unwrap_err());
        assert!(
            error.contains("Pod a") && error.contains("annotation k: true is no text"),
            "{error}"
        );
    }
}
