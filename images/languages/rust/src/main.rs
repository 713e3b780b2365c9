//! One behaviour for each first argument.

use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs, io, process};

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    match args.next().as_deref() {
        Some("args") => args.for_each(|arg| println!("{arg}")),
        Some("env") => println!("{}", env::var("GREETING").unwrap_or_default()),
        Some("files") => files()?,
        Some("clock") => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            println!("{}", now.map_or(0, |it| it.as_secs()));
        }
        Some("exit") => process::exit(7),
        Some("stdin") => drop(io::copy(&mut io::stdin(), &mut io::stdout())?),
        Some("panic") => panic!("no such luck"),
        Some("cwd") => print!("{}", fs::read_to_string("in.txt")?),
        other => panic!("unknown case {other:?}"),
    }
    Ok(())
}

fn files() -> io::Result<()> {
    fs::write("/data/out.txt", "written\n")?;
    print!("{}", fs::read_to_string("/data/out.txt")?);
    for entry in fs::read_dir("/data")? {
        println!("{}", entry?.file_name().display());
    }
    Ok(())
}
