{{/* The Secrets that the chart creates from values. Each takes (dict "root" $ "secret" "auth"). */}}

{{/* The Secret's data as JSON; "" if the chart creates none, because the values name an existing one or set nothing. */}}
{{- define "fitloop.secret.data" -}}
{{- $v := .root.Values -}}
{{- $held := dict -}}
{{- if eq .secret "label-studio" -}}
{{- with $v.labelStudio.apiKey }}{{ $_ := set $held "LABEL_STUDIO_API_KEY" . }}{{ end -}}
{{- else if eq .secret "auth" -}}
{{- range $value, $variable := dict "username" "BASIC_AUTH_USER" "password" "BASIC_AUTH_PASS" "secretPath" "FITLOOP_SECRET_PATH" -}}
{{- with get $v.auth $value }}{{ $_ := set $held $variable . }}{{ end -}}
{{- end -}}
{{- else -}}
{{- $keys := index $v.store (trimPrefix "s3-" .secret) -}}
{{- if $keys.accessKey }}{{ $held = dict "AWS_ACCESS_KEY_ID" $keys.accessKey "AWS_SECRET_ACCESS_KEY" $keys.secretKey }}{{ end -}}
{{- end -}}
{{- with $held }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* The revision of the release in which the Secret's data last changed, read from the Secret itself if the data is unchanged. Where Helm
cannot query the cluster (`helm template`, Argo CD) it is the current revision, which is always 1 there. */}}
{{- define "fitloop.since" -}}
{{- with (include "fitloop.secret.data" .) -}}
{{- $held := fromJson . -}}
{{- $known := lookup "v1" "Secret" $.root.Release.Namespace (printf "%s-%s" (include "fitloop.fullname" $.root) $.secret) | default dict -}}
{{- $same := eq (len $held) (len (default dict $known.data)) -}}
{{- range $key, $value := $held }}{{ if ne (b64enc $value) (get (default dict $known.data) $key | toString) }}{{ $same = false }}{{ end }}{{ end -}}
{{- $told := dig "metadata" "annotations" "fitloop.io/since-revision" "" $known -}}
{{- if and $same $told }}{{ $told }}{{ else }}{{ $.root.Release.Revision }}{{ end -}}
{{- end -}}
{{- end -}}
