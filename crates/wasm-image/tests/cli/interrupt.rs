//! Interruption by ctrl-C or by a CI system: the program must end soon and leave nothing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use crate::support::{COMMAND, Work};

/// Asks the program to end, and returns its exit code, or `None` if it has not ended ten seconds later.
fn ended_by_sigterm(program: &mut Child) -> Option<i32> {
    let sent = Command::new("kill").arg(program.id().to_string()).status().unwrap();
    assert!(sent.success());
    for _ in 0..400 {
        if let Some(status) = program.try_wait().unwrap() {
            return status.code();
        }
        sleep(Duration::from_millis(25));
    }
    program.kill().unwrap();
    program.wait().unwrap();
    None
}

#[test]
fn a_push_that_is_interrupted_leaves_nothing_here() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    // It accepts the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let line = format!("build app.wat -t {address}/app:1 --push --plain-http");
    let mut push = work.command(&line).spawn().unwrap();
    let _connection = silent.accept().unwrap();
    assert_eq!(work.left().len(), 1, "the layout that is being pushed");
    assert_eq!(ended_by_sigterm(&mut push), Some(130));
    assert_eq!(work.left(), [""; 0]);
}

#[test]
fn reading_what_does_not_come_is_ended() {
    let work = Work::new();
    let made = Command::new("mkfifo").arg(work.path("app.tar")).status().unwrap();
    assert!(made.success());
    let mut push = work.command("push app.tar r.example/app:1").spawn().unwrap();
    // The file is open once the program reads it.
    let _silent = fs::File::options().write(true).open(work.path("app.tar")).unwrap();
    assert_eq!(work.left().len(), 1, "the directory that it is unpacked to");
    assert_eq!(ended_by_sigterm(&mut push), Some(130));
    assert_eq!(work.left(), [""; 0]);
}

#[test]
fn a_credential_helper_that_does_not_answer_is_not_waited_for() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    work.file(".docker/config.json", r#"{"credsStore": "tests"}"#);
    // The script ends by itself after 20 seconds, or soon after the test.
    let script = "#!/bin/sh\ntrap '' TERM\n: > asked\nfor i in $(seq 200); do\n\
                  [ -e asked ] || exit 1\nsleep 0.1\ndone\n";
    let helper = work.file("bin/docker-credential-tests", script);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", work.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = work.command("build app.wat -t 127.0.0.1:1/app:1 --push --plain-http");
    let mut push = command.env("PATH", path).spawn().unwrap();
    for _ in 0..400 {
        if work.path("asked").exists() {
            break;
        }
        sleep(Duration::from_millis(25));
    }
    assert_eq!(work.left().len(), 1, "the layout that is to be pushed");
    assert_eq!(ended_by_sigterm(&mut push), Some(130));
    assert_eq!(work.left(), [""; 0]);
}
