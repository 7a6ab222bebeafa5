"""All gauges of a project that the leader gives out, each with the way in which it is read from the project's view."""

from __future__ import annotations

from typing import Final

from services.adapter.metrics.gauges import STATE_GAUGES
from services.adapter.metrics.run_gauges import RUN_GAUGES
from services.adapter.metrics.version_gauges import VERSION_GAUGES

PROJECT_GAUGES: Final = (*STATE_GAUGES, *RUN_GAUGES, *VERSION_GAUGES)
