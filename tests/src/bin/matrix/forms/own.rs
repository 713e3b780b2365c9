//! Images that `wasm-image` makes.

use super::Expected::{Refused, Runs};
use super::{ARTIFACT, Form, LAYER, NOT_UNPACKED, ORDINARY};

pub static FORMS: [Form; 12] = [
    Form {
        image: "own-rootfs",
        tool: "wasm-image",
        form: "file in an ordinary layer",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm -t "$IMAGE:1" --push"#,
        ..ORDINARY
    },
    Form {
        image: "own-layer",
        tool: "wasm-image",
        form: "wasm layer",
        make: r#"wasm_image build hello.wasm -t "$IMAGE:1" --push"#,
        platform: Some("wasip1/wasm"),
        ..LAYER
    },
    Form {
        image: "own-both",
        tool: "wasm-image",
        form: "wasm layer and ordinary layer",
        make: r#"wasm_image build hello.wasm --file hello.wasm:/data/hello -t "$IMAGE:1" --push"#,
        // CRI's own unpacker has a layer to unpack, and ignores the rest.
        inspect: [Runs; 4],
        cri: [Runs; 4],
        ..LAYER
    },
    Form {
        image: "own-artifact",
        tool: "wasm-image",
        form: "CNCF artifact",
        make: r#"wasm_image build hello.wasm --artifact -t "$IMAGE:1" --push"#,
        ..ARTIFACT
    },
    Form {
        image: "own-converted",
        tool: "wasm-image",
        form: "artifact, converted",
        make: r#"wasm_image build hello.wasm --artifact -t "$IMAGE:0" --push
wasm_image convert "$IMAGE:0" -t "$IMAGE:1" --push"#,
        platform: Some("wasip1/wasm"),
        ..LAYER
    },
    Form {
        image: "own-index",
        tool: "wasm-image",
        form: "index of linux/amd64 and linux/arm64",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm --platform linux/amd64,linux/arm64 -t "$IMAGE:1" --push"#,
        ..ORDINARY
    },
    Form {
        image: "own-zstd-layer",
        tool: "wasm-image",
        form: "wasm layer, zstd",
        make: r#"wasm_image build hello.wasm --compress -t "$IMAGE:1" --push"#,
        platform: Some("wasip1/wasm"),
        ..LAYER
    },
    Form {
        image: "own-zstd-rootfs",
        tool: "wasm-image",
        form: "file in an ordinary layer, zstd",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm --compress -t "$IMAGE:1" --push"#,
        ..ORDINARY
    },
    Form {
        image: "own-sbom",
        tool: "wasm-image",
        form: "wasm layer with a bill of materials",
        make: r#"wasm_image build hello.wasm --sbom -t "$IMAGE:1" --push
oras discover "$IMAGE:1" | grep -q application/vnd.cyclonedx+json
regctl artifact list "$IMAGE:1" | grep -q application/vnd.cyclonedx+json
cosign tree "$IMAGE:1" | grep -q application/vnd.cyclonedx+json"#,
        platform: Some("wasip1/wasm"),
        ..LAYER
    },
    Form {
        image: "own-wasi-rootfs",
        tool: "wasm-image",
        form: "file in an ordinary layer, for wasi/wasm",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm --platform wasi/wasm -t "$IMAGE:1" --push"#,
        ..NOT_UNPACKED
    },
    Form {
        image: "own-mended",
        tool: "wasm-image",
        form: "the same, converted",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm --platform wasi/wasm -t "$IMAGE:0" --push
wasm_image convert "$IMAGE:0" -t "$IMAGE:1" --push"#,
        ..ORDINARY
    },
    Form {
        image: "own-lesser",
        tool: "wasm-image",
        form: "index of linux/386 and linux/s390x, on a node of linux/amd64",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm --platform linux/386,linux/s390x -t "$IMAGE:1" --push"#,
        // With the transfer service, CRI only gets images for exactly the node's platform.
        inspect: [Runs, Runs, NO_PLATFORM, NO_PLATFORM],
        cri: [Runs, Runs, Refused("not found"), Refused("not found")],
        // `ctr` gets images for exactly the node's platform, but unpacks those for a compatible one.
        ctr: [Refused("not found"); 4],
        ..ORDINARY
    },
];

/// Refusal of an index without the node's platform.
const NO_PLATFORM: super::Expected = Refused("takes no image of the index");
