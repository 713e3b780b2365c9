//! `ls`, `cat` and `stat`: files as the guest sees them.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// `ls`: prints names in order, one a line.
pub fn list(long: bool, paths: &[String]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let here = [".".to_owned()];
    let paths = if paths.is_empty() { &here } else { paths };
    for path in paths {
        let is_directory = fs::metadata(path).map_err(named(path))?.is_dir();
        let mut names = match is_directory {
            true => fs::read_dir(path)
                .map_err(named(path))?
                .map(|entry| Ok(entry?.file_name()))
                .collect::<io::Result<Vec<_>>>()?,
            false => vec![path.into()],
        };
        names.sort();
        for name in names {
            let file = if is_directory { Path::new(path).join(&name) } else { path.into() };
            let name = name.to_string_lossy();
            if long {
                let details = fs::symlink_metadata(&file).map_err(named(&name))?;
                write!(out, "{} ", line(&details))?;
            }
            writeln!(out, "{name}")?;
        }
    }
    out.flush()
}

/// `cat`: prints files; without a path, stdin.
pub fn cat(paths: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if paths.is_empty() {
        return io::copy(&mut io::stdin().lock(), &mut out).map(drop);
    }
    for path in paths {
        let mut file = File::open(path).map_err(named(path))?;
        io::copy(&mut file, &mut out).map_err(named(path))?;
    }
    Ok(())
}

/// `stat`: prints a line about each file.
pub fn stat(paths: &[String]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for path in paths {
        let details = fs::symlink_metadata(path).map_err(named(path))?;
        let (kind, line) = (kind(&details), line(&details));
        writeln!(out, "{path}: {kind}, {line}, modified {} s after 1970", details.mtime())?;
    }
    out.flush()
}

/// Type, mode, owner, group and size, as of `ls -l`, but with ids, because only the image may know the names.
fn line(details: &Metadata) -> String {
    let kind = match details.file_type() {
        it if it.is_dir() => 'd',
        it if it.is_symlink() => 'l',
        it if it.is_fifo() => 'p',
        it if it.is_socket() => 's',
        it if it.is_char_device() => 'c',
        it if it.is_block_device() => 'b',
        _ => '-',
    };
    let bit =
        |at: usize, letter: char| if details.mode() & (0o400 >> at) == 0 { '-' } else { letter };
    let mode: String =
        "rwxrwxrwx".chars().enumerate().map(|(at, letter)| bit(at, letter)).collect();
    format!("{kind}{mode} {} {} {:>10}", details.uid(), details.gid(), details.len())
}

fn kind(details: &Metadata) -> &'static str {
    match details.file_type() {
        it if it.is_dir() => "directory",
        it if it.is_symlink() => "link",
        it if it.is_file() => "file",
        _ => "special file",
    }
}

fn named(path: &str) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}
