"""A light recording of a traced function: who called what on which shapes, but no nodes, no tape and no gradient.

In: a function and placeholders.  Out: `signature`, all that the whole recording follows from (every public op with its
arguments, their places in the tape, its static values), in terms that a whole recording can be put in as well: so that two
are known to be alike before anything is differentiated.  What a light recording cannot follow (changes in place, views
from outside, hooks, custom Functions, data) raises `Heavy`, and the function is recorded in the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import FLOAT, default_float
from ..eager.state import state
from ..eager.storage import Storage
from ..eager.tape import NOWHERE, Output, Record
from ..eager.template import CLONE, chain_to, fingerprint
from ..eager.tensor import Tensor, new, value, view_of
from ..eager.views import layout_of, pointwise_strides
from ..ir.graph import Graph, Node, linearise, placeholder
from ..ir.outline import Outline, outline
from ..ir.primitive import ELEMENTWISE, LEAF
from .trace import Captured, Check, Trace

MANY = 1 << 16                                            # more results than any op has


class Heavy(BaseException):
    """This function needs the ordinary recording.  No Exception, so that user code does not catch it by chance; where it does
    all the same, the trace remembers."""

    def __init__(self) -> None:
        if state.trace is not None and state.trace.light is not None:
            state.trace.light.refused = True


def _heavy(*_: Any) -> Any:
    raise Heavy


class Mark(Record):
    """What stands for the history of a result: only that there is one."""

    __slots__ = ("outs",)

    template = edges = saved = seq = code = lasti = property(_heavy, _heavy)  # type: ignore[assignment]

    def __init__(self) -> None:
        self.outs: Any = None


class Signer:
    """Writes a signature, call by call.  Values (by the memory that holds them, and what a view shows of it) and places in the
    tape are numbered as they come; which of them are equal follows from the calls."""

    __slots__ = ("rows", "ints", "floats", "values", "places", "count", "captured")

    def __init__(self, kept: Sequence[Tensor], captured: dict[Storage, Captured]) -> None:
        self.captured = captured
        self.rows: list[Any] = [default_float(), state.inference]
        self.ints: list[int] = []
        self.floats: list[Any] = []
        self.values: dict[Any, int] = {}
        self.places: dict[Any, int] = {None: -1, NOWHERE: MANY}
        self.count = len(kept)
        for k, t in enumerate(kept):
            self.values[t.storage] = k
            self.places[t] = -2 - k
            self._input(t, t.aval)

    def _input(self, t: Any, a: Any) -> None:
        self.rows += (a.dtype, a.device, len(a.shape), t.req)
        self.ints += a.shape

    def _captured(self, s: Storage) -> int:
        """A tensor from outside, at its first use.  KeyError for one with a history."""
        t = self.captured[s].tensor
        if not isinstance(t, Tensor) or t.fn is not None or t.base is not None:
            raise KeyError(t)
        self.rows.append("captured")
        self._input(t, self.captured[s].placeholder.aval)
        self.places[t] = -2 - self.count
        self.values[s] = self.count
        self.count += 1
        return self.count - 1

    def call(self, op: Any, static: Any, number: bool, grad: bool, args: Sequence[Any]) -> None:
        """A public op and its arguments.  KeyError for a history that no op made."""
        rows, values, places = self.rows, self.values, self.places
        rows += (op, number, grad)
        if static:
            rows.append(_shape(static, self.ints))
        for a in args:
            if isinstance(a, Tensor):
                k = values.get((a.storage, a.chain) if a.chain else a.storage)
                if k is None:
                    k = self._new(a)
                edge = a.fn if a.base is None else a.edge()
                rows += (k, places[a if edge is None and a.req else edge])
            else:
                rows.append(None if a is None else self._outside(a))

    def _new(self, t: Tensor) -> Any:
        """A value that is neither an argument nor a result of a call: a captured tensor's, or what the function made."""
        return self._captured(t.storage) if not t.chain and t.storage in self.captured else self._outside(value(t))

    def results(self, outs: Sequence[Tensor]) -> None:
        """What the call gave."""
        values, first = self.values, len(self.places) * MANY
        for k, t in enumerate(outs):
            values[(t.storage, t.chain) if t.chain else t.storage] = self.count
            self.count += 1
            if t.fn is not None:
                self.places[t.fn] = first + k

    def _outside(self, n: Node) -> Any:
        """A number, or an array of numbers that the function made."""
        line = outline(Graph((), (n,)))
        if "buffer" in line.key or "placeholder" in line.key:
            raise KeyError(n)
        self.ints += line.ints
        self.floats += line.floats
        return line.key

    def end(self, outputs: Sequence[Tensor], checks: Sequence[Check]) -> Outline:
        """The signature, with results and checks.  KeyError as `call`, and for hooks and other rare things."""
        self.call("results", (), False, True, outputs)
        for c in checks:
            self.rows += (c.lowest, c.error, c.words, c.ignore)
            self.ints.append(c.end)
        for fn in self.places:
            if isinstance(fn, Tensor):
                rare = fn.hooks or fn.post or fn.calls
            elif isinstance(fn, Record):
                rare = any([v for w, v in fn.__dict__.items() if w != "outs"])
            else:
                rare = fn is not None and (fn.hooks or fn.retains)
            if rare:
                raise KeyError(fn)
        return Outline(tuple(self.rows), self.ints, self.floats)


def signature(trace: Trace, kept: Sequence[Tensor], outputs: Sequence[Tensor]) -> Outline | None:
    """The signature of a whole recording; None for one that holds more than calls."""
    if trace.grads or trace.bumps or trace.draws:
        return None
    try:
        signer = Signer(kept, trace.captured)
        for op, static, number, grad, args, outs in trace.calls:
            signer.call(op, static, number, grad, args)
            signer.results(outs)
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


class _Result:
    """What an op gives for arguments of some avals: avals, whether it is one, and as `eager.template.Template` has them the
    chains of views and whether it works element by element."""

    __slots__ = ("outs", "single", "chains", "nodes", "copies")

    def __init__(self, op: Any, static: Any, avals: Sequence[Any]) -> None:
        places = [None if a is None else placeholder(a) for a in avals]
        made = op.call(places, static)
        self.single = type(made) is Node
        self.nodes = nodes = [made] if self.single else list(made)
        self.copies = op is CLONE
        self.outs = [n.aval for n in nodes]
        self.chains = [chain_to(n, places[0]) for n in nodes] if op.view and places[0] is not None else None

    @property
    def pointwise(self) -> bool:
        kinds = [n.prim.kind for n in linearise(self.nodes) if n.prim.kind != LEAF and n.op not in ("expand", "reshape")]
        return self.single and all([k == ELEMENTWISE for k in kinds]) and (bool(kinds) or self.copies)

    def views(self, t: Tensor) -> list[Tensor]:
        assert self.chains is not None
        outs = [view_of(t, c, a) for c, a in zip(self.chains, self.outs)]
        if t.blind or not state.grad:
            for out in outs:
                out.blind = True
        return outs


class LightTrace(Trace):
    """The open trace of a light recording; `record` stands in the place of `eager.apply.apply`.  Floating results have no
    nodes but placeholders: only their avals matter."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[Any, Any] = {}                   # op, static values and avals → avals of the results, is it one
        self.signer: Any = None                           # once the arguments are there
        self.refused = False                              # something was met that it cannot follow

    @property
    def light(self) -> LightTrace:  # type: ignore[override]
        return self

    def record(self, op: Any, args: Sequence[Any], static: tuple[Any, ...], number: bool) -> Any:
        """One public op: its results, with marks for what the tape would hold."""
        key: list[Any] = [op, static and fingerprint(static)]
        taped, plain = False, True
        for a in args:
            if isinstance(a, Tensor):
                s = a.storage
                if s.trace is not self:
                    if a.base is not None or a.chain or a.fn is not None:
                        raise Heavy
                    self.touch(s, a)
                if a.chain or s.strides is not None:
                    plain = False
                if not taped:
                    taped = a.fn is not None or a.req
            key.append(None if a is None else a.aval)
        grad = state.grad
        found = self.known.get(tuple(key))
        if found is None:
            found = self.known[tuple(key)] = _Result(op, static, key[2:])
        outs = found.views(args[0]) if found.chains is not None else self._made(op, args, static, found, taped, plain)
        single = found.single
        if taped and grad:
            if not single:
                _several(outs)
            elif outs[0].aval.dtype.category >= FLOAT:
                outs[0].fn = Mark()
        try:
            self.signer.call(op, static, number, grad, args)
        except (KeyError, TypeError):
            raise Heavy from None
        self.signer.results(outs)
        return outs[0] if single else tuple(outs)

    def _made(self, op: Any, args: Sequence[Any], static: Any, found: _Result, taped: bool, plain: bool) -> list[Tensor]:
        """Results with memory of their own, in the order that torch gives it."""
        if found.outs[0].dtype.category < FLOAT:          # checks of places look at where these come from
            made = op.call([value(a) if isinstance(a, Tensor) else a for a in args], static)
            nodes = (made,) if found.single else made
        else:
            nodes = [placeholder(a) for a in found.outs]
        outs = [new(Storage(n, None, taped), n.aval) for n in nodes]
        if not plain and found.pointwise:
            outs[0].storage.strides = pointwise_strides(outs[0].aval.shape, [
                (a.aval.shape, layout_of(a)[0]) for a in args if isinstance(a, Tensor)])
        return outs

    # what a light recording cannot follow
    bump = assign_grad = draw = look = _heavy  # type: ignore[assignment]


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
        return not trace.refused
    except (Heavy, Exception):                            # an error of the user's comes again, with the user's line
        return False
    finally:
        state.trace = before
        trace.restore()
        trace.known.clear()
        trace.signer = None
