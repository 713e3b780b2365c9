//! Commands and replies (Redis documentation, "Redis serialization protocol specification", RESP2).
//!
//! The length of a reply is compared with a bound before anything of it is read. So a server that lies, or another
//! client that stores large values, makes this process keep no more than the interface returns. The crate `redis` was
//! not chosen for this: its parser collects whole replies of any length, and its connection looks names up by
//! itself, or else needs an event loop to live on, which an idle server has not.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};

use super::failure::Failure;
use super::stream::Stream;

/// The longest line of a reply, in bytes: Redis' own are shorter (`src/networking.c`, `PROTO_INLINE_MAX_SIZE`).
const LINE_BYTES: u64 = 64 << 10;

/// How much of an error is looked at, in bytes.
const ERROR_BYTES: usize = 128;

/// Bytes of replies that are read at a time, and of commands that are written at a time.
const BUFFER_BYTES: usize = 8 << 10;

/// An open connection.
pub struct Wire {
    reader: BufReader<Stream>,
    /// Replies that were not read to their end yet.
    owed: usize,
    /// Whether the server may watch a key for this connection.
    watches: bool,
}

/// An error that the server replies.
#[derive(Debug)]
pub struct Refusal {
    /// Its beginning, of which only the code is ever shown.
    text: String,
}

/// Why there is no reply of the expected kind.
#[derive(Debug)]
pub enum Unread {
    /// The server replies an error. What follows can be read.
    Refusal(Refusal),
    /// A string is longer than the bound; this is its length.
    Long(usize),
    /// The connection cannot be used any more.
    Failure(Failure),
}

/// The beginning of a reply.
enum Head {
    Status,
    Integer(i64),
    String(Option<usize>),
    Array(Option<usize>),
}

impl Refusal {
    /// Whether it has this text in it.
    pub fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::of_reply(&refusal.text)
    }
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Failure {
        match unread {
            Unread::Refusal(refusal) => refusal.into(),
            Unread::Long(_) => Failure::NotRedis,
            Unread::Failure(failure) => failure,
        }
    }
}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Unread {
        Unread::Failure(Failure::of_io(&error))
    }
}

const NOT_REDIS: Unread = Unread::Failure(Failure::NotRedis);

impl Wire {
    /// With nothing sent yet.
    pub fn new(stream: Stream) -> Wire {
        Wire { reader: BufReader::with_capacity(BUFFER_BYTES, stream), owed: 0, watches: false }
    }

    /// Sets the end of all reads and writes from now on.
    pub fn set_deadline(&mut self, deadline: std::time::Instant) {
        self.reader.get_mut().socket_mut().set_deadline(deadline);
    }

    /// Whether the next reply will be that to the next command, and the server has not closed the connection.
    pub fn is_ready(&mut self) -> bool {
        self.is_in_step() && self.reader.get_ref().socket().is_quiet()
    }

    /// Whether each reply was read to its end, nothing more has arrived, and no key is watched.
    pub fn is_in_step(&mut self) -> bool {
        self.owed == 0
            && !self.watches
            && self.reader.buffer().is_empty()
            && self.reader.get_mut().has_nothing_more()
    }

    /// Notes whether the server may watch a key for this connection from now on.
    pub fn watches(&mut self, watches: bool) {
        self.watches = watches;
    }

    /// Sends commands, each with its arguments.
    pub fn send(&mut self, commands: &[&[&[u8]]]) -> Result<(), Unread> {
        self.owed += commands.len();
        let mut writer = BufWriter::with_capacity(BUFFER_BYTES, self.reader.get_mut());
        for command in commands {
            write!(writer, "*{}\r\n", command.len())?;
            for argument in *command {
                write!(writer, "${}\r\n", argument.len())?;
                writer.write_all(argument)?;
                writer.write_all(b"\r\n")?;
            }
        }
        Ok(writer.flush()?)
    }

    /// The reply that a command was carried out, or put into its queue.
    pub fn done(&mut self) -> Result<(), Unread> {
        match self.reply()? {
            Head::Status => Ok(()),
            _ => Err(NOT_REDIS),
        }
    }

    /// The reply that is a number.
    pub fn integer(&mut self) -> Result<i64, Unread> {
        match self.reply()? {
            Head::Integer(number) => Ok(number),
            _ => Err(NOT_REDIS),
        }
    }

    /// The reply that is a string, of at most so many bytes, or none.
    pub fn string(&mut self, most: usize) -> Result<Option<Vec<u8>>, Unread> {
        let Head::String(length) = self.begin()? else { return Err(NOT_REDIS) };
        let bytes = length.map(|length| self.bytes(length, most)).transpose()?;
        self.owed -= 1;
        Ok(bytes)
    }

    /// The reply to a transaction of one command. Returns whether it was carried out.
    pub fn transaction(&mut self) -> Result<bool, Unread> {
        let was_done = match self.begin()? {
            Head::Array(None) => false,
            Head::Array(Some(1)) => match self.head()? {
                Head::Status => true,
                _ => return Err(NOT_REDIS),
            },
            _ => return Err(NOT_REDIS),
        };
        self.owed -= 1;
        Ok(was_done)
    }

    /// The reply that is an array, by its length. Its elements, of which [`Wire::element`] reads the next, must be read before
    /// [`Wire::end_array`].
    pub fn array(&mut self) -> Result<usize, Unread> {
        match self.begin()? {
            Head::Array(Some(length)) => Ok(length),
            _ => Err(NOT_REDIS),
        }
    }

    /// The next element of an array that is an array itself, by its length.
    pub fn inner_array(&mut self) -> Result<usize, Unread> {
        match self.head() {
            Ok(Head::Array(Some(length))) => Ok(length),
            Ok(_) | Err(Unread::Refusal(_)) => Err(NOT_REDIS),
            Err(unread) => Err(unread),
        }
    }

    /// The length of the next element of an array, which is a string or none, for [`Wire::bytes`] or [`Wire::skip`].
    pub fn element(&mut self) -> Result<Option<usize>, Unread> {
        match self.head() {
            Ok(Head::String(length)) => Ok(length),
            Ok(_) | Err(Unread::Refusal(_)) => Err(NOT_REDIS),
            Err(unread) => Err(unread),
        }
    }

    /// Notes that all elements of an array were read.
    pub fn end_array(&mut self) {
        self.owed -= 1;
    }

    /// The bytes of a string of that length.
    pub fn bytes(&mut self, length: usize, most: usize) -> Result<Vec<u8>, Unread> {
        if length > most {
            return Err(Unread::Long(length));
        }
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        self.end_string()?;
        Ok(bytes)
    }

    /// Passes over a string of that length, until the deadline at most.
    pub fn skip(&mut self, length: usize) -> Result<(), Unread> {
        let mut left = length;
        while left > 0 {
            let read = self.reader.fill_buf()?.len().min(left);
            if read == 0 {
                return Err(Unread::Failure(Failure::Lost));
            }
            self.reader.consume(read);
            left -= read;
        }
        self.end_string()
    }

    fn end_string(&mut self) -> Result<(), Unread> {
        let mut end = [0; 2];
        self.reader.read_exact(&mut end)?;
        if end == *b"\r\n" { Ok(()) } else { Err(NOT_REDIS) }
    }

    /// A reply that has no more than its beginning.
    fn reply(&mut self) -> Result<Head, Unread> {
        let head = self.begin()?;
        self.owed -= 1;
        Ok(head)
    }

    /// The beginning of a reply. An error has no more than that.
    fn begin(&mut self) -> Result<Head, Unread> {
        let head = self.head();
        if let Err(Unread::Refusal(_)) = head {
            self.owed -= 1;
        }
        head
    }

    fn head(&mut self) -> Result<Head, Unread> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LINE_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Err(Unread::Failure(Failure::Lost));
        }
        let rest = line.strip_suffix(b"\r\n").and_then(<[u8]>::split_first);
        let Some((kind, rest)) = rest else {
            let is_cut = !line.ends_with(b"\n") && (line.len() as u64) < LINE_BYTES;
            return Err(if is_cut { Unread::Failure(Failure::Lost) } else { NOT_REDIS });
        };
        let text = str::from_utf8(rest);
        let number = || text.ok()?.parse::<i64>().ok();
        // -1 is none.
        let length = || match number()? {
            -1 => Some(None),
            length => Some(Some(usize::try_from(length).ok()?)),
        };
        match kind {
            b'+' => Ok(Head::Status),
            b':' => number().map(Head::Integer).ok_or(NOT_REDIS),
            b'$' => length().map(Head::String).ok_or(NOT_REDIS),
            b'*' => length().map(Head::Array).ok_or(NOT_REDIS),
            b'-' => {
                let rest = &rest[..rest.len().min(ERROR_BYTES)];
                let text = String::from_utf8_lossy(rest).into_owned();
                Err(Unread::Refusal(Refusal { text }))
            }
            _ => Err(NOT_REDIS),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::socket::Socket;
    use super::*;

    /// A connection to a server that replies this to whatever it is sent, and closes the connection.
    fn replying(reply: &'static [u8]) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut command = [0; 64];
            let _ = stream.read(&mut command);
            let _ = stream.write_all(reply);
        });
        let mut wire =
            Wire::new(Stream::Plain(Socket::connect(address, Duration::from_secs(5)).unwrap()));
        wire.set_deadline(Instant::now() + Duration::from_secs(5));
        wire.send(&[&[b"PING"]]).unwrap();
        wire
    }

    #[test]
    fn replies_are_read_to_their_end() {
        assert!(replying(b"+OK\r\n").done().is_ok());
        assert_eq!(replying(b":-12\r\n").integer().unwrap(), -12);
        assert_eq!(replying(b"$3\r\na\r\n\r\n").string(3).unwrap(), Some(b"a\r\n".to_vec()));
        assert_eq!(replying(b"$-1\r\n").string(3).unwrap(), None);
        let mut wire = replying(b"*2\r\n$1\r\nx\r\n$-1\r\n");
        assert_eq!(wire.array().unwrap(), 2);
        assert_eq!(wire.element().unwrap(), Some(1));
        assert!(!wire.is_in_step());
        wire.skip(1).unwrap();
        assert_eq!(wire.element().unwrap(), None);
        wire.end_array();
        assert!(wire.is_in_step());
        assert!(replying(b"*1\r\n+OK\r\n").transaction().unwrap());
        assert!(!replying(b"*-1\r\n").transaction().unwrap());
        assert!(replying(b"*1\r\n-ERR\r\n").transaction().is_err());
    }

    #[test]
    fn an_error_is_known_by_its_code_alone() {
        for (reply, shown) in [
            (
                &b"-WRONGPASS invalid username-password pair\r\n"[..],
                "it refuses: WRONGPASS (the user or the password is wrong)",
            ),
            (b"-ERR 'SECRET' is no number\r\n", "it refuses: ERR"),
            (b"-secret\r\n", "it refuses: ERR"),
            (
                b"-ERR unknown command 'SECRET', with args beginning with: 'a'\r\n",
                "it refuses: it does not know the command: it is too old, or the command was renamed",
            ),
            (
                b"-ERR max number of clients reached\r\n",
                "it refuses: it has as many clients as it may have (maxclients)",
            ),
            (
                b"-ERR AUTH <password> called without any password configured for the default user. \
                Are you sure your configuration is correct?\r\n",
                "it refuses: it has no password, but annotation wasmtime.shim/keyvalue-password-file names one",
            ),
        ] {
            let mut wire = replying(reply);
            let refused: Failure = wire.integer().expect_err("is refused").into();
            assert_eq!(refused.to_string(), shown);
            assert!(wire.is_in_step(), "the next command can be sent");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_read() {
        for reply in [&b"$1000000000000\r\n"[..], b"$9223372036854775807\r\n", b"$4\r\n"] {
            assert!(matches!(replying(reply).string(3), Err(Unread::Long(_))));
        }
    }

    #[test]
    fn what_is_no_reply_is_a_failure_and_ends() {
        let failure = |reply| Failure::from(replying(reply).string(3).expect_err("is no reply"));
        for reply in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"$-2\r\n",
            b"$x\r\n",
            b"$3\r\nabcd\r\n",
            b"\r\n",
            b"*1\r\n",
            b":1\r\n",
            b"$3\n",
        ] {
            assert_eq!(failure(reply), Failure::NotRedis, "{reply:?}");
        }
        for reply in [&b""[..], b"$3", b"$3\r\nab"] {
            assert_eq!(failure(reply), Failure::Lost, "{reply:?}");
        }
        let line: &'static [u8] = vec![b'+'; 1 << 20].leak();
        assert_eq!(failure(line), Failure::NotRedis);
    }
}
