"""Bound calls: a compiled program with its arguments and results fixed in memory.

In: a traced function, arguments, and by which of them to differentiate.  Out: `Bound`.  Never copies an argument: what has no
memory that it can read in place is refused.  Never runs Python in a call: what would need it is refused too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .backends.cpu.binding import Binding
from .backends.cpu.runtime import OK, REFUSED, failure, runtime
from .dtypes import int64, memory
from .eager.creation import known, no_mask
from .eager.state import state
from .eager.storage import Storage, aval_of
from .eager.tensor import Tensor, new
from .engine import programs
from .engine.cuts import plain
from .errors import TraceError, explain
from .ir.graph import Graph, Node, substitute
from .ops import philox
from .ops.declare import P, cast
from .schedule.loops import BranchStep, CallStep, ControlStep, LoopStep, hosted
from .tracing.plan import Fixed, Plan, float_beside, run_time
from .tracing.recorder import within


class Bound:
    """A program that reads its arguments where they lie and writes its results where they lie; see `value_and_grad(f).bind`.

    `b()` runs it and returns `b.value`; so does `b.run()`, the builtin behind it, which lets go of the GIL.  `b.value` and
    `b.grads` are the same objects over the same memory for good.  Several threads may call: they run one after another.  But
    what a thread reads while another one's call runs may be half written: read under a lock of yours, or bind one for each.

    What the function writes in place (arguments, captured tensors, `.grad`) each call writes, and the next goes on from there;
    then binding does not run it, and `b.value` is 0 until the first call.  Versions of these tensors do not move.

    What the function draws, each call draws anew, from a stream of the bound call's own, which begins at the generator's next
    draws: binding after the same `manual_seed` gives the same calls.

    `b.address` is a C function `int64_t f(void)` that does the same and returns 0, or a status for `b.check(status)`, which
    raises the error that `b()` would.  ctypes, cffi and `@njit` code can call it, with or without the GIL, while `b` lives.
    """

    __slots__ = ("__call__", "value", "grads", "_binding", "_failed")  # __call__ in a slot: a call is the builtin's

    __call__: Callable[[], Any]
    value: Any
    grads: Any

    def __init__(self, binding: Binding, value: Any, grads: Any, failed: _Failed) -> None:
        self._binding, self._failed = binding, failed
        self.__call__ = binding.run  # type: ignore[method-assign]
        self.value, self.grads = value, grads

    @property
    def run(self) -> Callable[[], Any]:
        """The builtin: as `b()`, a few nanoseconds less."""
        return self.__call__

    @property
    def address(self) -> int:
        """The C function `int64_t f(void)`; made when it is first asked for."""
        return self._binding.address

    def check(self, status: int) -> None:
        """Raise what a status of the C function means; nothing if it is 0."""
        if status != OK:
            self._failed(status)


class _Failed:
    """Raises what a status means; where a kernel refuses its values, `again` has NumPy raise it or gives the result."""

    __slots__ = ("checks", "again")

    def __init__(self, checks: Sequence[tuple[np.ndarray, np.ndarray, Any]], again: Callable[[], Any]) -> None:
        self.checks, self.again = checks, again

    def __call__(self, status: int) -> Any:
        if status == REFUSED:
            return self.again()
        if status > 0:
            raise failure(status)
        least, greatest, check = self.checks[-status - 1]
        check.range(int(least), int(greatest))
        raise explain(IndexError("an index was out of range, and is not any more"), where=check.place)


# ---------------------------------------------------------------- memory
def place(x: Any, what: str) -> np.ndarray:
    """The memory of an array or tensor as an array over it.  ValueError where it cannot be read as it lies."""
    if isinstance(x, Tensor):
        array = x.storage.expose(x)
        for prim, params in x.chain:
            seen: np.ndarray = prim.ref(array, *params)  # type: ignore[misc]
            array = seen if seen.size == 0 or np.may_share_memory(seen, array) else array[::-1]
        hint = "bind x.contiguous(), and write into that"
    else:
        array, hint = x, "bind np.ascontiguousarray(x), and write into that"
    if not array.flags.c_contiguous:
        raise explain(ValueError(f"bind() reads {what} where it lies, and its memory is not contiguous"), hint=hint)
    if not array.dtype.isnative or not array.flags.aligned:
        raise explain(ValueError(f"bind() reads {what} where it lies, and its memory is not aligned or in another byte order"),
                      hint="bind x.astype(x.dtype.newbyteorder('=')), and write into that")
    return array


def _tensor(x: Any, beside: Any) -> Any:
    """A run-time argument as a tensor that shows its very memory; a float becomes memory that nobody else sees."""
    if not run_time(x) or isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray):
        no_mask(x)
        known(x, None)
        place(x, "an array")
        return new(Storage(None, x.view(np.ndarray)[...]), aval_of(x))
    made = memory(x, beside)
    return new(Storage(None, made), aval_of(made))


def _captured(c: Any) -> np.ndarray:
    """The memory of a captured tensor, or of an array that the function made while it was recorded."""
    if isinstance(c, Fixed):
        return c.array  # type: ignore[no-any-return]
    return place(c if isinstance(c, Tensor) and not c.chain else new(c.storage, c.storage.read(c).aval), "a captured tensor")


# ---------------------------------------------------------------- what cannot be bound
def refuse(plan: Plan, name: str, what: str) -> None:
    """Devices and paths are refused.  `what`: "a bound call"."""
    if plan.guards:
        raise explain(TraceError(f"{name} branches on the value of a tensor, so it is a program for each path, and {what} is "
                                 "one program"), where=plan.guards[0].place,
                      hint="choose with aj.where, aj.cond or aj.while_loop")
    if not plain(plan.graph):
        raise explain(RuntimeError(f"{name} works on a device, and {what} is made of kernels of the CPU"),
                      hint="call it the ordinary way: a call is one launch there")


def writes(plan: Plan) -> bool:
    """Does the function write to tensors (in place, or `.grad`)?"""
    return bool(plan.writes or plan.grads or plan.bumps)


def refuse_host(prepared: Any, name: str, what: str) -> None:
    """Ops without a kernel are refused by name, loops around them too; `what`: "bound", "exported"."""
    for step in prepared.schedule.steps:
        if isinstance(step, ControlStep) and hosted([step]):
            kind = "cond" if isinstance(step, BranchStep) else "scan" if isinstance(step, LoopStep) else "while_loop"
            raise explain(RuntimeError(f"{name} uses {kind} (or fori_loop), around an op that runs in NumPy: it cannot be "
                                       f"{what}"), hint="call it the ordinary way")
        if what == "exported" and isinstance(step, CallStep) and step.address:
            raise explain(RuntimeError(f"{name} uses the custom op {step.host.params[0].name}, whose machine code belongs to "
                                       "this process: it cannot be exported"),
                          hint="write it in ops, or export what is around it")
        prim = getattr(step, "prim", None)
        if prim is not None:
            raise explain(RuntimeError(f"{name} uses {prim.name}, which has no kernel and runs in NumPy: it cannot be {what}"),
                          hint="call it the ordinary way, or take apart what comes before and after it")


# ---------------------------------------------------------------- the program
def results(plan: Plan) -> int:
    """How many outputs are results, gradients, or values to be written; those of checks come after them."""
    return len(plan.needs) + plan.gradients + len(plan.writes) + sum([at is not None for _, at in plan.grads])


def checked(plan: Plan) -> tuple[Graph, list[Any]]:
    """The graph with all its checks as further outputs (least and greatest, int64), and the checks.

    An ordinary call looks at places among its arguments before the run; here they are kept inside their axis, and what was
    out of range is told after it.
    """
    count = results(plan)
    inputs = plan.graph.inputs
    outs: list[Node] = list(plan.graph.outputs[:count])
    checks: list[Any] = []
    for k, check in plan.before:
        if inputs[k].aval.size:
            outs += check.ends(inputs[k])
            checks.append(check)
    for least, greatest, check in plan.after:
        outs += [plan.graph.outputs[least], plan.graph.outputs[greatest]]
        checks.append(check)
    if not checks:
        return plan.graph, []
    outs[count:] = [cast(n, int64) for n in outs[count:]]
    return Graph(inputs, substitute(outs, {n: n for n in inputs}, within(()))), checks


def fixed(args: tuple[Any, ...], static: frozenset[int]) -> tuple[Any, ...]:
    """Arguments with every array and float as a tensor over its very memory."""
    if state.trace is not None:
        raise explain(TraceError("bind() inside a traced function"), hint="bind outside, and call the bound function there")
    beside = float_beside(tree.flatten(args)[0])
    return tuple([a if k in static else tree.tree_map(lambda x: _tensor(x, beside), a) for k, a in enumerate(args)])


# ---------------------------------------------------------------- random numbers
def own_stream(seed: int, draw: int) -> np.ndarray:
    """A key that goes on by itself: its seed is drawn, so that its draws are nobody else's."""
    return np.array([philox.at([0], [seed], [draw], "i64")[0], 0], np.int64)


def after(key: Node) -> Node:
    """The key of the next call: written to its place when a call is over, as what a function writes is."""
    return P.add(key, P.iota((2,), 0))


def bind(plan: Plan, tensors: Sequence[Tensor], name: str, structured: Callable[[list[Tensor]], Any] | None) -> Bound:
    """A recording bound to the memory of its arguments, compiled (waits for it) and run once, unless it writes.
    `structured`: gradients in the form the user wants; None: values alone."""
    from .engine import compile as pipeline  # the stages: imported when first needed
    refuse(plan, name, "a bound call")
    keys = [own_stream(*make().tolist()) for make in plan.draws]
    graph, checks = checked(plan)
    if keys:
        graph = Graph(graph.inputs, [*graph.outputs, *[after(n) for n in graph.inputs[len(graph.inputs) - len(keys):]]])
    program = plan.program if graph is plan.graph else programs.find(("bound", graph.key), lambda: graph, eager=False)
    prepared = program.prepared
    if prepared is None:
        prepared = program.prepared = pipeline.prepare(graph)
    refuse_host(prepared, name, "bound")
    native = prepared.link()
    inputs = [*[place(t, "a tensor") for t in tensors], *[_captured(c) for c in plan.captured], *keys]
    outs = [np.zeros(n.aval.shape, n.aval.dtype.np) for n in graph.outputs]
    shown = [new(Storage(None, a[...]), n.aval) for a, n in zip(outs, graph.outputs)]
    n, count = len(plan.needs), plan.gradients
    value = plan.nest(shown[:n])
    ends = outs[results(plan):]
    looked = list(zip(ends[::2], ends[1::2], checks))
    copies = [*_copies(plan, tensors, inputs, outs, name), *zip(keys, outs[len(outs) - len(keys):])]

    def again() -> Any:
        for to, found in [*zip(outs, program.interpret(inputs)), *copies]:
            to.reshape(-1)[:found.size] = found.reshape(-1)[:to.size]
        return value

    failed = _Failed(looked, again)
    assert native.plan is not None
    binding = Binding(runtime(), native.plan, [*inputs, *outs], value, failed,
                      [(least, greatest, c.lowest, c.end) for least, greatest, c in looked],
                      copies)
    made = Bound(binding, value, None if structured is None else structured(shown[n:n + count]), failed)
    if not writes(plan):
        made.run()
    return made


def _copies(plan: Plan, tensors: Sequence[Tensor], inputs: list[np.ndarray], outs: list[np.ndarray],
            name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(memory, new value) of everything that the function writes; each call then goes on from what the last one left."""
    found = []
    for target, at in plan.writes:
        t = tensors[target] if isinstance(target, int) else target
        found.append((place(t, "a tensor that it writes") if isinstance(t, Tensor) else _captured(t), outs[at]))
    for target, where in plan.grads:
        t = tensors[target] if isinstance(target, int) else target
        if (t._grad is None) is not (where is None):
            raise explain(RuntimeError(f"{name} leaves .grad {'set' if t._grad is None else 'unset'} where it was not, so a "
                                       "second call would be another program: it cannot be bound"),
                          hint="end it with zero_grad(), or call it once before it is bound")
        if where is not None:
            found.append((place(t._grad, "a gradient"), outs[where]))
    for array, _ in found:
        if not array.flags.writeable:
            raise explain(ValueError(f"{name} writes to memory that is read-only"))
        if sum([np.may_share_memory(array, a) for a in inputs]) > 1:
            raise explain(RuntimeError(f"{name} writes to memory that two of its tensors share: it cannot be bound"),
                          hint="pass it once, or write to a copy")
    return found
