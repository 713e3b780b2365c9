//! Exit codes of a container whose guest did not return one.

/// The image cannot run (not wasm, damaged, precompiled, an import that is not provided).
pub const CANNOT_RUN: u8 = 126;

/// There is no such entrypoint or export.
pub const NOT_FOUND: u8 = 127;

/// The guest has used up its time (as timeout(1) has it) or its fuel.
pub const LIMIT_REACHED: u8 = 124;

/// The arguments of a call are not what the export takes (as a shell has it).
pub const MISUSED: u8 = 2;

/// The guest trapped (128 + SIGABRT, as of a native program that aborts).
pub const TRAPPED: u8 = 134;
