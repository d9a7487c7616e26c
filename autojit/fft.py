"""`autojit.fft`: discrete Fourier transforms under torch's names, frequencies, and the shifts that go with them.

In: tensors, real or complex (float16 and bfloat16 are refused), or a length.  Out: tensors.  Differentiable to any order; a
complex gradient is dL/dRe + i dL/dIm, as torch has it.

>>> fft(tensor([1.0, 2.0]))
tensor([ 3.+0.j, -1.+0.j])
>>> irfft(rfft(tensor([1.0, 2.0, 3.0])), 3)
tensor([1., 2., 3.])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .eager import functions
from .eager.binding import function_of
from .eager.creation import arange
from .eager.tensor import Tensor, expect
from .errors import explain
from .ops.declare import OPS

_PREFIX = "fft_"


def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of a transform of length n with sample spacing d: 0, 1 ... -2, -1, over n * d; shape (n,).

    >>> fftfreq(4)
    tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """
    ints = _counted(n, dtype, device)
    return _scaled(ints - n * (ints >= (n + 1) // 2), n, d, requires_grad)


def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies that are not negative, of a real transform of length n with sample spacing d; shape (n // 2 + 1,).

    >>> rfftfreq(4)
    tensor([0.0000, 0.2500, 0.5000])
    """
    return _scaled(_counted(n // 2 + 1, dtype, device), n, d, requires_grad)


def _counted(n: int, dtype: Any, device: Any) -> Any:
    return arange(float(n), device=device) if dtype is None else arange(n, dtype=dtype, device=device)


def _scaled(ints: Any, n: int, d: float, requires_grad: bool) -> Any:
    out = ints * (1.0 / (n * d))
    return out.requires_grad_() if requires_grad else out


def _rolled(name: str, input: Any, dim: Any, back: bool) -> Any:
    expect(name, input)
    dims = tuple(range(input.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if not dims:
        raise explain(RuntimeError("`shifts` required"), hint="a tensor without dimensions has no frequencies")
    return functions()["roll"](input, tuple([(input.shape[k] + back) // 2 for k in dims]), dims)


def fftshift(input: Tensor, dim: Any = None) -> Any:
    """The frequency 0 moved to the middle of dims (all of them by default); of any shape and dtype.

    >>> fftshift(fftfreq(4))
    tensor([-0.5000, -0.2500,  0.0000,  0.2500])
    """
    return _rolled("fft_fftshift", input, dim, False)


def ifftshift(input: Tensor, dim: Any = None) -> Any:
    """What undoes fftshift."""
    return _rolled("fft_ifftshift", input, dim, True)


def _renamed(f: Any, name: str) -> Any:
    f.__name__ = f.__qualname__ = name
    return f


_FACE = {name.removeprefix(_PREFIX): _renamed(function_of(op), name.removeprefix(_PREFIX))
         for name, op in OPS.items() if name.startswith(_PREFIX)}
globals().update(_FACE)

if TYPE_CHECKING:
    def __getattr__(name: str) -> Any: ...
