"""`while`: a loop that ends when a graph of its carries says so.

As in `loops`, nodes with equal inputs and spec are one loop.  The number of turns is known when it ends: the reverse pass is a
`Counted` of that many turns, which turns forward again, keeps what the way back reads, and then goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import FLOAT, int64
from ..ir.aval import aval
from ..ir.graph import Graph, Node, const, node, placeholder
from ..ir.primitive import HOST, REGISTRY
from .counted import COUNTED, Counted, counted_spec
from .declare import P, primitive
from .grouped import SOME, Cotangents, hooks, programs
from .loops import SCAN, _infer, _ref, _vjp, interned, looks, own, pulled, reached, scan_spec


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
        """Cotangents of constants and first carries: of loops over as many turns as this one has had."""
        return pulled(self, COUNTED, inputs, cts, self._turns(inputs))

    def back(self, given: tuple[int, ...]) -> tuple[Counted, list[int]]:
        """See `pulled`."""
        body = self.bodies[1]
        turns, *ins = [placeholder(a) for a in (aval((), int64), *[i.aval for i in body.inputs])]
        turn = Graph([placeholder(turns.aval), *body.inputs], body.outputs)
        spec = scan_spec(turn, SOME, self.consts + 1, self.carries, False)
        outs = [node(SCAN, (turns, *ins), (spec, k)) for k in given]
        cts = [placeholder(o.aval) for o in outs]
        floats = [k for k, i in enumerate(ins) if i.dtype.category >= FLOAT]
        found = dict(zip(floats, hooks["reverse"](outs, cts, [ins[k] for k in floats])))
        places = [k for k in floats if found[k] is not None]
        return counted_spec(Graph([turns, *ins, *cts], [found[k] for k in places])), places

    def _turns(self, inputs: Sequence[Node]) -> Node:
        """How many turns there are: what a carry counts, or one more carry."""
        m, (test, body, _) = self.consts, self.bodies
        for j, o in enumerate(body.outputs):
            if _is(inputs[m + j], 0) and o.op == "add" and o.inputs[0] is body.inputs[m + j] and _is(o.inputs[1], 1):
                return node(WHILE, tuple(inputs), (self, j))
        n, one = placeholder(aval((), int64)), const(1, int64)
        spec = while_spec(Graph([*test.inputs, n], test.outputs), Graph([*body.inputs, n], [*body.outputs, P.add(n, one)]), m)
        return node(WHILE, (*inputs, const(0, int64)), (spec, self.carries))


def _is(n: Node, k: int) -> bool:
    """Is it this number, int64?"""
    n = n.real or n
    return n.op == "const" and n.dtype is int64 and n.data == k


def while_spec(test: Graph, body: Graph, consts: int, end: Graph | None = None) -> While:
    """The loop with these graphs."""
    key = ("while", test.key, body.key, consts)
    return interned(key, lambda: While(own(test), own(body), consts, None if end is None else own(end)))  # type: ignore[no-any-return]


primitive("while", HOST, _infer, _ref, _vjp, doc="Result k of a loop that runs while a graph says so.")
WHILE = REGISTRY["while"]
