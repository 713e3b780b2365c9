//! `-info`: describes the runtime to containerd 2.x before any shim exists (containerd, api/types/introspection.proto).

use std::io::Write;

use anyhow::Context;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use crate::bootstrap;
use crate::options::Options;

/// The runtime type this binary answers to.
const RUNTIME: &str = "io.containerd.wasmtime.v1";

/// Reads the runtime options from stdin, and writes `RuntimeInfo` to stdout. Options that would fail in
/// Create fail here.
pub fn run() -> anyhow::Result<()> {
    let input = bootstrap::read_stdin()?;
    let options = Any::parse_from_bytes(&input).context("runtime options on stdin")?;
    Options::parse(Some(&options))?;
    let version =
        RuntimeVersion { version: env!("CARGO_PKG_VERSION").into(), ..Default::default() };
    let info = RuntimeInfo {
        name: RUNTIME.into(),
        version: Some(version).into(),
        options: (!options.type_url.is_empty()).then_some(options).into(),
        ..Default::default()
    };
    std::io::stdout().write_all(&info.write_to_bytes()?).context("write the runtime info")
}
