"""What is wrong for all projects at once, as this process knows it without asking anybody for long."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from services.adapter.pages.formatting import timestamp
from services.adapter.ports import Inference
from services.adapter.state.board import Board
from services.core.labelstudio.access import AUTH_ADVICE, missing_token_message
from services.core.settings import Settings

_AGAIN_SECONDS: Final = 10.0
_PATIENCE: Final = 0.02
"""What a page waits for an answer; it has the one before otherwise."""
_REMEMBERED: Final = 3600.0
"""How long a refused event is told of."""
NO_PREDICTOR: Final = (
    "No predictor answers, so annotators get no suggestions until one does: `kubectl get pods` shows why, and "
    "`fitloop doctor` looks at all of it."
)

STORE_AWAY: Final = (
    "Suggestions go on, and what is shown here is the state before; nothing is trained or changed until the storage answers. "
    "`fitloop doctor` looks at all of it."
)


@dataclass(slots=True)
class Refusals:
    """Events of Label Studio that came without the password."""

    last: float = 0.0

    def count(self, now: float) -> None:
        """One more."""
        self.last = now


@dataclass(slots=True)
class Notices:
    """Gathers them."""

    settings: Settings
    inference: Inference
    refusals: Refusals
    board: Board
    _ready: bool = True
    _asked_at: float = 0.0
    _asking: asyncio.Task[None] | None = field(default=None, repr=False)

    async def now(self) -> list[str]:
        """Sentences that say what to do, the worst first."""
        await self._ask()
        found = []
        if trouble := self.board.store_problem:
            found.append(f"{trouble.rstrip('.')}. {STORE_AWAY}")
        if not self.settings.label_studio.api_key.get_secret_value():
            found.append(missing_token_message(self.settings.label_studio.url))
        if not self._ready:
            found.append(NO_PREDICTOR)
        if time.time() - self.refusals.last < _REMEMBERED:
            found.append(
                f"Events of Label Studio were refused, the last one at {timestamp(self.refusals.last)}: webhooks carry no "
                f"password. {AUTH_ADVICE}"
            )
        return found

    async def _ask(self) -> None:
        """Whether predictors answer, from time to time; a slow answer is for the next page."""
        if self._asking is None and time.monotonic() - self._asked_at >= _AGAIN_SECONDS:
            self._asking = asyncio.create_task(self._note())
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=_PATIENCE)

    async def _note(self) -> None:
        try:
            self._ready = await self.inference.ready()
        finally:
            self._asked_at, self._asking = time.monotonic(), None
