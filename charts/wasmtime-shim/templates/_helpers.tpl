{{- define "wasmtime-shim.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "wasmtime-shim.labels" -}}
app.kubernetes.io/name: wasmtime-shim
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* Only Pods of the DaemonSet have the component: it would take others that match for its own, and delete them. */}}
{{- define "wasmtime-shim.selector" -}}
app.kubernetes.io/name: wasmtime-shim
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: installer
{{- end }}

{{- define "wasmtime-shim.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* k3s and RKE2 bring a RuntimeClass of that name, which Helm must not take over. */}}
{{- define "wasmtime-shim.ownsRuntimeClass" -}}
{{- $create := toString .Values.runtimeClass.create }}
{{- if or (eq $create "true") (and (eq $create "auto") (not (regexMatch "\\+(k3s|rke2)" .Capabilities.KubeVersion.Version))) -}}
true
{{- end }}
{{- end }}

{{- /* What install and uninstall must both know about the node. */}}
{{- define "wasmtime-shim.nodeArgs" -}}
- --host={{ .Values.hostProcess }}
{{- with .Values.containerd.config }}
- --config={{ . }}
{{- end }}
{{- with .Values.containerd.socket }}
- --socket={{ . }}
{{- end }}
{{- with .Values.containerd.program }}
- --containerd={{ . }}
{{- end }}
{{- with .Values.containerd.restartCommand }}
- {{ printf "--restart-command=%s" . | quote }}
{{- end }}
{{- with .Values.containerd.dataDir }}
- --data-dir={{ . }}
{{- end }}
{{- with .Values.stateDir }}
- --state-dir={{ . }}
{{- end }}
{{- with .Values.apiServer }}
- --api-server={{ . }}
{{- end }}
{{- end }}

{{- /* The credentials of the service account, with a token that runs out. */}}
{{- define "wasmtime-shim.credentials" -}}
- name: credentials
  projected:
    defaultMode: 0400
    sources:
      - serviceAccountToken: { path: token, expirationSeconds: 3600 }
      - configMap:
          name: kube-root-ca.crt
          items: [{ key: ca.crt, path: ca.crt }]
{{- end }}

{{- define "wasmtime-shim.credentialsMount" -}}
- name: credentials
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}
