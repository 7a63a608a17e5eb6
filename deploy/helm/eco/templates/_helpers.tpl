{{- define "eco.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "eco.labels" -}}
app.kubernetes.io/name: eco
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "eco.selector" -}}
app.kubernetes.io/name: eco
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* /etc/eco/agent.toml: what the chart knows, and above it what was given. */ -}}
{{- define "eco.agentConfig" -}}
{{- $kubernetes := dict "source" .Values.agent.podSource -}}
{{- if eq .Values.agent.podSource "kubelet" -}}
{{- if .Values.agent.kubeletCaFile -}}
{{- $_ := set $kubernetes "ca" "/host/kubelet-ca.crt" -}}
{{- else -}}
{{- $_ := set $kubernetes "insecure" true -}}
{{- end -}}
{{- end -}}
{{- mergeOverwrite (dict "kubernetes" $kubernetes) (deepCopy .Values.agent.config) | toToml -}}
{{- end }}
