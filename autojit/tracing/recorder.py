"""Recording: a function run once on placeholders, and what comes of it.

In: a function and its arguments as leaves.  Out: a `Plan`.  The reverse of each result is taken from the tape, which knows of
`no_grad`, `detach`, hooks and custom Functions; from the nodes alone it could not be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import tree
from ..dtypes import FLOAT
from ..eager.backward import backward_nodes
from ..eager.state import state
from ..eager.storage import Storage
from ..eager.tensor import Tensor, new, value
from ..engine import programs
from ..errors import TraceError, explain
from ..ir.graph import Graph, Node, const, forget, linearise, placeholder, substitute
from ..ir.primitive import BUFFER, LEAF, SCALAR
from ..ops.control import SubGraph
from ..ops.declare import full
from .plan import Fixed, Plan, Watch, look_of, run_time
from .trace import Trace


class Recorder:
    """One recording of a function: makes a Plan."""

    def __init__(self, fn: Callable[..., Any], leaves: Sequence[Any], structure: Any, wrt: Sequence[int] | None) -> None:
        self.fn, self.leaves, self.structure, self.wrt = fn, leaves, structure, wrt
        self.trace = Trace()
        self.inner: list[Tensor] = []

    def record(self) -> Plan:
        plan = Plan()
        plan.watch, plan.rule = Watch(self.fn), None
        trace = self.trace
        before, state.trace = state.trace, trace
        try:
            self._arguments()
            args, kwargs = tree.unflatten(self.structure, [
                self.inner.pop(0) if run_time(x) else x for x in self.leaves])
            self.inner = self.kept
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
            trace.restore()
            forget()
        plan.states = [look_of(t) for t in plan.captured]
        return plan

    def _arguments(self) -> None:
        k = 0
        for x in self.leaves:
            if not run_time(x):
                continue
            t = new(Storage(placeholder(x.aval)), x.aval)
            t.req = x.requires_grad if self.wrt is None else k in self.wrt or x.requires_grad
            if self.wrt is not None and k not in self.wrt:
                t.req = False
            self.inner.append(t)
            k += 1
        self.kept = list(self.inner)
        self.placeholders = [t.storage.value for t in self.kept]

    # ------------------------------------------------------------ what the function did
    def _finish(self, plan: Plan, out: Any) -> None:
        flat, plan.structure = tree.flatten(out)
        plan.static = [None if isinstance(r, Tensor) else r for r in flat]
        tensors = [r for r in flat if isinstance(r, Tensor)]
        outputs = [value(t) for t in tensors]
        plan.needs = [t.requires_grad for t in tensors]
        trace = self.trace
        grads = self._gradients(tensors)
        plan.writes, plan.grads = [], []
        extra: list[Node] = []
        number = {t: k for k, t in enumerate(self.kept)}

        def add(n: Node) -> int:
            extra.append(n)
            return len(outputs) + len(grads) + len(extra) - 1

        for k, (t, ph) in enumerate(zip(self.kept, self.placeholders)):
            if t.storage.value is not ph:
                plan.writes.append((k, add(t.storage.value)))
        for storage, c in trace.captured.items():
            if storage.value is not c.placeholder:
                plan.writes.append((c.tensor, add(storage.value)))
        for t in trace.grads:
            g = t._grad
            plan.grads.append((number.get(t, t), None if g is None else add(value(g))))
        own = {t.cell: k for k, t in enumerate(self.kept)}
        plan.bumps = [(own.get(cell, cell), k) for cell, k in trace.bumps.items()]
        plan.captured = [c.tensor for c in trace.captured.values()]
        plan.draws = [make for _, make in trace.draws]
        plan.pure = not (plan.writes or plan.grads)
        inputs = [*self.placeholders, *[c.placeholder for c in trace.captured.values()], *[n for n, _ in trace.draws]]
        self._graph(plan, inputs, [*outputs, *grads, *extra])
        if self.wrt is None and any(plan.needs):
            self._pulls(plan, inputs, tensors)

    def _gradients(self, tensors: list[Tensor]) -> list[Node]:
        """Cotangents with respect to chosen arguments of the first result, for `value_and_grad`."""
        if self.wrt is None:
            return []
        if not tensors or tensors[0].aval.size != 1 or tensors[0].aval.dtype.category < FLOAT:
            what = "no tensor" if not tensors else f"{tensors[0].aval}"
            raise explain(RuntimeError(f"grad needs a function that returns one floating number, and this one returned {what}"),
                          hint="sum() or mean() the result")
        wanted = [self.kept[k] for k in self.wrt]
        ct = full(1, tensors[0].aval.shape, tensors[0].aval.dtype)
        found = backward_nodes([tensors[0]], [ct], wanted) if tensors[0].requires_grad else [None] * len(wanted)
        return [full(0, t.aval.shape, t.aval.dtype) if g is None else g for t, g in zip(wanted, found)]

    def _graph(self, plan: Plan, inputs: list[Node], outputs: list[Node]) -> None:
        """The graph, with the numbers that the function wrote as constants and the arrays it made as further inputs."""
        env: dict[Node, Node] = {}
        fixed: list[Node] = []
        for n in linearise(outputs):
            if n.prim is SCALAR:
                env[n] = const(n.data, n.dtype)
            elif n.prim is BUFFER:
                env[n] = placeholder(n.aval)
                fixed.append(n)
            elif n.prim.kind == LEAF and n.op == "placeholder":
                env[n] = n
        outputs = substitute(outputs, env)
        plan.captured += [Fixed(n) for n in fixed]
        cut = len(inputs) - len(plan.draws)
        plan.inputs = [*inputs[:cut], *[env[n] for n in fixed], *inputs[cut:]]
        stray = [n for n in linearise(outputs) if n.op == "placeholder" and n not in set(plan.inputs)]
        if stray:
            raise explain(TraceError("a tensor of another traced function is used in this one"))
        plan.graph = Graph(plan.inputs, outputs)
        plan.results = list(plan.graph.outputs)
        name = getattr(self.fn, "__name__", "traced")
        plan.program = programs.find(("traced", plan.graph.key), lambda: plan.graph, eager=False)
        plan.body = SubGraph(plan.graph, name)

    def _pulls(self, plan: Plan, inputs: list[Node], tensors: list[Tensor]) -> None:
        """The reverse of each result by the tape, which knows of no_grad, detach, hooks and custom Functions."""
        captured = [c.tensor if isinstance(c.tensor, Tensor) else None for c in self.trace.captured.values()]
        wanted = [(k, t) for k, t in enumerate([*self.kept, *captured]) if t is not None and t.requires_grad]
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
            where: list[int | None] = [None] * len(plan.inputs)
            outs: list[Node] = []
            for (at, _), g in zip(wanted, found):
                if g is not None:
                    where[at] = len(outs)
                    outs.append(g)
            env = {n: (const(n.data, n.dtype) if n.prim is SCALAR else n) for n in linearise(outs)
                   if n.prim.kind == LEAF and n.prim is not BUFFER}
            outs = substitute(outs, env)
            plan.body.preset_pull(k, [*plan.inputs, ct], outs, where)
