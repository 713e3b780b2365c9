//! Makes the images with their tools, all in one registry from which every node pulls.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use tests::command;
use tests::containerd::{repository, wasm_image};

use crate::forms::Form;

/// Guest of a form. It prints the image's name, so that another image's guest would be noticed.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00LENGTH\00\00\00")
    (data (i32.const 16) "NAME")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Dockerfile for tools that build.
const DOCKERFILE: &str = "FROM scratch\nCOPY hello.wasm /\nENTRYPOINT [\"/hello.wasm\"]\n";

/// Directories of tools below `target`. Other tools are the system's.
const TOOLS: [&str; 4] = ["go/images", "go/buildkit", "go/cosign", "tools/wkg/bin"];

/// Time limit for making one image, in seconds.
const LIMIT: &str = "60";

/// Runs the commands of a form, in a directory of its own below `folder` that has the guest, `hello.wasm`, and a
/// `Dockerfile`.
pub fn make(folder: &Path, registry: &str, form: &Form) -> Result<()> {
    let folder = folder.join(form.image);
    fs::create_dir(&folder)?;
    let guest = GUEST.replace("NAME", form.image);
    let guest = guest.replace("LENGTH", &format!("\\{:02x}", form.image.len()));
    fs::write(folder.join("hello.wat"), guest)?;
    fs::write(folder.join("Dockerfile"), DOCKERFILE)?;
    let target = repository().join("target");
    let tools = TOOLS.map(|it| target.join(it).display().to_string()).join(":");
    let path = std::env::var("PATH").unwrap_or_default();
    let variables = [
        ("PATH", format!("{tools}:{path}")),
        ("HOME", folder.display().to_string()),
        ("TMPDIR", folder.display().to_string()),
        ("IMAGE", format!("{registry}/{}", form.image)),
        ("REGISTRY", registry.to_owned()),
        ("NO_PROXY", "127.0.0.1".to_owned()),
    ];
    let preparation = PREPARATION.replace("WASM_IMAGE", &wasm_image().display().to_string());
    let guest = "command \"$tool\" wat hello.wat -o hello.wasm";
    let script = format!("cd {}\n{preparation}{guest}\n{}", folder.display(), form.make);
    let mut words = vec![LIMIT.to_owned(), "env".to_owned(), "-i".to_owned()];
    words.extend(variables.map(|(key, value)| format!("{key}={value}")));
    words.extend(["sh", "-euc", &script].map(str::to_owned));
    let done = command::run("timeout", words)?;
    match done.code {
        0 => Ok(()),
        code => Err(anyhow!("exit code {code}: {}", last_line(&done.stderr))),
    }
}

/// Returns the line in which most programs report why they fail.
pub fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
}

/// Functions for the commands of all forms. With them, each tool reaches a registry without TLS, and works without a
/// running daemon.
const PREPARATION: &str = r#"
tool=WASM_IMAGE
wasm_image() { case $1 in build | convert) command "$tool" "$@" --plain-http ;; *) command "$tool" "$@" ;; esac; }
oras() { command oras "$@" --plain-http; }
crane() { command crane "$@" --insecure; }
regctl() { command regctl registry set --tls disabled "$REGISTRY"; command regctl "$@"; }
cosign() { command cosign "$@" --allow-http-registry; }
skopeo() { command skopeo copy --quiet --dest-tls-verify=false "$@"; }
containers() { program=$1; shift; command "$program" --storage-driver vfs --root "$HOME/root" --runroot "$HOME/run" "$@"; }
buildkit() {
    [ ! -S b.sock ] || return 0
    timeout 50 buildkitd --root "$HOME/buildkit" --addr "unix://$HOME/b.sock" --oci-worker-snapshotter native \
        --otel-socket-path "$HOME/t.sock" --containerd-worker=false --oci-worker-net host > buildkit.log 2>&1 &
    trap 'kill $!; wait' EXIT
    for turn in $(seq 100); do [ ! -S b.sock ] || return 0; sleep 0.1; done
    tail -n 1 buildkit.log >&2
    return 1
}
buildctl() { buildkit; command buildctl --addr "unix://$HOME/b.sock" "$@"; }
buildx() { buildkit; command buildx create --name here --driver remote "unix://$HOME/b.sock" > /dev/null; command buildx --builder here build --progress plain "$@"; }
"#;
