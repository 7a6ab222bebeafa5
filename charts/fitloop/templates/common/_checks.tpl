{{/* Invalid combinations of values: each failure says what to do. */}}
{{- define "fitloop.checks" -}}
{{- include "fitloop.checks.who" . -}}
{{- include "fitloop.checks.store" . -}}
{{- include "fitloop.checks.pods" . -}}
{{- include "fitloop.checks.times" . -}}
{{- include "fitloop.checks.ownModels" . -}}
{{- include "fitloop.checks.network" . -}}
{{- include "fitloop.checks.monitoring" . -}}
{{- end -}}

{{- define "fitloop.checks.who" -}}
{{- $v := .Values -}}
{{- $full := include "fitloop.fullname" . -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $full) }}{{ fail (printf "the release's full name is %q, but Services and InferenceServices allow only lower-case letters, digits and hyphens, starting with a letter: set fullnameOverride" $full) }}{{ end -}}
{{- if not $v.labelStudio.url }}{{ fail "labelStudio.url is empty: set it to Label Studio's URL as seen from pods, for example http://label-studio.label-studio.svc:8080" }}{{ end -}}
{{- if include "fitloop.isOwnHost" $v.labelStudio.url }}{{ fail (printf "labelStudio.url is %s, which in a pod means the pod itself: use a URL that pods can reach, for example http://label-studio.label-studio.svc:8080" $v.labelStudio.url) }}{{ end -}}
{{- if not (or $v.labelStudio.apiKey $v.labelStudio.existingSecret) }}{{ fail "labelStudio.apiKey and labelStudio.existingSecret are both empty: set one, because labels cannot be read without a token" }}{{ end -}}
{{- if and $v.labelStudio.apiKey $v.labelStudio.existingSecret }}{{ fail "labelStudio.apiKey and labelStudio.existingSecret are both set: keep one of them" }}{{ end -}}
{{- include "fitloop.checks.auth" . -}}
{{- include "fitloop.checks.accounts" . -}}
{{- end -}}

{{/* Each process has its own permissions, and therefore its own service account. */}}
{{- define "fitloop.checks.accounts" -}}
{{- $names := dict -}}
{{- range $component := list "adapter" "predictor" "trainer" -}}
{{- $account := index $.Values.serviceAccounts $component -}}
{{- if not (or $account.create $account.name) }}{{ fail (printf "serviceAccounts.%s.create is false, and serviceAccounts.%s.name is empty: name the service account that exists" $component $component) }}{{ end -}}
{{- $name := include "fitloop.account" (dict "root" $ "component" $component) -}}
{{- with get $names $name }}{{ fail (printf "serviceAccounts.%s and serviceAccounts.%s are both %s: each process has its own permissions, so use different names" . $component $name) }}{{ end -}}
{{- $_ := set $names $name $component -}}
{{- end -}}
{{- end -}}

{{- define "fitloop.checks.auth" -}}
{{- $auth := .Values.auth -}}
{{- if ne (empty $auth.username) (empty $auth.password) }}{{ fail "auth.username and auth.password must be set together" }}{{ end -}}
{{- if and $auth.existingSecret (or $auth.username $auth.secretPath) }}{{ fail "auth.existingSecret is set together with auth.username or auth.secretPath: keep one of them" }}{{ end -}}
{{- if not (regexMatch "^([A-Za-z0-9_-]{16,})?$" $auth.secretPath) }}{{ fail (printf "auth.secretPath has %d characters: it must have at least 16, and only letters, digits, - and _ (head -c 24 /dev/urandom | base64 | tr +/ -_)" (len $auth.secretPath)) }}{{ end -}}
{{- $given := include "fitloop.secret.auth" . -}}
{{- if and $auth.anonymous $given }}{{ fail "auth.anonymous is true together with a password, a secret path or auth.existingSecret: it would allow everyone, so keep one of them" }}{{ end -}}
{{- if not (or $auth.anonymous $given) }}{{ fail "auth is empty, so anyone who can reach the adapter could train, promote and pause: set auth.existingSecret, or auth.username and auth.password, or auth.anonymous to true to allow everyone on purpose" }}{{ end -}}
{{- end -}}

{{- define "fitloop.checks.store" -}}
{{- $v := .Values -}}
{{- if not $v.store.url }}{{ fail "store.url is empty: set the bucket for all state, as s3://bucket/prefix/" }}{{ end -}}
{{- if include "fitloop.isOwnHost" $v.store.endpoint }}{{ fail (printf "store.endpoint is %s, which in a pod means the pod itself: use a URL that pods can reach, for example http://minio.minio.svc:9000" $v.store.endpoint) }}{{ end -}}
{{- if ge (float64 $v.store.timeoutSeconds) 6.0 }}{{ fail (printf "store.timeoutSeconds is %v, and with retries a write to the bucket could outlive the leader's Lease (15 s), so no adapter could lead: set it below 6" $v.store.timeoutSeconds) }}{{ end -}}
{{- $with := list -}}{{- $without := list -}}
{{- range $name := list "adapter" "predictor" "trainer" -}}
{{- $keys := index $v.store $name -}}
{{- if and $keys.accessKey $keys.existingSecret }}{{ fail (printf "store.%s.accessKey and store.%s.existingSecret are both set: keep one of them" $name $name) }}{{ end -}}
{{- if ne (empty $keys.accessKey) (empty $keys.secretKey) }}{{ fail (printf "store.%s needs accessKey and secretKey, or neither" $name) }}{{ end -}}
{{- if or $keys.accessKey $keys.existingSecret }}{{ $with = append $with $name }}{{ else }}{{ $without = append $without $name }}{{ end -}}
{{- end -}}
{{- if and $v.store.endpoint $with $without }}{{ fail (printf "store.%s has keys and store.%s has none: each process needs its own keys, with different permissions (you may name the same Secret three times)" (first $with) (first $without)) }}{{ end -}}
{{- end -}}

{{- define "fitloop.checks.pods" -}}
{{- $v := .Values -}}
{{- $lacks := "install it, or set kserve.enabled to false for a plain Deployment. (For templating only, pass --api-versions serving.kserve.io/v1beta1/InferenceService, or set checkCluster to false.)" -}}
{{- if and $v.kserve.enabled $v.checkCluster (not (.Capabilities.APIVersions.Has "serving.kserve.io/v1beta1/InferenceService")) }}{{ fail (printf "kserve.enabled is true, but this cluster has no KServe (serving.kserve.io/v1beta1): %s" $lacks) }}{{ end -}}
{{- if and (eq $v.rollout.mode "rolling") (eq $v.predictor.device "cuda") (not $v.rollout.spareGpu) }}{{ fail "rollout.mode rolling starts a pod beside the running ones, which needs a spare GPU: set rollout.mode to reload, or rollout.spareGpu to true" }}{{ end -}}
{{- $scaling := $v.predictor.autoscaling -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}{{ fail "predictor.autoscaling.minReplicas is greater than predictor.autoscaling.maxReplicas" }}{{ end -}}
{{- if and $scaling.enabled $scaling.external }}{{ fail "predictor.autoscaling.enabled and predictor.autoscaling.external are both true: keep one of them" }}{{ end -}}
{{- if and $scaling.enabled (not (dig "requests" "cpu" (dig "limits" "cpu" "" $v.predictor.resources) $v.predictor.resources)) }}{{ fail "predictor.autoscaling needs a CPU request to measure utilization: set predictor.resources.requests.cpu" }}{{ end -}}
{{- $gpus := int $v.trainer.gpus -}}
{{- if and $v.trainer.allowCpu (gt $gpus 0) }}{{ fail "trainer.allowCpu is true and trainer.gpus is not 0: a run either requires its GPUs or uses none; set trainer.gpus to 0 or trainer.allowCpu to false" }}{{ end -}}
{{- if and (eq $gpus 0) (not $v.trainer.allowCpu) }}{{ fail "trainer.gpus is 0 and trainer.allowCpu is false: every run would fail without a GPU; set one of them" }}{{ end -}}
{{- if and (gt $gpus 0) (gt (int $v.trainer.processes) $gpus) }}{{ fail "trainer.processes is greater than trainer.gpus: each process needs its own GPU" }}{{ end -}}
{{- if and $v.trainer.queueName (hasKey (dig "spec" dict $v.trainer.jobOverrides) "suspend") }}{{ fail "trainer.queueName suspends Jobs until Kueue admits them: remove spec.suspend from trainer.jobOverrides" }}{{ end -}}
{{- end -}}

{{/* Times that depend on each other. A run's pod gets its time as in fitloop.trainer.env. */}}
{{- define "fitloop.checks.times" -}}
{{- $v := .Values -}}
{{- if lt (float64 $v.rollout.flipSeconds) 0.5 }}{{ fail (printf "rollout.flipSeconds is %v, and adapters read the serving table every 0.25 s, so they would switch to a new version at different moments: set it to 0.5 or more" $v.rollout.flipSeconds) }}{{ end -}}
{{- $run := max 60 (sub (int $v.trainer.activeDeadlineSeconds) 120) -}}
{{- range $name := list "budgetSeconds" "checkpointSeconds" -}}
{{- $seconds := index $v.training $name -}}
{{- if gt (float64 $seconds) (float64 $run) }}{{ fail (printf "training.%s is %v, but trainer.activeDeadlineSeconds gives a run only %d s: lower the first, or set the second to at least %d" $name $seconds $run (int (ceil (addf (float64 $seconds) 120.0)))) }}{{ end -}}
{{- end -}}
{{- range $name := list "ingress" "httpRoute" -}}
{{- $own := index $v $name -}}
{{- if and $own.enabled (ne (toString $own.timeoutSeconds) "") (lt (int $own.timeoutSeconds) 100) }}{{ fail (printf "%s.timeoutSeconds is %v, but Label Studio waits 100 s for predictions, and those that take longer than %v s would fail: set it to 100 or more" $name $own.timeoutSeconds $own.timeoutSeconds) }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* A class and the method that needs it. */}}
{{- define "fitloop.checks.ownModels" -}}
{{- $t := .Values.training -}}
{{- if and (eq $t.method "label-studio-ml") (not $t.model) }}{{ fail "training.method is label-studio-ml, which needs a class: set training.model to package.module:Class" }}{{ end -}}
{{- if and $t.model (not (include "fitloop.hasOwnModels" .)) }}{{ fail (printf "training.model is %s, and no project uses it: set training.method to label-studio-ml, or that method of a project in projects" $t.model) }}{{ end -}}
{{- range $id, $own := .Values.projects -}}
{{- $method := default $t.method $own.method -}}
{{- if and $own.model (ne $method "label-studio-ml") }}{{ fail (printf "projects.%s.model is %s, but its method is %s: set projects.%s.method to label-studio-ml" $id $own.model $method $id) }}{{ end -}}
{{- if and (eq $method "label-studio-ml") (not $own.model) (not $t.model) }}{{ fail (printf "projects.%s.method is label-studio-ml, which needs a class: set projects.%s.model to package.module:Class" $id $id) }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "fitloop.checks.network" -}}
{{- $v := .Values -}}
{{- if and $v.ingress.enabled $v.httpRoute.enabled }}{{ fail "ingress.enabled and httpRoute.enabled are both true: keep one of them" }}{{ end -}}
{{- if and $v.ingress.tls.enabled (not $v.ingress.host) }}{{ fail "ingress.tls.enabled needs ingress.host: a certificate is issued for a name" }}{{ end -}}
{{- if and $v.ingress.extraHosts (not $v.ingress.host) }}{{ fail "ingress.extraHosts needs ingress.host, which comes first" }}{{ end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}{{ fail "httpRoute.enabled needs httpRoute.parentRefs: the Gateway that routes to it" }}{{ end -}}
{{- if and $v.httpRoute.enabled $v.checkCluster (not (.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1/HTTPRoute")) }}{{ fail "httpRoute.enabled is true, but this cluster has no Gateway API (gateway.networking.k8s.io/v1): use ingress.enabled. (For templating only, pass --api-versions gateway.networking.k8s.io/v1/HTTPRoute, or set checkCluster to false.)" }}{{ end -}}
{{- if and $v.networkPolicy.egress (not $v.networkPolicy.enabled) }}{{ fail "networkPolicy.egress needs networkPolicy.enabled" }}{{ end -}}
{{- if and $v.networkPolicy.egress (not $v.networkPolicy.egressTo) }}{{ fail "networkPolicy.egress blocks Label Studio, the bucket and the API server: list them in networkPolicy.egressTo" }}{{ end -}}
{{- end -}}

{{/* How the adapter is exposed outside the cluster; "" if it is not. */}}
{{- define "fitloop.exposed" -}}
{{- if .Values.ingress.enabled }}an Ingress{{ else if .Values.httpRoute.enabled }}an HTTPRoute{{ else if ne .Values.service.type "ClusterIP" }}a Service of type {{ .Values.service.type }}{{ end -}}
{{- end -}}

{{/* Not empty for an address that means the pod itself. */}}
{{- define "fitloop.isOwnHost" -}}
{{- if regexMatch "^https?://([^/@]*@)?(localhost|127\\.[0-9.]+|\\[::1\\])(:|/|$)" . }}true{{ end -}}
{{- end -}}
