"""Public ops that are losses of margins, likelihoods and distances.

In: float nodes, targets, `reduction` 'mean', 'sum' or 'none'.  Out: nodes.  As in `losses`, class numbers are compared with an
index grid; the face checks that they are in range.
"""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import FLOAT, int64
from ..errors import explain
from ..ir.graph import Node
from .checks import floating, reduction_of, scalar_type
from .declare import P, arith, broadcast, cast, full, op, spread, zeros_like
from .elementwise import like, on
from .losses import by_reduction, reduce_loss
from .normalising import pairwise_distance


def _above(n: Node) -> Node:
    """n, or 0 where it is negative; at 0 the derivative passes, as that of clamp_min."""
    return P.where(P.lt(n, zeros_like(n)), zeros_like(n), n)


def _size(n: Node) -> str:
    return f"torch.Size({list(n.shape)})"


def _is(target: Node, value: int, shape: tuple[int, ...]) -> Node:
    return spread(P.eq(target, like(value, target)), shape)


def _mean(n: Node, reduction: str) -> Node:
    """`reduce_loss` that refuses the mean of integers."""
    if reduction == "mean" and n.dtype.category < FLOAT:
        raise explain(RuntimeError("mean(): could not infer output dtype. Input dtype must be either a floating point or "
                                   f"complex dtype. Got: {scalar_type(n.dtype)}"), hint="convert the input first: x.float()")
    return reduce_loss(n, reduction)


def _named(name: str) -> Any:
    """The grad_fn of losses that are composites in torch, whose last static argument is the reduction."""
    return lambda *static: by_reduction(name)(static[-1])


# ---------------------------------------------------------------- margins
@op(method=False, functional=True, grad=_named("ClampMinBackward0"))
def margin_ranking_loss(input1: Node, input2: Node, target: Node, margin: float = 0, reduction: str = "mean") -> Node:
    """max(0, margin - target * (input1 - input2)): target 1 wants input1 larger, -1 input2."""
    if not input1.ndim == input2.ndim == target.ndim:
        raise explain(RuntimeError("margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
                                   f"{_size(input1)}, input2: {_size(input2)}, target: {_size(target)} "))
    reduction_of(reduction)
    d, t = arith(P.sub(*arith(input1, input2)), target)
    each = P.neg(P.mul(t, d))
    return _mean(_above(P.add(each, like(margin, each))), reduction)


@op(method=False, functional=True, grad=_named("AddBackward0"))
def hinge_embedding_loss(input: Node, target: Node, margin: float = 1.0, reduction: str = "mean") -> Node:
    """The input where the target is 1, max(0, margin - input) where it is -1."""
    reduction_of(reduction)
    near = _above(P.sub(like(margin, input), input))
    x, far, t = broadcast(input, near, target)
    zero = zeros_like(x)
    each = P.add(P.where(_is(t, 1, x.shape), zero, far), P.where(_is(t, -1, x.shape), zero, x))
    return _mean(each, reduction)


@op(method=False, functional=True, grad=_named("AddBackward0"))
def cosine_embedding_loss(input1: Node, input2: Node, target: Node, margin: float = 0, reduction: str = "mean") -> Node:
    """1 - cos of the angle between the inputs where the target is 1, max(0, cos - margin) where it is -1."""
    if target.ndim > 1:
        raise explain(RuntimeError("0D or 1D target tensor expected, multi-target not supported"))
    if not input1.ndim == input2.ndim == target.ndim + 1:
        raise explain(RuntimeError(f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs "
                                   f"with sizes {list(input1.shape)} and {list(input2.shape)}."))
    reduction_of(reduction)
    a, b = arith(input1, input2)
    axes = (target.ndim,)
    dot, aa, bb = [P.sum(P.mul(x, y), axes) for x, y in ((a, b), (a, a), (b, b))]
    tiny = like(1e-12, aa)
    cos = P.div(dot, P.sqrt(P.mul(P.add(aa, tiny), P.add(bb, tiny))))
    t, cos = broadcast(target, cos)
    each = P.add(on(_is(t, 1, cos.shape), P.sub(like(1, cos), cos)),
                 on(_is(t, -1, cos.shape), _above(P.sub(cos, like(margin, cos)))))
    return reduce_loss(each, reduction)


def check_triplet(anchor: Any, positive: Any, negative: Any, margin: float) -> None:
    """What a triplet loss refuses of its nodes or tensors."""
    if margin <= 0:
        raise explain(ValueError(f"margin must be greater than 0, got {margin}"))
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise explain(RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: anchor "
            f"{anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"))


@op(method=False, functional=True, grad=_named("ClampMinBackward0"))
def triplet_margin_loss(anchor: Node, positive: Node, negative: Node, margin: float = 1.0, p: float = 2, eps: float = 1e-06,
                        swap: bool = False, reduction: str = "mean") -> Node:
    """max(0, margin + distance(anchor, positive) - distance(anchor, negative)); swap: or from positive to negative, if less."""
    check_triplet(anchor, positive, negative, margin)
    reduction_of(reduction)
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = P.minimum(*arith(far, pairwise_distance(positive, negative, p, eps)))
    d = P.sub(*arith(near, far))
    return reduce_loss(_above(P.add(d, like(margin, d))), reduction)


@op(method=False, function=False, functional=True)
def soft_margin_loss(input: Node, target: Node, reduction: str = "mean") -> Node:
    """log(1 + exp(-target * input)), exact for large input."""
    reduction_of(reduction)
    x, t = broadcast(input, cast(target, input.dtype))
    return reduce_loss(P.softplus(P.neg(P.mul(t, x))), reduction)


# ---------------------------------------------------------------- margins between classes
def _classes(name: str, input: Node, target: Node, more: int) -> tuple[Node, Node]:
    """Input (batch, classes) and target (batch, ...) of `more` further axes; both without a batch become a batch of one."""
    floating(f"{name}_cpu_kernel" if name == "multi_margin_loss" else f"{name}_forward_out_frame", input)
    if target.dtype is not int64:
        raise explain(RuntimeError(f"expected scalar type Long but found {scalar_type(target.dtype)}"),
                      hint="convert it: target.long()")
    if input.ndim not in (1, 2) or input.shape[-1] == 0:
        raise explain(RuntimeError("Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
                                   f"{list(input.shape)}"))
    want = input.shape[:-1] + (input.shape[-1:] if more else ())
    if target.shape != want:
        shapes = f"Expected target size {list(want)}, but got {list(target.shape)}. Input has shape {list(input.shape)}."
        raise explain(RuntimeError(
            f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}" if more else
            f"{name}: target tensor should be 1-D with size equal to the number of input samples (batch size). {shapes}"))
    if input.ndim == 1:
        return P.reshape(input, (1, *input.shape)), P.reshape(target, (1, *target.shape))
    return input, target


def _margin_bounds(input: Node, target: Node, *rest: Any) -> tuple[Any, ...]:
    n = input.shape[-1] if input.ndim else 1
    return ((target, 0, n, "target out of range", RuntimeError, None),)


@op(method=False, function=False, functional=True, bounds=_margin_bounds)
def multi_margin_loss(input: Node, target: Node, p: int = 1, margin: float = 1.0, weight: Node | None = None,
                      reduction: str = "mean") -> Node:
    """The mean over all classes but the target's of max(0, margin - input[target] + input) ** p, times the target's weight."""
    if p not in (1, 2):
        raise explain(ValueError("only p == 1 and p == 2 supported"))
    if weight is not None and weight.shape != input.shape[-1:]:
        raise explain(RuntimeError(f"inconsistent weight size, expected {input.shape[-1]} but got {list(weight.shape)}"))
    reduction_of(reduction)
    x, t = _classes("multi_margin_loss", input, target, 0)
    hit = P.eq(P.expand(P.reshape(t, (*t.shape, 1)), x.shape), P.iota(x.shape, 1))
    own = P.expand(P.reshape(P.sum(on(hit, x), (1,)), (x.shape[0], 1)), x.shape)
    z = P.relu(P.add(P.sub(x, own), like(margin, x)))
    each = P.sum(on(P.bitwise_not(hit), P.mul(z, z) if p == 2 else z), (1,))
    each = P.div(each, like(x.shape[1], each))
    if weight is not None:
        each = P.mul(each, P.sum(on(hit, spread(cast(weight, x.dtype), x.shape)), (1,)))
    return reduce_loss(each if input.ndim == 2 else P.reshape(each, ()), reduction)


def _label_bounds(input: Node, target: Node, *rest: Any) -> tuple[Any, ...]:
    n = input.shape[-1] if input.ndim else 1
    return ((target, -1, n, "argument #2 'target' is out of range", RuntimeError, None),)


@op(method=False, function=False, functional=True, bounds=_label_bounds)
def multilabel_margin_loss(input: Node, target: Node, reduction: str = "mean") -> Node:
    """max(0, 1 - input[label] + input[other]) summed over the labels (those before the first -1) and all other classes, over
    the number of classes."""
    reduction_of(reduction)
    x, t = _classes("multilabel_margin_loss", input, target, 1)
    n, c = x.shape
    grid = (n, c, c)                                      # [example, place in the target, class]
    rows, places, classes = P.expand(P.reshape(t, (n, c, 1)), grid), P.iota(grid, 1), P.iota(grid, 2)
    ended = P.bitwise_and(P.lt(P.expand(P.reshape(t, (n, 1, c)), grid), full(0, grid, int64)), P.le(classes, places))
    live = P.expand(P.reshape(P.bitwise_not(P.max(ended, (2,))), (n, c, 1)), grid)
    hit = P.bitwise_and(live, P.eq(rows, classes))
    wide = P.expand(P.reshape(x, (n, 1, c)), grid)
    own = P.expand(P.reshape(P.sum(on(hit, wide), (2,)), (n, c, 1)), grid)
    labelled = P.expand(P.reshape(P.max(hit, (1,)), (n, 1, c)), grid)
    z = P.relu(P.add(P.sub(wide, own), full(1, grid, x.dtype)))
    each = P.sum(on(P.bitwise_and(live, P.bitwise_not(labelled)), z), (1, 2))
    each = P.div(each, like(c, each))
    return reduce_loss(each if input.ndim == 2 else P.reshape(each, ()), reduction)


@op(method=False, function=False, functional=True, grad=_named("DivBackward0"))
def multilabel_soft_margin_loss(input: Node, target: Node, weight: Node | None = None, reduction: str = "mean") -> Node:
    """binary_cross_entropy_with_logits, averaged over the last dim."""
    if reduction not in ("none", "mean", "sum"):
        raise explain(ValueError(f"{reduction} is not valid"), hint="reduction is 'none', 'mean' or 'sum'")
    x, t = arith(input, target)
    each = P.add(P.mul(t, P.softplus(P.neg(x))), P.mul(P.sub(like(1, t), t), P.softplus(x)))
    if weight is not None:
        each = P.mul(*arith(each, weight))
    last = each.ndim - 1
    s = P.sum(each, (last,))
    return reduce_loss(P.div(s, like(each.shape[last], s)), reduction)


# ---------------------------------------------------------------- likelihoods
@op(method=False, functional=True, grad=_named("SubBackward0"))
def poisson_nll_loss(input: Node, target: Node, log_input: bool = True, full: bool = False, eps: float = 1e-08,
                     reduction: str = "mean") -> Node:
    """Of a Poisson distribution whose rate is the input, or exp(input) if log_input; full: with Stirling's term."""
    reduction_of(reduction)
    x, t = arith(input, target)
    each = P.sub(P.exp(x), P.mul(t, x)) if log_input else P.sub(x, P.mul(t, P.log(P.add(x, like(eps, x)))))
    if full:
        many = P.gt(t, like(1, t))
        n = P.where(many, t, like(1, t))
        term = P.add(P.sub(P.mul(n, P.log(n)), n), P.mul(like(0.5, n), P.log(P.mul(like(2 * math.pi, n), n))))
        each = P.add(each, on(many, term))
    return reduce_loss(each, reduction)


def _likelihood_name(full: bool = False, eps: float = 1e-06, reduction: str = "mean") -> str:
    return {"mean": "MeanBackward0", "sum": "SumBackward0"}.get(reduction, "AddBackward0" if full else "MulBackward0")


@op(method=False, function=False, functional=True, grad=_likelihood_name)
def gaussian_nll_loss(input: Node, target: Node, var: Node, full: bool = False, eps: float = 1e-06,
                      reduction: str = "mean") -> Node:
    """(log(var) + (input - target)**2 / var) / 2, with var at least eps; full: with the constant term."""
    if var.shape != input.shape and var.ndim:
        if var.shape == input.shape[:-1]:
            var = P.reshape(var, (*var.shape, 1))
        elif var.ndim != input.ndim or sum([n for m, n in zip(input.shape, var.shape) if m != n]) != 1:
            raise explain(ValueError("var is of incorrect size"))
    if reduction not in ("none", "mean", "sum"):
        raise explain(ValueError(f"{reduction} is not valid"), hint="reduction is 'none', 'mean' or 'sum'")
    low = like(eps, var)
    v = P.where(P.lt(var, low), P.add(low, P.sub(var, P.stop(var))), var)      # the bound is outside of the derivative
    d = P.sub(*arith(input, target))
    v, d = arith(v, d)
    each = P.mul(like(0.5, d), P.add(P.log(v), P.div(P.mul(d, d), v)))
    if full:
        each = P.add(each, like(0.5 * math.log(2 * math.pi), each))
    return reduce_loss(each, reduction)
