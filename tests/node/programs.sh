# shellcheck shell=bash
# The programs, guests and images that the node gets. Sourced by those who set `here`, `root` and `arch`.
# Some variables are used by who sources this.
# shellcheck disable=SC2154

machine_here=$(dpkg --print-architecture)
if [ "$arch" = "$machine_here" ]; then
    release=$root/target/release installer=$release images=$root/target/images go=$root/target/go
else
    triple=$(machine)-unknown-linux-gnu
    release=$root/target/$triple/release installer=$root/target/static/$triple/release
    images=$root/target/images-$arch go=$root/target/go-$arch
fi

# Go modules of tests whose programs the node gets.
modules=(containerd h2spec)

# Builds what `make images containerd h2spec` does not: the stories and, for another machine, the rest.
build_programs() {
    local module
    cd "$root" || exit
    if [ "$arch" = "$machine_here" ]; then
        cargo test --release --locked --package tests --test stories --no-run
        return
    fi
    "$root/scripts/install-deps.sh" "$arch"
    # Not as it is shipped, with LTO, which takes twice as long.
    export PROFILE=release
    "$root/scripts/build-dist.sh" "$triple"
    (
        TARGET=$triple
        # shellcheck source=scripts/dist-steps.sh
        . "$root/scripts/dist-steps.sh"
        cross
        cargo_for_target target "$(paths)" test --package tests --test stories --no-run
    )
    for module in "${modules[@]}"; do
        GOARCH=$arch CGO_ENABLED=0 OUT=$go "$root/scripts/build-go-tools.sh" "$module"
    done
    foreign_images
}

# Guests are the same on each machine. What is packed as an ordinary image of Linux is not.
foreign_images() {
    mkdir -p "$images"
    if ! [ -e "$images/busybox" ]; then
        (cd "$images" && apt-get download --quiet "busybox-static:$arch" > /dev/null)
        dpkg-deb --extract "$images"/busybox-static_*.deb "$images/deb"
        mv "$images/deb/bin/busybox" "$images/"
        rm -rf "$images"/deb "$images"/busybox-static_*.deb
    fi
    cp -p "$root"/target/images/*.wasm "$images/"
    OUT=$images PLATFORM=linux/$arch CC=$(machine)-linux-gnu-gcc BUSYBOX=$images/busybox "$root/scripts/build-images.sh"
}

# The disk with what was built, as far as it is there: the node finds it in the project's directory.
pack_programs() {
    local disk=$work/programs project=$work/programs/project program module
    mkdir -p "$project/target/release" "$project/target/images" "$project/target/go" "$project/tests"
    cp -l "$release"/{containerd-shim-wasmtime-v1,wasm-image} "$installer/node-installer" "$project/target/release/"
    program=$(stories)
    [ -z "$program" ] || cp -l "$program" "$project/target/release/stories"
    cp -l "$images"/*.wasm "$images"/*.tar "$images/pause" "$project/target/images/"
    [ ! -e "$images/planted.so" ] || cp -l "$images/planted.so" "$project/target/images/"
    rm -f "$project"/target/images/{node-installer,polyglot}*
    cp -al "$images/linux-rootfs" "$project/target/images/"
    for module in "${modules[@]}"; do
        [ ! -d "$go/$module" ] || cp -al "$go/$module" "$project/target/go/"
    done
    cp -r "$root/tests/tests" "$project/tests/"
    cp -r "$root/images" "$root/scripts" "$root/manifests" "$project/"
    {
        echo '#!/bin/sh -e'
        echo "mkdir -p '$root' /var/programs/upper /var/programs/work"
        echo "mount -t overlay overlay -o lowerdir=/programs/project,upperdir=/var/programs/upper,workdir=/var/programs/work '$root'"
    } > "$disk/lay"
    chmod 755 "$disk/lay"
    mke2fs -q -F -t ext4 -O ^has_journal -d "$disk" "$work/programs.img" "$(($(du -sm "$disk" | cut -f1) * 5 / 4 + 64))M" > /dev/null
    rm -rf "$disk"
}

# The stories as they were built last.
stories() {
    find "$release/deps" -maxdepth 1 -name 'stories-*' -type f -executable -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2
}
