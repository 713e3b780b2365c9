//! The images: which tool makes them in which form, and what is expected of them.
//!
//! What containerd does with a form is its own; what is expected is what its users have to know.

use std::fmt;

/// What should become of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// It runs.
    Runs,
    /// It is refused with these words.
    Refused(&'static str),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Runs => f.write_str("runs"),
            Expected::Refused(word) => write!(f, "refused: {word}"),
        }
    }
}

/// An image.
pub struct Form {
    /// Its repository in the registry.
    pub image: &'static str,
    /// The tool that makes it.
    pub tool: &'static str,
    /// In which form, in words.
    pub form: &'static str,
    /// The lines of shell that make it, as `$IMAGE:1`.
    pub make: &'static str,
    /// Whether its Pod has to give a `command`.
    pub needs_command: bool,
    /// The platform that `ctr` is told.
    pub platform: Option<&'static str>,
    /// What `wasm-image inspect` should say.
    pub inspect: Expected,
    /// What CRI of containerd 1.6 should do.
    pub cri_1: Expected,
    /// And that of 2.
    pub cri_2: Expected,
    /// What `ctr` of containerd 1.6 should do.
    pub ctr_1: Expected,
    /// And that of 2.
    pub ctr_2: Expected,
}

use Expected::{Refused, Runs};

/// containerd 1.6 counts a wasm layer as one that it has to unpack.
const COUNTS: Expected = Refused("mismatched image rootfs");

/// An ordinary image for the node: it runs everywhere. Others say what differs.
const ORDINARY: Form = Form {
    image: "",
    tool: "",
    form: "",
    make: "",
    needs_command: false,
    platform: None,
    inspect: Runs,
    cri_1: Runs,
    cri_2: Runs,
    ctr_1: Runs,
    ctr_2: Runs,
};

/// An image with wasm layers.
const LAYER: Form = Form { cri_1: COUNTS, ctr_1: COUNTS, ..ORDINARY };

/// An artifact: `ctr` knows no config but an image's.
const ARTIFACT: Form =
    Form { needs_command: true, ctr_2: Refused("unknown image config media type"), ..LAYER };

/// An image for a platform of wasm with ordinary layers: containerd 2.3 and later do not unpack it.
const NOT_UNPACKED: Form = Form {
    platform: Some("wasi/wasm"),
    inspect: Refused("does not unpack its files"),
    cri_2: Refused("parent snapshot"),
    ..ORDINARY
};

/// All of them.
pub static FORMS: [Form; 25] = [
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
        // CRI's own unpacker has something to do, and passes over the rest.
        cri_1: Runs,
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
regctl artifact list "$IMAGE:1" | grep -q application/vnd.cyclonedx+json"#,
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
        make: r#"printf 'FROM scratch\nCOPY hello.wasm /\nENTRYPOINT ["/hello.wasm"]\n' > Containerfile
containers buildah build --isolation chroot --tag "$IMAGE:1" .
containers buildah push --tls-verify=false "$IMAGE:1""#,
        ..ORDINARY
    },
    Form {
        image: "buildah-wasi",
        tool: "buildah",
        form: "the same with `--platform wasi/wasm`",
        make: r#"printf 'FROM scratch\nCOPY hello.wasm /\nENTRYPOINT ["/hello.wasm"]\n' > Containerfile
containers buildah build --isolation chroot --platform wasi/wasm --tag "$IMAGE:1" .
containers buildah push --tls-verify=false "$IMAGE:1""#,
        ..NOT_UNPACKED
    },
    Form {
        image: "podman-docker",
        tool: "podman",
        form: "`FROM scratch`, `COPY`; Docker's media types",
        make: r#"printf 'FROM scratch\nCOPY hello.wasm /\nENTRYPOINT ["/hello.wasm"]\n' > Containerfile
containers podman build --isolation chroot --tag "$IMAGE:1" .
containers podman push --tls-verify=false --format v2s2 "$IMAGE:1""#,
        ..ORDINARY
    },
    Form {
        image: "attested",
        tool: "by hand, as BuildKit",
        form: "index with an attestation",
        make: r#"wasm_image build --file hello.wasm:/hello.wasm --entrypoint /hello.wasm -t "$IMAGE:0" --push
entry() { crane manifest "$IMAGE:0" > manifest; printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"platform":{"os":"%s","architecture":"%s"}}' "$(crane digest "$IMAGE:0")" "$(wc -c < manifest)" "$1" "$2"; }
put 1 application/vnd.oci.image.index.v1+json '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['"$(entry linux "$(dpkg --print-architecture)")"','"$(entry unknown unknown)"']}'"#,
        ..ORDINARY
    },
    Form {
        image: "null-layers",
        tool: "by hand, as BuildKit",
        form: "`\"layers\": null`",
        make: r#"wasm_image build hello.wasm -t "$IMAGE:0" --push
crane manifest "$IMAGE:0" | sed 's/"layers":\[[^]]*\]/"layers":null/' > manifest
put 1 application/vnd.oci.image.manifest.v1+json @manifest"#,
        platform: Some("wasip1/wasm"),
        inspect: Refused("/hello.wasm"),
        cri_1: Refused("/hello.wasm"),
        cri_2: Refused("/hello.wasm"),
        ctr_1: Refused("/hello.wasm"),
        ctr_2: Refused("/hello.wasm"),
        ..ORDINARY
    },
];
