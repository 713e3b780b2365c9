#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/fuzz_targets, each for some seconds. As many run at the same time as there are
# processors.
#
#   scripts/fuzz.sh [TARGET...]     all targets without an argument
#   FUZZ_SECONDS                    duration of each target in seconds (60)
#
# Inputs that reach new code are kept in target/fuzz/corpus/TARGET. An input that fails is in target/fuzz/artifacts. The
# targets are built with the stable compiler and without sanitizers, because they do not test `unsafe` code.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$root/target/fuzz
bin=$root/target/release
seconds=${FUZZ_SECONDS:-60}

# Time limit for one input, in seconds, and memory limit of a target, in MiB.
timeout=25
memory=2048

main() {
    local targets=("$@") target
    if [ "${#targets[@]}" -eq 0 ]; then
        for target in "$root"/fuzz/fuzz_targets/*.rs; do
            targets+=("$(basename "$target" .rs)")
        done
    fi
    for target in "${targets[@]}"; do
        [ -e "$root/fuzz/fuzz_targets/$target.rs" ] || die "no fuzz target is called \"$target\"; they are in fuzz/fuzz_targets"
    done
    build "${targets[@]}"
    seed
    echo "== fuzz: ${targets[*]} (${seconds} s each)"
    export -f fuzz
    export root work bin seconds timeout memory
    export FUZZ_HTTP_GUEST=$root/target/images/hello-http.wasm
    printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}' \
        || die "a fuzz target failed; run it with that input alone: target/release/fuzz-TARGET FILE"
}

# The whole workspace is selected, so that the libraries keep the features with which they were built before.
build() {
    local target bins=()
    for target in "$@"; do
        bins+=(--bin "fuzz-$target")
    done
    RUSTC_WORKSPACE_WRAPPER=$root/scripts/instrument-rustc.sh \
        "${CARGO:-cargo}" build --release --locked --manifest-path "$root/Cargo.toml" --workspace "${bins[@]}"
}

# Initial components are made from text, so that no binary files need to be kept.
seed() {
    local source
    mkdir -p "$work"/corpus/{compose,header}
    for source in "$root"/images/composed/*.wat "$root"/images/calc/*.wat; do
        "$bin/wasm-image" wat "$source" -o "$work/corpus/compose/$(basename "$source" .wat)"
    done
    (
        cd "$work/corpus/compose"
        { cat app && printf '\0layer\0' && cat tax; } > app-and-tax
        { cat tax && printf '\0layer\0' && cat rates; } > tax-and-rates
    )
}

# fuzz TARGET: runs a target for that time, and prints its output if it failed.
fuzz() {
    local target=$1 log=$work/$1.log seeds=()
    mkdir -p "$work/corpus/$target" "$work/artifacts"
    [ -d "$root/fuzz/corpus/$target" ] && seeds=("$root/fuzz/corpus/$target")
    if ! "$bin/fuzz-$target" "$work/corpus/$target" "${seeds[@]}" -max_total_time="$seconds" -timeout="$timeout" \
        -rss_limit_mb="$memory" -artifact_prefix="$work/artifacts/$target-" -print_final_stats=1 -verbosity=0 \
        > "$log" 2>&1 < /dev/null; then
        echo "$target failed:"
        tail -n 40 "$log"
        return 1
    fi
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
}

die() {
    echo "error: $*" >&2
    exit 1
}

main "$@"
