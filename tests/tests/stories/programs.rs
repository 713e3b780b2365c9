//! Linux programs, held to what the node's default handler makes of them, and what comes of an OCI runtime that fails.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use containerd_shim_protos::api::{CreateTaskRequest, Status};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::ttrpc::Code;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use tests::containerd::Containerd;
use tests::ctr::Run;
use tests::processes::{self, Process, shim_of};
use tests::shim::Bundle;
use tests::spec::{HOST_ID, MountPropagation};
use tests::wait::{self, SOON, patient};
use tests::{Container, Node, Pod, command, on_each_containerd};

use crate::compiling::guest;
use crate::isolation::end;
use crate::pod::PORT;
use crate::shim::{ends, granted};

const SIGTERM: u32 = 15;

/// What a program finds of its isolation, without numbers that differ from one container to the next: its variables, rights
/// and limits, its network's loopback, devices and mounts, and what it may do with them.
const LOOK: &str = "
    echo home=$HOME path=$PATH; umask; id; cat /sys/class/net/lo/flags;
    grep -E '^(Umask|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status;
    cat /proc/self/limits /proc/self/oom_score_adj /proc/1/comm; ls /proc/self/fd | wc -l;
    for each in $(ls /dev); do echo $each $(stat -c '%F %a %u %t %T' /dev/$each); done;
    while read id parent device root point options rest; do
        echo $point $options ${rest%%[ :]*} ${rest##*- };
    done < /proc/self/mountinfo | sed 's/ [^ ]*dir=.*//; s/ [a-z]*=[^ ]*//g';
    mknod /tmp/null c 1 3 && echo > /tmp/null && echo made;
    mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk;
    mount -t tmpfs none /tmp; hostname other; echo 1 > /proc/sys/kernel/panic; cat /proc/kcore | head -c 1;
    for each in /proc/self/ns/*; do readlink $each | cut -d: -f1; done";

/// What a script prints under a handler, with its errors.
fn printed(node: &Node, handler: &str, flags: &[&str], script: &str) -> Result<String> {
    let run = Run::new(&node.ctr_image("linux")?).handler(handler).flags(flags);
    let script = format!("exec 2>&1; {script}");
    Ok(node.ctr.run_container(&run.command(&["sh", "-c", &script]))?.stdout)
}

#[test]
fn a_program_finds_what_it_finds_under_runc() -> Result<()> {
    on_each_containerd(|node| {
        let flags: [&[&str]; 4] = [&[], &["--net-host"], &["--privileged"], &["--read-only"]];
        for flags in flags {
            let [ours, runcs] = [&*tests::spec::handler(), "runc"]
                .map(|handler| printed(node, handler, flags, LOOK));
            let (ours, runcs) = (ours?, runcs?);
            assert!(runcs.contains("home=/") && runcs.contains("CapBnd"), "{runcs}");
            assert_eq!(ours, runcs, "{flags:?}");
        }
        Ok(())
    })
}

#[test]
fn a_program_of_a_pod_finds_what_it_finds_under_runc() -> Result<()> {
    on_each_containerd(|node| {
        let [ours, runcs] = [&*tests::spec::handler(), "runc"].map(|handler| {
            let pod = node.run_pod(&Pod::new(&format!("look-{handler}")).handler(handler))?;
            let linux = node.image("linux")?;
            let look = |name| Container::shell(name, &linux, LOOK).memory_limit(64 << 20);
            let first = pod.run(&look("first").runtime_default_seccomp())?;
            let user = pod.run(&look("user").user(1000, 2000))?;
            first.wait()?;
            user.wait()?;
            let other = pod.run(&Container::shell("other", &linux, "sleep 1000"))?;
            let executed = other.exec(&["sh", "-c", LOOK])?.stdout;
            let text = format!("{}{}{executed}", first.logs()?.stdout, user.logs()?.stdout);
            Ok(text.replace(&pod.id, "POD")) as Result<String>
        });
        assert_eq!(ours?, runcs?);
        Ok(())
    })
}

#[test]
fn containers_of_a_pod_that_shares_processes_see_each_other() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("shared").shared_processes())?;
        let linux = node.image("linux")?;
        let app = Container::shell("app", &linux, "exec sleep 1234").shared_processes();
        let app = pod.run(&app)?;
        let other = Container::shell("other", &linux, "ps; exec sleep 1000").shared_processes();
        let other = pod.run(&other)?;
        other.wait_for_output("sleep 1234")?;
        assert!(other.logs()?.stdout.contains("pause"), "{:?}", other.logs()?);
        assert!(other.exec(&["ps"])?.stdout.contains("sleep 1234"));
        other.stop(Duration::from_secs(1))?;
        assert!(app.is_running()?, "it was ended with the other");
        Ok(())
    })
}

#[test]
fn start_answers_when_a_program_is_executed_and_it_ends_by_the_first_signal() -> Result<()> {
    for _ in 0..30 {
        let bundle = Bundle::shell("trap 'exit 5' TERM; while :; do sleep 0.01; done")?;
        let shim = bundle.start()?;
        let pid = granted(shim.create(&bundle.create_request()))?;
        granted(shim.start(&bundle.id))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
        assert_eq!(name, "sh\n", "the program is not executed yet");
        // The kernel keeps no signal for the first process of a namespace before that has a handler.
        wait::until(SOON, "the shell's trap", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = u64::from_str_radix(caught.unwrap_or("0").trim(), 16)?;
            let is_set = caught & 1 << (SIGTERM - 1) != 0;
            Ok((is_set && status.starts_with("Name:\tsh\n")).then_some(()))
        })?;
        granted(shim.kill(&bundle.id, SIGTERM))?;
        assert_eq!(granted(shim.wait(&bundle.id))?, 5);
        granted(shim.delete(&bundle.id))?;
        ends(&shim, &bundle)?;
        bundle.close()?;
    }
    Ok(())
}

/// Where runc keeps the state of a bundle's container.
pub fn state(bundle: &Bundle) -> PathBuf {
    Path::new("/run/containerd/runc/tests").join(&bundle.id)
}

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

/// Lets everybody pass through the directories of the bundle, as those of containerd do.
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
    let image = tests::containerd::repository().join("target/images/linux-rootfs");
    let copied = command::run("cp", ["-a".into(), image, layers.join("image")])?;
    copied.success()?;
    let request = with_ids(&bundle, [&layer, &layers.join("image")])?;
    let code = runs(&bundle, &request)?;
    let output = fs::read_to_string(bundle.folder.join("upper/output"))?;
    assert_eq!((code, output.as_str()), (0, "0\n0\n0\n1\n"));
    assert_eq!(fs::metadata(bundle.folder.join("upper/made"))?.uid(), 100_000);
    assert_eq!(fs::metadata(layer.join("layer"))?.uid(), 0);
    // A guest's as well.
    let bundle = Bundle::guest("hello-http")?;
    let image = bundle.folder.join("layers/image");
    fs::create_dir(bundle.folder.join("layers"))?;
    fs::rename(bundle.folder.join("image"), &image)?;
    fs::create_dir(bundle.folder.join("layers/other"))?;
    let request = with_ids(&bundle, [&image, &bundle.folder.join("layers/other")])?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&request))?;
    assert_eq!(fs::metadata(format!("/proc/{pid}/root/guest.wasm"))?.uid(), 100_000);
    // Of the layers with other ids nothing is left on the node.
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
    // Earlier releases have none.
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

/// A directory that is a mount, in which another one is mounted; until it is dropped.
struct Mounts(PathBuf);

impl Mounts {
    fn make(directory: PathBuf) -> Result<Mounts> {
        const NOTHING: Option<&str> = None;
        fs::create_dir(&directory)?;
        mount(Some("none"), &directory, Some("tmpfs"), MsFlags::empty(), NOTHING)?;
        let made = Mounts(directory);
        fs::create_dir(made.below())?;
        mount(Some("none"), &made.below(), Some("tmpfs"), MsFlags::empty(), NOTHING)?;
        Ok(made)
    }

    fn below(&self) -> PathBuf {
        self.0.join("below")
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in [self.below(), self.0.clone()] {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
    }
}

fn add_mount(bundle: &Bundle, source: &Path, options: &[&str]) -> Result<()> {
    bundle.edit_config(|config| {
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        let destination = format!("/mnt/{}", mounts.len() - 2);
        mounts.push(json!({ "destination": destination, "type": "bind",
            "source": source, "options": options }));
    })
}

/// A bundle with a root of its own, in which places for mounts can be made.
fn writable(script: &str) -> Result<(Bundle, CreateTaskRequest)> {
    let bundle = Bundle::shell(script)?;
    let [upper, work] = ["upper", "work"].map(|name| bundle.folder.join(name));
    [&upper, &work].into_iter().try_for_each(fs::create_dir)?;
    let lower = tests::containerd::repository().join("target/images/linux-rootfs");
    let options = [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)];
    let options = options.map(|(name, path)| format!("{name}={}", path.display()));
    let mut request = bundle.create_request();
    let options = [&*options[0], &*options[1], &*options[2]];
    request.set_rootfs(vec![tests::shim::mount("overlay", Path::new("overlay"), &options)]);
    Ok((bundle, request))
}

/// Runs the container of a request to its end and returns its exit code.
fn runs(bundle: &Bundle, request: &CreateTaskRequest) -> Result<u32> {
    let shim = bundle.start()?;
    granted(shim.create(request))?;
    granted(shim.start(&bundle.id))?;
    let code = granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, bundle)?;
    Ok(code)
}

#[test]
fn a_mount_is_read_only_with_all_below_it_where_the_spec_says_so() -> Result<()> {
    let script = "touch /mnt/0/below/file && exit 1; touch /mnt/1/file && exit 2; \
                  touch /mnt/1/below/file || exit 3; exit 7";
    let (bundle, request) = writable(script)?;
    let mounts = Mounts::make(bundle.folder.join("volume"))?;
    add_mount(&bundle, &mounts.0, &["rbind", "rro"])?;
    add_mount(&bundle, &mounts.0, &["rbind", "ro"])?;
    assert_eq!(runs(&bundle, &request)?, 7);
    // A guest's as well, as its process has them before it starts.
    let shim = bundle.start()?;
    let pid = granted(shim.create(&guest(&bundle, 0, 1)?))?;
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let is_read_only = |point: &str| {
        let mut lines = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.find(|line| line[4] == point).map(|line| line[5].split(',').any(|it| it == "ro"))
    };
    assert_eq!(is_read_only("/mnt/0/below"), Some(true), "{table}");
    assert_eq!(is_read_only("/mnt/1/below"), Some(false), "{table}");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    drop(mounts);
    bundle.close()
}

#[test]
fn each_volume_has_the_propagation_that_it_asks_for() -> Result<()> {
    on_each_containerd(|node| {
        const NOTHING: Option<&str> = None;
        let pod = node.run_pod(&Pod::new("propagation"))?;
        let ways = [
            (MountPropagation::PropagationPrivate, ""),
            (MountPropagation::PropagationHostToContainer, "master"),
            (MountPropagation::PropagationBidirectional, "shared"),
        ];
        let look = "while read id parent device root point options rest; do
                        case $point in /volume-*) echo ${point#/} ${rest%%[-:]*};; esac;
                    done < /proc/self/mountinfo | sort";
        let mut container = Container::shell("app", &node.image("linux")?, look);
        for (number, (way, _)) in ways.iter().enumerate() {
            let volume = node.volume(&format!("volume-{number}"))?;
            mount(Some(&volume), &volume, NOTHING, MsFlags::MS_BIND, NOTHING)?;
            mount(NOTHING, &volume, NOTHING, MsFlags::MS_SHARED, NOTHING)?;
            container = container.mount_with(&volume, &format!("/volume-{number}"), *way);
        }
        let container = pod.run(&container)?;
        container.wait()?;
        let seen = container.logs()?.stdout;
        container.remove()?;
        for number in 0..ways.len() {
            umount2(&node.volume(&format!("volume-{number}"))?, MntFlags::MNT_DETACH)?;
        }
        let seen: Vec<_> = seen.lines().map(str::trim_end).collect();
        let expected = ways.iter().enumerate();
        let expected = expected.map(|(number, (_, word))| format!("volume-{number} {word}"));
        let expected: Vec<_> = expected.map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(seen, expected);
        Ok(())
    })
}

/// A Create with runc's runtime options.
fn with_options(bundle: &Bundle, options: &Options) -> Result<CreateTaskRequest> {
    let mut request = bundle.create_request();
    let any = Any {
        type_url: "containerd.runc.v1.Options".into(),
        value: options.write_to_bytes()?,
        ..Default::default()
    };
    request.options = MessageField::some(any);
    Ok(request)
}

/// Options that name a runtime which is a shell script in the bundle.
fn fake(bundle: &Bundle, script: &str) -> Result<Options> {
    let program = bundle.folder.join("fake-runtime");
    fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let binary_name = program.display().to_string();
    Ok(Options { binary_name, ..Default::default() })
}

#[test]
fn the_runtime_is_given_the_bundle_as_containerd_wrote_it() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    // What is in force only on cgroups v2, and what no library of ours knows.
    bundle.edit_config(|config| {
        config["linux"]["resources"] = json!({ "unified": { "memory.high": "1048576",
            "memory.swap.max": "0" }, "devices": [{ "allow": false, "access": "rwm" }] });
        config["linux"]["inTheFuture"] = json!({ "key": [1, 2] });
    })?;
    let written = fs::read_to_string(bundle.folder.join("config.json"))?;
    let script = "cd ${0%/*}; echo \"$@\" >> args; [ $7 = create ] || exit 0; \
                  cp $9/config.json given; exit 1";
    let mut options = fake(&bundle, script)?;
    options.root = bundle.folder.join("state").display().to_string();
    options.no_pivot_root = true;
    options.no_new_keyring = true;
    let shim = bundle.start()?;
    granted(shim.create(&with_options(&bundle, &options)?)).expect_err("it fails");
    assert_eq!(fs::read_to_string(bundle.folder.join("given"))?, written);
    let args = fs::read_to_string(bundle.folder.join("args"))?;
    let (folder, id) = (bundle.folder.display(), &bundle.id);
    let create = args.lines().next().unwrap_or_default();
    assert!(create.starts_with(&format!("--root {folder}/state/tests --log /proc/")), "{create}");
    let expected = format!(
        "create --bundle {folder} --pid-file {folder}/wasmtime/pid --no-pivot --no-new-keyring {id}"
    );
    assert!(create.ends_with(&expected), "{create}");
    assert!(args.ends_with(&format!("delete --force {id}\n")), "{args}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn what_a_client_asks_for_later_reaches_the_runtime_as_it_was_written() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let script = "cd ${0%/*}; for word in \"$@\"; do case $before in --process | --resources) \
                  cat $word >given$before;; esac; before=$word; done; exec runc \"$@\"";
    let request = with_options(&bundle, &fake(&bundle, script)?)?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    granted(shim.create(&request))?;
    granted(shim.start(id))?;
    let process = json!({ "cwd": "/", "args": ["/bin/true"], "user": { "uid": 0, "gid": 0 },
        "inTheFuture": { "key": [1, 2] } });
    granted(shim.exec_process(id, "exec", &process, Path::new("")))?;
    granted(shim.start_exec(id, "exec"))?;
    assert_eq!(granted(shim.wait_exec(id, "exec"))?, 0);
    let resources =
        json!({ "memory": { "limit": 64 << 20, "inTheFuture": true }, "inTheFuture": { "a": 1 } });
    granted(shim.update(id, &resources))?;
    let given = |option: &str| -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(
            bundle.folder.join(format!("given{option}")),
        )?)?)
    };
    assert_eq!(given("--process")?, process);
    assert_eq!(given("--resources")?, resources);
    end(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn an_exec_that_fails_ends_no_daemon_of_a_container_in_the_nodes_pid_namespace() -> Result<()> {
    const DAEMONS: usize = 60;
    let script = "read go </go; i=0; while [ $i -lt 60 ]; do (setsid sleep 1234 &); i=$((i+1)); \
                  sleep 0.03; done; sleep 1000";
    let bundle = Bundle::shell(script)?;
    let go = bundle.fifo("go")?;
    bundle.edit_config(|config| {
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "ipc" }]);
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({ "destination": "/dev/go", "type": "bind", "source": go,
            "options": ["bind"] }));
        let args = script.replace("/go", "/dev/go");
        config["process"]["args"] = json!(["/bin/sh", "-c", args]);
    })?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(id))?;
    fs::write(&go, "go\n")?;
    for number in 0..5 {
        let exec_id = format!("exec-{number}");
        granted(shim.exec(id, &exec_id, &["/no/such/program"]))?;
        shim.start_exec(id, &exec_id).expect_err("is not there");
    }
    wait::until(SOON, "all daemons to be there", || {
        let family = processes::family(&shim_of(id)?);
        let daemons = family.iter().filter(|it| it.command.contains("sleep 1234")).count();
        Ok((daemons == DAEMONS).then_some(()))
    })?;
    end(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn systemd_is_asked_for_a_cgroup_where_the_options_say_so() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let scope = format!("a.slice:cri-containerd:{}", bundle.id);
    bundle.edit_config(|config| config["linux"]["cgroupsPath"] = scope.clone().into())?;
    let mut options = fake(&bundle, "cd ${0%/*}; echo \"$@\" >> args; exit 1")?;
    options.systemd_cgroup = true;
    let shim = bundle.start()?;
    granted(shim.create(&with_options(&bundle, &options)?)).expect_err("it fails");
    let args = fs::read_to_string(bundle.folder.join("args"))?;
    assert!(args.contains("--log-format json --systemd-cgroup create --bundle"), "{args}");
    let config = fs::read_to_string(bundle.folder.join("config.json"))?;
    assert!(config.contains(&scope), "{config}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn without_a_runtime_guests_run_and_a_program_is_refused_with_a_reason() -> Result<()> {
    let mut bundle = Bundle::shell("true")?;
    bundle.set("PATH", "/no/such/directory:/nor/this");
    let shim = bundle.start()?;
    let refusal = shim.create(&bundle.create_request()).expect_err("there is no runtime");
    for word in ["\"runc\"", "/no/such/directory:/nor/this", "BinaryName"] {
        assert!(refusal.message.contains(word), "no {word} in {refusal:?}");
    }
    let options = Options { binary_name: "/no/such/crun".into(), ..Default::default() };
    let refusal = shim.create(&with_options(&bundle, &options)?).expect_err("nor this one");
    assert!(refusal.message.contains("\"/no/such/crun\""), "{refusal:?}");
    let request = guest(&bundle, 0, 1)?;
    granted(shim.create(&request))?;
    granted(shim.start(&bundle.id))?;
    assert_eq!(granted(shim.wait(&bundle.id))?, 0);
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_shim_named_as_the_runtime_is_none() -> Result<()> {
    let bundle = Bundle::shell("exit 6")?;
    let binary_name = "/usr/local/bin/containerd-shim-wasmtime-v1".into();
    let options = Options { binary_name, ..Default::default() };
    assert_eq!(runs(&bundle, &with_options(&bundle, &options)?)?, 6);
    bundle.close()
}

#[test]
fn a_runtime_that_hangs_keeps_neither_its_caller_nor_the_shim() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let options = fake(&bundle, "[ $7 = create ] || exit 0; sleep 1000 & sleep 1000")?;
    let shim = bundle.start()?;
    let start = Instant::now();
    let request = with_options(&bundle, &options)?;
    let refusal = shim.create_within(Duration::from_secs(8), &request).expect_err("it hangs");
    assert!(start.elapsed() < patient(SOON), "{refusal:?}");
    assert!(refusal.message.contains("did not end within"), "{refusal:?}");
    let refusal = shim.status(&bundle.id).expect_err("nothing is there");
    assert_eq!(refusal.code, Code::NOT_FOUND);
    wait::until(SOON, "nothing to be left", || {
        let left = processes::family(&shim_of(&bundle.id)?);
        Ok(left.iter().all(|it| !it.command.contains("sleep")).then_some(()))
    })?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_trap_in_a_container_keeps_whoever_executes_something_no_longer_than_it_waits() -> Result<()> {
    // runc looks up the user's home before it executes anything, and nobody writes to the fifo.
    let script = "mount -t tmpfs none /etc; mkfifo /etc/passwd; trap 'exit 5' TERM; \
                  while :; do sleep 0.1; done";
    let bundle = Bundle::shell(script)?;
    bundle.edit_config(|config| {
        let all: Vec<Value> = ["CAP_SYS_ADMIN", "CAP_KILL"].map(Value::from).into();
        config["process"]["capabilities"] =
            json!({ "bounding": all, "effective": all, "permitted": all });
    })?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    let pid = granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(id))?;
    let trap = PathBuf::from(format!("/proc/{pid}/root/etc/passwd"));
    wait::until(SOON, "the trap", || Ok(trap.exists().then_some(())))?;
    granted(shim.exec(id, "exec", &["/bin/true"]))?;
    let start = Instant::now();
    shim.start_exec_within(Duration::from_secs(2), id, "exec").expect_err("it does not start");
    assert!(start.elapsed() < SOON);
    assert_eq!(granted(shim.status(id))?, Status::RUNNING);
    wait::until(SOON, "what was to be executed to end", || {
        let left: Vec<Process> = processes::family(&shim_of(id)?);
        Ok(left.iter().all(|it| !it.command.contains("init")).then_some(()))
    })?;
    granted(shim.kill(id, SIGTERM))?;
    assert_eq!(granted(shim.wait(id))?, 5);
    granted(shim.delete(id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn what_runc_reports_of_itself_is_reported() -> Result<()> {
    let mut bundle = Bundle::shell("true")?;
    let info = bundle.execute(&["-info"])?.success()?.stdout;
    for word in ["features/Features", "\"mountOptions\"", "\"rprivate\"", "\"namespaces\""] {
        assert!(info.contains(word), "no {word} in {info}");
    }
    assert!(info.contains("\"rro\""), "{info}");
    bundle.set("PATH", "/no/such/directory");
    let info = bundle.execute(&["-info"])?.success()?.stdout;
    assert!(info.contains("io.containerd.wasmtime.v1") && !info.contains("Features"), "{info}");
    bundle.close()
}
