{{/* The whole manifest of a run's Job. The adapter sets name, labels, owner, the run's arguments, and one variable. */}}
{{- define "fitloop.trainer.job" -}}
{{- $t := .Values.trainer -}}
{{- $processes := int (default (max 1 (int $t.gpus)) $t.processes) -}}
{{- $several := or (gt $processes 1) (gt (int $t.pods) 1) -}}
{{- $resources := deepCopy $t.resources -}}
{{- if gt (int $t.gpus) 0 -}}
{{- $_ := set $resources "limits" (merge (dict $t.gpuResource (int $t.gpus)) (default dict $resources.limits)) -}}
{{- end -}}
apiVersion: batch/v1
kind: Job
metadata:
  labels:
    {{- include "fitloop.podLabels" (dict "root" . "component" "trainer") | nindent 4 }}
    {{- with $t.queueName }}
    kueue.x-k8s.io/queue-name: {{ . }}
    {{- end }}
spec:
  backoffLimit: {{ $t.backoffLimit }}
  ttlSecondsAfterFinished: {{ $t.ttlSecondsAfterFinished }}
  podReplacementPolicy: Failed
  {{- if or $t.suspend $t.queueName }}
  suspend: true
  {{- end }}
  {{- if gt (int $t.pods) 1 }}
  completions: {{ $t.pods }}
  parallelism: {{ $t.pods }}
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
      labels:
        {{- include "fitloop.podLabels" (dict "root" . "component" "trainer") | nindent 8 }}
        {{- with $t.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $t.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      restartPolicy: Never
      activeDeadlineSeconds: {{ $t.activeDeadlineSeconds }}
      terminationGracePeriodSeconds: {{ $t.terminationGracePeriodSeconds }}
      serviceAccountName: {{ include "fitloop.account" (dict "root" . "component" "trainer") }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- if gt (int $t.pods) 1 }}
      subdomain: {{ include "fitloop.trainers" . }}
      {{- end }}
      securityContext: {{- include "fitloop.podSecurity" . | nindent 8 }}
      {{- include "fitloop.placement" (dict "root" . "component" "trainer") | indent 6 }}
      containers:
        - name: trainer
          image: {{ include "fitloop.image" (dict "root" . "component" "trainer") }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          {{- if $several }}
          command: [python, -P, -m, services.trainer.ranks]
          {{- end }}
          env:
            {{- include "fitloop.env.store" (dict "root" . "component" "trainer") | nindent 12 }}
            {{- include "fitloop.env.labelStudio" . | nindent 12 }}
            - {name: FITLOOP_CHECKPOINT_SECONDS, value: {{ .Values.training.checkpointSeconds | quote }}}
            - {name: FITLOOP_REQUIRE_GPU, value: {{ not $t.allowCpu | quote }}}
            - {name: FITLOOP_KEEP_LOG, value: "true"}
            - {name: FITLOOP_RUN_SECONDS, value: {{ max 60 (sub (int $t.activeDeadlineSeconds) 120) | quote }}}
            - {name: HF_HOME, value: /cache/hub}
            {{- if $several }}
            - {name: FITLOOP_PROCESSES_PER_POD, value: {{ $processes | quote }}}
            - {name: FITLOOP_PODS, value: {{ $t.pods | quote }}}
            {{- if gt (int $t.pods) 1 }}
            - {name: FITLOOP_RENDEZVOUS, value: "$(FITLOOP_JOB_NAME)-0.{{ include "fitloop.trainers" . }}:29500"}
            {{- end }}
            {{- end }}
            {{- with $t.hfTokenSecret }}
            - {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: {{ . }}, key: HF_TOKEN}}}
            {{- end }}
            {{- with $t.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          resources: {{- toYaml $resources | nindent 12 }}
          securityContext: {{- include "fitloop.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: shm, mountPath: /dev/shm}
            {{- include "fitloop.mounts.store" (dict "root" . "component" "trainer") | nindent 12 }}
            {{- with $t.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: {{ $t.scratchSize }}}}
        - {name: cache, emptyDir: {sizeLimit: {{ $t.scratchSize }}}}
        - {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ $t.shmSize }}}}
        {{- with (include "fitloop.volumes.store" (dict "root" . "component" "trainer")) }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $t.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
