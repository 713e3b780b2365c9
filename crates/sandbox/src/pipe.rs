//! Unread bytes in a pipe or fifo (pipe(7)).

use std::os::fd::{AsFd, AsRawFd};

/// Number of unread bytes; 0 if `end` is not a pipe.
pub fn unread(end: &impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes an int to the address, which is one, and lives.
    let asked = unsafe { libc::ioctl(end.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if asked == 0 { usize::try_from(bytes).unwrap_or_default() } else { 0 }
}

#[cfg(test)]
mod tests {
    use nix::unistd::{pipe, write};

    use super::*;

    #[test]
    fn what_was_written_is_counted_at_either_end() {
        let (reading, writing) = pipe().expect("made");
        assert_eq!(unread(&reading), 0);
        write(&writing, b"text").expect("written");
        assert_eq!((unread(&reading), unread(&writing)), (4, 4));
    }
}
