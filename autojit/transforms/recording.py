"""A function as a graph, for the moment: recorded on placeholders, transformed by others, put where it was called.

In: a function and its arguments as leaves.  Out: `Recorded`, nodes over placeholders; `place`, which makes tensors of nodes
in whatever surrounds the call: the tape, an outer recording, both.  The tape of the recording says what is constant
(`detach`, `no_grad`): where it does, a `stop` stands in the graph, so that passes over nodes agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .. import tree
from ..dtypes import FLOAT
from ..eager.apply import apply
from ..eager.backward import backward_nodes
from ..eager.checks import extent
from ..eager.evaluate import realise
from ..eager.placing import host
from ..eager.state import state
from ..eager.storage import Storage
from ..eager.tape import NOWHERE
from ..eager.template import Rule
from ..eager.tensor import Tensor, alias, new, value, wrap
from ..errors import TraceError, explain
from ..ir.aval import Aval
from ..ir.graph import Graph, Node, buffer, linearise, placeholder, substitute
from ..ir.primitive import BUFFER, CONST, LEAF, PLACEHOLDER, SCALAR
from ..ir.recipe import Recipe
from ..ops.declare import P
from ..ops.random import split
from ..tracing.light import Heavy
from ..tracing.trace import Captured, Trace, flag_of

Answer = TypeVar("Answer")
KEPT = 1024                                               # rules that are remembered
_RULES: dict[Any, Rule] = {}


class FunctionTrace(Trace):
    """The open recording of a transformed function.  Values can be asked for where there is one: they are those of this call.

    outside: placeholder -> what it stands for, a tensor or node of the surroundings.  rows: placeholders that stand for one
    of many examples.  watching: does anything want a derivative."""

    def __init__(self, rows: dict[Node, Any] | None = None, size: int = 0, randomness: str = "same") -> None:
        super().__init__()
        self.outer = state.trace
        self.rows = rows
        self.size, self.randomness = size, randomness
        self.outside: dict[Node, Any] = {}
        self.watching = False
        self._loose: set[Any] = set()                     # version cells of what was detached

    def touch(self, storage: Storage, tensor: Any) -> None:
        if storage not in self.captured:
            super().touch(storage, tensor)
            t = self.captured[storage].tensor
            self.watching = self.watching or isinstance(t, Tensor) and t.requires_grad

    def through(self, tensor: Tensor, n: Node, edge: Any) -> Node:
        if edge is None or edge is NOWHERE:               # a constant, says the tape
            constant = self.watching and n.dtype.category >= FLOAT and n.prim not in (CONST, SCALAR, BUFFER)
            return P.stop(n) if constant else n
        c = self.captured.get(tensor.storage)
        if c is not None and not (isinstance(c.tensor, Tensor) and c.tensor.requires_grad):
            self.cut, c.tensor = True, tensor if tensor.base is None else tensor.base
        return n

    def detached(self, tensor: Tensor) -> None:
        self._loose.add(tensor.cell)

    def bump(self, cell: Any) -> None:
        super().bump(cell)
        self.cut = self.cut or cell in self._loose        # written behind the tape's back

    def draw(self, make: Callable[[], Any], a: Aval) -> Node:
        n = placeholder(a)
        if self.rows is not None and self.randomness == "error":
            raise explain(RuntimeError(
                "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
                "randomness flags on vmap or perform the randomness operation out of vmap"))
        if self.rows is None or self.randomness == "same":
            self.outside[n] = self._drawn(make, a)
        else:
            self.rows[n] = None
            self.outside[n] = split(self._drawn(make, a), P.iota((self.size,), 0))
        return n

    def _drawn(self, make: Callable[[], Any], a: Aval) -> Node:
        if self.outer is None:
            return buffer(make(), a)
        return self.outer.draw(make, a)  # type: ignore[no-any-return]

    def look(self, nodes: Sequence[Node]) -> list[Any]:
        """Values of this call, if they are the same for all examples."""
        return self.ask(nodes, lambda found: [realise(n) for n in found])

    def decide(self, n: Node) -> bool:
        """Which way a branch goes in this call; the surroundings may depend on it."""
        def answer(found: list[Node]) -> bool:
            if self.outer is not None:
                return self.outer.decide(found[0])  # type: ignore[no-any-return]
            return bool(host(flag_of(found[0])))
        return self.ask([n], answer)

    def ask(self, nodes: Sequence[Node], answer: Callable[[list[Node]], Answer]) -> Answer:
        """What the surroundings say of nodes."""
        leaves = [m for m in linearise(nodes) if m.prim is PLACEHOLDER]
        if self.rows is not None and any(m in self.rows for m in leaves):
            raise explain(RuntimeError(
                "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow or to read its "
                "value (.item()), which differs from example to example."),
                          hint="choose with aj.where(condition, a, b) or aj.cond")
        captured = {c.placeholder: s for s, c in self.captured.items()}
        env: dict[Node, Node] = {}
        state.trace = self.outer                          # the surroundings answer
        try:
            for m in leaves:
                if m in self.outside:
                    env[m] = node_of(self.outside[m])
                elif m in captured:
                    env[m] = self._held(captured[m])
                else:
                    raise explain(TraceError("a tensor of another recording is used in this one"))
            return answer(substitute(nodes, env))
        finally:
            state.trace = self

    def _held(self, storage: Storage) -> Node:
        """What a captured storage holds for the surroundings, which may have to capture it too."""
        c = self.captured[storage]
        now = storage.value
        storage.value, storage.mem, storage.trace = c.value, c.mem, c.trace
        found = storage.read(c.tensor)
        c.value, c.mem, c.trace = storage.value, storage.mem, storage.trace
        storage.value, storage.mem, storage.trace = now, None, self
        return found


class Recorded:
    """What a function does to its arguments.

    arguments: placeholders of the run-time leaves, in order.  outputs: nodes of the tensors that it returned.  structure,
    static: what it returned, with None for tensors.  needs: which outputs depend on what wants a derivative.
    outside: placeholder -> tensor or node of the surroundings, for all but the arguments.  rows: placeholders of random
    numbers that differ from example to example.  cut: only the tape knows the derivatives (custom functions, hooks).
    pulls: for each output None, or its cotangent and [(placeholder, cotangent node)], by the tape.  checks: see `check`."""

    __slots__ = ("name", "arguments", "outputs", "structure", "static", "needs", "outside", "rows", "cut", "pulls", "checks")

    name: str
    arguments: list[Node]
    outputs: list[Node]
    structure: Any
    static: list[Any]
    needs: list[bool]
    outside: dict[Node, Any]
    rows: set[Node]
    cut: bool
    pulls: list[tuple[Node, list[tuple[Node, Node]]] | None]
    checks: list[Any]

    def nest(self, outs: Sequence[Any]) -> Any:
        """Results in the structure that the function returned."""
        it = iter(outs)
        return tree.unflatten(self.structure, [next(it) if s is None else s for s in self.static])

    def check(self, mapped: Callable[[Sequence[Node]], list[Node]], given: dict[Node, Any]) -> None:
        """What values alone can show wrong (places out of range).  `mapped`: nodes as the transform has them."""
        if not self.checks:
            return
        env = {p: node_of(t) for p, t in (self.outside | given).items()}
        for c, n in zip(self.checks, substitute(mapped([c.index for c in self.checks]), env)):
            if state.trace is not None:
                state.trace.check(n, c.lowest, c.end, c.error, c.words, c.ignore)
                continue
            found = extent(n, c.ignore)
            if found is not None:
                c.range(*found)


def node_of(t: Any) -> Node:
    """The node of a tensor, or a node itself."""
    return value(t) if isinstance(t, Tensor) else t


def function_name(fn: Any) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


class recording:
    """`with recording(trace):` the trace is open; everything outside is put back at the end."""

    def __init__(self, trace: FunctionTrace, grad: bool | None) -> None:
        self.trace, self.grad = trace, grad

    def __enter__(self) -> None:
        if self.trace.outer is not None and self.trace.outer.light is not None:
            raise Heavy                                   # of no use to a recording without nodes
        self.before = state.grad
        state.trace = self.trace
        if self.grad is not None:
            state.grad = self.grad

    def __exit__(self, *exc: object) -> None:
        state.trace, state.grad = self.trace.outer, self.before
        self.trace.restore()


def record(fn: Callable[..., Any], leaves: Sequence[Any], structure: Any, wants: Sequence[bool], trace: FunctionTrace,
           mapped: Sequence[bool] = (), avals: Sequence[Aval] = (), grad: bool | None = True, pulls: str = "") -> Recorded:
    """`fn` on placeholders.  leaves: tensors, and whatever else as it is.  For each tensor: `wants`, does it want a
    derivative; `mapped`, is it one of many examples; `avals`, what the function sees.  grad: the grad mode; pulls: take
    the reverse from the tape, "always" or where only the tape knows it ("cut")."""
    tensors = [x for x in leaves if isinstance(x, Tensor)]
    r = Recorded()
    r.name, r.cut, r.pulls = function_name(fn), False, []
    with recording(trace, grad):
        kept = []
        for k, t in enumerate(tensors):
            p = placeholder(avals[k] if avals else t.aval)
            inner = new(Storage(p), p.aval)
            inner.req = wants[k]
            trace.watching = trace.watching or wants[k]
            kept.append((inner, p))
            if mapped and mapped[k]:
                assert trace.rows is not None
                trace.rows[p] = None
            trace.outside[p] = t
        it = iter([t for t, _ in kept])
        args, kwargs = tree.unflatten(structure, [next(it) if isinstance(x, Tensor) else x for x in leaves])
        out = fn(*args, **kwargs)
        r.arguments = [p for _, p in kept]
        _finish(r, trace, out, kept, pulls)
    return r


def _finish(r: Recorded, trace: FunctionTrace, out: Any, kept: list[tuple[Tensor, Node]], pulls: str) -> None:
    flat, r.structure = tree.flatten(out)
    r.static = [None if isinstance(t, Tensor) else t for t in flat]
    tensors = [t for t in flat if isinstance(t, Tensor)]
    _unwritten(r.name, trace, kept)
    r.needs = [t.requires_grad for t in tensors]
    nodes = [value(t) for t in tensors]
    r.outputs = [P.stop(n) if trace.watching and not need and n.dtype.category >= FLOAT else n
                 for n, need in zip(nodes, r.needs)]
    r.cut, r.checks = trace.cut, trace.checks
    if pulls == "always" or pulls == "cut" and trace.cut:
        wanted = [(p, t) for t, p in kept if t.req]
        wanted += [(c.placeholder, c.tensor) for c in trace.captured.values()
                   if isinstance(c.tensor, Tensor) and c.tensor.requires_grad]
        r.pulls = [_pull(t, wanted) if need else None for t, need in zip(tensors, r.needs)]
    arguments = set(r.arguments)
    r.rows = set(trace.rows or ()) - arguments
    r.outside = {p: t for p, t in trace.outside.items() if p not in arguments}
    for c in trace.captured.values():
        r.outside[c.placeholder] = _tensor(c)


def _pull(t: Tensor, wanted: list[tuple[Node, Tensor]]) -> tuple[Node, list[tuple[Node, Node]]]:
    ct = placeholder(t.aval)
    found = backward_nodes([t], [ct], [w for _, w in wanted])
    return ct, [(p, g) for (p, _), g in zip(wanted, found) if g is not None]


def _tensor(c: Captured) -> Any:
    return c.tensor if isinstance(c.tensor, Tensor) else new(c.tensor.storage, c.placeholder.aval)


def _unwritten(name: str, trace: FunctionTrace, kept: list[tuple[Tensor, Node]]) -> None:
    """A transformed function computes: it changes nothing that was there before."""
    known = {t for t, _ in kept}
    if any(t in known or t.storage in trace.captured or t.storage.trace is not trace for t in trace.grads):
        raise explain(RuntimeError(f"{name} changes .grad, and is transformed"), hint="use aj.grad inside of it")
    written = any(t.storage.value is not p for t, p in kept)
    if written or any(s.value is not c.placeholder for s, c in trace.captured.items()):
        raise explain(RuntimeError(f"{name} changes {'its argument' if written else 'a tensor from outside'} in place, and is "
                                   "transformed"), hint="work on a copy: clone() the tensor first")


# ---------------------------------------------------------------- into the surroundings
def place(name: str, outputs: Sequence[Node], given: dict[Node, Any], needs: Sequence[bool] = ()) -> list[Tensor]:
    """Tensors of `outputs` (nodes over placeholders) where the placeholders are `given`, tensors or nodes.  They stand in the
    tape as one op, which is differentiated by its nodes, to any order.  `needs`: which of them may want a derivative."""
    env = dict(given)
    inputs = [n for n in linearise(outputs) if n.prim.kind == LEAF and n.prim is not CONST]
    for n in inputs:
        if n not in env:
            if n.prim is PLACEHOLDER:
                raise explain(TraceError("a tensor of another recording is used in this one"))
            env[n] = n
    args = [env[n] for n in inputs]
    if not any(isinstance(a, Tensor) for a in args):
        return [wrap(n) for n in substitute(outputs, env)]
    made = apply(_rule(name, Graph(inputs, outputs)), args)
    found = list(made) if isinstance(made, tuple) else [made]
    return [t if need else alias(t) for t, need in zip(found, needs)] if needs else found


def _rule(name: str, graph: Graph) -> Rule:
    """The op that stands for a graph; the same for the same graph, so that its derivative is worked out once."""
    key = (name, graph.key)
    rule = _RULES.get(key)
    if rule is None:
        recipe = Recipe(graph.inputs, graph.outputs)

        def fn(*nodes: Node) -> Any:
            outs = recipe(nodes)
            return outs[0] if len(outs) == 1 else tuple(outs)

        if len(_RULES) >= KEPT:
            _RULES.clear()
        title = "".join([w[:1].upper() + w[1:] for w in name.split("_")])
        rule = _RULES[key] = Rule(name, fn, title + "Backward", across=True)
    return rule
