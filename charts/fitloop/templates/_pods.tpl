{{/* What the pods of all three components have in common. Each takes (dict "root" $ "component" "adapter"). */}}

{{- define "fitloop.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "fitloop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where the pod may run. */}}
{{- define "fitloop.placement" -}}
{{- $own := index .root.Values .component -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if hasKey $own "runtimeClassName" }}
{{- with $own.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fitloop.spread" -}}
{{- $own := index .root.Values .component -}}
topologySpreadConstraints:
{{- if $own.topologySpreadConstraints }}
{{ toYaml $own.topologySpreadConstraints | indent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "fitloop.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{/* The bucket, as every process is told of it. */}}
{{- define "fitloop.env.store" -}}
{{- $root := .root -}}
- {name: FITLOOP_STORE, value: {{ $root.Values.store.url | quote }}}
{{- with $root.Values.store.endpoint }}
- {name: FITLOOP_S3_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with $root.Values.store.region }}
- {name: FITLOOP_S3_REGION, value: {{ . | quote }}}
{{- end }}
- {name: FITLOOP_S3_ADDRESSING, value: {{ $root.Values.store.addressing | quote }}}
- {name: FITLOOP_S3_TIMEOUT_SECONDS, value: {{ $root.Values.store.timeoutSeconds | quote }}}
{{- if $root.Values.store.ca.configMap }}
- {name: FITLOOP_S3_CA_FILE, value: /etc/fitloop/ca/ca.crt}
{{- end }}
{{- if include "fitloop.secret.store" . }}
- {name: FITLOOP_S3_CREDENTIALS_DIR, value: /etc/fitloop/s3}
{{- end }}
- {name: FITLOOP_CACHE_DIR, value: /cache}
- {name: LOG_LEVEL, value: {{ $root.Values.logging.level | quote }}}
- {name: FITLOOP_LOG_FORMAT, value: json}
{{- end -}}

{{- define "fitloop.mounts.store" -}}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /cache}
{{- if .root.Values.store.ca.configMap }}
- {name: ca, mountPath: /etc/fitloop/ca, readOnly: true}
{{- end }}
{{- if include "fitloop.secret.store" . }}
- {name: s3, mountPath: /etc/fitloop/s3, readOnly: true}
{{- end }}
{{- end -}}

{{- define "fitloop.volumes.store" -}}
{{- with .root.Values.store.ca.configMap }}
- name: ca
  configMap: {name: {{ . }}, items: [{key: {{ $.root.Values.store.ca.key }}, path: ca.crt}]}
{{- end }}
{{- with (include "fitloop.secret.store" .) }}
- name: s3
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* How a model is made: the adapter decides by it, and it stands in each run's request. */}}
{{- define "fitloop.env.training" -}}
{{- $t := .Values.training -}}
- {name: METHOD, value: {{ $t.method | quote }}}
- {name: BASELINE_MODEL_NAME, value: {{ $t.baseModel | quote }}}
- {name: FINETUNED_MODEL_NAME, value: {{ $t.modelName | quote }}}
- {name: START_TRAINING_EACH_N_UPDATES, value: {{ $t.everyNUpdates | quote }}}
- {name: FITLOOP_DEBOUNCE_SECONDS, value: {{ $t.debounceSeconds | quote }}}
- {name: FITLOOP_RECONCILE_SECONDS, value: {{ $t.reconcileSeconds | quote }}}
- {name: FITLOOP_MAX_ACTIVE_RUNS, value: {{ $t.maxActive | quote }}}
- {name: FITLOOP_MIN_SECONDS_BETWEEN_RUNS, value: {{ $t.minSecondsBetweenRuns | quote }}}
- {name: FITLOOP_TRAINING_BUDGET_SECONDS, value: {{ $t.budgetSeconds | quote }}}
- {name: FITLOOP_MAX_LENGTH, value: {{ $t.maxLength | quote }}}
{{- if not (kindIs "invalid" $t.learningRate) }}
- {name: LEARNING_RATE, value: {{ $t.learningRate | quote }}}
{{- end }}
{{- if not (kindIs "invalid" $t.numTrainEpochs) }}
- {name: NUM_TRAIN_EPOCHS, value: {{ $t.numTrainEpochs | quote }}}
{{- end }}
{{- if not (kindIs "invalid" $t.weightDecay) }}
- {name: WEIGHT_DECAY, value: {{ $t.weightDecay | quote }}}
{{- end }}
{{- with .Values.projects }}
- {name: FITLOOP_PROJECTS, value: {{ toJson . | quote }}}
{{- end }}
{{- end -}}

{{- define "fitloop.env.labelStudio" -}}
- {name: LABEL_STUDIO_URL, value: {{ .Values.labelStudio.url | quote }}}
- name: LABEL_STUDIO_API_KEY
  valueFrom: {secretKeyRef: {name: {{ include "fitloop.secret.labelStudio" . }}, key: LABEL_STUDIO_API_KEY}}
{{- end -}}

{{/* The predictor's pod: the same in an InferenceService and in a Deployment. */}}
{{- define "fitloop.predictor.env" -}}
{{ include "fitloop.env.store" (dict "root" . "component" "predictor") }}
- {name: FITLOOP_ROLLOUT_MODE, value: {{ .Values.rollout.mode }}}
- {name: FITLOOP_DEVICE, value: {{ .Values.predictor.device }}}
- {name: FITLOOP_LOADED_MODELS, value: {{ .Values.predictor.loadedModels | quote }}}
- {name: FITLOOP_MODEL_MEMORY_MB, value: {{ .Values.predictor.modelMemoryMb | quote }}}
- {name: FITLOOP_QUEUE_TEXTS, value: {{ .Values.predictor.queueTexts | quote }}}
{{- with .Values.predictor.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fitloop.predictor.resources" -}}
{{- $resources := deepCopy .Values.predictor.resources -}}
{{- if eq .Values.predictor.device "cuda" -}}
{{- $limits := merge (dict "nvidia.com/gpu" .Values.predictor.gpus) (default dict $resources.limits) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{- define "fitloop.predictor.container" -}}
name: kserve-container
image: {{ include "fitloop.image" (dict "root" . "component" "predictor") }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports:
  - {name: http1, containerPort: 8080, protocol: TCP}
env: {{- include "fitloop.predictor.env" . | nindent 2 }}
resources: {{- include "fitloop.predictor.resources" . | nindent 2 }}
startupProbe:
  httpGet: {path: /readyz, port: 8081}
  periodSeconds: 1
  failureThreshold: 580
readinessProbe:
  httpGet: {path: /readyz, port: 8081}
  periodSeconds: 2
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /livez, port: 8081}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
lifecycle:
  preStop: {sleep: {seconds: {{ .Values.predictor.drainSeconds }}}}
securityContext: {{- include "fitloop.containerSecurity" . | nindent 2 }}
volumeMounts: {{- include "fitloop.mounts.store" (dict "root" . "component" "predictor") | nindent 2 }}
{{- with .Values.predictor.extraVolumeMounts }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{- define "fitloop.predictor.spec" -}}
serviceAccountName: {{ include "fitloop.account" (dict "root" . "component" "predictor") }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add .Values.predictor.drainSeconds .Values.predictor.graceSeconds }}
securityContext: {{- include "fitloop.podSecurity" . | nindent 2 }}
{{ include "fitloop.spread" (dict "root" . "component" "predictor") }}
{{- include "fitloop.placement" (dict "root" . "component" "predictor") }}
containers:
  - {{- include "fitloop.predictor.container" . | nindent 4 }}
volumes:
  - {name: tmp, emptyDir: {sizeLimit: 1Gi}}
  - {name: cache, emptyDir: {sizeLimit: {{ .Values.predictor.cacheSize }}}}
{{- with (include "fitloop.volumes.store" (dict "root" . "component" "predictor")) }}
{{ . | indent 2 }}
{{- end }}
{{- with .Values.predictor.extraVolumes }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{- define "fitloop.predictor.labels" -}}
{{ include "fitloop.podLabels" (dict "root" . "component" "predictor") }}
fitloop.io/predictor: {{ include "fitloop.fullname" . }}
{{- with .Values.predictor.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
