"""The methods by their names. Fine-tuning is imported when it begins: torch takes seconds, and the probe needs none of it."""

from __future__ import annotations

from services.core.domain import Method
from services.trainer.methods import TrainedModel, TrainingContext, TrainingMethod
from services.trainer.methods.linear_probe import linear_probe
from services.trainer.methods.one_vs_rest import one_vs_rest


def _linear_probe(context: TrainingContext) -> TrainedModel:
    return (one_vs_rest if context.inputs.space.multiple else linear_probe)(context)


def _finetune(context: TrainingContext) -> TrainedModel:
    from services.trainer.methods.finetune import finetune

    return finetune(context)


def _lp_ft(context: TrainingContext) -> TrainedModel:
    from services.trainer.methods.finetune import lp_ft

    return lp_ft(context)


METHODS: dict[Method, TrainingMethod] = {
    Method.LINEAR_PROBE: _linear_probe,
    Method.FINETUNE: _finetune,
    Method.LP_FT: _lp_ft,
}
