//! Filters of system calls as programs of the kernel's packet filter (seccomp(2), "Filters").
//!
//! libseccomp makes the filter of a spec. It would take a millisecond for the list of [`super::calls`], and so delay the first
//! container of each Pod. Here the number of the call is searched for by halves.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    sock_filter,
};
use nix::errno::Errno;

use super::calls::{Case, Condition};

/// Instructions.
pub type Program = Vec<sock_filter>;

/// Compares with a number.
pub const JUMP_IF_EQUAL: u16 = (BPF_JMP | BPF_JEQ | BPF_K) as u16;

const JUMP_IF_NOT_LESS: u16 = (BPF_JMP | BPF_JGE | BPF_K) as u16;
const JUMP: u16 = (BPF_JMP | BPF_JA) as u16;
const LOAD: u16 = (BPF_LD | BPF_W | BPF_ABS) as u16;
const AND: u16 = (BPF_ALU | BPF_AND | BPF_K) as u16;
const RETURN: u16 = (BPF_RET | BPF_K) as u16;

/// Offsets in `seccomp_data` of the call's number, of the kind of call, and of the first argument, on a processor that is
/// little-endian.
const NUMBER: u32 = 0;
const KIND: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Calls of 64-bit programs (`AUDIT_ARCH_X86_64`, `AUDIT_ARCH_AARCH64`).
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Decision about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The call is made.
    Allow,
    /// It fails with that error.
    Fail(Errno),
    /// It is made if its arguments are those of one of the cases, and otherwise fails with EPERM.
    Check(&'static [Case]),
}

/// Numbers from this one on, up to those of the next range, and what is decided about them.
pub type Range = (u32, Decision);

/// Program that decides by ranges of numbers, of which the first begins at 0. A call of another kind, as from 32-bit code, ends
/// the process.
pub fn of(ranges: &[Range]) -> Program {
    let kind = [
        instruction(LOAD, KIND),
        jump(JUMP_IF_EQUAL, NATIVE, 1, 0),
        instruction(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(LOAD, NUMBER),
    ];
    kind.into_iter().chain(search(ranges)).collect()
}

fn search(ranges: &[Range]) -> Program {
    let (left, right) = match ranges {
        [] => return vec![decided(Decision::Fail(Errno::EPERM))],
        [(_, Decision::Check(cases))] => return check(cases),
        [(_, decision)] => return vec![decided(*decision)],
        several => several.split_at(several.len() / 2),
    };
    let first = right[0].0;
    let (left, right) = (search(left), search(right));
    let length = left.len() as u32;
    let beginning = match u8::try_from(length) {
        Ok(length) => vec![jump(JUMP_IF_NOT_LESS, first, length, 0)],
        // A conditional jump is not long enough.
        Err(_) => vec![jump(JUMP_IF_NOT_LESS, first, 0, 1), instruction(JUMP, length)],
    };
    [beginning, left, right].concat()
}

fn check(cases: &[Case]) -> Program {
    let mut program: Program = cases.iter().flat_map(|case| conditions(case)).collect();
    program.push(decided(Decision::Fail(Errno::EPERM)));
    program
}

/// Allows the call if all conditions hold, and otherwise continues after these instructions.
fn conditions(case: Case) -> Program {
    let mut program = vec![decided(Decision::Allow)];
    for condition in case.iter().rev() {
        let Condition { argument, mask, value } = *condition;
        let at = ARGUMENTS + argument * size_of::<u64>() as u32;
        for (at, mask, value) in [(at + 4, mask >> 32, value >> 32), (at, mask, value)] {
            let (mask, value) = (mask as u32, value as u32);
            if mask == 0 {
                continue;
            }
            let skipped = program.len() as u8;
            let masked = (mask != u32::MAX).then(|| instruction(AND, mask));
            let compared = [jump(JUMP_IF_EQUAL, value, 0, skipped)];
            let load = [instruction(LOAD, at)];
            program = load.into_iter().chain(masked).chain(compared).chain(program).collect();
        }
    }
    program
}

fn decided(decision: Decision) -> sock_filter {
    match decision {
        Decision::Allow => instruction(RETURN, libc::SECCOMP_RET_ALLOW),
        Decision::Fail(errno) => {
            instruction(RETURN, libc::SECCOMP_RET_ERRNO | (errno as i32).cast_unsigned())
        }
        // It is more than one instruction.
        Decision::Check(_) => decided(Decision::Fail(Errno::EPERM)),
    }
}

fn instruction(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips so many instructions if the condition holds, or does not.
fn jump(code: u16, k: u32, if_so: u8, otherwise: u8) -> sock_filter {
    sock_filter { code, jt: if_so, jf: otherwise, k }
}
