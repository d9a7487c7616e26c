"""Devices: `transfer`, which moves a value from one to another, and expressions of numbers put on a device.

In: nodes.  Out: nodes.  All other primitives stay where their operands are (`ir.graph.infer`).  Never copies anything: the
engine cuts programs at transfers and copies between the parts.
"""

from __future__ import annotations

from typing import Any

from ..ir.aval import Aval, aval
from ..ir.graph import Node, const, linearise, substitute
from ..ir.primitive import CONST, LEAF, SCALAR, TRANSFER
from .declare import P, full, primitive

primitive("transfer", TRANSFER, lambda a, device: aval(a.shape, a.dtype, device), lambda a, device: a,
          lambda ct, out, a, device: (P.transfer(ct, a.aval.device),), linear=True, cost=0,
          doc="The value on another device.")


def sent(n: Node, device: str) -> Node:
    """`n` on a device; itself if it is there."""
    return n if n.aval.device == device else P.transfer(n, device)


def free(n: Node) -> bool:
    """Is it an expression of numbers alone, which is on no device in particular?"""
    return all([m.prim is CONST or m.prim is SCALAR for m in linearise([n]) if m.prim.kind == LEAF])


def placed(n: Node, device: str) -> Node:
    """An expression of numbers that is to be on a device; anything else stays where it is."""
    if n.aval.device == device or not free(n):
        return n
    numbers = [m for m in linearise([n]) if m.prim is CONST]
    env: dict[Any, Node] = {m: const(m.data, m.dtype, device) for m in numbers}
    (out,) = substitute([n], env) if numbers else [n]
    return sent(out, device)                              # numbers of the user, and what counts places, are sent


def zeros(a: Aval) -> Node:
    """Zeros of an aval."""
    return full(0, a.shape, a.dtype, a.device)


def ones(a: Aval) -> Node:
    """Ones of an aval."""
    return full(1, a.shape, a.dtype, a.device)
