{{/* What `helm test` runs, in Python, which is all that the image has. */}}
{{- define "fitloop.test.client" -}}
import os
import httpx

def call(method, url, **more):
    try:
        answer = client.request(method, url, **more)
    except httpx.HTTPError as error:
        raise SystemExit(f"{url} does not answer: {type(error).__name__} {error}")
    if answer.status_code != 200:
        raise SystemExit(f"{url} answers {answer.status_code}: {answer.text[:500]}")
    print(url, "answers", answer.text[:500])
    return answer.json()

user, secret = os.environ.get("BASIC_AUTH_USER"), os.environ.get("FITLOOP_SECRET_PATH")
client = httpx.Client(timeout=30, auth=(user, os.environ["BASIC_AUTH_PASS"]) if user else None)
adapter = "http://{{ include "fitloop.adapter" . }}:{{ int .Values.service.port }}{{ include "fitloop.pathPrefix" . }}"
{{- end -}}

{{- define "fitloop.test.adapter" -}}
{{ include "fitloop.test.client" . }}
call("GET", f"{adapter}/health")
call("POST", f"{adapter}/setup", json={"project": "0.0", "schema": "<View/>", "extra_params": None})
call("GET", f"{adapter}/api/projects")
if secret:
    client = httpx.Client(timeout=30)
    call("POST", f"{adapter}/{secret}/setup", json={"project": "0.0", "schema": "<View/>", "extra_params": None})
{{- end -}}

{{- define "fitloop.test.predictor" -}}
{{ include "fitloop.test.client" . }}
call("GET", "http://{{ include "fitloop.models" . }}/v2/health/ready")
call("GET", f"{adapter}/api/predictors")
{{- end -}}
