"""compose.yaml, as far as it can be checked without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.core.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(TEXT)["services"])


def test_every_password_must_be_set(services: dict[str, Any]) -> None:
    """There is no default that all installations would share: compose refuses to start without .env."""
    for name in (
        "LABEL_STUDIO_PASSWORD",
        "LABEL_STUDIO_API_KEY",
        "MINIO_ROOT_PASSWORD",
        "BASIC_AUTH_PASS",
        "FITLOOP_SECRET_PATH",
    ):
        assert f"${{{name}:?" in TEXT
        assert re.search(
            rf"^{name}=$", (ROOT / "compose.env.example").read_text(encoding="utf-8"), re.MULTILINE
        )


def test_fitloop_accepts_its_environment(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in services["fitloop"]["environment"].items():
        default = re.fullmatch(r"\$\{\w+(?::-(.*))?\}", str(value))
        is_asked_for = ":?" in str(value)
        monkeypatch.setenv(
            name, (default.group(1) or "") if default else "chosen-by-a-user" if is_asked_for else str(value)
        )
    settings = Settings.load()
    assert settings.storage.store == "s3://fitloop/"
    assert settings.label_studio.url == "http://label-studio:8080"
    assert settings.s3.endpoint == "http://minio:9000"


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_label_studio_can_call_fitloop(services: dict[str, Any]) -> None:
    """Label Studio refuses private addresses by default, and sends no webhook to a host name of one word."""
    assert services["label-studio"]["environment"]["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    (alias,) = services["fitloop"]["networks"]["default"]["aliases"]
    assert "." in alias
    assert f"http://{alias}:9090" in (ROOT / "docs" / "compose.md").read_text(encoding="utf-8")


def test_state_is_in_volumes(services: dict[str, Any]) -> None:
    assert services["fitloop"]["environment"]["MODEL_DIR"] == "/data"
    assert services["fitloop"]["volumes"] == ["fitloop:/data"]
    assert yaml.safe_load(TEXT)["volumes"].keys() == {"label-studio", "minio", "fitloop"}
