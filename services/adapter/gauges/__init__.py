"""All gauges of a project that the leader gives out, each with the way in which it is read from the project's view."""

from __future__ import annotations

from typing import Final

from services.adapter.gauges.projects import PROJECTS
from services.adapter.gauges.runs import RUNS
from services.adapter.gauges.versions import VERSIONS

PROJECT_GAUGES: Final = (*PROJECTS, *RUNS, *VERSIONS)
