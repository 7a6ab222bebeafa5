"""Ports are taken before anything else begins, so that a taken one is a sentence."""

from __future__ import annotations

import socket

from services.core.errors import BadConfig


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket at the port; 0 takes a free one. Raises BadConfig."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BadConfig(
            f"{host!r} is no address of this machine ({error.strerror or error}): try --host 127.0.0.1."
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise BadConfig(
            f"Port {port} of {host} cannot be used ({error.strerror}): stop what listens there, or choose another "
            f"one with {option} {min(port + 1, 65535)}."
        ) from error
    return listener
