//! Seccomp filter of the spec (OCI runtime spec, "Seccomp"; seccomp(2)), made by libseccomp.

use libseccomp::error::SeccompError;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall, Spec,
};

use super::errors::{Failed, Step};

/// The call that adds a filter. Whatever the spec says of it, this runtime's own filters must be added later, and they refuse it
/// from then on ([`crate::confine`]).
const ADDS_FILTERS: &str = "seccomp";

/// Loads the filter, if the spec has one. From here on it is in force for this process and its children.
pub fn load(spec: &Spec) -> Result<(), Failed> {
    let Some(filter) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(());
    };
    let asks = |action: LinuxSeccompAction| action == LinuxSeccompAction::ScmpActNotify;
    let mut syscalls = filter.syscalls().iter().flatten();
    if asks(filter.default_action()) || syscalls.any(|syscall| asks(syscall.action())) {
        let reason = "its profile asks a listener (SCMP_ACT_NOTIFY), which a guest has none of";
        return Err(Failed::new(Step::Seccomp, reason));
    }
    make(filter)
        .and_then(|context| context.load())
        .map_err(|error| Failed::new(Step::Seccomp, error.to_string()))
}

fn make(filter: &LinuxSeccomp) -> Result<ScmpFilterContext, SeccompError> {
    let default = action(filter.default_action(), filter.default_errno_ret());
    let mut context = ScmpFilterContext::new(default)?;
    for flag in filter.flags().iter().flatten() {
        match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => context.set_ctl_log(true)?,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => context.set_ctl_tsync(true)?,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => context.set_ctl_ssb(true)?,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                context.set_ctl_waitkill(true)?
            }
        };
    }
    for of in filter.architectures().iter().flatten() {
        context.add_arch(architecture(*of))?;
    }
    // The spec decides whether the process has no_new_privs.
    context.set_ctl_nnp(false)?;
    for syscall in filter.syscalls().iter().flatten() {
        add(&mut context, syscall, default)?;
    }
    if default != ScmpAction::Allow {
        let another =
            ScmpArgCompare::new(0, ScmpCompareOp::Equal, libc::SECCOMP_SET_MODE_FILTER.into());
        let number = ScmpSyscall::from_name(ADDS_FILTERS)?;
        context.add_rule_conditional(ScmpAction::Allow, number, &[another])?;
    }
    Ok(context)
}

fn add(
    context: &mut ScmpFilterContext,
    syscall: &LinuxSyscall,
    default: ScmpAction,
) -> Result<(), SeccompError> {
    let action = action(syscall.action(), syscall.errno_ret());
    // libseccomp refuses a rule that changes nothing.
    if action == default {
        return Ok(());
    }
    let conditions: Vec<_> = syscall.args().iter().flatten().map(condition).collect();
    for name in syscall.names().iter().filter(|name| *name != ADDS_FILTERS) {
        // If the library does not know a name, the kernel does not have the system call either.
        let Ok(number) = ScmpSyscall::from_name(name) else { continue };
        if compares_twice(syscall.args().as_deref().unwrap_or_default()) {
            // A rule takes one condition for each argument. So each condition becomes a rule, as in runc.
            for condition in &conditions {
                context.add_rule_conditional(action, number, std::slice::from_ref(condition))?;
            }
        } else {
            context.add_rule_conditional(action, number, &conditions)?;
        }
    }
    Ok(())
}

fn compares_twice(arguments: &[LinuxSeccompArg]) -> bool {
    let mut indexes: Vec<_> = arguments.iter().map(LinuxSeccompArg::index).collect();
    indexes.sort_unstable();
    indexes.windows(2).any(|pair| pair[0] == pair[1])
}

fn condition(argument: &LinuxSeccompArg) -> ScmpArgCompare {
    let operator = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        // The first value is the mask, and the second one the masked argument.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            let left = argument.value_two().unwrap_or(0);
            let masked = ScmpCompareOp::MaskedEqual(argument.value());
            return ScmpArgCompare::new(argument.index() as u32, masked, left);
        }
    };
    ScmpArgCompare::new(argument.index() as u32, operator, argument.value())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let number = errno.map_or(libc::EPERM, |errno| errno as i32);
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(number),
        // The kernel passes 16 bits to the tracer.
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(number as u16),
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
    }
}

fn architecture(of: Arch) -> ScmpArch {
    match of {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}
