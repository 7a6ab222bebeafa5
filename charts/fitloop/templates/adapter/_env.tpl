{{/* The adapter's environment. */}}
{{- define "fitloop.adapter.env" -}}
{{- $full := include "fitloop.fullname" . -}}
{{ include "fitloop.env.store" (dict "root" . "component" "adapter") }}
{{ include "fitloop.env.cache" (dict "root" . "component" "adapter") }}
{{ include "fitloop.env.labelStudio" . }}
{{ include "fitloop.env.auth" . }}
{{ include "fitloop.env.token" . }}
{{- if .Values.auth.anonymous }}
- {name: FITLOOP_ALLOWED_HOSTS, value: {{ include "fitloop.hosts" . | quote }}}
{{- end }}
{{- with .Values.labelStudio.publicUrl }}
- {name: FITLOOP_LABEL_STUDIO_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{ include "fitloop.env.training" . }}
- {name: FITLOOP_KEEP_VERSIONS, value: {{ int .Values.store.retention.versions | quote }}}
- {name: FITLOOP_KEEP_DAYS, value: {{ .Values.store.retention.days | quote }}}
- {name: FITLOOP_KEEP_RUNS_DAYS, value: {{ .Values.store.retention.runsDays | quote }}}
- {name: FITLOOP_RELEASE, value: {{ $full }}}
- {name: FITLOOP_LEASE, value: {{ include "fitloop.lease" . }}}
- {name: FITLOOP_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: FITLOOP_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: FITLOOP_PREDICTOR_URL, value: "http://{{ include "fitloop.models" . }}"}
- {name: FITLOOP_PREDICTOR_WORKLOAD, value: {{ include "fitloop.workload" . }}}
- {name: FITLOOP_PREDICTOR_SELECTOR, value: "fitloop.io/predictor={{ $full }}"}
- {name: FITLOOP_ROLLOUT_MODE, value: {{ .Values.rollout.mode }}}
- {name: FITLOOP_ROLLOUT_DEADLINE_SECONDS, value: {{ .Values.rollout.deadlineSeconds | quote }}}
- {name: FITLOOP_ROLLOUT_MIN_INTERVAL_SECONDS, value: {{ .Values.rollout.minIntervalSeconds | quote }}}
- {name: FITLOOP_ROLLOUT_FLIP_SECONDS, value: {{ .Values.rollout.flipSeconds | quote }}}
- {name: FITLOOP_BLIND_SHARE, value: {{ .Values.adapter.blindShare | quote }}}
- {name: FITLOOP_METRICS_PROJECTS, value: {{ int .Values.monitoring.projects | quote }}}
{{- with (include "fitloop.pathPrefix" .) }}
- {name: FITLOOP_PATH_PREFIX, value: {{ . | quote }}}
{{- end }}
{{- end -}}

{{/* Training settings: the adapter decides by them and copies them into each run's request. */}}
{{- define "fitloop.env.training" -}}
{{- $t := .Values.training -}}
- {name: METHOD, value: {{ $t.method | quote }}}
{{- with $t.model }}
- {name: FITLOOP_MODEL, value: {{ . | quote }}}
{{- end }}
{{- with $t.allowedModels }}
- {name: FITLOOP_ALLOWED_MODELS, value: {{ join "," . | quote }}}
{{- end }}
- {name: BASELINE_MODEL_NAME, value: {{ $t.baseModel | quote }}}
{{- with $t.allowedBaseModels }}
- {name: FITLOOP_ALLOWED_BASE_MODELS, value: {{ join "," . | quote }}}
{{- end }}
{{- with $t.controls }}
- {name: FITLOOP_CONTROLS, value: {{ join "," . | quote }}}
{{- end }}
- {name: FINETUNED_MODEL_NAME, value: {{ $t.modelName | quote }}}
- {name: START_TRAINING_EACH_N_UPDATES, value: {{ int $t.everyNUpdates | quote }}}
- {name: FITLOOP_DEBOUNCE_SECONDS, value: {{ $t.debounceSeconds | quote }}}
- {name: FITLOOP_RECONCILE_SECONDS, value: {{ $t.reconcileSeconds | quote }}}
- {name: FITLOOP_MAX_ACTIVE_RUNS, value: {{ int $t.maxActive | quote }}}
- {name: FITLOOP_EMBED_SECONDS, value: {{ $t.embedSeconds | quote }}}
- {name: FITLOOP_COLD_START, value: {{ $t.coldStart | quote }}}
- {name: FITLOOP_MIN_SECONDS_BETWEEN_RUNS, value: {{ $t.minSecondsBetweenRuns | quote }}}
- {name: FITLOOP_TRAINING_BUDGET_SECONDS, value: {{ $t.budgetSeconds | quote }}}
- {name: FITLOOP_MAX_LENGTH, value: {{ int $t.maxLength | quote }}}
{{- range $name, $variable := dict "learningRate" "LEARNING_RATE" "numTrainEpochs" "NUM_TRAIN_EPOCHS" "weightDecay" "WEIGHT_DECAY" }}
{{- $value := get $t $name }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- {name: {{ $variable }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- with .Values.projects }}
- {name: FITLOOP_PROJECTS, value: {{ toJson . | quote }}}
{{- end }}
{{- end -}}

{{/* The host names that the adapter answers to. */}}
{{- define "fitloop.hosts" -}}
{{- $full := include "fitloop.adapter" . -}}
{{- $found := list $full (printf "%s.%s" $full .Release.Namespace) (printf "%s.%s.svc" $full .Release.Namespace) (printf "%s.%s.svc.cluster.local" $full .Release.Namespace) -}}
{{- if .Values.ingress.enabled }}{{ $found = concat $found (include "fitloop.ingressHosts" . | fromYamlArray) }}{{ end -}}
{{- if .Values.httpRoute.enabled }}{{ $found = concat $found .Values.httpRoute.hostnames }}{{ end -}}
{{- concat $found .Values.allowedHosts | uniq | join "," -}}
{{- end -}}

{{- define "fitloop.ingressHosts" -}}
{{- $found := .Values.ingress.extraHosts -}}
{{- with .Values.ingress.host }}{{ $found = prepend $found . }}{{ end -}}
{{ toYaml $found }}
{{- end -}}

{{/* The path prefix of the Ingress or the HTTPRoute, for example /fitloop; "" if there is none. */}}
{{- define "fitloop.pathPrefix" -}}
{{- if .Values.ingress.enabled }}{{ trimSuffix "/" .Values.ingress.path }}{{ else if .Values.httpRoute.enabled }}{{ trimSuffix "/" .Values.httpRoute.path }}{{ end -}}
{{- end -}}
