"""Requests for scores are counted by outcome, with any inference."""

from __future__ import annotations

import pytest

from services.adapter.metrics import CountedInference, observe_inference
from services.core.errors import EngineError, NotFound, Overloaded, PredictorsUnreachable
from tests.support.fakes import FakeInference
from tests.support.metrics import metric_value


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (Overloaded("full"), "overloaded"),
        (PredictorsUnreachable("nobody"), "unreachable"),
        (EngineError("broken"), "failed"),
        (NotFound("gone"), "failed"),
    ],
)
async def test_request_is_counted_by_how_it_ended(error: Exception | None, outcome: str) -> None:
    inference = CountedInference(FakeInference(error=error), observe_inference)
    before = metric_value("fitloop_inference_requests_total", outcome=outcome)
    seconds = metric_value("fitloop_inference_seconds_count")
    if error:
        with pytest.raises(type(error)):
            await inference.scores("5-1", "v-1", ["a"])
    else:
        assert len((await inference.scores("5-1", "v-1", ["a"])).probabilities) == 1
    assert metric_value("fitloop_inference_requests_total", outcome=outcome) == before + 1
    assert metric_value("fitloop_inference_seconds_count") == seconds + 1
    assert await inference.ready() is (error is None)
