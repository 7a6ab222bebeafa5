"""How a model is made: `method_of` chooses. `auto` is no method but a plan (services.trainer.methods.plan).

A method gets Work and gives Fitted (services.trainer.methods.context).
"""

from __future__ import annotations

from services.core.domain import Method
from services.trainer.methods.context import TrainingMethod


def method_of(method: Method) -> TrainingMethod:
    """The function behind a name."""
    if method is Method.LINEAR_PROBE:
        from services.trainer.methods.linear_probe import linear_probe

        return linear_probe
    if method is Method.FINETUNE:
        from services.trainer.methods.finetune import finetune

        return finetune
    from services.trainer.methods.finetune import lp_ft

    return lp_ft
