"""Arguments for public ops of complex numbers and Fourier transforms, and examples of their primitives.

In: the registry.  Out: FAMILIES, functions that make `case` calls (oplist calls them); PRIMITIVES, functions over real arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autojit.ops.declare import P
from autojit.ops.eigen import _decomposed

from .sampling import A, F, case

_R = np.random.default_rng(12).uniform(0.5, 2, (2, 3, 5))
_PAIRS = np.random.default_rng(13).uniform(-2, 2, (3, 4, 2))
_Z = A([[1 + 2j, -0.5j, 3.0], [0.25 - 1j, -2 + 0.5j, 1j]], "complex128")


def _spread(z: Any) -> Any:
    """A complex value as real ones, not all of them alike."""
    return P.as_real(z)


PRIMITIVES: dict[str, list[Any]] = {
    "real": [(lambda x: P.real(P.as_complex(x)), [_PAIRS])],
    "imag": [(lambda x: P.imag(P.as_complex(x)), [_PAIRS])],
    "complex": [(lambda x, y: _spread(P.complex(x, y)), [_R, _R - 1])],
    "as_real": [(lambda x: P.as_real(P.as_complex(x)), [_PAIRS])],
    "as_complex": [(lambda x: _spread(P.mul(P.as_complex(x), P.as_complex(x))), [_PAIRS])],
    "dft": [(lambda x, n=n, i=i: P.dft(x, i, 0.5), [_PAIRS[:, :n]]) for n in (1, 3, 4) for i in (False, True)],
    "rdft": [(lambda x, n=n: P.rdft(x, 2.0), [_R[..., :n]]) for n in (1, 2, 4, 5)],
    "eig": [],
    "eigfactor": [(lambda a: P.as_real(_decomposed(a, False)[0]), [_R[:, :, :3]]),
                  (lambda a: P.abs(_decomposed(a, False)[1]), [_R[:, :, :3]]),
                  (lambda a: P.abs(_decomposed(a, True)[1]), [_PAIRS[:, :3]])],
    "irdft": [(lambda x, n=n: P.irdft(x, n, 0.5), [_PAIRS[:, :n // 2 + 1]]) for n in (1, 2, 5, 6)],
}


def _fft(name: str) -> Callable[..., Any]:
    def f(*args: Any) -> Any:
        import torch
        return getattr(torch.fft, name)(*args).resolve_conj()
    return f


def _resolved(name: str) -> Callable[..., Any]:
    def f(*args: Any) -> Any:
        import torch
        return getattr(torch, name)(*args).resolve_conj()
    return f


def complexes() -> None:
    for name in ("imag", "view_as_real"):
        case(name, _Z)
    case("real", _Z)
    case("view_as_complex", F(3, 2))
    case("complex", F(2, 3), F(3))
    case("polar", F(2, 3, lo=0.5), F(3))
    for name in ("conj", "conj_physical", "angle", "isreal"):
        case(name, _Z, torch=_resolved(name), named=False)
        case(name, F(2, 3), torch=_resolved(name), named=False)


def transforms() -> None:
    for name in ("fft", "ifft", "rfft", "ihfft", "irfft", "hfft"):
        torch = _fft(name)
        case("fft_" + name, F(3, 5), torch=torch, named=False)
        case("fft_" + name, F(4, 3), 6, 0, "ortho", torch=torch, named=False)
        case("fft_" + name, F(2, 6), 4, -1, "forward", torch=torch, named=False)
        if name not in ("rfft", "ihfft"):
            case("fft_" + name, _Z, torch=torch, named=False)
    for name in ("fft2", "ifft2", "rfft2", "ihfft2", "irfft2", "hfft2", "fftn", "ifftn", "rfftn", "ihfftn", "irfftn", "hfftn"):
        torch = _fft(name)
        case("fft_" + name, F(2, 3, 4), torch=torch, named=False)
        case("fft_" + name, F(2, 3, 4), (4, 2), (0, -1), "ortho", torch=torch, named=False)


def eigenvalues() -> None:
    a = A([[2, 1j], [0.5, -1 + 1j]], "complex128")
    case("linalg_eig", a, torch=_linalg("eig"), smooth=False)
    case("linalg_eigvals", a, torch=_linalg("eigvals"))
    case("linalg_eigvals", A([[2.0, 1.0, 0.0], [0.5, -1.0, 0.3], [0.0, 0.2, 0.7]]), torch=_linalg("eigvals"))


def _linalg(name: str) -> Callable[..., Any]:
    def f(*args: Any) -> Any:
        import torch
        return getattr(torch.linalg, name)(*args)
    return f


FAMILIES = (complexes, transforms, eigenvalues)
