"""Public ops of arithmetic: operands promoted as torch promotes, broadcast, and handed to a primitive.

In: nodes (Python numbers come as 0-d nodes of the dtype that they weakly ask for) and static numbers.  Out: nodes.
Never looks at values.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import BOOL, FLOAT, INT, converted, default_float, finfo, float64, int64
from ..errors import explain
from ..ir.graph import Node
from .checks import c_type, floating, no_bool, same_dtype, scalar_type
from .declare import P, arith, broadcast, broadcast_shapes, cast, common_dtype, inexact, op, spread, unspread, zeros_like
from .elementwise import like, on, side

POWI_LIMIT = 8                     # beyond it repeated squaring loses more than pow does


def _alpha(alpha: Any, b: Node) -> Node:
    """`b` times the static factor of add and sub."""
    if alpha == 1:
        return b
    if isinstance(alpha, float) and b.dtype.category < FLOAT:
        raise explain(RuntimeError("For integral input tensors, argument alpha must not be a "
                                   "floating point number."))
    return P.mul(b, like(converted(alpha, b.dtype), b))


@op(inplace=True)
def add(input: Node, other: Node, alpha: float = 1) -> Node:
    """input + alpha * other."""
    a, b = arith(input, other)
    b = _alpha(alpha, b)
    return P.bitwise_or(a, b) if a.dtype.category == BOOL else P.add(a, b)


def _no_bool_sub(a: Node, b: Node) -> None:
    if a.dtype.category == BOOL == b.dtype.category:
        raise explain(RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
            "`logical_xor()` operator instead."))
    if a.dtype.category == BOOL or b.dtype.category == BOOL:
        raise explain(RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying "
            "to invert a mask, use the `~` or `logical_not()` operator instead."))


@op(inplace=True, aliases=("subtract",))
def sub(input: Node, other: Node, alpha: float = 1) -> Node:
    """input - alpha * other."""
    _no_bool_sub(input, other)
    a, b = arith(input, other)
    return P.sub(a, _alpha(alpha, b))


@op(grad_number="RsubBackward1", method=False)
def rsub(input: Node, other: Node, alpha: float = 1) -> Node:
    """other - alpha * input."""
    return sub(other, input, alpha)


@op(inplace=True, aliases=("multiply",))
def mul(input: Node, other: Node) -> Node:
    """input * other."""
    a, b = arith(input, other)
    return P.bitwise_and(a, b) if a.dtype.category == BOOL else P.mul(a, b)


def _div_name(rounding_mode: str | None = None) -> str:
    return "DivBackward0" if rounding_mode is None else "DivBackward2"


@op(inplace=True, aliases=("divide",), grad=_div_name)
def div(input: Node, other: Node, rounding_mode: str | None = None) -> Node:
    """input / other; integers become floats unless rounding_mode is 'floor' or 'trunc'."""
    if rounding_mode is None:
        return P.div(*inexact(input, other))
    if rounding_mode not in ("floor", "trunc"):
        raise explain(RuntimeError("div expected rounding_mode to be one of None, 'trunc', or "
                                   f"'floor' but found '{rounding_mode}'"))
    no_bool(f"div_{rounding_mode}_cpu", input, other)
    a, b = arith(input, other)
    return P.floor_divide(a, b) if rounding_mode == "floor" else P.trunc_divide(a, b)


@op(inplace=True, grad="DivBackward0")
def true_divide(input: Node, other: Node) -> Node:
    """input / other, in floating point."""
    return P.div(*inexact(input, other))


@op(inplace=True, grad="NotImplemented")
def floor_divide(input: Node, other: Node) -> Node:
    """The quotient rounded down, in the promoted dtype."""
    no_bool("div_floor_cpu", input, other)
    return P.floor_divide(*arith(input, other))


@op(inplace=True, grad="RemainderBackward1", grad_number="RemainderBackward0")
def remainder(input: Node, other: Node) -> Node:
    """input - other * floor(input / other): has the sign of `other`."""
    no_bool("remainder_cpu", input, other)
    return P.remainder(*arith(input, other))


@op(inplace=True, grad="FmodBackward1", grad_number="FmodBackward0")
def fmod(input: Node, other: Node) -> Node:
    """input - other * trunc(input / other): has the sign of `input`."""
    no_bool("fmod_cpu", input, other)
    return P.fmod(*arith(input, other))


# ---------------------------------------------------------------- powers
@op("pow", inplace=True, grad="PowBackward1",
    variants={"exponent": "pow_number", "input": "rpow"})
def pow_(input: Node, exponent: Node) -> Node:
    """input ** exponent, element by element."""
    a, b = arith(input, exponent)
    if a.dtype.category < FLOAT:
        no_bool("pow", a, b)
        return P.int_pow(a, b)
    return P.pow(a, b)


def power(a: Node, n: float) -> Node:
    """A float node to a number: the cheapest primitive that is exact at 0, -0, Inf and NaN."""
    if abs(n) <= POWI_LIMIT and n == int(n):              # False for NaN
        return P.powi(a, int(n))
    if abs(n) == 0.5:
        root = P.sqrt(a)
        return root if n > 0 else P.reciprocal(root)
    return P.pow(a, like(n, a))


def _vjp_pow_number(ct: Node, out: Node, input: Node, exponent: float) -> tuple[Node | None]:
    """Reads the input alone, as torch does: the primitive's rule for a root would read the output."""
    if exponent == 0 or input.dtype.category < FLOAT:
        return (None,)
    return (P.mul(ct, P.mul(like(exponent, input), power(input, exponent - 1))),)


@op(grad="PowBackward0", method=False, function=False, vjp=_vjp_pow_number)
def pow_number(input: Node, exponent: float) -> Node:
    """input ** exponent for a Python number: integer exponents multiply, and are exact at 0."""
    if input.dtype.category < FLOAT:
        if isinstance(exponent, float):
            return power(cast(input, default_float()), exponent)
        if exponent < 0:
            raise explain(RuntimeError("Integers to negative integer powers are not allowed."),
                          hint="use a float exponent or convert the tensor: x.float()")
        if input.dtype.category == INT:
            converted(exponent, input.dtype)
        return P.powi(cast(input, int64) if input.dtype.category == BOOL else input, exponent)
    return power(input, exponent)


@op(grad="PowBackward2", method=False, function=False)
def rpow(exponent: Node, input: Node) -> Node:
    """input ** exponent where `input` was a Python number."""
    return pow_(input, exponent)


def _vjp_square(ct: Node, out: Node, input: Node) -> tuple[Node]:
    return (P.mul(ct, P.mul(like(2, input), input)),)


@op(inplace=True, grad="PowBackward0")
def square(input: Node) -> Node:
    """input * input."""
    return pow_number(input, 2)


@op(inplace=True, grad="PowBackward1", variants={"exponent": "float_power_number"})
def float_power(input: Node, exponent: Node) -> Node:
    """input ** exponent in float64."""
    return pow_(cast(input, float64), cast(exponent, float64))


@op(grad="PowBackward0", method=False, function=False)
def float_power_number(input: Node, exponent: float) -> Node:
    """float_power for a Python number."""
    return power(cast(input, float64), exponent)


# ---------------------------------------------------------------- signs
@op(inplace=True, aliases=("negative",))
def neg(input: Node) -> Node:
    """-input."""
    if input.dtype.category == BOOL:
        raise explain(RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
            "invert a mask, use the `~` or `logical_not()` operator instead."))
    return P.neg(input)


@op(grad="AliasBackward0", view=True)
def positive(input: Node) -> Node:
    """+input: the tensor itself."""
    if input.dtype.category == BOOL:
        raise explain(RuntimeError("The `+` operator, on a bool tensor is not supported."))
    return input


@op("abs", inplace=True, aliases=("absolute",))
def abs_(input: Node) -> Node:
    """Magnitude; the derivative at 0 is 0."""
    no_bool("abs_cpu", input)
    return P.abs(input)


def _sign(n: Node) -> Node:
    if n.dtype.category == FLOAT:
        return side(n)
    return n if n.dtype.category == BOOL else P.sign(n)


@op(inplace=True)
def sign(input: Node) -> Node:
    """-1, 0 or 1; 0 for NaN."""
    return _sign(input)


@op(inplace=True)
def sgn(input: Node) -> Node:
    """-1, 0 or 1; 0 for NaN."""
    return _sign(input)


@op(inplace=True, grad_number="CopysignBackward1")
def copysign(input: Node, other: Node) -> Node:
    """The magnitude of `input` with the sign of `other` (-0.0 counts as negative)."""
    return P.copysign(*inexact(input, other))


# ---------------------------------------------------------------- larger, smaller, between
@op()
def maximum(input: Node, other: Node) -> Node:
    """The larger; NaN if either is; equal operands share the gradient."""
    return P.maximum(*arith(input, other))


@op()
def minimum(input: Node, other: Node) -> Node:
    """The smaller; NaN if either is; equal operands share the gradient."""
    return P.minimum(*arith(input, other))


def _or_nan(hit: Node, b: Node) -> Node:
    return P.bitwise_or(hit, P.isnan(b)) if b.dtype.category == FLOAT else hit


@op()
def fmax(input: Node, other: Node) -> Node:
    """The larger; a NaN loses against a number; equal operands give the gradient to `input`."""
    a, b = arith(input, other)
    return P.where(_or_nan(P.ge(a, b), b), a, b)


@op()
def fmin(input: Node, other: Node) -> Node:
    """The smaller; a NaN loses against a number; equal operands give the gradient to `input`."""
    a, b = arith(input, other)
    return P.where(_or_nan(P.le(a, b), b), a, b)


def _bounded(n: Node, bound: Node, lower: bool) -> Node:
    """`n` replaced by the bound where it lies beyond; a NaN stays, a NaN bound wins."""
    if n.dtype.category == FLOAT:
        bad = spread(P.isnan(bound), n.shape)
        bound = spread(bound, n.shape)
        beyond = P.bitwise_or(P.lt(n, bound) if lower else P.gt(n, bound), bad)
    else:
        bound = spread(bound, n.shape)
        beyond = P.lt(n, bound) if lower else P.gt(n, bound)
    return P.where(beyond, bound, n)


def _clamp_parts(input: Node, bounds: list[Node | None]) -> tuple[Node, list[Node | None]]:
    given = [b for b in bounds if b is not None]
    d = common_dtype(input, *given)
    shape = broadcast_shapes(input.shape, *[b.shape for b in given])
    return spread(cast(input, d), shape), [None if b is None else cast(b, d) for b in bounds]


def _vjp_clamp(ct: Node, out: Node, input: Node, min: Node | None = None, max: Node | None = None) -> tuple[Node | None, ...]:
    """Nothing passes where the input is NaN, as in torch."""
    n, (lo, hi) = _clamp_parts(input, [min, max])
    lo, hi = [None if b is None else spread(b, n.shape) for b in (lo, hi)]
    inside = [P.ge(n, lo)] if lo is not None else []
    if hi is not None:
        inside.append(P.le(n, hi))
    below = above = None
    if lo is not None:
        below = P.lt(n, lo) if hi is None else P.bitwise_and(P.lt(n, lo), P.lt(lo, hi))
    if hi is not None:
        above = P.gt(n, hi) if lo is None else P.bitwise_or(P.gt(n, hi), P.lt(hi, lo))
    both = inside[0] if len(inside) == 1 else P.bitwise_and(*inside)
    return tuple([None if t is None or m is None or t.dtype.category < FLOAT else unspread(on(m, ct), t)
                  for t, m in ((input, both), (min, below), (max, above))])


@op(inplace=True, grad_number="ClampBackward1", aliases=("clip",), vjp=_vjp_clamp)
def clamp(input: Node, min: Node | None = None, max: Node | None = None) -> Node:
    """input held between min and max; the gradient passes at the bounds; NaN stays."""
    if min is None and max is None:
        raise explain(RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None"))
    n, (lo, hi) = _clamp_parts(input, [min, max])
    if lo is not None:
        n = _bounded(n, lo, True)
    return n if hi is None else _bounded(n, hi, False)


def _vjp_clamp_min(ct: Node, out: Node, input: Node, min: Node) -> tuple[Node | None, ...]:
    return _vjp_clamp(ct, out, input, min)[:2]


def _vjp_clamp_max(ct: Node, out: Node, input: Node, max: Node) -> tuple[Node | None, ...]:
    return _vjp_clamp(ct, out, input, None, max)[::2]


@op(inplace=True, grad="ClampMinBackward1", grad_number="ClampMinBackward0", vjp=_vjp_clamp_min)
def clamp_min(input: Node, min: Node) -> Node:
    """input, at least min."""
    return clamp(input, min)


@op(inplace=True, grad="ClampMaxBackward1", grad_number="ClampMaxBackward0", vjp=_vjp_clamp_max)
def clamp_max(input: Node, max: Node) -> Node:
    """input, at most max."""
    return clamp(input, None, max)


# ---------------------------------------------------------------- mixtures
@op(method=False)                                         # x.where(condition, other) takes them in another order
def where(condition: Node, input: Node, other: Node) -> Node:
    """input where the condition holds, else other; no gradient reaches the side not taken."""
    if condition.dtype.category != BOOL:
        raise explain(RuntimeError("where expected condition to be a boolean tensor, but got a "
                                   f"tensor with dtype {scalar_type(condition.dtype)}"),
                      hint="write the condition as a comparison: where(x != 0, a, b)")
    d = common_dtype(input, other)
    shape = broadcast_shapes(condition.shape, input.shape, other.shape)
    return P.where(spread(condition, shape), spread(cast(input, d), shape),
                   spread(cast(other, d), shape))


@op(inplace=True, grad="MaskedFillBackward1", grad_number="MaskedFillBackward0")
def masked_fill(input: Node, mask: Node, value: Node) -> Node:
    """input with a number where the mask holds."""
    if mask.dtype.category != BOOL:
        raise explain(RuntimeError("masked_fill_ only supports boolean masks, but got mask with "
                                   f"dtype {c_type(mask.dtype)}"))
    if value.shape:
        raise explain(RuntimeError("masked_fill only supports a 0-dimensional value tensor, but got "
                                   f"tensor with {value.ndim} dimension(s)."))
    shape = broadcast_shapes(input.shape, mask.shape)
    return P.where(spread(mask, shape), spread(cast(value, input.dtype), shape),
                   spread(input, shape))


@op(inplace=True, grad="LerpBackward1", grad_number="LerpBackward0")
def lerp(input: Node, end: Node, weight: Node) -> Node:
    """input + weight * (end - input), exact at weight 1."""
    for name, n in (("end", end), ("weight", weight)):
        if n.dtype is not input.dtype and (n.shape or n is end):
            raise explain(RuntimeError(f"expected dtype {c_type(input.dtype)} for `{name}` but got dtype {c_type(n.dtype)}"))
    floating("lerp_kernel_scalar", input)
    a, b, w = broadcast(input, end, cast(weight, input.dtype))
    d = P.sub(b, a)
    near = P.lt(P.abs(w), like(0.5, w))
    return P.where(near, P.add(a, P.mul(w, d)), P.sub(b, P.mul(d, P.sub(like(1, w), w))))


@op(inplace=True)
def addcmul(input: Node, tensor1: Node, tensor2: Node, value: float = 1) -> Node:
    """input + value * tensor1 * tensor2."""
    a, b, c = arith(input, tensor1, tensor2)
    if a.dtype.category < FLOAT:
        value = int(value)                                # torch truncates it
    return P.add(a, P.mul(_alpha(value, b), c))


@op(inplace=True)
def addcdiv(input: Node, tensor1: Node, tensor2: Node, value: float = 1) -> Node:
    """input + value * tensor1 / tensor2."""
    a, b, c = arith(input, tensor1, tensor2)
    if a.dtype.category < FLOAT:
        raise explain(RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future release addcdiv "
            "will perform a true division of tensor1 and tensor2. The historic addcdiv behavior can "
            "be implemented as (input + value * torch.trunc(tensor1 / tensor2)).to(input.dtype) for "
            "integer inputs and as (input + value * tensor1 / tensor2) for float inputs. The future "
            "addcdiv behavior is just the latter implementation: (input + value * tensor1 / "
            "tensor2), for all dtypes."))
    return P.add(a, P.div(_alpha(value, b), c))


@op(inplace=True)
def nan_to_num(input: Node, nan: float | None = None, posinf: float | None = None,
               neginf: float | None = None) -> Node:
    """NaN and the infinities replaced; by 0 and the largest finite numbers if none are given."""
    if input.dtype.category < FLOAT:
        return input
    big = float(finfo(input.dtype).max)
    inf = float("inf")
    out = P.where(P.isnan(input), like(nan or 0.0, input), input)
    out = P.where(P.eq(input, like(inf, input)), like(big if posinf is None else posinf, input), out)
    return P.where(P.eq(input, like(-inf, input)),
                   like(-big if neginf is None else neginf, input), out)


@op(inplace=True)
def heaviside(input: Node, values: Node) -> Node:
    """0 below zero, `values` at zero, 1 above."""
    same_dtype("heaviside is not yet implemented for tensors with different dtypes.", input, values)
    a, v = arith(input, values)
    zero = zeros_like(a)
    return P.where(P.eq(a, zero), v, P.where(P.gt(a, zero), like(1, a), zero))

