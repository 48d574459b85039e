{{- define "gridtide.besideSelector" -}}
app.kubernetes.io/name: gridtide-{{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "gridtide.besideLabels" -}}
{{ include "gridtide.besideSelector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* A Deployment that looks after users' own Jobs beside the service: a dict of root, part and settings. */}}
{{- define "gridtide.beside" -}}
{{- with .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "gridtide.name" . }}-{{ $.part }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "gridtide.besideLabels" $ | nindent 4 }}
spec:
  # Any number may look at once: what one of them has changed is not what the others saw any more.
  replicas: {{ $.settings.replicas }}
  selector:
    matchLabels: {{- include "gridtide.besideSelector" $ | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "gridtide.besideLabels" $ | nindent 8 }}
        {{- with .Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ include "gridtide.config" . | sha256sum }}
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "gridtide.serviceAccount" . }}
      automountServiceAccountToken: {{ ne (include "gridtide.namespaces" .) "[]" }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      {{- with .Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with .Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with .Values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      # One node that is lost takes one of them.
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "gridtide.besideSelector" $ | nindent 14 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {{ $.part }}
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args: [{{ $.part }}, --config, /etc/gridtide/gridtide.yaml, --every, {{ $.settings.every }}]
          {{- if or .Values.kubeconfigSecret $.settings.tokenSecret }}
          env:
            {{- if .Values.kubeconfigSecret }}
            - name: KUBECONFIG
              value: /etc/gridtide/kube/config
            {{- end }}
            {{- with $.settings.tokenSecret }}
            - name: GRIDTIDE_URL
              value: http://{{ include "gridtide.name" $.root }}.{{ $.root.Release.Namespace }}:{{ $.root.Values.service.port }}
            - name: GRIDTIDE_TOKEN
              valueFrom:
                secretKeyRef:
                  name: {{ .name }}
                  key: {{ .key }}
            {{- end }}
          {{- end }}
          {{- with $.settings.resources }}
          resources: {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: config, mountPath: /etc/gridtide/gridtide.yaml, subPath: gridtide.yaml, readOnly: true}
            {{- if .Values.kubeconfigSecret }}
            - {name: kubeconfig, mountPath: /etc/gridtide/kube, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        - name: config
          configMap:
            name: {{ include "gridtide.name" . }}
        {{- with .Values.kubeconfigSecret }}
        - name: kubeconfig
          secret:
            secretName: {{ . }}
            defaultMode: 0440
        {{- end }}
{{- if .Values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "gridtide.name" . }}-{{ $.part }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "gridtide.besideLabels" $ | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "gridtide.besideSelector" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}
