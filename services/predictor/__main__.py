"""`python -m services.predictor`: a KServe model server that holds the versions of the bucket that the table names.

Exit codes: 0 at the end, 78 where a setting, a key or a right is wrong, 75 where the bucket does not answer. One sentence
on stderr says which.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path

from services.core.errors import BadConfig, FitloopError
from services.core.logs import configure
from services.core.registry import Registry
from services.core.settings import Settings
from services.core.store import ObjectStore, check_store, open_store
from services.core.table import ServingTable
from services.engine.inference import LocalInference
from services.predictor.crashes import Crashes
from services.predictor.keeper import Keeper
from services.predictor.management import Management
from services.predictor.routes import Routes

PORT = 8080
GRACE_SECONDS = 30


def main() -> int:
    """The process."""
    try:
        settings = Settings.load()
        configure(settings.logging)
        store = _open(settings)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    inference = LocalInference(Registry(store), settings.serving)
    keeper = keeper_of(settings, store, inference)
    management = Management(keeper, settings.cluster.predictor_state_port, PORT)
    management.start()
    keeper.start()
    try:
        _serve(Routes(inference, keeper))
    finally:
        management.ending.set()
        keeper.stop()
        inference.close()
        management.stop()
    return 0


def keeper_of(settings: Settings, store: ObjectStore, inference: LocalInference) -> Keeper:
    """What keeps the table's versions in memory."""
    folder = settings.storage.cache_dir or Path(tempfile.gettempdir()) / "fitloop"
    return Keeper(
        inference, ServingTable(store), settings.rollout.mode, settings.serving.loaded_models, Crashes(folder)
    )


def _open(settings: Settings) -> ObjectStore:
    if not settings.storage.store:
        raise BadConfig("FITLOOP_STORE is not set: name the bucket, as s3://bucket/prefix/.")
    store = open_store(settings.storage.store, settings.s3, settings.storage)
    check_store(store, write=False)
    return store


def _serve(routes: Routes) -> None:
    warnings.filterwarnings(
        "ignore", module=r"fastapi|kserve"
    )  # what is outdated in kserve is not ours to mend
    for chatty in ("kserve.trace", "kserve"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # it writes two lines a request
    from kserve import ModelServer  # noqa: PLC0415  # a second of imports, and it reads the command line
    from kserve.model_server import app  # noqa: PLC0415

    app.router.routes[:0] = routes.routes()
    server = ModelServer(
        http_port=PORT, enable_grpc=False, enable_latency_logging=False, workers=1, grace_period=GRACE_SECONDS
    )
    server.start([])


if __name__ == "__main__":
    sys.exit(main())
