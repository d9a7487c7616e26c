"""Public ops that bring tensors to a common scale or compare their directions.

In: float nodes, static shapes and eps.  Out: nodes.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import FLOAT, finfo
from ..errors import explain
from ..ir.graph import Node
from .checks import floating, same_dtype, scalar_type
from .declare import P, arith, back, cast, dim_of, dims_of, inexact, op, spread
from .elementwise import like
from .moments import vector_norm
from .reductions import Dim, count
from .shapes import Ints, ints


def _last(name: str, input: Node, normalized_shape: Ints) -> tuple[int, ...]:
    """The axes of the normalised shape, which must be the last ones."""
    shape = ints(normalized_shape)
    if not shape or input.shape[max(input.ndim - len(shape), 0):] != shape:
        raise explain(RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*, {', '.join(map(str, shape))}], but got input "
            f"of size{list(input.shape)}"))
    return tuple(range(input.ndim - len(shape), input.ndim))


def _scaled(n: Node, weight: Node | None, bias: Node | None) -> Node:
    if weight is not None:
        if weight.dtype is not n.dtype:
            raise explain(RuntimeError("mixed dtype (CPU): expect parameter to have scalar type of "
                                       f"{scalar_type(n.dtype)}"), hint="convert it: weight.to(x.dtype)")
        n = P.mul(n, spread(weight, n.shape))
    if bias is None:
        return n
    same_dtype("expected scalar type {0} but found {1}", n, bias)
    return P.add(n, spread(bias, n.shape))


def standardised(x: Node, axes: tuple[int, ...], eps: float) -> Node:
    """(x - mean) / sqrt(var + eps) over axes."""
    s = P.sum(x, axes)
    n = like(count(x.shape, axes), s)
    d = P.sub(x, back(P.div(s, n), axes, x.shape))
    v = P.div(P.sum(P.mul(d, d), axes), n)
    r = P.reciprocal(P.sqrt(P.add(v, like(eps, v))))
    return P.mul(d, back(r, axes, x.shape))


@op(method=False, functional=True, grad="NativeLayerNormBackward0")
def layer_norm(input: Node, normalized_shape: Ints, weight: Node | None = None, bias: Node | None = None,
               eps: float = 1e-05) -> Node:
    """input brought to mean 0 and variance 1 over its last dims, then scaled and moved."""
    floating("LayerNormKernelImpl", input)
    return _scaled(standardised(input, _last("layer_norm", input, normalized_shape), eps), weight, bias)


@op(method=False, functional=True, grad="MulBackward0")
def rms_norm(input: Node, normalized_shape: Ints, weight: Node | None = None, eps: float | None = None) -> Node:
    """input over its root mean square along its last dims."""
    floating("rms_norm", input)
    axes = _last("rms_norm", input, normalized_shape)
    small = float(finfo(input.dtype.weak).eps) if eps is None else eps
    s = P.sum(P.mul(input, input), axes)
    mean = P.div(s, like(count(input.shape, axes), s))
    r = P.reciprocal(P.sqrt(P.add(mean, like(small, mean))))
    out = P.mul(input, back(r, axes, input.shape))
    return out if weight is None else cast(P.mul(*arith(out, weight)), input.dtype)


def _channelwise(n: Any, x: Node) -> Any:
    return None if n is None else P.reshape(n, (1, x.shape[1], *(1,) * (x.ndim - 2)))


@op(method=False, functional=True, grad="NativeGroupNormBackward0")
def group_norm(input: Node, num_groups: int, weight: Node | None = None, bias: Node | None = None,
               eps: float = 1e-05) -> Node:
    """input brought to mean 0 and variance 1 over groups of channels (axis 1)."""
    if input.ndim < 2:
        raise explain(RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}"))
    n, c = input.shape[:2]
    if c % num_groups:
        raise explain(RuntimeError(f"Expected number of channels in input to be divisible by num_groups, but got input of "
                                   f"shape {list(input.shape)} and num_groups={num_groups}"))
    grouped = P.reshape(input, (n, num_groups, c // num_groups, *input.shape[2:]))
    out = P.reshape(standardised(grouped, tuple(range(2, grouped.ndim)), eps), input.shape)
    return _scaled(out, _channelwise(weight, input), _channelwise(bias, input))


def _one_a_channel(x: Node, **given: Node | None) -> None:
    """Statistics and parameters have an element for each channel.  RuntimeError in torch's words."""
    for name, n in given.items():
        if n is not None and n.shape != (x.shape[1],):
            raise explain(RuntimeError(f"{name} should contain {x.shape[1]} elements not {n.aval.size}"))


@op(method=False, function=False, functional=True, grad="NativeBatchNormBackward0")
def batch_norm(input: Node, running_mean: Node | None = None, running_var: Node | None = None, weight: Node | None = None,
               bias: Node | None = None, training: bool = False, eps: float = 1e-05) -> Node:
    """input brought to mean 0 and variance 1 in each channel (axis 1): by its own statistics when training, else by the given
    ones.  The statistics themselves are the face's affair."""
    if input.ndim < 2:
        raise explain(RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}"))
    floating("batch_norm", input)
    _one_a_channel(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if training:
        out = standardised(input, (0, *range(2, input.ndim)), eps)
    elif running_mean is None or running_var is None:
        raise explain(RuntimeError("Expected running_mean and running_var to be defined when training=False"))
    else:
        mean, var = cast(running_mean, input.dtype), cast(running_var, input.dtype)
        r = P.reciprocal(P.sqrt(P.add(var, like(eps, var))))
        out = P.mul(P.sub(input, spread(_channelwise(mean, input), input.shape)), spread(_channelwise(r, input), input.shape))
    return _scaled(out, _channelwise(weight, input), _channelwise(bias, input))


@op(method=False, function=False, functional=True, grad="ViewBackward0")
def instance_norm(input: Node, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-05) -> Node:
    """input brought to mean 0 and variance 1 in each channel (axis 1) of each example."""
    if input.ndim < 3:
        raise explain(RuntimeError(f"Expected at least 3 dimensions for input tensor but received {input.ndim}"))
    floating("batch_norm", input)
    _one_a_channel(input, weight=weight, bias=bias)
    out = standardised(input, tuple(range(2, input.ndim)), eps)
    return _scaled(out, _channelwise(weight, input), _channelwise(bias, input))


@op(method=False, function=False, functional=True, grad="DivBackward0")
def normalize(input: Node, p: float = 2.0, dim: Dim = 1, eps: float = 1e-12) -> Node:
    """input over its p-norm along a dim (at least eps)."""
    if input.dtype.category < FLOAT:
        raise explain(RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
                                   f"{scalar_type(input.dtype)}"), hint="convert it first: x.float()")
    axes = dims_of(dim, input.ndim)
    n = vector_norm(input, float(p), axes)
    low = like(eps, n)
    return P.div(input, back(P.where(P.lt(n, low), low, n), axes, input.shape))


def _length(n: Node, axes: tuple[int, ...], eps: float) -> Node:
    s = vector_norm(n, 2.0, axes)
    low = like(eps, s)
    return P.where(P.lt(s, low), low, s)


@op(method=False, functional=True, grad="SumBackward1")
def cosine_similarity(x1: Node, x2: Node, dim: int = 1, eps: float = 1e-08) -> Node:
    """The cosine of the angle between vectors along a dim; lengths are at least eps."""
    a, b = arith(x1, x2)
    if a.dtype.category < FLOAT:
        raise explain(RuntimeError("expected common dtype to be floating point, yet common dtype is "
                                   f"{scalar_type(a.dtype)}"), hint="convert them first: x.float()")
    axes = (dim_of(dim, a.ndim),) if a.ndim else ()
    u = P.div(a, back(_length(a, axes, eps), axes, a.shape))
    v = P.div(b, back(_length(b, axes, eps), axes, b.shape))
    return P.sum(P.mul(u, v), axes)


@op(method=False, functional=True, grad="NormBackward1")
def pairwise_distance(x1: Node, x2: Node, p: float = 2.0, eps: float = 1e-06, keepdim: bool = False) -> Node:
    """The p-norm of x1 - x2 + eps over the last dim."""
    a, b = inexact(x1, x2)
    d = P.add(P.sub(a, b), like(eps, a))
    axes = (d.ndim - 1,)
    out = vector_norm(d, float(p), axes)
    return P.reshape(out, (*out.shape, 1)) if keepdim else out


@op(grad="DistBackward0")
def dist(input: Node, other: Node, p: float = 2.0) -> Node:
    """The p-norm of input - other."""
    d = P.sub(*arith(input, other))
    if d.dtype.category < FLOAT:
        raise explain(RuntimeError("norm(): input dtype should be either floating point or complex. Got "
                                   f"{scalar_type(d.dtype)} instead."), hint="convert them first: x.float()")
    return vector_norm(d, float(p), tuple(range(d.ndim)))
