"""Words of threads together, over all lanes at once: reductions, and who must be there.

In: values of lanes and the mask of those that run.  Out: what each thread of a group gets, by the very pairs that
`groups.py` adds on a GPU, so that the bits are the same.  Never touches memory but to say that it was used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cells import WARP, Cells, Grid, KernelFault, Mask, code
from .lanes import maximum, minimum

_INTEGERS = ("i64", "i32")


COMBINE: dict[str, Callable[[Any, Any], Any]] = {"sum": np.add, "prod": np.multiply, "max": maximum, "min": minimum}


def groups(grid: Grid, mask: Mask, size: int, what: str, kind: str) -> np.ndarray:
    """Numbers of the groups of `size` lanes that run; a fault where one has some lanes only."""
    if mask is None:
        return np.arange(grid.lanes // size)
    there = mask.reshape(-1, size)
    some, all_ = there.any(1), there.all(1)
    broken = np.flatnonzero(some & ~all_)
    if broken.size:
        g = int(broken[0])
        absent = int(np.flatnonzero(~there[g])[0])
        raise KernelFault(kind, f"{what}: {int(there[g].sum())} of {size} threads are there, "
                                f"{grid.who(g * size + absent)} is not")
    return np.flatnonzero(some)


def barrier(grid: Grid, mask: Mask, what: str = "sync") -> None:
    grid.barriers[groups(grid, mask, grid.threads, what, "divergence")] += 1


def warp_barrier(grid: Grid, mask: Mask, width: int) -> None:
    _width(width)
    there = groups(grid, mask, width, "warp_sync", "mask")
    grid.warps.reshape(-1, width)[there] += 1
    grid.widths.reshape(-1, width)[there] = width


def _width(width: Any) -> None:
    if type(width) is not int or width not in (1, 2, 4, 8, 16, 32):
        raise KernelFault("type", f"a group has 2, 4, 8, 16 or 32 lanes as a literal, not {width!r}")


def _lanes(grid: Grid, name: str, suffix: str, x: Any) -> np.ndarray:
    found, wanted = code(x), "i64" if suffix in _INTEGERS else suffix
    if found != wanted:
        raise KernelFault("type", f"{name} wants {wanted}, got {found}")
    if isinstance(x, np.ndarray):
        return x
    return np.full(grid.lanes, x)


def butterfly(combine: Callable[[Any, Any], Any], values: np.ndarray) -> np.ndarray:
    """Each place with the one whose number differs in one bit, the highest bit first; along the last axis."""
    distance = values.shape[-1] // 2
    place = np.arange(values.shape[-1])
    while distance:
        values = combine(values, values[..., place ^ distance])
        distance //= 2
    return values


def warp(name: str, grid: Grid, mask: Mask, x: Any, width: Any) -> np.ndarray:
    """``warp_sum_f32(x, width)`` and its like."""
    _, what, suffix = name.split("_")
    _width(width)
    groups(grid, mask, width, name, "mask")
    values = butterfly(COMBINE[what], _narrow(suffix, _lanes(grid, name, suffix, x)).reshape(-1, width))
    return _widened(suffix, values.reshape(-1))


def block(name: str, grid: Grid, mask: Mask, x: Any, pad: Any) -> np.ndarray:
    """``block_sum_f32(x, pad)`` and its like: warps, then what the warps have; barriers before and after the pad is read."""
    _, what, suffix = name.split("_")
    if not isinstance(pad, Cells) or pad.kind != "shared" or pad.name != suffix or pad.each < WARP:
        raise KernelFault("type", f"{name} wants a pad shared_{suffix}({WARP})")
    there = groups(grid, mask, grid.threads, name, "divergence")
    values = _narrow(suffix, _lanes(grid, name, suffix, x)).reshape(grid.count, -1, WARP)
    values = butterfly(COMBINE[what], values)
    pad.forget(grid, there)
    warps = values.shape[1]
    if warps > 1:
        width = 1 << (warps - 1).bit_length()
        found = np.full((grid.count, width), _identity(what, values.dtype), values.dtype)
        found[:, :warps] = values[:, :, 0]
        values = butterfly(COMBINE[what], found)[:, :1]
        grid.barriers[there] += 2
    return _widened(suffix, np.broadcast_to(values.reshape(grid.count, -1)[:, :1],
                                            (grid.count, grid.threads)).reshape(-1))


def _narrow(suffix: str, x: np.ndarray) -> np.ndarray:
    return x.astype(np.int32) if suffix == "i32" else x


def _widened(suffix: str, x: np.ndarray) -> np.ndarray:
    return x.astype(np.int64) if suffix == "i32" else x.copy() if not x.flags.writeable else x


def _identity(what: str, dtype: Any) -> Any:
    if what in ("sum", "prod"):
        return dtype.type(what == "prod")
    least = what == "max"
    if dtype.kind == "f":
        return dtype.type(-np.inf if least else np.inf)
    return np.iinfo(dtype).min if least else np.iinfo(dtype).max
