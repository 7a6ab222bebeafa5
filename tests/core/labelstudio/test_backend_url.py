"""Sentences of the doctor and the status page."""

from __future__ import annotations

import pytest

from services.core.labelstudio.access import backend_url_problem, missing_token_message


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9090",
        "http://10.0.0.5:9090",
        "https://fitloop.example.com/secret",
        "http://fitloop.ns.svc.cluster.local",
    ],
)
def test_a_good_backend_url_has_no_problem(url: str) -> None:
    assert backend_url_problem(url) == ""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://fitloop:9090", "one word"),
        ("http://fit_loop.example.com", "has a '_'"),
        ("http://fitloop.svc.8", "does not end in a top-level domain"),
        ("ftp://fitloop.example.com", "must be http://"),
        ("http://fitloop.example.com/webhook", "ends in a route"),
        ("http://fitloop.example.com/?a=1", "'?'"),
        ("http://[", "cannot be read"),
    ],
)
def test_a_bad_backend_url_has_a_problem(url: str, expected: str) -> None:
    assert expected in backend_url_problem(url)


def test_a_missing_token_names_label_studio() -> None:
    assert "http://ls:8080" in missing_token_message("http://ls:8080")
