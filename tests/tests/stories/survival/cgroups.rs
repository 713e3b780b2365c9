//! Containers that share a cgroup, or are below another's: each ends alone.

use std::fs;

use anyhow::Result;
use containerd_shim_protos::api::Status;
use tests::ctr::Run;
use tests::shim::{Bundle, Shim};
use tests::wait::{self, SOON};
use tests::{cgroups, on_each_containerd};

use crate::isolation::end;
use crate::resources::remove;
use crate::shim::{ends, granted};

/// Starts a container in that cgroup, with a pid namespace of its own or the node's.
fn in_cgroup(cgroup: &str, own_processes: bool) -> Result<(Bundle, Shim)> {
    let bundle = Bundle::shell("sleep 1000 & sleep 1000; true")?;
    bundle.edit_config(|config| {
        config["linux"]["cgroupsPath"] = cgroup.into();
        if !own_processes {
            config["linux"]["namespaces"] = serde_json::json!([{ "type": "mount" }]);
        }
    })?;
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    Ok((bundle, shim))
}

/// Waits until there are so many processes in a cgroup.
fn processes_in(cgroup: &str, number: usize) -> Result<()> {
    wait::until(SOON, &format!("{number} processes in {cgroup}"), || {
        let folders = cgroups::existing(cgroup.trim_start_matches('/'))?;
        let count = |folder: &std::path::PathBuf| {
            fs::read_to_string(folder.join("cgroup.procs")).map(|pids| pids.lines().count())
        };
        let right = folders.iter().all(|folder| count(folder).ok() == Some(number));
        Ok((right && folders.is_empty() == (number == 0)).then_some(()))
    })
}

#[test]
fn of_containers_that_share_a_cgroup_each_ends_alone_and_the_last_removes_it() -> Result<()> {
    for own_processes in [true, false] {
        let scope = Bundle::shell("true")?;
        let cgroup = scope.cgroup();
        let (first, first_shim) = in_cgroup(&cgroup, own_processes)?;
        let (second, second_shim) = in_cgroup(&cgroup, own_processes)?;
        processes_in(&cgroup, 6)?;
        end(&first_shim, &first)?;
        processes_in(&cgroup, 3)?;
        assert_eq!(second_shim.status(&second.id), Ok(Status::RUNNING));
        end(&second_shim, &second)?;
        processes_in(&cgroup, 0)?;
        first.close()?;
        second.close()?;
        scope.close()?;
    }
    Ok(())
}

#[test]
fn containers_below_the_cgroup_of_another_live_on_without_it() -> Result<()> {
    let scope = Bundle::shell("true")?;
    let (above, below) = (scope.cgroup(), format!("{}/below", scope.cgroup()));
    let (first, first_shim) = in_cgroup(&above, true)?;
    let (second, second_shim) = in_cgroup(&below, true)?;
    end(&first_shim, &first)?;
    processes_in(&below, 3)?;
    assert_eq!(second_shim.status(&second.id), Ok(Status::RUNNING));
    end(&second_shim, &second)?;
    processes_in(&above, 0)?;
    first.close()?;
    second.close()?;
    scope.close()
}

#[test]
fn a_create_that_fails_harms_nobody_in_its_cgroup_or_below() -> Result<()> {
    let scope = Bundle::shell("true")?;
    let (above, below) = (scope.cgroup(), format!("{}/below", scope.cgroup()));
    let (first, first_shim) = in_cgroup(&above, true)?;
    let (second, second_shim) = in_cgroup(&below, false)?;
    let failing = Bundle::shell("true")?;
    failing.edit_config(|config| {
        config["linux"]["cgroupsPath"] = above.as_str().into();
        config["process"]["args"] = serde_json::json!(["/bin/no-such-program"]);
    })?;
    let shim = failing.start()?;
    let refusal = shim.create(&failing.create_request()).expect_err("there is no such program");
    assert!(refusal.message.contains("no-such-program"), "{refusal:?}");
    ends(&shim, &failing)?;
    for (bundle, shim, cgroup) in [(&first, &first_shim, &above), (&second, &second_shim, &below)] {
        processes_in(cgroup, 3)?;
        assert_eq!(shim.status(&bundle.id), Ok(Status::RUNNING));
    }
    end(&first_shim, &first)?;
    end(&second_shim, &second)?;
    [first, second, failing, scope].into_iter().try_for_each(Bundle::close)
}

#[test]
fn a_cgroup_that_an_administrator_made_stays() -> Result<()> {
    let scope = Bundle::shell("true")?;
    let cgroup = scope.cgroup();
    let made = cgroups::create(&cgroup)?;
    let (bundle, shim) = in_cgroup(&cgroup, true)?;
    end(&shim, &bundle)?;
    assert!(made.iter().all(|folder| folder.is_dir()), "it was removed");
    cgroups::remove(&made)?;
    bundle.close()?;
    scope.close()
}

#[test]
fn a_container_of_runc_in_the_same_cgroup_is_left_alone() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.ctr_image("linux")?;
        let shared = format!("{}/shared", node.cgroup_parent());
        let run = |handler: &str, cgroup: &str| -> Result<String> {
            let id = node.ctr.new_id();
            let run = Run::new(&image).handler(handler).flags(&["--cgroup", cgroup]);
            node.ctr.run_detached(&id, &run.command(&["sleep", "1000"]))?.success()?;
            Ok(id)
        };
        let in_it = run("runc", &shared)?;
        let below_it = run("runc", &format!("{shared}/{}", node.ctr.new_id()))?;
        let ours = run(&tests::spec::handler(), &shared)?;
        remove(node, &ours)?;
        for id in [&in_it, &below_it] {
            assert!(node.ctr.is(id, "RUNNING")?, "{id} was killed");
        }
        remove(node, &below_it)?;
        remove(node, &in_it)
    })
}
