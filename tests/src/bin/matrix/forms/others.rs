//! Images of tools that copy and build without a daemon.

use super::Expected::{Refused, Runs};
use super::{ARTIFACT, COUNTS, Form, LAYER, NOT_UNPACKED, ORDINARY};

pub static FORMS: [Form; 16] = [
    Form {
        image: "oras-bare",
        tool: "oras",
        form: "artifact with an empty config",
        make: r#"oras push "$IMAGE:1" hello.wasm:application/wasm"#,
        ..ARTIFACT
    },
    Form {
        image: "oras-config",
        tool: "oras",
        form: "CNCF artifact",
        make: r#"echo '{"os":"wasip1","architecture":"wasm","layerDigests":[]}' > config.json
oras push "$IMAGE:1" --config config.json:application/vnd.wasm.config.v0+json hello.wasm:application/wasm"#,
        ..ARTIFACT
    },
    Form {
        image: "oras-copy",
        tool: "oras",
        form: "wasm layer, copied with what refers to it",
        make: r#"wasm_image build hello.wasm --sbom -t "$IMAGE-from:1" --push
command oras cp --recursive --from-plain-http --to-plain-http "$IMAGE-from:1" "$IMAGE:1"
oras discover "$IMAGE:1" | grep -q application/vnd.cyclonedx+json"#,
        platform: Some("wasip1/wasm"),
        ..LAYER
    },
    Form {
        image: "crane-append",
        tool: "crane",
        form: "file in an ordinary layer, gzip, no platform",
        make: r#"tar cf layer.tar hello.wasm
crane append --new_layer layer.tar --new_tag "$IMAGE:0"
crane mutate "$IMAGE:0" --entrypoint /hello.wasm --tag "$IMAGE:1""#,
        ..ORDINARY
    },
    Form {
        image: "crane-label",
        tool: "crane",
        form: "wasm layer, with another label",
        make: r#"wasm_image build hello.wasm -t "$IMAGE:0" --push
crane mutate "$IMAGE:0" --label a=b --tag "$IMAGE:1""#,
        platform: Some("wasip1/wasm"),
        ..LAYER
    },
    Form {
        image: "regctl-label",
        tool: "regctl",
        form: "wasm layer, with another label",
        make: r#"wasm_image build hello.wasm -t "$IMAGE:0" --push
regctl image mod "$IMAGE:0" --label a=b --create "$IMAGE:1""#,
        platform: Some("wasip1/wasm"),
        ..LAYER
    },
    Form {
        image: "regctl-artifact",
        tool: "regctl",
        form: "artifact with an empty config",
        make: r#"regctl artifact put --artifact-type application/wasm --file hello.wasm --file-media-type application/wasm "$IMAGE:1""#,
        ..ARTIFACT
    },
    Form {
        image: "skopeo-docker",
        tool: "skopeo",
        form: "ordinary layer, gzip, Docker's media types",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm -t "$IMAGE:1" -o app.tar
skopeo --format v2s2 oci-archive:app.tar "docker://$IMAGE:1""#,
        ..ORDINARY
    },
    Form {
        image: "skopeo-zstd",
        tool: "skopeo",
        form: "ordinary layer, zstd",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm -t "$IMAGE:1" -o app.tar
skopeo --format oci --dest-compress-format zstd oci-archive:app.tar "docker://$IMAGE:1""#,
        ..ORDINARY
    },
    Form {
        image: "buildah",
        tool: "buildah",
        form: "`FROM scratch`, `COPY`; gzip",
        make: r#"containers buildah build --isolation chroot --tag "$IMAGE:1" .
containers buildah push --tls-verify=false "$IMAGE:1""#,
        ..ORDINARY
    },
    Form {
        image: "buildah-wasi",
        tool: "buildah",
        form: "the same with `--platform wasi/wasm`",
        make: r#"containers buildah build --isolation chroot --platform wasi/wasm --tag "$IMAGE:1" .
containers buildah push --tls-verify=false "$IMAGE:1""#,
        ..NOT_UNPACKED
    },
    Form {
        image: "podman-docker",
        tool: "podman",
        form: "`FROM scratch`, `COPY`; Docker's media types",
        make: r#"containers podman build --isolation chroot --tag "$IMAGE:1" .
containers podman push --tls-verify=false --format v2s2 "$IMAGE:1""#,
        ..ORDINARY
    },
    Form {
        image: "oras-files",
        tool: "oras",
        form: "artifact of a wasm layer and a layer of files",
        make: r#"tar cf data.tar hello.wat
oras push "$IMAGE:1" hello.wasm:application/wasm data.tar:application/vnd.oci.image.layer.v1.tar"#,
        ..FILES
    },
    Form {
        image: "wkg",
        tool: "wkg",
        form: "CNCF artifact of a component",
        make: r#"wasm_image componentize hello.wasm -o app.wasm
wkg oci push --insecure "$REGISTRY" "$IMAGE:1" app.wasm"#,
        ..ARTIFACT
    },
    Form {
        image: "wkg-converted",
        tool: "wkg",
        form: "the same, converted",
        make: r#"wasm_image componentize hello.wasm -o app.wasm
wkg oci push --insecure "$REGISTRY" "$IMAGE:0" app.wasm
wasm_image convert "$IMAGE:0" -t "$IMAGE:1" --push"#,
        platform: Some("wasip2/wasm"),
        ..LAYER
    },
    Form {
        image: "wkg-pulled",
        tool: "wkg",
        form: "CNCF artifact of `wasm-image`, pulled and pushed again",
        make: r#"wasm_image componentize hello.wasm -o app.wasm
wasm_image build app.wasm --artifact -t "$IMAGE:0" --push
wkg oci pull --insecure "$REGISTRY" "$IMAGE:0" -o again.wasm
cmp app.wasm again.wasm
wkg oci push --insecure "$REGISTRY" "$IMAGE:1" again.wasm"#,
        ..ARTIFACT
    },
];

/// The files of an artifact count, but its config lists none. Since 2.1, containerd ignores them when CRI pulls.
const FILES: Form = Form {
    inspect: [Refused("its config is of type"), Refused("its config is of type"), Runs, Runs],
    cri: [COUNTS, COUNTS, Runs, Runs],
    ctr: [COUNTS; 4],
    dockerd: COUNTS,
    ..ARTIFACT
};
