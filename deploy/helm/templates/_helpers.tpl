{{- define "ringback.labels" -}}
app.kubernetes.io/name: ringback
{{- end }}

{{- define "ringback.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The source topic. */}}
{{- define "ringback.topic" -}}
{{ get .Values.settings "topic" | default "call-ended" }}
{{- end }}

{{- /* The variables of ringback, from the settings. */}}
{{- define "ringback.variables" -}}
{{- $all := dict "RINGBACK_BROKERS" .Values.brokers "RINGBACK_TENANTS" "/etc/ringback" }}
{{- with .Values.tenants.topic }}
{{- $_ := set $all "RINGBACK_TENANTS" (printf "topic:%s" .) }}
{{- end }}
{{- range $flag, $value := .Values.settings }}
{{- $text := toString $value }}
{{- if kindIs "bool" $value }}
{{- /* YAML reads `on` as true. */}}
{{- $text = ternary "on" "off" $value }}
{{- else if kindIs "float64" $value }}
{{- $text = toString (int64 $value) }}
{{- end }}
{{- $_ := set $all (printf "RINGBACK_%s" ($flag | upper | replace "-" "_")) $text }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{- define "ringback.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "ringback.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "ringback.podOptions" -}}
serviceAccountName: ringback
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Changed settings restart the replicas and run the Job again. */}}
{{- define "ringback.checksum" -}}
checksum/settings: {{ include "ringback.variables" . | sha256sum }}
{{- end }}

{{- define "ringback.filesMount" -}}
- name: files
  mountPath: /etc/ringback-files
  readOnly: true
{{- end }}

{{- define "ringback.filesVolume" -}}
- name: files
  secret:
    secretName: {{ .Values.filesSecret }}
    defaultMode: 0440
{{- end }}
