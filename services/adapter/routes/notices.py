"""What is wrong for all projects at once, as this process knows it without asking anybody for long."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from services.adapter.pages.formatting import timestamp
from services.adapter.ports import Inference
from services.adapter.routes.auth import RefusedEvents
from services.adapter.state.board import Board
from services.core.labelstudio.access import AUTH_ADVICE, missing_token_message
from services.core.settings import Settings

_CHECK_SECONDS: Final = 10.0
_WAIT_SECONDS: Final = 0.02
"""What a page waits for an answer; it has the one before otherwise."""
_SHOWN_SECONDS: Final = 3600.0
"""How long a refused event is told of."""
NO_PREDICTORS: Final = (
    "No predictor answers, so annotators get no suggestions until one does: `kubectl get pods` shows why, and "
    "`fitloop doctor` looks at all of it."
)

STORE_UNAVAILABLE: Final = (
    "Suggestions go on, and what is shown here is the state before; nothing is trained or changed until the storage answers. "
    "`fitloop doctor` looks at all of it."
)


@dataclass(slots=True)
class Banners:
    """Gathers them."""

    settings: Settings
    inference: Inference
    refusals: RefusedEvents
    board: Board
    _predictors_ready: bool = True
    _checked_at: float = 0.0
    _checking: asyncio.Task[None] | None = field(default=None, repr=False)

    async def current(self) -> list[str]:
        """Sentences that say what to do, the worst first."""
        await self._check_predictors()
        found = []
        if trouble := self.board.store_problem:
            found.append(f"{trouble.rstrip('.')}. {STORE_UNAVAILABLE}")
        if not self.settings.label_studio.api_key.get_secret_value():
            found.append(missing_token_message(self.settings.label_studio.url))
        if not self._predictors_ready:
            found.append(NO_PREDICTORS)
        if time.time() - self.refusals.last_at < _SHOWN_SECONDS:
            found.append(
                f"Events of Label Studio were refused, the last one at {timestamp(self.refusals.last_at)}: webhooks carry no "
                f"password. {AUTH_ADVICE}"
            )
        return found

    async def _check_predictors(self) -> None:
        """Whether predictors answer, from time to time; a slow answer is for the next page."""
        if self._checking is None and time.monotonic() - self._checked_at >= _CHECK_SECONDS:
            self._checking = asyncio.create_task(self._update_ready())
        if self._checking is not None:
            await asyncio.wait({self._checking}, timeout=_WAIT_SECONDS)

    async def _update_ready(self) -> None:
        try:
            self._predictors_ready = await self.inference.ready()
        finally:
            self._checked_at, self._checking = time.monotonic(), None
