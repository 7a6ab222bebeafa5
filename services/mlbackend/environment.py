"""The environment of a class's process, by an allow-list: no keys of the bucket, of Kubernetes or of Fitloop itself.

Classes read MODEL_DIR and their settings when they are imported, so everything is there before the process starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from services.mlbackend.model_class import WorkerSettings

_ALLOWED: Final = (
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LANG",
    "LC_*",
    "TZ",
    "USER",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "HF_*",
    "HUGGING_FACE_HUB_TOKEN",
    "HUGGINGFACE_HUB_CACHE",
    "TRANSFORMERS_*",
    "TORCH_HOME",
    "CUDA_*",
    "NVIDIA_*",
    "LOG_LEVEL",
    "BASELINE_MODEL_NAME",  # this and the next five: settings of the library's examples
    "FINETUNED_MODEL_NAME",
    "LEARNING_RATE",
    "NUM_TRAIN_EPOCHS",
    "WEIGHT_DECAY",
    "START_TRAINING_EACH_N_UPDATES",
    "COVERAGE_PROCESS_*",
)
_NEVER: Final = ("AWS_*", "KUBERNETES_*", "KUBECONFIG", "FITLOOP_*", "BASIC_AUTH_*", "MINIO_*")
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def worker_environment(
    own: Mapping[str, str], settings: WorkerSettings, model_dir: Path, scratch: Path
) -> dict[str, str]:
    """Return the variables of the process; `own` are those of this process, `scratch` is its home."""
    allowed = (*_ALLOWED, *settings.variables)
    kept = {name: value for name, value in own.items() if _is_allowed(name, allowed)}
    if path := os.pathsep.join(filter(None, [settings.path, own.get("PYTHONPATH", "")])):
        kept["PYTHONPATH"] = path
    return {
        **kept,
        **_label_studio(settings),
        **dict.fromkeys(_THREADS, str(settings.threads)),
        "HF_HOME": own.get("HF_HOME") or str(Path(own.get("HOME", "/")) / ".cache/huggingface"),
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "MODEL_DIR": str(model_dir),
        "PYTHONUNBUFFERED": "1",
    }


def _is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    upper = name.upper()
    if any(fnmatchcase(upper, pattern) for pattern in _NEVER):
        return False
    return any(fnmatchcase(upper, pattern.upper()) for pattern in allowed)


def _label_studio(settings: WorkerSettings) -> dict[str, str]:
    """Return Label Studio's address and key under the names that the library and its examples read."""
    found = {
        "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_HOST": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": settings.label_studio_api_key,
        "LABEL_STUDIO_ACCESS_TOKEN": settings.label_studio_api_key,
    }
    return {name: value for name, value in found.items() if value}
