//! A store in Redis beside servers that answer as a script says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

use super::session::KEPT;
use super::*;

/// What a server replies to the commands that arrive together. `None` closes the connection; to `PING` it is what Redis replies.
type Script = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// A server that lets everyone in.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(script: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        let server = Server { address, connections: Arc::default(), seen: Arc::default() };
        let (connections, seen) = (server.connections.clone(), server.seen.clone());
        let script: Arc<Script> = Arc::new(script);
        // It ends with the process, which tests of a unit may leave to it.
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (script, seen) = (script.clone(), seen.clone());
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut bytes) {
                        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                        let words: Vec<_> =
                            text.split("\r\n").filter(|it| !it.starts_with(['*', '$'])).collect();
                        let command = words.join(" ").trim().to_owned();
                        let reply = match command.as_str() {
                            "PING" => script("PING").or_else(|| Some(b"+PONG\r\n".to_vec())),
                            command => {
                                seen.lock().expect("no panic").push(command.to_owned());
                                script(command)
                            }
                        };
                        let Some(reply) = reply else { return };
                        if stream.write_all(&reply).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    fn store(&self, patience: Duration) -> Arc<InRedis> {
        self.database(0, patience)
    }

    fn database(&self, number: u32, patience: Duration) -> Arc<InRedis> {
        let store = fuzzing::store(&format!("redis://{}/{number}", self.address));
        Arc::new(InRedis { patience, ..store })
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(500);

fn reply(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

/// Makes a call, as a function of the interface does, and returns its error as text.
async fn called<T: Send + 'static>(
    store: &Arc<InRedis>,
    work: impl FnOnce(&InRedis) -> Result<T, Error> + Send + 'static,
) -> Result<T, String> {
    let turn = store.turn().await.map_err(|error| error.to_string())?;
    let store = store.clone();
    let done = spawn_blocking(move || {
        let done = work(&store);
        drop(turn);
        done
    });
    done.await.expect("no panic").map_err(|error| error.to_string())
}

fn call<T: Send + 'static>(
    store: &Arc<InRedis>,
    work: impl FnOnce(&InRedis) -> Result<T, Error> + Send + 'static,
) -> Result<T, String> {
    tokio().block_on(called(store, work))
}

fn tokio() -> tokio::runtime::Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_call_has_one_deadline_for_connecting_and_asking_twice() {
    // Each step takes most of the time, and after each answer the connection breaks off.
    let server = Server::new(|command| {
        thread::sleep(SHORT * 4 / 5);
        if command == "PING" { reply("+PONG\r\n") } else { None }
    });
    let error = call(&server.store(SHORT), |store| store.get("a")).expect_err("is slow");
    assert!(error.contains("no answer within 5 s"), "{error}");
    assert_eq!(server.connections(), 1);
}

#[test]
fn calls_that_wait_for_a_slow_server_end_in_time() {
    let server = Server::new(|command| {
        thread::sleep(if command == "PING" { Duration::ZERO } else { SHORT * 4 / 5 });
        reply("$-1\r\n").filter(|_| command != "PING")
    });
    let store = server.store(SHORT);
    let answers = tokio().block_on(async {
        let get = |_| {
            let store = store.clone();
            tokio::spawn(async move { called(&store, |store| store.get("a")).await })
        };
        let mut answers = vec![];
        for answer in (0..5).map(get).collect::<Vec<_>>() {
            answers.push(answer.await.expect("no panic"));
        }
        answers
    });
    // One is answered within the time, and the next one's answer comes after it.
    assert!(server.seen().len() < 5, "they are asked one after the other: {answers:?}");
    let late: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(late.len() >= 3 && late.iter().all(|it| it.contains("within 5 s")), "{late:?}");
}

#[test]
fn a_call_whose_guest_has_ended_while_it_waited_is_never_made() {
    let (go_on, may_go_on) = sync_channel::<()>(1);
    let may_go_on = Mutex::new(may_go_on);
    let server = Server::new(move |command| match command {
        "PING" => None,
        "GET a" => may_go_on.lock().ok()?.recv().ok().and_then(|()| reply("$-1\r\n")),
        _ => reply("+OK\r\n"),
    });
    let store = server.store(LONG);
    tokio().block_on(async {
        let slow = store.clone();
        let slow = tokio::spawn(async move { called(&slow, |store| store.get("a")).await });
        while server.seen().is_empty() && !slow.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let set = |key: &'static str| {
            let store = store.clone();
            tokio::spawn(async move {
                let change = [Change::Set(key.to_owned(), b"x".to_vec())];
                called(&store, move |store| store.apply(&change)).await
            })
        };
        let (ended, patient) = (set("ended"), set("patient"));
        // Both wait.
        tokio::time::sleep(Duration::from_millis(10)).await;
        ended.abort();
        assert!(ended.await.expect_err("was aborted").is_cancelled());
        go_on.send(()).expect("is waited for");
        assert_eq!(slow.await.expect("no panic"), Ok(None));
        assert_eq!(patient.await.expect("no panic"), Ok(()));
    });
    assert_eq!(server.seen(), ["GET a", "SET patient x"]);
}

#[test]
fn a_database_that_there_is_not_is_named() {
    let server = Server::new(|command| {
        reply("-ERR DB index is out of range\r\n").filter(|_| command != "PING")
    });
    let error = call(&server.database(20, LONG), |store| store.get("a")).expect_err("is refused");
    assert!(error.ends_with("it refuses: it has no database 20"), "{error}");
    assert_eq!(server.seen(), ["SELECT 20"]);
}

#[test]
fn a_change_without_a_proper_reply_may_have_been_made() {
    for (text, is_known) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", false),
        ("*1\r\n", false),
        ("-NOPERM no\r\n", true),
        ("-ERR unknown command 'INCRBY'\r\n", true),
    ] {
        let server = Server::new(move |command| reply(text).filter(|_| command != "PING"));
        let error = call(&server.store(LONG), |store| store.increment("a", 1_i64));
        let error = error.expect_err("is no number");
        assert_eq!(error.contains("may have been made or not"), !is_known, "{text}: {error}");
    }
}

#[test]
fn a_connection_that_may_still_watch_a_key_is_not_used_again() {
    let server = Server::new(|command| match command {
        "WATCH list GET list" => reply("+OK\r\n-WRONGTYPE no\r\n"),
        "WATCH full GET full" => reply("+OK\r\n$-1\r\n"),
        "MULTI SET full x EXEC" => reply("+OK\r\n-OOM no\r\n-EXECABORT no\r\n"),
        "WATCH good GET good" => reply("+OK\r\n$-1\r\n"),
        "MULTI SET good x EXEC" => reply("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"),
        "WATCH old GET old" => reply("+OK\r\n$1\r\nx\r\n"),
        "UNWATCH" => reply("+OK\r\n"),
        _ => None,
    });
    let store = server.store(LONG);
    let swap = |key: &'static str| call(&store, move |store| store.swap(key, MISSING, b"x"));
    let error = swap("list").expect_err("is refused");
    assert!(error.contains("WRONGTYPE"), "{error}");
    assert_eq!(swap("good"), Ok(true));
    assert_eq!(swap("old"), Ok(false));
    assert_eq!(server.connections(), 2);
    let error = swap("full").expect_err("is refused");
    assert!(error.contains("it refuses: OOM") && !error.contains("may have been"), "{error}");
    assert_eq!(swap("good"), Ok(true));
    assert_eq!(server.connections(), 3);
}

#[test]
fn one_value_is_set_with_the_command_for_one() {
    let server = Server::new(|command| reply("+OK\r\n").filter(|_| command != "PING"));
    let set = |key: &str| Change::Set(key.to_owned(), b"x".to_vec());
    let (one, two) = ([set("a")], [set("b"), set("c")]);
    call(&server.store(LONG), move |store| store.apply(&one).and_then(|()| store.apply(&two)))
        .expect("is kept");
    assert_eq!(server.seen(), ["SET a x", "MSET b x c x"]);
}

#[test]
fn a_server_that_becomes_idle_during_a_call_closes_the_connection_after_it() {
    let (asked, was_asked) = sync_channel(1);
    let (go_on, may_go_on) = sync_channel::<()>(1);
    let may_go_on = Mutex::new(may_go_on);
    let server = Server::new(move |command| {
        if command != "GET a" {
            return reply("$1\r\nx\r\n").filter(|_| command != "PING");
        }
        asked.send(()).ok()?;
        may_go_on.lock().ok()?.recv().ok()?;
        reply("$1\r\nx\r\n")
    });
    let store = server.store(LONG);
    let caller = store.clone();
    let caller = thread::spawn(move || call(&caller, |store| store.get("a")));
    was_asked.recv().expect("is asked");
    store.release();
    go_on.send(()).expect("is waited for");
    assert_eq!(caller.join().expect("no panic"), Ok(Some(b"x".to_vec())));
    assert!(store.lock().connection.is_none());
    // The next call keeps its own.
    assert_eq!(call(&store, |store| store.get("b")), Ok(Some(b"x".to_vec())));
    assert!(store.lock().connection.is_some());
    store.release();
    assert!(store.lock().connection.is_none());
}

#[test]
fn a_connection_that_was_not_used_for_long_is_made_anew() {
    let server = Server::new(|command| reply("$-1\r\n").filter(|_| command != "PING"));
    let store = server.store(LONG);
    let get = || call(&store, |store| store.get("a")).expect("an answer");
    get();
    get();
    assert_eq!(server.connections(), 1);
    let long_ago = Instant::now().checked_sub(KEPT).expect("the machine runs for longer");
    if let Some((_, used)) = &mut store.lock().connection {
        *used = long_ago;
    }
    get();
    assert_eq!(server.connections(), 2);
}
