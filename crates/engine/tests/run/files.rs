//! Files of a guest of WASI 0.1, by its own calls: links, and errors with their names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::{AS_IT_IS, End, Start, end, start};

/// Errors of WASI 0.1 (witx: `errno`).
const BADF: i32 = 8;
const LOOP: i32 = 32;
const NOENT: i32 = 44;
const NOTDIR: i32 = 54;
const NOTEMPTY: i32 = 55;
const PERM: i32 = 63;
const ROFS: i32 = 69;
const XDEV: i32 = 75;

/// The descriptor of the one directory that is given, the root.
const ROOT: &str = "(i32.const 3)";

/// Opens for reading, and follows a link; the descriptor is at 8.
fn open(from: &str, path: &str) -> String {
    let (follow, rights) = (1, 2);
    format!(
        "(call $path_open {from} (i32.const {follow}) {path} (i32.const 0) (i64.const {rights}) (i64.const 0)
            (i32.const 0) (i32.const 8))"
    )
}

/// Opens for writing, and makes the file.
fn make(path: &str) -> String {
    format!(
        "(call $path_open {ROOT} (i32.const 1) {path} (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0)
            (i32.const 8))"
    )
}

/// The descriptor that was opened last.
const OPENED: &str = "(i32.load (i32.const 8))";

/// Copies what was opened last to stdout.
const COPY: &str = "
    (i32.store (i32.const 16) (i32.const 512))
    (i32.store (i32.const 20) (i32.const 256))
    (call $must (call $fd_read (i32.load (i32.const 8)) (i32.const 16) (i32.const 1) (i32.const 20)))
    (call $must (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))";

/// A module that exits with the error of the first call that fails. In `calls`, `{0}` is where the first text is and its
/// length, as two arguments.
fn module(texts: &[&str], calls: &str) -> String {
    let mut calls = calls.to_owned();
    let mut data = String::new();
    for (index, text) in texts.iter().enumerate() {
        let place = 1024 * (index + 1);
        data += &format!("(data (i32.const {place}) {text:?})\n");
        let argument = format!("(i32.const {place}) (i32.const {})", text.len());
        calls = calls.replace(&format!("{{{index}}}"), &argument);
    }
    let functions = [
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("path_filestat_get", "i32 i32 i32 i32 i32"),
        ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32"),
        ("path_create_directory", "i32 i32 i32"),
        ("path_remove_directory", "i32 i32 i32"),
        ("path_unlink_file", "i32 i32 i32"),
        ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
        ("path_rename", "i32 i32 i32 i32 i32 i32"),
        ("path_readlink", "i32 i32 i32 i32 i32 i32"),
        ("path_symlink", "i32 i32 i32 i32 i32"),
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("fd_close", "i32"),
    ];
    let imports = functions.map(|(name, params)| {
        format!(
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))"#
        )
    });
    format!(
        r#"(module {}
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            {data}
            (func $must (param i32) (if (local.get 0) (then (call $exit (local.get 0)))))
            (func (export "_start") {calls}))"#,
        imports.concat()
    )
}

fn run(texts: &[&str], calls: &str) -> End {
    crate::run(&module(texts, calls))
}

/// The error of one call.
fn errno(texts: &[&str], call: &str) -> i32 {
    let end = run(texts, &format!("(call $must {call})"));
    end.code.unwrap_or_else(|| panic!("{end:?}"))
}

/// An absolute path as one below the root.
fn within(path: &Path) -> &Path {
    path.strip_prefix("/").expect("an absolute path")
}

/// `real/file`, and links to it. A path without the slash that it begins with is one below the root.
fn tree() -> (TempDir, impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |path: &str| folder.path().join(path);
    for name in ["real", "real/deep", "links"] {
        fs::create_dir(at(name)).expect("made");
    }
    fs::write(at("real/file"), "found\n").expect("written");
    for (target, link) in [
        (at("real/file"), "links/file"),
        (at("links/file"), "links/chain"),
        (at("real"), "links/folder"),
        (at("links/circle"), "links/circle"),
        (at("real/new"), "links/new"),
        (at("nowhere/file"), "links/nowhere"),
        ("../real/file".into(), "links/sideways"),
        // What the kernel keeps of a process is no path in the root.
        (Path::new("/proc/self/root").join(within(&at("real/file"))), "links/process"),
        (Path::new("/../..").join(within(&at("real/file"))), "links/up"),
    ] {
        symlink(target, at(link)).expect("a link");
    }
    let root = within(folder.path()).to_owned();
    (folder, move |path: &str| root.join(path).to_str().expect("text").to_owned())
}

#[test]
fn absolute_links_lead_where_they_lead_a_program() {
    let (_folder, path) = tree();
    for link in ["links/file", "links/chain", "links/folder/file", "links/up", "links/sideways"] {
        let end = run(&[&path(link)], &format!("(call $must {})\n{COPY}", open(ROOT, "{0}")));
        assert_eq!((end.code, end.stdout.as_str()), (Some(0), "found\n"), "{link}: {end:?}");
    }
    for (link, error) in [
        ("links/circle", LOOP),
        ("links/process", LOOP),
        ("links/nowhere", NOENT),
        ("links/folder/none", NOENT),
        ("links/file/below", NOTDIR),
    ] {
        assert_eq!(errno(&[&path(link)], &open(ROOT, "{0}")), error, "{link}");
    }
}

#[test]
fn a_link_that_leads_out_of_an_open_directory_is_followed_and_a_path_is_not() {
    let (_folder, path) = tree();
    let directory = path("links");
    let below = |name: &str| {
        let calls = format!(
            "(call $must {}) (call $must {})\n{COPY}",
            open(ROOT, "{0}"),
            open(OPENED, "{1}")
        );
        run(&[&directory, name], &calls)
    };
    for link in ["file", "sideways", "folder/file"] {
        let end = below(link);
        assert_eq!((end.code, end.stdout.as_str()), (Some(0), "found\n"), "{link}: {end:?}");
    }
    for name in ["../real/file", "/etc/passwd", "folder/../../../real/file"] {
        assert_eq!(below(name).code, Some(PERM), "{name}");
    }
    // What was opened for it is closed again, and was not called by the guest.
    let end =
        run(&[&path("links/file")], &format!("(call $must {}) unreachable", open(ROOT, "{0}")));
    let last = "last host call: wasi_snapshot_preview1 path_open\n";
    assert!(end.code == Some(134) && end.stderr.contains(last), "{end:?}");
    let calls = format!(
        "(call $must {}) (call $must {}) (call $must (call $fd_close (i32.const 4)))",
        open(ROOT, "{0}"),
        open(ROOT, "{0}"),
    );
    assert_eq!(run(&[&path("links/file")], &calls).code, Some(BADF));
}

/// What a call with paths below the guest's root returns.
fn done(path: &impl Fn(&str) -> String, texts: &[&str], call: &str) -> i32 {
    let texts: Vec<String> = texts.iter().map(|text| path(text)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    errno(&texts, call)
}

/// A call of a function that takes a path.
fn one(function: &str) -> String {
    format!("(call ${function} {ROOT} {{0}})")
}

#[test]
fn what_is_done_to_a_directory_is_done_where_its_links_lead() {
    let (folder, path) = tree();
    let at = |path: &str| folder.path().join(path);
    let done = |texts: &[&str], call: &str| done(&path, texts, call);

    assert_eq!(done(&["links/folder/made/"], &one("path_create_directory")), 0);
    assert!(at("real/made").is_dir());
    assert_eq!(done(&["links/folder/made"], &one("path_remove_directory")), 0);
    assert!(!at("real/made").exists());
    assert_eq!(done(&["links/folder"], &one("path_remove_directory")), NOTDIR);
    assert_eq!(done(&["links/new"], &make("{0}")), 0);
    let renamed = format!("(call $path_rename {ROOT} {{0}} {ROOT} {{1}})");
    assert_eq!(done(&["links/folder/new", "links/folder/deep/moved"], &renamed), 0);
    assert_eq!(done(&["links/folder/deep"], &one("path_remove_directory")), NOTEMPTY);
}

#[test]
fn what_is_done_to_a_file_is_done_where_its_links_lead() {
    let (folder, path) = tree();
    let at = |path: &str| folder.path().join(path);
    let done = |texts: &[&str], call: &str| done(&path, texts, call);
    let two = format!("{ROOT} {{0}} {ROOT} {{1}}");

    assert_eq!(done(&["links/new"], &make("{0}")), 0);
    assert!(at("real/new").is_file(), "the file that a link names is made");
    let renamed = format!("(call $path_rename {two})");
    assert_eq!(done(&["links/folder/new", "links/folder/deep/moved"], &renamed), 0);
    assert!(at("real/deep/moved").is_file());
    let linked = format!("(call $path_link {ROOT} (i32.const 0) {{0}} {ROOT} {{1}})");
    assert_eq!(done(&["links/folder/deep/moved", "links/folder/second"], &linked), 0);
    assert!(at("real/second").is_file());
    assert_eq!(done(&["links/folder/second"], &one("path_unlink_file")), 0);
    assert!(!at("real/second").exists() && at("real/deep/moved").exists());
    let times = format!(
        "(call $path_filestat_set_times {ROOT} (i32.const 1) {{0}} (i64.const 0) (i64.const 7000000000) (i32.const 4))"
    );
    assert_eq!(done(&["links/file"], &times), 0);
    let modified = fs::metadata(at("real/file")).and_then(|it| it.modified()).expect("a time");
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).expect("after").as_secs(), 7);
    // A link itself is removed, not what it names.
    assert_eq!(done(&["links/chain"], &one("path_unlink_file")), 0);
    assert!(!at("links/chain").is_symlink() && at("links/file").exists());
}

#[test]
fn what_a_link_says_is_read_and_an_absolute_one_can_be_made() {
    let (folder, path) = tree();
    // The length that is asked for goes to 24, from where it is written out with the text at 512.
    let read = format!(
        "(call $must (call $path_readlink {ROOT} {{0}} (i32.const 512) (i32.const 256) (i32.const 20)))
        (i32.store (i32.const 16) (i32.const 512))
        (call $must (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))"
    );
    let target = folder.path().join("real/file");
    assert_eq!(run(&[&path("links/file")], &read).stdout, target.to_str().expect("text"));
    let size = format!(
        "(call $must (call $path_filestat_get {ROOT} (i32.const 1) {{0}} (i32.const 32)))
        (call $exit (i32.wrap_i64 (i64.load (i32.const 64))))"
    );
    assert_eq!(run(&[&path("links/file")], &size).code, Some("found\n".len() as i32));

    let made = format!("(call $path_symlink {{0}} {ROOT} {{1}})");
    let target = target.to_str().expect("text");
    assert_eq!(errno(&[target, &path("links/folder/own")], &made), 0);
    let own = fs::read_link(folder.path().join("real/own")).expect("a link");
    assert_eq!(own.to_str(), Some(target));
}

#[test]
fn errors_have_the_names_that_the_kernel_gives_them() {
    let (folder, path) = tree();
    let mounted = folder.path().join("real");
    let errno = |texts: &[&str], call: &str| {
        let texts: Vec<String> = texts.iter().map(|text| path(text)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let guest = module(&texts, &format!("(call $must {call})"));
        let end = end(start(&guest, &Start { read_only: Some(&mounted), ..AS_IT_IS }));
        end.code.unwrap_or_else(|| panic!("{end:?}"))
    };
    // Directly, and where a link leads.
    for parent in ["real", "links/folder"] {
        let (file, new) = (format!("{parent}/file"), format!("{parent}/new"));
        assert_eq!(errno(&[&new], &make("{0}")), ROFS, "{parent}");
        let call = format!("(call $path_unlink_file {ROOT} {{0}})");
        assert_eq!(errno(&[&file], &call), ROFS, "{parent}");
        let call = format!("(call $path_create_directory {ROOT} {{0}})");
        assert_eq!(errno(&[&new], &call), ROFS, "{parent}");
        let call = format!("(call $path_symlink {{0}} {ROOT} {{0}})");
        assert_eq!(errno(&[&new], &call), ROFS, "{parent}");
        let call = format!("(call $path_rename {ROOT} {{0}} {ROOT} {{1}})");
        assert_eq!(errno(&["links/sideways", &new], &call), XDEV, "{parent}");
        assert_eq!(errno(&[&file], &open(ROOT, "{0}")), 0, "{parent}");
    }
}
