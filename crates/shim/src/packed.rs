//! Messages packed as `google.protobuf.Any`. Their type is the full name without a URL before it, as in containerd.
//!
//! The name is made of constants. `containerd_shim::util::convert_to_any` gets it from the message's descriptor, which builds all
//! descriptors of that file and of those that it includes, and half a megabyte of them stays in every shim.

use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{self, Message};

/// Packs a message of a protobuf package, such as `containerd.events`.
///
/// # Errors
/// If the message is larger than 2 GiB.
pub fn pack<M: Message>(package: &str, message: &M) -> protobuf::Result<Any> {
    let value = message.write_to_bytes()?;
    Ok(Any { type_url: format!("{package}.{}", M::NAME), value, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim::protos::cgroups::metrics as v1;
    use containerd_shim::protos::cgroups_v2::metrics as v2;
    use containerd_shim::protos::events::task::{TaskExit, TaskOOM};
    use containerd_shim::protos::protobuf::MessageDyn;
    use containerd_shim::util::convert_to_any;

    fn assert_same<M: Message + MessageDyn>(package: &str, message: M) {
        let packed = pack(package, &message).expect("encodes");
        assert_eq!(packed, convert_to_any(Box::new(message)).expect("encodes"));
    }

    #[test]
    fn what_is_packed_is_named_as_its_descriptor_names_it() {
        let exit = TaskExit { container_id: "c1".into(), pid: 7, ..Default::default() };
        assert_same(crate::events::PACKAGE, exit);
        assert_same(crate::events::PACKAGE, TaskOOM::default());
        assert_same(crate::stats::V2, v2::Metrics::default());
        assert_same(crate::stats::V1, v1::Metrics::default());
    }
}
