"""`python -m services.predictor`: a KServe model server for the versions that the bucket's serving table names.

Exit codes: 0 after SIGTERM, 78 if a setting, a key or a permission is wrong; one line on stderr names it. If the bucket is
unreachable, the process waits for it.
"""

from __future__ import annotations

import os
import sys

from services.core.errors import FitloopError
from services.core.settings import Settings
from services.core.settings.training import available_cores

_POOLS = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")


def main() -> int:
    _limit_threads_to_cgroup()
    try:
        settings = Settings.load()
        # Imported late: numerical libraries read their number of threads at import.
        from services.predictor.server import serve  # noqa: PLC0415

        serve(settings)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _limit_threads_to_cgroup() -> None:
    """Set thread pools to the container's CPU limit: libraries count the machine's cores and would be throttled."""
    for pool in _POOLS:
        os.environ.setdefault(pool, str(available_cores()))
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # the streams occupy all cores (services/engine/processor.py)


if __name__ == "__main__":
    sys.exit(main())
