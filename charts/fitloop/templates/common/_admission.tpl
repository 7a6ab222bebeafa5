{{/* The contents of the Job's manifest, as JSON: images, and the names of what its pods may mount and read. The policy allows only these. */}}
{{- define "fitloop.admission.allowed" -}}
{{- $pod := (include "fitloop.trainer.manifest" . | fromYaml).spec.template.spec -}}
{{- $images := .Values.admissionPolicy.images -}}{{- $keys := list -}}{{- $secrets := list -}}{{- $maps := list -}}
{{- range concat $pod.containers (default list $pod.initContainers) -}}
{{- $images = append $images .image -}}
{{- range .env -}}
{{- with dig "valueFrom" "secretKeyRef" dict . }}{{ if .name }}{{ $keys = append $keys (printf "%s/%s" .name .key) }}{{ end }}{{ end -}}
{{- with dig "valueFrom" "configMapKeyRef" "name" "" . }}{{ $maps = append $maps . }}{{ end -}}
{{- end -}}
{{- range .envFrom -}}
{{- with dig "secretRef" "name" "" . }}{{ $secrets = append $secrets . }}{{ end -}}
{{- with dig "configMapRef" "name" "" . }}{{ $maps = append $maps . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $mounted := list -}}{{- $claims := list -}}
{{- range $pod.volumes -}}
{{- if .secret }}{{ $mounted = append $mounted .secret.secretName -}}
{{- else if .configMap }}{{ $maps = append $maps .configMap.name -}}
{{- else if .persistentVolumeClaim }}{{ $claims = append $claims .persistentVolumeClaim.claimName -}}
{{- else if not (or (hasKey . "emptyDir") (hasKey . "downwardAPI")) }}{{ fail (printf "admissionPolicy.enabled allows only the volume types emptyDir, configMap, secret, persistentVolumeClaim and downwardAPI for trainers, and the volume %s is none of them: remove it, or set admissionPolicy.enabled to false" .name) }}{{ end -}}
{{- end -}}
{{- $pulls := list -}}{{- range $pod.imagePullSecrets }}{{ $pulls = append $pulls .name }}{{ end -}}
{{- dict "images" (uniq $images) "keys" (uniq $keys) "secrets" (uniq $secrets) "maps" (uniq $maps) "mounted" (uniq $mounted) "claims" (uniq $claims) "pulls" $pulls "account" $pod.serviceAccountName "priority" (list "" (default "" $pod.priorityClassName)) "token" (dig "automountServiceAccountToken" true $pod) | toJson -}}
{{- end -}}

{{/* The service account and namespace that a policy matches. */}}
{{- define "fitloop.admission.match" -}}
matchConditions:
  - name: adapter
    expression: request.userInfo.username == "system:serviceaccount:{{ .Release.Namespace }}:{{ include "fitloop.account" (dict "root" . "component" "adapter") }}"
{{- end -}}

{{/* One validation of a policy; takes the message if it fails, and the expression. */}}
{{- define "fitloop.admission.rule" -}}
- message: {{ printf "Fitloop's adapter may create only Jobs as trainer.* of the chart's values describes them (admissionPolicy): %s" (first .) | quote }}
  expression: {{ last . | quote }}
{{- end -}}

{{/* Checks that a map of the object is unchanged, except for one key if a second item names one. */}}
{{- define "fitloop.admission.same" -}}
{{- $map := first . -}}
{{- $but := "" -}}{{- if gt (len .) 1 }}{{ $but = printf "k == %q || " (last .) }}{{ end -}}
variables.new.{{ $map }}.all(k, {{ $but }}(k in variables.old.{{ $map }} && variables.new.{{ $map }}[k] == variables.old.{{ $map }}[k])) && variables.old.{{ $map }}.all(k, {{ $but }}k in variables.new.{{ $map }})
{{- end -}}
