//! Tests with a root file system, a volume, and a secret of the host beside them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

use oci_spec::runtime::MountBuilder;

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    mounts: Vec<Mount>,
}

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("root/bin")).unwrap();
        fs::create_dir_all(directory.path().join("volume/sub")).unwrap();
        fs::write(directory.path().join("secret"), "host").unwrap();
        fs::write(directory.path().join("root/bin/tool"), "root").unwrap();
        fs::write(directory.path().join("volume/app"), "volume").unwrap();
        Fixture { directory, mounts: Vec::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn link(&self, from: &str, to: impl AsRef<Path>) {
        symlink(to, self.path(from)).unwrap();
    }

    fn mount(mut self, source: &str, at: &str, kind: &str) -> Fixture {
        let mount = MountBuilder::default().destination(at).typ(kind).source(self.path(source));
        self.mounts.push(mount.build().unwrap());
        self
    }

    /// Returns the text of the file, or what exists there instead.
    fn at(&self, path: &str) -> String {
        let root = Root::new(self.path("root"), &self.mounts).unwrap();
        match root.look(Path::new(path)).unwrap() {
            Found::File(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            }
            Found::Other { found, .. } => found.into(),
            Found::Nothing => "nothing".into(),
        }
    }
}

#[test]
fn a_link_cannot_leave_the_root() {
    let fixture = Fixture::new();
    let secret = fixture.path("secret");
    fixture.link("root/absolute", &secret);
    fixture.link("root/relative", "../secret");
    fixture.link("root/bin/far", "../../../../../../../../../../../../etc/passwd");
    fixture.link("root/directory", fixture.directory.path());
    for path in ["/absolute", "/relative", "/bin/far", "/directory/secret", "/../secret"] {
        assert_eq!(fixture.at(path), "nothing", "{path}");
    }
    assert_eq!(fixture.at(&secret.display().to_string()), "nothing");
}

#[test]
fn a_link_is_followed_inside_the_root() {
    let fixture = Fixture::new();
    fixture.link("root/absolute", "/bin/tool");
    fixture.link("root/clamped", "../../bin/tool");
    fixture.link("root/usr", "bin");
    for path in ["/bin/tool", "/absolute", "/clamped", "/usr/tool", "/usr/../bin/./tool"] {
        assert_eq!(fixture.at(path), "root", "{path}");
    }
}

#[test]
fn a_loop_of_links_leads_to_nothing() {
    let fixture = Fixture::new();
    fixture.link("root/one", "two");
    fixture.link("root/two", "one");
    assert_eq!(fixture.at("/one"), "nothing");
}

#[test]
fn anything_but_a_regular_file_is_named_and_not_opened() {
    let fixture = Fixture::new();
    nix::unistd::mkfifo(&fixture.path("root/fifo"), Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.path("root/socket")).unwrap();
    for (path, found) in [("/fifo", "a fifo"), ("/socket", "a socket"), ("/bin", "a directory")] {
        assert_eq!(fixture.at(path), found);
    }
}

#[test]
fn a_file_on_a_volume_is_found_at_its_source() {
    let fixture = Fixture::new().mount("volume", "/bin", "bind");
    assert_eq!(fixture.at("/bin/app"), "volume");
    assert_eq!(fixture.at("/bin/tool"), "nothing", "the volume covers it");
    assert_eq!(fixture.at("/bin/../bin/app"), "volume");
}

#[test]
fn a_single_file_can_be_a_volume() {
    let fixture = Fixture::new().mount("volume/app", "/etc/app", "bind");
    assert_eq!(fixture.at("/etc/app"), "volume");
    assert_eq!(fixture.at("/etc/app/more"), "nothing");
}

#[test]
fn a_link_on_a_volume_leads_into_the_container_and_not_to_the_host() {
    let fixture = Fixture::new().mount("volume", "/data", "bind");
    fixture.link("volume/to-root", "/bin/tool");
    fixture.link("volume/up", "../bin/tool");
    fixture.link("volume/out", fixture.path("secret"));
    fixture.link("volume/above", "../secret");
    fixture.link("root/to-volume", "/data/app");
    assert_eq!(fixture.at("/data/to-root"), "root");
    assert_eq!(fixture.at("/data/up"), "root");
    assert_eq!(fixture.at("/data/out"), "nothing");
    assert_eq!(fixture.at("/data/above"), "nothing");
    assert_eq!(fixture.at("/to-volume"), "volume");
}

#[test]
fn a_projected_volume_is_read_through_its_links() {
    // As kubelet lays out ConfigMaps: app → ..data/app, ..data → ..2026/.
    let fixture = Fixture::new().mount("volume", "/config", "bind");
    fs::create_dir(fixture.path("volume/..2026")).unwrap();
    fs::write(fixture.path("volume/..2026/guest"), "projected").unwrap();
    fixture.link("volume/..data", "..2026");
    fixture.link("volume/guest", "..data/guest");
    assert_eq!(fixture.at("/config/guest"), "projected");
}

#[test]
fn a_volume_mounted_through_a_link_is_where_the_link_leads() {
    let fixture = Fixture::new();
    fixture.link("root/alias", "bin");
    let fixture = fixture.mount("volume", "/alias/volume", "bind");
    assert_eq!(fixture.at("/bin/volume/app"), "volume");
    assert_eq!(fixture.at("/alias/volume/app"), "volume");
}

#[test]
fn the_last_mount_at_a_path_covers_the_others() {
    let nested = Fixture::new().mount("root", "/a", "bind").mount("volume", "/a/b", "bind");
    assert_eq!(nested.at("/a/b/app"), "volume");
    let covered = Fixture::new().mount("volume", "/a/b", "bind").mount("root", "/a", "bind");
    assert_eq!(covered.at("/a/b/app"), "nothing");
    let hidden = Fixture::new().mount("volume", "/bin", "tmpfs");
    assert_eq!(hidden.at("/bin/tool"), "nothing");
}

#[test]
fn a_path_longer_than_the_kernels_limit_leads_to_nothing() {
    let fixture = Fixture::new();
    assert_eq!(fixture.at(&format!("/{}", "a/".repeat(4000))), "nothing");
    assert_eq!(fixture.at(&format!("/{}", "a".repeat(300))), "nothing");
}
