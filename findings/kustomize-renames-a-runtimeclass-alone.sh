#!/usr/bin/env bash
# Kustomize renames a RuntimeClass, and not what names it.
#
# Version:  sigs.k8s.io/kustomize/kustomize/v5 v5.8.1, its command kustomize, from the Go module proxy.
# Input:    a kustomization with `namePrefix`, of a RuntimeClass, a PriorityClass, a ServiceAccount and a Pod that names all
#           three.
# Guess:    the Pod names all three as they are called afterwards.
# Seen:     it names the PriorityClass and the ServiceAccount so, and the RuntimeClass as it was called before: of the fields
#           that refer to other objects, Kustomize's list has no runtimeClassName. Such a Pod is refused on a cluster.
#
# Fails if the Pod names others. Needs Go; takes a minute the first time.
set -euo pipefail

version=v5.8.1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

GOBIN=$directory timeout 500 go install "sigs.k8s.io/kustomize/kustomize/v5@$version" 2>/dev/null

mkdir "$directory/objects"
cat >"$directory/objects/kustomization.yaml" <<'YAML'
namePrefix: team-
resources: [all.yaml]
YAML
cat >"$directory/objects/all.yaml" <<'YAML'
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: { name: wasm }
handler: wasm
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: { name: high }
value: 1000
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: account }
---
apiVersion: v1
kind: Pod
metadata: { name: app }
spec:
  runtimeClassName: wasm
  priorityClassName: high
  serviceAccountName: account
  containers: [{ name: app, image: "registry.example/app:1" }]
YAML
timeout 60 "$directory/kustomize" build "$directory/objects" >"$directory/out"
grep --extended-regexp '^kind: |^  name: |^  [a-zA-Z]+Name: ' "$directory/out" | tee "$directory/seen"
diff "$directory/seen" - <<'SEEN' || { echo "Kustomize names them in another way by now" && exit 1; }
kind: ServiceAccount
  name: team-account
kind: PriorityClass
  name: team-high
kind: RuntimeClass
  name: team-wasm
kind: Pod
  name: team-app
  priorityClassName: team-high
  runtimeClassName: wasm
  serviceAccountName: team-account
SEEN
