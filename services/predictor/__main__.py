"""`python -m services.predictor`: a KServe model server that holds the versions of the bucket that the table names.

Exit codes: 0 at the end, 78 where a setting, a key or a right is wrong: one sentence on stderr says which. Where the bucket
does not answer, the process waits for it.
"""

from __future__ import annotations

import os
import sys

from services.core.errors import FitloopError
from services.core.settings import Settings
from services.core.settings.training import available_cores

_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def main() -> int:
    """The process."""
    _limit_threads_to_cgroup()
    try:
        settings = Settings.load()
        # Late: what computes reads at its import how many threads it may have.
        from services.predictor.server import serve  # noqa: PLC0415

        serve(settings)
    except FitloopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _limit_threads_to_cgroup() -> None:
    """Numerical libraries count the machine's cores; a container that may use fewer would be throttled."""
    for pool in _POOLS:
        os.environ.setdefault(pool, str(available_cores()))


if __name__ == "__main__":
    sys.exit(main())
