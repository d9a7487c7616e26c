"""Functions of networks whose arguments are looked at, called, or drawn: written with tensors.

In: tensors and options, as torch has them.  Out: tensors.  Nothing is changed but what a trailing underscore says.
"""

from __future__ import annotations

import warnings
from typing import Any

from ..dtypes import FLOAT, finfo, int64
from ..eager import functional, functions
from ..eager.convert import array_of
from ..eager.creation import arange, full_like, tensor, zeros, zeros_like
from ..eager.random import rand_like
from ..eager.state import state
from ..eager.tensor import Tensor, expect
from ..errors import explain
from ..ops.margins import check_triplet

_OPS: dict[str, Any] = {**functions(), **functional()}
_gaussian, _embedding, _where, _distance = [_OPS[n] for n in ("gaussian_nll_loss", "embedding", "where", "pairwise_distance")]


# ---------------------------------------------------------------- losses
def gaussian_nll_loss(input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-06,
                      reduction: str = "mean") -> Any:
    """(log(var) + (input - target)**2 / var) / 2, with var at least eps; full: with the constant term."""
    expect("gaussian_nll_loss", input)
    if isinstance(var, Tensor):
        below = state.trace is None and bool((var.detach() < 0).any())
    else:
        below, var = var < 0, full_like(input, float(var))
    if below:
        raise explain(ValueError("var has negative entry/entries"), hint="a variance is at least 0")
    return _gaussian(input, target, var, full, eps, reduction)


def triplet_margin_with_distance_loss(anchor: Any, positive: Any, negative: Any, *, distance_function: Any = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Any:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) for a distance of one's own; swap: or d(positive, negative),
    if less."""
    if reduction not in ("mean", "sum", "none"):
        raise explain(ValueError(f"{reduction} is not a valid value for reduction"))
    check_triplet(anchor, positive, negative, margin)
    d = _distance if distance_function is None else distance_function
    near, far = d(anchor, positive), d(anchor, negative)
    if swap:
        far = far.minimum(d(positive, negative))
    loss = (near - far + margin).clamp_min(0)
    return loss if reduction == "none" else getattr(loss, reduction)()


def _lengths(name: str, given: Any, many: int, highest: int, device: str) -> Any:
    """Lengths as a vector, each in [0, highest]."""
    t = (given if isinstance(given, Tensor) else tensor(given, dtype=int64)).reshape(-1)  # type: ignore[attr-defined]
    if t.dtype.category >= FLOAT:
        raise explain(RuntimeError(f"{name} must be integral"))
    if t.shape[0] != many:
        raise explain(RuntimeError(f"{name} must be of size batch_size"))
    if state.trace is None and many and device == "cpu":
        least, most = int(t.min()), int(t.max())
        if least < 0 or most > highest:
            raise explain(RuntimeError(f"Expected {name} to have values between 0 and {highest}, but got value "
                                       f"{least if least < 0 else most}"))
    return t.to(int64)


def _padded(targets: Any, lengths: Any, many: int) -> Any:
    """Targets that stand one after the other, as rows."""
    counts = [int(n) for n in array_of(lengths)]
    longest, rows, at = max(counts, default=0), [], 0
    if sum(counts) > targets.shape[0]:
        raise explain(RuntimeError(f"Expected tensor to have size at least {sum(counts)} at dimension 0, but got size "
                                   f"{targets.shape[0]} for argument #2 'targets'"))
    for n in counts:
        rows.append(_OPS["cat"]([targets[at:at + n], zeros(longest - n, dtype=targets.dtype)]))
        at += n
    return _OPS["stack"](rows) if rows else zeros(0, 0, dtype=int64)


def ctc_loss(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: str = "mean",
             zero_infinity: bool = False) -> Any:
    """-log of the probability that (times, batch, classes) log_probs say the targets, blanks and repetitions left out.

    targets: (batch, longest), or all in one vector.  'mean': over the batch, each divided by its target's length.  The
    derivative is that of this formula: feed it with log_softmax.
    """
    expect("ctc_loss", log_probs)
    single = log_probs.ndim == 2
    lp = log_probs.unsqueeze(1) if single else log_probs
    if lp.ndim != 3:
        raise explain(RuntimeError("log_probs tensor must not be empty and has 2 or 3 dimensions"))
    times, many, classes = lp.shape
    if not 0 <= blank < classes:
        raise explain(RuntimeError("blank must be in label range"))
    if reduction not in ("none", "mean", "sum"):
        raise explain(ValueError(f"{reduction} is not a valid value for reduction"))
    device = lp.device
    lengths = _lengths("input_lengths", input_lengths, many, times, lp.aval.device)
    if single and targets.ndim == 1:
        targets = targets.unsqueeze(0)
    counts = _lengths("target_lengths", target_lengths, many, targets.shape[-1], lp.aval.device)
    labels = (targets if targets.ndim == 2 else _padded(targets, counts, many)).to(int64)
    if labels.shape[0] != many:
        raise explain(RuntimeError(f"Expected tensor to have size {many} at dimension 0, but got size {labels.shape[0]} for "
                                   "argument #2 'targets'"))
    loss = _paths(lp, labels, lengths, counts, blank, device)
    if zero_infinity:
        loss = _where(loss == float("inf"), 0.0, loss)
    if reduction == "mean":
        return (loss / counts.clamp(1).to(loss.dtype)).mean()
    return loss.sum() if reduction == "sum" else loss[0] if single else loss


def _paths(lp: Any, labels: Any, lengths: Any, counts: Any, blank: int, device: Any) -> Any:
    """-log of the sum over all paths: the forward recursion over blank, label, blank, label ... blank."""
    times, many, _ = lp.shape
    size = 2 * labels.shape[1] + 1
    spaced = zeros(many, size, dtype=int64, device=device) + blank
    spaced[:, 1::2] = labels
    low: Any = full_like(lp.detach()[:0].sum(), float("-inf"))
    place = arange(size, device=device)
    skips = zeros(many, size, dtype="bool", device=device)
    skips[:, 2:] = (spaced[:, 2:] != blank) & (spaced[:, 2:] != spaced[:, :-2])
    said = lp.gather(2, spaced.expand(times, many, size))
    alpha = _where(place < 2, said[0], low) if times else _where(place < 1, zeros(many, size, dtype=lp.dtype), low)
    pad = _OPS["pad"]
    for t in range(1, times):
        one = pad(alpha[:, :-1], (1, 0), value=float("-inf"))
        two = pad(alpha[:, :-2], (2, 0), value=float("-inf")) if size > 2 else low.expand(many, size)
        sums = alpha.logaddexp(one).logaddexp(_where(skips, two, low))
        alpha = _where((t < lengths).unsqueeze(1), sums + said[t], alpha)
    last = alpha.gather(1, (2 * counts).unsqueeze(1)).squeeze(1)
    before = alpha.gather(1, (2 * counts - 1).clamp(0).unsqueeze(1)).squeeze(1)
    return -_where(counts > 0, last.logaddexp(before), last)


# ---------------------------------------------------------------- random
def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """A sample of the distribution with these logits, made soft by the temperature tau; hard: one-hot, with the soft one's
    derivative."""
    expect("gumbel_softmax", logits)
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    waits: Any = zeros_like(logits.detach()).exponential_()  # type: ignore[attr-defined]
    soft = ((logits - waits.clamp_min(finfo(logits.dtype).tiny).log()) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.detach().argmax(dim, keepdim=True)
    return zeros_like(logits.detach()).scatter(dim, index, 1.0) - soft.detach() + soft  # type: ignore[attr-defined]


def rrelu(input: Any, lower: float = 0.125, upper: float = 0.3333333333333333, training: bool = False,
          inplace: bool = False) -> Any:
    """The input, or where it is negative a share of it: drawn between lower and upper when training, else their mean."""
    expect("rrelu", input)
    if lower > upper:
        raise explain(RuntimeError("Lower bound should be less than or equal to the upper bound"))
    share = rand_like(input.detach()) * (upper - lower) + lower if training else (lower + upper) / 2  # type: ignore[operator]
    out = _where(input > 0, input, input * share)
    return input.copy_(out) if inplace else out


# ---------------------------------------------------------------- bags of embeddings
def _bag_arguments(input: Any, weight: Any, offsets: Any, mode: str, weights: Any) -> None:
    if weights is not None and input.shape != weights.shape:
        raise explain(ValueError(f"embedding_bag: If per_sample_weights ({weights.shape}) is not None, then it must have the "
                                 f"same shape as the input ({input.shape})"))
    if weight.ndim != 2:
        raise explain(ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}"))
    if input.ndim not in (1, 2):
        raise explain(ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}"))
    if input.ndim == 2 and offsets is not None:
        raise explain(ValueError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed "
                                 f"length sequences. However, found offsets of type {type(offsets)}"))
    if input.ndim == 1 and (offsets is None or offsets.ndim != 1):
        raise explain(ValueError(f"offsets has to be a 1D Tensor{' but got None' if offsets is None else ''}"))
    if mode not in ("sum", "mean", "max"):
        raise explain(ValueError("mode has to be one of sum, mean or max"))
    if weights is not None and mode != "sum":
        raise explain(NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' (got "
            f"mode='{mode}'). Please open a feature request on GitHub."))


def embedding_bag(input: Any, weight: Any, offsets: Any = None, max_norm: float | None = None, norm_type: float = 2,
                  scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, per_sample_weights: Any = None,
                  include_last_offset: bool = False, padding_idx: int | None = None) -> Any:
    """Sums, means or maxima of rows of `weight`: of those that each row of the input names, or (a vector) those from each
    offset to the next.  An empty bag gives 0; rows of padding_idx do not count."""
    for name, given in (("max_norm", max_norm is not None), ("scale_grad_by_freq", scale_grad_by_freq), ("sparse", sparse)):
        if given:
            raise explain(NotImplementedError(f"embedding_bag: {name} is not there"))
    _bag_arguments(input, weight, offsets, mode, per_sample_weights)
    rows = _embedding(input, weight)
    kept = None if padding_idx is None else (input != padding_idx % weight.shape[0]).unsqueeze(-1)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if kept is not None:
        rows = _where(kept, rows, float("-inf") if mode == "max" else 0.0)
    if input.ndim == 2:
        return _of_rows(rows, kept, mode)
    bags = offsets.shape[0] - int(include_last_offset)
    starts = offsets[:bags].to(int64)
    at = (starts <= arange(input.shape[0], device=input.device).unsqueeze(-1)).to(int64).sum(-1) - 1  # type: ignore
    none = zeros(bags, weight.shape[1], dtype=weight.dtype, device=weight.device)
    if mode == "max":
        out = none.scatter_reduce(0, at.unsqueeze(-1).expand(*rows.shape), rows, "amax", False)  # type: ignore[attr-defined]
        return _where(out == float("-inf"), 0.0, out)
    total = none.index_add(0, at, rows)  # type: ignore[attr-defined]
    if mode == "sum":
        return total
    each = full_like(rows.detach()[:, :1], 1.0) if kept is None else kept.to(weight.dtype)
    return total / none[:, :1].index_add(0, at, each).clamp_min(1)


def _of_rows(rows: Any, kept: Any, mode: str) -> Any:
    """(bags, places, features) to (bags, features)."""
    if mode == "max":
        out = rows.max(1)[0] if rows.shape[1] else rows.sum(1)
        return _where(out == float("-inf"), 0.0, out)
    total = rows.sum(1)
    if mode == "sum":
        return total
    return total / (max(rows.shape[1], 1) if kept is None else kept.to(rows.dtype).sum(1).clamp_min(1))


# ---------------------------------------------------------------- in place
def _in_place(name: str) -> Any:
    plain = _OPS[name]

    def f(input: Any, *args: Any, **words: Any) -> Any:
        return input.copy_(plain(input.clone(), *args, **words))
    f.__name__ = f.__qualname__ = name + "_"
    f.__doc__ = f"In place: {plain.__doc__}"
    return f


relu_, celu_, elu_, hardtanh_, leaky_relu_, selu_, threshold_ = [
    _in_place(name) for name in ("relu", "celu", "elu", "hardtanh", "leaky_relu", "selu", "threshold")]


def rrelu_(input: Any, lower: float = 0.125, upper: float = 0.3333333333333333, training: bool = False) -> Any:
    """In place: rrelu."""
    return rrelu(input, lower, upper, training, True)


__all__ = ["celu_", "ctc_loss", "elu_", "embedding_bag", "gaussian_nll_loss", "gumbel_softmax", "hardtanh_", "leaky_relu_",
           "relu_", "rrelu", "rrelu_", "selu_", "threshold_", "triplet_margin_with_distance_loss"]
