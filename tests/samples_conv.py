"""Samples of convolutions, pools and resampling: odd sizes, unequal sides, steps longer than windows, groups, empty batches.

In: nothing.  Out: `FAMILIES`, functions that add `case`s.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .sampling import A, F, Z, case


def convolutions() -> None:
    for dims, sides, kernel in ((1, (7,), (3,)), (2, (6, 5), (3, 2)), (3, (4, 3, 5), (2, 3, 2))):
        name = f"conv{dims}d"
        x, w = F(2, 4, *sides), F(6, 4, *kernel)
        case(name, x, w)
        case(name, x, w, F(6), 2, 1)
        case(name, x, F(6, 2, *kernel), F(6), padding=1, groups=2)
        case(name, x, F(4, 1, *kernel), groups=4, padding=kernel)
        case(name, F(4, *sides), F(6, 4, *[3] * dims), F(6), padding="same", dilation=2)
        case(name, x, w, padding="valid", dilation=(2,) if dims == 1 else 1)
        case(name, F(0, 4, *sides), w, F(6), smooth=False)
        name = f"conv_transpose{dims}d"
        x, w = F(2, 4, *sides), F(4, 3, *kernel)
        case(name, x, w)
        case(name, x, w, F(3), 2, 1, 1)
        case(name, x, w, F(6), groups=2, dilation=2)
        case(name, F(4, *sides), w, F(3), 3, 0, 2)
        case(name, F(0, 4, *sides), w, smooth=False)
    case("conv2d", F(2, 3, 7, 9), F(2, 3, 3, 3), None, (4, 2), (1, 0), (1, 3))
    case("conv2d", F(1, 2, 5, 5), F(3, 2, 1, 1), F(3), stride=2)
    case("conv2d", F(1, 2, 4, 6), F(3, 2, 2, 3), stride=(2, 3))
    case("conv2d", F(2, 2, 4, 4), F(3, 2, 4, 4))
    case("conv2d", F(1, 1, 5, 4), F(2, 1, 4, 2), padding="same", torch_grad=False)    # torch reads a copy there
    case("conv2d", Z(1, 2, 4, 4), Z(3, 2, 2, 2))
    case("conv_transpose2d", F(1, 2, 3, 4), F(2, 1, 2, 2), F(1), (2, 3), (1, 0), (0, 2))
    case("conv_transpose2d", F(1, 2, 3, 3), F(2, 2, 2, 2), stride=2)
    case("conv_transpose2d", F(1, 2, 3, 3), F(2, 2, 2, 2), None, 1, 0, 2, 1, 3)


def pools() -> None:
    for dims, sides in ((1, (7,)), (2, (7, 6)), (3, (4, 5, 4))):
        x = F(2, 3, *sides)
        name = f"max_pool{dims}d"
        for args, more in (((2,), {}), ((3, 2, 1), {}), ((2, 3), {"ceil_mode": True}), ((3, 1, 1, 1), {"ceil_mode": True}),
                           ((2, 1, 1, 2), {})):
            case(name, x, *args, **more, torch=_pool(name), named=False)
            case(name, x, *args, **more, return_indices=True, torch=_pool(name), named=False)
        case(name, F(3, *sides), 2, torch=_pool(name), named=False)
        case(name, F(0, 3, *sides), 2, torch=_pool(name), named=False, smooth=False)
        name = f"avg_pool{dims}d"
        for args, more in (((2,), {}), ((3, 2, 1), {}), ((3, 2, 1), {"count_include_pad": False}),
                           ((2, 3), {"ceil_mode": True}), ((3, 2, 1), {"ceil_mode": True}),
                           ((3, 2, 1), {"ceil_mode": True, "count_include_pad": False})):
            case(name, x, *args, **more, named=dims > 1)
        case(name, F(3, *sides), 2, named=dims > 1)
        case(name, F(0, 3, *sides), 2, smooth=False, named=dims > 1)
        if dims > 1:
            case(name, x, 3, 2, 1, divisor_override=5)
        name = f"lp_pool{dims}d"
        case(name, F(2, 3, *sides, lo=0.5, hi=2), 2, 2)
        case(name, F(2, 3, *sides, lo=0.5, hi=2), 3.0, 2, 1)
        case(name, F(2, 3, *sides), float("inf"), 2, named=False)
    case("max_pool2d", A([[[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [2.0, 1.0, 1.0]]]]), 2, 1, smooth=False,
         torch=_pool("max_pool2d"))
    case("max_pool2d", A(np.zeros((1, 1, 6, 6))), 5, 1, smooth=False, torch=_pool("max_pool2d"))
    case("max_pool2d", A([[[[np.nan, 0.0, 1.0], [np.inf, -np.inf, np.nan]]]]), 2, 1, smooth=False, torch=_pool("max_pool2d"))
    case("max_pool2d", F(2, 1, 6, 7), (5, 4), (1, 2), torch=_pool("max_pool2d"), named=False)
    case("max_pool2d", F(2, 1, 6, 7), (5, 4), (1, 2), (2, 1), return_indices=True, torch=_pool("max_pool2d"), named=False)
    case("max_pool2d", Z(1, 2, 4, 4, hi=9), 2, torch=_pool("max_pool2d"))
    case("avg_pool2d", Z(1, 2, 4, 4, hi=9), 2)


def _pool(name: str) -> Any:
    def f(input: Any, *static: Any) -> Any:
        import torch.nn.functional as functional
        return getattr(functional, name)(input, *static)
    return f


def adaptive_pools() -> None:
    sizes: Any
    for dims, sides, sizes in ((1, (7,), (1, 3, 7, 9)), (2, (6, 5), (1, 3, (4, 2), (None, 5))),
                               (3, (4, 3, 5), (1, 2, (3, 3, None)))):
        for kind in ("avg", "max"):
            name = f"adaptive_{kind}_pool{dims}d"
            more: Any = {"torch": _pool(name), "named": dims == 2}
            for m in sizes:
                case(name, F(2, 3, *sides), m, **more)
            case(name, F(3, *sides), 2, **more)
            case(name, F(0, 3, *sides), 2, smooth=False, **more)
            if kind == "max":
                case(name, F(2, 3, *sides), sizes[1], return_indices=True, **more)
                case(name, F(2, 3, *sides), sizes[2], return_indices=True, **more)


def resampled() -> None:
    case("im2col", F(2, 3, 5, 6), (2, 3), torch=_unfold)
    case("im2col", F(3, 5, 6), 2, 2, 1, (2, 3), torch=_unfold, named=False)
    case("im2col", F(1, 1, 4, 6), 2, 1, 0, 2, torch=_unfold)
    case("fold", F(2, 12, 12), (4, 5), 2)
    case("fold", F(8, 12), (4, 5), 2, named=False)
    case("fold", F(2, 4, 9), (6, 6), 2, 1, 0, 2)
    case("pixel_shuffle", F(2, 8, 3, 2), 2)
    case("pixel_shuffle", F(9, 2, 2), 3)
    case("pixel_unshuffle", F(2, 2, 4, 6), 2)
    case("channel_shuffle", F(2, 6, 3), 2)
    case("channel_shuffle", F(1, 6, 3, 2), 3)
    case("local_response_norm", F(2, 5, 4), 3)
    case("local_response_norm", F(2, 5, 3, 4), 2, 0.1, 0.5, 2.0)
    case("local_response_norm", F(0, 5, 3), 2, smooth=False)
    for mode, sides in (("nearest", (5,)), ("nearest", (4, 5)), ("nearest", (2, 3, 4)), ("nearest-exact", (5,)),
                        ("nearest-exact", (4, 5)), ("linear", (5,)), ("bilinear", (4, 5)), ("trilinear", (2, 3, 4)),
                        ("bicubic", (4, 5)), ("area", (5,)), ("area", (4, 6))):
        for size, scale in ((None, 2), (None, 1.7), (None, 0.6), (7, None), (3, None), (tuple([2 * s for s in sides]), None)):
            case("interpolate", F(2, 2, *sides), size, scale, mode, second=False)
        if mode not in ("nearest", "nearest-exact", "area"):
            for size in (7, 1, 3):
                case("interpolate", F(2, 2, *sides), size, None, mode, True, second=False)
            case("interpolate", F(1, 2, *sides), None, 1.7, mode, False, True, second=False)
    case("interpolate", F(0, 2, 4, 5), 3, smooth=False)


def _unfold(*args: Any) -> Any:
    import torch.nn.functional as functional
    return functional.unfold(*args)


def grids() -> None:
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            for align in (False, True):
                case("grid_sample", F(2, 3, 4, 5), F(2, 3, 2, 2, lo=-1.6, hi=1.6), mode, padding, align, second=False)
    for mode in ("bilinear", "nearest"):
        case("grid_sample", F(2, 2, 3, 2, 4), F(2, 1, 3, 2, 3, lo=-1.4, hi=1.4), mode, "border", False, second=False)
        case("grid_sample", F(1, 2, 3, 2, 4), F(1, 1, 3, 2, 3, lo=-1.4, hi=1.4), mode, "zeros", True, second=False)
    case("grid_sample", F(0, 3, 4, 5), F(0, 3, 2, 2), smooth=False)
    case("grid_sample", F(1, 1, 1, 1), F(1, 2, 2, 2), "bilinear", "reflection", True, smooth=False)
    case("affine_grid", F(2, 2, 3), (2, 3, 4, 5), False)
    case("affine_grid", F(2, 2, 3), (2, 3, 1, 5), True)
    case("affine_grid", F(2, 3, 4), (2, 1, 3, 4, 2), True)
    case("max_unpool1d", F(2, 3, 3), A([[[0, 3, 4]] * 3] * 2, "int64"), 2, named=False)
    case("max_unpool2d", F(2, 1, 2, 2), A([[[[0, 3], [8, 14]]]] * 2, "int64"), 2)
    case("max_unpool2d", F(1, 2, 2), A([[[0, 3], [12, 24]]], "int64"), 2, None, 0, (5, 5))
    case("max_unpool2d", F(1, 2, 2), A([[[0, 3], [7, 5]]], "int64"), (3, 2), (2, 2), (1, 0))
    case("max_unpool3d", F(1, 2, 1, 2, 1), A([[[[[0], [6]]], [[[3], [5]]]]], "int64"), 2)


FAMILIES = (convolutions, pools, adaptive_pools, resampled, grids)
