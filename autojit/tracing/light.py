"""A light recording: the forward nodes of a traced function and who called what, but no tape, no rules and no gradient.

In: a function and placeholders.  Out: `signature`, all that the whole recording follows from (every public op with its
arguments, their places in the tape, its static values), in terms that a whole recording can be put in as well: so that two
are known to be alike before anything is differentiated.  What a light recording cannot follow (memory from outside, changes
in place, hooks, custom Functions, data) raises `Heavy`, and the function is recorded in the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT, default_float
from ..eager.state import state
from ..eager.storage import Storage
from ..eager.tape import NOWHERE, Output, Record
from ..eager.template import fingerprint
from ..eager.tensor import Tensor, new, value
from ..ir.graph import Graph, Node, node, placeholder
from ..ir.outline import Outline, outline
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


class Signer:
    """Writes a signature, call by call.  Values and places in the tape are numbered as they come."""

    __slots__ = ("rows", "ints", "floats", "values", "places")

    def __init__(self, kept: Sequence[Tensor]) -> None:
        self.rows: list[Any] = [default_float(), state.inference]
        self.ints: list[int] = []
        self.floats: list[Any] = []
        self.values: dict[Node, int] = {}
        self.places: dict[Any, int] = {None: -1, NOWHERE: MANY}
        for k, t in enumerate(kept):
            n = value(t)
            self.values[n] = k
            self.places[t] = -2 - k
            self.rows += (n.aval.dtype, n.aval.device, len(n.aval.shape), t.req)
            self.ints += n.aval.shape

    def call(self, op: Any, static: Any, number: bool, grad: bool, args: Sequence[Any], nodes: Sequence[Any],
             outs: Sequence[Tensor], results: Sequence[Node]) -> None:
        """One public op: arguments and their nodes, results and theirs.  KeyError for a history that no op made."""
        rows, values, places = self.rows, self.values, self.places
        rows += (op, number, grad)
        if static:
            rows.append(_shape(static, self.ints))
        for a, n in zip(args, nodes):
            k = values.get(n)
            rows.append(self._outside(n) if k is None else k)
            if isinstance(a, Tensor):
                edge = a.fn if a.base is None else a.edge()
                rows.append(places[a if edge is None and a.req else edge])
        first = len(places) * MANY
        for k, (t, n) in enumerate(zip(outs, results)):
            rows.append(values.setdefault(n, len(values)))
            if t.fn is not None:
                places[t.fn] = first + k

    def _outside(self, n: Node | None) -> Any:
        """A value that is neither an argument nor a result: a number, or an array of one that the function made."""
        if n is None:
            return None
        line = outline(Graph((), (n,)))
        if "buffer" in line.key or "placeholder" in line.key:
            raise KeyError(n)
        self.ints += line.ints
        self.floats += line.floats
        return line.key

    def end(self, outputs: Sequence[Tensor], checks: Sequence[Check]) -> Outline:
        """The signature, with results and checks.  KeyError as `call`, and for hooks and other rare things."""
        for t in outputs:
            n, edge = value(t), t.fn if t.base is None else t.edge()
            k = self.values.get(n)
            self.rows += (self._outside(n) if k is None else k, self.places[t if edge is None and t.req else edge])
        for c in checks:
            self.rows += (self.values.get(c.index, -1), c.lowest, c.error, c.words, c.ignore)
            self.ints.append(c.end)
        for fn in self.places:
            if isinstance(fn, Tensor):
                rare = fn.hooks or fn.post
            elif isinstance(fn, Record):
                rare = any([v for w, v in fn.__dict__.items() if w != "outs"])
            else:
                rare = fn is not None and (fn.hooks or fn.retains)
            if rare:
                raise KeyError(fn)
        return Outline(tuple(self.rows), self.ints, self.floats)


def signature(trace: Trace, kept: Sequence[Tensor], outputs: Sequence[Tensor]) -> Outline | None:
    """The signature of a whole recording; None for one that holds more than calls."""
    if trace.captured or trace.grads or trace.bumps or trace.draws:
        return None
    try:
        signer = Signer(kept)
        for op, static, number, grad, args, outs in trace.calls:
            nodes = [value(a) if isinstance(a, Tensor) else a for a in args]
            signer.call(op, static, number, grad, args, nodes, outs, [value(t) for t in outs])
        return signer.end(outputs, trace.checks)
    except (KeyError, TypeError):                         # TypeError: a static value that is no key
        return None


def _shape(v: Any, ints: list[int]) -> Any:
    """A static value as a key, its integers apart."""
    kind = type(v)
    if kind is int:
        ints.append(v)
        return int
    if kind is tuple:
        return tuple([_shape(i, ints) for i in v])
    return fingerprint(v)


class LightTrace(Trace):
    """The open trace of a light recording; `record` stands in the place of `eager.apply.apply`."""

    def __init__(self) -> None:
        super().__init__()
        self.recipes: dict[Any, Any] = {}
        self.signer: Any = None                           # once the arguments are there

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
        grad = state.grad
        outs = [new(Storage(n, None, taped), n.aval) for n in results]
        if taped and grad:
            if not single:
                _several(outs)
            elif results[0].aval.dtype.category >= FLOAT:
                outs[0].fn = Mark()
        try:
            self.signer.call(op, static, number, grad, args, nodes, outs, results)
        except (KeyError, TypeError):
            raise Heavy from None
        return outs[0] if single else tuple(outs)

    def _results(self, op: Any, static: Any, nodes: list[Any], key: Any) -> tuple[Sequence[Node], bool]:
        """The nodes of an op's results; made without its rules from the second time on."""
        found = self.recipes.get(key)
        if type(found) is tuple:
            recipe, single = found
            return recipe(nodes), single
        if found is None:
            self.recipes[key] = 1
        elif None not in nodes:
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


def _several(outs: Sequence[Tensor]) -> None:
    """Marks for the floating results of an op with several."""
    mark = Mark()
    for k, t in enumerate(outs):
        if t.aval.dtype.category >= FLOAT:
            t.fn = Output(mark, k)


class _Sorted:
    """Takes what `Check.sort_into` gives."""

    __slots__ = ("before", "after")

    def __init__(self) -> None:
        self.before: list[tuple[int, Check]] = []
        self.after: list[Any] = []


def checks_before(trace: Trace, placeholders: Sequence[Node]) -> list[tuple[int, Check]]:
    """The checks of inputs; Heavy for those of computed values."""
    found = _Sorted()
    for check in trace.checks:
        check.sort_into(found, placeholders, _heavy)
    return found.before


def run(call: Callable[[LightTrace], None]) -> bool:
    """A light recording by `call`; False if it was too much for one."""
    trace = LightTrace()
    before = state.trace
    state.trace = trace
    try:
        call(trace)
        return True
    except Heavy:
        return False
    finally:
        state.trace = before
        trace.closed = True
        trace.recipes.clear()
        trace.signer = None
