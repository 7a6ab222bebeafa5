{{/* What cannot be: each with a sentence that says what to do. */}}
{{- define "fitloop.checks" -}}
{{- $v := .Values -}}
{{- if not $v.labelStudio.url }}{{ fail "labelStudio.url is empty: give the address of Label Studio as pods reach it, as http://label-studio.label-studio.svc:8080" }}{{ end -}}
{{- if not (or $v.labelStudio.apiKey $v.labelStudio.existingSecret) }}{{ fail "labelStudio.apiKey and labelStudio.existingSecret are both empty: labels cannot be read without a token" }}{{ end -}}
{{- if and $v.labelStudio.apiKey $v.labelStudio.existingSecret }}{{ fail "labelStudio.apiKey and labelStudio.existingSecret are both set: keep one of them" }}{{ end -}}
{{- if not (regexMatch "^s3://[^/]+(/.*)?$" $v.store.url) }}{{ fail "store.url must be s3://bucket/prefix/: the bucket where everything is kept" }}{{ end -}}
{{- range $name := list "adapter" "predictor" "trainer" }}
{{- $keys := index $v.store $name }}
{{- if and $keys.accessKey $keys.existingSecret }}{{ fail (printf "store.%s.accessKey and store.%s.existingSecret are both set: keep one of them" $name $name) }}{{ end -}}
{{- if ne (empty $keys.accessKey) (empty $keys.secretKey) }}{{ fail (printf "store.%s needs accessKey and secretKey, or neither" $name) }}{{ end -}}
{{- end -}}
{{- if ne (empty $v.auth.username) (empty $v.auth.password) }}{{ fail "auth.username and auth.password belong together: set both, or neither to let everybody in" }}{{ end -}}
{{- if and $v.auth.existingSecret (or $v.auth.username $v.auth.secretPath) }}{{ fail "auth.existingSecret is set beside auth.username or auth.secretPath: keep one of them" }}{{ end -}}
{{- if and (eq $v.rollout.mode "rolling") (eq $v.predictor.device "cuda") (not $v.rollout.spareGpu) }}{{ fail "rollout.mode rolling starts a second pod beside each running one, which needs a GPU that is not there: set rollout.mode to reload, or rollout.spareGpu to true" }}{{ end -}}
{{- if and (gt (int $v.trainer.pods) 1) $v.trainer.allowCpu (gt (int $v.trainer.gpus) 0) }}{{ fail "trainer.allowCpu with trainer.gpus: a Job either needs its GPUs or has none; set trainer.gpus to 0" }}{{ end -}}
{{- if and (eq (int $v.trainer.gpus) 0) (not $v.trainer.allowCpu) }}{{ fail "trainer.gpus is 0 and trainer.allowCpu is false: every run would fail for want of a GPU; set one of them" }}{{ end -}}
{{- if and $v.ingress.enabled $v.httpRoute.enabled }}{{ fail "ingress.enabled and httpRoute.enabled are both true: keep one of them" }}{{ end -}}
{{- if and $v.ingress.tls.enabled (not $v.ingress.host) }}{{ fail "ingress.tls.enabled needs ingress.host: a certificate is for a name" }}{{ end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}{{ fail "httpRoute.enabled needs httpRoute.parentRefs: the Gateway that routes to it" }}{{ end -}}
{{- if gt (int $v.predictor.autoscaling.minReplicas) (int $v.predictor.autoscaling.maxReplicas) }}{{ fail "predictor.autoscaling.minReplicas is greater than maxReplicas" }}{{ end -}}
{{- if and $v.trainer.queueName (hasKey $v.trainer.jobOverrides "spec") }}{{ if hasKey $v.trainer.jobOverrides.spec "suspend" }}{{ fail "trainer.queueName suspends Jobs until Kueue admits them: leave spec.suspend out of trainer.jobOverrides" }}{{ end }}{{ end -}}
{{- end -}}
