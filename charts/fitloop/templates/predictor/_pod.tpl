{{/* The predictor's pod: the same in an InferenceService and in a Deployment. */}}
{{- define "fitloop.predictor.env" -}}
{{ include "fitloop.env.store" (dict "root" . "component" "predictor") }}
{{ include "fitloop.env.cache" (dict "root" . "component" "predictor") }}
{{ include "fitloop.env.token" . }}
- name: FITLOOP_PREDICTOR_TOKEN_FROM
  valueFrom: {secretKeyRef: {name: {{ include "fitloop.secret.token" . }}, key: FITLOOP_PREDICTOR_TOKEN_FROM, optional: true}}
- {name: FITLOOP_ROLLOUT_MODE, value: {{ .Values.rollout.mode }}}
- {name: FITLOOP_DEVICE, value: {{ .Values.predictor.device }}}
- {name: FITLOOP_LOADED_MODELS, value: {{ int .Values.predictor.loadedModels | quote }}}
- {name: FITLOOP_MODEL_MEMORY_MB, value: {{ .Values.predictor.modelMemoryMb | quote }}}
- {name: FITLOOP_QUEUE_TEXTS, value: {{ int .Values.predictor.queueTexts | quote }}}
{{- if include "fitloop.hasOwnModels" . }}
{{ include "fitloop.env.labelStudio" . }}
{{- with .Values.training.modelVariables }}
- {name: FITLOOP_MODEL_VARIABLES, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fitloop.predictor.resources" -}}
{{- $who := dict "root" . "component" "predictor" -}}
{{- $limits := dict -}}
{{- if eq .Values.predictor.device "cuda" }}{{ $limits = dict .Values.predictor.gpuResource (int .Values.predictor.gpus) }}{{ end -}}
{{ include "fitloop.resources" (merge (dict "folders" (include "fitloop.serverFolders" $who) "limits" $limits) $who) }}
{{- end -}}

{{- define "fitloop.predictor.container" -}}
name: kserve-container
image: {{ include "fitloop.image" (dict "root" . "component" "predictor") }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports:
  - {name: http1, containerPort: 8080, protocol: TCP}
  - {name: management, containerPort: 8081, protocol: TCP}
env: {{- include "fitloop.env" (dict "own" (include "fitloop.predictor.env" .) "extra" .Values.predictor.extraEnv) | nindent 2 }}
resources: {{- include "fitloop.predictor.resources" . | nindent 2 }}
startupProbe:
  httpGet: {path: /livez, port: 8081}
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: 580
readinessProbe:
  httpGet: {path: /readyz, port: 8081}
  periodSeconds: 1
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /livez, port: 8081}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
lifecycle:
  preStop: {sleep: {seconds: {{ int .Values.predictor.drainSeconds }}}}
securityContext: {{- include "fitloop.containerSecurity" . | nindent 2 }}
volumeMounts: {{- include "fitloop.mounts" (dict "root" . "component" "predictor") | nindent 2 }}
{{- end -}}

{{/* The complete spec; the container named kserve-container comes first, as KServe requires. */}}
{{- define "fitloop.predictor.spec" -}}
{{- $who := dict "root" . "component" "predictor" -}}
serviceAccountName: {{ include "fitloop.account" $who }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add (int .Values.predictor.drainSeconds) (int .Values.predictor.graceSeconds) }}
securityContext: {{- include "fitloop.podSecurity" . | nindent 2 }}
{{ include "fitloop.spread" $who }}
{{- include "fitloop.placement" $who }}
containers:
  - {{- include "fitloop.predictor.container" . | nindent 4 }}
  {{- with (include "fitloop.extraContainers" $who) }}{{ . | indent 2 }}{{ end }}
{{- include "fitloop.initContainers" $who }}
volumes: {{- include "fitloop.volumes" (merge (dict "tmp" (include "fitloop.tmpSize" $who) "cache" (include "fitloop.cacheSize" $who)) $who) | nindent 2 }}
{{- end -}}

{{/* Starts a pod beside the running ones, unless that would need a spare GPU: then replaces them one by one. */}}
{{- define "fitloop.predictor.strategy" -}}
{{- if and (eq .Values.predictor.device "cuda") (not .Values.rollout.spareGpu) -}}
{type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}
{{- else -}}
{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
{{- end -}}
{{- end -}}
