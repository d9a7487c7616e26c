"""Recordings that are alike but for one size: a new size is recognised by its light recording, and needs no other.

In: whole recordings of a traced function, and their programs' families.  Out: a `LightPlan` for another size.  Numbers of the
joint program that a light recording does not show (its rules made them from shapes) follow the family; before that is relied
on, the family has been confirmed by `CONFIRMED` whole recordings.  Only for value and gradient of pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import tree
from ..config import config
from ..dtypes import FLOAT
from ..eager.state import state
from ..eager.storage import Storage
from ..eager.tensor import Tensor, new
from ..engine import families, programs
from ..engine.families import Family, Law, Laws, between, law_of
from ..errors import VerifyError
from ..ir.aval import aval
from ..ir.graph import Graph, forget, placeholder
from ..ir.outline import Outline, outline
from .light import Heavy, LightTrace, Signer, checks_before, run
from .plan import Plan, look_of, run_time
from .recorder import Recorder

CONFIRMED = 4                                             # sizes at which light and whole recordings agreed
RECORDS = 8                                               # whole recordings of one kind that are remembered


class Whole:
    """A whole recording: its signature, the outline of its joint graph, the shapes of all results."""

    __slots__ = ("line", "joint", "shapes")

    def __init__(self, line: Outline, graph: Graph) -> None:
        self.line, self.joint = line, outline(graph)
        self.shapes = [n for o in graph.outputs for n in o.aval.shape]


class Kind:
    """Recordings of one signature over one size, and the family of their programs."""

    __slots__ = ("key", "laws", "shapes", "outs", "family", "sizes", "wrong")

    def __init__(self, key: Any, laws: Laws, shapes: list[Law], graph: Graph) -> None:
        self.key, self.laws, self.shapes = key, laws, shapes
        self.outs = [(o.aval.dtype, o.aval.device, len(o.aval.shape)) for o in graph.outputs]
        self.family: Family | None = None
        self.sizes: set[int] = set()
        self.wrong = False

    def confirm(self, w: Whole) -> None:
        """Hold a whole recording against the family."""
        n = self.laws.size(w.line) if w.line.key == self.key else None
        if n is None:
            return
        if self.family is None:
            self.family = families.family_of(w.joint)
            if self.family is None:
                return
        if self.family.laws.size(w.joint) != n or w.shapes != self._extents(n):
            self.wrong = True
        self.sizes.add(n)

    def _extents(self, n: int) -> list[int]:
        return [a + (b + c * n) * n for a, b, c in self.shapes]

    def avals(self, n: int) -> list[Any]:
        it = iter(self._extents(n))
        return [aval(tuple([next(it) for _ in range(rank)]), d, device) for d, device, rank in self.outs]


class Likeness:
    """What is known of the recordings of one function for one kind of arguments."""

    __slots__ = ("records", "kinds", "refused", "watch")

    def __init__(self, watch: Any) -> None:
        self.watch = watch                                # of the last whole recording
        self.records: list[Whole] = []
        self.kinds: list[Kind] = []
        self.refused = 0

    def learn(self, line: Outline | None, graph: Graph, inputs: int) -> None:
        """A whole recording was made; `inputs`: how many integers of the signature are extents of inputs."""
        if line is None:
            self.refused = CONFIRMED
            return
        w = Whole(line, graph)
        if not any([k.key == line.key and k.laws.size(line) is not None for k in self.kinds]):
            for other in self.records:
                kind = _kind(other, w, inputs, graph) if other.line.key == line.key else None
                if kind is not None:
                    self.kinds = [kind, *self.kinds[:RECORDS - 1]]
                    break
        self.records = [w, *self.records[:RECORDS - 1]]
        for k in self.kinds:
            for r in self.records:
                k.confirm(r)

    @property
    def useful(self) -> bool:
        return self.refused < CONFIRMED and any([len(k.sizes) >= CONFIRMED and not k.wrong for k in self.kinds])

    def find(self, line: Outline) -> tuple[Kind, int] | None:
        """The confirmed kind that a light recording belongs to, and its size."""
        for k in self.kinds:
            n = k.laws.size(line) if k.key == line.key and len(k.sizes) >= CONFIRMED and not k.wrong else None
            if n is not None:
                return k, n
        self.refused += 1
        return None


def _kind(a: Whole, b: Whole, inputs: int, graph: Graph) -> Kind | None:
    laws = between(a.line, b.line, inputs)
    if laws is None or len(a.shapes) != len(b.shapes):
        return None
    m, n = a.line.ints[laws.where], b.line.ints[laws.where]
    shapes = [law_of(m, i, n, j) for i, j in zip(a.shapes, b.shapes)]
    return None if any([s is None for s in shapes]) else Kind(b.line.key, laws, shapes, graph)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ plans
class _Result:
    """A result of a program whose graph nobody has made."""

    __slots__ = ("aval",)

    def __init__(self, a: Any) -> None:
        self.aval = a


class _Once:
    """A recording that is made if somebody looks.  The plan and its program share it, so neither holds the other: what is
    let go of frees its memory at once."""

    __slots__ = ("_make", "_made")

    def __init__(self, make: Callable[[], Plan]) -> None:
        self._make = make
        self._made: Plan | None = None

    def __call__(self) -> Plan:
        if self._made is None:
            self._made = self._make()
        return self._made

    def graph(self) -> Any:
        return self().graph


class LightPlan(Plan):
    """A plan whose graph is recorded only if somebody looks at it."""

    __slots__ = ("_record", "held")

    def __init__(self, record: _Once) -> None:
        super().__init__()
        self._record = record
        self.held = 0

    @property
    def whole(self) -> Plan:
        return self._record()

    @property
    def graph(self) -> Any:  # type: ignore[override]
        return self.whole.graph

    @property
    def inputs(self) -> Any:  # type: ignore[override]
        return self.whole.inputs

    @property
    def body(self) -> Any:  # type: ignore[override]
        return self.whole.body


def light_plan(like: Likeness, fn: Any, leaves: Sequence[Any], structure: Any, wrt: tuple[int, ...]) -> Plan | None:
    """The plan of a function for a new size, by a light recording; None where that does not do."""
    if not like.useful or like.watch.changed() is not None:
        return None
    seen: list[Any] = []

    def call(trace: LightTrace) -> None:
        tensors = [new(Storage(placeholder(x.aval)), x.aval) for x in leaves if run_time(x)]
        for k in wrt:
            tensors[k].req = True
        places = [t.storage.value for t in tensors]
        trace.signer = Signer(tensors, trace.captured)
        inner = iter(tensors)
        given, named = tree.unflatten(structure, [next(inner) if run_time(x) else x for x in leaves])
        grad, state.grad = state.grad, True
        try:
            out = fn(*given, **named)
        finally:
            state.grad = grad
        flat, shape = tree.flatten(out)
        found = [r for r in flat if isinstance(r, Tensor)]
        try:
            kind = like.find(trace.signer.end(found, trace.checks)) if _differentiable(found) else None
        except KeyError:
            kind = None
        if kind is None:
            raise Heavy
        places += [c.placeholder for c in trace.captured.values()]
        captured = [c.tensor for c in trace.captured.values()]
        seen.append((flat, shape, kind, checks_before(trace, places), [t.requires_grad for t in found], captured))

    try:
        if not run(call):
            return None
    finally:
        forget()
    bare = [(x.aval, None) if run_time(x) else (None, x) for x in leaves]
    return _plan(lambda: _whole(fn, bare, structure, wrt), like.watch, *seen[0])


def _whole(fn: Any, bare: list[tuple[Any, Any]], structure: Any, wrt: tuple[int, ...]) -> Plan:
    """The ordinary recording, for stand-ins of the arguments."""
    leaves = [x if a is None else new(Storage(placeholder(a)), a) for a, x in bare]
    return Recorder(fn, leaves, structure, wrt).record()


def _differentiable(found: Sequence[Tensor]) -> bool:
    return bool(found) and found[0].aval.size == 1 and found[0].aval.dtype.category >= FLOAT and found[0].requires_grad


def _plan(record: Callable[[], Plan], watch: Any, flat: list[Any], structure: Any, kind: tuple[Kind, int], before: list[Any],
          needs: list[bool], captured: list[Tensor]) -> Plan | None:
    k, n = kind
    avals = k.avals(n)
    native = None if k.family is None else k.family.make(n, avals)
    if native is None:
        return None
    once = _Once(record)
    plan = LightPlan(once)
    plan.watch, plan.rule, plan.structure = watch, None, structure
    plan.static = [None if isinstance(r, Tensor) else r for r in flat]
    plan.needs, plan.gradients = needs, len(avals) - len(needs)
    plan.captured, plan.states = captured, [look_of(t) for t in captured]
    plan.draws, plan.writes, plan.grads, plan.bumps = [], [], [], []
    plan.before, plan.after, plan.pure = before, [], True
    plan.results = [_Result(a) for a in avals]  # type: ignore[misc]
    plan.program = programs.made(native, once.graph)
    plan.held = native.plan.held if native.plan is not None else 0
    if config.forms > 1:
        from ..engine.compile import prepare
        assert k.family is not None
        if k.family.laws.size(outline(plan.graph)) != n or list(k.avals(n)) != [o.aval for o in plan.graph.outputs]:
            raise VerifyError(f"a recording of size {n} is not what the family has for it")
        families.checked(plan.graph, prepare, native, n)
    return plan
