#!/usr/bin/env bash
# Helm creates a chart's RuntimeClass after the Pods that name it.
#
# Version:  helm.sh/helm/v4 v4.3.2, its command helm, from the Go module proxy.
# Input:    a chart of a RuntimeClass, a PriorityClass, a StorageClass, a Pod that names the first two, and a Job.
# Guess:    all three classes come before the Pod: they are of the cluster, and a Pod that names a RuntimeClass or a
#           PriorityClass that is not there is refused.
# Seen:     PriorityClass, StorageClass, Pod, Job, RuntimeClass. Helm installs kinds in the order of a list; RuntimeClass is
#           not in it, and what is not in it comes last. `helm template` prints the order.
#
# Fails if the order is another. Needs Go; takes some minutes the first time.
set -euo pipefail

version=v4.3.2
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

GOBIN=$directory timeout 900 go install "helm.sh/helm/v4/cmd/helm@$version" 2>/dev/null

mkdir -p "$directory/chart/templates"
cat >"$directory/chart/Chart.yaml" <<'YAML'
apiVersion: v2
name: chart
version: 0.1.0
YAML
cat >"$directory/chart/templates/all.yaml" <<'YAML'
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
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: { name: disk }
provisioner: example.com/disk
---
apiVersion: v1
kind: Pod
metadata: { name: app }
spec:
  runtimeClassName: wasm
  priorityClassName: high
  containers: [{ name: app, image: "registry.example/app:1" }]
---
apiVersion: batch/v1
kind: Job
metadata: { name: job }
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: app, image: "registry.example/app:1" }]
YAML
timeout 60 "$directory/helm" template "$directory/chart" | sed -n 's/^kind: //p' | tee "$directory/seen"
diff "$directory/seen" - <<'SEEN' || { echo "Helm has another order by now" && exit 1; }
PriorityClass
StorageClass
Pod
Job
RuntimeClass
SEEN
