"""The predictor's parts, put together: store, engine, manager, management port, and KServe's server with our routes.

`serve` returns when SIGTERM has come and what was asked before it is answered.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import structlog

from services.core.errors import BadConfig
from services.core.http.asgi import RequireToken
from services.core.http.connections import Bounds, bounded_protocol, public_bounds, raise_file_limit
from services.core.registry import Registry, ServingTable
from services.core.settings import ClusterSettings, Settings
from services.core.store import ObjectStore, open_store, unavailable_reason
from services.core.telemetry import tracing
from services.core.telemetry.logs import configure, log_uncaught, use_root_handler
from services.core.telemetry.metrics import Component, set_build_info
from services.engine.inference import LocalInference
from services.predictor import metrics
from services.predictor.crashes import Crashes
from services.predictor.management import ManagementServer
from services.predictor.manager import ModelManager
from services.predictor.routes import Routes

log = structlog.get_logger()
_GRACE_SECONDS = 30
"""For requests that are being answered when the process is to end."""

BOUNDED: Final = bounded_protocol(Bounds())
"""For the port of the protocols."""


def serve(settings: Settings) -> None:
    """Until SIGTERM. Raises BadConfig where somebody must change something; a bucket that does not answer is waited for."""
    configure(settings.logging, hidden=settings.secrets())
    log_uncaught()
    tracing.configure(settings.tracing, "predictor")
    BOUNDED.bounds = public_bounds(raise_file_limit())
    store = _open(settings)
    crashes = Crashes((settings.storage.cache_dir or Path(tempfile.gettempdir())) / "crashes")
    inference = LocalInference(Registry(store), settings.serving, crashes.watched)
    manager = ModelManager(inference, ServingTable(store), settings.rollout.mode)
    management = ManagementServer(
        manager, settings.cluster.predictor_state_port, settings.cluster.predictor_port, settings.cluster
    )
    set_build_info(Component.PREDICTOR)
    metrics.watch(inference.loaded, manager.refusals)
    management.start()
    manager.start()
    try:
        model_server(Routes(inference, manager), settings.cluster).start([])
    finally:
        crashes.excuse()
        manager.stop()
        inference.close()
        management.stop()
        tracing.close()


def model_server(routes: Routes, settings: ClusterSettings) -> Any:
    """KServe's server: HTTP alone, two lines a request fewer, our routes before its own, and a bound and a token before all."""
    # What is outdated in KServe is not ours to mend.
    warnings.filterwarnings("ignore", module=r"fastapi|kserve")
    import uvicorn.config  # noqa: PLC0415

    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:BOUNDED"  # KServe lets nobody say which
    from kserve import ModelServer  # noqa: PLC0415  # a second of imports, and it reads the command line
    from kserve.model_server import app  # noqa: PLC0415

    app.router.routes[:0] = routes.routes()
    app.add_middleware(RequireToken, settings=settings)
    server = ModelServer(
        http_port=settings.predictor_port,
        enable_grpc=False,
        enable_latency_logging=False,
        workers=1,
        grace_period=_GRACE_SECONDS,
    )
    use_root_handler("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access")
    return server


def _open(settings: Settings) -> ObjectStore:
    if not settings.storage.store:
        raise BadConfig("FITLOOP_STORE is not set: name the bucket, as s3://bucket/prefix/.")
    store = open_store(settings.storage.store, settings.s3, settings.storage)
    if why := unavailable_reason(store, write=False):  # the manager tries on
        log.warning("the bucket does not answer: this predictor is not ready until it does", reason=why)
    return store
