{{/* What cannot be: each with a sentence that says what to do. */}}
{{- define "fitloop.checks" -}}
{{- include "fitloop.checks.who" . -}}
{{- include "fitloop.checks.store" . -}}
{{- include "fitloop.checks.pods" . -}}
{{- include "fitloop.checks.network" . -}}
{{- include "fitloop.checks.monitoring" . -}}
{{- end -}}

{{- define "fitloop.checks.who" -}}
{{- $v := .Values -}}
{{- $full := include "fitloop.fullname" . -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $full) }}{{ fail (printf "the release's full name is %q, and Services and InferenceServices take small letters, digits and hyphens alone, a letter first: set fullnameOverride" $full) }}{{ end -}}
{{- if not $v.labelStudio.url }}{{ fail "labelStudio.url is empty: give the address of Label Studio as pods reach it, as http://label-studio.label-studio.svc:8080" }}{{ end -}}
{{- if include "fitloop.isOwnHost" $v.labelStudio.url }}{{ fail (printf "labelStudio.url is %s, which to a pod is the pod itself: give an address that pods reach, as http://label-studio.label-studio.svc:8080" $v.labelStudio.url) }}{{ end -}}
{{- if not (or $v.labelStudio.apiKey $v.labelStudio.existingSecret) }}{{ fail "labelStudio.apiKey and labelStudio.existingSecret are both empty: labels cannot be read without a token" }}{{ end -}}
{{- if and $v.labelStudio.apiKey $v.labelStudio.existingSecret }}{{ fail "labelStudio.apiKey and labelStudio.existingSecret are both set: keep one of them" }}{{ end -}}
{{- include "fitloop.checks.auth" . -}}
{{- include "fitloop.checks.accounts" . -}}
{{- end -}}

{{/* Each process has rights of its own, so an account of its own. */}}
{{- define "fitloop.checks.accounts" -}}
{{- $names := dict -}}
{{- range $component := list "adapter" "predictor" "trainer" -}}
{{- $account := index $.Values.serviceAccounts $component -}}
{{- if not (or $account.create $account.name) }}{{ fail (printf "serviceAccounts.%s.create is false, and serviceAccounts.%s.name is empty: name the service account that exists" $component $component) }}{{ end -}}
{{- $name := include "fitloop.account" (dict "root" $ "component" $component) -}}
{{- with get $names $name }}{{ fail (printf "serviceAccounts.%s and serviceAccounts.%s are both %s: each process has rights of its own, so name two" . $component $name) }}{{ end -}}
{{- $_ := set $names $name $component -}}
{{- end -}}
{{- end -}}

{{- define "fitloop.checks.auth" -}}
{{- $auth := .Values.auth -}}
{{- if ne (empty $auth.username) (empty $auth.password) }}{{ fail "auth.username and auth.password belong together: set both" }}{{ end -}}
{{- if and $auth.existingSecret (or $auth.username $auth.secretPath) }}{{ fail "auth.existingSecret is set beside auth.username or auth.secretPath: keep one of them" }}{{ end -}}
{{- if not (regexMatch "^([A-Za-z0-9_-]{16,})?$" $auth.secretPath) }}{{ fail (printf "auth.secretPath has %d characters: it takes at least 16, and letters, digits, - and _ alone (head -c 24 /dev/urandom | base64 | tr +/ -_)" (len $auth.secretPath)) }}{{ end -}}
{{- $given := include "fitloop.secret.auth" . -}}
{{- if and $auth.anonymous $given }}{{ fail "auth.anonymous is true beside a password, a secret path or auth.existingSecret: it would let everybody in, so keep one of them" }}{{ end -}}
{{- if not (or $auth.anonymous $given) }}{{ fail "auth is empty, and whoever reaches the adapter could train, promote and pause: set auth.existingSecret, or auth.username and auth.password, or auth.anonymous to true to let everybody in on purpose" }}{{ end -}}
{{- end -}}

{{- define "fitloop.checks.store" -}}
{{- $v := .Values -}}
{{- if not $v.store.url }}{{ fail "store.url is empty: name the bucket where everything is kept, as s3://bucket/prefix/" }}{{ end -}}
{{- if include "fitloop.isOwnHost" $v.store.endpoint }}{{ fail (printf "store.endpoint is %s, which to a pod is the pod itself: give an address that pods reach, as http://minio.minio.svc:9000" $v.store.endpoint) }}{{ end -}}
{{- if ge (float64 $v.store.timeoutSeconds) 6.0 }}{{ fail (printf "store.timeoutSeconds is %v, and with its retries a write to the bucket would outlive the Lease of the adapter that leads (15 s), so none could lead: set it below 6" $v.store.timeoutSeconds) }}{{ end -}}
{{- $with := list -}}{{- $without := list -}}
{{- range $name := list "adapter" "predictor" "trainer" -}}
{{- $keys := index $v.store $name -}}
{{- if and $keys.accessKey $keys.existingSecret }}{{ fail (printf "store.%s.accessKey and store.%s.existingSecret are both set: keep one of them" $name $name) }}{{ end -}}
{{- if ne (empty $keys.accessKey) (empty $keys.secretKey) }}{{ fail (printf "store.%s needs accessKey and secretKey, or neither" $name) }}{{ end -}}
{{- if or $keys.accessKey $keys.existingSecret }}{{ $with = append $with $name }}{{ else }}{{ $without = append $without $name }}{{ end -}}
{{- end -}}
{{- if and $v.store.endpoint $with $without }}{{ fail (printf "store.%s has keys and store.%s has none: each process needs keys of its own, for they have different rights (the same Secret may be named three times)" (first $with) (first $without)) }}{{ end -}}
{{- end -}}

{{- define "fitloop.checks.pods" -}}
{{- $v := .Values -}}
{{- $lacks := "install it, or set kserve.enabled to false for a plain Deployment. (Only templating? Say --api-versions serving.kserve.io/v1beta1/InferenceService, or set checkCluster to false.)" -}}
{{- if and $v.kserve.enabled $v.checkCluster (not (.Capabilities.APIVersions.Has "serving.kserve.io/v1beta1/InferenceService")) }}{{ fail (printf "kserve.enabled is true, and this cluster has no KServe (serving.kserve.io/v1beta1): %s" $lacks) }}{{ end -}}
{{- if and (eq $v.rollout.mode "rolling") (eq $v.predictor.device "cuda") (not $v.rollout.spareGpu) }}{{ fail "rollout.mode rolling starts a pod beside the running ones, which needs a GPU that is not there: set rollout.mode to reload, or rollout.spareGpu to true" }}{{ end -}}
{{- $scaling := $v.predictor.autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}{{ fail "predictor.autoscaling.minReplicas is greater than predictor.autoscaling.maxReplicas" }}{{ end -}}
{{- if and $scaling.enabled $scaling.external }}{{ fail "predictor.autoscaling.enabled and predictor.autoscaling.external are both true: keep one of them" }}{{ end -}}
{{- if and $scaling.enabled (not (dig "requests" "cpu" (dig "limits" "cpu" "" $v.predictor.resources) $v.predictor.resources)) }}{{ fail "predictor.autoscaling goes by the share of the requested CPU: set predictor.resources.requests.cpu" }}{{ end -}}
{{- $gpus := int $v.trainer.gpus -}}
{{- if and $v.trainer.allowCpu (gt $gpus 0) }}{{ fail "trainer.allowCpu is true and trainer.gpus is not 0: a run either needs its GPUs or has none; set trainer.gpus to 0 or trainer.allowCpu to false" }}{{ end -}}
{{- if and (eq $gpus 0) (not $v.trainer.allowCpu) }}{{ fail "trainer.gpus is 0 and trainer.allowCpu is false: every run would fail for want of a GPU; set one of them" }}{{ end -}}
{{- if and (gt $gpus 0) (gt (int $v.trainer.processes) $gpus) }}{{ fail "trainer.processes is greater than trainer.gpus: each process needs a GPU of its own" }}{{ end -}}
{{- if and $v.trainer.queueName (hasKey (dig "spec" dict $v.trainer.jobOverrides) "suspend") }}{{ fail "trainer.queueName suspends Jobs until Kueue admits them: leave spec.suspend out of trainer.jobOverrides" }}{{ end -}}
{{- end -}}

{{- define "fitloop.checks.network" -}}
{{- $v := .Values -}}
{{- if and $v.ingress.enabled $v.httpRoute.enabled }}{{ fail "ingress.enabled and httpRoute.enabled are both true: keep one of them" }}{{ end -}}
{{- if and $v.ingress.tls.enabled (not $v.ingress.host) }}{{ fail "ingress.tls.enabled needs ingress.host: a certificate is for a name" }}{{ end -}}
{{- if and $v.ingress.extraHosts (not $v.ingress.host) }}{{ fail "ingress.extraHosts needs ingress.host, which stands first" }}{{ end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}{{ fail "httpRoute.enabled needs httpRoute.parentRefs: the Gateway that routes to it" }}{{ end -}}
{{- if and $v.httpRoute.enabled $v.checkCluster (not (.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1/HTTPRoute")) }}{{ fail "httpRoute.enabled is true, and this cluster has no Gateway API (gateway.networking.k8s.io/v1): use ingress.enabled. (Only templating? Say --api-versions gateway.networking.k8s.io/v1/HTTPRoute, or set checkCluster to false.)" }}{{ end -}}
{{- if and $v.networkPolicy.egress (not $v.networkPolicy.enabled) }}{{ fail "networkPolicy.egress needs networkPolicy.enabled" }}{{ end -}}
{{- if and $v.networkPolicy.egress (not $v.networkPolicy.egressTo) }}{{ fail "networkPolicy.egress closes the way to Label Studio, the bucket and the API server: name them in networkPolicy.egressTo" }}{{ end -}}
{{- end -}}

{{/* How the adapter is reached from outside the cluster; "" is not at all. */}}
{{- define "fitloop.exposed" -}}
{{- if .Values.ingress.enabled }}an Ingress{{ else if .Values.httpRoute.enabled }}an HTTPRoute{{ else if ne .Values.service.type "ClusterIP" }}a Service of type {{ .Values.service.type }}{{ end -}}
{{- end -}}

{{/* Not empty for an address that a pod takes for itself. */}}
{{- define "fitloop.isOwnHost" -}}
{{- if regexMatch "^https?://([^/@]*@)?(localhost|127\\.[0-9.]+|\\[::1\\])(:|/|$)" . }}true{{ end -}}
{{- end -}}
