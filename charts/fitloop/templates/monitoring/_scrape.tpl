{{/* What Prometheus scrapes. Takes (dict "root" $ "component" "adapter"), like the templates of _names.tpl. */}}

{{- define "fitloop.managementPort" -}}
{{ ternary 9091 8081 (eq .component "adapter") }}
{{- end -}}

{{/* For a Prometheus without the operator; none for pods that a monitor selects, or every series would be scraped twice. */}}
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

{{/* The endpoints of a monitor; takes the monitor's values. The release's name becomes the label app_kubernetes_io_instance, which alerts select. */}}
{{- define "fitloop.monitor.endpoint" -}}
- port: management
  path: /metrics
  interval: {{ .interval }}
{{- end -}}

{{/* Labels of an operator object; also takes `monitor`, the values with the labels that Prometheus selects. */}}
{{- define "fitloop.monitor.labels" -}}
{{- merge dict .monitor.labels (include "fitloop.labels" . | fromYaml) | toYaml -}}
{{- end -}}
