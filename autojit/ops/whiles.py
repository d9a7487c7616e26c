"""`while`: a loop that ends when a graph of its carries says so; `unwind`: its reverse pass.

As in `loops`, nodes with equal inputs and spec are one loop.  The number of turns is known when it ends; the reverse pass
turns forward again, keeps the carries of each turn in memory that grows with them, and then goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import FLOAT
from ..ir.graph import Graph, Node, node, placeholder
from ..ir.primitive import HOST, REGISTRY
from .declare import P, full, primitive
from .grouped import Cotangents, hooks, programs
from .loops import _infer, _ref, _vjp, interned, looks, own, reached
from .placement import zeros


class While:
    """bodies: (constants, carries) -> is there another turn; -> carries; and carries as they are, for the end."""

    __slots__ = ("bodies", "consts", "carries", "avals", "takes", "kept")
    base = None

    def __init__(self, test: Graph, body: Graph, consts: int, end: Graph | None = None) -> None:
        self.consts, self.carries = consts, len(body.outputs)
        carried = body.inputs[consts:]
        self.bodies = (test, body, end or own(Graph(carried, carried)))
        self.avals = [o.aval for o in body.outputs]
        self.takes = looks(body.inputs)
        self.kept: dict[str, list[Any]] = {}

    def over(self, bodies: Sequence[Graph]) -> While:
        """The same loop with other texts of its graphs."""
        return while_spec(bodies[0], bodies[1], self.consts, bodies[2])

    def __repr__(self) -> str:
        return f"<turns of {len(self.bodies[1].order)} nodes>"

    def turns(self, arrays: Sequence[Any], how: str) -> list[list[Any]]:
        """The carries before each turn, and after the last."""
        test, body, _ = programs(self, how)
        consts = list(arrays[:self.consts])
        found = [list(arrays[self.consts:])]
        while test([*consts, *found[-1]])[0]:
            found.append(body([*consts, *found[-1]]))
        return found

    def run(self, arrays: Sequence[Any], how: str = "program") -> list[Any]:
        """The last carries, turn by turn from Python."""
        test, body, _ = programs(self, how)
        consts, carry = list(arrays[:self.consts]), list(arrays[self.consts:])
        while test([*consts, *carry])[0]:
            carry = body([*consts, *carry])
        return carry

    def pruned(self, used: Sequence[int]) -> tuple[While, list[int], dict[int, int], dict[int, int]]:
        """As for `Scan`."""
        m, (test, body, _) = self.consts, self.bodies
        ins, outs = body.inputs, body.outputs
        fixed = [j for j in range(self.carries) if outs[j] is ins[m + j]]
        asked = reached(test.outputs)
        live = {k for k in used if k not in fixed} | {j for j in range(self.carries)
                                                      if test.inputs[m + j] in asked and j not in fixed}
        while True:
            seen = reached([outs[k] for k in sorted(live)])
            more = {j for j in range(self.carries) if ins[m + j] in seen and j not in fixed}
            if more <= live:
                break
            live |= more
        carries = sorted(live)
        consts = [k for k in [*range(m), *[m + j for j in fixed]] if ins[k] in seen or test.inputs[k] in asked]
        takes = [*consts, *[m + j for j in carries]]
        spec = while_spec(Graph([test.inputs[k] for k in takes], test.outputs),
                          Graph([ins[k] for k in takes], [outs[j] for j in carries]), len(consts))
        return spec, takes, {k: j for j, k in enumerate(carries)}, {k: m + k for k in used if k in fixed}

    def pull(self, inputs: Sequence[Node], cts: Cotangents) -> list[Node | None]:
        """Cotangents of constants and first carries."""
        back: Unwind = interned(("unwind", self), lambda: Unwind(self))
        given = [cts[j] or zeros(self.avals[j]) for j in back.floats]
        out: list[Node | None] = [None] * len(inputs)
        for k, place in enumerate([*[self.consts + j for j in back.floats], *back.sums]):
            out[place] = node(UNWIND, (*inputs, *given), (back, k))
        return out


def while_spec(test: Graph, body: Graph, consts: int, end: Graph | None = None) -> While:
    """The loop with these graphs."""
    key = ("while", test.key, body.key, consts)
    return interned(key, lambda: While(own(test), own(body), consts, None if end is None else own(end)))  # type: ignore[no-any-return]


class Unwind:
    """The reverse of a `While`.  Inputs: those of the loop, then cotangents of its floating carries; results: cotangents of
    these before the first turn, then of the constants `sums`.  bodies[0]: one turn back."""

    __slots__ = ("loop", "bodies", "floats", "sums", "avals", "takes", "kept")
    base = None

    def __init__(self, loop: While, back: Graph | None = None) -> None:
        self.loop = loop
        m, body = loop.consts, loop.bodies[1]
        ins, outs = body.inputs, body.outputs
        self.floats = [j for j in range(loop.carries) if outs[j].dtype.category >= FLOAT]
        wanted = [k for k, i in enumerate(ins) if i.dtype.category >= FLOAT]
        cts = [placeholder(outs[j].aval) for j in self.floats]
        found = hooks["reverse"]([outs[j] for j in self.floats], cts, [ins[k] for k in wanted])
        grads = dict(zip(wanted, found))
        self.sums = [k for k in wanted if k < m and grads[k] is not None]
        sums = [placeholder(ins[k].aval) for k in self.sums]
        before = [grads[m + j] or full(0, outs[j].shape, outs[j].dtype) for j in self.floats]
        turn = Graph([*ins, *cts, *sums], [*before, *[P.add(s, grads[k]) for s, k in zip(sums, self.sums)]])
        self.bodies = (own(turn) if back is None else back,)
        self.avals = [o.aval for o in turn.outputs]
        self.takes = looks([*ins, *cts])
        self.kept: dict[str, list[Any]] = {}

    def over(self, bodies: Sequence[Graph]) -> Unwind:
        """The same with another text of the turn back."""
        return interned(("unwind", self.loop, bodies[0].key), lambda: Unwind(self.loop, own(bodies[0])))  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{self.loop!r}, back>"

    def run(self, arrays: Sequence[Any], how: str = "program") -> list[Any]:
        """Forward with the carries of all turns kept, then back."""
        import numpy as np
        m, ends = self.loop.consts, self.loop.consts + self.loop.carries
        (back,) = programs(self, how)
        consts = list(arrays[:m])
        cts = [*arrays[ends:], *[np.zeros(a.shape, a.dtype.np) for a in self.avals[len(self.floats):]]]
        for carry in reversed(self.loop.turns(arrays[:ends], how)[:-1]):
            cts = back([*consts, *carry, *cts])
        return cts

    def pruned(self, used: Sequence[int]) -> tuple[Unwind, list[int], dict[int, int], dict[int, int]]:
        """As for `Scan`; nothing is left out."""
        everything = range(len(self.avals))
        return self, [*range(self.loop.consts + self.loop.carries + len(self.floats))], {k: k for k in everything}, {}

    def pull(self, inputs: Sequence[Node], cts: Cotangents) -> list[Node | None]:
        """Refused: what it would read is of no known size."""
        raise RuntimeError("while_loop is differentiated once; a second derivative needs a number of turns that is known: "
                           "write the loop with scan or fori_loop over ints")


primitive("while", HOST, _infer, _ref, _vjp, doc="Result k of a loop that runs while a graph says so.")
primitive("unwind", HOST, _infer, _ref, _vjp, doc="Result k of the reverse pass of such a loop.")
WHILE, UNWIND = REGISTRY["while"], REGISTRY["unwind"]
