//! Recognises a file by its first bytes, under a name that says wasm and under one that does not.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rule::{Found, Head, Process, Refusal};

fuzz_target!(|bytes: &[u8]| {
    let head = |(): &()| Ok::<_, Refusal>(Head { bytes: bytes.to_vec(), size: bytes.len() as u64 });
    for name in ["/app.wasm", "/app.wat", "/app", "/app#run"] {
        let args = [name.to_owned()];
        let process = Process { args: &args, cwd: Path::new("/"), env: &[] };
        let found = rule::find(&process, |_| Ok(Found::File(())), head);
        if let Ok((entrypoint, entry)) = found {
            let _ = entry.step(&entrypoint);
        }
    }
});
