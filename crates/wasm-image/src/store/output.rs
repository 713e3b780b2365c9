//! Writes a command's output file, which exists completely or not at all. `-` is standard output. Standard output must
//! not be a terminal, because binary output could contain control sequences for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::blob;
use crate::errors::Error;
use crate::scratch;

/// Path that stands for standard output.
pub const STDOUT: &str = "-";

/// Output of a command.
#[derive(Debug)]
pub enum Output {
    /// A temporary file, and its final path.
    File(scratch::File, PathBuf),
    /// A pipe or device, and its path.
    Stream(File, PathBuf),
    /// Standard output.
    Stdout(io::Stdout),
}

impl Output {
    /// Opens an output.
    ///
    /// # Errors
    /// [`Error::Usage`] for a terminal.
    pub fn create(path: &Path) -> Result<Self> {
        if is_stdout(path) {
            return Ok(Self::Stdout(off_terminal(io::stdout(), path)?));
        }
        // If the path is a link such as /dev/stdout, the link stays and its target is written.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
            let file = OpenOptions::new().write(true).open(&path);
            let file = file.with_context(|| cannot_write(&path))?;
            return Ok(Self::Stream(off_terminal(file, &path)?, path));
        }
        Ok(Self::File(blob::beside(&path)?, path))
    }

    /// Finishes the output. A file now gets its name.
    pub fn finish(mut self) -> Result<()> {
        self.flush().with_context(|| cannot_write(self.path()))?;
        match self {
            Self::File(file, path) => blob::put(file, &path),
            Self::Stream(..) | Self::Stdout(_) => Ok(()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(_, path) | Self::Stream(_, path) => path,
            Self::Stdout(_) => Path::new("standard output"),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => file.write(bytes),
            Self::Stream(file, _) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file, _) => file.flush(),
            Self::Stream(file, _) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// Fails as [`Output::create`] would, but opens nothing, because another program may wait to read it.
///
/// # Errors
/// [`Error::Usage`] for a terminal.
pub fn check(path: &Path) -> Result<(), Error> {
    if is_stdout(path) {
        return off_terminal(io::stdout(), path).map(drop);
    }
    let is_device = fs::metadata(path).is_ok_and(|it| it.file_type().is_char_device());
    let device = is_device.then(|| OpenOptions::new().write(true).open(path));
    match device {
        Some(Ok(device)) => off_terminal(device, path).map(drop),
        _ => Ok(()),
    }
}

/// Returns whether a path stands for standard output.
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new(STDOUT)
}

/// Writes a whole output.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path)?;
    output.write_all(bytes).with_context(|| cannot_write(path))?;
    output.finish()
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn off_terminal<T: IsTerminal>(stream: T, path: &Path) -> Result<T, Error> {
    match stream.is_terminal() {
        false => Ok(stream),
        true => Err(Error::Usage(format!(
            "cannot write to \"{}\": it is a terminal, and the output is not text; name a file, or \
             redirect it with `>` or `|`",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_device_and_a_link_are_written_to_and_stay_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let (link, file) = (directory.path().join("link"), directory.path().join("file"));
        fs::write(&file, "old").unwrap();
        symlink(&file, &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");

        let device = directory.path().join("device");
        symlink("/dev/null", &device).unwrap();
        write(&device, b"new").unwrap();
        assert!(!fs::metadata(&device).unwrap().is_file());
    }
}
