"""The predictor's parts, put together: store, engine, keeper, management port, and KServe's server with our routes.

`serve` returns when SIGTERM has come and what was asked before it is answered.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import structlog

from services.core.errors import BadConfig
from services.core.logs import configure
from services.core.registry import Registry
from services.core.settings import Settings
from services.core.store import ObjectStore, open_store, why_unreachable
from services.core.table import ServingTable
from services.engine.inference import LocalInference
from services.predictor import metrics
from services.predictor.crashes import Crashes
from services.predictor.keeper import Keeper
from services.predictor.management import Management
from services.predictor.routes import Routes

log = structlog.get_logger()
_GRACE_SECONDS = 30
"""For requests that are being answered when the process is to end."""


def serve(settings: Settings) -> None:
    """Until SIGTERM. Raises BadConfig where somebody must change something; a bucket that does not answer is waited for."""
    configure(settings.logging)
    store = _open(settings)
    crashes = Crashes((settings.storage.cache_dir or Path(tempfile.gettempdir())) / "crashes")
    inference = LocalInference(Registry(store), settings.serving, crashes.watched)
    keeper = Keeper(inference, ServingTable(store), settings.rollout.mode)
    management = Management(keeper, settings.cluster.predictor_state_port, settings.cluster.predictor_port)
    metrics.count_waiting(inference.waiting)
    management.start()
    keeper.start()
    try:
        model_server(Routes(inference, keeper), settings.cluster.predictor_port).start([])
    finally:
        crashes.excuse()
        keeper.stop()
        inference.close()
        management.stop()


def model_server(routes: Routes, port: int) -> Any:
    """KServe's server: HTTP alone, two lines a request fewer, and our routes before its own."""
    # What is outdated in KServe is not ours to mend.
    warnings.filterwarnings("ignore", module=r"fastapi|kserve")
    for chatty in ("kserve", "kserve.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from kserve import ModelServer  # noqa: PLC0415  # a second of imports, and it reads the command line
    from kserve.model_server import app  # noqa: PLC0415

    app.router.routes[:0] = routes.routes()
    return ModelServer(
        http_port=port,
        enable_grpc=False,
        enable_latency_logging=False,
        workers=1,
        grace_period=_GRACE_SECONDS,
    )


def _open(settings: Settings) -> ObjectStore:
    if not settings.storage.store:
        raise BadConfig("FITLOOP_STORE is not set: name the bucket, as s3://bucket/prefix/.")
    store = open_store(settings.storage.store, settings.s3, settings.storage)
    if why := why_unreachable(store, write=False):  # the keeper tries on
        log.warning("the bucket does not answer: this predictor is not ready until it does", reason=why)
    return store
