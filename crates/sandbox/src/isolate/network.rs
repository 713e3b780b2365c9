//! Set-up of a container's own UTS and network namespaces: names, and the loopback device.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::errors::{Failed, Step};
use crate::syscalls;

/// Brings up the loopback device (netdevice(7)) of this process's network namespace.
pub fn start_loopback() -> Result<(), Failed> {
    try_start().map_err(Failed::at(Step::Loopback))
}

/// Sets the host name (sethostname(2)).
pub fn set_host_name(name: &str) -> nix::Result<()> {
    syscalls::result(rustix::system::sethostname(name.as_bytes()))
}

/// Sets the NIS domain name (setdomainname(2)).
pub fn set_domain_name(name: &str) -> nix::Result<()> {
    syscalls::result(rustix::system::setdomainname(name.as_bytes()))
}

fn try_start() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the request is a struct of numbers, which may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads the request, which outlives the call.
    let set =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(set).map(drop)
}
