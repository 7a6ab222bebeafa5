"""Variables that libraries read by themselves: trimmed where they stand, since no library does it for all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Final

from services.core.settings.values import Inside, trim, value_problem

_FOREIGN: Final = re.compile(
    r"(?:https?|all|no)_proxy|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|KUBECONFIG"
    r"|AWS_(?:WEB_IDENTITY_TOKEN_FILE|ROLE_ARN|ROLE_SESSION_NAME|CONTAINER_\w+|ENDPOINT_URL_STS)"
    r"|HF_\w+|HUGGING_FACE_HUB_TOKEN|HUGGINGFACE_HUB_CACHE|TRANSFORMERS_CACHE|OTEL_\w+",
    re.IGNORECASE,
)
"""Addresses, paths and tokens: a blank may stand inside some, and a line break in none."""
_FOREIGN_TOKENS: Final = frozenset(
    {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"}
)


def trim_foreign_variables(environment: MutableMapping[str, str]) -> list[str]:
    """Trim them in place; a sentence about each that cannot be used, by its name and without its value."""
    problems = []
    for name in [one for one in environment if _FOREIGN.fullmatch(one)]:
        given = environment[name]
        inside = Inside.TOKEN if name in _FOREIGN_TOKENS else Inside.LINE
        text = trim(given, inside)
        if problem := value_problem(text, inside):
            problems.append(f"{name}: {problem}")
        elif text != given:
            environment[name] = text
    return problems


def foreign_secrets(environment: Mapping[str, str]) -> list[str]:
    """Tokens among them, which no sentence may hold."""
    return [environment[name] for name in sorted(_FOREIGN_TOKENS) if environment.get(name)]
