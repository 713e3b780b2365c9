//! The node's policy.

use std::fs;

use anyhow::{Context, Result};
use tests::containerd::repository;
use tests::{Container, Node, Pod, config, on_each_containerd};

use super::{
    CONNECT, OTHER, POLICY, PROFILE, SERVER, Server, assert_denied, is_reached, number, run,
};
use crate::composing::packed_with;

pub fn write_policy(node: &Node, text: &str) -> Result<()> {
    Ok(fs::write(config::policy(node.folder()), text)?)
}

/// Error with which a container of a Pod with this annotation is refused.
fn refusal(node: &Node, annotation: Option<(&str, &str)>) -> Result<String> {
    super::refusal(node, &node.image("hello")?, annotation.as_slice())
}

#[test]
fn more_than_the_node_allows_is_refused_with_key_value_who_forbids_it_and_what_is_allowed()
-> Result<()> {
    on_each_containerd(|node| {
        write_policy(node, "[ceiling]\nallow-connect = [\"10.0.0.0/8:5432\"]\n")?;
        let path = config::policy(node.folder());
        let asked = Some((CONNECT, "10.0.0.0/8:5432, 10.0.0.0/8:22"));
        let text = refusal(node, asked)?;
        let expected = format!(
            "annotation {CONNECT}: \"10.0.0.0/8:22\" is more than [ceiling] in {} allows; \
             allowed is \"10.0.0.0/8:5432\"",
            path.display()
        );
        assert!(text.contains(&expected), "{text}");
        let text = refusal(node, Some((PROFILE, "privileged")))?;
        assert!(text.contains("allowed is baseline or a stricter one"), "{text}");
        Ok(())
    })
}

#[test]
fn a_policy_that_does_not_parse_or_is_not_there_is_never_no_policy() -> Result<()> {
    on_each_containerd(|node| {
        let path = config::policy(node.folder()).display().to_string();
        write_policy(node, "[ceiling]\nprofile = \"restricted\"\nallow-htp = []\n")?;
        let text = refusal(node, None)?;
        let expected = format!("{path}: line 3, column 1: unknown field `allow-htp`");
        assert!(text.contains(&expected), "{text}");
        fs::remove_file(&path)?;
        let text = refusal(node, None)?;
        assert!(
            text.contains(&format!("cannot read the node's policy for guests {path}")),
            "{text}"
        );
        Ok(())
    })
}

#[test]
fn a_changed_policy_counts_for_the_next_container_and_not_for_those_that_exist() -> Result<()> {
    on_each_containerd(|node| {
        write_policy(node, "")?;
        let pod = node.run_pod(&Pod::new("changing").handler(POLICY))?;
        let _server = Server::start(&pod)?;
        let image = node.image("hello")?;
        let sleeper = |name: &str| pod.run(&Container::new(name, &image).args(&["sleep", "60"]));
        let before = sleeper("before")?;
        write_policy(
            node,
            &format!(
                "[defaults]\nprofile = \"restricted\"\n[[rules]]\nnamespace = \"*\"\nimage = \"*/samples/hello:1\"\n\
                 defaults.allow-connect = [\"{OTHER}:{SERVER}\"]\n"
            ),
        )?;
        let after = sleeper("after")?;
        let connect = |container: &tests::RunningContainer, host: &str| {
            container.exec(&["/hello.wasm", "tcp-connect", &format!("{host}:{SERVER}")])
        };
        assert_eq!(connect(&before, "127.0.0.1")?.code, 0);
        assert_eq!(connect(&after, OTHER)?.code, 0);
        let denied = connect(&after, "127.0.0.1")?;
        assert!(denied.code == 1 && denied.stderr.contains("access-denied"), "{denied:?}");

        let grants = before.exec(&["grants"])?.success()?.stdout;
        assert!(grants.contains("profile: baseline (node)\n"), "{grants}");
        let grants = after.exec(&["grants"])?.success()?.stdout;
        let connect = format!("connect: {OTHER}:{SERVER} (node's file, {CONNECT})\n");
        for line in
            ["profile: restricted (node)\n", "files: nothing (profile restricted)\n", &connect]
        {
            assert!(grants.contains(line), "no {line:?} in {grants}");
        }
        Ok(())
    })
}

#[test]
fn the_needs_of_an_image_are_granted_within_the_ceiling() -> Result<()> {
    on_each_containerd(|node| {
        let wasm = repository().join("target/images/hello.wasm").display().to_string();
        let need = format!("{CONNECT}={OTHER}:{SERVER}");
        let file = format!("{wasm}:/hello.wasm");
        let words = ["--label", &need, "--file", &file, "--entrypoint", "/hello.wasm"];
        let image = packed_with(node, "needy", &words)?;
        let target = |host: &str| format!("{host}:{SERVER}");
        write_policy(node, "[defaults]\nprofile = \"restricted\"\n")?;
        let pod = node.run_pod(&Pod::new("needy").handler(POLICY))?;
        let _server = Server::start(&pod)?;
        let guest = |host: &str| {
            let container = Container::new(&number("needy"), &image);
            run(&pod, container.args(&["tcp-connect", &target(host)]))
        };
        assert!(is_reached(&guest(OTHER)?));
        assert_denied(&guest("127.0.0.1")?, &["not granted"]);
        write_policy(node, "[ceiling]\nallow-connect = []\n")?;
        let refused = pod.run(&Container::new("more", &image)).map(drop);
        let text = format!("{:#}", refused.err().context("it runs")?);
        let expected = format!("image label {CONNECT}: \"{}\" is more than", target(OTHER));
        assert!(text.contains(&expected), "{text}");
        Ok(())
    })
}

/// Annotation in which containerd passes a Pod's namespace on to a runtime.
const NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";

#[test]
fn a_rule_for_a_namespace_is_for_its_pods_alone() -> Result<()> {
    on_each_containerd(|node| {
        let target = format!("{OTHER}:{SERVER}");
        let wider = format!("{target}, 127.0.0.1:{SERVER}");
        write_policy(
            node,
            &format!(
                "[ceiling]\nallow-connect = [\"{target}\"]\n[defaults]\nprofile = \"restricted\"\n\
                 [[rules]]\nnamespace = \"shop\"\ndefaults.allow-connect = [\"{target}\"]\n\
                 ceiling.allow-connect = [\"{target}\", \"127.0.0.1:{SERVER}\"]\n"
            ),
        )?;
        let image = node.image("hello")?;
        let connect = Container::new("connect", &image).args(&["tcp-connect", &target]);
        for (namespace, has_rule) in
            [("shop", true), ("default", false), ("workshop", false), ("shop-2", false)]
        {
            // What the author of a Pod writes does not change its namespace.
            let in_namespace = |name| {
                let pod = Pod::new(&number(name)).handler(POLICY).namespace(namespace);
                pod.annotation(NAMESPACE, "shop")
            };
            let pod = node.run_pod(&in_namespace("silent"))?;
            let _server = Server::start(&pod)?;
            let answer = run(&pod, connect.clone())?;
            if has_rule {
                assert!(is_reached(&answer), "{namespace}: {answer:?}");
            } else {
                assert_denied(&answer, &["not granted"]);
            }
            let pod = node.run_pod(&in_namespace("asking").annotation(CONNECT, &wider))?;
            let refused = pod.run(&connect).map(drop).err();
            assert_eq!(refused.is_none(), has_rule, "{namespace}: {refused:?}");
            if let Some(error) = refused {
                let expected = format!(
                    "annotation {CONNECT}: \"127.0.0.1:{SERVER}\" is more than [ceiling] in"
                );
                assert!(format!("{error:#}").contains(&expected), "{namespace}: {error:#}");
            }
        }
        Ok(())
    })
}
