"""Arguments for public ops of margins, quantiles, calculus, scattering and special functions.

In: the registry.  Out: FAMILIES, functions that make `case` calls; oplist calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autojit.ops.declare import OPS

from .checking import Number
from .sampling import A, F, Z, case


def _functional(name: str) -> Callable[..., Any]:
    """torch.nn.functional's function, arguments by name."""
    def f(*args: Any) -> Any:
        import torch.nn.functional as functional
        return getattr(functional, name)(**dict(zip(OPS[name].params, args)))
    return f


def _method(name: str) -> Callable[..., Any]:
    def f(x: Any, *rest: Any) -> Any:
        return getattr(x, name)(*rest)
    return f


def _torch(name: str, words: str) -> Callable[..., Any]:
    """torch's function with the last arguments by name."""
    keys = words.split()

    def f(*args: Any) -> Any:
        import torch
        first, last = args[:len(args) - len(keys)], args[len(args) - len(keys):]
        return getattr(torch, name)(*first, **{k: v for k, v in zip(keys, last) if v is not None})
    return f


def _special(name: str) -> Callable[..., Any]:
    def f(*args: Any) -> Any:
        import torch
        return getattr(torch.special, name)(*args)
    return f


def _bessel(name: str) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        import scipy.special
        import torch
        return torch.from_numpy(np.asarray(getattr(scipy.special, name)(x.numpy())))
    return f


def signs(*shape: int) -> np.ndarray:
    return np.where(np.arange(int(np.prod(shape))).reshape(shape) % 3 == 1, -1.0, 1.0)


def loss(name: str, *args: Any, **more: Any) -> None:
    for r in ("mean", "sum", "none"):
        case(name, *args, reduction=r, torch=_functional(name), **more)


def margins() -> None:
    x, y, s = F(3, 4), F(3, 4), signs(3, 4)
    loss("margin_ranking_loss", x, y, s, fixed=(2,))
    loss("margin_ranking_loss", x, F(1, 4), s, 0.7, fixed=(2,))
    loss("hinge_embedding_loss", x, s.astype("int64"))
    loss("hinge_embedding_loss", x, signs(4).astype("int64"), 0.3)
    loss("cosine_embedding_loss", x, y, signs(3).astype("int64"))
    loss("cosine_embedding_loss", F(4), F(4), A(-1, "int64"), -0.9)
    case("cosine_embedding_loss", A([[0.0, 0.0], [1.0, 2.0]]), A([[1.0, 2.0], [0.0, 0.0]]), A([1.0, -1.0]), smooth=False,
         torch=_functional("cosine_embedding_loss"), fixed=(2,), rtol=1e-8)
    loss("triplet_margin_loss", x, y, F(3, 4), 3.0)
    loss("triplet_margin_loss", x, y, F(3, 4), 3.0, 3.0, 1e-3, True)
    loss("soft_margin_loss", x, s, fixed=(1,))
    case("soft_margin_loss", A([800.0, -800.0]), A([1.0, 1.0]), smooth=False, torch_grad=False, named=False, fixed=(1,),
         torch=lambda x, t, r: -(x * t).sigmoid().log().clamp(min=-800).mean())
    for p in (1, 2):
        loss("multi_margin_loss", x, Z(3, hi=4), p)
        loss("multi_margin_loss", x, Z(3, hi=4), p, 0.4, F(4, lo=0.5, hi=2), fixed=(2,))
    case("multi_margin_loss", F(4), A(2, "int64"), torch=_functional("multi_margin_loss"))
    labels = A([[2, 0, -1, 3], [-1, 0, 1, 2], [0, 1, 2, 3]], "int64")
    loss("multilabel_margin_loss", x, labels)
    case("multilabel_margin_loss", F(4), A([1, 3, -1, 0], "int64"), torch=_functional("multilabel_margin_loss"))
    loss("multilabel_soft_margin_loss", x, np.maximum(s, 0), named=False)
    loss("multilabel_soft_margin_loss", x, F(3, 4, lo=0, hi=1), F(4, lo=0.5, hi=2), named=False)
    loss("poisson_nll_loss", x, F(3, 4, lo=0, hi=5))
    loss("poisson_nll_loss", F(3, 4, lo=0.5, hi=3), F(3, 4, lo=0, hi=5), False, True, 1e-6, named=False)
    loss("gaussian_nll_loss", x, y, F(3, 4, lo=0.5, hi=3))
    loss("gaussian_nll_loss", x, y, F(3, lo=0.5, hi=3), True, named=False)
    loss("gaussian_nll_loss", x, y, A([[1e-9], [0.5], [1.0]]), False, 1e-2, smooth=False)


def quantiles() -> None:
    x = F(3, 4, 5)
    for name in ("quantile", "nanquantile"):
        number = name + "_number"
        t = _torch(name, "dim keepdim interpolation")
        for way in ("linear", "lower", "higher", "midpoint", "nearest"):
            case(number, x, 0.37, 1, interpolation=way, torch=t)
            case(name, x, A([0.11, 0.21, 0.77, 0.9]), -1, interpolation=way, torch=t, fixed=(1,), named=False)
        case(number, x, 0.6, torch=t)
        case(number, x, 0.6, None, True, torch=t, named=False)
        case(number, x, 0.6, 2, True, torch=t, named=False)
        case(name, x, A([0.0, 0.3, 1.0]), None, True, torch=t, fixed=(1,), named=False, smooth=False)
        case(name, x, A(0.3), 0, True, torch=t, fixed=(1,), named=False)
        case(number, A([[1.0, np.nan, 3.0, 0.5], [4.0, 2.0, 6.0, 1.0]]), 0.4, 1, torch=t, smooth=False)
        case(number, A([np.nan, np.nan]), 0.4, torch=t, smooth=False)
    case("mode", Z(4, 9))
    case("mode", Z(9, 3, hi=4), 0, True, torch=_torch("mode", "dim keepdim"))
    case("mode", A([[2.0, 1.0, 2.0, 1.0], [3.0, 3.0, 0.5, 0.1]]), smooth=False)
    case("mode", F(3, 1))
    case("cov", F(3, 5))
    case("cov", F(5), named=False)
    case("cov", F(3, 5), 0, Z(5, lo=1, hi=4), torch=_torch("cov", "correction fweights aweights"))
    case("cov", F(3, 5), 1, Z(5, lo=1, hi=4), F(5, lo=0.5, hi=2), torch=_torch("cov", "correction fweights aweights"))
    case("cov", Z(3, 4, hi=9), torch=lambda a, *rest: __import__("torch").cov(a.double()).float())
    case("corrcoef", F(3, 5))
    case("corrcoef", F(5), smooth=False)
    for p in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.inf):
        case("cdist", F(3, 4), F(5, 4), p, torch=_torch("cdist", "p compute_mode"), smooth=p > 0, torch_grad=p > 0)
        case("pdist", F(4, 3), p, torch=_functional("pdist"), smooth=p > 0, torch_grad=p > 0, named=p > 0)
    case("cdist", F(2, 3, 4), F(5, 4), torch=_torch("cdist", "p compute_mode"), named=False)
    case("cdist", A([[1.0, 2.0]]), A([[1.0, 2.0], [0.0, 1.0]]), torch=_torch("cdist", "p compute_mode"), smooth=False)
    case("pdist", F(1, 3), torch=_functional("pdist"), named=False)


def calculus() -> None:
    y = F(3, 4)
    for name in ("trapezoid", "cumulative_trapezoid"):
        t = _by_name(name)
        case(name, y, torch=t)
        case(name, y, None, 0.5, 0, torch=t)
        case(name, y, F(4), torch=t, rtol=1e-11)
        case(name, y, F(3, 4), dim=0, torch=t)
        case(name, F(2, 3, 4), F(3), dim=1, torch=t)
        case(name, Z(2, 5), torch=t)
    case("trapezoid", F(2, 1), torch=_by_name("trapezoid"), named=False, smooth=False)
    for edge in (1, 2):
        case("gradient", F(4, 5), edge_order=edge, torch=_slopes)
        case("gradient", F(4, 5), (0.5, 2.0), edge_order=edge, torch=_slopes)
        case("gradient", F(4, 5), 0.3, 1, edge, torch=_slopes)
        case("gradient", F(2, 3, 4), (0.5, 2.0), (2, 1), edge, torch=_slopes)
    case("vander", F(4), torch_grad=False, named=False)    # torch: overwrites what its backward needs
    case("vander", F(4), 3, True, torch_grad=False, named=False)
    case("vander", F(4), 1, named=False)
    case("vander", Z(4))


def _by_name(name: str) -> Callable[..., Any]:
    def f(y: Any, x: Any, dx: Any, dim: int) -> Any:
        import torch
        words = {"dx": dx} if dx is not None else {}
        return getattr(torch, name)(y, **words, dim=dim) if x is None else getattr(torch, name)(y, x, dim=dim)
    return f


def _slopes(a: Any, spacing: Any, dim: Any, edge: int) -> Any:
    import torch
    return torch.gradient(a, spacing=list(spacing) if isinstance(spacing, tuple) else spacing, dim=dim, edge_order=edge) \
        if dim is not None else torch.gradient(
            a, spacing=list(spacing) if isinstance(spacing, tuple) else spacing, edge_order=edge)


def scattering() -> None:
    x = F(3, 4)
    for how in ("sum", "prod", "mean", "amax", "amin"):
        for kept in (True, False):
            case("scatter_reduce", x, 0, Z(5, 4), F(5, 4), how, kept, torch=_reduced)
            case("scatter_reduce", x, 1, A([[0, 0], [1, 2], [3, 3]], "int64"), F(3, 2), how, kept, torch=_reduced)
            case("scatter_reduce", Z(3, hi=9), 0, A([0, 0, 2, 2], "int64"), Z(4, hi=9), how, kept, torch=_reduced)
    case("scatter_reduce", A([1.0, 2.0]), 0, A([0, 0, 1], "int64"), A([3.0, 1.0, 2.0]), "amax", torch=_reduced, smooth=False)
    case("scatter_reduce", A([1.0, 2.0]), 0, A([0, 0, 1], "int64"), A([0.0, 3.0, 0.0]), "prod", torch=_reduced, second=False)
    for kept in (True, False):
        for how in ("prod", "mean", "amax", "amin"):
            case("index_reduce", x, 0, A([2, 0, 2], "int64"), F(3, 4), how, kept, torch=_folded)
            case("index_reduce", x, -1, A([1], "int64"), F(3, 1), how, kept, torch=_folded)
            case("index_reduce", Z(3, hi=9), 0, A([0, 0], "int64"), Z(2, hi=9), how, kept, torch=_folded)
    case("put", x, A([[0, -1], [5, 6]], "int64"), F(2, 2))
    case("put", x, A([0, -1, 0], "int64"), F(3), True)
    case("select_scatter", x, F(4), 0, 1)
    case("select_scatter", x, F(3), 1, -1)
    case("slice_scatter", x, F(2, 4), 0, 1)
    case("slice_scatter", x, F(3, 2), 1, 0, None, 2)
    case("slice_scatter", x, F(3, 2), -1, -3, -1)
    for off in (0, 1, -1):
        case("diagonal_scatter", x, F(3 if off >= 0 else 2), off)
        case("diagonal_scatter", F(2, 5, 3), F(5, 1 if off > 0 else 2), off, 2, 0)
    for p in (1.0, 2.0, 3.0):
        case("renorm", F(3, 4), p, 0, 2.5)
        case("renorm", F(2, 3, 4), p, -1, 1.5)


def _reduced(a: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool) -> Any:
    return a.scatter_reduce(dim, index, src, reduce, include_self=include_self)


def _folded(a: Any, dim: int, index: Any, source: Any, reduce: str, include_self: bool) -> Any:
    return a.index_reduce(dim, index, source, reduce, include_self=include_self)


def special() -> None:
    ends = A([0.0, 1.0, -1.0, 7.9, 8.1, -30.0, np.nan])
    case("i0", F(2, 3))
    case("i0", ends, smooth=False)
    case("i0", Z(3), torch=lambda a: a.double().i0().float())
    for name in ("i0e", "i1", "i1e", "erfcx", "ndtr", "log_ndtr"):
        case(f"special_{name}", F(2, 3), torch=_special(name))
        case(f"special_{name}", ends, torch=_special(name), torch_grad=name not in ("i1", "i1e"), smooth=False,
             rtol=1e-11)                                  # torch: i1' of NaN is a number
        case(f"special_{name}", F(), torch=_special(name))
    for name in ("j0", "j1", "y0", "y1"):                 # torch's are exact to eight digits, and have no derivative
        for of in (F(2, 3, lo=0.3, hi=9), F(), *([ends] if name < "y" else [A([0.5, 8.1, np.nan])])):
            case(f"special_bessel_{name}", of if name < "y" or isinstance(of, np.ndarray) or of.shape else F(lo=0.3, hi=1),
                 torch=_bessel(name), torch_grad=False, named=False, smooth=not isinstance(of, np.ndarray))
    case("special_log_ndtr", A([-40.0, -1.0, -5.0, 10.0, 40.0]), torch=_special("log_ndtr"), smooth=False, rtol=1e-11)
    case("special_ndtri", F(2, 3, lo=0.05, hi=0.95), torch=_special("ndtri"))
    case("special_ndtri", A([0.0, 1.0, 1e-9, -1.0, np.nan]), torch=_special("ndtri"), smooth=False, torch_grad=False, rtol=1e-9)
    case("special_entr", F(2, 3, lo=0.1, hi=3), torch=_special("entr"))
    case("special_entr", A([0.0, -1.0, np.nan, 2.0, np.inf]), torch=_special("entr"), smooth=False, torch_grad=False)
    case("special_xlog1py", F(2, 3), F(3, lo=0.1, hi=3), torch=_special("xlog1py"))
    case("special_xlog1py", F(2, 3), Number(2.5), torch=_special("xlog1py"))
    case("special_xlog1py", A([0.0, 0.0, 0.0]), A([-1.0, np.inf, np.nan]), torch=_special("xlog1py"), smooth=False,
         torch_grad=False)
    case("special_zeta", F(2, 3, lo=1.5, hi=4), F(3, lo=0.5, hi=3), torch=_special("zeta"), fixed=(0,), smooth=False)
    case("special_zeta", F(2, 3, lo=1.5, hi=4), Number(2.0), torch=_special("zeta"), torch_grad=False, named=False,
         smooth=False)
    for name in ("igamma", "igammac"):
        case(name, F(2, 3, lo=0.5, hi=3), F(3, lo=0.5, hi=3), fixed=(0,), smooth=False, rtol=1e-11)
        case(name, A([0.5, 2.0, 1.0]), A([0.0, 0.0, np.inf]), fixed=(0,), smooth=False, torch_grad=False)
    case("mvlgamma", F(2, 3, lo=2, hi=5), 3)
    case("mvlgamma", F(2, 3, lo=2, hi=5), 1)
    case("mvlgamma", Z(3, lo=3, hi=6), 2)
    case("ldexp", F(2, 3), Z(3, lo=-3, hi=4), torch_grad=False)      # torch: 2 ** -1 is 0 among integers
    case("ldexp", F(2, 3), F(3))
    case("ldexp", Z(3), Z(3))
    case("frexp", F(2, 3), fixed=(), second=False)
    case("frexp", A([0.0, -0.0, 1.0, -2.5, 4.0, np.inf, -np.inf, np.nan, 3e38]), smooth=False, torch_grad=False)
    case("nextafter", F(2, 3), F(3), smooth=False, torch_grad=False, named=False)
    case("nextafter", A([0.0, 1.0, np.inf, np.nan, -0.0]), A([1.0, 1.0, 0.0, 1.0, -1.0]), smooth=False, torch_grad=False,
         named=False)
    for name in ("gcd", "lcm"):
        case(name, A([12, -8, 0, 7, 0], "int64"), A([18, 6, 5, 7, 0], "int64"))
        case(name, Z(2, 3, hi=30), Z(3, hi=30, dtype="int32"))


FAMILIES = (margins, quantiles, calculus, scattering, special)
