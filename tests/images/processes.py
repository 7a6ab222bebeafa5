"""What each image's processes import: our packages, and modules that libraries import only at run time."""

from __future__ import annotations

_SERVER = ("uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on")
_TRACES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
_ADAPTER = (
    *("services.adapter", "services.core", "services.cli", "services.wiring", "rich.table"),
    *_SERVER,
    *_TRACES,
)

ADAPTER = (*_ADAPTER, "services.cluster")
PREDICTOR = (
    "services.predictor",
    "services.engine.inference",
    "services.engine.ct2",
    "services.core.store",
    "kserve.model_server",
    "kserve.protocol.rest.server",
    *_SERVER,
    *_TRACES,
)
TRAINER = (
    *_ADAPTER,
    "-services.cli.checks.cluster",  # `fitloop doctor` imports it where there is a cluster
    "services.trainer",
    "services.engine",
    "services.embedded",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
)
OF = {"adapter": ADAPTER, "predictor": PREDICTOR, "trainer": TRAINER}
