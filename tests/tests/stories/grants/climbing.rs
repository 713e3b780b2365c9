//! A hostile guest in C that tries each way out of its directories, and prints what came of it.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::Result;
use tests::{Container, Pod, on_each_containerd};

use super::files::volume;
use super::{FILES, hosts, number, run};

/// Errors of WASI 0.1 as its C library writes them.
const DONE: &str = "done";
const FORBIDDEN: &str = "Operation not permitted";
const MISSING: &str = "No such file or directory";
const EXHAUSTED: &str = "No file descriptors available";

/// The C library's own error before 2023 for a path outside of all directories. The runtime is not asked.
const OUTSIDE: &str = "Capabilities insufficient";

/// A call of `images/hello-c`, its path or paths, and what comes of it.
type Attempt = (&'static str, &'static str, &'static str);

/// With a grant of `/data`, whether it may be written or not.
const CLIMBING: &[Attempt] = &[
    ("read", "/data/below/within", DONE),
    ("read", "/data/../etc/hosts", FORBIDDEN),
    ("read", "/data/below/../../etc/hosts", FORBIDDEN),
    ("read", "/data/out", FORBIDDEN),
    ("read", "/data/absolute", FORBIDDEN),
    ("read", "/data/root/etc/hosts", FORBIDDEN),
    ("read", "/data/memory", FORBIDDEN),
    ("list", "/data/..", FORBIDDEN),
    ("list", "/data/root", FORBIDDEN),
    ("make", "/data/root/made", FORBIDDEN),
    ("link", "/data/root/etc/hosts:/data/hosts", FORBIDDEN),
    ("rename", "/data/file:/data/root/file", FORBIDDEN),
    ("symlink", "/etc/hosts:/data/hosts", FORBIDDEN),
    ("read", "/etc/hosts", MISSING),
    ("read", "/proc/self/mem", MISSING),
    ("list", "/", MISSING),
    ("mkdir", "/made", MISSING),
    ("exhaust", "/data/file", EXHAUSTED),
    // The guest has closed the others.
    ("read", "/data/file", DONE),
];

/// With a grant of `/data` for reading only.
const WRITING: &[Attempt] = &[
    ("write", "/data/file", FORBIDDEN),
    ("make", "/data/made", FORBIDDEN),
    ("mkdir", "/data/made", FORBIDDEN),
    ("unlink", "/data/file", FORBIDDEN),
    ("rename", "/data/file:/data/moved", FORBIDDEN),
    ("link", "/data/file:/data/linked", FORBIDDEN),
    ("symlink", "file:/data/linked", FORBIDDEN),
];

/// Without grants. Its directory is the root of the container, within which links lead.
const FROM_ROOT: &[Attempt] = &[
    ("read", "/../../../etc/hosts", FORBIDDEN),
    ("read", "/data/out", DONE),
    ("read", "/data/absolute", DONE),
    ("read", "/data/memory", MISSING),
    ("read", "/proc/self/mem", MISSING),
    ("read", "/dev/mem", MISSING),
    ("list", "/sys", MISSING),
    ("exhaust", "/data/file", EXHAUSTED),
];

#[test]
fn each_way_out_of_its_directories_is_an_error_for_a_guest_in_c() -> Result<()> {
    on_each_containerd(|node| {
        let (volume, hosts) = (volume(node)?, hosts(node)?);
        symlink("/proc/self/mem", volume.join("memory"))?;
        for (name, granted, attempts) in [
            ("read-only", Some("/data=ro"), [CLIMBING, WRITING].concat()),
            ("writable", Some("/data=rw"), CLIMBING.to_vec()),
            ("everything", None, FROM_ROOT.to_vec()),
        ] {
            let pod = Pod::new(name);
            let pod = node.run_pod(&match granted {
                Some(granted) => pod.annotation(FILES, granted),
                None => pod,
            })?;
            pod.limit_files(256)?;
            let words = attempts.iter().flat_map(|&(call, path, _)| [call, path]);
            let words: Vec<&str> = ["try"].into_iter().chain(words).collect();
            let container = Container::new(&number(name), &node.image("hello-c")?).args(&words);
            let container = container.mount(&volume, "/data").readonly_mount(&hosts, "/etc/hosts");
            let (code, logs) = run(&pod, container)?;
            let line = |(call, path, outcome): &Attempt| format!("{call} {path}: {outcome}\n");
            let expected: String = attempts.iter().map(line).collect();
            let stdout = logs.stdout.replace(OUTSIDE, MISSING);
            assert_eq!((code, stdout), (0, expected), "{name}: {}", logs.stderr);
            assert_eq!(fs::read_to_string(volume.join("file"))?, "found\n");
        }
        Ok(())
    })
}
