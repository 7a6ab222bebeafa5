{{/* The complete manifest of a run's Job, including the user's overrides. The adapter sets name, labels, owner, the run's
arguments, and one variable. */}}
{{- define "fitloop.trainer.manifest" -}}
{{- (include "fitloop.overlay" (dict "base" (include "fitloop.trainer.job" . | fromYaml) "over" .Values.trainer.jobOverrides) | fromJson).value | toYaml -}}
{{- end -}}

{{- define "fitloop.trainer.processes" -}}
{{- int (default (max 1 (int .Values.trainer.gpus)) .Values.trainer.processes) -}}
{{- end -}}

{{/* Not empty if several processes train one model. */}}
{{- define "fitloop.trainer.several" -}}
{{- if or (gt (int (include "fitloop.trainer.processes" .)) 1) (gt (int .Values.trainer.pods) 1) }}true{{ end -}}
{{- end -}}

{{- define "fitloop.trainer.env" -}}
{{- $t := .Values.trainer -}}
{{ include "fitloop.env.store" (dict "root" . "component" "trainer") }}
{{ include "fitloop.env.labelStudio" . }}
- {name: FITLOOP_CHECKPOINT_SECONDS, value: {{ .Values.training.checkpointSeconds | quote }}}
- {name: FITLOOP_POOL_SECONDS, value: {{ .Values.training.poolSeconds | quote }}}
- {name: FITLOOP_REQUIRE_GPU, value: {{ not $t.allowCpu | quote }}}
- {name: FITLOOP_KEEP_LOG, value: "true"}
- {name: FITLOOP_RUN_SECONDS, value: {{ max 60 (sub (int $t.activeDeadlineSeconds) 120) | quote }}}
- {name: HF_HOME, value: /cache/hub}
{{- with .Values.training.modelVariables }}
- {name: FITLOOP_MODEL_VARIABLES, value: {{ join "," . | quote }}}
{{- end }}
{{- if include "fitloop.trainer.several" . }}
- {name: FITLOOP_PROCESSES_PER_POD, value: {{ include "fitloop.trainer.processes" . | quote }}}
- {name: FITLOOP_PODS, value: {{ int $t.pods | quote }}}
{{- if gt (int $t.pods) 1 }}
- {name: FITLOOP_RENDEZVOUS, value: "$(FITLOOP_JOB_NAME)-0.{{ include "fitloop.trainers" . }}:29500"}
{{- end }}
{{- end }}
{{- with $t.hfTokenSecret }}
- {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: {{ . }}, key: HF_TOKEN}}}
{{- end }}
{{- end -}}

{{/* Twice the scratch size: doubles the number of a quantity such as 1.5Gi. */}}
{{- define "fitloop.trainer.folders" -}}
{{- $unit := regexFind "[A-Za-z]*$" .Values.trainer.scratchSize -}}
{{- $number := trimSuffix $unit .Values.trainer.scratchSize -}}
{{- if contains "." $number }}{{ mulf 2 (float64 $number) }}{{ else }}{{ mul 2 (int64 $number) }}{{ end }}{{ $unit -}}
{{- end -}}

{{- define "fitloop.trainer.job" -}}
{{- $t := .Values.trainer -}}
{{- $who := dict "root" . "component" "trainer" -}}
{{- $limits := dict -}}
{{- if gt (int $t.gpus) 0 }}{{ $limits = dict $t.gpuResource (int $t.gpus) }}{{ end -}}
apiVersion: batch/v1
kind: Job
metadata:
  labels:
    {{- include "fitloop.podLabels" $who | nindent 4 }}
    {{- with $t.queueName }}
    kueue.x-k8s.io/queue-name: {{ . }}
    {{- end }}
spec:
  backoffLimit: {{ int $t.backoffLimit }}
  ttlSecondsAfterFinished: {{ int $t.ttlSecondsAfterFinished }}
  podReplacementPolicy: Failed
  {{- if or $t.suspend $t.queueName }}
  suspend: true
  {{- end }}
  {{- if gt (int $t.pods) 1 }}
  completions: {{ int $t.pods }}
  parallelism: {{ int $t.pods }}
  completionMode: Indexed
  {{- end }}
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions: [{type: DisruptionTarget, status: "True"}]
      - action: FailJob
        onExitCodes: {containerName: trainer, operator: In, values: [64, 65, 78]}
  template:
    metadata:
      labels: {{- include "fitloop.podLabels" $who | nindent 8 }}
      {{- with $t.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      restartPolicy: Never
      activeDeadlineSeconds: {{ int $t.activeDeadlineSeconds }}
      terminationGracePeriodSeconds: {{ int $t.terminationGracePeriodSeconds }}
      serviceAccountName: {{ include "fitloop.account" $who }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- if gt (int $t.pods) 1 }}
      subdomain: {{ include "fitloop.trainers" . }}
      {{- end }}
      securityContext: {{- include "fitloop.podSecurity" . | nindent 8 }}
      {{- with (include "fitloop.placement" $who) }}{{ . | indent 6 }}{{ end }}
      {{- with $t.topologySpreadConstraints }}
      topologySpreadConstraints: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: trainer
          image: {{ include "fitloop.image" $who }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          {{- if include "fitloop.trainer.several" . }}
          command: [python, -P, -m, services.trainer.ranks]
          {{- end }}
          env: {{- include "fitloop.env" (dict "own" (include "fitloop.trainer.env" .) "extra" $t.extraEnv) | nindent 12 }}
          resources: {{- include "fitloop.resources" (merge (dict "folders" (include "fitloop.trainer.folders" .) "limits" $limits) $who) | nindent 12 }}
          securityContext: {{- include "fitloop.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: shm, mountPath: /dev/shm}
            {{- include "fitloop.mounts" $who | nindent 12 }}
        {{- with (include "fitloop.extraContainers" $who) }}{{ . | indent 8 }}{{ end }}
      {{- with (include "fitloop.initContainers" $who) }}{{ . | indent 6 }}{{ end }}
      volumes:
        - {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ $t.shmSize }}}}
        {{- include "fitloop.volumes" (merge (dict "tmp" $t.scratchSize "cache" $t.scratchSize) $who) | nindent 8 }}
{{- end -}}
