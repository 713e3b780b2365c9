//! Makes the images that critest asks for by name, from busybox and replacements. `images/critest` has their files.

use std::path::Path;

use anyhow::{Context, Result};
use tests::containerd::{repository, wasm_image};
use tests::registry::Registry;
use tests::{Node, command};

/// An image with all its names, as path and tag, and its options for `wasm-image build`.
struct Image {
    names: &'static [&'static str],
    options: &'static [&'static str],
}

const IMAGES: [Image; 15] = [
    Image { names: &["e2e-test-images/busybox:1.29-2"], options: &[] },
    Image {
        names: &["e2e-test-images/nginx:1.14-2"],
        options: &["--entrypoint", "nginx", "--cmd", "master process", "--cmd", "80"],
    },
    Image {
        names: &[
            "k8s-staging-cri-tools/hostnet-nginx-amd64:latest",
            "k8s-staging-cri-tools/hostnet-nginx-arm64:latest",
        ],
        options: &["--entrypoint", "nginx", "--cmd", "master process", "--cmd", "12003"],
    },
    Image {
        names: &["e2e-test-images/httpd:2.4.39-4"],
        options: &["--entrypoint", "nginx", "--cmd", "httpd", "--cmd", "80"],
    },
    Image { names: &["e2e-test-images/nonewprivs:1.3"], options: &["--entrypoint", "nnp"] },
    Image { names: &["pause:3.9"], options: &["--entrypoint", "nginx", "--cmd", "80"] },
    Image {
        names: &["k8s-staging-cri-tools/test-image-user-uid:latest"],
        options: &["--user", "1002"],
    },
    Image {
        names: &["k8s-staging-cri-tools/test-image-user-username:latest"],
        options: &["--user", "www-data"],
    },
    Image {
        names: &["k8s-staging-cri-tools/test-image-user-uid-group:latest"],
        options: &["--user", "1003:users"],
    },
    Image {
        names: &["k8s-staging-cri-tools/test-image-user-username-group:latest"],
        options: &["--user", "www-data:100"],
    },
    Image {
        names: &["k8s-staging-cri-tools/test-image-predefined-group:latest"],
        options: &["--user", "1000"],
    },
    Image {
        names: &[
            "k8s-staging-cri-tools/test-image-latest:latest",
            "k8s-staging-cri-tools/test-image-tag:test",
            "k8s-staging-cri-tools/test-image-tag:all",
            "k8s-staging-cri-tools/test-image-1:latest",
        ],
        options: &["--label", "number=1"],
    },
    Image {
        names: &["k8s-staging-cri-tools/test-image-2:latest"],
        options: &["--label", "number=2"],
    },
    Image {
        names: &["k8s-staging-cri-tools/test-image-3:latest"],
        options: &["--label", "number=3"],
    },
    Image {
        names: &[
            "k8s-staging-cri-tools/test-image-tags:1",
            "k8s-staging-cri-tools/test-image-tags:2",
            "k8s-staging-cri-tools/test-image-tags:3",
        ],
        options: &["--label", "tags=3"],
    },
];

/// Makes all images and pushes them to the registry.
pub fn push(node: &Node, registry: &Registry) -> Result<()> {
    let archive = node.volume("archives")?.join("image.tar");
    for Image { names, options } in IMAGES {
        for name in names {
            build(&format!("{}/{name}", registry.address), &archive, options)
                .and_then(|()| registry.push(node, &archive, name))
                .with_context(|| format!("image {name}"))?;
        }
    }
    Ok(())
}

fn build(name: &str, archive: &Path, options: &[&str]) -> Result<()> {
    let target = repository().join("target");
    let rootfs = target.join("images/critest-rootfs").display().to_string();
    let archive = archive.display().to_string();
    let fixed =
        ["build", "--tag", name, "--output", &archive, "--rootfs", &rootfs, "--env", "PATH=/bin"];
    let shell: &[&str] = if options.contains(&"--entrypoint") { &[] } else { &["--cmd", "sh"] };
    let words = fixed.iter().chain(shell).chain(options);
    command::run(wasm_image(), words)?.success()?;
    Ok(())
}
