{{- define "proxy.labels" -}}
app.kubernetes.io/name: openai-inference-proxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
