"""A backend that loads its model in each request, as the examples for Label Studio do, which make one object per request.

`python -m bench.peers.reload_server FOLDER PORT`: eight threads, as such examples are started.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from transformers import pipeline

THREADS = 8


def create_app(folder: str) -> Starlette:
    def predict(texts: list[str]) -> list[Any]:
        classify: Any = pipeline("text-classification", model=folder, tokenizer=folder)
        return [classify(text)[0] for text in texts]

    async def answer(request: Request) -> JSONResponse:
        tasks = (await request.json())["tasks"]
        found = await to_thread.run_sync(predict, [task["data"]["text"] for task in tasks])
        results = [
            {"result": [{"value": {"choices": [one["label"]]}}], "score": one["score"]} for one in found
        ]
        return JSONResponse({"results": results})

    async def health(_: Request) -> JSONResponse:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        return JSONResponse({"status": "UP"})

    return Starlette(routes=[Route("/health", health), Route("/predict", answer, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
