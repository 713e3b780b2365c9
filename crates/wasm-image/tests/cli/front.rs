//! A server in front of a real registry. It misbehaves as a test wants, request by request, and passes everything else
//! on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// The registry answers it.
    Pass,
    /// It gets this answer and is not passed on. `HOST` stands for the address of this server.
    Answer(String),
    /// This many bytes of its body reach the registry, then the connection is cut.
    CutRequest(usize),
    /// This many bytes of the answer come back, then the connection is cut.
    CutAnswer(usize),
    /// The last byte of the answer is changed.
    Corrupt,
    /// The body of the answer has one more byte.
    Longer,
}

/// Decides by method and path. The closure may count earlier requests.
type Rule = Box<dyn FnMut(&str) -> Act + Send>;

/// The server. It ends when it is dropped.
pub struct Front {
    /// Host and port.
    pub address: String,
    seen: Arc<Mutex<Vec<String>>>,
    sent: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// Starts the server in front of `registry`. `rule` sees lines such as `GET /v2/app/manifests/1`.
    pub fn start(registry: &str, rule: impl FnMut(&str) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, ends) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (log, end): (Arc<Mutex<Vec<String>>>, _) = (Arc::clone(&seen), Arc::clone(&ends));
        let sent = Arc::new(AtomicU64::new(0));
        let passed = Arc::clone(&sent);
        let (registry, mut rule): (_, Rule) = (registry.to_owned(), Box::new(rule));
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                // It is not the server's fault if the other end cuts the connection.
                let _ = serve(connection.unwrap(), &registry, &log, &passed, &mut rule);
            }
        });
        Self { address, seen, sent, ends, thread: Some(thread) }
    }

    /// Returns the number of requests that begin like this.
    pub fn requests(&self, beginning: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|it| it.starts_with(beginning)).count()
    }

    /// Returns the number of bytes in the bodies of the registry's answers.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns the complete requests that begin like this, with their headers.
    pub fn whole(&self, beginning: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|it| it.starts_with(beginning)).cloned().collect()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves one request per connection.
fn serve(
    mut client: TcpStream,
    registry: &str,
    seen: &Mutex<Vec<String>>,
    sent: &AtomicU64,
    rule: &mut Rule,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let head = head(&mut reader)?;
    let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    seen.lock().unwrap().push(head.clone());
    let length = header(&head, "content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    let act = rule(&line);
    if let Act::Answer(answer) = act {
        let mut body = Vec::new();
        (&mut reader).take(length).read_to_end(&mut body)?;
        let own = client.local_addr()?.to_string();
        return client.write_all(answer.replace("HOST", &own).as_bytes());
    }
    let mut upstream = TcpStream::connect(registry)?;
    let (first, rest) = head.split_once("\r\n").unwrap_or_default();
    write!(upstream, "{first}\r\nConnection: close\r\n{rest}")?;
    let passed = if let Act::CutRequest(count) = act { count as u64 } else { length };
    std::io::copy(&mut (&mut reader).take(passed), &mut upstream)?;
    if let Act::CutRequest(_) = act {
        upstream.shutdown(Shutdown::Both)?;
        return client.shutdown(Shutdown::Both);
    }
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    let answer = changed(answer, &act);
    let body =
        answer.windows(4).position(|it| it == b"\r\n\r\n").map_or(0, |end| answer.len() - end - 4);
    sent.fetch_add(body as u64, Ordering::Relaxed);
    client.write_all(&answer)
}

fn changed(mut answer: Vec<u8>, act: &Act) -> Vec<u8> {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or(answer.len());
    match act {
        Act::CutAnswer(count) => answer.truncate(end + 4 + count),
        Act::Corrupt => *answer.last_mut().unwrap() ^= 1,
        Act::Longer => {
            let head = String::from_utf8_lossy(&answer[..end]).into_owned();
            let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
            let head = head.replace(
                &format!("Content-Length: {length}"),
                &format!("Content-Length: {}", length + 1),
            );
            answer = [head.as_bytes(), &answer[end..], b"x"].concat();
        }
        _ => {}
    }
    answer
}

fn head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            break;
        }
    }
    Ok(head)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// Returns an answer with that status, and a body in which registries describe an error.
pub fn answer(status: &str, headers: &str, code: &str) -> Act {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"says the test"}}]}}"#);
    let length = body.len();
    Act::Answer(format!(
        "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}
