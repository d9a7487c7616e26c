"""Control flow as nodes: `scan`, a loop with a body graph, and `branch`, one of two graphs.

A node's params are (spec, k): the k-th result of the whole.  Nodes with equal inputs and spec are one loop that runs once;
what nobody reads of it is no node and costs nothing.  Derivatives are loops and branches again.  Specs are interned: equal
ones are one object, so that programs are found again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT, bool_
from ..ir.aval import Aval, aval
from ..ir.graph import Graph, Node, const, linearise, node, placeholder, private, substitute
from ..ir.primitive import CONST, CONTRACT, ELEMENTWISE, HOST, LEAF, REGISTRY, TRANSFER, Primitive
from .declare import P, full, primitive
from .grouped import SOME, Cotangents, Run, hooks, programs
from .placement import zeros

_MOVED = frozenset(("reshape", "permute", "expand", "flip", "stop"))
CHEAP = 4                                                 # operations up to which the reverse turn computes a value again
KEPT = 1024                                               # specs that are remembered
_SPECS: dict[Any, Any] = {}


def own(graph: Graph) -> Graph:
    """The graph over placeholders of its own: it outlives the moment it was made in.  It knows of no device: a loop is where
    its operands are."""
    inputs = [placeholder(i.aval.host, k) for k, i in enumerate(graph.inputs)]
    env = dict(zip(graph.inputs, inputs))
    make = private()

    def build(prim: Primitive, ins: tuple[Node, ...], params: tuple[Any, ...]) -> Node:
        return ins[0] if prim.kind == TRANSFER else make(prim, ins, params)

    for n in graph.order:
        if n.prim is CONST and n.aval.device != "cpu":
            env[n] = const(n.data, n.dtype)
    return Graph(inputs, substitute(graph.outputs, env, build))


def interned(key: Any, make: Callable[[], Any]) -> Any:
    """The one spec with this key."""
    found = _SPECS.get(key)
    if found is None:
        if len(_SPECS) >= KEPT:
            _SPECS.clear()
        found = _SPECS[key] = make()
    return found


def pulled(spec: Any, op: Primitive, inputs: Sequence[Node], cts: Cotangents, *first: Node) -> list[Node | None]:
    """Cotangents of inputs by one call of `op`: `spec.back(given)` is what it calls, for the cotangents that there are, and
    whose cotangents its results are.  first: what it takes before the inputs."""
    given = tuple([k for k, c in enumerate(cts) if c is not None])
    back, places = interned(("reverse", spec, given), lambda: spec.back(given))
    takes: Any = (*first, *inputs, *[cts[k] for k in given])
    out: list[Node | None] = [None] * len(inputs)
    for j, place in enumerate(places):
        out[place] = node(op, takes, (back, j))
    return out


def reached(roots: Sequence[Node]) -> set[Node]:
    """All nodes that lead to the roots."""
    return set(linearise(roots))


def looks(nodes: Sequence[Node]) -> list[tuple[Any, Any]]:
    """Shape and dtype of each."""
    return [(n.shape, n.dtype) for n in nodes]


# ---------------------------------------------------------------- scan
class Scan:
    """A loop of `length` turns.  body: (constants, carries, slices of this turn) -> (carries, what is stacked).

    consts, carries: how many of each.  reverse: the last slice comes first.  base: the loop whose results are the first
    ones of this one, where this one keeps more for a reverse pass.  With the length SOME its first constant is the number
    of turns; such loops stand in the graph of a `Counted` alone."""

    __slots__ = ("body", "length", "consts", "carries", "reverse", "base", "avals", "takes", "kept", "_derived", "_backs")

    def __init__(self, body: Graph, length: int, consts: int, carries: int, reverse: bool, base: Scan | None) -> None:
        self.body, self.length, self.consts, self.carries = body, length, consts, carries
        self.reverse, self.base = reverse, base
        outs = [o.aval for o in body.outputs]
        self.avals = [*outs[:carries], *[aval((length, *a.shape), a.dtype, a.device) for a in outs[carries:]]]
        many = consts + carries
        self.takes = [*looks(body.inputs[:many]), *[((length, *shape), d) for shape, d in looks(body.inputs[many:])]]
        self.kept: dict[str, list[Run]] = {}
        self._derived: _Derived | None = None
        self._backs: dict[Any, Scan] = {}

    @property
    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,)

    def counts(self, k: int) -> bool:
        """Is input k the number of turns?"""
        return k == 0 and self.length == SOME

    def over(self, bodies: Sequence[Graph]) -> Scan:
        """The same loop with another text of its body."""
        return scan_spec(bodies[0], self.length, self.consts, self.carries, self.reverse)

    def __repr__(self) -> str:
        return f"<{'some' if self.length == SOME else self.length} turns of {len(self.body.order)} nodes>"

    # ------------------------------------------------------------ values
    def run(self, arrays: Sequence[Any], how: str = "program") -> list[Any]:
        """All results, turn by turn from Python."""
        import numpy as np
        (turn,) = programs(self, how)
        m, c = self.consts, self.carries
        consts, carry, xs = arrays[:m], list(arrays[m:m + c]), arrays[m + c:]
        length = int(arrays[0]) if self.length == SOME else self.length
        stacks = [np.empty((length, *a.shape[1:]), a.dtype.np) for a in self.avals[c:]]
        for t in reversed(range(length)) if self.reverse else range(length):
            outs = turn([*consts, *carry, *[x[t, ...] for x in xs]])
            carry = outs[:c]
            for stack, y in zip(stacks, outs[c:]):
                stack[t] = y
        return [*carry, *stacks]

    # ------------------------------------------------------------ what is used
    def pruned(self, used: Sequence[int]) -> tuple[Scan, list[int], dict[int, int], dict[int, int]]:
        """The loop for some of its results: spec, which inputs it takes, old result -> new one, and results that are
        nothing but an input (a carry that no turn changes)."""
        m, c, ins, outs = self.consts, self.carries, self.body.inputs, self.body.outputs
        fixed = [j for j in range(c) if outs[j] is ins[m + j]]
        ys = [k for k in used if k >= c]
        live = {k for k in used if k < c and k not in fixed}
        while True:
            seen = reached([outs[k] for k in [*sorted(live), *ys]])
            more = {j for j in range(c) if ins[m + j] in seen and j not in fixed}
            if more <= live:
                break
            live |= more
        carries = sorted(live)
        consts = [k for k in [*range(m), *[m + j for j in fixed]] if ins[k] in seen or self.counts(k)]
        xs = [k for k in range(m + c, len(ins)) if ins[k] in seen]
        takes = [*consts, *[m + j for j in carries], *xs]
        results = [*carries, *ys]
        graph = Graph([ins[k] for k in takes], [outs[k] for k in results])
        spec = scan_spec(graph, self.length, len(consts), len(carries), self.reverse)
        return spec, takes, {k: j for j, k in enumerate(results)}, {k: m + k for k in used if k in fixed}

    # ------------------------------------------------------------ derivatives
    def derived(self) -> _Derived:
        """The loop that keeps what a reverse pass reads, and the body of that pass."""
        if self._derived is None:
            self._derived = _Derived(self)
        return self._derived

    def pull(self, inputs: Sequence[Node], cts: Cotangents) -> list[Node | None]:
        """A loop run backwards over what the turns left.  Cotangents of constants are summed on the way."""
        d, c = self.derived(), self.carries
        given = tuple([k for k in range(c, len(cts)) if k in d.ys and cts[k] is not None])
        back = self._backs.get(given)
        if back is None:
            back = self._backs[given] = d.back(given)
        forward = tuple(inputs)
        init = [zeros(self.avals[j]) if cts[j] is None else cts[j] for j in d.float_carries]
        sums = [zeros(self.body.inputs[k].aval) for k in d.sums]
        kept = [node(SCAN, forward, (d.longer, k)) for k in d.kept]
        takes: list[Any] = [*[inputs[k] for k in d.consts], *init, *sums, *kept,
                            *[inputs[k] for k in d.slices], *[cts[k] for k in given]]
        results = [node(SCAN, tuple(takes), (back, k)) for k in range(len(back.avals))]
        out: list[Node | None] = [None] * len(inputs)
        places = [*[self.consts + j for j in d.float_carries], *d.sums, *d.moving]
        for place, r in zip(places, results):
            out[place] = r
        return out


class _Derived:
    """The reverse of a loop, all cotangents given.

    longer: the loop with what is kept; kept: which of its results the reverse turn reads.  consts, slices: which inputs it
    reads.  sums: constants that get a cotangent; moving: slices that do.  ys: stacked results that have one."""

    def __init__(self, spec: Scan) -> None:
        self.spec = spec
        body, m, c = spec.body, spec.consts, spec.carries
        ins, outs = body.inputs, body.outputs
        floats = [k for k, i in enumerate(ins) if i.dtype.category >= FLOAT]
        self.float_carries = [k - m for k in floats if m <= k < m + c]
        self.ys = [k for k in range(c, len(outs)) if outs[k].dtype.category >= FLOAT]
        differentiated = [*self.float_carries, *self.ys]
        self.cts = {k: placeholder(outs[k].aval) for k in differentiated}
        grads = dict(zip(floats, hooks["reverse"]([outs[k] for k in differentiated], [self.cts[k] for k in differentiated],
                                                   [ins[k] for k in floats])))
        self.sums = [k for k in floats if k < m and grads[k] is not None]
        self.moving = [k for k in floats if k >= m + c and grads[k] is not None]
        self.grads = [*[grads[m + j] if grads[m + j] is not None else full(0, ins[m + j].shape, ins[m + j].dtype)
                        for j in self.float_carries], *[grads[k] for k in self.sums], *[grads[k] for k in self.moving]]
        stored = self._stored()
        known = {n: k for k, n in reversed(list(enumerate(outs))) if k >= c}
        extra = [n for n in stored if n not in known]
        known |= {n: len(outs) + j for j, n in enumerate(extra)}
        self.kept = [known[n] for n in stored]
        self.longer = spec if not extra else scan_spec(Graph(ins, [*outs, *extra]), spec.length, m, c, spec.reverse, spec)
        self.stand: dict[Node, Node] = {n: placeholder(n.aval) for n in stored}
        self.grads = substitute(self.grads, dict(self.stand))
        seen = reached(self.grads)
        self.consts = [k for k in range(m) if ins[k] in seen or spec.counts(k)]
        self.slices = [k for k in range(m + c, len(ins)) if ins[k] in seen]

    def _stored(self) -> list[Node]:
        """Values of a turn that are kept for its reverse: as few and small as may be.  What follows from constants alone, from
        slices, or cheaply from what is kept anyway is computed again."""
        spec = self.spec
        m, c, ins = spec.consts, spec.carries, spec.body.inputs
        order = linearise([g for g in self.grads if g is not None])
        behind, varying = set(self.cts.values()), set(ins[m:])
        for n in order:
            if n.prim.kind != LEAF:
                operands = [i.real or i for i in n.inputs]
                behind.update([n] if any([i in behind for i in operands]) else [])
                varying.update([n] if any([i in varying for i in operands]) else [])
        there = {*ins[:m], *ins[m + c:]}
        wanted: dict[Node, None] = {}
        for n in order:
            if n in behind:
                wanted.update(dict.fromkeys([i.real or i for i in n.inputs if (i.real or i) not in behind]))
        wanted.update(dict.fromkeys([g for g in self.grads if g is not None and g not in behind]))
        stored: dict[Node, None] = {}
        for n in wanted:
            while n.op in _MOVED:
                n = n.inputs[0].real or n.inputs[0]
            if n in varying and n not in there:
                stored[n] = None
        place = {n: k for k, n in enumerate(order)}
        out: list[Node] = []
        for n in sorted(stored, key=place.__getitem__):
            if not self._ready(n, there, varying, CHEAP):
                out.append(n)
            there.add(n)
        return self._again(out, order)

    def _ready(self, n: Node, there: set[Node], varying: set[Node], cost: int) -> bool:
        """Does a value follow from what is there, by at most `cost` operations one after the other?"""
        while n.op in _MOVED and n not in there:
            n = n.inputs[0].real or n.inputs[0]
        if n in there or n not in varying:
            return True
        left = cost - n.prim.cost
        return n.prim.kind == ELEMENTWISE and left >= 0 and all([self._ready(i.real or i, there, varying, left)
                                                                 for i in n.inputs])

    def _again(self, stored: list[Node], order: Sequence[Node]) -> list[Node]:
        """The carries alone, if the turn is arithmetic: then computing it again is less than reading more."""
        m, c, ins = self.spec.consts, self.spec.carries, self.spec.body.inputs
        if any([n.prim.kind in (CONTRACT, HOST) for n in order]):
            return stored
        carries = [i for i in ins[m:m + c] if i in set(order)]
        size = sum([i.aval.size * i.dtype.itemsize for i in carries])
        return carries if size < sum([n.aval.size * n.dtype.itemsize for n in stored]) else stored

    def back(self, given: tuple[int, ...]) -> Scan:
        """The reverse loop for cotangents of all carries and of the stacked results `given`."""
        spec = self.spec
        ins = spec.body.inputs
        sums = [placeholder(ins[k].aval) for k in self.sums]
        silent = {ct: full(0, ct.shape, ct.dtype) for k, ct in self.cts.items() if k in self.ys and k not in given}
        grads = substitute(self.grads, silent)
        n = len(self.float_carries)
        outs = [*grads[:n], *[P.add(s, g) for s, g in zip(sums, grads[n:])], *grads[n + len(sums):]]
        takes = [*[ins[k] for k in self.consts], *[self.cts[j] for j in self.float_carries], *sums, *self.stand.values(),
                 *[ins[k] for k in self.slices], *[self.cts[k] for k in given]]
        return scan_spec(Graph(takes, outs), spec.length, len(self.consts), n + len(sums), not spec.reverse)


def scan_spec(body: Graph, length: int, consts: int, carries: int, reverse: bool, base: Scan | None = None) -> Scan:
    """The loop with this body."""
    key = ("scan", body.key, length, consts, carries, reverse, base)
    return interned(key, lambda: Scan(own(body), length, consts, carries, reverse, base))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- branch
class Branch:
    """One of two graphs over the same inputs, by a predicate, which is the first input."""

    __slots__ = ("bodies", "avals", "takes", "kept")
    base = None

    def __init__(self, yes: Graph, no: Graph) -> None:
        self.bodies = (yes, no)
        self.avals = [o.aval for o in yes.outputs]
        self.takes = [((), bool_), *looks(yes.inputs)]
        self.kept: dict[str, list[Run]] = {}

    def over(self, bodies: Sequence[Graph]) -> Branch:
        """The same choice between other texts."""
        return branch_spec(*bodies)

    def __repr__(self) -> str:
        return f"<{len(self.bodies[0].order)} nodes or {len(self.bodies[1].order)}>"

    def run(self, arrays: Sequence[Any], how: str = "program") -> list[Any]:
        """The results of the graph that the predicate chooses."""
        return programs(self, how)[0 if arrays[0] else 1](arrays[1:])

    def pruned(self, used: Sequence[int]) -> tuple[Branch, list[int], dict[int, int], dict[int, int]]:
        """As for `Scan`."""
        seen = [reached([b.outputs[k] for k in used]) for b in self.bodies]
        takes = [k for k in range(len(self.bodies[0].inputs)) if any([b.inputs[k] in s for b, s in zip(self.bodies, seen)])]
        spec = branch_spec(*[Graph([b.inputs[k] for k in takes], [b.outputs[k] for k in used]) for b in self.bodies])
        return spec, [0, *[k + 1 for k in takes]], {k: j for j, k in enumerate(used)}, {}

    def pull(self, inputs: Sequence[Node], cts: Cotangents) -> list[Node | None]:
        """The reverse of the side that was taken; it computes again what it reads of that side."""
        return pulled(self, BRANCH, inputs, cts)

    def back(self, given: tuple[int, ...]) -> tuple[Branch, list[int]]:
        """See `pulled`."""
        sides: list[tuple[list[Node], list[Node], list[Node | None]]] = []
        floats = [k for k, i in enumerate(self.bodies[0].inputs) if i.dtype.category >= FLOAT]
        for b in self.bodies:
            cts = [placeholder(b.outputs[k].aval) for k in given]
            grads = hooks["reverse"]([b.outputs[k] for k in given], cts, [b.inputs[k] for k in floats])
            sides.append((list(b.inputs), cts, grads))
        places = [j for j in range(len(floats)) if any([grads[j] is not None for _, _, grads in sides])]
        graphs = [Graph([*ins, *cts], [grads[j] or full(0, ins[floats[j]].shape, ins[floats[j]].dtype) for j in places])
                  for ins, cts, grads in sides]
        return branch_spec(*graphs), [floats[j] + 1 for j in places]


def branch_spec(yes: Graph, no: Graph) -> Branch:
    """The choice between two graphs."""
    return interned(("branch", yes.key, no.key), lambda: Branch(own(yes), own(no)))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- as primitives
def _infer(*more: Any) -> Aval:
    *avals, spec, k = more
    if [(a.shape, a.dtype) for a in avals] != spec.takes:
        raise TypeError(f"{spec!r} takes {spec.takes}, not {avals}")
    return spec.avals[k]  # type: ignore[no-any-return]


def _ref(*more: Any) -> Any:
    *arrays, spec, k = more
    return spec.run(arrays)[k]


def _vjp(ct: Node, out: Node, *more: Any) -> list[Node | None]:
    *inputs, spec, k = more
    return spec.pull(inputs, [ct if j == k else None for j in range(len(spec.avals))])  # type: ignore[no-any-return]


primitive("scan", HOST, _infer, _ref, _vjp, doc="Result k of a loop with a body graph.")
primitive("branch", HOST, _infer, _ref, _vjp, doc="Result k of one of two graphs, chosen by the first input.")
SCAN, BRANCH = REGISTRY["scan"], REGISTRY["branch"]
