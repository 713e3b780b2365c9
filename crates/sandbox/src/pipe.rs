//! Unread bytes in a pipe or fifo (pipe(7)).

use std::os::fd::AsFd;

/// Number of unread bytes; 0 if `end` is not a pipe.
pub fn unread(end: &impl AsFd) -> usize {
    rustix::io::ioctl_fionread(end).ok().and_then(|bytes| bytes.try_into().ok()).unwrap_or(0)
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
