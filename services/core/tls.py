"""Whom a client trusts: the system's authorities, certifi's, and the one that a setting names."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi

from services.core.errors import BadConfig


def client_ssl_context(ca_file: Path | None, variable: str) -> ssl.SSLContext:
    """A client's context. Raises BadConfig that names the variable where its file holds no certificate."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadConfig(
                f"{variable} {str(ca_file)!r} holds no readable certificate (PEM): mount the authority's there."
            ) from error
    return context
