"""Recording: a function run once on placeholders, and what comes of it.

In: a function and its arguments as leaves.  Out: a `Plan`.  The reverse of each result is taken from the tape, which knows of
`no_grad`, `detach`, hooks and custom Functions; from the nodes alone it could not be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import tree
from ..config import config
from ..dtypes import FLOAT, int64
from ..eager.autograd import check_seeds
from ..eager.backward import backward_nodes
from ..eager.state import state
from ..eager.storage import Storage
from ..eager.tensor import Tensor, new, value
from ..engine import programs
from ..errors import TraceError, explain
from ..ir.graph import Graph, Node, base, const, forget, linearise, placeholder, private, substitute
from ..ir.primitive import BUFFER, PLACEHOLDER, SCALAR
from ..ops.control import SubGraph
from ..ops.declare import P, cast, full
from ..ops.placement import ones, placed, zeros
from .light import signature
from .plan import Asked, Fixed, GradOf, Guard, Plan, look_of, run_time
from .trace import SHOWN, Trace
from .watch import Watch


class Recorder:
    """One recording of a function: makes a Plan."""

    def __init__(self, fn: Callable[..., Any], leaves: Sequence[Any], structure: Any, wrt: Sequence[int] | None,
                 asked: Asked | None = None) -> None:
        """`asked`: the call that it is recorded for, whose values say which way branches go."""
        self.fn, self.leaves, self.structure, self.wrt, self.asked = fn, leaves, structure, wrt, asked
        self.prefix: Any = None
        self.trace = Trace()
        self.trace.outcome = None if asked is None else self._outcome
        self.kept: list[Tensor] = []                      # the run-time arguments as the function sees them
        self.placeholders: list[Node] = []
        self.line: Any = None                             # the signature of a pure recording, if it is wanted

    def record(self) -> Plan:
        plan = Plan()
        plan.watch, plan.rule = Watch(self.fn, [x for x in self.leaves if not run_time(x)]), None
        trace = self.trace
        before, state.trace = state.trace, trace
        try:
            self._arguments()
            inner = iter(self.kept)
            args, kwargs = tree.unflatten(self.structure, [next(inner) if run_time(x) else x for x in self.leaves])
            if self.wrt is not None:
                grad, state.grad = state.grad, True
            try:
                out = self.fn(*args, **kwargs)
            finally:
                if self.wrt is not None:
                    state.grad = grad
            self._finish(plan, out)
        finally:
            state.trace = before
            trace.outcome = self.prefix = None
            trace.restore()
            forget()
        plan.watch.more([place for places in trace.watched.values() for place in places] + trace.used_grads()[1])
        plan.watch.settle()
        plan.states = [look_of(t) for t in plan.captured]
        return plan

    def _arguments(self) -> None:
        k = 0
        for x in self.leaves:
            if not run_time(x):
                continue
            t = new(Storage(placeholder(x.aval)), x.aval)
            t.req = x.requires_grad if self.wrt is None else k in self.wrt
            self.kept.append(t)
            k += 1
        self.placeholders = [t.storage.value for t in self.kept]

    def _outcome(self, flag: Node, place: str) -> bool:
        """Which way a branch goes in the call that this is recorded for."""
        if self.prefix is None:
            from .prefix import Prefix  # of no concern to functions without such branches
            assert self.asked is not None
            self.prefix = Prefix(self.trace, self.asked, dict(zip(self.placeholders, self.asked.tensors)))
        return self.prefix.outcome(flag, place)  # type: ignore[no-any-return]

    # ------------------------------------------------------------ what the function did
    def _finish(self, plan: Plan, out: Any) -> None:
        flat, plan.structure = tree.flatten(out)
        plan.static = [None if isinstance(r, Tensor) else r for r in flat]
        tensors = [r for r in flat if isinstance(r, Tensor)]
        outputs = [value(t) for t in tensors]
        plan.needs = [t.requires_grad for t in tensors]
        trace = self.trace
        grads = self._gradients(tensors)
        plan.gradients = len(grads)
        plan.writes, plan.grads = [], []
        extra: list[Node] = []
        number = {t: k for k, t in enumerate(self.kept)}

        def add(n: Node) -> int:
            extra.append(n)
            return len(outputs) + len(grads) + len(extra) - 1

        owners, _ = trace.used_grads()
        plan.captured = [GradOf(owners[s]) if s in owners else c.tensor for s, c in trace.captured.items()]
        for k, (t, ph) in enumerate(zip(self.kept, self.placeholders)):
            if t.storage.value is not ph:
                plan.writes.append((k, add(t.storage.value)))
        for (storage, c), t in zip(trace.captured.items(), plan.captured):
            if storage.value is not c.placeholder:
                plan.writes.append((t, add(storage.value)))
        plan.apart = bool(plan.writes) and any([isinstance(t, GradOf) for t in plan.captured])
        for t in trace.grads:
            g = t._grad
            plan.grads.append((number.get(t, t), None if g is None else add(value(g))))
        plan.grown = frozenset([number[t] for t in trace.grown if t in number])
        plan.felt = frozenset([number[t] for t in trace.felt if t in number])
        own: dict[Any, Any] = {t.cell: k for k, t in enumerate(self.kept)}
        own |= {t.cell: t for t in plan.captured if isinstance(t, GradOf)}
        plan.bumps = [(own.get(cell, cell), k) for cell, k in trace.bumps.items()]
        plan.draws = [make for _, make in trace.draws]
        inputs = [*self.placeholders, *[c.placeholder for c in trace.captured.values()], *[n for n, _ in trace.draws]]
        plan.before, plan.after = [], []
        for check in trace.checks:
            check.sort_into(plan, inputs, add)
        plan.pure = not (plan.writes or plan.grads or plan.after)
        plan.guards = list(trace.guards.values())
        plan.codes = [(add(code), bits, count) for code, bits, count in codes(plan.guards)]
        pulls = self._pulls(plan, tensors) if self.wrt is None and any(plan.needs) else []
        if config.forms and plan.pure and self.wrt is not None and not plan.guards and config.tier != "numpy":
            self.line = signature(trace, self.kept, tensors)
        self._graph(plan, inputs, [*outputs, *grads, *extra], pulls)

    def _gradients(self, tensors: list[Tensor]) -> list[Node]:
        """Cotangents with respect to chosen arguments of the first result, for `value_and_grad`."""
        if self.wrt is None:
            return []
        if not tensors or tensors[0].aval.size != 1 or tensors[0].aval.dtype.category < FLOAT:
            what = "no tensor" if not tensors else f"{tensors[0].aval}"
            raise explain(RuntimeError(f"grad needs a function that returns one floating number, and this one returned {what}"),
                          hint="sum() or mean() the result")
        check_seeds(tensors[:1], [None])
        wanted = [self.kept[k] for k in self.wrt]
        ct = ones(tensors[0].aval)
        found = backward_nodes([tensors[0]], [ct], wanted) if tensors[0].requires_grad else [None] * len(wanted)
        return [zeros(t.aval) if g is None else placed(g, t.aval.device) for t, g in zip(wanted, found)]

    def _graph(self, plan: Plan, inputs: list[Node], outputs: list[Node], pulls: list[Pull]) -> None:
        """The graph and the reverse of its results, with the numbers that the function wrote as constants and the arrays it
        made as further inputs."""
        env: dict[Node, Node] = {}
        fixed: list[Node] = []
        roots = [*outputs, *[g.flag for g in plan.guards], *[n for p in pulls for n in p.grads]]
        order = linearise(roots)
        for n in order:
            if n.prim is SCALAR:
                env[n] = const(n.data, n.dtype)
            elif n.prim is BUFFER:
                env[n] = placeholder(n.aval)
                fixed.append(n)
            elif n.prim is PLACEHOLDER:
                env[n] = n
        new = iter(substitute(roots, env, within(inputs)))
        plan.captured += [Fixed(n) for n in fixed]
        cut = len(inputs) - len(plan.draws)
        plan.inputs = [*inputs[:cut], *[env[n] for n in fixed], *inputs[cut:]]
        known = {*plan.inputs, *[p.ct for p in pulls]}
        if any(n.prim is PLACEHOLDER and n not in known for n in order):
            raise explain(TraceError("a tensor of another traced function is used in this one"))
        plan.graph = Graph(plan.inputs, [next(new) for _ in outputs])
        for g in plan.guards:
            g.flag = next(new)
        plan.results = list(plan.graph.outputs)
        plan.program = programs.find(("traced", plan.graph.key), lambda: plan.graph, eager=False)
        plan.body = SubGraph(plan.graph, getattr(self.fn, "__name__", "traced"))
        for p in pulls:
            where: list[int | None] = [None] * len(plan.inputs)
            for j, at in enumerate(p.inputs):
                where[at] = j
            grads = [next(new) for _ in p.grads]
            plan.body.preset_pull(p.output, plan.inputs, p.ct, grads, where, NO_SECOND if self.trace.cut else None)

    def _pulls(self, plan: Plan, tensors: list[Tensor]) -> list[Pull]:
        """The reverse of each result by the tape, which knows of no_grad, detach, hooks and custom Functions."""
        captured = [c.tensor if isinstance(c.tensor, Tensor) else None for c in self.trace.captured.values()]
        wanted = [(k, t) for k, t in enumerate([*self.kept, *captured]) if t is not None and t.requires_grad]
        out = []
        for k, t in enumerate(tensors):
            if not plan.needs[k]:
                continue
            ct = placeholder(t.aval)
            try:
                found = backward_nodes([t], [ct], [w for _, w in wanted])
            except RuntimeError:
                if plan.pure:
                    raise
                plan.needs[k] = False                     # the function itself ran its backward: the graph is spent
                continue
            pairs = [(at, g) for (at, _), g in zip(wanted, found) if g is not None]
            out.append(Pull(k, ct, [at for at, _ in pairs], [g for _, g in pairs]))
        return out


def codes(guards: Sequence[Guard]) -> list[tuple[Node, int, int]]:
    """Flags as the bits of as few numbers as may be, what these are where all branches go as recorded, how many bits."""
    found: list[tuple[Node, int, int]] = []
    for g in guards:
        bit = cast(g.flag, int64)
        if not found or found[-1][2] == BITS or found[-1][0].aval.device != bit.aval.device:
            found.append((bit, int(g.outcome), 1))
        else:
            code, bits, at = found[-1]
            found[-1] = P.add(code, P.mul(bit, full(1 << at, (), int64))), bits | g.outcome << at, at + 1
    return found


class Pull:
    """The reverse of one result: cotangents of some inputs, as nodes over the inputs and `ct`."""

    __slots__ = ("output", "ct", "inputs", "grads")

    def __init__(self, output: int, ct: Node, inputs: list[int], grads: list[Node]) -> None:
        self.output, self.ct, self.inputs, self.grads = output, ct, inputs, grads


NO_SECOND = ("a second derivative is asked for through a traced function that uses detach(), .data, no_grad, hooks or a custom "
             "Function: the recording keeps only its first derivative; call the function without @trace")
BITS = 32                                                 # flags in one number
_INDEXED = ("take", "gather", "index_add", "scatter_add")


def within(inputs: Sequence[Node]) -> Callable[[Any, tuple[Node, ...], tuple[Any, ...]], Node]:
    """A builder that keeps computed places inside their axis: what is out of range is reported after the run, and must not
    be read before.  Places that are inputs are checked before the run."""
    known = set(inputs)
    make = private()

    def build(prim: Any, ins: tuple[Node, ...], params: tuple[Any, ...]) -> Node:
        if prim.name in _INDEXED:
            i = ins[1]
            if base(i, SHOWN) not in known:
                end = ins[0].shape[params[0]]
                i = P.maximum(P.minimum(i, full(max(end - 1, 0), i.shape, i.dtype)), full(0, i.shape, i.dtype))
                ins = (ins[0], i, *ins[2:])
        return make(prim, ins, params)
    return build
