#!/usr/bin/env bash
# Packs what `make dist` has built for one machine into target/packages:
#
#   wasmtime-shim-VERSION-MACHINE.tar.gz   the three programs, man pages, shell completions, licence
#   wasmtime-shim_VERSION_ARCHITECTURE.deb the same (cargo-deb), if it is built for this machine
#   PROGRAM-VERSION.cdx.json               the bill of materials of each program (CycloneDX), from Cargo.lock
#   SHA256SUMS
#
#   package.sh [TARGET]    target of cargo; this machine's by default. PROFILE (dist) as for build-dist.sh
#
# Times and owners in the archive do not depend on who packs it, and when.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=${1:-}
# shellcheck source=scripts/dist-steps.sh
. scripts/dist-steps.sh
version=$(sed -n 's/^version = "\(.*\)"/\1/p; T; q' Cargo.toml)
machine=${target%%-*}
out=target/packages
name=wasmtime-shim-$version-$machine
tree=$out/$name

main() {
    mkdir -p "$out"
    floors
    collect
    archive
    bills_of_materials
    [ "$target" != "$host" ] || deb
    checksums
    ls -l "$out"
}

checksums() {
    local sums
    rm -f "$out/SHA256SUMS"
    sums=$(cd "$out" && find . -maxdepth 1 -type f -printf '%f\n' | LC_ALL=C sort | xargs sha256sum)
    printf '%s\n' "$sums" > "$out/SHA256SUMS"
}

collect() {
    rm -rf "$tree" "$out/share"
    mkdir -p "$tree/bin" "$out"/share/{man,completions}
    # The pages come from this machine's programs, which have the same texts.
    for program in wasm-image node-installer; do
        "target/$profile/$program" pages "$out"/share/{man,completions}
    done
    gzip --no-name --best "$out"/share/man/*
    cp -r "$out/share" "$tree/"
    install -m 755 "$programs"/{containerd-shim-wasmtime-v1,wasm-image,node-installer} "$tree/bin/"
    install -m 644 LICENSE README.md CHANGELOG.md docs/install.md "$tree/"
}

archive() {
    tar --create --file - --directory "$out" --sort=name --owner=0 --group=0 --numeric-owner \
        --mtime="@${SOURCE_DATE_EPOCH:-0}" --format=ustar "$name" | gzip --no-name --best > "$tree.tar.gz"
}

# The tool writes the file beside each crate's manifest.
bills_of_materials() {
    local crate program
    tool cargo-cyclonedx 0.5.9
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0} cargo cyclonedx --quiet --format json --override-filename bill.cdx --target "$target"
    for crate in shim wasm-image node-installer; do
        program=$crate
        [ "$crate" != shim ] || program=containerd-shim-wasmtime-v1
        # The shipped programs must not contain the paths of the sources.
        sed "s|file://$PWD|file:///build|g" "crates/$crate/bill.cdx.json" > "$out/$program-$version.cdx.json"
    done
    find crates fuzz tests -name bill.cdx.json -delete
}

deb() {
    tool cargo-deb 3.8.0
    cargo deb --quiet --no-build --no-strip --package node-installer --profile "$profile" --output "$out/"
}

# tool NAME VERSION: builds a subcommand of cargo into target/tools if it is missing.
tool() {
    command -v "$1" >/dev/null || [ -x "target/tools/bin/$1" ] || cargo install --quiet --locked --root target/tools "$1@$2"
    export PATH=$PWD/target/tools/bin:$PATH
}

main
