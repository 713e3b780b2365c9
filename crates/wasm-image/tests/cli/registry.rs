//! A registry that runs as long as a value.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// User `ci` with the password `secret`.
const HTPASSWD: &str = "ci:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry on loopback, with its files in a folder of its own.
pub struct Registry {
    /// Host and port.
    pub address: String,
    child: Child,
    folder: TempDir,
}

impl Registry {
    /// One that lets everybody in.
    pub fn start() -> Self {
        Self::with("", free_address)
    }

    /// One that lets in user `ci` with the password `secret`.
    pub fn with_password() -> Self {
        Self::with("auth: {htpasswd: {realm: tests, path: FOLDER/htpasswd}}", free_address)
    }

    /// At the first of a few addresses that nobody else has taken before the registry does.
    fn with(auth: &str, mut address: impl FnMut() -> String) -> Self {
        let mut refused = String::new();
        for _ in 0..ATTEMPTS {
            let mut registry = Self::spawn(auth, address());
            match registry.wait() {
                Ok(()) => return registry,
                Err(error) => refused = error,
            }
        }
        panic!("{refused}");
    }

    fn spawn(auth: &str, address: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = CONFIG.replace("AUTH", auth).replace("ADDRESS", &address);
        let text = text.replace("FOLDER", folder.path().to_str().unwrap());
        fs::write(folder.path().join("registry.yml"), text).unwrap();
        fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.path().join("registry.yml"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect(
                "docker-registry starts (Debian: docker-registry; scripts/install-deps.sh gets it)",
            );
        Self { address, child, folder }
    }

    /// Waits until it listens, which its log tells: anybody may answer at the address. The error is that it ended.
    fn wait(&mut self) -> Result<(), String> {
        let listening = format!("listening on {}", self.address);
        for _ in 0..400 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(format!("docker-registry ended ({status}): {}", self.log()));
            }
            if self.log().contains(&listening) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("docker-registry does not listen: {}", self.log());
    }

    /// How many requests it had that begin so, such as `PUT /v2/app/manifests/`.
    pub fn requests(&self, beginning: &str) -> usize {
        let quoted = format!("\"{beginning}");
        self.log().lines().filter(|line| line.contains(&quoted)).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // One that has ended by itself is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often another address is tried.
const ATTEMPTS: usize = 5;

/// An address that nobody listens on at the moment.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn an_address_that_was_taken_meanwhile_is_left_for_another() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let mut addresses = [taken.clone(), taken.clone(), free_address()].into_iter();
    let registry = Registry::with("", || addresses.next().unwrap());
    assert_ne!(registry.address, taken);
}

const CONFIG: &str = "
version: 0.1
log: {accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: FOLDER/data}}
http: {addr: ADDRESS}
AUTH
";
