"""`again`: a value that counts as another one, so that what is computed from it is computed again, and later.

In: a node, and one that has to be there before.  Out: the first.  Equal expressions are one node everywhere else; rewriting
never looks through this one.
"""

from __future__ import annotations

from typing import Any

from ..ir.graph import Node, node
from ..ir.primitive import Primitive
from .declare import P, cast, elementwise, spread
from .movement import slice_axis

elementwise("again", ref=lambda a, b: a, emit="({0} if {1} == {1} else {0})", dtype="same", cost=0,
            vjp=lambda ct, out, a, b: (ct, None), doc="The first value, apart from all else that is computed from it, and "
                                                      "only after the second: where recomputing is cheaper than keeping.")


def after(n: Node, before: Node) -> Node:
    """`n` again, once something of `before` (which is not empty) has been computed."""
    for axis in range(before.ndim):
        before = slice_axis(before, axis, 0, 1)
    return P.again(n, spread(cast(P.reshape(before, ()), n.dtype), n.shape))


def at_once(prim: Primitive, inputs: tuple[Node, ...], params: tuple[Any, ...]) -> Node:
    """A builder for `substitute`: what is computed again is computed once."""
    return inputs[0] if prim.name == "again" else node(prim, inputs, params)
