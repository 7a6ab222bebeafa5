"""The baseline: a server that keeps transformers' `pipeline` in memory and calls it for one text at a time.

This is how an ML backend for Label Studio is usually written, less what such a backend often does on top (loading the
model in each request). `python -m bench.pipeline_server FOLDER PORT`.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from transformers import pipeline


def create_app(folder: str) -> Starlette:
    """`/health` and `/predict`, over the model in `folder`."""
    classify: Any = pipeline("text-classification", model=folder, tokenizer=folder)

    def predict_one(text: str) -> dict[str, Any]:
        answer = classify(text)[0]
        region = {
            "from_name": "intent",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": [answer["label"]]},
            "score": answer["score"],
        }
        return {"result": [region], "score": answer["score"], "model_version": "pipeline"}

    async def predict(request: Request) -> JSONResponse:
        tasks = (await request.json())["tasks"]
        return JSONResponse({"results": [predict_one(task["data"]["text"]) for task in tasks]})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "UP"})

    return Starlette(routes=[Route("/health", health), Route("/predict", predict, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
