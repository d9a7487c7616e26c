"""Public ops of neural networks that work element by element.

In: float nodes and static numbers.  Out: nodes.  Written so that the primitives' rules give torch's subgradients at the kinks.
"""

from __future__ import annotations

import math

from ..dtypes import BOOL
from ..errors import explain
from ..ir.graph import Node
from .checks import floating, same_dtype
from .declare import P, dim_of, inexact, op, spread, zeros_like
from .elementwise import like
from .movement import slice_axis

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@op(inplace=True, functional=True)
def relu(input: Node) -> Node:
    """input where positive, else 0; the derivative at 0 is 0."""
    if input.dtype.category == BOOL:
        raise explain(RuntimeError("Boolean inputs not supported for relu"))
    return P.relu(input)


def _between(x: Node, lo: float, hi: float) -> Node:
    """`x` held between two numbers, with derivative 0 at both; NaN stays."""
    a, b = like(lo, x), like(hi, x)
    return P.where(P.le(x, a), a, P.where(P.ge(x, b), b, x))


@op(method=False, function=False, functional=True)
def hardtanh(input: Node, min_val: float = -1.0, max_val: float = 1.0) -> Node:
    """input held between min_val and max_val; the derivative at both is 0."""
    if min_val > max_val:
        raise explain(ValueError("min_val cannot be greater than max_val"))
    return _between(input, min_val, max_val)


@op(method=False, function=False, functional=True, grad="HardtanhBackward0")
def relu6(input: Node) -> Node:
    """input held between 0 and 6."""
    return _between(input, 0.0, 6.0)


@op(method=False, function=False, functional=True)
def hardsigmoid(input: Node) -> Node:
    """(input + 3) / 6 held between 0 and 1."""
    floating("hardsigmoid_cpu", input)
    x = P.add(input, like(3, input))
    return P.div(_between(x, 0.0, 6.0), like(6, x))


@op(method=False, function=False, functional=True)
def hardswish(input: Node) -> Node:
    """input * (input + 3) / 6 between -3 and 3, 0 below, input above."""
    floating("hardswish_cpu", input)
    x, three = input, like(3, input)
    curve = P.div(P.mul(x, P.add(x, three)), like(6, x))
    return P.where(P.le(x, like(-3, x)), zeros_like(x), P.where(P.ge(x, three), x, curve))


@op(method=False, function=False, functional=True)
def leaky_relu(input: Node, negative_slope: float = 0.01) -> Node:
    """input where positive, else negative_slope * input."""
    floating("leaky_relu_cpu", input)
    return P.where(P.gt(input, zeros_like(input)), input, P.mul(input, like(negative_slope, input)))


def _prelu_shape(input: Node, weight: Node) -> tuple[int, ...]:
    if weight.aval.size == 1:
        return (1,) * input.ndim
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim != 1 or weight.shape[0] != channels:
        raise explain(RuntimeError("Mismatch of parameter numbers and input channel size. Found "
                                   f"parameter numbers = {weight.aval.size} and channel size = "
                                   f"{channels}."))
    return tuple([channels if i == 1 else 1 for i in range(input.ndim)])


@op(grad="PreluKernelBackward0", functional=True)
def prelu(input: Node, weight: Node) -> Node:
    """input where positive, else weight * input; one weight, or one a channel (axis 1)."""
    same_dtype("prelu: Type promoting not supported. Got {0} and {1}", input, weight)
    w = spread(P.reshape(weight, _prelu_shape(input, weight)), input.shape)
    return P.where(P.gt(input, zeros_like(input)), input, P.mul(w, input))


@op(method=False, functional=True)
def threshold(input: Node, threshold: float, value: float) -> Node:
    """input where above the threshold, else value."""
    return P.where(P.le(input, like(threshold, input)), like(value, input), input)


@op(functional=True)
def hardshrink(input: Node, lambd: float = 0.5) -> Node:
    """0 where |input| <= lambd, else input."""
    floating("hardshrink_cpu", input)
    inside = P.bitwise_and(P.ge(input, like(-lambd, input)), P.le(input, like(lambd, input)))
    return P.where(inside, zeros_like(input), input)


@op(functional=True, method=False, function=False)
def softshrink(input: Node, lambd: float = 0.5) -> Node:
    """input moved towards 0 by lambd, and 0 where it would pass it."""
    floating("softshrink_cpu", input)
    x, c = input, like(lambd, input)
    up = P.where(P.lt(x, P.neg(c)), P.add(x, c), P.mul(x, zeros_like(x)))
    return P.where(P.gt(x, c), P.sub(x, c), up)


# ---------------------------------------------------------------- smooth ones
@op(method=False, function=False, functional=True)
def softplus(input: Node, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """log(1 + exp(beta * input)) / beta, and input where beta * input is above the threshold."""
    floating("softplus_cpu", input)
    if beta == 1:
        soft, scaled = P.softplus(input), input
    else:
        scaled = P.mul(input, like(beta, input))
        soft = P.div(P.softplus(scaled), like(beta, input))
    return P.where(P.gt(scaled, like(threshold, input)), input, soft)


@op(method=False, function=False, functional=True, grad="LogSigmoidBackward0")
def logsigmoid(input: Node) -> Node:
    """log(sigmoid(input)), exact on both sides."""
    floating("log_sigmoid_cpu", input)
    return P.neg(P.softplus(P.neg(input)))


@op(method=False, function=False, functional=True)
def silu(input: Node) -> Node:
    """input * sigmoid(input)."""
    floating("silu_cpu", input)
    return P.mul(input, P.sigmoid(input))


@op(method=False, function=False, functional=True)
def mish(input: Node) -> Node:
    """input * tanh(softplus(input))."""
    floating("mish_cpu", input)
    return P.mul(input, P.tanh(P.softplus(input)))


@op(method=False, function=False, functional=True)
def gelu(input: Node, approximate: str = "none") -> Node:
    """input times the normal distribution function; 'tanh' gives the usual approximation."""
    floating("GeluKernelImpl", input)
    x = input
    half = like(0.5, x)
    if approximate == "none":
        inner = P.erf(P.mul(x, like(math.sqrt(0.5), x)))
    elif approximate == "tanh":
        cube = P.mul(like(0.044715, x), P.mul(x, P.mul(x, x)))
        inner = P.tanh(P.mul(like(math.sqrt(2 / math.pi), x), P.add(x, cube)))
    else:
        raise explain(RuntimeError("approximate argument must be either none or tanh."))
    return P.mul(P.mul(half, x), P.add(like(1, x), inner))


def _elu(x: Node, alpha: float, scale: float, inner: float) -> Node:
    up = x if scale == 1 else P.mul(like(scale, x), x)
    below = P.mul(like(alpha * scale, x), P.expm1(x if inner == 1 else P.mul(x, like(inner, x))))
    return P.where(P.gt(x, zeros_like(x)), up, below)


@op(method=False, function=False, functional=True)
def elu(input: Node, alpha: float = 1.0) -> Node:
    """input where positive, else alpha * (exp(input) - 1)."""
    floating("elu_cpu", input)
    return _elu(input, alpha, 1.0, 1.0)


@op(grad="EluBackward0", functional=True, method=False)
def selu(input: Node) -> Node:
    """elu with the scale and alpha that keep mean and variance."""
    floating("elu_cpu", input)
    return _elu(input, SELU_ALPHA, SELU_SCALE, 1.0)


@op(functional=True, method=False)
def celu(input: Node, alpha: float = 1.0) -> Node:
    """input where positive, else alpha * (exp(input / alpha) - 1)."""
    if alpha == 0:
        raise explain(RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU"))
    floating("elu_cpu", input)
    return _elu(input, alpha, 1.0, 1.0 / alpha)


@op(method=False, function=False, functional=True, grad="DivBackward0")
def softsign(input: Node) -> Node:
    """input / (1 + |input|)."""
    one = P.add(P.abs(input), like(1, input))
    return P.div(*inexact(input, one))


@op(method=False, function=False, functional=True, grad="SubBackward0")
def tanhshrink(input: Node) -> Node:
    """input - tanh(input)."""
    x, = inexact(input)
    return P.sub(x, P.tanh(x))


@op(method=False, function=False, functional=True)
def glu(input: Node, dim: int = -1) -> Node:
    """The first half along `dim` times the sigmoid of the second."""
    if input.ndim == 0:
        raise explain(RuntimeError("glu does not support 0-dimensional tensors"))
    axis = dim_of(dim, input.ndim)
    n = input.shape[axis]
    if n % 2:
        raise explain(RuntimeError(f"Halving dimension must be even, but dimension {axis} is size {n}"))
    floating("glu_cpu", input)
    a = slice_axis(input, axis, 0, n // 2)
    return P.mul(a, P.sigmoid(slice_axis(input, axis, n // 2, n)))
