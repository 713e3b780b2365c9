//! Guests that run to their end, each in a process of its own as in a container: exit codes, stderr, signals.
//!
//! A test starts this very binary again, with [`guest`] as the only test and the guest in the environment.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::{Compiled, Plan, Runtime};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// The variable with the plan; the compiled code is the process's standard input.
const PLAN: &str = "ENGINE_TEST_PLAN";

/// More than a guest needs to start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What libtest prints before a test, on the guest's stdout.
const PREAMBLE: &str = "running 1 test\n";

/// No test, but the process of a guest: does nothing unless another test started it.
#[test]
#[ignore = "started by the other tests"]
fn guest() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let plan: Plan = serde_json::from_str(&plan).expect("a plan");
    let code = std::io::stdin().as_fd().try_clone_to_owned().expect("the code");
    let code = Runtime::new().expect("a runtime").run(&plan, code.into());
    // SAFETY: _exit has no preconditions. It is how a container's process ends: without exit handlers.
    unsafe { nix::libc::_exit(code.into()) }
}

/// How a guest is started, beside what most have in common.
struct Start<'a> {
    export: Option<&'a str>,
    env: &'a [String],
    cwd: &'a str,
}

const AS_IT_IS: Start<'static> = Start { export: None, env: &[], cwd: "/" };

fn start(guest: &str, how: &Start<'_>) -> Child {
    let runtime = Runtime::new().expect("a runtime");
    let compiled = runtime.compile(&[guest.into()], how.export);
    let Compiled { world, code } = compiled.expect("compiles");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&code).expect("written");
    let export = how.export.map(ToOwned::to_owned);
    let plan = Plan::new(world, export, vec!["app".into()], how.env, how.cwd.into());
    let plan = serde_json::to_string(&plan.expect("a plan")).expect("encodes");
    // libtest has a main thread of its own, which must leave the signals to the guest's: threads and processes
    // inherit what is blocked.
    [Signal::SIGTERM, Signal::SIGINT]
        .into_iter()
        .collect::<SigSet>()
        .thread_block()
        .expect("blocked");
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "guest", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLAN, plan)
        .stdin(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// How a guest ended.
#[derive(Debug)]
struct End {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn end(child: Child) -> End {
    let output = child.wait_with_output().expect("ends");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stdout = stdout.trim_start().strip_prefix(PREAMBLE).unwrap_or(&stdout).to_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    End { code: output.status.code(), stdout, stderr }
}

fn run(guest: &str) -> End {
    end(start(guest, &AS_IT_IS))
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
    kill(pid, signal).expect("is there");
}

#[test]
fn a_modules_own_exit_code_comes_back_whatever_it_is() {
    for code in [0, 1, 125, 126, 137, 255] {
        let end = run(&format!(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (func (export "_start") (call $exit (i32.const {code}))))"#
        ));
        assert_eq!((end.code, end.stderr.as_str()), (Some(code), ""), "{end:?}");
    }
}

#[test]
fn a_module_that_returns_has_ended_well_and_its_output_is_there() {
    let end = run(r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\0b\00\00\00no line end")
        (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.ends_with("no line end"), "{end:?}");
}

#[test]
fn a_trap_is_exit_code_134_with_its_cause_and_the_names_of_functions_on_stderr() {
    let end = run(r#"(module
        (memory 1)
        (func $inner (drop (i32.load (i32.const 65536))))
        (func $outer (export "_start") call $inner))"#);
    assert_eq!(end.code, Some(134), "{end:?}");
    assert!(end.stderr.contains("out of bounds memory access"), "{end:?}");
    assert!(end.stderr.contains("inner") && end.stderr.contains("outer"), "{end:?}");
}

#[test]
fn a_stack_that_overflows_is_a_trap_as_any_other() {
    let end = run(r#"(module (func $deep (export "_start") call $deep))"#);
    assert_eq!(end.code, Some(134), "{end:?}");
    assert!(end.stderr.contains("call stack exhausted"), "{end:?}");
}

#[test]
fn an_export_of_a_module_is_called_after_it_was_initialized() {
    let reactor = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (global $code (mut i32) (i32.const 1))
        (func (export "_initialize") (global.set $code (i32.const 42)))
        (func (export "job") (call $exit (global.get $code))))"#;
    let end = end(start(reactor, &Start { export: Some("job"), ..AS_IT_IS }));
    assert_eq!(end.code, Some(42), "{end:?}");
}

/// A component whose `run` calls `$run` of a core module, which may exit with a code or write to stdout.
fn command(interface: &str, effect: &str, body: &str) -> String {
    format!(
        r#"(component
            (import "wasi:cli/exit@0.2.6" (instance $exit
                (export "exit-with-code" (func (param "status-code" u8)))))
            (import "wasi:io/error@0.2.0" (instance $errors
                (export "error" (type (sub resource)))))
            (alias export $errors "error" (type $io-error))
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "output-stream" (type $output (sub resource)))
                (alias outer 1 $io-error (type $error))
                (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
                (export "stream-error" (type $stream-error (eq $failure)))
                (export "[method]output-stream.check-write" (func
                    (param "self" (borrow $output)) (result (result u64 (error $stream-error)))))
                (export "[method]output-stream.write" (func
                    (param "self" (borrow $output)) (param "contents" (list u8))
                    (result (result (error $stream-error)))))))
            (alias export $streams "output-stream" (type $stream))
            (import "wasi:cli/stdout@0.2.0" (instance $stdout
                (alias outer 1 $stream (type $s))
                (export "output-stream" (type $o (eq $s)))
                (export "get-stdout" (func (result (own $o))))))
            (core module $memory
                (memory (export "memory") 1)
                (data (i32.const 16) "not flushed"))
            (core instance $memory (instantiate $memory))
            (core func $exit (canon lower (func $exit "exit-with-code")))
            (core func $stdout (canon lower (func $stdout "get-stdout")))
            (core func $check (canon lower (func $streams "[method]output-stream.check-write")
                (memory (core memory $memory "memory"))))
            (core func $write (canon lower (func $streams "[method]output-stream.write")
                (memory (core memory $memory "memory"))))
            (core module $app
                (import "host" "exit" (func $exit (param i32)))
                (import "host" "stdout" (func $stdout (result i32)))
                (import "host" "check" (func $check (param i32 i32)))
                (import "host" "write" (func $write (param i32 i32 i32 i32)))
                (func $entry (export "run") (result i32) (local $stream i32) {body}))
            (core instance $app (instantiate $app (with "host" (instance
                (export "exit" (func $exit)) (export "stdout" (func $stdout))
                (export "check" (func $check)) (export "write" (func $write))))))
            (func $run {effect} (result (result)) (canon lift (core func $app "run")))
            (instance $command (export "run" (func $run)))
            (export "{interface}" (instance $command)))"#
    )
}

const RUN_02: &str = "wasi:cli/run@0.2.6";
const RUN_03: &str = "wasi:cli/run@0.3.0";

#[test]
fn a_command_ends_with_0_or_1_as_its_run_returns() {
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        for code in [0, 1] {
            let end = run(&command(interface, effect, &format!("i32.const {code}")));
            assert_eq!((end.code, end.stderr.as_str()), (Some(code), ""), "{interface}: {end:?}");
        }
    }
}

#[test]
fn a_command_may_exit_with_a_code_of_its_own() {
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        let end = run(&command(interface, effect, "i32.const 200 call $exit unreachable"));
        assert_eq!((end.code, end.stderr.as_str()), (Some(200), ""), "{interface}: {end:?}");
    }
}

#[test]
fn a_command_that_traps_is_told_once() {
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        let end = run(&command(interface, effect, "unreachable"));
        assert_eq!(end.code, Some(134), "{interface}: {end:?}");
        assert_eq!(end.stderr.matches("`unreachable`").count(), 1, "{interface}: {end:?}");
        assert!(end.stderr.contains("entry"), "{interface}: {end:?}");
    }
}

#[test]
fn what_a_guest_wrote_but_did_not_flush_is_not_lost_at_its_end() {
    let write = "
        (local.set $stream (call $stdout))
        (call $check (local.get $stream) (i32.const 64))
        (call $write (local.get $stream) (i32.const 16) (i32.const 11) (i32.const 64))";
    for rest in ["i32.const 0", "i32.const 0 call $exit unreachable", "unreachable"] {
        let end = run(&command(RUN_02, "", &format!("{write} {rest}")));
        assert!(end.stdout.ends_with("not flushed"), "{rest}: {end:?}");
    }
}

#[test]
fn a_command_in_a_loop_that_never_ends_is_ended_by_a_signal() {
    let spinning = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\08\00\00\00spinning")
        (func (export "_start")
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64)))
            (loop $forever br $forever)))"#;
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut child = start(spinning, &AS_IT_IS);
        let mut said = [0; "spinning".len()];
        child.stderr.as_mut().expect("stderr").read_exact(&mut said).expect("it runs");
        send(&child, signal);
        assert_eq!(end(child).code, Some(code), "{signal}");
    }
}

#[test]
fn a_working_directory_that_is_not_there_is_told_by_name() {
    let module = r#"(module (func (export "_start")))"#;
    let end = end(start(module, &Start { cwd: "/not/there", ..AS_IT_IS }));
    assert_eq!(end.code, Some(126), "{end:?}");
    assert!(end.stderr.contains("\"/not/there\""), "{end:?}");
    assert!(end.stderr.contains("No such file or directory"), "{end:?}");
}

/// The setting of a server's address.
const LISTEN: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";

/// A proxy of `wasi:http` 0.2 whose handler is `body`.
fn proxy(body: &str) -> String {
    format!(
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $response))
            (core module $m (func $broken (export "handle") (param i32 i32) {body}))
            (core instance $i (instantiate $m))
            (func $handle (param "request" (own $request)) (param "response-out" (own $response))
                (canon lift (core func $i "handle")))
            (instance $server (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $server)))"#
    )
}

/// A server's process and its address.
struct Server {
    child: Child,
    address: SocketAddr,
}

fn serve(guest: &str) -> Server {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let env = [format!("{LISTEN}={address}")];
    Server { child: start(guest, &Start { env: &env, ..AS_IT_IS }), address }
}

impl Server {
    fn connect(&self) -> TcpStream {
        let start = Instant::now();
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => return stream,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn request(&self) -> TcpStream {
        let mut stream = self.connect();
        let request = "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    }

    fn answer(&self) -> String {
        let mut answer = String::new();
        self.request().read_to_string(&mut answer).expect("an answer");
        answer
    }
}

#[test]
fn a_request_that_traps_is_answered_500_and_told_once_and_the_server_goes_on() {
    let server = serve(&proxy("unreachable"));
    for _ in 0..2 {
        let answer = server.answer();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(!answer.contains("unreachable"), "{answer}");
    }
    send(&server.child, Signal::SIGTERM);
    let end = end(server.child);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(end.stderr.matches("error: ").count(), 2, "{end:?}");
    assert_eq!(end.stderr.matches("`unreachable`").count(), 2, "{end:?}");
    assert!(end.stderr.contains("broken"), "{end:?}");
}

#[test]
fn a_request_without_a_response_is_answered_500_and_told() {
    let server = serve(&proxy(""));
    let answer = server.answer();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    send(&server.child, Signal::SIGINT);
    let end = end(server.child);
    assert_eq!((end.code, end.stderr.matches("error: ").count()), (Some(0), 1), "{end:?}");
}

/// A proxy that takes a while, and gives no response in the end.
fn slow_proxy(nanoseconds: u64) -> String {
    let imports = r#"
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $p))
                (export "pollable" (type $pollable (eq $p)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
            (core func $after (canon lower (func $clock "subscribe-duration")))
            (core func $block (canon lower (func $poll "[method]pollable.block")))
            (core module $m
                (import "host" "after" (func $after (param i64) (result i32)))
                (import "host" "block" (func $block (param i32)))"#;
    let instance = r#"(instantiate $m (with "host" (instance
                (export "after" (func $after)) (export "block" (func $block)))))"#;
    proxy(&format!("(call $block (call $after (i64.const {nanoseconds})))"))
        .replace("(core module $m", imports)
        .replace("(instantiate $m)", instance)
}

#[test]
fn a_request_in_flight_is_finished_after_a_signal_and_nothing_new_is_accepted() {
    let server = serve(&slow_proxy(1_500_000_000));
    let mut request = server.request();
    std::thread::sleep(Duration::from_millis(500));
    send(&server.child, Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    assert!(TcpStream::connect(server.address).is_err());
    let mut answer = String::new();
    request.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert_eq!(end(server.child).code, Some(0));
}

#[test]
fn a_second_signal_ends_a_server_whose_guests_never_come_back() {
    let server = serve(&proxy("(loop $forever br $forever)"));
    // As many as occupy every thread that serves.
    let requests: Vec<TcpStream> = (0..8).map(|_| server.request()).collect();
    std::thread::sleep(Duration::from_millis(500));
    send(&server.child, Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(500));
    send(&server.child, Signal::SIGTERM);
    assert_eq!(end(server.child).code, Some(143));
    drop(requests);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_setting_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let env = [format!("{LISTEN}={address}")];
    let end = end(start(&proxy(""), &Start { env: &env, ..AS_IT_IS }));
    assert_eq!(end.code, Some(126), "{end:?}");
    assert!(end.stderr.contains(&address) && end.stderr.contains(LISTEN), "{end:?}");
    assert!(end.stderr.contains("in use"), "{end:?}");
}
