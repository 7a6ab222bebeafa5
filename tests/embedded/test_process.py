"""The environment of a trainer's process."""

from __future__ import annotations

from services.embedded.process import trainer_environment


def test_trainer_environment_hides_credentials() -> None:
    own = {
        "PATH": "/bin",
        "LABEL_STUDIO_API_KEY": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HF_TOKEN": "h",
        "BASIC_AUTH_USER": "u",
        "BASIC_AUTH_PASS": "p",
        "basic_auth_pass": "p",
        "FITLOOP_SECRET_PATH": "x",
        "FITLOOP_PREDICTOR_TOKEN": "t",
    }
    assert trainer_environment(own) == {
        "PATH": "/bin",
        "LABEL_STUDIO_API_KEY": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HF_TOKEN": "h",
        "PYTHONUNBUFFERED": "1",
    }
