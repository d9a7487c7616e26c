"""A light recording: the forward nodes of a traced function and who called what, but no tape, no rules and no gradient.

In: a function and placeholders.  Out: `signature`, all that the whole recording would follow from, in the same terms that a
whole recording can be put in: so that two are known to be alike before anything is differentiated.  What a light recording
cannot follow (memory from outside, changes in place, hooks, custom Functions, data) raises `Heavy`, and the function is
recorded in the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT
from ..eager.state import state
from ..eager.storage import Storage
from ..eager.tape import NOWHERE, Output, Record
from ..eager.template import fingerprint
from ..eager.tensor import Tensor, new, value
from ..ir.graph import Graph, Node, node, placeholder
from ..ir.outline import Outline, outline
from ..ir.primitive import PLACEHOLDER
from ..ir.recipe import Recipe
from .trace import Check, Trace

MANY = 1 << 16                                            # more results than any op has


class Heavy(BaseException):
    """This function needs the ordinary recording.  No Exception: user code must not catch it."""


def _heavy(*_: Any) -> Any:
    raise Heavy


class Mark(Record):
    """What stands for the history of a result: only that there is one."""

    __slots__ = ("outs",)

    template = edges = saved = seq = code = lasti = property(_heavy, _heavy)  # type: ignore[assignment]

    def __init__(self) -> None:
        self.outs: Any = None


class LightTrace(Trace):
    """The open trace of a light recording; `record` stands in the place of `eager.apply.apply`."""

    def __init__(self) -> None:
        super().__init__()
        self.recipes: dict[Any, Any] = {}

    @property
    def light(self) -> LightTrace:  # type: ignore[override]
        return self

    def record(self, op: Any, args: Sequence[Any], static: tuple[Any, ...], number: bool) -> Any:
        """One public op: its nodes, and marks for what the tape would hold."""
        nodes: list[Any] = []
        key: list[Any] = [op, static and fingerprint(static)]
        taped = False
        for a in args:
            if isinstance(a, Tensor):
                s = a.storage
                if s.trace is not self or s.mem is not None:
                    raise Heavy
                n = s.value
                for prim, params in a.chain:
                    n = node(prim, (n,), params)
                nodes.append(n)
                key.append(a.aval)
                if not taped:
                    taped = a.fn is not None or a.req
            else:
                nodes.append(a)
                key.append(a)
        results, single = self._results(op, static, nodes, tuple(key))
        outs = [new(Storage(n, None, taped), n.aval) for n in results]
        if taped and state.grad and any([n.aval.dtype.category >= FLOAT for n in results]):
            mark = Mark()
            if single:
                outs[0].fn = mark
            else:
                for k, t in enumerate(outs):
                    if t.aval.dtype.category >= FLOAT:
                        t.fn = Output(mark, k)
        self.calls.append((op, static, number, state.grad, args, outs))
        return outs[0] if single else tuple(outs)

    def _results(self, op: Any, static: Any, nodes: list[Any], key: Any) -> tuple[Sequence[Node], bool]:
        """The nodes of an op's results; made without its rules from the second time on."""
        found = self.recipes.get(key)
        if type(found) is tuple:
            recipe, single = found
            return recipe(nodes), single
        if found is None:
            self.recipes[key] = 1
        elif all([type(n) is Node for n in nodes]):
            places = [placeholder(n.aval) for n in nodes]
            made = op.call(places, static)
            single = type(made) is Node
            recipe = Recipe(places, [made] if single else list(made))
            self.recipes[key] = recipe, single
            return recipe(nodes), single
        made = op.call(nodes, static)
        return ((made,), True) if type(made) is Node else (made, False)

    # what a light recording cannot follow
    touch = bump = assign_grad = draw = look = _heavy  # type: ignore[assignment]


def signature(trace: Trace, kept: Sequence[Tensor], placeholders: Sequence[Node], outputs: Sequence[Tensor]) -> Outline | None:
    """Forward graph, calls, the tape's edges and the results as one outline; None for a recording that holds more than that."""
    if trace.captured or trace.grads or trace.bumps or trace.draws or any([t.hooks or t.post for t in (*kept, *outputs)]):
        return None
    graph = Graph(placeholders, [value(t) for t in outputs])
    if any([n.prim is PLACEHOLDER and n not in set(placeholders) or n.op == "buffer" for n in graph.order]):
        return None
    line = outline(graph)
    number = {n: k for k, n in enumerate(graph.order)}
    rows: list[Any] = [line.key]
    ints = list(line.ints)
    places: dict[Any, int] = {t: -2 - k for k, t in enumerate(kept)}
    places[None], places[NOWHERE] = -1, MANY
    try:
        for j, (op, static, numbers, grad, args, outs) in enumerate(trace.calls):
            rows += (op, numbers, grad, _shape(static, ints))
            for a in args:
                if isinstance(a, Tensor):
                    rows += (number.get(value(a), -1), places[_edge(a)])
                else:
                    rows.append(None if a is None else number.get(a, -1))
            _results(j, outs, places)
        rows += [places[_edge(t)] for t in outputs]
        for c in trace.checks:
            rows += (number.get(c.index, -1), c.lowest, c.error, c.words, c.ignore)
            ints.append(c.end)
    except (KeyError, TypeError):                         # a history that no op made; a static value that is no key
        return None
    return Outline(tuple(rows), ints, line.floats)


def _edge(t: Tensor) -> Any:
    """Its place in the tape: a record, one of its results, a leaf, or None."""
    edge = t.fn if t.base is None else t.edge()
    return t if edge is None and t.req else edge


def _results(j: int, outs: Sequence[Tensor], places: dict[Any, int]) -> None:
    for k, t in enumerate(outs):
        fn = t.fn
        if fn is None:
            continue
        places[fn] = (j + 1) * MANY + k + 1
        record = fn.record if type(fn) is Output else fn
        if fn is not record and (fn.hooks or fn.retains) or any([v for w, v in record.__dict__.items() if w != "outs"]):
            raise KeyError(fn)                            # hooks, and all else that is rare


def _shape(v: Any, ints: list[int]) -> Any:
    """A static value as a key, its integers apart."""
    if type(v) is int:
        ints.append(v)
        return "int"
    if type(v) is tuple:
        return tuple([_shape(i, ints) for i in v])
    return fingerprint(v)


def checks_before(trace: Trace, placeholders: Sequence[Node]) -> list[tuple[int, Check]]:
    """The checks of inputs; Heavy for those of computed values."""
    found = _Sorted()
    for check in trace.checks:
        check.sort_into(found, placeholders, _heavy)
    return found.before


class _Sorted:
    """Takes what `Check.sort_into` gives."""

    __slots__ = ("before", "after")

    def __init__(self) -> None:
        self.before: list[tuple[int, Check]] = []
        self.after: list[Any] = []


Recorded = tuple[LightTrace, list[Tensor], list[Node], Any]


def run(call: Callable[[LightTrace], Recorded]) -> Recorded | None:
    """A light recording; None if it was too much for one."""
    trace = LightTrace()
    before = state.trace
    state.trace = trace
    try:
        return call(trace)
    except Heavy:
        return None
    finally:
        state.trace = before
        trace.closed = True
        trace.calls.clear()
        trace.recipes.clear()
