{{- define "audito.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "audito.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "audito.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "audito.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "audito.selectorLabels" -}}
app.kubernetes.io/name: {{ include "audito.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "audito.labels" -}}
{{ include "audito.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "audito.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "audito.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "audito.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- /* Where the daemon serves; its own default in a pod is :2112. */ -}}
{{- define "audito.port" -}}
{{- (index .Values.config "http-address") | default ":2112" | splitList ":" | last -}}
{{- end -}}

{{- /* One flag a setting, in order of name; what is empty is the daemon's default. */ -}}
{{- define "audito.args" -}}
{{- range $name, $value := .Values.config }}
{{- /* Helm reads a number as a float, which prints 1000000 as 1e+06. */}}
{{- $text := kindIs "float64" $value | ternary (printf "%.0f" $value) (toString $value) }}
{{- if kindIs "slice" $value }}{{ $text = join "," $value }}{{ end }}
{{- if and (kindIs "slice" $value) (has $name (list "filter" "redact-pattern")) }}
{{- /* A rule may hold a comma: each is a flag of its own. */}}
{{- range $value }}
- {{ printf "--%s=%s" $name . | quote }}
{{- end }}
{{- else if not (or (kindIs "invalid" $value) (eq $text "")) }}
- {{ printf "--%s=%s" $name $text | quote }}
{{- end }}
{{- end }}
{{- end -}}
