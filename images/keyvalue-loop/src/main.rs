//! Prints the time of one `get` of `wasi:keyvalue` in nanoseconds, the mean of as many as the argument says. The value has 100
//! bytes. If something fails, stderr says what and the exit code is 1.

mod bindings {
    wit_bindgen::generate!({ path: "../hello-keyvalue/wit", world: "hello", generate_all });
}

use std::process::ExitCode;
use std::time::Instant;

use bindings::wasi::keyvalue::store::{Error, open};

const KEY: &str = "key";
const VALUE: [u8; 100] = [b'x'; 100];

fn main() -> ExitCode {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1);
    match mean(count) {
        Ok(nanoseconds) => {
            println!("{nanoseconds}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("keyvalue-loop: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn mean(count: u32) -> Result<u128, Error> {
    let bucket = open("")?;
    bucket.set(KEY, &VALUE)?;
    let since = Instant::now();
    for _ in 0..count {
        if bucket.get(KEY)?.as_deref() != Some(VALUE.as_slice()) {
            return Err(Error::Other("another value".to_owned()));
        }
    }
    Ok(since.elapsed().as_nanos() / u128::from(count.max(1)))
}
