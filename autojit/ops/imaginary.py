"""Public ops of complex numbers, and what all other public ops do with them.

In: nodes.  Out: nodes.  An op takes complex tensors if it stands in `ADMITTED` (then its own text is meant: the primitives know
complex operands) or in `RULES` (where the function differs).  All others refuse them by name: a formula for real numbers would
give a wrong number in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..dtypes import FLOAT, complex128
from ..errors import explain
from ..ir.graph import Node
from .analytic import angle as direction
from .checks import scalar_type
from .complexes import conj as conjugate
from .complexes import im, is_complex, pair, re
from .declare import OPS, P, broadcast, cast, hooks, inexact, op, zeros_like
from .elementwise import like
from .index import swap


# ---------------------------------------------------------------- parts
@op(grad="SelectBackward0", view=True, method=False)
def real(input: Node) -> Node:
    """The real part, in the same memory; a real tensor itself."""
    return P.real(input) if is_complex(input) else input


@op(grad="SelectBackward0", view=True, method=False)
def imag(input: Node) -> Node:
    """The imaginary part, in the same memory.  Complex tensors only."""
    if not is_complex(input):
        raise explain(RuntimeError("imag is not implemented for tensors with non-complex dtypes."))
    return P.imag(input)


@op(view=True, method=False)
def view_as_real(input: Node) -> Node:
    """The same memory as real numbers: the parts lie along a new last dimension of 2."""
    if not is_complex(input):
        raise explain(RuntimeError("view_as_real is only supported for complex tensors"))
    return P.as_real(input)


@op(view=True, method=False)
def view_as_complex(input: Node) -> Node:
    """The same memory as complex numbers, whose parts lie along the last dimension."""
    if input.dtype.category != FLOAT or input.dtype.half:
        raise explain(RuntimeError("view_as_complex is only supported for half, float and double tensors, but got a tensor of "
                                   f"scalar type: {scalar_type(input.dtype)}"))
    if not input.shape:
        raise explain(RuntimeError("Input tensor must have one or more dimensions"))
    return P.as_complex(input)


def _floats(a: Node, b: Node) -> tuple[Node, Node]:
    if any([n.dtype.category != FLOAT or n.dtype.half for n in (a, b)]):
        raise explain(RuntimeError("Expected both inputs to be Half, Float or Double tensors but got "
                                   f"{scalar_type(a.dtype)} and {scalar_type(b.dtype)}"))
    if a.dtype is not b.dtype:
        raise explain(RuntimeError(f"Expected object of scalar type {scalar_type(a.dtype)} but got scalar type "
                                   f"{scalar_type(b.dtype)} for second argument"))
    x, y = broadcast(a, b)
    return x, y


@op("complex", method=False)
def complex_(real: Node, imag: Node) -> Node:
    """real + imag * i, of two floating tensors of one dtype."""
    return pair(*_floats(real, imag))


@op(method=False)
def polar(abs: Node, angle: Node) -> Node:
    """abs * (cos(angle) + i sin(angle))."""
    r, a = _floats(abs, angle)
    return pair(P.mul(r, P.cos(a)), P.mul(r, P.sin(a)))


@op()
def conj(input: Node) -> Node:
    """The imaginary part with its sign turned."""
    return conjugate(input)


@op(grad="ConjPhysicalBackward0", inplace=True)
def conj_physical(input: Node) -> Node:
    """The imaginary part with its sign turned."""
    return conjugate(input)


@op()
def angle(input: Node) -> Node:
    """The argument of a complex number; of a real one 0, or pi if it is negative."""
    if is_complex(input):
        return direction(input)
    (x,) = inexact(input)
    flat = P.where(P.lt(x, zeros_like(x)), like(math.pi, x), zeros_like(x))
    return P.where(P.isnan(x), x, flat)


@op()
def isreal(input: Node) -> Node:
    """Where the imaginary part is 0."""
    return P.eq(im(input), zeros_like(im(input)))


# ---------------------------------------------------------------- ops whose function differs
def _vdot(input: Node, other: Node) -> Node:
    return OPS["dot"].fn(conjugate(input), other)         # type: ignore[no-any-return]


def _spread_of(input: Node, dim: Any = None, *rest: Any, **words: Any) -> Node:
    """The variance: of the real parts and of the imaginary ones."""
    var = OPS["var"].fn
    return P.add(var(re(input), dim, *rest, **words), var(im(input), dim, *rest, **words))


def _finite(test: str, both: str) -> Callable[[Node], Node]:
    def f(input: Node) -> Node:
        x, y = [OPS[test].fn(n) for n in (re(input), im(input))]
        return getattr(P, both)(x, y)  # type: ignore[no-any-return]
    return f


def _isclose(input: Node, other: Node, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Node:
    a, b = broadcast(input, other)
    gap, room = P.abs(P.sub(a, b)), P.abs(b)
    room = P.add(like(atol, room), P.mul(like(rtol, room), room))
    near = P.bitwise_and(P.le(gap, room), P.lt(gap, like(math.inf, gap)))
    same = P.bitwise_or(P.eq(a, b), P.bitwise_and(P.isnan(a), P.isnan(b))) if equal_nan else P.eq(a, b)
    return P.bitwise_or(same, near)


def _rsqrt(input: Node) -> Node:
    return P.reciprocal(P.sqrt(input))


def _div(input: Node, other: Node, rounding_mode: str | None = None) -> Node:
    if rounding_mode is not None:
        raise explain(NotImplementedError(f'"div_{rounding_mode}_cpu" not implemented for '
                                          f"'{scalar_type(next(n.dtype for n in (input, other) if is_complex(n)))}'"))
    return P.div(*inexact(input, other))


def _linear(input: Node, weight: Node, bias: Node | None = None) -> Node:
    out: Node = OPS["matmul"].fn(input, swap(weight) if weight.ndim == 2 else weight)
    return out if bias is None else OPS["add"].fn(out, bias)  # type: ignore[no-any-return]


def _by_size(name: str) -> Callable[..., Any]:
    """Norms look at magnitudes, but for those of singular values."""
    def f(input: Node, ord: Any = 2, dim: Any = None, *rest: Any) -> Any:
        planar = name == "linalg_norm" and (input.ndim == 2 if dim is None else not isinstance(dim, int) and len(dim) == 2)
        if ord == "nuc" or planar and ord in (2, -2):
            raise explain(NotImplementedError(f"\"linalg_svd_cpu\" not implemented for '{scalar_type(input.dtype)}'"))
        return OPS[name].fn(P.abs(input), ord, dim, *rest)
    return f


def _float_power(input: Node, exponent: Any) -> Node:
    power: Node = OPS["pow"].fn(cast(input, complex128), cast(exponent, complex128))
    return power


RULES: dict[str, Callable[..., Any]] = {
    "vdot": _vdot, "linalg_vecdot": lambda x, y, dim=-1: P.sum(P.mul(conjugate(x), y), (dim % x.ndim,)),
    "var": _spread_of, "std": lambda *a, **k: P.sqrt(_spread_of(*a, **k)), "isclose": _isclose, "rsqrt": _rsqrt,
    "isfinite": _finite("isfinite", "bitwise_and"), "isinf": _finite("isinf", "bitwise_or"), "div": _div, "linear": _linear,
    "float_power": _float_power,
    "float_power_number": lambda input, exponent: OPS["pow_number"].fn(cast(input, complex128), exponent),
    **{name: _by_size(name) for name in ("norm", "linalg_vector_norm", "linalg_norm")},
}

ADMITTED = frozenset("""
real imag view_as_real view_as_complex complex conj conj_physical angle isreal
add sub rsub mul true_divide pow pow_number rpow square neg positive abs sgn where masked_fill addcmul addcdiv
sqrt reciprocal exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid isnan
eq ne logical_and logical_or logical_xor logical_not
sum mean prod cumsum all any count_nonzero diff
reshape view view_as reshape_as ravel flatten unflatten squeeze unsqueeze atleast_1d atleast_2d atleast_3d expand broadcast_to
expand_as permute transpose swapaxes t T mT movedim select narrow diagonal
cat stack hstack vstack dstack column_stack block_diag repeat tile repeat_interleave flip fliplr flipud roll rot90 meshgrid
broadcast_tensors cartesian_prod split chunk tensor_split hsplit vsplit dsplit unbind
mm bmm mv dot matmul addmm addmv addr addbmm baddbmm outer inner kron einsum tensordot linalg_multi_dot linalg_matrix_power
tril triu trace diag_embed diag diagflat linalg_diagonal linalg_eig linalg_eigvals
gather scatter scatter_value scatter_add take take_along_dim index_select index_add index_copy unfold masked_scatter
getitem setitem index index_put select_scatter slice_scatter diagonal_scatter
nanmean
""".split())

_WORDS: dict[str, tuple[type[Exception], str]] = {
    **{name: (RuntimeError, f"{word} not implemented for complex tensors.") for name, word in
       (("maximum", "maximum"), ("minimum", "minimum"), ("fmax", "fmax"), ("fmin", "fmin"))},
    **{name: (NotImplementedError, "clamp is not supported for complex types")
       for name in ("clamp", "clamp_min", "clamp_max", "relu")},
    **{name: (NotImplementedError, f"{name} is not supported for complex inputs") for name in ("floor", "ceil", "trunc")},
    **{name: (RuntimeError, f"{word}(): does not support complex input") for name, word in
       (("max_dim", "max"), ("min_dim", "min"), ("argmax", "argmax"), ("argmin", "argmin"))},
    **{name: (RuntimeError, " Sort does not support complex dtypes on CPU") for name in ("sort", "argsort", "msort")},
    "nansum": (RuntimeError, "nansum on CPU does not support complex inputs"),
    "topk": (RuntimeError, " topk does not support complex dtypes on CPU"),
    "sign": (NotImplementedError, "Unlike NumPy, torch.sign is not intended to support complex numbers. Please use "
                                  "torch.sgn instead."),
}
_KERNELS = {**{name: f"{name}_cpu" for name in "lt le gt ge atan2 fmod remainder bitwise_and bitwise_or bitwise_xor median "
               "cummax cummin".split()},
            "floor_divide": "div_floor_cpu", "max": "max_all", "min": "min_all", "amax": "max_values_cpu",
            "amin": "min_values_cpu", "round": "round_vml_cpu", "erf": "erf_vml_cpu"}


def of_complex(o: Any) -> Callable[..., Any]:
    """What an op does with complex arguments."""
    rule = RULES.get(o.name)
    if rule is not None:
        return rule
    if o.name in ADMITTED or o.name.startswith("fft_"):
        return o.fn  # type: ignore[no-any-return]

    def refuse(*args: Any) -> Any:
        kind, words = _WORDS.get(o.name, (NotImplementedError, ""))
        if not words:
            flat = [n for a in args for n in (a if isinstance(a, tuple) else (a,)) if type(n) is Node and is_complex(n)]
            words = f'"{_KERNELS.get(o.name, o.name)}" not implemented for \'{scalar_type(flat[0].dtype)}\''
        raise explain(kind(words), hint="it is defined for real numbers: see x.real, x.imag, x.abs()")
    return refuse


hooks["complex"] = of_complex
