{{/* Common parts of the pods of all three components. Each takes (dict "root" $ "component" "adapter"). */}}

{{/* The Pod Security Standard "restricted", and a read-only root file system. */}}
{{- define "fitloop.podSecurity" -}}
{{- $who := .Values.podSecurity -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" $who.runAsUser) }}
runAsUser: {{ int $who.runAsUser }}
runAsGroup: {{ int $who.runAsUser }}
{{- end }}
{{- if not (kindIs "invalid" $who.fsGroup) }}
fsGroup: {{ int $who.fsGroup }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "fitloop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Scheduling of the pod. Starts with a line break, or is empty. */}}
{{- define "fitloop.placement" -}}
{{- $own := index .root.Values .component -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsConfig" }}
{{- with get $own $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "priorityClassName" "runtimeClassName" }}
{{- with get $own $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The user's init containers; starts with a line break, or is empty. */}}
{{- define "fitloop.initContainers" -}}
{{- with (index .root.Values .component).initContainers }}
initContainers: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The user's additional containers, as further items of `containers`. */}}
{{- define "fitloop.extraContainers" -}}
{{- with (index .root.Values .component).extraContainers }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Resources of a container. Also takes `folders`, the sizes of its emptyDirs on disk: their sum is the request for
ephemeral-storage, unless the values set one. `limits` are additional ones, such as GPUs. */}}
{{- define "fitloop.resources" -}}
{{- $resources := deepCopy (index .root.Values .component).resources -}}
{{- $requests := default dict $resources.requests -}}
{{- if not (hasKey $requests "ephemeral-storage") }}{{ $_ := set $requests "ephemeral-storage" .folders }}{{ end -}}
{{- $_ := set $resources "requests" $requests -}}
{{- with .limits }}{{ $_ := set $resources "limits" (merge . (default dict $resources.limits)) }}{{ end -}}
{{ toYaml $resources }}
{{- end -}}

{{/* Spreads pods of one revision over nodes. */}}
{{- define "fitloop.spread" -}}
{{- $own := index .root.Values .component -}}
topologySpreadConstraints:
{{- if $own.topologySpreadConstraints }}
{{ toYaml $own.topologySpreadConstraints | indent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{- include "fitloop.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{/* `own` (text of a list) and the user's `extra`, which override those of the same name. */}}
{{- define "fitloop.env" -}}
{{- $taken := dict -}}
{{- range .extra }}{{ $_ := set $taken .name true }}{{ end -}}
{{- $env := list -}}
{{- range (fromYamlArray .own) }}{{ if not (hasKey $taken .name) }}{{ $env = append $env . }}{{ end }}{{ end -}}
{{- concat $env .extra | toYaml -}}
{{- end -}}

{{/* The bucket's settings for every process. */}}
{{- define "fitloop.env.store" -}}
{{- $store := .root.Values.store -}}
- {name: FITLOOP_STORE, value: {{ $store.url | quote }}}
{{- with $store.endpoint }}
- {name: FITLOOP_S3_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with $store.region }}
- {name: FITLOOP_S3_REGION, value: {{ . | quote }}}
{{- end }}
- {name: FITLOOP_S3_ADDRESSING, value: {{ $store.addressing | quote }}}
- {name: FITLOOP_S3_TIMEOUT_SECONDS, value: {{ $store.timeoutSeconds | quote }}}
{{- if $store.ca.configMap }}
- {name: FITLOOP_S3_CA_FILE, value: /etc/fitloop/ca/ca.crt}
{{- end }}
{{- if include "fitloop.secret.store" . }}
- {name: FITLOOP_S3_CREDENTIALS_DIR, value: /etc/fitloop/s3}
{{- end }}
- {name: FITLOOP_CACHE_DIR, value: /cache}
- {name: LOG_LEVEL, value: {{ .root.Values.logging.level | quote }}}
- {name: FITLOOP_LOG_FORMAT, value: json}
{{- end -}}

{{- define "fitloop.env.cache" -}}
- {name: FITLOOP_CACHE_MB, value: {{ int (index .root.Values .component).cacheMb | quote }}}
{{- end -}}

{{- define "fitloop.env.labelStudio" -}}
- {name: LABEL_STUDIO_URL, value: {{ .Values.labelStudio.url | quote }}}
- name: LABEL_STUDIO_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "fitloop.secret.labelStudio" . }}
      key: {{ ternary .Values.labelStudio.existingSecretKey "LABEL_STUDIO_API_KEY" (not (empty .Values.labelStudio.existingSecret)) | quote }}
{{- if .Values.labelStudio.ca.configMap }}
- {name: FITLOOP_LABEL_STUDIO_CA_FILE, value: /etc/fitloop/label-studio-ca/ca.crt}
{{- end }}
{{- end -}}

{{/* Not empty if a class of the user's may train and serve. */}}
{{- define "fitloop.hasOwnModels" -}}
{{- $found := or (eq .Values.training.method "label-studio-ml") (not (empty .Values.training.allowedModels)) -}}
{{- range .Values.projects }}{{ if eq (default "" .method) "label-studio-ml" }}{{ $found = true }}{{ end }}{{ end -}}
{{- if $found }}true{{ end -}}
{{- end -}}

{{/* The token with which adapters authenticate to predictors. */}}
{{- define "fitloop.env.token" -}}
- name: FITLOOP_PREDICTOR_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "fitloop.secret.token" . }}
      key: {{ ternary .Values.predictor.token.existingSecretKey "FITLOOP_PREDICTOR_TOKEN" (not (empty .Values.predictor.token.existingSecret)) | quote }}
{{- end -}}

{{/* Credentials of callers. If a Secret or key is missing, the process reports it and exits. */}}
{{- define "fitloop.env.auth" -}}
{{- if .Values.auth.anonymous -}}
- {name: FITLOOP_ANONYMOUS, value: "true"}
{{- else -}}
- {name: FITLOOP_AUTH_REQUIRED, value: "true"}
{{ include "fitloop.env.credentials" . }}
{{- end -}}
{{- end -}}

{{- define "fitloop.env.credentials" -}}
{{- $keys := dict -}}
{{- if .Values.auth.existingSecret }}{{ $keys = .Values.auth.existingSecretKeys }}{{ end -}}
{{- $found := list -}}
{{- range $value, $variable := dict "username" "BASIC_AUTH_USER" "password" "BASIC_AUTH_PASS" "secretPath" "FITLOOP_SECRET_PATH" -}}
{{- $key := dict "name" (include "fitloop.secret.auth" $) "key" (default $variable (get $keys $value)) "optional" true -}}
{{- $found = append $found (dict "name" $variable "valueFrom" (dict "secretKeyRef" $key)) -}}
{{- end -}}
{{ toYaml $found }}
{{- end -}}

{{- define "fitloop.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /cache}
{{- if .root.Values.store.ca.configMap }}
- {name: ca, mountPath: /etc/fitloop/ca, readOnly: true}
{{- end }}
{{- if and .root.Values.labelStudio.ca.configMap (or (ne .component "predictor") (include "fitloop.hasOwnModels" .root)) }}
- {name: label-studio-ca, mountPath: /etc/fitloop/label-studio-ca, readOnly: true}
{{- end }}
{{- if include "fitloop.secret.store" . }}
- {name: s3, mountPath: /etc/fitloop/s3, readOnly: true}
{{- end }}
{{- with (index .root.Values .component).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Also takes `tmp` and `cache`, the sizes of those folders. The process itself reports a missing Secret. */}}
{{- define "fitloop.volumes" -}}
{{- $store := .root.Values.store -}}
- {name: tmp, emptyDir: {sizeLimit: {{ .tmp }}}}
- {name: cache, emptyDir: {sizeLimit: {{ .cache }}}}
{{- with $store.ca.configMap }}
- name: ca
  configMap: {name: {{ . }}, items: [{key: {{ $store.ca.key | quote }}, path: ca.crt}]}
{{- end }}
{{- if or (ne .component "predictor") (include "fitloop.hasOwnModels" .root) }}
{{- with .root.Values.labelStudio.ca.configMap }}
- name: label-studio-ca
  configMap: {name: {{ . }}, items: [{key: {{ $.root.Values.labelStudio.ca.key | quote }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- with (include "fitloop.secret.store" .) }}
- name: s3
  secret:
    secretName: {{ . }}
    optional: true
    defaultMode: 0440
    {{- if (index $store $.component).existingSecret }}
    items:
      - {key: {{ $store.secretKeys.accessKey | quote }}, path: AWS_ACCESS_KEY_ID}
      - {key: {{ $store.secretKeys.secretKey | quote }}, path: AWS_SECRET_ACCESS_KEY}
    {{- end }}
{{- end }}
{{- with (index .root.Values .component).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The size of a folder that caches bucket objects. */}}
{{- define "fitloop.cacheSize" -}}
{{ add (mul 2 (int (index .root.Values .component).cacheMb)) 1024 }}Mi
{{- end -}}

{{/* The size of a server's /tmp: predictors copy the files of versions of model classes there. */}}
{{- define "fitloop.tmpSize" -}}
{{ if and (eq .component "predictor") (include "fitloop.hasOwnModels" .root) }}{{ include "fitloop.cacheSize" . }}{{ else }}1Gi{{ end }}
{{- end -}}

{{/* The size of both folders of a server. */}}
{{- define "fitloop.serverFolders" -}}
{{- $cache := add (mul 2 (int (index .root.Values .component).cacheMb)) 1024 -}}
{{ add $cache (ternary 1024 $cache (eq (include "fitloop.tmpSize" .) "1Gi")) }}Mi
{{- end -}}

{{/* Changes with what a pod reads only at start: names of Secrets, the Job's manifest, and the revisions in which the chart's own Secrets
last changed. Never a hash of their data: anyone who may get pods could test passwords against it. */}}
{{- define "fitloop.checksum" -}}
{{- $v := .root.Values -}}
{{- $known := dict "keys" (include "fitloop.secret.store" .) "secretKeys" $v.store.secretKeys -}}
{{- $_ := set $known "keysSince" (include "fitloop.since" (dict "root" .root "secret" (printf "s3-%s" .component))) -}}
{{- $_ := set $known "token" (include "fitloop.secret.token" .root) -}}
{{- if eq .component "adapter" -}}
{{- $_ := set $known "labelStudio" (omit $v.labelStudio "apiKey") -}}
{{- $_ := set $known "labelStudioSince" (include "fitloop.since" (dict "root" .root "secret" "label-studio")) -}}
{{- $_ := set $known "auth" (omit $v.auth "username" "password" "secretPath") -}}
{{- $_ := set $known "authSince" (include "fitloop.since" (dict "root" .root "secret" "auth")) -}}
{{- $_ := set $known "job" (include "fitloop.trainer.manifest" .root) -}}
{{- end -}}
checksum/config: {{ toJson $known | sha256sum }}
{{- with merge dict (index $v .component).podAnnotations (include "fitloop.scraped" . | fromYaml) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* `over` merged over `base`, as JSON below "value": maps by key, containers by name, other named objects replaced by name, everything else replaced. */}}
{{- define "fitloop.overlay" -}}
{{- if and (kindIs "map" .base) (kindIs "map" .over) -}}
{{- $found := deepCopy .base -}}
{{- range $key, $value := .over -}}
{{- $_ := set $found $key (include "fitloop.overlay" (dict "base" (get $.base $key) "over" $value) | fromJson).value -}}
{{- end -}}
{{- dict "value" $found | toJson -}}
{{- else if and (include "fitloop.areNamed" .base) (include "fitloop.areNamed" .over) -}}
{{- $found := list -}}{{- $taken := dict -}}
{{- range $item := .base -}}
{{- range $other := $.over -}}
{{- if eq (include "fitloop.idOf" $item) (include "fitloop.idOf" $other) -}}
{{- $_ := set $taken (include "fitloop.idOf" $other) true -}}
{{- if hasKey $item "image" }}{{ $item = (include "fitloop.overlay" (dict "base" $item "over" $other) | fromJson).value }}{{ else }}{{ $item = $other }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $found = append $found $item -}}
{{- end -}}
{{- range .over }}{{ if not (hasKey $taken (include "fitloop.idOf" .)) }}{{ $found = append $found . }}{{ end }}{{ end -}}
{{- dict "value" $found | toJson -}}
{{- else -}}
{{- dict "value" .over | toJson -}}
{{- end -}}
{{- end -}}

{{- define "fitloop.areNamed" -}}
{{- if kindIs "slice" . }}{{ $all := true }}{{ range . }}{{ if or (not (kindIs "map" .)) (not (include "fitloop.idOf" .)) }}{{ $all = false }}{{ end }}{{ end }}{{ if $all }}true{{ end }}{{ end -}}
{{- end -}}

{{- define "fitloop.idOf" -}}
{{- if kindIs "map" . }}{{ default (get . "name") (get . "mountPath") }}{{ end -}}
{{- end -}}
