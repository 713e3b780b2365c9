//! Events of a container's life, which containerd and kubelet get.

use anyhow::Result;
use tests::ctr::Run;
use tests::events::{Event, Events};
use tests::on_each_containerd;

fn topics(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.topic.as_str()).collect()
}

/// Runs a container that ends with exit code 3, and checks its events.
fn a_life_is_told(image: &str, command: &[&str]) -> Result<()> {
    on_each_containerd(|node| {
        let mut events = Events::subscribe(node)?;
        let id = node.ctr.new_id();
        let run = Run::new(&node.ctr_image(image)?).command(command);
        let output = node.ctr.run_container_as(&id, &run)?;
        assert_eq!(output.code, 3, "{output:?}");

        let told = events.of_life(&id)?;
        let life = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"];
        assert_eq!(topics(&told), life);
        assert_eq!(told[2].fields["exit_status"], 3);
        assert_eq!(told[3].fields["exit_status"], 3);
        for event in &told {
            assert_eq!(event.fields["pid"], told[0].fields["pid"], "{told:?}");
        }
        Ok(())
    })
}

#[test]
fn each_step_of_a_guests_life_is_told_once_and_in_order() -> Result<()> {
    a_life_is_told("hello-c", &["/hello-c.wasm", "3"])
}

#[test]
fn each_step_of_a_linux_containers_life_is_told_once_and_in_order() -> Result<()> {
    a_life_is_told("linux", &["sh", "-c", "exit 3"])
}

#[test]
fn a_container_that_cannot_start_is_not_told_to_have_started() -> Result<()> {
    on_each_containerd(|node| {
        let mut events = Events::subscribe(node)?;
        let id = node.ctr.new_id();
        let run = Run::new(&node.ctr_image("not-wasm")?);
        assert_ne!(node.ctr.run_container_as(&id, &run)?.code, 0);
        let told = events.so_far(&id)?;
        assert!(!topics(&told).contains(&"/tasks/start"), "{told:?}");
        Ok(())
    })
}
