"""Names of the arrays that travel between the trainer's modules. Below all of them: numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
