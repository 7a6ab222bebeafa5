{{/* What Prometheus is told of pods. Takes (dict "root" $ "component" "adapter"), as what stands in _names.tpl does. */}}

{{- define "fitloop.managementPort" -}}
{{ ternary 9091 8081 (eq .component "adapter") }}
{{- end -}}

{{/* For a Prometheus without the operator; none for pods that a monitor selects, or each figure would count twice. */}}
{{- define "fitloop.scraped" -}}
{{- $monitoring := .root.Values.monitoring -}}
{{- $monitor := ternary $monitoring.serviceMonitor $monitoring.podMonitor (eq .component "adapter") -}}
{{- if and $monitoring.annotations (not $monitor.enabled) -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ include "fitloop.managementPort" . | quote }}
prometheus.io/path: /metrics
{{- end -}}
{{- end -}}

{{- define "fitloop.metrics" -}}{{ include "fitloop.fullname" . }}-metrics{{- end -}}

{{/* How every monitor looks; takes the monitor's values. The release's name becomes the label app_kubernetes_io_instance, by which alerts choose. */}}
{{- define "fitloop.monitor.endpoint" -}}
- port: management
  path: /metrics
  interval: {{ .interval }}
{{- end -}}

{{/* Labels of an object of the operator's; takes `monitor` as well, those by which Prometheus finds it. */}}
{{- define "fitloop.monitor.labels" -}}
{{- merge dict .monitor.labels (include "fitloop.labels" . | fromYaml) | toYaml -}}
{{- end -}}
