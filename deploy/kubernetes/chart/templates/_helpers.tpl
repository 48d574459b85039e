{{- define "gridtide.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "gridtide.selector" -}}
app.kubernetes.io/name: gridtide
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gridtide.labels" -}}
{{ include "gridtide.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "gridtide.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "gridtide.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The namespaces in which the service runs or adopts jobs as the pod that it is: a JSON list, each once. */}}
{{- define "gridtide.namespaces" -}}
{{- $found := list -}}
{{- range .Values.config.clusters -}}
{{- $kubernetes := .kubernetes | default dict -}}
{{- if $kubernetes.in_cluster -}}
{{- $found = append $found ($kubernetes.namespace | default $.Release.Namespace) -}}
{{- if kindIs "slice" $kubernetes.adopt -}}
{{- $found = concat $found $kubernetes.adopt -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $manager := .Values.config.multikueue | default dict -}}
{{- if $manager.in_cluster -}}
{{- $found = concat $found $manager.namespaces -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

{{/* Rules for the kinds of jobs beside Job that are adopted in a namespace. Takes `root` and `namespace`. */}}
{{- define "gridtide.kindRules" -}}
{{- $kinds := list -}}
{{- range .root.Values.config.clusters -}}
{{- $kubernetes := .kubernetes | default dict -}}
{{- if and $kubernetes.in_cluster $kubernetes.adopt -}}
{{- $namespaces := list ($kubernetes.namespace | default $.root.Release.Namespace) -}}
{{- if kindIs "slice" $kubernetes.adopt -}}
{{- $namespaces = $kubernetes.adopt -}}
{{- end -}}
{{- if has $.namespace $namespaces -}}
{{- $kinds = concat $kinds ($kubernetes.kinds | default list) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $rules := list -}}
{{- range $kind, $rule := .root.Files.Get "kinds.yaml" | fromYaml -}}
{{- if has $kind $kinds -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- toYaml $rules -}}
{{- end -}}
{{- end -}}

{{/* Whether there is something to guard: a cluster that adopts users' own Jobs. */}}
{{- define "gridtide.guards" -}}
{{- $adopts := false -}}
{{- range .Values.config.clusters -}}
{{- if (.kubernetes | default dict).adopt -}}
{{- $adopts = true -}}
{{- end -}}
{{- end -}}
{{- if and $adopts .Values.guard.enabled -}}true{{- end -}}
{{- end -}}

{{/* Whether jobs are kept by a server, which several pods may share. */}}
{{- define "gridtide.shares" -}}
{{- $store := .Values.config.store | default dict -}}
{{- if or (kindIs "string" $store) ($store.url) -}}true{{- end -}}
{{- end -}}

{{/* The namespaces of those in which Jobs may be in queues of Kueue; and, of the manager of MultiKueue, all. */}}
{{- define "gridtide.kueueNamespaces" -}}
{{- $found := list -}}
{{- range .Values.config.clusters -}}
{{- $kubernetes := .kubernetes | default dict -}}
{{- if and $kubernetes.in_cluster (hasKey $kubernetes "kueue") -}}
{{- $found = append $found ($kubernetes.namespace | default $.Release.Namespace) -}}
{{- if kindIs "slice" $kubernetes.adopt -}}
{{- $found = concat $found $kubernetes.adopt -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $manager := .Values.config.multikueue | default dict -}}
{{- if $manager.in_cluster -}}
{{- $found = concat $found $manager.namespaces -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

{{/* The admission checks that it says are active: a JSON list, each once. */}}
{{- define "gridtide.checks" -}}
{{- $found := list -}}
{{- range .Values.config.clusters -}}
{{- $kubernetes := .kubernetes | default dict -}}
{{- $kueue := $kubernetes.kueue | default dict -}}
{{- if and $kubernetes.in_cluster $kueue.check -}}
{{- $found = append $found $kueue.check -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

{{/* The settings, with what the chart itself decides on top. */}}
{{- define "gridtide.config" -}}
{{- $server := dict "host" "0.0.0.0" "port" 8410 -}}
{{- $store := dict "path" "/var/lib/gridtide/gridtide.db" -}}
{{- $given := .Values.config.store | default dict -}}
{{- if kindIs "string" $given -}}
{{- $given = dict "url" $given -}}
{{- end -}}
{{- $own := dict "server" (merge $server (.Values.config.server | default dict)) "store" (merge $store $given) -}}
{{- toYaml (merge $own (omit .Values.config "server" "store")) -}}
{{- end -}}
