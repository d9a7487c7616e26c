"""Public ops of statistics over samples: quantiles, the most common value, covariances, distances between rows.

In: float nodes.  Out: nodes.  Never looks at values.
"""

from __future__ import annotations

import math

from ..dtypes import BOOL, FLOAT, default_float, float32, float64, int64
from ..errors import explain
from ..ir.graph import Node
from .checks import scalar_type
from .declare import P, back, broadcast_shapes, cast, dim_of, full, op, spread, zeros_like
from .elementwise import like
from .joins import joined
from .moments import vector_norm
from .movement import slice_axis
from .reductions import at_index, finish
from .shapes import move

_WAYS = ("linear", "lower", "higher", "midpoint", "nearest")


# ---------------------------------------------------------------- quantiles
def _checked(input: Node, dim: int | None, interpolation: str) -> int | None:
    """The axis, if not all."""
    if interpolation not in _WAYS:
        raise explain(RuntimeError("quantile() interpolation must be one of linear, lower, higher, midpoint or nearest, but "
                                   f"got {interpolation}"))
    if input.aval.size == 0:
        raise explain(RuntimeError("quantile() input tensor must be non-empty"))
    if input.dtype not in (float32, float64):
        raise explain(RuntimeError("quantile() input tensor must be either float or double dtype"),
                      hint="convert it first: x.float()")
    return None if dim is None else dim_of(dim, input.ndim)


def _interpolated(input: Node, q: Node, axis: int | None, keepdim: bool, way: str, ignore_nan: bool) -> Node:
    """q (any shape, its axes come first) of lines along an axis, or of all elements."""
    whole = axis is None or input.ndim == 0
    at = 0 if axis is None or whole else axis
    x = P.reshape(input, (input.aval.size,)) if whole else move(
        input, (*[k for k in range(input.ndim) if k != at], at))
    lead, n = x.shape[:-1], x.shape[-1]
    values = P.gather(x, P.argsort(x, x.ndim - 1, False), x.ndim - 1)
    bad = P.isnan(x)
    shape = (*q.shape, *lead)
    ranks = spread(P.reshape(q, (*q.shape, *(1,) * len(lead))), shape)
    if ignore_nan:
        good = P.sum(cast(P.bitwise_not(bad), x.dtype), (x.ndim - 1,))
        top = spread(P.maximum(P.sub(good, like(1, good)), zeros_like(good)), shape)
        ranks = P.mul(ranks, top)
    else:
        last = like(n - 1, ranks)
        ranks = P.where(spread(P.max(bad, (x.ndim - 1,)), shape), last, P.mul(ranks, last))
    out = _between(values, ranks, way, n)
    if not keepdim:
        return out
    kept = (1,) * input.ndim if whole else (*input.shape[:at], 1, *input.shape[at + 1:])
    return P.reshape(out, (*q.shape, *kept))


def _between(values: Node, ranks: Node, way: str, n: int) -> Node:
    """The values at ranks that need not be whole: rows of `values` end in their sorted axis, `ranks` begin with axes of q."""
    def pick(rank: Node) -> Node:
        i = P.minimum(P.maximum(cast(rank, int64), full(0, rank.shape, int64)), full(n - 1, rank.shape, int64))
        more = i.ndim - (values.ndim - 1)
        axes = (*range(more, i.ndim), *range(more))       # the axes of q come last, where the sorted axis is
        count = math.prod(i.shape[:more])
        index = P.reshape(move(i, axes), (*values.shape[:-1], count))
        found = P.reshape(P.gather(values, index, values.ndim - 1), (*values.shape[:-1], *i.shape[:more]))
        return move(found, (*range(found.ndim - more, found.ndim), *range(found.ndim - more)))

    if way in ("lower", "higher", "nearest"):
        return pick(P.floor(ranks) if way == "lower" else P.ceil(ranks) if way == "higher" else P.rint(ranks))
    low = P.floor(ranks)
    weight = like(0.5, ranks) if way == "midpoint" else P.sub(ranks, P.stop(low))
    a, b = pick(low), pick(P.ceil(ranks))
    d = P.sub(b, a)
    near = P.lt(weight, like(0.5, weight))
    same = P.eq(a, b)                                     # also two infinities
    far = P.sub(b, P.mul(d, P.sub(like(1, weight), weight)))
    return P.where(same, a, P.where(near, P.add(a, P.mul(weight, d)), far))


def _numbered(ignore_nan: bool, input: Node, q: float, dim: int | None, keepdim: bool, interpolation: str) -> Node:
    if not 0 <= q <= 1:
        raise explain(RuntimeError(f"quantile() q must be in the range [0, 1] but got {q:g}"))
    axis = _checked(input, dim, interpolation)
    return _interpolated(input, full(q, (), input.dtype), axis, keepdim, interpolation, ignore_nan)


def _tensor(ignore_nan: bool, input: Node, q: Node, dim: int | None, keepdim: bool, interpolation: str) -> Node:
    axis = _checked(input, dim, interpolation)
    if q.ndim > 1:
        raise explain(RuntimeError("quantile() q must be a scalar or 1D tensor"))
    if q.dtype is not input.dtype:
        raise explain(RuntimeError("quantile() q tensor must be same dtype as the input tensor"))
    return _interpolated(input, q, axis, keepdim, interpolation, ignore_nan)


@op(grad="SqueezeBackward4", variants={"q": "quantile_number"})
def quantile(input: Node, q: Node, dim: int | None = None, keepdim: bool = False, interpolation: str = "linear") -> Node:
    """The q-quantiles along a dim, or of all elements; NaN where an element is.  A vector of q comes as a first dim; the
    face checks that q lies in [0, 1]."""
    return _tensor(False, input, q, dim, keepdim, interpolation)


@op(grad="SqueezeBackward4", method=False, function=False)
def quantile_number(input: Node, q: float, dim: int | None = None, keepdim: bool = False,
                    interpolation: str = "linear") -> Node:
    """quantile for a Python number."""
    return _numbered(False, input, q, dim, keepdim, interpolation)


@op(grad="SqueezeBackward4", variants={"q": "nanquantile_number"})
def nanquantile(input: Node, q: Node, dim: int | None = None, keepdim: bool = False, interpolation: str = "linear") -> Node:
    """quantile of what is not NaN."""
    return _tensor(True, input, q, dim, keepdim, interpolation)


@op(grad="SqueezeBackward4", method=False, function=False)
def nanquantile_number(input: Node, q: float, dim: int | None = None, keepdim: bool = False,
                       interpolation: str = "linear") -> Node:
    """nanquantile for a Python number."""
    return _numbered(True, input, q, dim, keepdim, interpolation)


@op(returns=("values", "indices"))
def mode(input: Node, dim: int = -1, keepdim: bool = False) -> tuple[Node, Node]:
    """The most common value along a dim, the smallest of several, and where it stands last."""
    axis = dim_of(dim, input.ndim)
    if input.ndim == 0:
        return input, full(0, (), int64)
    if input.shape[axis] == 0:
        raise explain(IndexError(f"mode(): Expected reduction dim {axis} to have non-zero size."))
    n = input.shape[axis]
    order = P.argsort(input, axis, False)
    x = P.gather(input, order, axis)
    at = P.iota(x.shape, axis)
    if n > 1:
        differs = P.ne(slice_axis(x, axis, 1, n), slice_axis(x, axis, 0, n - 1))
        rest = slice_axis(at, axis, 1, n)
        starts = joined((slice_axis(at, axis, 0, 1), P.where(differs, rest, like(-1, rest))), axis)
        run = P.sub(at, P.cumarg(starts, axis, True))     # how far into a run of equal ones
        index = at_index(order, P.argmax(run, axis), axis)
    else:
        index = at_index(order, full(0, (*x.shape[:axis], *x.shape[axis + 1:]), int64), axis)
    value = at_index(input, index, axis)
    return finish(value, (axis,), input.shape, keepdim), finish(index, (axis,), input.shape, keepdim)


# ---------------------------------------------------------------- covariance
def _weights(name: str, n: Node | None, count: int, floating: bool) -> None:
    if n is None:
        return
    if n.ndim > 1:
        raise explain(RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {n.ndim} "
                                   "dimensions"))
    if (n.dtype.category == FLOAT) != floating or n.dtype.category == BOOL:
        raise explain(RuntimeError(f"cov(): expected {name} to have {'floating point' if floating else 'integral'} dtype but "
                                   f"got {name} with {scalar_type(n.dtype)} dtype"))
    if n.aval.size != count:
        raise explain(RuntimeError(f"cov(): expected {name} to have the same numel as there are observations in the input but "
                                   f"got {n.aval.size} != {count}"))


def _covariance(input: Node, correction: int, fweights: Node | None, aweights: Node | None) -> Node:
    """(variables, variables)."""
    if input.ndim > 2:
        raise explain(RuntimeError("cov(): expected input to have two or fewer dimensions but got an input with "
                                   f"{input.ndim} dimensions"))
    if input.dtype.category == BOOL:
        raise explain(RuntimeError("cov(): bool dtype is not supported for input"))
    x = input if input.dtype.category == FLOAT else cast(input, default_float())
    x = x if x.ndim == 2 else P.reshape(x, (1, x.aval.size))
    count = x.shape[1]
    _weights("fweights", fweights, count, False)
    _weights("aweights", aweights, count, True)
    w = None
    for given in (fweights, aweights):
        if given is not None:
            line = P.reshape(cast(given, x.dtype), (count,))
            w = line if w is None else P.mul(w, line)
    total = full(count, (), x.dtype) if w is None else P.sum(w, (0,))
    wide = x if w is None else P.mul(x, spread(w, x.shape))
    mean = P.div(P.sum(wide, (1,)), spread(total, x.shape[:1]))
    d = P.sub(x, back(mean, (1,), x.shape))
    free = P.sub(total, like(correction, total))
    if w is not None and aweights is not None:
        twice = P.sum(P.mul(w, P.reshape(cast(aweights, x.dtype), (count,))), (0,))
        free = P.sub(total, P.mul(like(correction, total), P.div(twice, total)))
    free = P.where(P.lt(free, zeros_like(free)), zeros_like(free), free)
    c = P.matmul(d, P.permute(d if w is None else P.mul(d, spread(w, d.shape)), (1, 0)))
    return P.div(c, spread(free, c.shape))


@op(grad="SqueezeBackward0")
def cov(input: Node, correction: int = 1, fweights: Node | None = None, aweights: Node | None = None) -> Node:
    """Covariances of the rows, whose columns are observations; fweights: how often each was seen, aweights: its weight."""
    c = _covariance(input, correction, fweights, aweights)
    return P.reshape(c, ()) if c.shape == (1, 1) else c


def _corrcoef_name(input: Node) -> str:
    return "DivBackward0" if input.ndim < 2 or input.shape[0] == 1 else "ClampBackward1"


@op(grad="ClampBackward1", grad_of=_corrcoef_name)
def corrcoef(input: Node) -> Node:
    """Correlations of the rows, between -1 and 1."""
    if input.ndim > 2:
        raise explain(RuntimeError("corrcoef(): expected input to have two or fewer dimensions but got an input with "
                                   f"{input.ndim} dimensions"))
    c = _covariance(input, 1, None, None)
    if c.shape == (1, 1):
        c = P.reshape(c, ())
        return P.div(c, c)
    n = c.shape[0]
    own = P.eq(P.iota(c.shape, 0), P.iota(c.shape, 1))
    s = P.sqrt(P.sum(P.where(own, c, zeros_like(c)), (1,)))
    r = P.div(P.div(c, P.expand(P.reshape(s, (n, 1)), c.shape)), P.expand(P.reshape(s, (1, n)), c.shape))
    return P.where(P.lt(r, like(-1, r)), like(-1, r), P.where(P.gt(r, like(1, r)), like(1, r), r))


# ---------------------------------------------------------------- distances between rows
@op(method=False)
def cdist(x1: Node, x2: Node, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Node:
    """The p-norms of the differences of all rows: (..., P, M) and (..., R, M) to (..., P, R)."""
    for k, n in enumerate((x1, x2), 1):
        if n.dtype.category < FLOAT:
            raise explain(RuntimeError(f"cdist only supports floating-point dtypes, X{k} got: {scalar_type(n.dtype)}"),
                          hint="convert it first: x.float()")
    for k, n in enumerate((x1, x2), 1):
        if n.ndim < 2:
            raise explain(RuntimeError(f"cdist only supports at least 2D tensors, X{k} got: {n.ndim}D"))
    if x1.shape[-1] != x2.shape[-1]:
        raise explain(RuntimeError("X1 and X2 must have the same number of columns. X1: "
                                   f"{x1.shape[-1]} X2: {x2.shape[-1]}"))
    if p < 0:
        raise explain(RuntimeError("cdist only supports non-negative p values"))
    if x1.dtype is not x2.dtype:
        raise explain(RuntimeError(f"expected scalar type {scalar_type(x1.dtype)} but found {scalar_type(x2.dtype)}"))
    lead = broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    shape = (*lead, x1.shape[-2], x2.shape[-2], x1.shape[-1])
    a = spread(P.reshape(x1, (*x1.shape[:-1], 1, x1.shape[-1])), shape)
    b = spread(P.reshape(x2, (*x2.shape[:-2], 1, *x2.shape[-2:])), shape)
    if shape[-1] == 0:
        return full(0, shape[:-1], x1.dtype)
    return vector_norm(P.sub(a, b), float(p), (len(shape) - 1,))


@op(method=False, functional=True)
def pdist(input: Node, p: float = 2.0) -> Node:
    """The p-norms of the differences of each two rows, as a vector: (0, 1), (0, 2) ... (1, 2) ..."""
    if input.ndim != 2:
        raise explain(RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D"))
    if input.dtype.category < FLOAT:
        raise explain(RuntimeError("pdist only supports floating-point dtypes"), hint="convert it first: x.float()")
    if p < 0:
        raise explain(RuntimeError("pdist only supports non-negative p values"))
    n = input.shape[0]
    if n < 2:
        return full(0, (0,), input.dtype)
    rows = []
    for i in range(n - 1):
        others = slice_axis(input, 0, i + 1, n)
        d = P.sub(spread(slice_axis(input, 0, i, i + 1), others.shape), others)
        rows.append(vector_norm(d, float(p), (1,)) if input.shape[1] else full(0, d.shape[:1], d.dtype))
    return joined(tuple(rows), 0)
