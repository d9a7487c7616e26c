"""Discrete Fourier transforms: three primitives over real memory, and torch.fft's functions made of them.

In: nodes, real or complex.  Out: nodes.  The primitives see complex numbers as pairs along a last axis of 2, transform the
axis before it, and are linear; each one's transpose is another of them, so that derivatives of all orders close.  Other axes
are moved there; shorter and longer transforms are slices and zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import FLOAT, default_float
from ..errors import explain
from ..ir.aval import Aval, aval
from ..ir.graph import Node
from ..ir.primitive import HOST
from .checks import scalar_type
from .complexes import conj, is_complex
from .declare import P, cast, dim_of, full, op, primitive
from .movement import slice_axis

Ints = tuple[int, ...]


# ---------------------------------------------------------------- primitives
def _pairs(a: Aval) -> Aval:
    if len(a.shape) < 2 or a.shape[-1] != 2 or a.shape[-2] < 1 or a.dtype.category != FLOAT or a.dtype.half:
        raise TypeError(f"needs pairs of float32 or float64 along its last axis, got {a}")
    return a


def _half(a: Aval) -> Aval:
    if not a.shape or a.shape[-1] < 1 or a.dtype.category != FLOAT or a.dtype.half:
        raise TypeError(f"needs float32 or float64, got {a}")
    return aval((*a.shape[:-1], a.shape[-1] // 2 + 1, 2), a.dtype, a.device)


def _whole(a: Aval, n: int) -> Aval:
    _pairs(a)
    if a.shape[-2] != n // 2 + 1:
        raise TypeError(f"half a spectrum of {n} has {n // 2 + 1} places, got {a}")
    return aval((*a.shape[:-2], n), a.dtype, a.device)


def _seen(a: Any) -> Any:
    """Pairs as complex numbers."""
    return np.ascontiguousarray(a).view(np.result_type(a.dtype, np.complex64))[..., 0]


def _laid(z: Any, scale: float, like: Any) -> Any:
    """Numbers as pairs, scaled, in the dtype of the operand."""
    z = z * like.dtype.type(scale) if scale != 1 else z
    if z.dtype.kind != "c":
        return z.astype(like.dtype, copy=False)
    z = np.ascontiguousarray(z, np.result_type(like.dtype, np.complex64))
    return z.view(like.dtype).reshape(*z.shape, 2)


def _dft_ref(a: Any, inverse: bool, scale: float) -> Any:
    z = _seen(a)
    return _laid(np.fft.ifft(z, norm="forward") if inverse else np.fft.fft(z), scale, a)


def _irdft_ref(a: Any, n: int, scale: float) -> Any:
    return _laid(np.fft.irfft(_seen(a), n, norm="forward"), scale, a)


def _weighted(half: Node, n: int, middle: float) -> Node:
    """Half a spectrum whose places that stand for two are weighted."""
    m = half.shape[-2]
    ones = full(1, half.shape, half.dtype)
    inner = slice_axis(full(middle, half.shape, half.dtype), half.ndim - 2, 1, (n + 1) // 2)
    starts = tuple([int(k == half.ndim - 2) for k in range(half.ndim)])
    weights = P.update(ones, inner, starts, (1,) * half.ndim) if m > 1 and n > 2 else ones
    return P.mul(half, weights)


primitive("dft", HOST, lambda a, inverse, scale: _pairs(a), _dft_ref,
          lambda ct, out, a, inverse, scale: (P.dft(ct, not inverse, scale),), linear=True,
          doc="Pairs (re, im): the sum over k of a[k] exp(-2 pi i j k / n) (+ if inverse), times a number.")
primitive("rdft", HOST, lambda a, scale: _half(a), lambda a, scale: _laid(np.fft.rfft(a), scale, a),
          lambda ct, out, a, scale: (P.irdft(_weighted(ct, a.shape[-1], 0.5), a.shape[-1], scale),), linear=True,
          doc="The first n // 2 + 1 places of the transform of real numbers, as pairs, times a number.")
primitive("irdft", HOST, lambda a, n, scale: _whole(a, n), _irdft_ref,
          lambda ct, out, a, n, scale: (_weighted(P.rdft(ct, scale), n, 2.0),), linear=True,
          doc="The real numbers, n of them, whose rdft is given, times n and a number.")


# ---------------------------------------------------------------- one axis
def _scale(norm: str | None, n: int, inverse: bool) -> float:
    if norm not in (None, "backward", "ortho", "forward"):
        raise explain(RuntimeError(f'Invalid normalization mode: "{norm}"'))
    if norm == "ortho":
        return 1 / math.sqrt(n)
    return 1 / n if inverse == (norm != "forward") else 1.0


def _numbers(name: str, input: Node, real: bool = False) -> Node:
    """The operand in a dtype that is transformed.  RuntimeError in torch's words for others."""
    if real and is_complex(input):
        kind = "real-valued" if name[-1] in "2n" else "real"
        raise explain(RuntimeError(f"{name} expects a {kind} input tensor, but got {scalar_type(input.dtype)}"))
    if input.dtype.half:
        raise explain(RuntimeError(f"Unsupported dtype {scalar_type(input.dtype)}"), hint="convert it first: x.float()")
    if input.dtype.category >= FLOAT:
        return input
    d = default_float()
    return cast(input, d.weak)


def _axis(input: Node, dim: int) -> int:
    if not input.ndim:
        raise explain(IndexError(f"Dimension specified as {dim} but tensor has no dimensions"))
    return dim_of(dim, input.ndim)


def _points(n: int) -> int:
    if n < 1:
        raise explain(RuntimeError(f"Invalid number of data points ({n}) specified"))
    return n


def _fitted(input: Node, axis: int, n: int) -> Node:
    """The axis cut to n places, or filled up with zeros."""
    m = input.shape[axis]
    if m > n:
        return slice_axis(input, axis, 0, n)
    if m == n:
        return input
    shape = tuple([n if k == axis else s for k, s in enumerate(input.shape)])
    return P.pad(input, (0,) * input.ndim, shape, (1,) * input.ndim)


def _last(input: Node, axis: int) -> Node:
    """The axis moved to the end; the same moves it back from there (`_home`)."""
    if axis == input.ndim - 1:
        return input
    return P.permute(input, (*[k for k in range(input.ndim) if k != axis], axis))


def _home(n: Node, axis: int) -> Node:
    if axis == n.ndim - 1:
        return n
    last = n.ndim - 1
    return P.permute(n, tuple([last if k == axis else k - (k > axis) for k in range(n.ndim)]))


def _full(half: Node, n: int) -> Node:
    """The spectrum of real numbers, from its first half: the rest is conjugate, the other way round."""
    axis = half.ndim - 1
    rest = slice_axis(half, axis, 1, (n + 1) // 2)
    return half if n < 3 else P.concat([half, P.flip(conj(rest), (axis,))], axis)


def _c2c(input: Node, axis: int, n: int, norm: str | None, inverse: bool) -> Node:
    x = _last(_fitted(input, axis, n), axis)
    scale = _scale(norm, n, inverse)
    if is_complex(x):
        out = P.as_complex(P.dft(P.as_real(x), inverse, scale))
    else:
        out = _full(P.as_complex(P.rdft(x, scale)), n)
        out = conj(out) if inverse else out
    return _home(out, axis)


def _r2c(input: Node, axis: int, n: int, norm: str | None, inverse: bool) -> Node:
    half = P.as_complex(P.rdft(_last(_fitted(input, axis, n), axis), _scale(norm, n, inverse)))
    return _home(conj(half) if inverse else half, axis)


def _c2r(input: Node, axis: int, n: int, norm: str | None, inverse: bool) -> Node:
    z = cast(input, input.dtype.to_complex())
    z = _last(_fitted(z, axis, n // 2 + 1), axis)
    return _home(P.irdft(P.as_real(z if inverse else conj(z)), n, _scale(norm, n, inverse)), axis)


def _named(kind: str, of_real: str = "") -> Any:
    """torch's name of the grad_fn: a transform of one axis of real numbers is another one."""
    return lambda input, *rest: (kind if not of_real or is_complex(input) else of_real) + "Backward0"


def _one(name: str, inverse: bool) -> None:
    def fn(input: Node, n: int | None = None, dim: int = -1, norm: str | None = None) -> Node:
        x = _numbers(name, input)
        axis = _axis(x, dim)
        return _c2c(x, axis, _points(x.shape[axis] if n is None else n), norm, inverse)
    fn.__doc__ = f"The {'inverse ' * inverse}discrete Fourier transform along a dim, of n points."
    op("fft_" + name, method=False, function=False, grad_of=_named("FftC2C", "Conj" if inverse else "FftR2C"))(fn)


def _one_from_real(name: str, inverse: bool) -> None:
    def fn(input: Node, n: int | None = None, dim: int = -1, norm: str | None = None) -> Node:
        x = _numbers(name, input, True)
        axis = _axis(x, dim)
        return _r2c(x, axis, _points(x.shape[axis] if n is None else n), norm, inverse)
    fn.__doc__ = f"The first half of the {'inverse ' * inverse}transform of real numbers; the other is its conjugate."
    op("fft_" + name, method=False, function=False, grad_of=_named("Conj" if inverse else "FftR2C"))(fn)


def _one_to_real(name: str, inverse: bool) -> None:
    def fn(input: Node, n: int | None = None, dim: int = -1, norm: str | None = None) -> Node:
        x = _numbers(name, input)
        axis = _axis(x, dim)
        return _c2r(x, axis, _points(2 * (x.shape[axis] - 1) if n is None else n), norm, inverse)
    fn.__doc__ = f"The n real numbers whose half spectrum is given{'' if inverse else ', as a spectrum of half a signal'}."
    op("fft_" + name, method=False, function=False, grad_of=_named("FftC2R"))(fn)


# ---------------------------------------------------------------- several axes
def _plane(input: Node, s: Any, dim: Any, halved: bool) -> tuple[Ints, Ints]:
    """(axes, points along each).  Errors in torch's words."""
    s = (s,) if isinstance(s, int) else s
    dim = (dim,) if isinstance(dim, int) else dim
    if s is not None and dim is not None and len(s) != len(dim):
        raise explain(RuntimeError("When given, dim and shape arguments must have the same length"))
    if dim is None:
        if s is not None and len(s) > input.ndim:
            raise explain(RuntimeError(f"Got shape with {len(s)} values but input tensor only has {input.ndim} dimensions."))
        axes = tuple(range(0 if s is None else input.ndim - len(s), input.ndim))
    else:
        axes = tuple([dim_of(d, input.ndim) for d in dim])
        if len(set(axes)) != len(axes):
            raise explain(RuntimeError("FFT dims must be unique"))
    sizes = [input.shape[a] for a in axes]
    if halved and sizes:
        sizes[-1] = 2 * (sizes[-1] - 1)
    points = sizes if s is None else [m if k == -1 else k for k, m in zip(s, sizes)]
    return axes, tuple([_points(n) for n in points])


def _needs_axes(name: str, axes: Sequence[int]) -> None:
    if not axes:
        raise explain(RuntimeError(f"{name[:-1]}n must transform at least one axis"))


def _many(name: str, inverse: bool, dims: Ints | None) -> None:
    def fn(input: Node, s: Any = None, dim: Any = dims, norm: str | None = None) -> Node:
        x = _numbers(name, input)
        axes, points = _plane(x, s, dim, False)
        for axis, n in reversed(list(zip(axes, points))):
            x = _c2c(x, axis, n, norm, inverse)
        return cast(x, x.dtype.to_complex())
    fn.__doc__ = f"The {'inverse ' * inverse}discrete Fourier transform along dims."
    op("fft_" + name, method=False, function=False, grad_of=_named("FftC2C"))(fn)


def _many_from_real(name: str, inverse: bool, dims: Ints | None) -> None:
    def fn(input: Node, s: Any = None, dim: Any = dims, norm: str | None = None) -> Node:
        x = _numbers(name[:-1] + "n", input, True)
        axes, points = _plane(x, s, dim, False)
        _needs_axes(name, axes)
        x = _r2c(x, axes[-1], points[-1], norm, inverse)
        for axis, n in reversed(list(zip(axes[:-1], points))):
            x = _c2c(x, axis, n, norm, inverse)
        return x
    fn.__doc__ = f"The {'inverse ' * inverse}transform of real numbers along dims; along the last one its first half."
    op("fft_" + name, method=False, function=False, grad_of=_named("FftC2C" if inverse else "FftR2C"))(fn)


def _many_to_real(name: str, inverse: bool, dims: Ints | None) -> None:
    def fn(input: Node, s: Any = None, dim: Any = dims, norm: str | None = None) -> Node:
        x = _numbers(name, input)
        axes, points = _plane(x, s, dim, True)
        _needs_axes(name, axes)
        x = cast(x, x.dtype.to_complex())
        for axis, n in zip(axes[:-1], points):
            x = _c2c(x, axis, n, norm, inverse)
        return _c2r(x, axes[-1], points[-1], norm, inverse)
    fn.__doc__ = "The real numbers whose spectrum along dims, halved along the last one, is given."
    op("fft_" + name, method=False, function=False, grad_of=_named("FftC2R"))(fn)


for _inverse in (False, True):
    _i = "i" * _inverse
    _one(_i + "fft", _inverse)
    _one_from_real("ihfft" if _inverse else "rfft", _inverse)
    _one_to_real("irfft" if _inverse else "hfft", _inverse)
    for _end, _dims in (("2", (-2, -1)), ("n", None)):
        _many(f"{_i}fft{_end}", _inverse, _dims)
        _many_from_real(("ihfft" if _inverse else "rfft") + _end, _inverse, _dims)
        _many_to_real(("irfft" if _inverse else "hfft") + _end, _inverse, _dims)
