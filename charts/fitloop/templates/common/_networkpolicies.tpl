{{/* Egress rules of the pods; "" allows everything. Takes (dict "root" $ "component" "adapter"). */}}
{{- define "fitloop.egress" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- $blocked := list -}}
{{- if and (eq .component "trainer") (include "fitloop.secret.store" .) }}{{ $blocked = $policy.trainerBlocked }}{{ end -}}
{{- if $policy.egress -}}
{{- $ports := list -}}
{{- range $policy.dns.ports }}{{ $ports = concat $ports (list (dict "port" (int .) "protocol" "UDP") (dict "port" (int .) "protocol" "TCP")) }}{{ end -}}
- to: {{- toYaml $policy.dns.to | nindent 4 }}
  ports: {{- toYaml $ports | nindent 4 }}
- to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ include "fitloop.name" .root }}
          app.kubernetes.io/instance: {{ .root.Release.Name }}
- to:
    {{- range $policy.egressTo }}
    - {{- include "fitloop.peer" (dict "peer" . "blocked" $blocked) | nindent 6 }}
    {{- end }}
  {{- with $policy.egressPorts }}
  ports:
    {{- range . }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
  {{- end }}
{{- else if $blocked -}}
# Everything else. Some networks do not match pods by ipBlock, so pods are listed separately.
- to:
    - namespaceSelector: {}
    {{- range $cidr := list "0.0.0.0/0" "::/0" }}
    - {{- include "fitloop.peer" (dict "peer" (dict "ipBlock" (dict "cidr" $cidr)) "blocked" $blocked) | nindent 6 }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* A peer; blocked addresses are excluded from a peer that matches every address. */}}
{{- define "fitloop.peer" -}}
{{- $peer := deepCopy .peer -}}
{{- $cidr := dig "ipBlock" "cidr" "" $peer -}}
{{- if has $cidr (list "0.0.0.0/0" "::/0") -}}
{{- $except := default list $peer.ipBlock.except -}}
{{- range .blocked }}{{ if eq (contains ":" .) (contains ":" $cidr) }}{{ $except = append $except . }}{{ end }}{{ end -}}
{{- with $except }}{{ $_ := set $peer.ipBlock "except" (uniq .) }}{{ end -}}
{{- end -}}
{{ toYaml $peer }}
{{- end -}}
