{{/*
One alert of files/alerts. ${release} is replaced by the labels of this release's series, ${projects} by those of individual projects
(not "other", the aggregate of those beyond the limit), and ${<threshold>} by the value of that name; double braces are Prometheus' own.
Takes (dict "root" $ "name" "FitloopRunsFailing").
*/}}
{{- define "fitloop.alert" -}}
{{- $rules := .root.Values.monitoring.rules -}}
{{- $text := .root.Files.Get (printf "files/alerts/%s.yaml" .name) -}}
{{- $series := include "fitloop.series" .root -}}
{{- $text = $text | replace "${release}" $series | replace "${projects}" (printf "%s,project!=\"other\"" $series) -}}
{{- range $key, $value := $rules.thresholds }}{{ $text = replace (printf "${%s}" $key) (trimAll "\"" (toJson $value)) $text }}{{ end -}}
{{- if contains "${" $text }}{{ fail (printf "files/alerts/%s.yaml asks for a value that is not there: %s" .name (regexFind "[$][{][^}]*}?" $text)) }}{{ end -}}
{{- $alert := $text | fromYaml -}}
{{- with $alert.Error }}{{ fail (printf "files/alerts/%s.yaml is no YAML: %s" $.name .) }}{{ end -}}
{{- $_ := set $alert.labels "release" (include "fitloop.fullname" .root) -}}
{{- $_ := set $alert.annotations "runbook_url" (printf "%s/%s.md" (default "docs/runbooks" $rules.runbookUrl) .name) -}}
{{- $over := get $rules.overrides .name | default dict -}}
{{- mergeOverwrite $alert (deepCopy $over) | toYaml -}}
{{- end -}}

{{/* Selects the series of this release: two releases may share a namespace, and a Prometheus scrapes many namespaces. */}}
{{- define "fitloop.series" -}}
namespace="{{ .Release.Namespace }}",app_kubernetes_io_instance="{{ .Release.Name }}"
{{- end -}}
