{{/* All names and labels in one place. Names are truncated so that derived names stay within 63 characters. */}}
{{- define "fitloop.name" -}}
{{- include "fitloop.cut" (default .Chart.Name .Values.nameOverride) -}}
{{- end -}}

{{/* A truncated name ends with a hash of the full one, so that names with the same beginning stay distinct. */}}
{{- define "fitloop.cut" -}}
{{- if gt (len .) 40 }}{{ printf "%s-%s" (trunc 33 . | trimSuffix "-") (sha256sum . | trunc 6) }}{{ else }}{{ trimSuffix "-" . }}{{ end -}}
{{- end -}}

{{- define "fitloop.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- include "fitloop.cut" .Values.fullnameOverride -}}
{{- else if contains (include "fitloop.name" .) .Release.Name -}}
{{- include "fitloop.cut" .Release.Name -}}
{{- else -}}
{{- include "fitloop.cut" (printf "%s-%s" .Release.Name (include "fitloop.name" .)) -}}
{{- end -}}
{{- end -}}

{{- define "fitloop.adapter" -}}{{ include "fitloop.fullname" . }}{{- end -}}
{{- define "fitloop.models" -}}{{ include "fitloop.fullname" . }}-models{{- end -}}
{{- define "fitloop.serving" -}}{{ include "fitloop.fullname" . }}-serving{{- end -}}
{{- define "fitloop.trainers" -}}{{ include "fitloop.fullname" . }}-trainers{{- end -}}
{{- define "fitloop.job" -}}{{ include "fitloop.fullname" . }}-job{{- end -}}
{{- define "fitloop.lease" -}}{{ include "fitloop.fullname" . }}{{- end -}}
{{- define "fitloop.component" -}}{{ include "fitloop.fullname" .root }}-{{ .component }}{{- end -}}
{{- define "fitloop.account" -}}{{ default (include "fitloop.component" .) (index .root.Values.serviceAccounts .component).name }}{{- end -}}
{{- define "fitloop.test" -}}{{ include "fitloop.fullname" .root }}-test-{{ .component }}{{- end -}}
{{- define "fitloop.workload" -}}
{{- if .Values.kserve.enabled }}inferenceservice/{{ include "fitloop.fullname" . }}{{ else }}deployment/{{ include "fitloop.serving" . }}{{ end -}}
{{- end -}}

{{/* Selector labels of pods; takes (dict "root" $ "component" "adapter"), like those below. */}}
{{- define "fitloop.selector" -}}
app.kubernetes.io/name: {{ include "fitloop.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of pods: no version and no chart, or each upgrade would restart the predictors. */}}
{{- define "fitloop.podLabels" -}}
{{- $own := get .root.Values .component | default dict -}}
{{- $fixed := include "fitloop.selector" . | fromYaml -}}
{{- $_ := set $fixed "app.kubernetes.io/part-of" "fitloop" -}}
{{- if eq .component "predictor" }}{{ $_ := set $fixed "fitloop.io/predictor" (include "fitloop.fullname" .root) }}{{ end -}}
{{- merge $fixed (get $own "podLabels" | default dict) .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Labels of all other objects. */}}
{{- define "fitloop.labels" -}}
{{- $fixed := include "fitloop.selector" . | fromYaml -}}
{{- $_ := set $fixed "app.kubernetes.io/part-of" "fitloop" -}}
{{- $_ := set $fixed "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $fixed "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $fixed "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- merge $fixed .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "fitloop.image" -}}
{{- $own := index .root.Values .component -}}
{{- $name := printf "%s/%s" (trimSuffix "/" .root.Values.image.registry) .component | trimPrefix "/" -}}
{{- default (printf "%s:%s" $name (default .root.Chart.AppVersion .root.Values.image.tag)) $own.image | quote -}}
{{- end -}}

{{/* Names of Secrets: existing ones, or the chart's own. "" if there is none. */}}
{{- define "fitloop.secret.labelStudio" -}}
{{ default (printf "%s-label-studio" (include "fitloop.fullname" .)) .Values.labelStudio.existingSecret }}
{{- end -}}
{{- define "fitloop.secret.auth" -}}
{{- if .Values.auth.existingSecret }}{{ .Values.auth.existingSecret }}{{ else if or .Values.auth.password .Values.auth.secretPath }}{{ include "fitloop.fullname" . }}-auth{{ end -}}
{{- end -}}
{{- define "fitloop.secret.token" -}}
{{ default (printf "%s-predictor-token" (include "fitloop.fullname" .)) .Values.predictor.token.existingSecret }}
{{- end -}}
{{- define "fitloop.secret.store" -}}
{{- $own := index .root.Values.store .component -}}
{{- if $own.existingSecret }}{{ $own.existingSecret }}{{ else if $own.accessKey }}{{ include "fitloop.fullname" .root }}-s3-{{ .component }}{{ end -}}
{{- end -}}
