"""Losses as modules: the functions of `nn.functional`, with their options held.

In: predictions and targets.  Out: one number, or (`reduction="none"`) one each.  A class says its function and its options.
"""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import explain
from . import functional as F
from .module import Module

_OLD = ("size_average", "reduce")


def _legacy(size_average: Any, reduce: Any) -> str:
    """What torch's two older arguments mean."""
    found = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(f"size_average and reduce args will be deprecated, please use reduction='{found}' instead.", stacklevel=4)
    return found


class Loss(Module):
    """Base: `function` is the name in `nn.functional`; `options` its further arguments in torch's order, `held` those that are
    tensors and become buffers."""

    function = ""
    options: dict[str, Any] = {"size_average": None, "reduce": None, "reduction": "mean"}
    held: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        if len(args) > len(self.options):
            raise explain(TypeError(f"{type(self).__name__}() takes at most {len(self.options)} arguments, got {len(args)}"))
        given = {**self.options, **dict(zip(self.options, args))}
        for name, v in kwargs.items():
            if name not in self.options:
                raise explain(TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{name}'"))
            given[name] = v
        if any(given.get(name) is not None for name in _OLD):
            given["reduction"] = _legacy(given["size_average"], given["reduce"])
        for name, v in given.items():
            if name in self.held:
                self.register_buffer(name, v)
            elif name not in _OLD:
                setattr(self, name, v)

    def forward(self, input: Any, target: Any) -> Any:
        return getattr(F, self.function)(input, target, **self._words())

    def _words(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.options if name not in _OLD}


def _options(*first: tuple[str, Any], last: tuple[tuple[str, Any], ...] = ()) -> dict[str, Any]:
    return {**dict(first), "size_average": None, "reduce": None, "reduction": "mean", **dict(last)}


class MSELoss(Loss):
    """The mean of squared differences."""

    function = "mse_loss"


class L1Loss(Loss):
    """The mean of absolute differences."""

    function = "l1_loss"


class SmoothL1Loss(Loss):
    """Squared below beta, absolute above."""

    function, options = "smooth_l1_loss", _options(last=(("beta", 1.0),))


class HuberLoss(Loss):
    """Squared below delta, absolute (times delta) above."""

    function, options = "huber_loss", {"reduction": "mean", "delta": 1.0}


class BCELoss(Loss):
    """The cross entropy of probabilities of two classes."""

    function, options, held = "binary_cross_entropy", _options(("weight", None)), ("weight",)


class BCEWithLogitsLoss(Loss):
    """The cross entropy of two classes, from logits."""

    function, held = "binary_cross_entropy_with_logits", ("weight", "pos_weight")
    options = _options(("weight", None), last=(("pos_weight", None),))


class CrossEntropyLoss(Loss):
    """The cross entropy of classes, from logits (N, C, *) and class numbers (N, *) or probabilities (N, C, *)."""

    function, held = "cross_entropy", ("weight",)
    options = {"weight": None, "size_average": None, "ignore_index": -100, "reduce": None, "reduction": "mean",
               "label_smoothing": 0.0}


class NLLLoss(Loss):
    """The negative log likelihood of classes, from log probabilities."""

    function, held = "nll_loss", ("weight",)
    options = {"weight": None, "size_average": None, "ignore_index": -100, "reduce": None, "reduction": "mean"}


class KLDivLoss(Loss):
    """The Kullback-Leibler divergence, from log probabilities."""

    function, options = "kl_div", _options(last=(("log_target", False),))


class MarginRankingLoss(Loss):
    """max(0, -target (input1 - input2) + margin)."""

    function, options = "margin_ranking_loss", _options(("margin", 0.0))

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:  # type: ignore[override]
        return F.margin_ranking_loss(input1, input2, target, **self._words())


class HingeEmbeddingLoss(Loss):
    """input where target is 1, max(0, margin - input) where it is -1."""

    function, options = "hinge_embedding_loss", _options(("margin", 1.0))


class CosineEmbeddingLoss(Loss):
    """1 - cosine where target is 1, max(0, cosine - margin) where it is -1."""

    function, options = "cosine_embedding_loss", _options(("margin", 0.0))

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:  # type: ignore[override]
        return F.cosine_embedding_loss(input1, input2, target, **self._words())


class TripletMarginLoss(Loss):
    """max(0, |anchor - positive| - |anchor - negative| + margin)."""

    function = "triplet_margin_loss"
    options = {"margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False, "size_average": None, "reduce": None, "reduction": "mean"}

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:  # type: ignore[override]
        return F.triplet_margin_loss(anchor, positive, negative, **self._words())


class SoftMarginLoss(Loss):
    """log(1 + exp(-target input))."""

    function = "soft_margin_loss"


class MultiMarginLoss(Loss):
    """The hinge loss of several classes."""

    function, held = "multi_margin_loss", ("weight",)
    options = _options(("p", 1), ("margin", 1.0), ("weight", None))


class MultiLabelMarginLoss(Loss):
    """The hinge loss of several labels, listed in the target up to the first -1."""

    function = "multilabel_margin_loss"


class MultiLabelSoftMarginLoss(Loss):
    """The mean over classes of the cross entropy of two."""

    function, options, held = "multilabel_soft_margin_loss", _options(("weight", None)), ("weight",)


class PoissonNLLLoss(Loss):
    """The negative log likelihood of counts."""

    function = "poisson_nll_loss"
    options = {"log_input": True, "full": False, "size_average": None, "eps": 1e-8, "reduce": None, "reduction": "mean"}


class GaussianNLLLoss(Loss):
    """The negative log likelihood of normal numbers of given variances."""

    function, options = "gaussian_nll_loss", {"full": False, "eps": 1e-6, "reduction": "mean"}

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(full, eps, reduction)

    def forward(self, input: Any, target: Any, var: Any) -> Any:  # type: ignore[override]
        return F.gaussian_nll_loss(input, target, var, **self._words())


class TripletMarginWithDistanceLoss(Module):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) for a distance of one's own."""

    def __init__(self, *, distance_function: Any = None, margin: float = 1.0, swap: bool = False,
                 reduction: str = "mean") -> None:
        super().__init__()
        self.distance_function, self.margin, self.swap, self.reduction = distance_function, margin, swap, reduction

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return F.triplet_margin_with_distance_loss(anchor, positive, negative, distance_function=self.distance_function,
                                                   margin=self.margin, swap=self.swap, reduction=self.reduction)


class CTCLoss(Module):
    """-log of the probability that log probabilities (times, N, C) say the targets, blanks and repetitions left out."""

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__()
        self.blank, self.reduction, self.zero_infinity = blank, reduction, zero_infinity

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
        return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity)
