"""`linear-probe`: multinomial logistic regression on the frozen encoder's features, 5 folds and a refit on everything.

The objective is scikit-learn's for C = 20 (sum of losses times C, plus half the squared weights; the bias is free), minimised
by torch's L-BFGS: 0.3 s for the six fits at 300 texts, where importing scikit-learn alone takes 1.4 s.
The folds start from the fit on everything, which saves a third of their steps and changes nothing that they converge to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from services.core.domain import Method
from services.trainer.data.features import Floats, Rows
from services.trainer.data.split import FOLDS, fold_of
from services.trainer.methods import Head, OutOfSampleLogits, TrainedModel, TrainingContext
from services.trainer.methods.plan import CROSS_FIT

C: Final = 20.0
_ABSENT: Final = 10.0
"""How far below the lowest logit that of a label without an example is: its probability is nearly 0."""


def linear_probe(context: TrainingContext) -> TrainedModel:
    """Fit a head on everything first, because the folds start from it, then one for each fold."""
    X, targets, labels = (
        context.features.X,
        context.inputs.dataset.targets,
        len(context.inputs.dataset.labels),
    )
    folds = np.array([fold_of(key) for key in context.inputs.dataset.split_keys], np.int64)
    context.run.progress.stage("fitting", steps=FOLDS + 1)
    head = fit_head(X, targets, labels, check=context.run.stop.check)
    context.run.progress.step(1)
    logits, learnable = np.zeros((len(X), labels), np.float32), np.zeros(len(X), np.bool_)
    evaluated = np.zeros(len(X), np.bool_)
    for fold in range(FOLDS):
        inside = folds == fold
        if inside.any() and not inside.all():
            own = fit_head(X[~inside], targets[~inside], labels, start=head, check=context.run.stop.check)
            logits[inside] = X[inside] @ own.weight.T + own.bias
            learnable[inside] = np.isin(targets[inside], targets[~inside])
            evaluated |= inside
        context.run.progress.step(fold + 2)
    rows = np.flatnonzero(evaluated)
    return TrainedModel(
        method=Method.LINEAR_PROBE,
        model=context.inputs.base.encoder,
        head=head,
        logits=X @ head.weight.T + head.bias,
        out_of_sample=OutOfSampleLogits(rows, logits[rows], learnable[rows], folds, CROSS_FIT),
        trained=np.ones(len(X), np.bool_),
        parameters=context.run.request.parameters,
    )


def fit_head(
    X: Floats,
    targets: Rows,
    labels: int,
    start: Head | None = None,
    check: Callable[[], None] = lambda: None,
    tolerance: float = 1e-5,
) -> Head:
    """Fit a logistic regression of `targets` (n,) on X (n, d); labels without an example get a probability of about 0.

    `tolerance` bounds the largest entry of the mean loss's gradient. `check` may raise between steps.
    """
    present, codes = np.unique(targets, return_inverse=True)
    weight, bias = np.zeros((labels, X.shape[1]), np.float32), np.zeros(labels, np.float32)
    if len(present) > 1:
        first = (start.weight[present], start.bias[present]) if start else (weight[present], bias[present])
        weight[present], bias[present] = _minimise(X, codes, *first, check, tolerance)
    absent = np.setdiff1d(np.arange(labels), present)
    # Rows of X have length 1, so that |w| bounds how far a label's logit can fall below its bias.
    lowest = float((bias[present] - np.linalg.norm(weight[present], axis=1)).min())
    bias[absent] = lowest - _ABSENT
    return Head(weight, bias)


def _minimise(
    X: Floats, codes: Rows, weight: Floats, bias: Floats, check: Callable[[], None], tolerance: float
) -> tuple[Floats, Floats]:
    import torch

    rows = torch.from_numpy(np.hstack([X, np.ones((len(X), 1), np.float32)]))
    truth = torch.nn.functional.one_hot(torch.from_numpy(codes), len(bias)).float()
    W = torch.from_numpy(np.hstack([weight, bias[:, None]])).requires_grad_()
    penalty = torch.full((1, rows.shape[1]), 1 / (C * len(X)))
    penalty[0, -1] = 0
    optimiser = torch.optim.LBFGS(
        [W], max_iter=500, tolerance_grad=tolerance, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        check()
        with torch.no_grad():
            log_p = (rows @ W.T).log_softmax(1)
            W.grad = (log_p.exp() - truth).T @ rows / len(X) + penalty * W
            return float(-(log_p * truth).sum() / len(X) + (penalty * W * W).sum() / 2)

    threads = torch.get_num_threads()
    torch.set_num_threads(
        1 if X.size < 2_000_000 else threads
    )  # matrices too small to share: 5 times slower by two
    try:
        optimiser.step(loss)
    finally:
        torch.set_num_threads(threads)
    found = W.detach().numpy()
    return found[:, :-1], found[:, -1]
