//! The `-info` flag: describes the runtime to containerd 2.x before any shim exists (containerd,
//! api/types/introspection.proto).
//!
//! The features are those of the OCI runtime that runs Linux programs. Guests also have those that containerd and kubelet check
//! for a Pod: recursive read-only mounts and mounts with other ids.

use std::io::Write;

use anyhow::Context;
use containerd_shim::Flags;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use crate::bootstrap;
use crate::options::Options;

/// Runtime type of this binary.
const RUNTIME: &str = "io.containerd.wasmtime.v1";

/// Type of the features, as containerd names messages that are JSON (containerd, typeurl).
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Reads the runtime options from stdin, and writes `RuntimeInfo` to stdout. Options that would fail in Create fail here, too.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let input = bootstrap::read_stdin()?;
    let given = Any::parse_from_bytes(&input).context("runtime options on stdin")?;
    let options = Options::parse(Some(&given))?;
    let version =
        RuntimeVersion { version: env!("CARGO_PKG_VERSION").into(), ..Default::default() };
    let info = RuntimeInfo {
        name: RUNTIME.into(),
        version: Some(version).into(),
        options: (!given.type_url.is_empty()).then_some(given).into(),
        features: features(&options, &flags.namespace).into(),
        ..Default::default()
    };
    std::io::stdout().write_all(&info.write_to_bytes()?).context("write the runtime info")
}

/// Features of the OCI runtime. `None` if there is no runtime, or it does not report them; guests run all the same.
fn features(options: &Options, namespace: &str) -> Option<Any> {
    let features = options.runtime(namespace).features();
    let features = features.inspect_err(|error| eprintln!("containerd-shim-wasmtime-v1: {error}"));
    let value = features.ok()??.to_string().into_bytes();
    Some(Any { type_url: FEATURES.into(), value, ..Default::default() })
}
