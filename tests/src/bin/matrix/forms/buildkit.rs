//! Images that BuildKit makes, with buildx or its own client.

use super::Expected::{self, Refused, Runs};
use super::{COUNTS, Form, NOT_UNPACKED, ORDINARY};

/// Before 2.0, containerd does not know Docker's media type of a layer compressed with zstd.
const NOT_KNOWN: Expected = Refused("does not know layers of type");

/// containerd 1.6 would have to unpack the layer, but cannot.
const NO_PROCESSOR: Expected = Refused("no processor for media-type");

pub static FORMS: [Form; 9] = [
    Form {
        image: "buildx",
        tool: "buildx",
        form: "`FROM scratch`, `COPY`; index with an attestation",
        make: r#"buildx --output "type=registry,name=$IMAGE:1,registry.insecure=true" .
crane manifest "$IMAGE:1" | grep -q '"unknown"'"#,
        ..ORDINARY
    },
    Form {
        image: "buildx-docker",
        tool: "buildx",
        form: "the same without an attestation, Docker's media types",
        make: r#"buildx --provenance=false --output "type=registry,name=$IMAGE:1,registry.insecure=true,oci-mediatypes=false" .
crane manifest "$IMAGE:1" | grep -q application/vnd.docker.image.rootfs.diff.tar.gzip"#,
        ..ORDINARY
    },
    Form {
        image: "buildx-zstd",
        tool: "buildx",
        form: "the same, zstd",
        make: r#"buildx --provenance=false --output "type=registry,name=$IMAGE:1,registry.insecure=true,oci-mediatypes=true,compression=zstd,force-compression=true" .
crane manifest "$IMAGE:1" | grep -q application/vnd.oci.image.layer.v1.tar+zstd"#,
        ..ORDINARY
    },
    Form {
        image: "buildx-wasi",
        tool: "buildx",
        form: "`--platform wasi/wasm`; index with an attestation",
        make: r#"buildx --platform wasi/wasm --output "type=registry,name=$IMAGE:1,registry.insecure=true" .
crane manifest "$IMAGE:1" | grep -q '"unknown"'"#,
        platform: Some("wasi/wasm"),
        inspect: [Refused("takes no image of the index"); 4],
        cri: [Refused("not found"); 4],
        ..ORDINARY
    },
    Form {
        image: "buildx-wasi-bare",
        tool: "buildx",
        form: "`--platform wasi/wasm`, without an attestation",
        make: r#"buildx --platform wasi/wasm --provenance=false --output "type=registry,name=$IMAGE:1,registry.insecure=true" ."#,
        ..NOT_UNPACKED
    },
    Form {
        image: "buildx-converted",
        tool: "buildx",
        form: "the same, converted",
        make: r#"buildx --platform wasi/wasm --provenance=false --output "type=registry,name=$IMAGE:0,registry.insecure=true" .
wasm_image convert "$IMAGE:0" -t "$IMAGE:1" --push"#,
        ..ORDINARY
    },
    Form {
        image: "buildctl-index",
        tool: "buildctl",
        form: "index of the node's platform and wasi/wasm",
        make: r#"buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=. --opt "platform=wasi/wasm,linux/$(dpkg --print-architecture)" --output "type=image,name=$IMAGE:1,push=true,registry.insecure=true""#,
        ..ORDINARY
    },
    Form {
        image: "buildx-no-layers",
        tool: "buildx",
        form: "no layers: `\"layers\": null`",
        make: r#"printf 'FROM scratch\nENTRYPOINT ["/hello.wasm"]\n' > Dockerfile
buildx --provenance=false --output "type=registry,name=$IMAGE:1,registry.insecure=true" .
crane manifest "$IMAGE:1" | tr -d ' \n' | grep -q '"layers":null'"#,
        inspect: [Refused("/hello.wasm"); 4],
        cri: [Refused("/hello.wasm"); 4],
        ctr: [Refused("/hello.wasm"); 4],
        dockerd: Refused("/hello.wasm"),
        ..ORDINARY
    },
    Form {
        image: "buildx-docker-zstd",
        tool: "buildx",
        form: "zstd, Docker's media types",
        make: r#"buildx --provenance=false --output "type=registry,name=$IMAGE:1,registry.insecure=true,oci-mediatypes=false,compression=zstd,force-compression=true" .
crane manifest "$IMAGE:1" | grep -q application/vnd.docker.image.rootfs.diff.tar.zstd"#,
        inspect: [NOT_KNOWN, NOT_KNOWN, Runs, Runs],
        cri: [NO_PROCESSOR, COUNTS, Runs, Runs],
        ctr: [NO_PROCESSOR, COUNTS, Runs, Runs],
        ..ORDINARY
    },
];
