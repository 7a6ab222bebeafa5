"""Error responses of the predictor: their status codes, and the outcomes that are counted."""

from __future__ import annotations

import structlog
from starlette.responses import JSONResponse, Response

from services.core.errors import FitloopError, StoreError
from services.core.http.limits import BodyTooLarge, CompressedBody
from services.core.telemetry import correlation
from services.predictor import metrics

log = structlog.get_logger()
_STATUS = {"bad_request": 400, "overloaded": 503, "unknown": 404, "refused": 424}


def error_and_outcome(error: FitloopError) -> tuple[Response, str]:
    outcome = metrics.outcome_of(error)
    status = _STATUS.get(outcome, 503 if isinstance(error, StoreError) else 500)
    if isinstance(error, BodyTooLarge | CompressedBody):
        status, outcome = (413 if isinstance(error, BodyTooLarge) else 415), "bad_request"
    if outcome not in {"bad_request", "unknown"}:  # their messages may repeat what was sent
        log.warning("request_failed", status=status, reason=str(error))
    return error_response(status, str(error)), outcome


def error_response(status: int, message: str) -> Response:
    headers = {correlation.SAFE_ERROR_HEADER: "error", **({"Retry-After": "1"} if status == 503 else {})}
    return JSONResponse({"error": message}, status, headers)
