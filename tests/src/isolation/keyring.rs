//! The session keyring of a process (keyrings(7)). `/proc` does not show it, so the process is made to ask the kernel.

use anyhow::Result;

/// The serial number of the process's session keyring, or why it does not say.
#[cfg(target_arch = "x86_64")]
pub fn of(pid: u32) -> Result<String> {
    use crate::captive::{Answer, Arg, Captive};
    use nix::libc::{KEY_SPEC_SESSION_KEYRING, KEYCTL_GET_KEYRING_ID, SYS_keyctl};

    let get = Arg::Number(KEYCTL_GET_KEYRING_ID.into());
    let session = Arg::Number(i64::from(KEY_SPEC_SESSION_KEYRING).cast_unsigned());
    Ok(match Captive::seize_unfiltered(pid)?.call(SYS_keyctl, &[get, session])? {
        Answer::Done(serial) => serial.to_string(),
        Answer::Failed(errno) => format!("refused: {errno}"),
        Answer::Waits => "it waits".to_owned(),
    })
}

/// Registers have other names there.
#[cfg(not(target_arch = "x86_64"))]
pub fn of(_pid: u32) -> Result<String> {
    Ok("not looked at".into())
}
