{{/* Names, labels, images and the operator's rights: everything that more than one template needs. */}}

{{- define "floe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The selector of the operator's pods, which queries' NetworkPolicies also admit. */}}
{{- define "floe.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of every object. They differ from the selector: it must not match the pods of hooks and tests. */}}
{{- define "floe.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "floe.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "floe.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image's full name. Takes a dict with `image` and `root`. */}}
{{- define "floe.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The operator's rights on queries and on the objects that it creates for them; docs/operations.md explains each. */}}
{{- define "floe.rules" -}}
- apiGroups: [floe.dev]
  resources: [distributedqueries]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [floe.dev]
  resources: [computecontexts, scheduledqueries]
  verbs: [get, list, watch]
- apiGroups: [floe.dev]
  resources: [distributedqueries/status, computecontexts/status, scheduledqueries/status]
  verbs: [patch]
- apiGroups: [floe.dev]
  resources: [distributedqueries/finalizers, computecontexts/finalizers, scheduledqueries/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [""]
  resources: [resourcequotas]
  verbs: [list]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.kueue.enabled }}
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [get, list, watch, create, delete]
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads/status]
  verbs: [patch]
{{- end }}
{{- if eq (.Values.gang.scheduler | default "") "volcano" }}
- apiGroups: [scheduling.volcano.sh]
  resources: [podgroups]
  verbs: [get, create]
{{- end }}
{{- if .Values.httpApi.enabled }}
# On behalf of callers of the HTTP API, who must have the same rights themselves.
- apiGroups: [floe.dev]
  resources: [computecontexts]
  verbs: [create, delete]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
{{- end -}}

{{/* The policy in the form that the operator reads: without the values that are null. */}}
{{- define "floe.policy" -}}
{{- $policy := dict -}}
{{- range $key, $value := omit .Values.policy "enabled" -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $policy $key (kindIs "float64" $value | ternary (int64 $value) $value) -}}
{{- end -}}
{{- end -}}
{{- toJson $policy -}}
{{- end -}}

{{/* The limits in the form that the operator reads: without the values that are null; empty if there are none. */}}
{{- define "floe.limits" -}}
{{- $limits := dict -}}
{{- range $key, $value := omit .Values.limits "weights" -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $limits $key (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- if $limits -}}
{{- $weights := dict -}}
{{- range $name, $weight := .Values.limits.weights -}}
{{- $_ := set $weights $name (int64 $weight) -}}
{{- end -}}
{{- if $weights -}}{{- $_ := set $limits "weights" $weights -}}{{- end -}}
{{- end -}}
{{- toJson $limits -}}
{{- end -}}

{{/* A CEL expression for whether a list contains a name, or a prefix of it followed by *. Takes a dict with `name` and `list`. */}}
{{- define "floe.celAllows" -}}
{{- $tests := list -}}
{{- range .list -}}
{{- if hasSuffix "*" . -}}
{{- $tests = append $tests (printf "%s.startsWith('%s')" $.name (trimSuffix "*" .)) -}}
{{- else -}}
{{- $tests = append $tests (printf "%s == '%s'" $.name .) -}}
{{- end -}}
{{- end -}}
{{- if $tests -}}({{ join " || " $tests }}){{- else -}}false{{- end -}}
{{- end -}}
