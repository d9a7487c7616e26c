"""`@trace`: a Python function recorded once for each kind of arguments, then run as compiled programs.

In: a function of tensors (and nests of them).  Out: `Traced`, which looks and behaves like the function.  Tensors that it
closes over are inputs found while recording; what it writes to them, and to `.grad`, is written again by each call.  Never
parses source, never guesses: where a Python value would be baked in silently, it is watched, and a change records anew.
"""

from __future__ import annotations

import functools
import threading
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .dtypes import FLOAT, default_float
from .eager.backward import backward_nodes
from .eager.state import state
from .eager.storage import Storage, aval_of
from .eager.template import Rule
from .eager.apply import apply
from .eager.tensor import Tensor, new, of_array, value
from .engine import programs
from .errors import TraceError, explain
from .ir.aval import Aval, aval
from .ir.graph import Graph, Node, buffer, const, forget, linearise, placeholder, substitute
from .ir.primitive import BUFFER, LEAF, SCALAR
from .ops.control import SubGraph
from .ops.declare import full

MANY = 3                                                  # this many values of one int argument are worth a warning


class Captured:
    """A storage from outside that a trace has met, and what it held."""

    __slots__ = ("tensor", "value", "mem", "trace", "placeholder")

    def __init__(self, tensor: Any, storage: Storage, a: Aval) -> None:
        self.tensor, self.value, self.mem, self.trace = tensor, storage.value, storage.mem, storage.trace
        self.placeholder = placeholder(a)


class Trace:
    """The open recording of one thread.  See `eager.state` for who calls what."""

    def __init__(self) -> None:
        self.closed = False
        self.captured: dict[Storage, Captured] = {}
        self.grads: dict[Tensor, Any] = {}
        self.bumps: dict[Any, int] = {}
        self.draws: list[tuple[Node, Callable[[], Any]]] = []

    def touch(self, storage: Storage, tensor: Any) -> None:
        if storage in self.captured:
            return
        a = storage.value.aval if storage.value is not None else aval_of(storage.mem)
        c = self.captured[storage] = Captured(tensor, storage, a)
        storage.value, storage.mem, storage.trace = c.placeholder, None, self

    def bump(self, cell: Any) -> None:
        self.bumps[cell] = self.bumps.get(cell, 0) + 1

    def assign_grad(self, tensor: Tensor, old: Any) -> None:
        self.grads.setdefault(tensor, old)

    def draw(self, make: Callable[[], Any], a: Aval) -> Node:
        """Random numbers: an input that each call draws anew."""
        n = placeholder(a)
        self.draws.append((n, make))
        return n

    def look(self, nodes: Sequence[Node]) -> list[Any]:
        """A value is asked for: only constants have one."""
        for n in nodes:
            if any(m.prim.kind == LEAF and m.op not in ("const", "scalar", "buffer") for m in linearise([n])):
                raise explain(TraceError("the value of a tensor is read inside a traced function, where it has none yet"),
                              hint="use aj.where for a choice by value, keep print() and item() outside of the traced "
                                   "function, or return the tensor and look at it there")
        me, state.trace = state.trace, None
        try:
            from .eager.evaluate import realise
            return [realise(n) for n in nodes]
        finally:
            state.trace = me

    def restore(self) -> None:
        """Everything outside as it was; the trace is over."""
        self.closed = True
        for storage, c in self.captured.items():
            storage.value, storage.mem, storage.trace = c.value, c.mem, c.trace
        for tensor, old in self.grads.items():
            tensor._grad = old
        for cell, k in self.bumps.items():
            cell.version -= k


class Watch:
    """Python values that the function names: globals, closure cells, one level of attributes.  Compared by identity, numbers
    by value: a function that reads a changed one is recorded anew."""

    __slots__ = ("places",)

    def __init__(self, fn: Any) -> None:
        self.places: list[tuple[Any, Any, Any]] = []
        code = getattr(fn, "__code__", None)
        if code is None:
            return
        owners: list[Any] = []
        for name in code.co_names:
            if name in fn.__globals__:
                self._add(fn.__globals__, name, owners)
        for cell in fn.__closure__ or ():
            try:
                found = cell.cell_contents
            except ValueError:                            # not yet filled
                continue
            self.places.append((cell, None, found))
            owners.append(found)
        for owner in owners:
            names = getattr(owner, "__dict__", None)
            if type(names) is dict and not isinstance(owner, (types.ModuleType, types.FunctionType, type, Tensor, Traced)):
                for name in code.co_names:
                    if name in names:
                        self._add(names, name, [])

    def _add(self, names: dict[str, Any], name: str, owners: list[Any]) -> None:
        found = names[name]
        if not isinstance(found, (types.ModuleType, types.BuiltinFunctionType)):
            self.places.append((names, name, found))
            owners.append(found)

    def changed(self) -> str | None:
        """The first name whose value is another, or None."""
        for owner, name, old in self.places:
            now = owner.get(name) if name is not None else owner.cell_contents
            if now is not old and not (type(now) is type(old) and type(now) in (int, float, bool, str) and now == old):
                return name or "a variable of the enclosing function"
        return None


class Plan:
    """One recording: graph inputs in order (arguments, captured tensors, draws), results, and what is written back."""

    __slots__ = ("watch", "captured", "states", "fixed", "draws", "results", "structure", "static", "writes", "grads", "bumps",
                 "avals", "body", "rules", "needs", "program", "pure", "graph", "arity", "inputs", "used")

    watch: Watch
    captured: list[Any]                                   # tensors from outside, or what stands for them
    states: list[tuple[Any, ...]]                         # how each looked when recorded
    draws: list[Callable[[], Any]]
    results: list[Node]
    structure: Any
    static: list[Any]                                     # results that are no tensors, by position; None where one is
    writes: list[tuple[Any, int]]                         # (argument number or tensor, output number)
    grads: list[tuple[Any, int | None]]
    bumps: list[tuple[Any, int]]
    body: SubGraph
    needs: list[bool]                                     # which results want a gradient
    program: programs.Program
    pure: bool
    graph: Graph
    arity: int                                            # number of run-time arguments

    def stale(self) -> str | None:
        """Why this plan no longer fits, or None."""
        name = self.watch.changed()
        if name is not None:
            return f"{name} has changed"
        for t, old in zip(self.captured, self.states):
            if _look_of(t) != old:
                return "a captured tensor has another shape, dtype, requires_grad or state of .grad"
        return None


def _look_of(t: Any) -> tuple[Any, ...]:
    if not isinstance(t, Tensor):
        return ()
    return (t.aval, t.requires_grad, t._grad is None)


def array_of(t: Any) -> Any:
    """The array of an argument or captured tensor, contiguous."""
    if isinstance(t, Tensor):
        s = t.storage
        if s.mem is None and not t.view:
            n = s.value
            n = n.real or n
            if n.prim is BUFFER:
                return n.data
        if t.view:
            from .eager.evaluate import realise
            return np.ascontiguousarray(realise(value(t)))
    return np.ascontiguousarray(t.storage.array(t))


def run_time(x: Any) -> bool:
    """Is this argument data (a tensor, an array, a float)?  Everything else is part of the program."""
    return isinstance(x, (Tensor, np.ndarray, float, np.floating)) and not isinstance(x, np.bool_)


def as_tensor(x: Any, like: Any) -> Tensor:
    """A run-time argument as a tensor; floats take the dtype of the floating tensors beside them."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray):
        return of_array(np.array(x, order="C"))
    return of_array(np.asarray(x, like.np))


def _float_beside(leaves: Sequence[Any]) -> Any:
    found = None
    for x in leaves:
        d = x.aval.dtype if isinstance(x, Tensor) else None
        if d is not None and d.category == FLOAT and (found is None or d.rank > found.rank):
            found = d
    return found or default_float()


class Recorder:
    """One recording of a function: makes a Plan."""

    def __init__(self, fn: Callable[..., Any], leaves: Sequence[Any], structure: Any, wrt: Sequence[int] | None) -> None:
        self.fn, self.leaves, self.structure, self.wrt = fn, leaves, structure, wrt
        self.trace = Trace()
        self.inner: list[Tensor] = []

    def record(self) -> Plan:
        plan = Plan()
        plan.watch = Watch(self.fn)
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
        plan.states = [_look_of(t) for t in plan.captured]
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
        plan.arity = len(self.placeholders)
        self._graph(plan, inputs, [*outputs, *grads, *extra])
        if self.wrt is None and any(plan.needs):
            self._pulls(plan, inputs, tensors)

    def _gradients(self, tensors: list[Tensor]) -> list[Node]:
        """Cotangents with respect to chosen arguments of the first result, for `value_and_grad`."""
        if self.wrt is None:
            return []
        if not tensors or tensors[0].aval.size != 1 or tensors[0].aval.dtype.category < FLOAT:
            what = "no tensor" if not tensors else f"{tensors[0].aval}"
            raise explain(RuntimeError(f"grad needs a function that returns one floating number first, and this one returned {what}"),
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
        plan.captured += [_Fixed(n) for n in fixed]
        plan.inputs = [*inputs[:len(inputs) - len(plan.draws)], *[env[n] for n in fixed], *inputs[len(inputs) - len(plan.draws):]]
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
        holders: list[Any] = [*self.kept, *[c.tensor if isinstance(c.tensor, Tensor) else None for c in self.trace.captured.values()]]
        wanted = [(k, t) for k, t in enumerate(holders) if t is not None and t.requires_grad and t.is_leaf]
        nonleaf = [t for t in holders[len(self.kept):] if t is not None and t.requires_grad and not t.is_leaf]
        if nonleaf:
            raise explain(TraceError("a traced function uses a tensor from outside that was itself computed with gradients"),
                          hint="pass it as an argument")
        for k, t in enumerate(tensors):
            if not t.requires_grad:
                continue
            ct = placeholder(t.aval)
            found = backward_nodes([t], [ct], [w for _, w in wanted])
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


class _Fixed:
    """An array that the function made while it was recorded: the same at each call."""

    __slots__ = ("array",)

    def __init__(self, n: Node) -> None:
        self.array = n.data


class Traced:
    """A function that is recorded at its first call with each kind of arguments and compiled from the recording.

    >>> import autojit as aj
    >>> @aj.trace
    ... def loss(w, x):
    ...     return ((x * w).sin() ** 2).sum()
    >>> w = aj.tensor([1.0, 2.0], requires_grad=True)
    >>> loss(w, aj.tensor([0.5, 0.5])).backward()
    >>> w.grad.shape
    torch.Size([2])
    """

    def __init__(self, fn: Callable[..., Any], static_argnums: Sequence[int] = ()) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.static_argnums = frozenset(static_argnums)
        self.plans: dict[Any, list[Plan]] = {}
        self.history: list[str] = []
        self.last: Plan | None = None
        self._ints: dict[Any, set[Any]] = {}
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.trace is not None:                       # inside another trace: part of it
            return self.fn(*args, **kwargs)
        leaves, structure, tensors = self.leaves(args, kwargs)
        plan = self.plan(leaves, structure, tensors, None)
        self.last = plan
        if plan.pure and any(plan.needs) and state.grad:
            return self._pending(plan, tensors)
        return self._at_once(plan, tensors)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else functools.partial(self, owner)

    # ------------------------------------------------------------ finding the plan
    def leaves(self, args: Any, kwargs: Any) -> tuple[list[Any], Any, list[Tensor]]:
        """Arguments as leaves, with run-time ones as tensors; their structure; the tensors alone."""
        if self.static_argnums:
            args = tuple([_Static(a) if i in self.static_argnums else a for i, a in enumerate(args)])
        leaves, structure = tree.flatten((args, kwargs))
        beside = None
        for k, x in enumerate(leaves):
            if not isinstance(x, Tensor) and run_time(x):
                beside = beside or _float_beside(leaves)
                leaves[k] = as_tensor(x, beside)
        return leaves, structure, [x for x in leaves if isinstance(x, Tensor)]

    def plan(self, leaves: list[Any], structure: Any, tensors: list[Tensor], wrt: tuple[int, ...] | None) -> Plan:
        """The plan that fits; recorded if there is none."""
        try:
            key = (structure, tuple([(x.aval, x.requires_grad) if isinstance(x, Tensor) else _static_key(x) for x in leaves]),
                   wrt, state.grad)
            found = self.plans.get(key)
        except TypeError:
            bad = next(x for x in leaves if not isinstance(x, Tensor) and not _hashable(x))
            raise explain(TypeError(f"an argument of a traced function is neither data nor hashable: {type(bad).__name__}"),
                          hint="pass tensors, arrays, numbers, strings, or nests of them") from None
        why = "no call like this before"
        for plan in found or ():
            why = plan.stale()
            if why is None:
                return plan
        with self._lock:
            self._warn_ints(leaves)
            plan = Recorder(self._bare(), leaves, structure, wrt).record()
            self.history.append(f"recorded ({why}): {len(plan.graph.order)} nodes for {_kind(leaves)}")
            self.plans[key] = [plan, *(found or [])[:3]]
        return plan

    def _bare(self) -> Callable[..., Any]:
        if not self.static_argnums:
            return self.fn

        @functools.wraps(self.fn)
        def bare(*args: Any, **kwargs: Any) -> Any:
            return self.fn(*[a.value if isinstance(a, _Static) else a for a in args], **kwargs)
        return bare

    def _warn_ints(self, leaves: list[Any]) -> None:
        for k, x in enumerate(leaves):
            if type(x) is int:
                seen = self._ints.setdefault(k, set())
                seen.add(x)
                if len(seen) == MANY:
                    warnings.warn(f"{self.__name__} is recorded anew for each value of an int argument "  # type: ignore[attr-defined]
                                  f"({', '.join(map(str, sorted(seen)))}, ...): pass a float or a 0-d tensor if it is data",
                                  stacklevel=4)

    # ------------------------------------------------------------ running it
    def _pending(self, plan: Plan, tensors: list[Tensor]) -> Any:
        """Nothing but results: they stay pending, so that `backward()` is one program with them."""
        args = [*tensors, *[_input(c) for c in plan.captured], *[of_array(make()) for make in plan.draws]]
        out = apply(_rule(plan), args, ())
        return self._nest(plan, list(out) if isinstance(out, tuple) else [out])

    def _at_once(self, plan: Plan, tensors: list[Tensor]) -> Any:
        arrays = plan.program([array_of(t) for t in tensors] + gather(plan))
        n = len(plan.needs)
        outs = [of_buffer(a, r.aval) for a, r in zip(arrays[:n], plan.results)]
        self.write_back(plan, tensors, arrays)
        return self._nest(plan, outs)

    def write_back(self, plan: Plan, tensors: Sequence[Tensor], arrays: Sequence[Any]) -> None:
        """What the function wrote, written again: memory, `.grad`, versions."""
        for target, at in plan.writes:
            store(tensors[target] if isinstance(target, int) else target, arrays[at])
        for target, place in plan.grads:
            t = tensors[target] if isinstance(target, int) else target
            t._grad = None if place is None else of_buffer(arrays[place], plan.results[place].aval)
        for cell, k in plan.bumps:
            (tensors[cell].cell if isinstance(cell, int) else cell).version += k

    def _nest(self, plan: Plan, outs: list[Tensor]) -> Any:
        it = iter(outs)
        flat = plan.static
        return tree.unflatten(plan.structure, [next(it) if s is None else s for s in flat])

    # ------------------------------------------------------------ looking inside
    def explain(self) -> str:
        """Why it was recorded and compiled, what each stage cost, what was fused and what was not."""
        from .inspection import explain_traced
        return explain_traced(self)

    def source(self) -> str:
        """The kernels of the program that ran last (with its gradient if one was asked for), as Python text."""
        from .inspection import source_of
        return source_of(self)

    def graph(self) -> str:
        """The recorded graph of the last call, as text."""
        from .ir.text import graph_text
        return graph_text(self._last().graph)

    def _last(self) -> Plan:
        if self.last is None:
            raise explain(RuntimeError("this function has not been called yet"), hint="call it once, then ask")
        return self.last


class _Static:
    """An argument that is part of the program."""

    __slots__ = ("value",)

    def __init__(self, v: Any) -> None:
        self.value = v

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and type(self.value) is type(other.value) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)


def _static_key(x: Any) -> Any:
    return (type(x), x)


def _hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def _kind(leaves: Sequence[Any]) -> str:
    return "(" + ", ".join([repr(x.aval) if isinstance(x, Tensor) else repr(x) for x in leaves]) + ")"


def _input(c: Any) -> Any:
    """A captured tensor, or what stands for one, as an argument of the call."""
    if isinstance(c, _Fixed):
        return of_buffer(c.array, aval_of(c.array))
    return c if isinstance(c, Tensor) else new(c.storage, c.storage.read(c).aval)


def gather(plan: Plan) -> list[Any]:
    """Arrays of the inputs that are no arguments."""
    return [c.array if isinstance(c, _Fixed) else array_of(c) for c in plan.captured] + [make() for make in plan.draws]


def of_buffer(array: Any, a: Aval) -> Tensor:
    return new(Storage(buffer(array, a)), a)


def store(t: Any, array: Any) -> None:
    """A traced write takes effect."""
    t.storage.write(buffer(array, aval_of(array)))


_RULES: dict[int, tuple[Plan, Rule]] = {}


def _rule(plan: Plan) -> Rule:
    """The op that stands for a recording in the tape."""
    found = getattr(plan, "rules", None)
    if found is None:
        from .ops.declare import P
        body, count = plan.body, len(plan.needs)

        def fn(*nodes: Node) -> Any:
            outs = [P.call(nodes, body, k) for k in range(count)]
            return outs[0] if count == 1 else tuple(outs)

        name = body.name.title().replace("_", "")
        plan.rules = found = Rule(body.name, fn, name + "Backward")
    return found  # type: ignore[no-any-return]


def trace(fn: Any = None, *, static_argnums: Sequence[int] = ()) -> Any:
    """Decorate a function so that it is recorded and compiled; or, given a tensor, the sum of its diagonal (as torch's).

    Tensors, arrays and floats among the arguments are data; ints, strings, bools and None are part of the program, as are
    arguments named by `static_argnums`.  Nests (tuples, lists, dictionaries) are looked into.
    """
    if isinstance(fn, Tensor):
        return fn.trace()
    if fn is None:
        return lambda f: Traced(f, static_argnums)
    return fn if isinstance(fn, Traced) else Traced(fn, static_argnums)
