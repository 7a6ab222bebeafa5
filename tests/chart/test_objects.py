"""Single objects: both kinds of predictors, ingress, Secrets, and what restarts pods."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import Rendered, container, environment, template

ISVC = "InferenceService/loop-fitloop"
ADAPTER = "Deployment/loop-fitloop"
PLAIN = {"kserve": {"enabled": False}}
SECRET_PATH = "correct-horse-battery-staple"


def test_kserve_and_deployment_predictors_have_equal_pods() -> None:
    """So Service, PodDisruptionBudget and adapter need not distinguish them."""
    kserve, plain = template(), template(PLAIN)
    deployment = plain.one("Deployment", "loop-fitloop-serving")["spec"]
    service = kserve.one("InferenceService", "loop-fitloop")
    own = {"fitloop.io/workload": "loop-fitloop-serving"}
    assert deployment["template"]["metadata"]["labels"] == {**service["spec"]["predictor"]["labels"], **own}
    spec = plain.pod("Deployment/loop-fitloop-serving")
    theirs = {key: value for key, value in kserve.pod(ISVC).items() if key in spec}
    assert theirs == spec
    selector = kserve.one("Service", "loop-fitloop-models")["spec"]["selector"]
    assert (
        selector
        == {"fitloop.io/predictor": "loop-fitloop"}
        == {key: value for key, value in service["spec"]["predictor"]["labels"].items() if key in selector}
    )
    assert not kserve.of("HorizontalPodAutoscaler")


def test_the_adapter_gets_the_predictor_workload() -> None:
    variables = [environment(container(one.pod(ADAPTER))) for one in (template(), template(PLAIN))]
    assert [one["FITLOOP_PREDICTOR_WORKLOAD"] for one in variables] == [
        "inferenceservice/loop-fitloop",
        "deployment/loop-fitloop-serving",
    ]
    assert {one["FITLOOP_PREDICTOR_URL"] for one in variables} == {"http://loop-fitloop-models"}
    assert {one["FITLOOP_LEASE"] for one in variables} == set(template().of("Lease"))


def test_kserve_settings_are_explicit() -> None:
    service = template().one("InferenceService", "loop-fitloop")
    assert service["metadata"]["annotations"] == {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "none",
    }
    assert service["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["containers"][0]["name"]) == (2, "kserve-container")


def test_the_chart_never_sets_the_rollout_generation() -> None:
    """An upgrade that set it would roll versions back."""
    assert "fitloop.io/generation" not in template().text + template(PLAIN).text


def test_autoscaling_works_with_and_without_kserve() -> None:
    scaled = {"predictor": {"autoscaling": {"enabled": True}}}
    service = template(scaled).one("InferenceService", "loop-fitloop")
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "hpa"
    assert (service["spec"]["predictor"]["minReplicas"], service["spec"]["predictor"]["maxReplicas"]) == (
        2,
        6,
    )
    plain = template({**scaled, **PLAIN})
    scaler = plain.one("HorizontalPodAutoscaler", "loop-fitloop-serving")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "loop-fitloop-serving"
    assert "replicas" not in plain.one("Deployment", "loop-fitloop-serving")["spec"]


def test_replicas_can_be_left_to_an_external_scaler() -> None:
    external = {"predictor": {"autoscaling": {"external": True}}}
    service = template(external).one("InferenceService", "loop-fitloop")
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
    plain = template({**external, **PLAIN})
    assert "replicas" not in plain.one("Deployment", "loop-fitloop-serving")["spec"]
    assert not plain.of("HorizontalPodAutoscaler")


def test_label_studio_ca_is_mounted_only_where_needed() -> None:
    rendered = template({"labelStudio": {"ca": {"configMap": "studio-ca", "key": "root.pem"}}})
    volume = {
        "name": "label-studio-ca",
        "configMap": {"name": "studio-ca", "items": [{"key": "root.pem", "path": "ca.crt"}]},
    }
    for owner in (ADAPTER, "Job/run"):
        spec = rendered.pod(owner)
        variables = environment(container(spec))
        mounts = {one["name"]: one["mountPath"] for one in container(spec)["volumeMounts"]}
        assert variables["FITLOOP_LABEL_STUDIO_CA_FILE"] == f"{mounts['label-studio-ca']}/ca.crt"
        assert volume in spec["volumes"]
    assert "studio-ca" not in str(rendered.pod(ISVC))


def checksums(rendered: Rendered) -> list[Any]:
    deployment = rendered.one("Deployment", "loop-fitloop")["spec"]["template"]["metadata"]["annotations"]
    service = rendered.one("InferenceService", "loop-fitloop")["spec"]["predictor"]["annotations"]
    return [deployment["checksum/config"], service["checksum/config"]]


@pytest.mark.parametrize(
    ("values", "adapter", "predictor"),
    [
        ({"trainer": {"backoffLimit": 2}}, True, False),
        ({"labelStudio": {"existingSecret": "other"}}, True, False),
        ({"auth": {"existingSecret": "other"}}, True, False),
        ({"auth": {"existingSecret": "", "username": "a", "password": "b"}}, True, False),
        ({"predictor": {"token": {"existingSecret": "token"}}}, True, True),
        ({"store": {"predictor": {"existingSecret": "", "accessKey": "a", "secretKey": "b"}}}, False, True),
        ({"ingress": {"enabled": True}}, False, False),
    ],
)
def test_changed_settings_restart_pods(values: dict[str, Any], adapter: bool, predictor: bool) -> None:
    before, after = checksums(template()), checksums(template(values))
    assert [one != other for one, other in zip(before, after, strict=True)] == [adapter, predictor]


def test_a_chart_upgrade_alone_does_not_restart_predictors() -> None:
    """Neither the app's version nor the chart's is in a predictor's labels."""
    service = template().one("InferenceService", "loop-fitloop")
    for labels in (service["metadata"]["labels"], service["spec"]["predictor"]["labels"]):
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys()


def test_each_process_gets_its_own_secret() -> None:
    keys = {"accessKey": "key", "secretKey": "secret", "existingSecret": ""}
    rendered = template(
        {
            "labelStudio": {"apiKey": "token", "existingSecret": ""},
            "auth": {"existingSecret": "", "username": "ann", "password": "pass", "secretPath": SECRET_PATH},
            "store": {
                one: {**keys, "accessKey": f"{one}-key"} for one in ("adapter", "predictor", "trainer")
            },
        }
    )
    secrets = {name: one.get("stringData") for name, one in rendered.of("Secret").items()}
    assert secrets.pop("loop-fitloop-predictor-token") is None, "it is no value"
    assert secrets.pop("loop-fitloop-label-studio") == {"LABEL_STUDIO_API_KEY": "token"}
    assert secrets.pop("loop-fitloop-auth") == {
        "BASIC_AUTH_USER": "ann",
        "BASIC_AUTH_PASS": "pass",
        "FITLOOP_SECRET_PATH": SECRET_PATH,
    }
    assert secrets == {
        f"loop-fitloop-s3-{one}": {"AWS_ACCESS_KEY_ID": f"{one}-key", "AWS_SECRET_ACCESS_KEY": "secret"}
        for one in ("adapter", "predictor", "trainer")
    }
    assert "token" not in str(rendered.job)
    given = template({"predictor": {"token": {"existingSecret": "mine"}}})
    assert not given.of("Secret"), "existing Secrets are not made again"


def test_keys_of_existing_secrets_can_be_named() -> None:
    values = {
        "store": {"secretKeys": {"accessKey": "user", "secretKey": "word"}},
        "labelStudio": {"existingSecretKey": "token"},
    }
    spec = template(values).pod(ADAPTER)
    (secret,) = (one["secret"] for one in spec["volumes"] if one["name"] == "s3")
    assert secret["items"] == [
        {"key": "user", "path": "AWS_ACCESS_KEY_ID"},
        {"key": "word", "path": "AWS_SECRET_ACCESS_KEY"},
    ]
    assert environment(container(spec))["LABEL_STUDIO_API_KEY"]["secretKeyRef"]["key"] == "token"


def test_pod_identity_is_used_without_keys() -> None:
    none = {one: {"existingSecret": ""} for one in ("adapter", "predictor", "trainer")}
    own = {
        "trainer": {"annotations": {"role": "arn"}},
        "predictor": {"example.com/role": "as 0.1.0 took them"},
    }
    rendered = template({"store": none, "serviceAccounts": own})
    for owner, spec in rendered.pods():
        assert not any("secret" in volume for volume in spec["volumes"]), owner
        assert "FITLOOP_S3_CREDENTIALS_DIR" not in environment(container(spec))
    accounts = rendered.of("ServiceAccount")
    assert accounts["loop-fitloop-trainer"]["metadata"]["annotations"] == {"role": "arn"}
    assert accounts["loop-fitloop-predictor"]["metadata"]["annotations"] == {
        "example.com/role": "as 0.1.0 took them"
    }
    assert "annotations" not in accounts["loop-fitloop-adapter"]["metadata"]


def test_extra_env_overrides_the_charts_variables() -> None:
    extra = [{"name": "LOG_LEVEL", "value": "DEBUG"}, {"name": "HTTPS_PROXY", "value": "http://proxy"}]
    rendered = template({one: {"extraEnv": extra} for one in ("adapter", "predictor", "trainer")})
    for owner in (ADAPTER, ISVC, "Job/run"):
        variables = environment(container(rendered.pod(owner)))
        assert (variables["LOG_LEVEL"], variables["HTTPS_PROXY"]) == ("DEBUG", "http://proxy")


def test_extra_pod_fields_are_applied() -> None:
    own = {
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "podAnnotations": {"note": "a"},
        "podLabels": {"team": "b"},
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "nodeSelector": {"pool": "x"},
    }
    values = dict.fromkeys(("adapter", "predictor", "trainer"), own)
    rendered = template(
        {**values, "image": {"pullSecrets": [{"name": "pull"}]}, "commonLabels": {"org": "c"}}
    )
    for owner in (ADAPTER, ISVC, "Job/run"):
        spec = rendered.pod(owner)
        assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "gvisor")
        assert (spec["nodeSelector"], spec["imagePullSecrets"]) == ({"pool": "x"}, [{"name": "pull"}])
        assert {"name": "more", "emptyDir": {}} in spec["volumes"]
        assert {"name": "more", "mountPath": "/more"} in container(spec)["volumeMounts"]
    template_of = rendered.one("Deployment", "loop-fitloop")["spec"]["template"]["metadata"]
    for meta in (template_of, rendered.job["spec"]["template"]["metadata"]):
        assert {"team": "b", "org": "c"}.items() <= meta["labels"].items()
        assert meta["annotations"]["note"] == "a"
    assert all(one["metadata"]["labels"]["org"] == "c" for one in rendered.objects)


def test_extra_containers_and_host_aliases_are_applied() -> None:
    own = {
        "initContainers": [{"name": "before", "image": "a"}],
        "extraContainers": [{"name": "beside", "image": "b"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["studio.example.test"]}],
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
    }
    rendered = template(dict.fromkeys(("adapter", "predictor", "trainer"), own))
    own["containers"] = own.pop("extraContainers")
    for owner, first in ((ADAPTER, "adapter"), (ISVC, "kserve-container"), ("Job/run", "trainer")):
        spec = rendered.pod(owner)
        assert [one["name"] for one in spec["containers"]] == [first, "beside"], owner
        assert {key: spec[key] for key in own} == {**own, "containers": spec["containers"]}, owner


def test_service_accounts_may_be_the_users() -> None:
    own = {"adapter": {"create": False, "name": "mine"}, "trainer": {"name": "other"}}
    rendered = template({"serviceAccounts": own})
    assert set(rendered.of("ServiceAccount")) == {"loop-fitloop-predictor", "other"}
    assert rendered.pod(ADAPTER)["serviceAccountName"] == "mine"
    assert rendered.pod("Job/run")["serviceAccountName"] == "other"
    assert rendered.one("RoleBinding", "loop-fitloop")["subjects"][0]["name"] == "mine"
    assert set(rendered.of("NetworkPolicy")) == {
        f"loop-fitloop-{one}" for one in ("adapter", "predictor", "trainer")
    }


def test_ephemeral_storage_requests_match_volume_limits() -> None:
    """For /tmp and cached objects; an explicit request takes precedence, such as that of the profile for small clusters."""
    values = {"trainer": {"gpus": 0, "allowCpu": True, "scratchSize": "1.5Gi"}, "adapter": {"cacheMb": 100}}
    rendered = template(values, "no-kserve")
    owners = (ADAPTER, "Deployment/loop-fitloop-serving", "Job/run")
    asked = [container(rendered.pod(one))["resources"]["requests"]["ephemeral-storage"] for one in owners]
    assert asked == ["2248Mi", "10240Mi", "3Gi"]
    whole = template(profile="").job["spec"]["template"]["spec"]
    assert container(whole)["resources"]["requests"]["ephemeral-storage"] == "40Gi"
    for _, spec in template().pods():
        assert container(spec)["resources"]["requests"]["ephemeral-storage"] == "0"


def test_pod_labels_cannot_override_selectors() -> None:
    own = {"adapter": {"podLabels": {"app.kubernetes.io/component": "mine"}}}
    meta = template(own).one("Deployment", "loop-fitloop")["spec"]["template"]["metadata"]
    assert meta["labels"]["app.kubernetes.io/component"] == "adapter"


def test_openshift_can_assign_user_ids() -> None:
    rendered = template({"podSecurity": {"runAsUser": None, "fsGroup": None}})
    for _, spec in rendered.pods():
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


# ------------------------------------------------------------------------------------------------------------ ways in
def test_ingress_sets_class_host_path_and_tls() -> None:
    ingress = {
        "enabled": True,
        "className": "nginx",
        "host": "fitloop.example.test",
        "path": "/fitloop/",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "9m", "x": "y"},
        "tls": {"enabled": True},
    }
    rendered = template({"ingress": ingress})
    found = rendered.one("Ingress", "loop-fitloop")
    assert found["metadata"]["annotations"] == {
        "nginx.ingress.kubernetes.io/proxy-body-size": "9m",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "120",
        "nginx.ingress.kubernetes.io/proxy-send-timeout": "120",
        "x": "y",
    }
    assert found["spec"]["ingressClassName"] == "nginx"
    assert found["spec"]["tls"] == [{"hosts": ["fitloop.example.test"], "secretName": "loop-fitloop-tls"}]
    (rule,) = found["spec"]["rules"]
    assert (rule["host"], rule["http"]["paths"][0]["path"]) == ("fitloop.example.test", "/fitloop/")
    assert environment(container(rendered.pod(ADAPTER)))["FITLOOP_PATH_PREFIX"] == "/fitloop"
    assert "FITLOOP_PATH_PREFIX" not in environment(container(template().pod(ADAPTER)))


def test_an_ingress_can_have_several_hosts() -> None:
    ingress = {"enabled": True, "host": "a.example", "extraHosts": ["b.example"], "tls": {"enabled": True}}
    spec = template({"ingress": ingress}).one("Ingress", "loop-fitloop")["spec"]
    assert [rule["host"] for rule in spec["rules"]] == ["a.example", "b.example"]
    assert spec["tls"][0]["hosts"] == ["a.example", "b.example"]
    (rule,) = template({"ingress": {"enabled": True}}).one("Ingress", "loop-fitloop")["spec"]["rules"]
    assert "host" not in rule


def test_an_http_route_replaces_the_ingress() -> None:
    route = {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["a.example"], "path": "/f"}
    more = ("--api-versions=gateway.networking.k8s.io/v1/HTTPRoute",)
    rendered = template({"httpRoute": route}, "minikube-cpu", *more)
    assert not rendered.of("Ingress")
    spec = rendered.one("HTTPRoute", "loop-fitloop")["spec"]
    (rule,) = spec["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/f"}}]
    assert rule["backendRefs"] == [{"name": "loop-fitloop", "port": 80}]
    assert rule["timeouts"] == {"request": "120s"}
    plain = template({"httpRoute": {**route, "timeoutSeconds": ""}}, "minikube-cpu", *more)
    assert "timeouts" not in plain.one("HTTPRoute", "loop-fitloop")["spec"]["rules"][0]


def test_helm_test_calls_adapter_and_predictor() -> None:
    pods = template({"ingress": {"enabled": True, "path": "/f"}}).of("Pod")
    scripts = {name: one["spec"]["containers"][0]["args"][0] for name, one in pods.items()}
    for script in scripts.values():
        compile(script, "calls", "exec")
        assert 'adapter = "http://loop-fitloop:80/f"' in script
    assert "/v2/health/ready" in scripts["loop-fitloop-test-predictor"]
    assert "/api/predictors" in scripts["loop-fitloop-test-predictor"]
    assert "/setup" in scripts["loop-fitloop-test-adapter"]
    assert all(one["metadata"]["annotations"]["helm.sh/hook"] == "test" for one in pods.values())
