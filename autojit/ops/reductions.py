"""Public ops that make axes vanish: sums, products, extremes, truth, counting, and the running ones.

In: nodes, `dim` as None, an int or a tuple, `keepdim`.  Out: nodes.  Never looks at values.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import BOOL, FLOAT, DType, bool_, int64
from ..errors import explain
from ..ir.aval import Shape
from ..ir.graph import Node
from ..ir.primitive import REGISTRY
from .checks import scalar_type
from .declare import P, cast, dim_of, dims_of, full, inexact, keepdims, op, truth, zeros_like
from .elementwise import like
from .movement import slice_axis

Dim = int | tuple[int, ...] | None


def finish(n: Node, axes: tuple[int, ...], shape: Shape, keepdim: bool) -> Node:
    """The reduced value, with its axes back as 1 if they are kept."""
    return keepdims(n, axes, shape) if keepdim else n


def count(shape: Shape, axes: tuple[int, ...]) -> int:
    """How many elements are reduced to one."""
    n = 1
    for i in axes:
        n *= shape[i]
    return n


def numbered(name: str) -> Any:
    """torch numbers the grad_fn by overload: 0 over everything, 1 over dims."""
    return lambda dim=None, *rest: f"{name}Backward{int(dim is not None)}"


def total(n: Node, dim: Dim, keepdim: bool) -> Node:
    axes = dims_of(dim, n.ndim)
    return finish(P.sum(n, axes), axes, n.shape, keepdim)


# ---------------------------------------------------------------- sums and products
@op("sum", grad=numbered("Sum"))
def sum_(input: Node, dim: Dim = None, keepdim: bool = False, dtype: DType | None = None) -> Node:
    """Sum over dims; integers and bools sum as int64."""
    d = dtype or (input.dtype if input.dtype.category >= FLOAT else int64)
    if d.category == BOOL:                               # torch: any, as bool
        return any_(input, dim, keepdim)
    return total(cast(input, d), dim, keepdim)


@op(grad=numbered("Mean"))
def mean(input: Node, dim: Dim = None, keepdim: bool = False, dtype: DType | None = None) -> Node:
    """Mean over dims; integers are refused unless a float dtype is given."""
    x = input if dtype is None else cast(input, dtype)
    if x.dtype.category < FLOAT:
        what = "Input dtype" if dtype is None else "Optional dtype"
        raise explain(RuntimeError(
            f"mean(): could not infer output dtype. {what} must be either a floating point or "
            f"complex dtype. Got: {scalar_type(x.dtype)}"), hint="convert it first: x.float().mean()")
    axes = dims_of(dim, x.ndim)
    out = P.sum(x, axes)
    return finish(P.div(out, like(count(x.shape, axes), out)), axes, x.shape, keepdim)


def _rule_of(primitive: str) -> Any:
    """The primitive's rule on the op's own result, so that it is that result which is read even where dims are kept."""
    def vjp(ct: Node, out: Node, input: Node, dim: Dim = None, keepdim: bool = False,
            dtype: DType | None = None) -> tuple[Node | None]:
        x = input if dtype is None else cast(input, dtype)
        if x.dtype.category < FLOAT:
            return (None,)
        axes = dims_of(dim, x.ndim)
        shape = tuple([s for i, s in enumerate(x.shape) if i not in axes])
        rule: Any = REGISTRY[primitive].vjp
        g, = rule(P.reshape(ct, shape), P.reshape(out, shape), x, axes)
        return (cast(g, input.dtype),)
    return vjp


@op(grad=numbered("Prod"), vjp=_rule_of("prod"))
def prod(input: Node, dim: int | None = None, keepdim: bool = False,
         dtype: DType | None = None) -> Node:
    """Product over everything or one dim; integers and bools multiply as int64."""
    d = dtype or (input.dtype if input.dtype.category >= FLOAT else int64)
    x = cast(input, d)
    axes = dims_of(dim, x.ndim)
    return finish(P.prod(x, axes), axes, x.shape, keepdim)


@op(grad="NansumBackward0")
def nansum(input: Node, dim: Dim = None, keepdim: bool = False, dtype: DType | None = None) -> Node:
    """Sum over dims with NaN as 0."""
    return sum_(_no_nan(input), dim, keepdim, dtype)


def _no_nan(n: Node) -> Node:
    return P.where(P.isnan(n), zeros_like(n), n) if n.dtype.category >= FLOAT else n


@op(grad="DivBackward0")
def nanmean(input: Node, dim: Dim = None, keepdim: bool = False, dtype: DType | None = None) -> Node:
    """Mean over dims of what is not NaN."""
    if input.dtype.category < FLOAT:
        raise explain(RuntimeError("nanmean(): expected input to have floating point or complex dtype "
                                   f"but got {scalar_type(input.dtype)}"))
    x = input if dtype is None else cast(input, dtype)
    present = P.bitwise_not(P.isnan(x))
    return P.div(total(_no_nan(x), dim, keepdim), total(cast(present, x.dtype), dim, keepdim))


# ---------------------------------------------------------------- extremes
def _full_reduction(name: str, input: Node) -> None:
    if input.aval.size == 0:
        raise explain(RuntimeError(f"{name}(): Expected reduction dim to be specified for "
                                   "input.numel() == 0. Specify the reduction dim with the 'dim' "
                                   "argument."))


def _nonempty(name: str, input: Node, axis: int) -> None:
    if input.shape and input.shape[axis] == 0:
        raise explain(IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size."))


@op("max", grad="MaxBackward1", variants={"dim": "max_dim", "other": "maximum"})
def max_(input: Node) -> Node:
    """The largest element; equal ones share the gradient."""
    _full_reduction("max", input)
    return P.max(input, tuple(range(input.ndim)))


@op("min", grad="MinBackward1", variants={"dim": "min_dim", "other": "minimum"})
def min_(input: Node) -> Node:
    """The smallest element; equal ones share the gradient."""
    _full_reduction("min", input)
    return P.min(input, tuple(range(input.ndim)))


def at_index(input: Node, index: Node, axis: int) -> Node:
    """The elements at one place each along an axis; the axis vanishes."""
    kept = P.reshape(index, (*index.shape[:axis], 1, *index.shape[axis:]))
    return P.reshape(P.gather(input, kept, axis), index.shape)


def _extreme_dim(name: str, input: Node, dim: int, keepdim: bool) -> tuple[Node, Node]:
    axis = dim_of(dim, input.ndim)
    if input.ndim == 0:
        return input, full(0, (), int64)
    _nonempty(name, input, axis)
    index = P.argmax(input, axis) if name == "max" else P.argmin(input, axis)
    value = at_index(input, index, axis)
    return (finish(value, (axis,), input.shape, keepdim), finish(index, (axis,), input.shape, keepdim))


@op(grad="MaxBackward0", returns=("values", "indices"), method=False, function=False)
def max_dim(input: Node, dim: int, keepdim: bool = False) -> tuple[Node, Node]:
    """The largest along one dim and where it stands; the gradient goes there alone."""
    return _extreme_dim("max", input, dim, keepdim)


@op(grad="MinBackward0", returns=("values", "indices"), method=False, function=False)
def min_dim(input: Node, dim: int, keepdim: bool = False) -> tuple[Node, Node]:
    """The smallest along one dim and where it stands; the gradient goes there alone."""
    return _extreme_dim("min", input, dim, keepdim)


def _extreme(name: str, input: Node, dim: Dim, keepdim: bool) -> Node:
    axes = dims_of(dim, input.ndim)
    if dim is None or dim == ():
        _full_reduction(name, input)
    for i in axes:
        _nonempty(name, input, i)
    out = P.max(input, axes) if name == "amax" else P.min(input, axes)
    return finish(out, axes, input.shape, keepdim)


@op(vjp=_rule_of("max"))
def amax(input: Node, dim: Dim = None, keepdim: bool = False) -> Node:
    """The largest over dims; equal ones share the gradient."""
    return _extreme("amax", input, dim, keepdim)


@op(vjp=_rule_of("min"))
def amin(input: Node, dim: Dim = None, keepdim: bool = False) -> Node:
    """The smallest over dims; equal ones share the gradient."""
    return _extreme("amin", input, dim, keepdim)


@op(returns=("min", "max"))
def aminmax(input: Node, dim: int | None = None, keepdim: bool = False) -> tuple[Node, Node]:
    """The smallest and the largest over everything or one dim."""
    if dim is None:
        _full_reduction("aminmax", input)
    return _extreme("amin", input, dim, keepdim), _extreme("amax", input, dim, keepdim)


def _arg(name: str, input: Node, dim: int | None, keepdim: bool) -> Node:
    if input.dtype.category == BOOL:
        raise explain(RuntimeError(f"{name}(): does not support bool input"), hint="convert it first: x.int()")
    if dim is None:
        if input.aval.size == 0:
            raise explain(IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0."))
        flat = P.reshape(input, (input.aval.size,))
        out = P.argmax(flat, 0) if name == "argmax" else P.argmin(flat, 0)
        return P.reshape(out, (1,) * input.ndim) if keepdim else out
    return _extreme_dim(name[3:], input, dim, keepdim)[1]


@op()
def argmax(input: Node, dim: int | None = None, keepdim: bool = False) -> Node:
    """Where the largest stands: in the flattened tensor, or along one dim."""
    return _arg("argmax", input, dim, keepdim)


@op()
def argmin(input: Node, dim: int | None = None, keepdim: bool = False) -> Node:
    """Where the smallest stands: in the flattened tensor, or along one dim."""
    return _arg("argmin", input, dim, keepdim)


# ---------------------------------------------------------------- truth and counting
def _truths(input: Node, dim: Dim, keepdim: bool, every: bool) -> Node:
    t = truth(input)
    axes = dims_of(dim, t.ndim)
    if count(t.shape, axes) == 0:
        shape = tuple([s for i, s in enumerate(t.shape) if i not in axes])
        out = full(every, shape, bool_)
    else:
        out = P.min(t, axes) if every else P.max(t, axes)
    return finish(out, axes, t.shape, keepdim)


@op("any")
def any_(input: Node, dim: Dim = None, keepdim: bool = False) -> Node:
    """True if any element is non-zero; NaN is."""
    return _truths(input, dim, keepdim, False)


@op("all")
def all_(input: Node, dim: Dim = None, keepdim: bool = False) -> Node:
    """True if every element is non-zero; NaN is."""
    return _truths(input, dim, keepdim, True)


@op()
def count_nonzero(input: Node, dim: Dim = None) -> Node:
    """How many elements are not zero, as int64."""
    return total(cast(truth(input), int64), dim, False)


# ---------------------------------------------------------------- running sums and their kin
def _running(input: Node, dim: int, dtype: DType | None) -> tuple[Node, int]:
    d = dtype or (input.dtype if input.dtype.category >= FLOAT else int64)
    return cast(input, d), dim_of(dim, input.ndim)


@op(inplace=True)
def cumsum(input: Node, dim: int, dtype: DType | None = None) -> Node:
    """The running sum along a dim; integers as int64."""
    x, axis = _running(input, dim, dtype)
    return P.cumsum(x, axis) if x.ndim else x


@op(inplace=True)
def cumprod(input: Node, dim: int, dtype: DType | None = None) -> Node:
    """The running product along a dim; integers as int64."""
    x, axis = _running(input, dim, dtype)
    return P.cumprod(x, axis) if x.ndim else x


@op()
def logcumsumexp(input: Node, dim: int) -> Node:
    """The logarithm of the running sum of exponentials, without overflow."""
    x, = inexact(input)
    axis = dim_of(dim, x.ndim)
    return P.logcumsumexp(x, axis) if x.ndim else x


def _cumulative(input: Node, dim: int, largest: bool) -> tuple[Node, Node]:
    axis = dim_of(dim, input.ndim)
    if input.ndim == 0:
        return input, full(0, (), int64)
    index = P.cumarg(input, axis, largest)
    return P.gather(input, index, axis), index


@op(returns=("values", "indices"))
def cummax(input: Node, dim: int) -> tuple[Node, Node]:
    """The largest so far along a dim, and where it stood last."""
    return _cumulative(input, dim, True)


@op(returns=("values", "indices"))
def cummin(input: Node, dim: int) -> tuple[Node, Node]:
    """The smallest so far along a dim, and where it stood last."""
    return _cumulative(input, dim, False)


@op(grad="SubBackward0")
def diff(input: Node, n: int = 1, dim: int = -1) -> Node:
    """Differences of neighbours along a dim, `n` times over."""
    axis = dim_of(dim, input.ndim)
    if input.ndim == 0:
        raise explain(RuntimeError("diff expects input to be at least one-dimensional"))
    x = input
    for _ in range(n):
        if x.shape[axis] == 0:
            break
        after, before = slice_axis(x, axis, 1, x.shape[axis]), slice_axis(x, axis, 0, x.shape[axis] - 1)
        x = P.bitwise_xor(after, before) if x.dtype.category == BOOL else P.sub(after, before)
    return x
