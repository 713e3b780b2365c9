//! Images that are pulled over a bad link, such as one by satellite: slow, far and lossy.
//!
//! The registry is in a network namespace of the story's own. A veth pair joins it to the node, and netem spoils both ends
//! of the pair. `make test-node` runs these on a node whose kernel has netem.
//!
//! Bounds are on payload: what arrives without the headers of each frame, which alone are 4.6 % of a blob.

use std::fmt;
use std::fs;
use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::containerd::{repository, wasm_image};
use tests::node::KUBERNETES;
use tests::registry::{Daemon, Registry};
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, RunningPod, command, figure, network, on_each_containerd};

/// The link in each direction, as netem takes it. The round trip is twice the delay.
const BAD: &str = "rate 128kbit delay 300ms loss 2%";

/// Time limit of a pull, and of waiting for a part of one.
const PULL: Duration = Duration::from_secs(600);

/// The registry's name for the node.
const HOST: &str = "registry.tests";

/// The guest: a component of 470 kB, which compresses to less than a third.
const GUEST: &str = "hello-p3.wasm";

/// What the guest says.
const GREETING: &str = "hello from WASI 0.3\n";

/// Headers in a frame that carries a part of a blob: Ethernet (14 bytes), IPv4 (20) and TCP with timestamps (32).
const HEADERS: u64 = 66;

/// Largest part of the layers that a pull may receive twice, in percent. netem drops a frame before the node counts it, so
/// only needless retransmissions count.
const TWICE: u64 = 2;

/// What a pull may receive beside layers: manifest, config, and the heads of HTTP responses.
const BESIDE: u64 = 6_000;

/// Size of the pieces in which containerd writes what it receives of a layer (`content.Copy`).
const PIECE: u64 = 1 << 20;

/// A link over which nothing has arrived for this time is quiet. It is several round trips.
const QUIET: Duration = Duration::from_secs(3);

/// What the node has received over a link.
#[derive(Debug, Clone, Copy)]
struct Received {
    bytes: u64,
    frames: u64,
}

impl Received {
    /// Bytes without headers.
    fn payload(self) -> u64 {
        self.bytes.saturating_sub(HEADERS * self.frames)
    }
}

impl Sub for Received {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { bytes: self.bytes - earlier.bytes, frames: self.frames - earlier.frames }
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, frames } = self;
        write!(
            f,
            "{} bytes of payload ({bytes} bytes on the wire, {frames} frames)",
            self.payload()
        )
    }
}

/// A network namespace and the link to it. They exist as long as this value.
#[derive(Debug)]
struct Link {
    /// Name of the network namespace, and of the interface in it.
    far: String,
    /// Name of the node's interface.
    near: String,
    /// Address and port of the registry in the namespace.
    registry: String,
}

impl Link {
    /// Makes a perfect link.
    fn create(node: &Node) -> Result<Self> {
        let (_lock, subnet) = network::free_subnet()?;
        // By the node's name, its traces are recognised.
        let name = node.folder().file_name().unwrap_or_default().to_string_lossy();
        let link = Self {
            far: format!("{name}-far"),
            near: format!("{name}-near"),
            registry: format!("{subnet}.2:5000"),
        };
        let Self { far, near, .. } = &link;
        command::must(&format!("ip netns add {far}"))?;
        command::must(&format!("ip link add {near} type veth peer name {far} netns {far}"))?;
        command::must(&format!("ip address add {subnet}.1/30 dev {near}"))?;
        command::must(&format!("ip -n {far} address add {subnet}.2/30 dev {far}"))?;
        // A veth pair would take many segments of TCP as one frame, which netem would drop as one.
        command::must(&format!("ip link set {near} gso_max_segs 1 up"))?;
        command::must(&format!("ip -n {far} link set {far} gso_max_segs 1 up"))?;
        Ok(link)
    }

    /// Makes the link as bad as [`BAD`].
    fn spoil(&self) -> Result<()> {
        let Self { far, near, .. } = self;
        command::must(&format!("tc qdisc add dev {near} root netem {BAD}"))?;
        command::must(&format!("tc -n {far} qdisc add dev {far} root netem {BAD}")).map(drop)
    }

    fn set(&self, state: &str) -> Result<()> {
        command::must(&format!("ip link set {} {state}", self.near)).map(drop)
    }

    fn network(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.far)
    }

    fn received(&self) -> Result<Received> {
        let counters = Path::new("/sys/class/net").join(&self.near).join("statistics");
        let counter = |name: &str| -> Result<u64> {
            let text = fs::read_to_string(counters.join(name))?;
            text.trim().parse().with_context(|| format!("{name}: {text:?}"))
        };
        Ok(Received { bytes: counter("rx_bytes")?, frames: counter("rx_packets")? })
    }

    /// Waits until so much was received since `start`.
    fn until_received(&self, start: Received, payload: u64) -> Result<()> {
        wait::until(PULL, &format!("{payload} bytes over the link"), || {
            Ok(((self.received()? - start).payload() >= payload).then_some(()))
        })
    }

    /// Waits until nothing of an earlier connection arrives any more, and returns what was received until then.
    fn until_quiet(&self) -> Result<Received> {
        let (mut last, mut since) = (self.received()?, Instant::now());
        wait::until(PULL, "a quiet link", || {
            let received = self.received()?;
            if received.frames != last.frames {
                (last, since) = (received, Instant::now());
            }
            Ok((since.elapsed() > QUIET).then_some(last))
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let near = Path::new("/sys/class/net").join(&self.near);
        for (there, removal) in [
            (near, format!("ip link delete {}", self.near)),
            (self.network(), format!("ip netns delete {}", self.far)),
        ] {
            if there.exists()
                && let Err(error) = command::must(&removal)
            {
                eprintln!("{error:#}");
            }
        }
    }
}

/// Builds an image of the guest, puts it into the registry of that node, and returns the sizes of its layers. The registry
/// is on loopback for that, where `wasm-image` takes it without TLS.
fn push(node: &Node, name: &str, words: &[&str]) -> Result<Vec<u64>> {
    let registry = Daemon::start(node.folder())?;
    let guest = repository().join("target/images").join(GUEST).display().to_string();
    let tag = format!("{}/{name}:1", registry.address);
    let fixed = ["build", &guest, "--tag", &tag, "--push", "--plain-http"];
    command::run(wasm_image(), fixed.iter().chain(words))?.success()?;
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    let url = format!("http://{}/v2/{name}/manifests/1", registry.address);
    let words = ["--silent", "--show-error", "--fail", "--noproxy", "*", "--header", accept, &url];
    let manifest: Value = serde_json::from_str(&command::run("curl", words)?.success()?.stdout)?;
    let layers = manifest["layers"].as_array().context("a manifest without layers")?;
    let sizes = layers.iter().map(|layer| layer["size"].as_u64().context("a layer without size"));
    sizes.collect()
}

/// Moves the node's registry to the other end of a bad link.
fn move_away(node: &Node) -> Result<(Link, Registry)> {
    let link = Link::create(node)?;
    let registry = Registry::start_within(node, HOST, &link.network(), &link.registry)?;
    link.spoil()?;
    Ok((link, registry))
}

fn pull(node: &Node, name: &str) -> Result<String> {
    node.cri.within(PULL).pull(&format!("{HOST}/{name}:1"), None)
}

/// Pulls an image, and does something during the pull. Returns what came of both.
fn pull_while<T>(
    node: &Node,
    name: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<(Result<String>, T)> {
    thread::scope(|scope| {
        let pull = scope.spawn(|| pull(node, name));
        let done = work();
        let pulled = pull.join().map_err(|_| anyhow!("the pull has panicked"))?;
        Ok((pulled, done?))
    })
}

/// Runs the image without a `command`.
fn greets(pod: &RunningPod<'_>, name: &str, image: &str) -> Result<()> {
    let container = pod.run(&Container::new(name, image))?;
    let exit = container.wait()?;
    assert_eq!((exit.code, &*container.logs()?.stdout), (0, GREETING), "{name}: {exit:?}");
    Ok(())
}

/// Checks that little more was received than those bytes of layers.
fn is_little_more(what: &str, received: Received, of_layers: u64) -> Result<()> {
    figure::note(&format!("{what}: {of_layers} bytes of layers to receive, received {received}"))?;
    let most = of_layers * (100 + TWICE) / 100 + BESIDE;
    assert!(received.payload() <= most, "{what}: {received}, but at most {most} are allowed");
    Ok(())
}

#[test]
#[ignore = "needs netem: make test-node"]
fn a_pull_receives_little_more_than_the_layers_and_the_guest_runs() -> Result<()> {
    on_each_containerd(|node| {
        let mut images = Vec::new();
        for (name, words) in [("plain", &[][..]), ("compressed", &["--compress"])] {
            images.push((name, push(node, name, words)?.iter().sum()));
        }
        let (link, _registry) = move_away(node)?;
        let pod = node.run_pod(&Pod::new("link"))?;
        for (name, layers) in images {
            let (start, begin) = (link.received()?, Instant::now());
            let image = pull(node, name)?;
            let received = link.received()? - start;
            let what = format!("{name}, in {} s", begin.elapsed().as_secs());
            assert!(received.payload() > layers, "{what}: the layers came another way");
            is_little_more(&what, received, layers)?;
            greets(&pod, name, &image)?;
        }
        Ok(())
    })
}

/// TCP sends again what was lost while the link was down. Neither containerd nor the registry notices.
#[test]
#[ignore = "needs netem: make test-node"]
fn a_pull_goes_on_when_the_link_was_down_for_a_minute() -> Result<()> {
    on_each_containerd(|node| {
        let layers = push(node, "outage", &[])?.iter().sum::<u64>();
        let (link, _registry) = move_away(node)?;
        let start = link.received()?;
        let (pulled, ()) = pull_while(node, "outage", || {
            link.until_received(start, layers / 2)?;
            link.set("down")?;
            thread::sleep(Duration::from_secs(60));
            link.set("up")
        })?;
        let image = pulled?;
        is_little_more("down for a minute", link.received()? - start, layers)?;
        greets(&node.run_pod(&Pod::new("outage"))?, "outage", &image)
    })
}

/// Without link, containerd waits for TCP to give up: nearly three minutes, because keep-alive probes begin after 30 s, and
/// nine must fail, 15 s each. The pull then fails. It writes what it has of the layer, but it also deletes its lease, so
/// containerd's next garbage collection, within seconds, removes all that the pull has received. Over this link, even a pull
/// that begins at once comes too late, because it resolves the image first.
#[test]
#[ignore = "needs netem: make test-node"]
fn a_pull_that_fails_without_link_succeeds_later_and_begins_anew() -> Result<()> {
    on_each_containerd(|node| {
        let layers = push(node, "failed", &[])?.iter().sum::<u64>();
        let (link, _registry) = move_away(node)?;
        let start = link.received()?;
        let (failed, down) = pull_while(node, "failed", || {
            link.until_received(start, layers / 2)?;
            link.set("down")?;
            Ok(Instant::now())
        })?;
        let (error, waited) = (failed.err().context("pulled without link")?, down.elapsed());
        figure::note(&format!("failed after {} s without link: {error:#}", waited.as_secs()))?;
        assert!(waited > Duration::from_secs(120), "{waited:?}: {error:#}");
        // If this fails, containerd has learnt to keep it, and less is to be received below.
        wait::until(SOON, "containerd to remove the incomplete layer", || {
            Ok(ingests(node)?.is_empty().then_some(()))
        })?;
        link.set("up")?;
        let start = link.until_quiet()?;
        let image = pull(node, "failed")?;
        is_little_more("after a pull that failed", link.received()? - start, layers)?;
        greets(&node.run_pod(&Pod::new("failed"))?, "failed", &image)
    })
}

/// Returns the sizes of what containerd has of blobs that are not complete.
fn ingests(node: &Node) -> Result<Vec<u64>> {
    let ingests = node.folder().join("root/io.containerd.content.v1.content/ingest");
    let data = fs::read_dir(ingests)?.flatten().map(|ingest| ingest.path().join("data"));
    // An ingest that is complete by then is not there any more.
    Ok(data.filter_map(|data| Some(fs::metadata(data).ok()?.len())).collect())
}

/// A containerd that is killed leaves the complete blobs and the complete pieces of a layer. The lease of its pull, which
/// nothing deletes, keeps them for a day. The next pull requests only the rest of the layer, by a `Range`.
#[test]
#[ignore = "needs netem: make test-node"]
fn a_pull_of_a_killed_containerd_is_resumed() -> Result<()> {
    on_each_containerd(|node| {
        let random = node.volume("random")?.join("random");
        let mut bytes = vec![0; usize::try_from(PIECE + PIECE / 4)?];
        fastrand::fill(&mut bytes);
        fs::write(&random, bytes)?;
        let file = format!("{}:/random", random.display());
        let layers = push(node, "killed", &["--compress", "--file", &file])?;
        let &largest = layers.iter().max().context("no layers")?;
        let (link, _registry) = move_away(node)?;
        let (failed, ()) = pull_while(node, "killed", || {
            wait::until(PULL, "a piece of a layer", || {
                Ok(ingests(node)?.contains(&PIECE).then_some(()))
            })?;
            node.end_containerd(Signal::SIGKILL)
        })?;
        assert!(failed.is_err(), "pulled by a killed containerd: {failed:?}");
        node.start_containerd()?;
        let leases = node.ctr.lines(KUBERNETES, "leases list --quiet")?;
        let start = link.until_quiet()?;
        let image = pull(node, "killed")?;
        let what = format!("after a kill, of layers of {layers:?} bytes");
        is_little_more(&what, link.received()? - start, largest - PIECE)?;
        greets(&node.run_pod(&Pod::new("killed"))?, "killed", &image)?;
        let delete = |lease: &String| node.ctr.run(KUBERNETES, &["leases", "delete", lease]);
        leases.iter().try_for_each(|lease| delete(lease)?.success().map(drop))
    })
}
