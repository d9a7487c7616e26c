"""Words of threads together: reductions by shuffles and shared memory, barriers, atomics.

In: a builder and LLVM values.  Out: an LLVM value, the same in all threads of the group; the order of the operations is
fixed, so that results do not depend on timing.  Blocks have one dimension.  Never imports Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder

from autojit.backends.cuda.words import (
    BYTES,
    F32,
    F64,
    I32,
    I64,
    LANES,
    call,
    larger,
    maximum,
    minimum,
    setting,
    smaller,
)

Emit = Callable[..., Any]
WARP = 32

KINDS = {"f32": F32, "f64": F64, "i64": I64, "i32": I64}
"""Suffix of a reduction → the type of its values; i32 ones are int64 whose low 32 bits count."""

COMBINE: dict[str, dict[bool, Emit]] = {
    "sum": {True: Builder.fadd, False: Builder.add}, "prod": {True: Builder.fmul, False: Builder.mul},
    "max": {True: maximum, False: larger}, "min": {True: minimum, False: smaller}}
"""Reduction → {of floats: what joins two values}."""


def _real(ty: Any) -> bool:
    return ty in (F32, F64)


def _identity(what: str, ty: Any) -> Any:
    if what in ("sum", "prod"):
        return ty(what == "prod")
    least = what == "max"
    if _real(ty):
        return ty(float("-inf" if least else "inf"))
    return ty(-(2 ** (ty.width - 1)) if least else 2 ** (ty.width - 1) - 1)


def lane(b: Builder) -> Any:
    """The thread's place in its warp."""
    return b.and_(_thread(b), I32(WARP - 1))


def _thread(b: Builder) -> Any:
    return call(b, "llvm.nvvm.read.ptx.sreg.tid.x", I32)


def members(b: Builder, width: int) -> Any:
    """The mask of the aligned group of `width` lanes that a thread is in."""
    if width == WARP:
        return I32(-1)
    first = b.and_(lane(b), I32(-width))
    return b.shl(I32((1 << width) - 1), first)


def _shuffled(b: Builder, mask: Any, value: Any, distance: int) -> Any:
    """The value of the lane whose number differs in one bit."""
    if value.type == F32:
        return call(b, "llvm.nvvm.shfl.sync.bfly.f32", F32, mask, value, I32(distance), I32(WARP - 1))
    if value.type == I32:
        return call(b, "llvm.nvvm.shfl.sync.bfly.i32", I32, mask, value, I32(distance), I32(WARP - 1))
    bits = b.bitcast(value, I64)
    low, high = (_shuffled(b, mask, b.trunc(part, I32), distance) for part in (bits, b.lshr(bits, I64(32))))
    both = b.or_(b.zext(low, I64), b.shl(b.zext(high, I64), I64(32)))
    return b.bitcast(both, value.type)


def warp_reduce(b: Builder, what: str, value: Any, width: int) -> Any:
    """Butterfly: every lane adds the same pairs, so every lane has the same bits."""
    combine, mask = COMBINE[what][_real(value.type)], members(b, width)
    distance = width // 2
    while distance:
        value = combine(b, value, _shuffled(b, mask, value, distance))
        distance //= 2
    return value


def block_reduce(b: Builder, what: str, value: Any, pad: Any) -> Any:
    """Warps first, then what the warps have, by way of `pad` (32 elements in shared memory)."""
    value = warp_reduce(b, what, value, WARP)
    warps = setting.threads // WARP
    if warps == 1:
        return value
    place = lane(b)
    with b.if_then(b.icmp_unsigned("==", place, I32(0))):
        b.store(value, b.gep(pad, [b.lshr(_thread(b), I32(5))], inbounds=True))
    call(b, "llvm.nvvm.barrier0", ir.VoidType())
    width = 1 << (warps - 1).bit_length()                  # lanes beyond read what others read: groups of `width` agree
    place = b.and_(place, I32(width - 1))
    found = b.load(b.gep(pad, [place], inbounds=True))
    if width != warps:
        found = b.select(b.icmp_unsigned("<", place, I32(warps)), found, _identity(what, value.type))
    mask, distance, combine = I32(-1), width // 2, COMBINE[what][_real(value.type)]
    while distance:
        found = combine(b, found, _shuffled(b, mask, found, distance))
        distance //= 2
    call(b, "llvm.nvvm.barrier0", ir.VoidType())          # the pad is free again
    return found


def warp_sync(b: Builder, width: int) -> Any:
    return call(b, "llvm.nvvm.bar.warp.sync", ir.VoidType(), members(b, width))


def atomic(b: Builder, what: str, place: Any, value: Any, view: str) -> Any:
    """The old value of an integer or float that is changed in one piece."""
    if view == "f32":
        space = place.type.addrspace
        return call(b, f"llvm.nvvm.atomic.load.add.f32.p{space}f32", F32, place, value)
    if view == "i32":
        return b.sext(b.atomic_rmw(what, place, b.trunc(value, I32), "monotonic"), I64)
    return b.atomic_rmw(what, place, value, "monotonic")


def shifted(b: Builder, view: str, x: Any, n: Any, left: bool) -> Any:
    """x << n or x >> n in an integer of that width; by less than 0 or the width and more, nothing (but the sign) stays."""
    bits, signed = 8 * BYTES[view], view != "u8"
    inside = b.icmp_unsigned("<", n, I64(bits))
    by = b.and_(n, I64(bits - 1))
    if left:
        value, beyond = b.shl(x, by), I64(0)
    else:
        value, beyond = b.ashr(x, by), b.ashr(x, I64(63))
    value = b.select(inside, value, beyond)
    return value if bits == 64 else (b.sext if signed else b.zext)(b.trunc(value, ir.IntType(bits)), I64)


REDUCTIONS = {f"{scope}_{what}_{suffix}": (scope, what, suffix)
              for scope in ("warp", "block") for what in COMBINE for suffix in KINDS}
ATOMICS = {f"atomic_{what}_{view}": (what, view) for what in ("add", "max", "min") for view in ("i32", "i64")}
ATOMICS["atomic_add_f32"] = ("add", "f32")
VECTORS = {f"{do}{lanes}_{view}{nc}": (do, view, lanes) for view, lanes in LANES.items()
           for do, nc in (("load", ""), ("load", "_nc"), ("store", ""))}
