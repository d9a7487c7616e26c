"""Primitives that only move elements: index maps, no arithmetic.  All are linear; each one's rule is its transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.aval import Aval, Shape, aval
from ..ir.graph import Node
from ..ir.primitive import CREATE, MOVEMENT
from .declare import P, full, movement, primitive, zeros_like

Ints = tuple[int, ...]


def _reshape(a: Aval, shape: Shape) -> Aval:
    out = aval(shape, a.dtype, a.device)
    if out.size != a.size:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {a.size}")
    return out


def _permute(a: Aval, perm: Ints) -> Aval:
    if sorted(perm) != list(range(len(a.shape))):
        raise RuntimeError(f"permute: {perm} is no order of {len(a.shape)} dimensions")
    return aval(tuple([a.shape[p] for p in perm]), a.dtype, a.device)


def inverse(perm: Ints) -> Ints:
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


def _expand(a: Aval, shape: Shape) -> Aval:
    if len(shape) != len(a.shape) or any(m != n and m != 1 for m, n in zip(a.shape, shape)):
        raise RuntimeError(f"The expanded size of the tensor {list(shape)} must match the existing size {list(a.shape)} at "
                           f"non-singleton dimensions")
    return aval(shape, a.dtype, a.device)


def stretched(small: Shape, big: Shape) -> Ints:
    """The axes that `expand` stretches."""
    return tuple([i for i, (m, n) in enumerate(zip(small, big)) if m != n])


def _unexpand(ct: Node, out: Node, a: Node, shape: Shape) -> tuple[Node]:
    """The one home of un-broadcasting."""
    return (P.reshape(P.sum(ct, stretched(a.shape, shape)), a.shape),)


movement("reshape", infer=_reshape, ref=np.reshape, vjp=lambda ct, out, a, shape: (P.reshape(ct, a.shape),),
         doc="The same elements in row-major order, in another shape.")
movement("permute", infer=_permute, ref=np.transpose, vjp=lambda ct, out, a, perm: (P.permute(ct, inverse(perm)),),
         doc="Axes in another order: result axis i is operand axis perm[i].")
movement("expand", infer=_expand, ref=np.broadcast_to, vjp=_unexpand,
         doc="Axes of extent 1 stretched to `shape` (same number of axes).")


def counts(starts: Ints, limits: Ints, steps: Ints) -> Shape:
    return tuple([max(0, -(-(b - a) // c)) for a, b, c in zip(starts, limits, steps)])


def _slice(a: Aval, starts: Ints, limits: Ints, steps: Ints) -> Aval:
    for s, t, c, n in zip(starts, limits, steps, a.shape):
        if not (0 <= s <= n and s <= t <= n and c >= 1):
            raise RuntimeError(f"slice {s}:{t}:{c} does not lie in an axis of {n}")
    return aval(counts(starts, limits, steps), a.dtype, a.device)


def boxes(starts: Ints, limits: Ints, steps: Ints) -> tuple[slice, ...]:
    return tuple([slice(a, b, c) for a, b, c in zip(starts, limits, steps)])


def _ends(starts: Ints, steps: Ints, shape: Shape) -> Ints:
    """Limits of a slice that takes `shape` elements."""
    return tuple([s if n == 0 else s + (n - 1) * c + 1 for s, c, n in zip(starts, steps, shape)])


def _pad(a: Aval, starts: Ints, shape: Shape, steps: Ints) -> Aval:
    for s, c, n, m in zip(starts, steps, a.shape, shape):
        if s < 0 or c < 1 or (n and s + (n - 1) * c >= m):
            raise RuntimeError(f"pad: {n} elements from {s} by {c} do not lie in an axis of {m}")
    return aval(shape, a.dtype, a.device)


def _pad_ref(a: Any, starts: Ints, shape: Shape, steps: Ints) -> Any:
    out = np.zeros(shape, a.dtype)
    out[boxes(starts, _ends(starts, steps, a.shape), steps)] = a
    return out


def _vjp_pad(ct: Node, out: Node, a: Node, starts: Ints, shape: Shape, steps: Ints) -> tuple[Node]:
    return (P.slice(ct, starts, _ends(starts, steps, a.shape), steps),)


movement("slice", infer=_slice, ref=lambda a, starts, limits, steps: a[boxes(starts, limits, steps)],
         vjp=lambda ct, out, a, starts, limits, steps: (P.pad(ct, starts, a.shape, steps),),
         doc="Elements starts[i], starts[i] + steps[i], ... below limits[i] of each axis; steps are positive.")
movement("pad", infer=_pad, ref=_pad_ref, vjp=_vjp_pad,
         doc="The operand laid into zeros of `shape`, from `starts` by `steps`: the transpose of slice.")


def _update(a: Aval, v: Aval, starts: Ints, steps: Ints) -> Aval:
    if a.dtype is not v.dtype:
        raise TypeError(f"update: {v} into {a}")
    _pad(v, starts, a.shape, steps)
    return a


def _update_ref(a: Any, v: Any, starts: Ints, steps: Ints) -> Any:
    out = a.copy()
    out[boxes(starts, _ends(starts, steps, v.shape), steps)] = v
    return out


def _vjp_update(ct: Node, out: Node, a: Node, v: Node, starts: Ints, steps: Ints) -> tuple[Node, Node]:
    return (P.update(ct, zeros_like(v), starts, steps), P.slice(ct, starts, _ends(starts, steps, v.shape), steps))


movement("update", infer=_update, ref=_update_ref, vjp=_vjp_update,
         doc="The first operand with the second laid into it from `starts` by `steps`: what writing to a slice gives.")
movement("flip", infer=lambda a, axes: a, ref=np.flip, vjp=lambda ct, out, a, axes: (P.flip(ct, axes),),
         doc="The order of some axes turned round.")


def _shear(a: Aval, axis: int, of: int, step: int, dilation: int, count: int) -> Aval:
    n, k = a.shape[axis], a.shape[of]
    if axis == of or step < 1 or dilation < 1 or count < 0 or (count and k and (count - 1) * step + (k - 1) * dilation >= n):
        raise RuntimeError(f"shear: {count} places by {step} and {k} by {dilation} do not lie in an axis of {n}")
    return aval(a.shape[:axis] + (count,) + a.shape[axis + 1:], a.dtype, a.device)


def _lines(a: Any, axis: int, of: int, step: int, dilation: int, count: int) -> Any:
    """Along each k of axis `of`, a view of the elements k * dilation, k * dilation + step, ... of `axis`."""
    at = axis - (of < axis)                              # where the axis stands once `of` is gone
    for k in range(a.shape[of]):
        yield k, (slice(None),) * at + (slice(k * dilation, k * dilation + max((count - 1) * step + 1, 0), step),)


def _shear_ref(a: Any, axis: int, of: int, step: int, dilation: int, count: int) -> Any:
    out = np.empty(a.shape[:axis] + (count,) + a.shape[axis + 1:], a.dtype)
    for k, box in _lines(a, axis, of, step, dilation, count):
        np.moveaxis(out, of, 0)[k] = np.moveaxis(a, of, 0)[k][box]
    return out


def _unshear(a: Aval, axis: int, of: int, step: int, dilation: int, extent: int) -> Aval:
    out = aval(a.shape[:axis] + (extent,) + a.shape[axis + 1:], a.dtype, a.device)
    _shear(out, axis, of, step, dilation, a.shape[axis])
    return out


def _unshear_ref(a: Any, axis: int, of: int, step: int, dilation: int, extent: int) -> Any:
    out = np.zeros(a.shape[:axis] + (extent,) + a.shape[axis + 1:], a.dtype)
    for k, box in _lines(a, axis, of, step, dilation, a.shape[axis]):
        np.moveaxis(out, of, 0)[k][box] = np.moveaxis(a, of, 0)[k]
    return out


movement("shear", infer=_shear, ref=_shear_ref,
         vjp=lambda ct, out, a, axis, of, step, dilation, _: (P.unshear(ct, axis, of, step, dilation, a.shape[axis]),),
         doc="Place i of `axis` at place k of axis `of` is the operand's i * step + k * dilation: windows.")
movement("unshear", infer=_unshear, ref=_unshear_ref,
         vjp=lambda ct, out, a, axis, of, step, dilation, _: (P.shear(ct, axis, of, step, dilation, a.shape[axis]),),
         doc="The operand laid into zeros, `extent` along `axis`, where shear would read it: the transpose of shear.")


def _concat(*more: Any) -> Aval:
    *avals, axis = more
    first, total = avals[0], 0
    for a in avals:
        if a.dtype is not first.dtype or a.shape[:axis] + a.shape[axis + 1:] != first.shape[:axis] + first.shape[axis + 1:]:
            raise RuntimeError(f"Sizes of tensors must match except in dimension {axis}. Got {first} and {a}")
        total += a.shape[axis]
    return aval(first.shape[:axis] + (total,) + first.shape[axis + 1:], first.dtype, first.device)


def _concat_ref(*more: Any) -> Any:
    return np.concatenate(more[:-1], axis=more[-1])


def _vjp_concat(ct: Node, out: Node, *more: Any) -> list[Node]:
    *nodes, axis = more
    grads, at = [], 0
    for n in nodes:
        m = n.shape[axis]
        starts = tuple([at if i == axis else 0 for i in range(len(ct.shape))])
        limits = tuple([at + m if i == axis else s for i, s in enumerate(ct.shape)])
        grads.append(P.slice(ct, starts, limits, (1,) * len(ct.shape)))
        at += m
    return grads


primitive("concat", MOVEMENT, _concat, _concat_ref, _vjp_concat, linear=True, cost=0,
          doc="Operands one after the other along an axis: P.concat(nodes, axis).")


# ---------------------------------------------------------------- the one creator: everything else is a constant or this
def _iota(shape: Shape, axis: int) -> Node:
    from ..dtypes import int64
    from ..ir.graph import node
    from ..ir.primitive import REGISTRY
    return node(REGISTRY["iota"], (), (shape, axis, int64))


primitive("iota", CREATE, lambda shape, axis, dtype: aval(shape, dtype),
          lambda shape, axis, dtype: np.broadcast_to(
              np.arange(shape[axis], dtype=dtype.np).reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape),
          None, doc="The index along `axis`, as int64.")
P.iota = _iota


def slice_axis(n: Node, axis: int, start: int, limit: int, step: int = 1) -> Node:
    """A slice of one axis."""
    k = len(n.shape)
    return P.slice(n, tuple([start if i == axis else 0 for i in range(k)]),
                   tuple([limit if i == axis else s for i, s in enumerate(n.shape)]),
                   tuple([step if i == axis else 1 for i in range(k)]))


def pad_value(n: Node, starts: Ints, shape: Shape, value: float) -> Node:
    """`n` laid into `value` instead of zeros."""
    return P.update(full(value, shape, n.dtype), n, starts, (1,) * len(shape))
