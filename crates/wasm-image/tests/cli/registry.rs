//! A registry that runs as long as a value.

use std::fs;
use std::net::{TcpListener, TcpStream};
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
        Self::with("")
    }

    /// One that lets in user `ci` with the password `secret`.
    pub fn with_password() -> Self {
        Self::with("auth: {htpasswd: {realm: tests, path: FOLDER/htpasswd}}")
    }

    fn with(auth: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
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
        let mut registry = Self { address, child, folder };
        registry.wait();
        registry
    }

    fn wait(&mut self) {
        for _ in 0..400 {
            if TcpStream::connect(&self.address).is_ok() {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("docker-registry ended ({status}): {}", self.log());
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

const CONFIG: &str = "
version: 0.1
log: {accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: FOLDER/data}}
http: {addr: ADDRESS}
AUTH
";
