"""Arguments for the public ops that cannot be derived: families of `case` calls, checked by test_ops.

In: the registry.  Out: `SAMPLES`, filled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autojit.dtypes import float64

from .checking import Number
from .linalg_samples import linear_algebra
from .samples_complex import FAMILIES as COMPLEX
from .samples_conv import FAMILIES as CONVOLVING
from .samples_more import FAMILIES as MORE
from .sampling import SAMPLES, A, B, F, Z, case, derive


def _m(name: str) -> Callable[..., Any]:
    """A method of torch's tensors; trailing arguments that are not given are left out."""
    def f(x: Any, *rest: Any) -> Any:
        while rest and rest[-1] is None:
            rest = rest[:-1]
        return getattr(x, name)(*rest)
    return f


def arithmetic() -> None:
    x, y, p = F(2, 3), F(2, 3), F(2, 3, lo=0.5, hi=3)
    case("add", x, F(3), alpha=2)
    case("sub", x, F(3), alpha=0.5)
    case("rsub", x, y, alpha=3)
    for name in ("add", "sub", "mul", "div"):
        case(name, x, p)
        case(name, F(2, 1), F(1, 3, lo=0.5, hi=3))
        case(name, x, Number(2.5))
        case(name, Z(2, 3, lo=1, hi=5), Z(3, lo=1, hi=5))
    case("add", B(4), B(4))
    case("mul", B(4), B(4))
    case("rsub", x, Number(2.5))
    for mode in ("floor", "trunc"):
        case("div", x, p, rounding_mode=mode, smooth=False)
        case("div", Z(2, 3, lo=-7, hi=7), Z(2, 3, lo=1, hi=4), rounding_mode=mode)
    for name in ("remainder", "fmod"):
        case(name, x, p)
        case(name, x, Number(0.7))
        case(name, Z(3, 4, lo=-7, hi=7), A([-3, -2, 2, 3], "int64"))
    case("floor_divide", x, p, smooth=False, named=False, torch_grad=False)
    case("floor_divide", Z(3, 4, lo=-7, hi=7), A([-3, -2, 2, 3], "int64"))
    for n in (0, 1, 2, 3, -1, -2, 0.5, 1.5, -0.5, 2.0, 11, -9):
        case("pow_number", p, n, torch=lambda a, e: a ** e)
    case("pow_number", A([-2.0, 0.0, 0.3]), 3, torch=lambda a, e: a ** e)
    case("pow_number", A([-2.0, 0.0, 0.3]), 2, torch=lambda a, e: a ** e)
    case("pow_number", Z(3, lo=1, hi=4), 3, torch=lambda a, e: a ** e)
    case("pow_number", Z(3, lo=1, hi=4), 0.5, torch=lambda a, e: a ** e)
    case("pow_number", B(3), 2, torch=lambda a, e: a ** e)
    case("pow", p, y)
    case("pow", Z(2, 3, lo=1, hi=4), Z(3, lo=0, hi=4))
    case("pow", p, F(1, 3))
    case("rpow", y, Number(2.5), torch=lambda e, b: b ** e)
    case("rpow", y, Number(2), torch=lambda e, b: b ** e)
    case("float_power", p, y, named=False)
    case("float_power_number", p, 1.5, torch=lambda a, e: a.float_power(e))
    case("float_power_number", p, 2, torch=lambda a, e: a.float_power(e))
    case("square", x)
    case("positive", x, named=False)
    for name in ("fmax", "fmin", "maximum", "minimum"):
        case(name, x, y)
        case(name, A([1.0, 2.0, 3.0]), A([1.0, 0.0, 4.0]), smooth=False)
    for name in ("clamp",):
        case(name, x, Number(-0.5), Number(0.6))
        case(name, x, Number(-0.5))
        case(name, x, None, Number(0.6))
        case(name, x, F(3, lo=-1, hi=0), F(2, 1, lo=0, hi=1))
        case(name, A([-1.0, 0.0, 0.5, 1.0, 2.0]), Number(0.0), Number(1.0), smooth=False)
        case(name, x, Number(0.5), Number(-0.5))
        case(name, Z(5, lo=-5, hi=5), Number(-1), Number(2))
    case("clamp_min", x, Number(0.1))
    case("clamp_min", x, y)
    case("clamp_max", x, Number(0.1))
    case("clamp_max", x, y)
    case("where", B(2, 3), x, F(3))
    case("where", B(3), x, Number(0.5))
    case("masked_fill", x, B(3), Number(2.5))
    case("masked_fill", x, B(2, 3), F())
    case("lerp", x, y, Number(0.3))
    case("lerp", x, y, F(2, 3, lo=0, hi=1))
    case("addcmul", x, y, F(3), value=0.5)
    case("addcdiv", x, y, p, value=2)
    case("nan_to_num", A([np.nan, np.inf, -np.inf, 1.5]), smooth=False)
    case("nan_to_num", A([np.nan, np.inf, -np.inf, 1.5]), 1.0, 2.0, 3.0, smooth=False,
         torch=lambda a, n, p, q: a.nan_to_num(n, p, q))
    case("heaviside", A([-1.0, 0.0, 2.0]), A([0.5, 0.5, 0.5]), smooth=False, named=False, torch_grad=False)
    case("copysign", x, y)
    case("copysign", x, Number(-1.0))


def mathematics() -> None:
    case("logit", F(2, 3, lo=-0.2, hi=1.2), eps=0.1)
    case("logit", F(2, 3, lo=0.1, hi=0.9))
    case("round", F(2, 3, lo=-9, hi=9), decimals=1, smooth=False)
    case("round", A([0.5, 1.5, 2.5, -0.5]), smooth=False)
    case("round", F(2, 3, lo=-90, hi=90), decimals=-1, smooth=False)
    case("floor", Z(3))
    case("polygamma", F(4, lo=0.5, hi=3), 1, torch=lambda a, n: a.polygamma(n), rtol=1e-8)
    case("polygamma", F(4, lo=0.5, hi=3), 2, torch=lambda a, n: a.polygamma(n))
    odd = A([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5])
    for name in ("isnan", "isinf", "isposinf", "isneginf", "isfinite", "signbit"):
        case(name, odd)
        case(name, Z(3, lo=-2))
    case("isclose", A([1.0, 1.0, np.inf, np.nan]), A([1.0, 1.1, np.inf, np.nan]))
    case("isclose", A([1.0, 1.0, np.inf, np.nan]), A([1.0, 1.1, np.inf, np.nan]), rtol=0.2, atol=0.1, equal_nan=True)
    case("xlogy", F(2, 3), F(3, lo=0.5, hi=3))
    case("xlogy", F(2, 3), Number(2.5))
    case("xlogy", A([0.0, 0.0, 0.0, 2.0]), A([0.0, -1.0, np.inf, 3.0]), smooth=False, torch_grad=False)
    case("sinc", A([0.0, 0.5, 1.0, 1.7]), smooth=False)
    case("logaddexp", A([0.3, 0.3, -np.inf]), A([0.3, 1.0, 0.0]), smooth=False)
    case("logaddexp", F(2, 3), F(3))
    case("logaddexp2", F(2, 3), F(3))
    case("lgamma", F(2, 3, lo=-3, hi=-0.1))
    for name in ("bitwise_left_shift", "bitwise_right_shift"):
        case(name, Z(2, 3), Z(3))
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        case(name, Z(4, hi=9), Z(4, hi=9))
        case(name, B(4), B(4))
        case(name, Z(4, hi=9), Number(3))
    case("bitwise_not", Z(4, hi=9))
    case("bitwise_not", B(4))
    for name in ("logical_and", "logical_or", "logical_xor"):
        case(name, Z(6, hi=2), B(6))
    case("logical_not", Z(6, hi=2))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        case(name, Z(6), Z(6))
        case(name, F(2, 3), Number(0.5))
        case(name, B(6), B(6))


def activations() -> None:
    x = F(3, 4, lo=-4, hi=4)
    kinks = A([-3.0, -1.0, 0.0, 1.0, 3.0, 6.0])
    for name in ("relu", "hardtanh", "relu6", "hardsigmoid", "hardswish", "leaky_relu", "hardshrink", "softshrink", "elu",
                 "celu", "selu", "softplus", "logsigmoid", "silu", "mish", "gelu", "softsign", "tanhshrink"):
        rtol = 1e-7 if name == "hardsigmoid" else 0          # torch divides by a float32 6
        case(name, x, rtol=rtol)
        case(name, kinks, smooth=False, rtol=rtol)
    case("gelu", x, approximate="tanh")
    case("hardtanh", x, -0.5, 2.0)
    case("leaky_relu", x, 0.2)
    case("elu", x, 0.7)
    case("celu", x, 0.7, rtol=1e-6)
    case("hardshrink", x, 1.0)
    case("softshrink", x, 1.0)
    case("softplus", x, 2.0, 3.0)
    case("threshold", x, 0.3, -1.0)
    case("prelu", x, F(1))
    case("prelu", F(2, 3, 4), F(3))
    case("glu", F(4, 3), 0)
    case("glu", F(4, 6))


def reductions() -> None:
    x = F(2, 3, 4)
    for name in ("sum", "mean", "nansum", "nanmean", "amax", "amin"):
        case(name, x)
        case(name, x, 1)
        case(name, x, (0, 2), True, torch=_m(name))
        case(name, x, -1, keepdim=True)
        case(name, F())
    for name in ("sum", "prod"):
        case(name, Z(2, 3))
        case(name, B(2, 3))
        case(name, Z(2, 3, dtype="int32"), dtype=float64, torch=lambda a, dim, keepdim, dtype, name=name: _torch_sum(name, a))
    case("sum", F(0, 3), 0)
    case("mean", F(0, 3), 0, smooth=False)
    case("prod", x)
    case("prod", x, 1)
    case("prod", A([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]]), 1, True, torch=_m("prod"), second=False)
    case("nansum", A([1.0, np.nan, 2.0]), smooth=False)
    case("nanmean", A([1.0, np.nan, 2.0]), smooth=False)
    for name in ("max", "min"):
        case(name, x)
        case(name, A([1.0, 3.0, 3.0, 1.0]), smooth=False)
        case(name + "_dim", x, 1, torch=_m(name))
        case(name + "_dim", x, -1, True, torch=_m(name))
        case(name + "_dim", A([[1.0, 3.0, 3.0], [2.0, 1.0, 1.0]]), 1, torch=_m(name), smooth=False)
        case("a" + name, A([[1.0, 3.0, 3.0], [2.0, 1.0, 1.0]]), 1, smooth=False)
        case("arg" + name, x)
        case("arg" + name, x, 1)
        case("arg" + name, x, 2, True, torch=_m("arg" + name))
        case("arg" + name, A([1.0, np.nan, 3.0]))
    case("aminmax", x)
    case("aminmax", x, dim=1, keepdim=True)
    for name in ("any", "all"):
        case(name, B(2, 3))
        case(name, Z(2, 3, hi=2), 1)
        case(name, A([0.0, np.nan]))
        case(name, B(0, 3), 0)
        case(name, B(2, 3), (0, 1), True, torch=_m(name))
    case("count_nonzero", Z(3, 4))
    case("count_nonzero", Z(3, 4), 1)
    for name in ("cumsum", "cumprod"):
        case(name, x, 1)
        case(name, Z(2, 3), 0)
        case(name, F(), 0)
    case("cumprod", A([1.0, 0.0, 2.0, 0.0, 3.0]), 0, second=False)
    case("logcumsumexp", x, 1)
    case("logcumsumexp", A([-1000.0, 0.0, -np.inf, 1000.0]), 0, smooth=False)
    for name in ("cummax", "cummin"):
        case(name, x, 1)
        case(name, A([1.0, 3.0, 3.0, np.nan, 2.0]), 0, smooth=False)
    case("diff", x)
    case("diff", x, 2, 1)
    case("diff", Z(5))


def _torch_sum(name: str, a: Any) -> Any:
    import torch
    return getattr(torch, name)(a, dtype=torch.float64)


def _variance(name: str) -> Callable[..., Any]:
    def f(a: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> Any:
        import torch
        return getattr(torch, name)(a, dim, correction=1 if correction is None else correction, keepdim=keepdim)
    return f


def moments() -> None:
    x = F(2, 3, 4)
    for name in ("var", "std", "var_mean", "std_mean"):
        case(name, x, torch=_variance(name))
        case(name, x, 1, torch=_variance(name))
        case(name, x, (0, 2), correction=0, keepdim=True, torch=_variance(name))
        case(name, x, False, torch=lambda a, u, *rest, name=name: getattr(__import__("torch"), name)(a, unbiased=False))
    case("std", A([2.0, 2.0, 2.0]), torch=_variance("std"), smooth=False)
    case("var", A([2.0]), torch=_variance("var"), smooth=False)
    for p in ("fro", 1, 2, 3, 0.5, 0, np.inf, -np.inf):
        case("norm", x, p, smooth=p != 0)
        case("norm", x, p, 1, True, torch=_m("norm"), smooth=p != 0)
    case("norm", A([0.0, 0.0]), smooth=False)
    case("norm", A([0.0, 3.0]), 3, smooth=False)
    case("norm", A([[0.0, 0.0], [3.0, 4.0]]), 2, 1, smooth=False)
    for name in ("median", "nanmedian"):
        case(name, F(5))
        case(name, F(2, 4))
        case(name + "_dim", x, 1, torch=_m(name))
        case(name + "_dim", x, -1, True, torch=_m(name))
        case(name, A([1.0, np.nan, 3.0, 2.0]), smooth=False)
        case(name + "_dim", A([[1.0, np.nan, 3.0], [4.0, 2.0, 6.0]]), 1, torch=_m(name), smooth=False)
    case("median", Z(5, hi=9))


def softmaxes() -> None:
    x = F(2, 3, 4)
    for name in ("softmax", "log_softmax", "softmin"):
        case(name, x, 1, named=name != "softmin")
        case(name, x, -1)
        case(name, A([[1000.0, 0.0, -1000.0], [-np.inf, 0.0, 1.0]]), 1, smooth=False)
        case(name, F(), 0)
    case("softmax", Z(3, 2), 0, float64, torch=lambda a, d, t: a.double().softmax(d))
    case("logsumexp", x, 1)
    case("logsumexp", x, (0, 2), True, torch=_m("logsumexp"))
    case("logsumexp", A([[1000.0, 999.0], [-np.inf, 0.0], [-np.inf, -np.inf]]), 1, smooth=False, torch_grad=False)


def losses() -> None:
    x, y, p, q = F(3, 4), F(3, 4), F(3, 4, lo=0.1, hi=0.9), F(3, 4, lo=0.1, hi=0.9)
    for r in ("mean", "sum", "none"):
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            case(name, x, y, reduction=r)
        case("binary_cross_entropy", p, q, reduction=r)
        case("binary_cross_entropy_with_logits", x, q, reduction=r, torch=_bce_logits)
        case("kl_div", x, q, reduction=r, torch=_kl)
        case("kl_div", x, y, reduction=r, log_target=True, torch=_kl)
        case("nll_loss", x, Z(3), reduction=r)
        case("cross_entropy", x, Z(3, hi=4), reduction=r)
        case("cross_entropy", x, A([0, -100, 3], "int64"), F(4, lo=0.5, hi=2), reduction=r, fixed=(2,))
        case("cross_entropy", x, p, reduction=r, named=False)
        case("cross_entropy", x, Z(3, hi=4), F(4, lo=0.5, hi=2), label_smoothing=0.2, reduction=r, fixed=(2,))
    case("smooth_l1_loss", x, y, beta=0.3)
    case("huber_loss", x, y, delta=0.3)
    case("mse_loss", F(3, 4), F(4))
    case("binary_cross_entropy", p, q, F(4, lo=0.5, hi=2), fixed=(2,))
    case("binary_cross_entropy", A([0.0, 1.0, 0.5]), A([0.0, 0.5, 1.0]), smooth=False, own=True, fixed=(1,),
         rtol=1e-7)                                        # torch: infinite in the target
    case("binary_cross_entropy_with_logits", x, q, F(4, lo=0.5, hi=2), F(4, lo=0.5, hi=2), torch=_bce_logits, fixed=(2, 3))
    case("binary_cross_entropy_with_logits", A([0.0, 800.0, -800.0]), A([0.3, 1.0, 1.0]), torch=_bce_logits, smooth=False)
    case("kl_div", x, q, reduction="batchmean", torch=_kl)
    case("kl_div", x, A(np.eye(3, 4)), torch=_kl, smooth=False, torch_grad=False)
    case("nll_loss", F(2, 3, 5), Z(2, 5), F(3, lo=0.5, hi=2), ignore_index=1, fixed=(2,))
    case("nll_loss", F(3), A(1, "int64"))
    case("cross_entropy", F(2, 3, 5), Z(2, 5))
    case("cross_entropy", F(3), A(1, "int64"))
    case("cross_entropy", A([[1e4, 0.0], [-1e4, 3.0]]), A([1, 0], "int64"), smooth=False)
    case("cross_entropy", F(3, 4), F(3, 4, lo=0.1, hi=0.9), F(4, lo=0.5, hi=2), label_smoothing=0.1, named=False)


def _bce_logits(x: Any, t: Any, weight: Any, pos_weight: Any, reduction: str) -> Any:
    import torch.nn.functional as functional
    return functional.binary_cross_entropy_with_logits(x, t, weight=weight, pos_weight=pos_weight, reduction=reduction)


def _kl(x: Any, t: Any, reduction: str, log_target: bool) -> Any:
    import torch.nn.functional as functional
    return functional.kl_div(x, t, reduction=reduction, log_target=log_target)


def shapes() -> None:
    x = F(2, 3, 4)
    for s in ((6, 4), (-1,), (2, -1, 2), (2, 3, 4)):
        case("reshape", x, s)
        case("view", x, s, torch=_m("view"))
    case("view_as", x, F(4, 6), torch=_m("view_as"))
    case("reshape_as", x, F(4, 6), torch=_m("reshape_as"))
    case("ravel", x)
    case("flatten", x)
    case("flatten", x, 1)
    case("flatten", x, 0, 1)
    case("flatten", F(), named=False)
    case("unflatten", x, 2, (2, -1))
    case("squeeze", F(1, 2, 1))
    case("squeeze", F(1, 2, 1), 0)
    case("squeeze", F(1, 2, 1), 1)
    case("squeeze", F(1, 2, 1), (0, -1))
    case("unsqueeze", x, 0)
    case("unsqueeze", x, -1)
    for name in ("atleast_1d", "atleast_2d", "atleast_3d"):
        case(name, F(), named=False)
        case(name, F(3), named=False)
        case(name, F(2, 3), named=False)
    case("expand", F(2, 1), (3, -1, 4), torch=_m("expand"))
    case("broadcast_to", F(2, 1), (3, 2, 4))
    case("expand_as", F(2, 1), F(3, 2, 4), torch=_m("expand_as"))
    case("permute", x, (2, 0, -2))
    case("transpose", x, 0, -1)
    case("swapaxes", x, 0, 1)
    case("t", F(2, 3))
    case("t", F(3))
    case("T", F(2, 3), torch=lambda a: a.T)
    case("mT", x, torch=lambda a: a.mT)
    case("movedim", x, 0, 2)
    case("movedim", x, (0, 1), (-1, 0))
    case("select", x, 1, -1)
    case("narrow", x, 2, 1, 2)
    case("narrow", x, 2, -2, 2)
    for off in (0, 1, -1, 5):
        case("diagonal", F(3, 4), off)
    case("diagonal", x, 1, -1, 0)
    case("split", F(5, 2), 2, torch=lambda a, n, d: a.split(n, d))
    case("split", F(5, 2), (1, 4), torch=lambda a, n, d: a.split(n, d))
    case("split", F(2, 5), 2, -1, torch=lambda a, n, d: a.split(n, d))
    case("chunk", F(5, 2), 2)
    case("chunk", F(2, 7), 3, 1)
    case("tensor_split", F(5, 2), 3)
    case("tensor_split", F(5, 2), (1, 3, 9), named=False)
    case("hsplit", F(2, 4), 2)
    case("hsplit", F(6), (2, 3))
    case("vsplit", F(4, 2), 2)
    case("dsplit", F(2, 2, 4), 2)
    case("unbind", x, 1)
    case("unbind", F(3))


def joins() -> None:
    case("cat", [F(2, 3), F(1, 3), F(0, 3)])
    case("cat", [F(2, 3), F(2, 1)], -1)
    case("cat", [F(2, 3), F(0)])
    case("cat", [F(2), Z(3)])
    case("stack", [F(2, 3), F(2, 3)])
    case("stack", [F(2, 3), F(2, 3)], -1)
    for name in ("hstack", "vstack", "dstack", "column_stack"):
        case(name, [F(2, 3), F(2, 3)], named=False)
        case(name, [F(3), F(3)], named=False)
    case("hstack", [F(), F()], named=False)
    case("block_diag", [F(2, 3), F(1, 2), F(2)], torch=lambda ts: __import__("torch").block_diag(*ts))
    case("repeat", F(2, 3), (2, 1, 3), torch=_m("repeat"))
    case("tile", F(2, 3), (2,))
    case("repeat_interleave", F(2, 3), 2)
    case("repeat_interleave", F(2, 3), 3, 1)
    case("flip", F(2, 3, 4), (0, -1))
    case("fliplr", F(2, 3))
    case("flipud", F(2, 3))
    case("roll", F(2, 3), 1)
    case("roll", F(2, 3), 4, 1)
    case("roll", F(2, 3), (1, -1), (0, 1))
    for k in (0, 1, 2, 3, -1):
        case("rot90", F(2, 3), k)
    case("rot90", F(2, 3, 4), 1, (1, 2))
    case("pad", F(2, 3), (1, 2))
    case("pad", F(2, 3), (1, 2, 0, 1), value=1.5)
    case("pad", F(2, 3), (-1, 2))
    case("pad", F(2, 3), (-1, 1, 2, -1), value=-1.0)
    case("pad", Z(2, 3), (1, 0), value=7)
    case("pad", F(2, 4), (2, 1), mode="reflect")
    case("pad", F(1, 2, 3, 4), (1, 2, 2, 1), mode="reflect")
    case("pad", F(2, 4), (2, 5), mode="replicate")
    case("pad", F(2, 4), (2, 1), mode="circular")
    case("pad", F(1, 1, 3, 4), (1, 2, 1, 0), mode="circular")
    for i in ("ij", "xy"):
        case("meshgrid", [F(2), F(3), F()], i, torch=lambda ts, indexing: __import__("torch").meshgrid(*ts, indexing=indexing))
    case("broadcast_tensors", [F(2, 1), F(3)], torch=lambda ts: __import__("torch").broadcast_tensors(*ts))
    case("cartesian_prod", [F(2), F(3)], torch=lambda ts: __import__("torch").cartesian_prod(*ts))


def matrices() -> None:
    case("mm", F(2, 3), F(3, 4))
    case("mm", Z(2, 3), Z(3, 4))
    case("mm", F(2, 0), F(0, 4))
    case("bmm", F(2, 3, 4), F(2, 4, 5))
    case("mv", F(2, 3), F(3))
    case("dot", F(3), F(3))
    case("vdot", F(3), F(3))
    ranks: Any = [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)),
                  ((3,), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 1, 2, 3), (5, 3, 4)),
                  ((1, 2, 3), (5, 3, 4)), ((2, 5, 2, 3), (3, 4))]
    for a, b in ranks:
        case("matmul", F(*a), F(*b), named=a != (1, 2, 3))
    case("addmm", F(2, 4), F(2, 3), F(3, 4))
    case("addmm", F(4), F(2, 3), F(3, 4), beta=0.5, alpha=2)
    case("addmm", A([np.nan] * 4), F(2, 3), F(3, 4), beta=0, smooth=False)
    case("addmv", F(2), F(2, 3), F(3), beta=0.5, alpha=2)
    case("addr", F(2, 3), F(2), F(3), beta=0.5, alpha=2)
    case("addbmm", F(3, 5), F(2, 3, 4), F(2, 4, 5), beta=0.5)
    case("baddbmm", F(2, 3, 5), F(2, 3, 4), F(2, 4, 5), alpha=0.5)
    case("outer", F(2), F(3))
    case("inner", F(3), F(3))
    case("inner", F(2, 3), F(4, 3))
    case("inner", F(2, 3), F(3))
    case("inner", F(2, 2, 3), F(4, 3))
    case("inner", F(), F(3), named=False)
    case("kron", F(2, 3), F(4, 2))
    case("kron", F(2), F(2, 3), named=False)
    for s in ((3,), (2, 3), (2, 2, 3)):
        case("linear", F(*s), F(4, 3), F(4))
        case("linear", F(*s), F(4, 3))
    for eq, *sizes in (("ij,jk->ik", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ij->ji", (2, 3)),
                       ("ij->", (2, 3)), ("ii->i", (3, 3)), ("ii", (3, 3)), ("i,j->ij", (2,), (3,)),
                       ("ij,ij->", (2, 3), (2, 3)), ("i,i->", (3,), (3,)),
                       ("ij,j", (2, 3), (3,)), ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
                       ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
                       ("abc,cd,b->ad", (2, 3, 4), (4, 2), (3,)), ("...a,a->...", (2, 2, 3), (3,)), ("ba,ca", (2, 3), (4, 3)),
                       ("ij,ik->i", (2, 3), (2, 4)), ("iij,ik->jk", (3, 3, 2), (3, 4)), ("ij , jk", (1, 3), (3, 1)),
                       ("i...,i...->...", (2, 3), (2, 1))):
        ts = [F(*z) for z in sizes]
        case("einsum", ts, eq, torch=lambda ts, eq: __import__("torch").einsum(eq, *ts), named=False)
    case("tensordot", F(2, 3, 4), F(3, 4, 5))
    case("tensordot", F(2, 3), F(3, 4), 1)
    case("tensordot", F(2, 3, 4), F(4, 5, 2), ((0, 2), (2, 0)))
    case("tensordot", F(2), F(3), 0, named=False)
    case("cross", F(2, 3), F(2, 3), 1)
    case("cross", F(3, 2), F(3, 1), torch=lambda a, b, d: __import__("torch").linalg.cross(a, b, dim=0))
    for k in (0, 1, -1):
        case("tril", F(2, 3, 4), k)
        case("triu", F(3, 2), k)
        case("diag", F(3), k)
        case("diag", F(3, 4), k)
        case("diag_embed", F(2, 3), k)
    case("diag_embed", F(2, 3), 1, 0, 2)
    case("diagflat", F(2, 2), 1)
    case("trace", F(3, 4))
    case("trace", Z(3, 3))


def indexing() -> None:
    x = F(3, 4, 5)
    for key in ((0,), (-1, 2), ((1, None, None),), ((None, None, None),), ((None, -1, 2), (1, 3, None)), (None,), (..., 0),
                (..., None), (0, ..., (None, None, 2)), ((None, None, None), None, 1), (...,), ((5, 9, None),),
                ((2, 1, None), 0), (0, 1, 2), (None, (1, None, None), None), ((0, 3, 1), 0)):
        case("getitem", x, key, torch=lambda a, k: a[_key(k) if len(k) > 1 else _key(k)[0]])
        size = np.zeros((3, 4, 5))[_key(key)].shape
        case("setitem", x, F(*size), key, torch=lambda a, v, k: _set(a, v, k), named=False)
    case("setitem", x, F(5), ((1, None, None), 0), torch=lambda a, v, k: _set(a, v, k), named=False)
    case("setitem", x, Number(2.5), (0,), torch=lambda a, v, k: _set(a, v, k), named=False)
    i, j = A([0, -1, 0], "int64"), A([[1], [2]], "int64")
    whole = (None, None, None)
    for key, ts in ((("index",), [i]), ((whole, "index"), [i]), (("index", "index"), [i, j]), ((0, "index"), [i]),
                    (("index", whole, "index"), [i, i]), ((None, "index", (1, None, 2)), [i]), ((..., "index"), [j]),
                    (("index", None, "index"), [i, i]), (("index", 0), [j]), (((1, None, None), "index", "index"), [i, j])):
        case("index", [x, *ts], key, torch=lambda t, k: t[0][_key(k, t[1:])])
        size = np.zeros((3, 4, 5))[_key(key, ts)].shape if key != (0, "index") else (3, 5)
        unique = [np.arange(len(t)) if t.ndim == 1 else t for t in ts]
        for accumulate in (False, True):
            case("index_put", [x, F(*size), *(ts if accumulate else unique)], key, accumulate, named=False,
                 torch=lambda t, k, acc: _put(t, k, acc))
    case("index_put", [x, F(5), A([0, 2], "int64")], ("index",), torch=lambda t, k, acc: _put(t, k, acc), named=False)
    case("index_put", [x, F(5), i], ("index",), torch=lambda t, k, acc: _put(t, k, acc), named=False, smooth=False)
    case("index_put", [F(4), F(2), A([1, 1], "int64")], ("index",), True, torch=lambda t, k, acc: _put(t, k, acc), named=False)


def _key(key: Any, tensors: Any = ()) -> Any:
    at = iter(tensors)
    return tuple([slice(*k) if isinstance(k, tuple) else next(at) if k == "index" else k for k in key])


def _set(a: Any, v: Any, key: Any) -> Any:
    a = a.clone()
    a[_key(key)] = v
    return a


def _put(t: Any, key: Any, accumulate: bool) -> Any:
    import torch
    a = t[0].clone()
    if not accumulate:
        a[_key(key, t[2:])] = t[1]
        return a
    full = [slice(None)] * a.ndim
    spot = torch.arange(a.numel()).reshape(a.shape)[_key(key, t[2:])]
    assert full
    flat = a.reshape(-1).index_put((spot.reshape(-1),), t[1].expand(spot.shape).reshape(-1), accumulate=True)
    return flat.reshape(a.shape)


def gathering() -> None:
    x = F(3, 4)
    case("gather", x, 0, Z(2, 4))
    case("gather", x, 1, Z(3, 6, hi=4))
    case("gather", F(), 0, A(0, "int64"))
    case("scatter", x, 0, A([[0, 1, 2, 0], [1, 2, 0, 1]], "int64"), F(2, 4))
    case("scatter", x, 1, A([[0], [3], [2]], "int64"), F(3, 2), torch_grad=False, named=False)
    for name in ("scatter_value", "scatter_number"):
        case(name, x, 1, A([[0, 2], [1, 3], [2, 0]], "int64"), Number(2.5), torch=lambda a, d, i, v: a.scatter(d, i, 2.5))
    case("scatter_add", x, 0, Z(2, 4), F(2, 4))
    case("scatter_add", x, 1, Z(3, 6, hi=4), F(3, 7), torch_grad=False, named=False)
    case("take", x, Z(2, 3, lo=-12, hi=12))
    case("take_along_dim", x, Z(3, 1, hi=4), 1, named=False)
    case("take_along_dim", x, Z(1, 4, lo=-3), 0, named=False)
    case("take_along_dim", x, Z(5, hi=12))
    case("index_select", x, 1, Z(5, hi=4))
    case("index_select", x, 0, A(2, "int64"))
    case("index_add", x, 0, A([0, 2, 0], "int64"), F(3, 4), alpha=2)
    case("index_copy", x, 1, A([0, 3], "int64"), F(3, 2))
    case("index_fill", x, 1, A([0, 3], "int64"), Number(1.5), torch=lambda a, d, i, v: a.index_fill(d, i, 1.5))
    case("embedding", Z(2, 3), F(3, 4))
    case("embedding", A([0, 1, 1, 2], "int64"), F(3, 4), padding_idx=1, smooth=False, own=True)
    case("one_hot", Z(2, 3), 4)
    case("masked_scatter", x, A([[1, 0, 1, 0]] * 3, "bool"), F(8))
    case("unfold", F(2, 7), 1, 3, 2, torch=_m("unfold"))
    case("unfold", F(7, 2), 0, 2, 1, torch=_m("unfold"))
    for name in ("sort", "argsort"):
        case(name, x)
        case(name, x, 0, True)
        case(name, Z(9, hi=4), dim=0, stable=True)
        case(name, A([1.0, np.nan, 0.5, np.inf]), smooth=False)
    case("msort", x)
    case("topk", F(3, 5), 2)
    case("topk", F(5, 2), 3, 0, False)
    case("kthvalue", x, 2, torch=_m("kthvalue"))
    case("kthvalue", x, 2, 0, True, torch=_m("kthvalue"))


def _torch_batch_norm(x: Any, mean: Any, var: Any, w: Any = None, b: Any = None, training: bool = False,
                      eps: float = 1e-5) -> Any:
    import torch
    return torch.nn.functional.batch_norm(x, mean, var, w, b, training, 0.0, eps)


def _torch_instance_norm(x: Any, w: Any = None, b: Any = None, eps: float = 1e-5) -> Any:
    import torch
    return torch.nn.functional.instance_norm(x, None, None, w, b, True, 0.0, eps)


def normalising() -> None:
    x = F(2, 3, 4)
    case("layer_norm", x, (4,))
    case("layer_norm", x, (3, 4), F(3, 4), F(3, 4), 1e-3)
    case("rms_norm", x, (4,), F(4), named=False)
    case("rms_norm", x, (3, 4), named=False)
    case("group_norm", F(2, 4, 3), 2, F(4), F(4))
    for shape in ((4, 3), (2, 3, 2)):
        case("batch_norm", F(*shape), None, None, F(3), F(3), True, torch=_torch_batch_norm, rtol=1e-9)
        case("batch_norm", F(*shape), F(3), F(3, lo=0.5, hi=2), F(3), F(3), eps=1e-3, fixed=(1, 2), torch=_torch_batch_norm)
    case("batch_norm", F(2, 3), F(3), F(3, lo=0.5, hi=2), fixed=(1, 2), torch=_torch_batch_norm)
    case("instance_norm", F(2, 3, 4), torch=_torch_instance_norm)
    case("instance_norm", F(2, 3, 2, 2), F(3), F(3), 1e-3, torch=_torch_instance_norm)
    case("normalize", F(3, 4))
    case("normalize", F(3, 4), 1.0, 0)
    case("normalize", A([[0.0, 0.0], [3.0, 4.0]]), smooth=False)
    case("cosine_similarity", F(3, 4), F(3, 4))
    case("cosine_similarity", F(2, 3, 4), F(3, 4), -1)
    case("pairwise_distance", F(3, 4), F(3, 4))
    case("dist", F(3, 4), F(3, 4))
    case("dist", F(3, 4), F(4), 1.0)


for _family in (arithmetic, mathematics, activations, reductions, moments, softmaxes, losses, shapes, joins, matrices, indexing,
                gathering, normalising, linear_algebra, *CONVOLVING, *MORE, *COMPLEX):
    _family()
derive()

__all__ = ["SAMPLES"]
