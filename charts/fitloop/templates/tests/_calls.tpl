{{/* The code of `helm test`, in Python, because the image has nothing else. */}}
{{- define "fitloop.test.client" -}}
import os
import httpx

def call(method, url, **more):
    answer = ask(method, url, **more)
    if answer.status_code != 200:
        raise SystemExit(f"{url} answers {answer.status_code}: {answer.text[:500]}")
    print(url, "answers", answer.text[:500])

def ask(method, url, **more):
    try:
        return client.request(method, url, **more)
    except httpx.HTTPError as error:
        raise SystemExit(f"{url} does not answer: {type(error).__name__} {error}")

user, secret = os.environ.get("BASIC_AUTH_USER"), os.environ.get("FITLOOP_SECRET_PATH")
anonymous = {{ ternary "True" "False" .Values.auth.anonymous }}
client = httpx.Client(timeout=30, auth=(user, os.environ["BASIC_AUTH_PASS"]) if user else None)
adapter = "http://{{ include "fitloop.adapter" . }}:{{ int .Values.service.port }}{{ include "fitloop.pathPrefix" . }}"
{{- end -}}

{{- define "fitloop.test.adapter" -}}
{{ include "fitloop.test.client" . }}
setup = {"project": "0.0", "schema": "<View/>", "extra_params": None}
if user or anonymous:
    call("GET", f"{adapter}/health")
    call("POST", f"{adapter}/setup", json=setup)
    call("GET", f"{adapter}/api/projects")
client = httpx.Client(timeout=30)
if secret:
    call("POST", f"{adapter}/{secret}/setup", json=setup)
if not anonymous:
    for method, path in (("POST", "setup"), ("GET", "api/projects")):
        if (answer := ask(method, f"{adapter}/{path}", json=setup)).is_success:
            raise SystemExit(f"{adapter}/{path} answers {answer.status_code} without a password: it is open to everybody")
{{- end -}}

{{- define "fitloop.test.predictor" -}}
{{ include "fitloop.test.client" . }}
call("GET", "http://{{ include "fitloop.models" . }}/v2/health/ready")
if user or anonymous:
    call("GET", f"{adapter}/api/predictors")
{{- end -}}
