"""View chains: where in memory a view lies, and what writing through it means.

In: chains of movement steps.  Out: strides and offsets as torch has them, and `put`, a write as a function of values.
Never holds a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import explain
from ..ir.aval import Shape
from ..ir.graph import Node, node
from ..ir.primitive import REGISTRY, Primitive
from .template import Chain

Emit = Callable[[Primitive, list[Any], tuple[Any, ...]], Any]


def emit_node(prim: Primitive, inputs: list[Node], params: tuple[Any, ...]) -> Node:
    return node(prim, tuple(inputs), params)


def put(base: Any, chain: Chain, part: Any, emit: Emit = emit_node) -> Any:
    """`base` with `part` at the place that the chain shows: the value of memory after a write through a view."""
    outers = [base]
    for prim, params in chain[:-1]:
        outers.append(emit(prim, [outers[-1]], params))
    for (prim, params), outer in zip(reversed(chain), reversed(outers)):
        if prim.name == "slice":
            starts, _, steps = params
            part = emit(REGISTRY["update"], [outer, part], (starts, steps))
        elif prim.name == "permute":
            order = sorted(range(len(params[0])), key=params[0].__getitem__)
            part = emit(prim, [part], (tuple(order),))
        elif prim.name == "reshape":
            part = emit(prim, [part], (tuple(outer.shape),))
        elif prim.name == "flip":
            part = emit(prim, [part], params)
        elif prim.name in ("real", "imag"):
            rest = emit(REGISTRY["imag" if prim.name == "real" else "real"], [outer], ())
            part = emit(REGISTRY["complex"], [part, rest] if prim.name == "real" else [rest, part], ())
        elif prim.name in ("as_real", "as_complex"):
            part = emit(REGISTRY["as_complex" if prim.name == "as_real" else "as_real"], [part], ())
        elif prim.name == "expand":                       # only what is one value along the stretched axes comes here
            shape = tuple(outer.shape)
            part = emit(REGISTRY["slice"], [part], ((0,) * len(shape), shape, (1,) * len(shape)))
        else:
            raise overlapping()
    return part


def overlapping() -> RuntimeError:
    return explain(RuntimeError(
        "unsupported operation: more than one element of the written-to tensor refers to a single memory location. Please "
        "clone() the tensor before performing the operation."))


# ---------------------------------------------------------------- memory layout
def row_major(shape: Shape) -> Shape:
    """Strides of contiguous memory, in elements; extents of 0 count as 1, as in torch."""
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= max(n, 1)
    return tuple(reversed(out))


_LAYOUTS: dict[Any, tuple[Shape, int]] = {}


def layout(shape: Shape, strides: Shape | None, chain: Chain) -> tuple[Shape, int]:
    """(strides, offset) in elements of a view of memory of this shape and these strides (None: row-major)."""
    if not chain:
        return strides or row_major(shape), 0
    key = (shape, strides, chain)
    found = _LAYOUTS.get(key)
    if found is None:
        try:
            found = _by_strides(shape, strides or row_major(shape), chain)
        except ValueError:
            found = _by_places(shape, strides or row_major(shape), chain)
        if len(_LAYOUTS) > 10_000:
            _LAYOUTS.clear()
        _LAYOUTS[key] = found
    return found


def _by_strides(shape: Shape, strides: Shape, chain: Chain) -> tuple[Shape, int]:
    """NumPy's own stride arithmetic, on an array of bytes over no memory: only its shape and strides are looked at."""
    ghost, offset = _ghost(shape, strides), 0
    for prim, params in chain:
        start = ghost.__array_interface__["data"][0]
        if prim.name in _UNITS:
            offset, ghost = _in_other_units(prim.name, offset, ghost)
            continue
        ghost = np.reshape(ghost, params[0], copy=False) if prim.name == "reshape" else prim.ref(ghost, *params)  # type: ignore[misc]
        offset += ghost.__array_interface__["data"][0] - start
    return tuple(ghost.strides), offset


def _ghost(shape: Shape, strides: Shape) -> Any:
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), shape, strides)


_UNITS = frozenset(("real", "imag", "as_real", "as_complex"))


def _in_other_units(name: str, offset: int, ghost: Any) -> tuple[int, Any]:
    """Complex numbers are two elements of their real and imaginary parts."""
    if name == "as_complex":
        return offset // 2, _ghost(ghost.shape[:-1], tuple([s // 2 for s in ghost.strides[:-1]]))
    doubled = tuple([2 * s for s in ghost.strides])
    if name == "as_real":
        return 2 * offset, _ghost((*ghost.shape, 2), (*doubled, 1))
    return 2 * offset + (name == "imag"), _ghost(ghost.shape, doubled)


def _by_places(shape: Shape, strides: Shape, chain: Chain) -> tuple[Shape, int]:
    """The same for chains with a reshape that NumPy would copy (a diagonal): where each element lies, then differences."""
    places = np.zeros(shape, np.int64)
    for axis, step in enumerate(strides):
        line = np.arange(shape[axis]) * step
        places = places + line.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    for prim, params in chain:
        if prim.name == "as_complex":
            places = places[..., 0] // 2
        elif prim.name in _UNITS:
            both = np.stack([2 * places, 2 * places + 1], -1)
            places = both if prim.name == "as_real" else both[..., int(prim.name == "imag")]
        else:
            places = prim.ref(places, *params)  # type: ignore[misc]
    if not places.size:
        return row_major(places.shape), 0
    first = int(places.reshape(-1)[0])
    out = [int(places.take(1, axis=k).reshape(-1)[0]) - first if n > 1 else 1 for k, n in enumerate(places.shape)]
    return tuple(out), first


def is_dense(shape: Shape, strides: Shape) -> bool:
    """Non-overlapping and dense: some order of the axes is contiguous."""
    step = 1
    for s, n in sorted([(s, n) for s, n in zip(strides, shape) if n != 1]):
        if s != step:
            return False
        step *= n
    return True


def is_contiguous(shape: Shape, strides: Shape) -> bool:
    step = 1
    if 0 in shape:
        return True
    for s, n in zip(reversed(strides), reversed(shape)):
        if n != 1:
            if s != step:
                return False
            step *= n
    return True


def layout_of(t: Any) -> tuple[tuple[int, ...], int]:
    """Strides and offset of a tensor in its storage, in elements."""
    if t.path is not None:
        known = t.path.layout(t.at)
        if known is not None:
            return known  # type: ignore[no-any-return]
    s = t.storage
    if s.mem is not None and t.aval.device == "cpu":
        strides = tuple([k // s.mem.itemsize for k in s.mem.strides])
        return layout(s.mem.shape, strides, t.chain)
    return layout(s.mem.shape if s.value is None else s.value.aval.shape, s.strides, t.chain)


def pointwise_strides(shape: Shape, operands: list[tuple[Shape, Shape]]) -> Shape | None:
    """torch's order of memory for the result of an elementwise op, from (shape, strides) of its operands: dimensions in the
    order of the first operand that tells them apart.  None for row-major."""
    if all([s == shape and is_contiguous(s, t) for s, t in operands]):
        return None
    n = len(shape)
    wide = [_wide(s, t, shape) for s, t in operands]
    order = list(range(n - 1, -1, -1))                    # fastest first
    for i in range(1, n):
        k = i
        for j in range(i - 1, -1, -1):
            c = _faster(shape, wide, order[j], order[k])
            if c > 0:
                order[j], order[k] = order[k], order[j]
                k = j
            elif c < 0:
                break
    out, step = [0] * n, 1
    for d in order:
        out[d] = step
        step *= max(shape[d], 1)
    return None if tuple(out) == row_major(shape) else tuple(out)


def _wide(own: Shape, strides: Shape, shape: Shape) -> Shape:
    """Strides of an operand that is broadcast to `shape`: 0 where it is repeated."""
    lead = len(shape) - len(own)
    return (0,) * lead + tuple([0 if m == 1 != n else step for m, n, step in zip(own, shape[lead:], strides)])


def _faster(shape: Shape, wide: list[Shape], a: int, b: int) -> int:
    """Is dimension a slower than b (1), faster (-1), or can it not be told (0)?"""
    for strides in wide:
        if strides[a] and strides[b]:
            if strides[a] != strides[b]:
                return 1 if strides[a] > strides[b] else -1
            if shape[a] > shape[b]:
                return 1
    return 0
