"""A piece of graph recorded once over placeholders and made again over other nodes, without inference or Python rules.

In: placeholders and the nodes built from them.  Out: `Recipe`, called with nodes (hash-consed as usual) or replayed through
a function of the caller's.  Constants stay constants: one object between two runs, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .graph import _TABLE, Node, clock, linearise
from .primitive import CONST, LEAF, Primitive

Step = tuple[Primitive, tuple[int, ...], tuple[Any, ...], Any]


def _node(prim: Primitive, inputs: tuple[Node, ...], params: tuple[Any, ...], a: Any) -> Node:
    """`graph.node` without inference, over inputs that are not computed (or buffers)."""
    key = (prim, inputs, params)
    n = _TABLE.get(key)
    if n is not None:
        return n if n.real is None else n.real
    n = Node()
    n.prim, n.op, n.inputs, n.params, n.aval = prim, prim.name, inputs, params, a
    n.real = n.data = None
    born = clock.run
    for i in inputs:
        if i.born < born:
            born = i.born
    n.born = born
    _TABLE[key] = n                                       # whole: another thread, or Ctrl-C, may come at any moment
    return n


class Recipe:
    """`outputs` as instructions over numbered values: arguments first, then constants, then one value a step."""

    __slots__ = ("arity", "consts", "steps", "outputs", "single")

    def __init__(self, arguments: Sequence[Node], outputs: Sequence[Node]) -> None:
        number = {a: k for k, a in enumerate(arguments)}
        self.arity = len(number)
        order = [n for n in linearise(outputs, stop=number) if n not in number]
        self.consts: list[tuple[Any, Node]] = []
        for n in order:
            if n.prim.kind == LEAF:
                if n.prim is not CONST:
                    raise ValueError(f"{n!r} is neither an argument nor a constant")
                number[n] = len(number)
                self.consts.append(((CONST, n.dtype, *n.params), n))
        self.steps: list[Step] = []
        for n in order:
            if n.prim.kind != LEAF:
                self.steps.append((n.prim, tuple([number[i.real or i] for i in n.inputs]), n.params, n.aval))
                number[n] = len(number)
        self.outputs = tuple([number[o.real or o] for o in outputs])
        one = len(self.steps) == 1 and not self.consts and self.outputs == (self.arity,)
        self.single = self.steps[0] if one and self.steps[0][1] == tuple(range(self.arity)) else None

    def __call__(self, arguments: Sequence[Node]) -> list[Node]:
        """The outputs over `arguments`, which must have the avals of the placeholders."""
        if self.single is not None:                       # one node over the arguments as they are: most ops
            prim, _, params, a = self.single
            return [_node(prim, tuple([n if n.real is None else n.real for n in arguments]), params, a)]
        values = [n if n.real is None else n.real for n in arguments]
        for key, c in self.consts:
            values.append(_TABLE.setdefault(key, c))
        for prim, ins, params, a in self.steps:
            values.append(_node(prim, tuple([values[i] for i in ins]), params, a))
        return [values[o] for o in self.outputs]

    def replay(self, arguments: Sequence[Any], constant: Callable[[Node], Any],
               emit: Callable[[Primitive, list[Any], tuple[Any, ...]], Any]) -> list[Any]:
        """The same over values of the caller's own: `constant` lifts a constant, `emit` makes each step."""
        values = [*arguments, *[constant(c) for _, c in self.consts]]
        for prim, ins, params, _ in self.steps:
            values.append(emit(prim, [values[i] for i in ins], params))
        return [values[o] for o in self.outputs]


