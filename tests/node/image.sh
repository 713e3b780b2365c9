#!/usr/bin/env bash
# Makes the disk of the emulated node: Debian with systemd, cgroup v2 and containerd. The same recipe is not made again.
#
# ARCH is Debian's name of an architecture. Prints the directory that it is in: root.img, vmlinuz, initrd.img.
# For a foreign ARCH, the kernel's binfmt_misc must have qemu as its interpreter (package qemu-user-static).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${NODE_TARGET:-$here/../../target/node}

arch=${ARCH:-$(dpkg --print-architecture)}
case $arch in
    # The kernel of a Raspberry Pi 5 has pages of 16 KiB, too.
    arm64) kernel=arm64-16k ;;
    *) kernel=cloud-$arch ;;
esac
suite=trixie
size=6G

main() {
    need mmdebstrap mmdebstrap
    need mke2fs e2fsprogs
    local image
    image=$target/root-$arch-$(recipe | sha256sum | cut -c1-12)
    if ! [ -e "$image/root.img" ]; then
        rm -rf "$image.new" && mkdir -p "$image.new"
        make "$image.new" >&2
        mv -T "$image.new" "$image"
    fi
    echo "$image"
}

need() {
    command -v "$1" > /dev/null || { echo "error: no $1 here: apt-get install $2" >&2; exit 1; }
}

has_interpreter() {
    local each
    for each in /proc/sys/fs/binfmt_misc/*; do
        if grep -s qemu- "$each" > /dev/null; then return; fi
    done
    echo "error: this kernel does not start programs for $arch: install qemu-user-static, and mount binfmt_misc" >&2
    exit 1
}

# All that the image is made of.
recipe() {
    cat "$here/image.sh" "$here/packages.txt" "$here"/inside/*
}

make() {
    local out=$1 packages
    [ "$arch" = "$(dpkg --print-architecture)" ] || has_interpreter
    packages=$(grep -v '^#' "$here/packages.txt" | sed "s/KERNEL/$kernel/" | paste -sd,)
    echo "== make the root of the node: Debian $suite for $arch (5 minutes)"
    mkdir "$out/root"
    # What it would check is checked above, without a further package.
    nice mmdebstrap --quiet --skip=check/qemu --variant=minbase --architectures="$arch" --include="$packages" \
        --essential-hook="$here/inside/initrd.sh" --customize-hook="$here/inside/customize.sh" \
        "$suite" "$out/root"
    cp -L "$out/root/vmlinuz" "$out/root/initrd.img" "$out/"
    echo "== write its disk"
    nice mke2fs -q -t ext4 -E lazy_itable_init=1 -d "$out/root" "$out/root.img.new" "$size" > /dev/null
    rm -rf "$out/root"
    mv "$out/root.img.new" "$out/root.img"
}

main
