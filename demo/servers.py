"""The two servers of the demo: Label Studio from its own environment, and `fitloop local`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from demo.processes import Server, free_port

EMAIL, PASSWORD = "demo@example.com", "fitloop-demo"
TOKEN = "f17100bdec0de5eed0f17100bdec0de5eed0f171"  # noqa: S105 - of a disposable Label Studio on this machine


def label_studio(executable: Path, folder: Path, port: int = 8080, listen: str = "127.0.0.1") -> Server:
    """Configure a Label Studio with its data in `folder`, on port 8080 or, if that is taken, on a free one.

    It may call backends on this machine (by default, Label Studio refuses private addresses) and sends nothing elsewhere.
    """
    port = free_port(port)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_HOST": f"http://127.0.0.1:{port}",
        "LABEL_STUDIO_USERNAME": EMAIL,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = [str(executable), "start", "--no-browser", "--internal-host", listen, "--port", str(port)]
    return Server(
        "Label Studio", command, environment, f"http://127.0.0.1:{port}/health", folder / "server.log"
    )


def fitloop(folder: Path, label_studio_url: str, environment: Mapping[str, str], port: int = 9090) -> Server:
    """Configure `fitloop local` with its data in `folder`, on port 9090 or, if that is taken, on a free one."""
    port = free_port(port)
    own = {"LABEL_STUDIO_URL": label_studio_url, "LABEL_STUDIO_API_KEY": TOKEN, **environment}
    command = [
        sys.executable,
        "-P",
        "-m",
        "services.cli",
        "local",
        "--port",
        str(port),
        "--data",
        str(folder),
    ]
    return Server("fitloop local", command, own, f"http://127.0.0.1:{port}/health", folder / "server.log")


def address(server: Server) -> str:
    """Return the server's URL without a path."""
    return server.health.removesuffix("/health")
