//! Missing files have one exit code, whichever command looks for them, and binary output is not written to a terminal.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{COMMAND, Work};

#[test]
fn a_missing_input_has_its_own_exit_code_everywhere() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    for line in [
        "build no-such.wasm -t r.example/app:1 -o x.tar",
        "build app.wat no-such.wasm -t r.example/app:1 -o x.tar",
        "build app.wat/no-such.wasm -t r.example/app:1 -o x.tar",
        "build --file no-such:/app.wasm -t r.example/app:1 -o x.tar",
        "build --rootfs no-such -t r.example/app:1 -o x.tar",
        "build app.wat -t 127.0.0.1:1/app:1 --push --ca-file no-such.pem",
        "push no-such.tar r.example/app:1",
        "push no-such r.example/app:1",
        "copy no-such.tar x.tar",
        "copy ./no-such x.tar",
        "copy no-such.tgz x.tar",
        "convert no-such.tar -t r.example/app:1 -o x.tar",
        "inspect no-such.wasm",
        "inspect no-such.tar",
        "compose no-such.wasm app.wat -o x.wasm",
        "compose no-such.tar -o x.wasm",
        "componentize no-such.wasm -o x.wasm",
        "wat no-such.wat -o x.wasm",
    ] {
        let error = work.run(line).fails(3);
        assert!(error.contains("no-such"), "{line}: {error}");
        assert!(!work.path("x.tar").exists() && !work.path("x.wasm").exists(), "{line}");
    }
    assert_eq!(work.left(), [""; 0]);
}

/// Returns what a command prints on a terminal, and its exit code.
fn on_a_terminal(work: &Work, line: &str) -> (String, i32) {
    let program = env!("CARGO_BIN_EXE_wasm-image");
    let mut script = Command::new("timeout");
    script.args(["60", "script", "--quiet", "--return", "--command"]);
    script.arg(format!("{program} {line}")).arg("/dev/null").current_dir(work.directory.path());
    let done = script.output().unwrap();
    (String::from_utf8_lossy(&done.stdout).into_owned(), done.status.code().unwrap_or(-1))
}

#[test]
fn binary_bytes_never_reach_a_terminal() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    work.run("build app.wat -t r.example/app:1 -o app.tar").ok();
    // This must not be /dev/stdout itself, because a program that replaces it would do so for the whole machine.
    symlink("/dev/stdout", work.path("out")).unwrap();
    for line in [
        "build app.wat -t r.example/app:1 -o -",
        "build app.wat -t r.example/app:1 -o ./out",
        "copy app.tar -",
        "convert app.tar -t r.example/app:1 -o -",
        "wat app.wat -o -",
        "wat app.wat -o out",
        "compose app.wat app.wat -o -",
    ] {
        let (shown, code) = on_a_terminal(&work, line);
        // A composition or conversion that is impossible ends before anything is written.
        assert!(
            code == 2 || line.starts_with("compose") || line.starts_with("convert"),
            "{line}: {shown}"
        );
        assert!(!shown.contains('\0') && !shown.contains("asm\u{1}"), "{line}: {shown:?}");
    }
    assert!(fs::symlink_metadata(work.path("out")).unwrap().is_symlink());
}

#[test]
fn what_others_wrote_is_no_command_to_a_terminal() {
    let work = Work::new();
    // A producers section with one field, "language", whose one value has a version that would clear the screen.
    let wat = r#"(module (@custom "producers" "\01\08language\01\01R\04\1b[2J"))"#;
    work.file("app.wat", wat);
    let shown = work.run("inspect app.wat").stdout;
    assert!(shown.contains("R \\u{1b}[2J") && !shown.contains('\u{1b}'), "{shown:?}");
}
