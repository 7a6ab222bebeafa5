{{/* Invalid monitoring values. Only a real cluster has apiregistration.k8s.io; `helm template` knows none. */}}
{{- define "fitloop.checks.monitoring" -}}
{{- $v := .Values -}}
{{- $monitoring := $v.monitoring -}}
{{- $asked := and $v.checkCluster (.Capabilities.APIVersions.Has "apiregistration.k8s.io/v1") -}}
{{- range $key, $kind := dict "serviceMonitor" "ServiceMonitor" "podMonitor" "PodMonitor" "rules" "PrometheusRule" -}}
{{- if and (get $monitoring $key).enabled $asked (not ($.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind))) -}}
{{- fail (printf "monitoring.%s.enabled is true, but this cluster has no %s (monitoring.coreos.com/v1): install the Prometheus operator, or set it to false and scrape pods by their annotations (see docs/operations.md)" $key $kind) -}}
{{- end -}}
{{- if and (ne $key "rules") (get $monitoring $key).enabled $v.networkPolicy.enabled (not $v.networkPolicy.metricsFrom) -}}
{{- fail (printf "monitoring.%s.enabled is true, but networkPolicy.metricsFrom allows no peer: add Prometheus, for example [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" $key) -}}
{{- end -}}
{{- end -}}
{{- if and $monitoring.rules.enabled (le (float64 $monitoring.rules.thresholds.rolloutSeconds) (float64 $v.rollout.deadlineSeconds)) -}}
{{- fail (printf "monitoring.rules.thresholds.rolloutSeconds is %v, but a rollout may take rollout.deadlineSeconds, %v: set it higher" $monitoring.rules.thresholds.rolloutSeconds $v.rollout.deadlineSeconds) -}}
{{- end -}}
{{- if and $monitoring.rules.enabled (le (float64 $monitoring.rules.thresholds.uncheckedSeconds) (float64 $v.training.reconcileSeconds)) -}}
{{- fail (printf "monitoring.rules.thresholds.uncheckedSeconds is %v, but projects are polled only every training.reconcileSeconds, %v: set it higher" $monitoring.rules.thresholds.uncheckedSeconds $v.training.reconcileSeconds) -}}
{{- end -}}
{{- if and $monitoring.rules.enabled (le (float64 $monitoring.rules.thresholds.labelsWaitingSeconds) (float64 $v.training.minSecondsBetweenRuns)) -}}
{{- fail (printf "monitoring.rules.thresholds.labelsWaitingSeconds is %v, but labels may have to wait for training.minSecondsBetweenRuns, %v: set it higher" $monitoring.rules.thresholds.labelsWaitingSeconds $v.training.minSecondsBetweenRuns) -}}
{{- end -}}
{{- include "fitloop.checks.alerts" . -}}
{{- end -}}

{{- define "fitloop.checks.alerts" -}}
{{- $rules := .Values.monitoring.rules -}}
{{- range $name := concat $rules.disabled (keys $rules.overrides) -}}
{{- if not ($.Files.Get (printf "files/alerts/%s.yaml" $name)) }}{{ fail (printf "monitoring.rules names %s, but there is no such alert: see files/alerts of the chart" $name) }}{{ end -}}
{{- end -}}
{{- end -}}
