"""Public ops that compare a prediction with a target: one number, or one an element.

In: float nodes, targets, optional weights, `reduction` 'mean', 'sum' or 'none'.  Out: nodes.  Class numbers are compared with
an index grid, so that forward and backward stay elementwise; the face checks that they are in range.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import FLOAT, int64, uint8
from ..errors import explain
from ..ir.graph import Node
from .checks import floating, reduction_of, same_dtype, scalar_type
from .declare import P, arith, cast, full, op, spread, unspread, zeros_like
from .elementwise import like, on
from .softmaxes import log_soft


def reduce_loss(n: Node, reduction: str) -> Node:
    """`n` itself, its sum or its mean."""
    reduction_of(reduction)
    if reduction == "none":
        return n
    s = P.sum(n, tuple(range(n.ndim)))
    return s if reduction == "sum" else P.div(s, like(n.aval.size, s))


def by_reduction(name: str) -> Any:
    """The grad_fn of losses that are composites in torch."""
    return lambda reduction="mean", *rest: {"mean": "MeanBackward0", "sum": "SumBackward0"}.get(
        reduction, name)


# ---------------------------------------------------------------- distances
@op(method=False, function=False, functional=True)
def mse_loss(input: Node, target: Node, reduction: str = "mean") -> Node:
    """(input - target) ** 2."""
    d = P.sub(*arith(input, target))
    floating("mse_cpu", d)
    return reduce_loss(P.mul(d, d), reduction)


@op(method=False, function=False, functional=True, grad=by_reduction("AbsBackward0"))
def l1_loss(input: Node, target: Node, reduction: str = "mean") -> Node:
    """|input - target|."""
    return reduce_loss(P.abs(P.sub(*arith(input, target))), reduction)


def _bent(d: Node, edge: float, inner: float, offset: float, slope: float) -> Node:
    """inner * d**2 inside the edge, slope * (|d| - offset) outside."""
    a = P.abs(d)
    line = P.sub(a, like(offset, a))
    return P.where(P.ge(a, like(edge, a)), line if slope == 1 else P.mul(like(slope, a), line),
                   P.mul(like(inner, d), P.mul(d, d)))     # a NaN takes this side, and stays one in the derivative


@op(method=False, function=False, functional=True, grad="SmoothL1LossBackward0")
def smooth_l1_loss(input: Node, target: Node, reduction: str = "mean", beta: float = 1.0) -> Node:
    """d**2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    if beta < 0:
        raise explain(RuntimeError("smooth_l1_loss does not support negative values for beta."))
    d = P.sub(*arith(input, target))
    out = P.abs(d) if beta == 0 else _bent(d, beta, 0.5 / beta, 0.5 * beta, 1)
    return reduce_loss(out, reduction)


@op(method=False, function=False, functional=True)
def huber_loss(input: Node, target: Node, reduction: str = "mean", delta: float = 1.0) -> Node:
    """d**2 / 2 where |d| <= delta, else delta * (|d| - delta / 2)."""
    if delta <= 0:
        raise explain(RuntimeError("huber_loss does not support non-positive values for delta."))
    d = P.sub(*arith(input, target))
    return reduce_loss(_bent(d, delta, 0.5, 0.5 * delta, delta), reduction)


# ---------------------------------------------------------------- probabilities
def _bce_sizes(name: str, input: Node, target: Node) -> None:
    if input.shape != target.shape:
        raise explain(ValueError(
            f"Target size (torch.Size({list(target.shape)})) must be the same as input size "
            f"(torch.Size({list(input.shape)}))" if name == "logits" else
            f"Using a target size (torch.Size({list(target.shape)})) that is different to the input "
            f"size (torch.Size({list(input.shape)})) is deprecated. Please ensure they have the same "
            "size."))


def _scaled(ct: Node, input: Node, weight: Node | None, reduction: str) -> Node:
    """The cotangent of each element's loss."""
    g = spread(ct, input.shape)
    if reduction == "mean":
        g = P.div(g, like(input.aval.size, g))
    return g if weight is None else P.mul(g, spread(cast(weight, g.dtype), input.shape))


def _vjp_bce(ct: Node, out: Node, input: Node, target: Node, weight: Node | None = None,
             reduction: str = "mean") -> tuple[Node | None, ...]:
    one, floor = like(1, input), like(1e-12, input)
    g = _scaled(ct, input, weight, reduction)
    room = P.mul(P.sub(one, input), input)
    room = P.where(P.lt(room, floor), floor, room)
    dt = P.neg(P.mul(g, P.sub(_log100(input), _log100(P.sub(one, input)))))
    dw = None
    if weight is not None:
        dw = unspread(P.mul(_scaled(ct, input, None, reduction), _bce(input, target)), weight)
    return P.mul(g, P.div(P.sub(input, target), room)), dt, dw


def _bce(input: Node, target: Node) -> Node:
    one = like(1, input)
    return P.sub(P.mul(P.sub(target, one), _log100(P.sub(one, input))), P.mul(target, _log100(input)))


def _log100(n: Node) -> Node:
    """log, at least -100: torch's bound, so that a sure mistake costs a finite loss."""
    low, v = like(-100, n), P.log(n)
    return P.where(P.lt(v, low), low, v)


@op(method=False, function=False, functional=True, vjp=_vjp_bce)
def binary_cross_entropy(input: Node, target: Node, weight: Node | None = None,
                         reduction: str = "mean") -> Node:
    """-(target * log(input) + (1 - target) * log(1 - input)) for probabilities."""
    _bce_sizes("plain", input, target)
    floating("binary_cross_entropy", input, target)
    same_dtype("Found dtype {1} but expected {0}", input, target)
    each = _bce(input, target)
    if weight is not None:
        each = P.mul(each, spread(cast(weight, each.dtype), each.shape))
    return reduce_loss(each, reduction)


@op(method=False, function=True, functional=True)
def binary_cross_entropy_with_logits(input: Node, target: Node, weight: Node | None = None,
                                     pos_weight: Node | None = None,
                                     reduction: str = "mean") -> Node:
    """binary_cross_entropy of sigmoid(input), exact for large input."""
    _bce_sizes("logits", input, target)
    x, t = arith(input, target)
    wrong = P.mul(P.sub(like(1, t), t), x)
    right = P.softplus(P.neg(x))
    if pos_weight is not None:
        w = spread(cast(pos_weight, x.dtype), x.shape)
        right = P.mul(P.add(P.mul(P.sub(w, like(1, w)), t), like(1, w)), right)
    each = P.add(wrong, right)
    if weight is not None:
        each = P.mul(each, spread(cast(weight, each.dtype), each.shape))
    return reduce_loss(each, reduction)


def _kl_name(reduction: str = "mean", log_target: bool = False) -> str:
    if reduction == "batchmean":
        return "DivBackward0"
    return {"mean": "MeanBackward0", "sum": "SumBackward0"}.get(
        reduction, "MulBackward0" if log_target else "SubBackward0")


@op(method=False, functional=True, grad=_kl_name)
def kl_div(input: Node, target: Node, reduction: str = "mean", log_target: bool = False) -> Node:
    """target * (log(target) - input), where input holds logarithms; 'batchmean' divides by the rows."""
    x, t = arith(input, target)
    if log_target:
        each = P.mul(P.exp(t), P.sub(t, x))
    else:
        none = P.eq(t, zeros_like(t))
        each = P.sub(P.mul(t, P.where(none, zeros_like(t), P.log(t))), P.mul(t, x))
    if reduction == "batchmean":
        s = reduce_loss(each, "sum")
        return P.div(s, like(input.shape[0], s)) if input.ndim else s
    return reduce_loss(each, reduction)


# ---------------------------------------------------------------- classes
def _class_axis(name: str, input: Node, target: Node) -> int:
    axis = 1 if input.ndim > 1 else 0
    if target.dtype is not int64 and target.dtype is not uint8:
        raise explain(RuntimeError("expected target dtype to be Long or Byte, but got "
                                   f"{scalar_type(target.dtype)}"), hint="convert it: target.long()")
    want = (*input.shape[:axis], *input.shape[axis + 1:])
    if input.ndim == 0 or target.shape != want:
        if input.ndim and target.ndim and input.ndim > 1 and input.shape[0] != target.shape[0]:
            raise explain(ValueError(f"Expected input batch_size ({input.shape[0]}) to match target "
                                     f"batch_size ({target.shape[0]})."))
        raise explain(RuntimeError(f"{name}: the target's shape {list(target.shape)} is not the input's "
                                   f"{list(input.shape)} without its class dimension"))
    return axis


def _hits(target: Node, classes: int, axis: int) -> Node:
    """True at each target's class, on the shape of the input."""
    shape = (*target.shape[:axis], classes, *target.shape[axis:])
    here = P.expand(P.reshape(cast(target, int64), (*target.shape[:axis], 1, *target.shape[axis:])), shape)
    return P.eq(here, P.iota(shape, axis))


def _pick(logp: Node, target: Node, weight: Node | None, ignore_index: int, axis: int,
          reduction: str) -> tuple[Node, Node]:
    """(loss an element, its weight): -logp at the target's class, weighted, 0 where ignored."""
    if weight is not None:
        same_dtype("expected scalar type {0} but found {1}", logp, weight)
    hit = _hits(target, logp.shape[axis], axis)
    kept = P.ne(cast(target, int64), full(ignore_index, target.shape, int64))
    each = P.neg(P.sum(on(hit, logp), (axis,)))
    w = cast(kept, logp.dtype)
    if weight is not None:
        line = [n if i == axis else 1 for i, n in enumerate(logp.shape)]
        wide = P.expand(P.reshape(weight, tuple(line)), logp.shape)
        w = on(kept, P.sum(on(hit, wide), (axis,)))
        each = P.mul(each, w)
    return on(kept, each), w


def _weighted(each: Node, w: Node, reduction: str) -> Node:
    reduction_of(reduction)
    if reduction == "none":
        return each
    axes = tuple(range(each.ndim))
    s = P.sum(each, axes)
    return s if reduction == "sum" else P.div(s, P.sum(w, axes))


def _nll_name(input: Node, *rest: Any) -> str:
    return "NllLossBackward0" if input.ndim <= 2 else "NllLoss2DBackward0"


def _target_bounds(input: Node, target: Node, weight: Node | None = None, ignore_index: int = -100,
                   *rest: Any) -> tuple[Any, ...]:
    """What the face checks: a class number outside [0, classes) that is not ignored."""
    if target.dtype.category == FLOAT:
        return ()
    classes = input.shape[1 if input.ndim > 1 else 0] if input.ndim else 1
    return ((target, 0, classes, "Target {value} is out of bounds.", IndexError, ignore_index),)


@op(method=False, function=False, functional=True, grad="NllLossBackward0", grad_of=_nll_name,
    bounds=_target_bounds)
def nll_loss(input: Node, target: Node, weight: Node | None = None, ignore_index: int = -100,
             reduction: str = "mean") -> Node:
    """-input at each target's class; classes are axis 1 of (N, C, ...), or axis 0 of (C,)."""
    axis = _class_axis("nll_loss", input, target)
    return _weighted(*_pick(input, target, weight, ignore_index, axis, reduction), reduction)


def _soft_targets(logp: Node, target: Node, weight: Node | None, reduction: str, axis: int) -> Node:
    if weight is not None:
        line = [n if i == axis else 1 for i, n in enumerate(logp.shape)]
        logp = P.mul(logp, P.expand(P.reshape(weight, tuple(line)), logp.shape))
    x, t = arith(logp, target)
    each = P.neg(P.sum(P.mul(x, t), (axis,)))
    if reduction != "mean":
        return reduce_loss(each, reduction)
    s = P.sum(each, tuple(range(each.ndim)))
    return P.div(s, like(max(each.aval.size, 1), s))


def _smooth(logp: Node, target: Node, weight: Node | None, ignore_index: int, axis: int,
            reduction: str, smoothing: float) -> Node:
    """(1 - s) * loss + s / classes * the loss of an even distribution."""
    each, w = _pick(logp, target, weight, ignore_index, axis, reduction)
    even = logp
    if weight is not None:
        line = [n if i == axis else 1 for i, n in enumerate(logp.shape)]
        even = P.mul(logp, P.expand(P.reshape(weight, tuple(line)), logp.shape))
    kept = P.ne(cast(target, int64), full(ignore_index, target.shape, int64))
    spare = on(kept, P.neg(P.sum(even, (axis,))))
    a, b = _weighted(each, w, reduction), _weighted(spare, w, reduction)
    c = smoothing / logp.shape[axis]
    return P.add(P.mul(a, like(1 - smoothing, a)), P.mul(b, like(c, b)))


def _entropy_name(input: Node, target: Node, weight: Node | None = None, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> str:
    if target.dtype.category == FLOAT:
        return {"mean": "DivBackward1", "sum": "NegBackward0"}.get(reduction, "NegBackward0")
    return "AddBackward0" if label_smoothing else _nll_name(input)


@op(method=False, function=False, functional=True, grad="NllLossBackward0", grad_of=_entropy_name,
    bounds=_target_bounds)
def cross_entropy(input: Node, target: Node, weight: Node | None = None, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Node:
    """nll_loss of log_softmax over the classes; the target holds class numbers or probabilities."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise explain(RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}"))
    floating("log_softmax_lastdim_kernel_impl", input)
    axis = 1 if input.ndim > 1 else 0
    logp = log_soft(input, (axis,))
    if target.dtype.category == FLOAT:
        if target.shape != input.shape:
            raise explain(RuntimeError("Expected floating point type for target with class "
                                       f"probabilities of the shape {list(input.shape)}, got "
                                       f"{list(target.shape)}"))
        if label_smoothing:
            target = P.add(P.mul(target, like(1 - label_smoothing, target)),
                           like(label_smoothing / input.shape[axis], target))
        return _soft_targets(logp, target, weight, reduction, axis)
    _class_axis("cross_entropy", input, target)
    if label_smoothing:
        return _smooth(logp, target, weight, ignore_index, axis, reduction, label_smoothing)
    return _weighted(*_pick(logp, target, weight, ignore_index, axis, reduction), reduction)
