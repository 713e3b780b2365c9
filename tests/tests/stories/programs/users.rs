//! Containers in a user namespace: the ranges of ids, and who owns the files of the root.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Result;
use containerd_shim_protos::api::CreateTaskRequest;
use serde_json::json;
use tests::containerd::Containerd;
use tests::shim::Bundle;
use tests::spec::HOST_ID;
use tests::{Container, Node, Pod, command};

use super::runs;
use crate::pod::PORT;
use crate::shim::{ends, granted};

/// Runs the bundle's container and returns what it printed.
fn output(bundle: &Bundle) -> Result<String> {
    let path = bundle.folder.join("output");
    let mut request = bundle.create_request();
    request.set_stdout(format!("file://{}", path.display()));
    request.set_stderr(format!("file://{}", path.display()));
    let shim = bundle.start()?;
    granted(shim.create(&request))?;
    granted(shim.start(&bundle.id))?;
    granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, bundle)?;
    Ok(fs::read_to_string(path)?)
}

/// Allows all users to pass through the directories of the bundle, as containerd does.
fn let_pass(bundle: &Bundle) -> Result<()> {
    for directory in bundle.rootfs().ancestors().take(3) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
    }
    Ok(())
}

#[test]
fn a_user_namespace_may_have_several_ranges() -> Result<()> {
    let bundle = Bundle::shell("id -u; cat /proc/self/uid_map | tr -s ' '")?;
    let_pass(&bundle)?;
    bundle.edit_config(|config| {
        let range =
            |inside, outside, size| json!({ "containerID": inside, "hostID": outside, "size": size });
        let ranges = json!([range(0, 100_000, 1), range(1, 300_000, 1000), range(1001, 500_000, 5)]);
        config["linux"]["uidMappings"] = ranges.clone();
        config["linux"]["gidMappings"] = ranges;
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.push(json!({ "type": "user" }));
    })?;
    assert_eq!(output(&bundle)?, "0\n 0 100000 1\n 1 300000 1000\n 1001 500000 5\n");
    bundle.close()
}

/// A Create with an overlay whose lower directories have other ids than on the disk, as containerd 2 asks for it where the
/// container is in a user namespace.
fn with_ids(bundle: &Bundle, layers: [&Path; 2]) -> Result<CreateTaskRequest> {
    bundle.edit_config(|config| {
        let ranges = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        config["linux"]["uidMappings"] = ranges.clone();
        config["linux"]["gidMappings"] = ranges;
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.push(json!({ "type": "user" }));
    })?;
    let [upper, work] = ["upper", "work"].map(|name| bundle.folder.join(name));
    [&upper, &work].into_iter().try_for_each(fs::create_dir)?;
    chown(&upper, Some(100_000), Some(100_000))?;
    let ids = "0:100000:65536";
    let layers = layers.map(|layer| layer.display().to_string()).join(":");
    let options = [
        "index=off".to_owned(),
        format!("uidmap={ids}"),
        format!("gidmap={ids}"),
        format!("workdir={}", work.display()),
        format!("upperdir={}", upper.display()),
        format!("lowerdir={layers}"),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut request = bundle.create_request();
    request.set_rootfs(vec![tests::shim::mount("overlay", Path::new("overlay"), &options)]);
    Ok(request)
}

#[test]
fn a_root_in_a_user_namespace_is_the_container_roots_as_the_snapshotter_asks_for() -> Result<()> {
    let script = "set -e; id -u; stat -c %u /bin/sh; touch /made; stat -c %u /made; cat /layer";
    let bundle = Bundle::shell(&format!("({script}) >/output 2>&1"))?;
    let_pass(&bundle)?;
    let layer = bundle.folder.join("layers/other");
    fs::create_dir_all(&layer)?;
    fs::write(layer.join("layer"), "1\n")?;
    let layers = bundle.folder.join("layers");
    let image = tests::containerd::linux_rootfs();
    let copied = command::run("cp", ["-a".into(), image, layers.join("image")])?;
    copied.success()?;
    let request = with_ids(&bundle, [&layer, &layers.join("image")])?;
    let code = runs(&bundle, &request)?;
    let output = fs::read_to_string(bundle.folder.join("upper/output"))?;
    assert_eq!((code, output.as_str()), (0, "0\n0\n0\n1\n"));
    assert_eq!(fs::metadata(bundle.folder.join("upper/made"))?.uid(), 100_000);
    assert_eq!(fs::metadata(layer.join("layer"))?.uid(), 0);
    // The same applies to a guest.
    let bundle = Bundle::guest("hello-http")?;
    let image = bundle.folder.join("layers/image");
    fs::create_dir(bundle.folder.join("layers"))?;
    fs::rename(bundle.folder.join("image"), &image)?;
    fs::create_dir(bundle.folder.join("layers/other"))?;
    let request = with_ids(&bundle, [&image, &bundle.folder.join("layers/other")])?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&request))?;
    assert_eq!(fs::metadata(format!("/proc/{pid}/root/guest.wasm"))?.uid(), 100_000);
    // No mount of the layers with other ids is left on the node.
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let own: Vec<&str> = points.filter(|it| Path::new(it).starts_with(&bundle.folder)).collect();
    assert_eq!(own, [bundle.rootfs().as_os_str()], "{mounts}");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

/// A directory for PATH with a runc that reports, as runc does from 1.2 on, that it can give mounts other ids: containerd asks
/// for that before it runs a Pod in a user namespace.
fn runc_with_ids(directory: &Path) -> Result<String> {
    let reported =
        r#"s/"linux": {/"linux": { "mountExtensions": { "idmap": { "enabled": true } },/"#;
    let script = format!(
        "#!/bin/sh\nPATH=${{PATH#*:}}\ncase $* in *features) runc features | sed '{reported}';; \
         *) exec runc \"$@\";; esac\n"
    );
    let program = directory.join("runc");
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let built = tests::shim::built()?;
    Ok(format!("{}:{}:{}", directory.display(), built.display(), env::var("PATH")?))
}

#[test]
fn a_pod_in_a_user_namespace_runs_guests() -> Result<()> {
    // Earlier releases have no user namespaces.
    for mut containerd in Containerd::available()?.into_iter().filter(|it| it.major >= 2) {
        let directory = tempfile::tempdir()?;
        containerd.environment.push(("PATH".into(), runc_with_ids(directory.path())?));
        let node = Node::start(containerd)?;
        let pod = node.run_pod(&Pod::new("users").user_namespace())?;
        let volume = node.volume("data")?;
        let server = Container::new("server", &node.image("hello-http")?).user_namespace();
        let server = pod.run(&server.mount(&volume, "/data"))?;
        pod.http_get(PORT, "/")?;
        let process = PathBuf::from(format!("/proc/{}", server.process()?.pid));
        let ids = fs::read_to_string(process.join("uid_map"))?;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        assert_eq!(ids, ["0", &HOST_ID.to_string(), "65536"]);
        assert_eq!(fs::metadata(process.join("root"))?.uid(), HOST_ID);
        node.stop()?;
    }
    Ok(())
}
