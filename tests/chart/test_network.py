"""NetworkPolicies: ingress and egress of each pod."""

from __future__ import annotations

from tests.chart.rendering import Document, Rendered, template

METADATA = "169.254.169.254/32"


def peers(rendered: Rendered, component: str, port: int) -> list[Document] | None:
    """Return the peers admitted to the port: None for all, [] for none."""
    spec = rendered.one("NetworkPolicy", f"loop-fitloop-{component}")["spec"]
    assert "Ingress" in spec["policyTypes"]
    found: list[Document] = []
    for rule in spec["ingress"]:
        if port in {one["port"] for one in rule.get("ports", [{"port": port}])}:
            if "from" not in rule:
                return None
            found += rule["from"]
    return found


def components(found: list[Document] | None) -> set[str]:
    return {one["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for one in found or ()}


def test_ingress_is_denied_by_default() -> None:
    rendered = template()
    assert peers(rendered, "adapter", 9090) is None
    assert peers(rendered, "adapter", 9091) == []
    assert components(peers(rendered, "predictor", 8080)) == {"adapter", "test"}
    assert components(peers(rendered, "predictor", 8081)) == {"adapter", "test"}
    assert peers(rendered, "trainer", 29500) == []
    assert components(peers(template({"trainer": {"pods": 2}}), "trainer", 29500)) == {"trainer"}


def test_ingress_peers_are_configurable() -> None:
    anyone: Document = {"namespaceSelector": {}}
    rendered = template({"networkPolicy": {"ingressFrom": [anyone], "metricsFrom": [anyone]}})
    called = peers(rendered, "adapter", 9090)
    assert called is not None
    assert anyone in called
    assert peers(rendered, "adapter", 9091) == [anyone]
    assert anyone in (peers(rendered, "predictor", 8081) or ())
    assert anyone not in (peers(rendered, "predictor", 8080) or ())


def test_egress_is_denied_on_request() -> None:
    for name, policy in template().of("NetworkPolicy").items():
        assert ("Egress" in policy["spec"]["policyTypes"]) is (name == "loop-fitloop-trainer")
    out = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    for policy in template(profile="airgapped").of("NetworkPolicy").values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert policy["spec"]["egress"][-1] == {"to": out}
    assert not template({"networkPolicy": {"enabled": False}}).of("NetworkPolicy")


def egress(rendered: Rendered, component: str) -> list[Document]:
    """Return the egress rules."""
    return list(rendered.one("NetworkPolicy", f"loop-fitloop-{component}")["spec"]["egress"])


def test_dns_egress_is_limited_to_cluster_dns() -> None:
    names, _, _ = egress(template(profile="airgapped"), "adapter")
    assert names["to"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ]
    assert {(one["port"], one["protocol"]) for one in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    own: Document = {"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}], "ports": ["5353"]}
    names, *_ = egress(template({"networkPolicy": {"dns": own}}, "airgapped"), "adapter")
    assert (names["to"], {one["port"] for one in names["ports"]}) == (own["to"], {5353})


def test_egress_ports_are_configurable() -> None:
    *_, out = egress(template({"networkPolicy": {"egressPorts": [443, 9000]}}, "airgapped"), "predictor")
    assert out["ports"] == [{"port": 443, "protocol": "TCP"}, {"port": 9000, "protocol": "TCP"}]


def test_trainers_cannot_reach_the_metadata_service() -> None:
    """Both with open egress and with egress to all addresses; nothing else changes."""
    (rule,) = egress(template(), "trainer")
    assert rule == {
        "to": [
            {"namespaceSelector": {}},
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": [METADATA]}},
            {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}},
        ]
    }
    anywhere = {"egress": True, "egressTo": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
    *_, out = egress(template({"networkPolicy": anywhere}), "trainer")
    assert out["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [METADATA]}}]
    *_, out = egress(template({"networkPolicy": anywhere}), "adapter")
    assert out["to"] == anywhere["egressTo"]


def test_trainers_with_pod_identity_reach_the_metadata_service() -> None:
    none = {one: {"existingSecret": ""} for one in ("adapter", "predictor", "trainer")}
    openings: tuple[Document, ...] = ({"store": none}, {"networkPolicy": {"trainerBlocked": []}})
    for values in openings:
        policy = template(values).one("NetworkPolicy", "loop-fitloop-trainer")["spec"]
        assert policy["policyTypes"] == ["Ingress"]
