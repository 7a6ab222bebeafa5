"""core.settings.foreign: what libraries read by themselves is trimmed for them, or refused by name."""

from __future__ import annotations

import pytest

from services.core.settings import foreign_secrets, trim_foreign_variables


def test_foreign_variables_are_trimmed_in_place() -> None:
    names = (
        "HF_TOKEN",
        "https_proxy",
        "NO_PROXY",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    )
    environment = dict.fromkeys(names, " value\r\n") | {"PATH": " untouched ", "HF_HOME": "/a b"}
    assert trim_foreign_variables(environment) == []
    assert {environment[name] for name in names} == {"value"}
    assert (environment["PATH"], environment["HF_HOME"]) == (" untouched ", "/a b")


@pytest.mark.parametrize(
    ("name", "value"),
    [("HF_TOKEN", "hush never"), ("HF_TOKEN", "hush\nnever"), ("OTEL_EXPORTER_OTLP_HEADERS", "hush\nnever")],
)
def test_an_unsendable_token_is_refused_unrepeated(name: str, value: str) -> None:
    (actual,) = trim_foreign_variables({name: value})
    assert actual.startswith(f"{name}: it contains a ")
    assert "hush" not in actual


def test_tokens_of_libraries_are_secrets() -> None:
    assert foreign_secrets(
        {"HF_TOKEN": "hf_0123", "HF_HOME": "/cache", "AWS_CONTAINER_AUTHORIZATION_TOKEN": ""}
    ) == ["hf_0123"]
