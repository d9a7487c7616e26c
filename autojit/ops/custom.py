"""`custom`: a call of a function that the user has compiled, as nodes.

A node's params are (spec, k): result k of the call.  Nodes with equal inputs and spec are one call, as the results of a loop
are one loop (`grouped.py`).  A spec is itself and nothing else: two functions of one name, or one function with two rules, are
never taken for each other.  Knows no compiler: `function` is whatever fills arrays when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dtypes import FLOAT
from ..errors import NoDerivative
from ..ir.aval import Aval, aval
from ..ir.graph import Graph, Node, node, substitute
from ..ir.primitive import HOST, REGISTRY
from .declare import P, primitive
from .grouped import Cotangents, hooks
from .placement import zeros

Nodes = Sequence[Node]
Grads = list[Node | None]


class Custom:
    """One kind of call: ``function(*arguments, *results)`` reads the arguments and fills the results.

    fixed: for each argument None (an operand) or (value,), what it is in every call.  operands, results: avals of one turn.
    lead: the axes that batching has put in front, over which the function is called in turn; moving: which operands have
    them.  rule: what the reverse is, or None; `why`: what is said where there is none.  one: the spec without `lead`."""

    __slots__ = ("name", "function", "fixed", "operands", "results", "lead", "moving", "rule", "why", "one", "takes", "avals",
                 "kept", "_more")
    base = None
    bodies: tuple[Graph, ...] = ()

    def __init__(self, name: str, function: Any, fixed: Sequence[tuple[Any, ...] | None],
                 operands: Sequence[Aval], results: Sequence[Aval], rule: Any, why: str,
                 one: Custom | None = None, lead: tuple[int, ...] = (), moving: Sequence[bool] = ()) -> None:
        self.name, self.function, self.fixed, self.rule, self.why = name, function, tuple(fixed), rule, why
        self.operands, self.results, self.lead = tuple(operands), tuple(results), lead
        self.moving = tuple(moving) or (False,) * len(self.operands)
        self.one: Custom = one or self
        self.takes = [_longer(a, lead) if m else a for a, m in zip(self.operands, self.moving)]
        self.avals = [_longer(a, lead) for a in self.results]
        self.kept: dict[str, Any] = {}                    # what backends keep
        self._more: dict[Any, Custom] = {}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def led(self, lead: tuple[int, ...], moving: tuple[bool, ...]) -> Custom:
        """The same call for many examples."""
        if not lead:
            return self.one
        more = self.one._more
        if (lead, moving) not in more:
            one = self.one
            more[lead, moving] = Custom(one.name, one.function, one.fixed, one.operands, one.results, one.rule, one.why, one,
                                        lead, moving)
        return more[lead, moving]

    @property
    def turns(self) -> int:
        return int(np.prod(self.lead, dtype=np.int64))

    # ------------------------------------------------------------ what loops have too (`rewrite/loops.py`)
    def pruned(self, used: Sequence[int]) -> tuple[Custom, list[int], dict[int, int], dict[int, int]]:
        """A call computes all it computes."""
        return self, list(range(len(self.takes))), {k: k for k in used}, {}

    def over(self, bodies: Sequence[Graph]) -> Custom:
        return self

    # ------------------------------------------------------------ values
    def run(self, arrays: Sequence[Any], how: str = "program") -> list[Any]:
        """All results, from Python."""
        outs = [np.empty(a.shape, a.dtype.np) for a in self.avals]
        given = [a if a.flags.c_contiguous and a.flags.writeable else a.copy() for a in map(np.asarray, arrays)]
        for turn in np.ndindex(self.lead):
            it = iter([g[turn] if m and not a.shape else g[()] if not a.shape else g[(*turn, ...)] if m else g
                       for g, m, a in zip(given, self.moving, self.operands)])
            self.function(*[next(it) if f is None else f[0] for f in self.fixed], *[o[(*turn, ...)] for o in outs])
        return outs

    # ------------------------------------------------------------ derivatives
    def pull(self, inputs: Nodes, cts: Cotangents) -> Grads:
        """Cotangents of the operands, given those of all results."""
        if self.rule is None:
            raise NoDerivative(self.why)
        outs = [node(CUSTOM, tuple(inputs), (self, k)) for k in range(len(self.avals))]
        given = [c if c is not None else zeros(a) for c, a in zip(cts, self.avals) if a.dtype.category >= FLOAT]
        return self.rule.pull(self, inputs, outs, given)  # type: ignore[no-any-return]

    def floats(self) -> list[int]:
        """The operands that have a cotangent."""
        return [k for k, a in enumerate(self.operands) if a.dtype.category >= FLOAT]


class Compiled:
    """A reverse that is itself a compiled function: ``function(*arguments, *results, *cotangents, *what it fills)``, one
    cotangent for each floating result, one array to fill for each floating operand."""

    __slots__ = ("function", "name", "why", "_known")
    linear = False                                        # nobody can look inside

    def __init__(self, function: Callable[..., Any], name: str, why: str) -> None:
        self.function, self.name, self.why = function, name, why
        self._known: dict[Custom, Custom] = {}

    def spec(self, one: Custom) -> Custom:
        """The reverse call of `one`."""
        found = self._known.get(one)
        if found is None:
            floats = [a for a in one.results if a.dtype.category >= FLOAT]
            read = [*one.operands, *one.results, *floats]
            fixed = [*one.fixed, *[None] * (len(one.results) + len(floats))]
            found = self._known[one] = Custom(self.name, self.function, fixed, read, [one.operands[k] for k in one.floats()],
                                              None, self.why)
        return found

    def pull(self, spec: Custom, inputs: Nodes, outs: Nodes, cts: Nodes) -> Grads:
        one = self.spec(spec.one)
        back = one.led(spec.lead, (*spec.moving, *[True] * (len(outs) + len(cts)))) if spec.lead else one
        made: Grads = [None] * len(inputs)
        for j, k in enumerate(spec.floats()):
            g = node(CUSTOM, (*inputs, *outs, *cts), (back, j))
            made[k] = g if spec.moving[k] or not spec.lead else P.sum(g, tuple(range(len(spec.lead))))
        return made


class Written:
    """A reverse that is written in ops: `derive(spec)` gives (placeholders of operands, results and cotangents; for each
    operand its cotangent or None)."""

    __slots__ = ("derive", "_known")
    linear = True

    def __init__(self, derive: Callable[[Custom], tuple[Nodes, Grads]]) -> None:
        self.derive = derive
        self._known: dict[Custom, tuple[Nodes, Grads]] = {}

    def graph(self, one: Custom) -> tuple[Nodes, Grads]:
        if one not in self._known:
            self._known[one] = self.derive(one)
        return self._known[one]

    def pull(self, spec: Custom, inputs: Nodes, outs: Nodes, cts: Nodes) -> Grads:
        stand, grads = self.graph(spec.one)
        there = [g for g in grads if g is not None]
        given = [*inputs, *outs, *cts]
        if not spec.lead:
            made = iter(substitute(there, dict(zip(stand, given))))
            return [None if g is None else next(made) for g in grads]
        moving = [*spec.moving, *[True] * (len(outs) + len(cts))]
        flat = {p: P.reshape(x, (spec.turns, *p.shape)) for p, x, m in zip(stand, given, moving) if m}
        found = hooks["batch"](there, flat, spec.turns)
        still = {p: x for p, x, m in zip(stand, given, moving) if not m}
        ends = iter([(g, many) for g, (_, many) in
                     zip(substitute([g for g, _ in found], still | {x: x for x in flat.values()}), found)])
        return [None if g is None else self._gathered(spec, k, *next(ends)) for k, g in enumerate(grads)]

    @staticmethod
    def _gathered(spec: Custom, k: int, g: Node, many: bool) -> Node:
        """A cotangent in the shape of operand k: what all turns share is the sum over them."""
        if not many:
            g = P.expand(P.reshape(g, (1, *g.shape)), (spec.turns, *g.shape))
        return P.reshape(g, spec.takes[k].shape) if spec.moving[k] else P.sum(g, (0,))


def reading(grads: Grads, group: dict[int, Node], known: dict[Node, Node]) -> Grads:
    """Cotangents that read results as their rule's caller has them (`known`), so that the call is not made again."""
    env = {n: known[n] for n in group.values() if n in known}
    there = [g for g in grads if g is not None]
    made = iter(substitute(there, env))
    return [None if g is None else next(made) for g in grads]


def _longer(a: Aval, lead: tuple[int, ...]) -> Aval:
    return aval((*lead, *a.shape), a.dtype, a.device)


def _infer(*more: Any) -> Aval:
    *avals, spec, k = more
    if list(avals) != spec.takes:
        raise TypeError(f"{spec!r} takes {spec.takes}, not {avals}")
    return spec.avals[k]  # type: ignore[no-any-return]


def _ref(*more: Any) -> Any:
    *arrays, spec, k = more
    return spec.run(arrays)[k]


def _vjp(ct: Node, out: Node, *more: Any) -> Grads:
    *inputs, spec, k = more
    return spec.pull(inputs, [ct if j == k else None for j in range(len(spec.avals))])  # type: ignore[no-any-return]


primitive("custom", HOST, _infer, _ref, _vjp, doc="Result k of a call of a function that the user has compiled.")
CUSTOM = REGISTRY["custom"]
