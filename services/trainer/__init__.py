"""The trainer: turns labels into versions, and ends. The adapter never imports it."""

import os

# numpy reads it when it is imported. Two threads that share one small product wait for each other, for seconds if another process
# uses a core: fits that run at once keep all cores busy instead.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
