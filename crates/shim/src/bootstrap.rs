//! Input of the `start` action from containerd, and the form of the answer.
//!
//! | containerd | in | out |
//! |---|---|---|
//! | 1.6 | flags and environment | the address |
//! | 1.7 to 2.2 | the same, `MAX_SHIM_VERSION` in the environment, runtime options on stdin | JSON |
//! | 2.3 on | `BootstrapParams` on stdin | `BootstrapResult` |
//!
//! The crate `containerd-shim` only supports 2.x, which does not understand a plain address any more.

use std::env;
use std::io::{IsTerminal, Read, Write};

use anyhow::Context;
use containerd_shim::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::{Flags, StartOpts};

/// Size of the largest input, which is containerd's own limit of its bootstrap message.
const MAX_INPUT_BYTES: u64 = 10 << 20;

/// Protocol of the task service.
const PROTOCOL: &str = "ttrpc";

/// Latest version of the task API that is served. Version 3 is version 2 under another name (containerd 2.0); both are served.
const TASK_API_VERSION: i32 = 3;

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The address only.
    Address,
    /// JSON, with a task API of at most this version.
    Json(i32),
    /// `BootstrapResult`.
    Bootstrap,
}

/// Reads the input of the `start` action.
pub fn read(flags: &Flags) -> anyhow::Result<(StartOpts, Dialect)> {
    let input = read_stdin()?;
    let newest = env::var("MAX_SHIM_VERSION").ok();
    parse(&input, flags, newest.as_deref(), env::var("TTRPC_ADDRESS").ok())
}

/// Reads stdin, if containerd has piped something in.
pub fn read_stdin() -> anyhow::Result<Vec<u8>> {
    let mut input = Vec::new();
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        stdin.lock().take(MAX_INPUT_BYTES).read_to_end(&mut input).context("read stdin")?;
    }
    Ok(input)
}

/// Answers the `start` action.
pub fn reply(address: &str, dialect: Dialect) -> anyhow::Result<()> {
    let bytes = encode(address, dialect)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&bytes).and_then(|()| stdout.flush()).context("answer containerd")
}

fn encode(address: &str, dialect: Dialect) -> anyhow::Result<Vec<u8>> {
    Ok(match dialect {
        Dialect::Address => address.into(),
        Dialect::Json(newest) => serde_json::to_vec(&serde_json::json!({
            "version": newest.min(TASK_API_VERSION), "address": address, "protocol": PROTOCOL,
        }))?,
        Dialect::Bootstrap => BootstrapResult {
            version: TASK_API_VERSION,
            address: address.into(),
            protocol: PROTOCOL.into(),
            ..Default::default()
        }
        .write_to_bytes()?,
    })
}

fn parse(
    input: &[u8],
    flags: &Flags,
    newest: Option<&str>,
    ttrpc_address: Option<String>,
) -> anyhow::Result<(StartOpts, Dialect)> {
    if let Some(params) = bootstrap_params(input, flags) {
        return Ok((params.into(), Dialect::Bootstrap));
    }
    let dialect = match newest {
        None => Dialect::Address,
        Some(text) => Dialect::Json(text.parse().with_context(|| {
            format!("MAX_SHIM_VERSION={text:?} in the environment is not a number")
        })?),
    };
    let mut params = BootstrapParams {
        instance_id: flags.id.clone(),
        namespace: flags.namespace.clone(),
        containerd_ttrpc_address: ttrpc_address.unwrap_or_default(),
        containerd_grpc_address: flags.address.clone(),
        containerd_binary: flags.publish_binary.clone(),
        ..Default::default()
    };
    if let Some(options) = Any::parse_from_bytes(input).ok().filter(|any| !any.type_url.is_empty())
    {
        params.extensions.push(Extension { value: Some(options).into(), ..Default::default() });
    }
    let mut options = StartOpts::from(params);
    options.debug = flags.debug;
    Ok((options, dialect))
}

/// Decodes `BootstrapParams`. Runtime options, which older versions pipe in, decode as this message too, but do not have the id
/// of the flags.
fn bootstrap_params(input: &[u8], flags: &Flags) -> Option<BootstrapParams> {
    let params = BootstrapParams::parse_from_bytes(input).ok()?;
    (!input.is_empty() && params.instance_id == flags.id && params.namespace == flags.namespace)
        .then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags { id: "c1".into(), namespace: "k8s.io".into(), ..Default::default() }
    }

    fn dialect(input: &[u8], newest: Option<&str>) -> Dialect {
        parse(input, &flags(), newest, None).expect("parses").1
    }

    #[test]
    fn each_containerd_gets_the_form_it_reads() {
        let params = BootstrapParams {
            instance_id: "c1".into(),
            namespace: "k8s.io".into(),
            ..Default::default()
        };
        let params = params.write_to_bytes().expect("encodes");
        assert_eq!(dialect(&[], None), Dialect::Address);
        assert_eq!(dialect(&[], Some("2")), Dialect::Json(2));
        assert_eq!(dialect(&params, Some("3")), Dialect::Bootstrap);
    }

    #[test]
    fn runtime_options_on_stdin_are_not_mistaken_for_bootstrap_params() {
        let any = Any { type_url: "containerd.runc.v1.Options".into(), ..Default::default() };
        let input = any.write_to_bytes().expect("encodes");
        let (options, dialect) = parse(&input, &flags(), Some("3"), None).expect("parses");
        assert_eq!(dialect, Dialect::Json(3));
        assert_eq!(options.extensions.len(), 1);
    }

    #[test]
    fn an_older_containerd_is_offered_no_newer_api() {
        let json = encode("unix:///s", Dialect::Json(2)).expect("encodes");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("is JSON");
        assert_eq!(
            json,
            serde_json::json!({"version": 2, "address": "unix:///s", "protocol": "ttrpc"})
        );
    }
}
