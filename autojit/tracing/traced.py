"""`@trace` itself: from a call to the plan that fits, and running it.

In: a function of tensors (and nests of them).  Out: `Traced`, which is called like the function.  Never parses source, never
guesses: where a Python value would be baked in silently it is watched, and a change records anew.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import tree
from ..collector import paused
from ..config import config
from ..eager.apply import apply
from ..eager.convert import send
from ..eager.evaluate import settle
from ..eager.inplace import replace
from ..eager.placing import Device, named
from ..eager.state import state
from ..eager.storage import Cell
from ..eager.tape import Saved, origin
from ..eager.template import Rule
from ..eager.tensor import Tensor, new, of_buffer, value
from ..eager.views import put
from ..errors import TraceError, explain
from ..ir.aval import Aval
from ..ir.graph import Node, buffer
from ..ops.declare import P
from .hot import Short, Writer
from .plan import STALE, Asked, Fixed, Plan, array_of, as_tensor, drawn_avals, float_beside, gather, run_time, with_path
from .recorder import Recorder

if TYPE_CHECKING:
    from ..bound import Bound

CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200
ROOM = 1 << 27                                            # bytes of temporaries that plans of known forms may hold together:
                                                          # to make such a plan again is quick beside a call that needs so much
KEPT = 512                                                # recordings of one function that are remembered
LOOKED_AT = 8                                             # recordings that a new one is explained by
MANY = 3                                                  # this many values of one int argument are worth a warning


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

    def __init__(self, fn: Callable[..., Any], static_argnums: Sequence[int] = (), device: Any = None) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.device = None if device is None else Device(device)    # opened by the first call
        self.static_argnums = frozenset(static_argnums)
        self.plans: OrderedDict[Any, list[Plan]] = OrderedDict()
        self.history: deque[str] = deque(maxlen=20)
        self.last: Plan | None = None
        self._ints: dict[Any, set[Any]] = {}
        self._held = 0                                    # bytes of temporaries of the plans
        self._likes: dict[Any, Any] = {}                  # kind of arguments → what is known of its recordings
        self._short = Short()
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            for call in self._short.calls:
                found = call(args)
                if found is not None:
                    return found
        if state.trace is not None:                       # inside another trace: part of it
            return self.fn(*args, **kwargs)
        leaves, structure, tensors = self.leaves(args, kwargs)
        plan, arrays, drawn = self.answer(Asked(leaves, structure, tensors, None))
        wanted = any(plan.needs) and state.grad
        outs = self._pending(plan, tensors, drawn) if wanted else None
        if outs is None or arrays is not None or not plan.pure:
            if arrays is None:
                arrays = plan.run([array_of(t) for t in tensors] + gather(plan, drawn))
            outs = self._at_once(plan, tensors, arrays, outs)
        if not (wanted or kwargs or self.static_argnums):
            self._short.used(plan, args, lambda native: self._write(plan, native, args))
        return plan.nest(outs)

    def _write(self, plan: Plan, native: Any, args: tuple[Any, ...]) -> Any:
        w = Writer(self, self._short, plan, native, args)
        w.unpack()
        value = w.value()
        return None if value == "None" else w.write(value, state.grad)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else Method(self, owner)

    def bind(self, *args: Any) -> Bound:
        """The function with its arguments and results fixed in memory: `b()` reads the arguments' memory again and writes
        `b.value`, with no Python in between.  See `value_and_grad`; `b.grads` is None.

        >>> import autojit as aj
        >>> import numpy as np
        >>> x = np.ones(3)
        >>> b = aj.trace(lambda x: x.sin().sum()).bind(x)
        >>> x[:] = 0.0
        >>> b()
        tensor(0., dtype=torch.float64)
        >>> step = aj.trace(lambda x: x.add_(0.5)).bind(x)    # what it writes, each call writes
        >>> step(), step(), x
        (tensor([1., 1., 1.], dtype=torch.float64), tensor([1., 1., 1.], dtype=torch.float64), array([1., 1., 1.]))
        """
        from ..bound import bind, fixed  # imported when first needed
        leaves, structure, tensors = self.leaves(fixed(args, self.static_argnums), {})
        self.last = plan = self.plan(leaves, structure, None)
        return bind(plan, tensors, plan.body.name, None)

    # ------------------------------------------------------------ finding the plan
    def leaves(self, args: Any, kwargs: Any) -> tuple[list[Any], Any, list[Tensor]]:
        """Arguments as leaves, with run-time ones as tensors; their structure; the tensors alone."""
        if self.static_argnums:
            args = tuple([_Static(a) if i in self.static_argnums else a for i, a in enumerate(args)])
        leaves, structure = tree.flatten((args, kwargs))
        device = None if self.device is None else named(self.device)
        beside = None
        for k, x in enumerate(leaves):
            if not isinstance(x, Tensor) and run_time(x):
                beside = beside or float_beside(leaves)
                leaves[k] = as_tensor(x, beside)
            if device is not None:
                leaves[k] = _moved(leaves[k], device)
        return leaves, structure, [x for x in leaves if isinstance(x, Tensor)]

    def answer(self, asked: Asked) -> tuple[Plan, list[Any] | None, list[Any]]:
        """The plan of a call; what its program gave, if it had to run for that; the call's random numbers."""
        plan, arrays = self.plan(asked.leaves, asked.structure, asked.wrt, asked), None
        if plan.guards:
            from .paths import follow  # of no concern to functions without branches on values
            plan, arrays = follow(self, plan, asked)
        self.last = plan
        return plan, arrays, asked.draw(plan.draws)

    def plan(self, leaves: list[Any], structure: Any, wrt: tuple[int, ...] | None, asked: Asked | None = None) -> Plan:
        """The plan that fits; recorded if there is none.  Where branches depend on values it may be of another path than the
        one that `asked`, the call, takes."""
        asked = asked or Asked(leaves, structure, [x for x in leaves if isinstance(x, Tensor)], wrt)
        try:
            key = (structure, tuple([(x.aval, x.requires_grad) if isinstance(x, Tensor) else _static_key(x) for x in leaves]),
                   wrt, state.grad)
            found = self.plans.get(key)
        except TypeError:
            bad = next(x for x in leaves if not isinstance(x, Tensor) and not _hashable(x))
            raise explain(TypeError(f"an argument of a traced function is neither data nor hashable: {type(bad).__name__}"),
                          hint="pass tensors, arrays, numbers, strings, or nests of them") from None
        asked.key = key
        why: str | None = None if found else self._news(key)
        for plan in found or ():
            why = plan.stale()
            if why is None:
                return plan
        with self._lock:
            self._warn_ints(leaves)
            with paused():
                plan = self._alike(leaves, structure, wrt) or self._recorded(asked, why)
            self._keep(key, plan)
        return plan

    def other(self, asked: Asked) -> Plan:
        """The plan of a call whose first branches have been decided, against the plan that was tried: one that agrees, or
        the one that is recorded now, and is right."""
        for plan in self.plans.get(asked.key, ()):
            if plan.outcomes[:len(asked.outcomes)] == asked.outcomes and plan.stale() is None:
                break
        else:
            with self._lock, paused():
                plan = self._recorded(asked, f"another way at {asked.places[-1]}")
        self._keep(asked.key, plan)
        return plan

    def _keep(self, key: Any, plan: Plan) -> None:
        """The plan stands first: of all paths that are not stale, or of the last few plans where there is one path."""
        with self._lock:
            old = self.plans.get(key, [])
            rest = [p for p in old if p is not plan]
            if len(rest) == len(old):                     # it is new
                rest = with_path(self.__name__, plan, rest) if plan.guards else rest[:STALE]  # type: ignore[attr-defined]
            self.plans[key] = [plan, *rest]
            self.plans.move_to_end(key)
            self._held += sum([p.held for p in self.plans[key]]) - sum([p.held for p in old])
            while len(self.plans) > KEPT or self._held > ROOM and len(self.plans) > 1:
                _, gone = self.plans.popitem(last=False)
                self._held -= sum([p.held for p in gone])

    def _recorded(self, asked: Asked, why: str | None) -> Plan:
        leaves, structure, wrt = asked.leaves, asked.structure, asked.wrt
        recorder = Recorder(self._bare(), leaves, structure, wrt, asked)
        plan = recorder.record()
        self.history.append(f"recorded{' with its gradient' * (wrt is not None)} ({why}): "
                            f"{len(plan.graph.order)} nodes for {_kind(leaves)}")
        if config.forms and wrt is not None and config.tier != "numpy":
            from .likeness import Likeness
            if len(self._likes) > KEPT:
                self._likes.clear()
            like = self._likes.setdefault(_outer(leaves, structure, wrt), Likeness(plan.watch))
            like.watch = plan.watch
            like.learn(recorder.line, plan.graph, sum([len(x.aval.shape) for x in leaves if isinstance(x, Tensor)]))
        return plan

    def _alike(self, leaves: list[Any], structure: Any, wrt: tuple[int, ...] | None) -> Plan | None:
        """The plan for a new size of what was recorded for others, without recording it whole."""
        if not config.forms or wrt is None or not self._likes or config.tier == "numpy":
            return None
        like = self._likes.get(_outer(leaves, structure, wrt))
        if like is None:
            return None
        from .likeness import light_plan
        plan = light_plan(like, self._bare(), leaves, structure, wrt)
        if plan is not None:
            self.history.append(f"of a known form: {_kind(leaves)}")
        return plan

    def _news(self, key: Any) -> str:
        """What is new in this call, held against the nearest of the last recordings."""
        structure, leaves, wrt, _ = key
        last = [k for _, k in zip(range(LOOKED_AT), reversed(self.plans))]
        alike = [(sum([a == b for a, b in zip(leaves, k[1])]), k) for k in last if k[0] == structure]
        if not alike:
            return "the first call" if not self.plans else "no call with arguments of this structure before"
        _, nearest = max(alike, key=lambda p: p[0])
        new = [f"argument {k} is {_word(a)}, was {_word(b)}" for k, (a, b) in enumerate(zip(leaves, nearest[1])) if a != b]
        if not new:
            new = ["its gradient is asked for" if wrt != nearest[2] else "the grad mode is another"]
        return "; ".join(new)

    def _bare(self) -> Callable[..., Any]:
        """The function as it is recorded: static arguments as they came, results on the device that was asked for."""
        if not self.static_argnums and self.device is None:
            return self.fn

        @functools.wraps(self.fn)
        def bare(*args: Any, **kwargs: Any) -> Any:
            out = self.fn(*[a.value if isinstance(a, _Static) else a for a in args], **kwargs)
            return out if self.device is None else tree.tree_map(self._result, out)
        return bare

    def _result(self, t: Any) -> Any:
        return send(t, named(self.device), t.aval.dtype) if isinstance(t, Tensor) else t

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
    def _pending(self, plan: Plan, tensors: list[Tensor], drawn: list[Any]) -> list[Tensor]:
        """Results with a place in the tape, not yet computed: `backward()` is one program with them."""
        args = [*tensors, *[_input(c) for c in plan.captured]]
        if drawn:
            args += [of_buffer(a, known) for a, known in zip(drawn, drawn_avals(plan))]
        for k, check in plan.before:
            check.array(array_of(args[k]))
        out = apply(_rule(plan), args, ())
        return list(out) if isinstance(out, tuple) else [out]

    def _at_once(self, plan: Plan, tensors: list[Tensor], arrays: list[Any], outs: list[Tensor] | None) -> list[Tensor]:
        """Results that the program gave, and everything that the function writes."""
        n = len(plan.needs)
        if outs is None:
            outs = [of_buffer(a, r.aval) for a, r in zip(arrays[:n], plan.results)]
        else:
            for t, a in zip(outs, arrays):
                settle(value(t), a)
            own = {self._target(t, tensors).storage for t, _ in plan.writes}
            for record in dict.fromkeys([origin(t.fn) for t in outs if own and t.fn is not None]):
                # what the function itself writes comes after what its derivative reads
                record.saved = [s.node() if type(s) is Saved and s.storage in own else s for s in record.saved]
        self.write_back(plan, tensors, arrays)
        return outs

    @staticmethod
    def _target(target: Any, tensors: Sequence[Tensor]) -> Any:
        """What is written: an argument, by its number, or what was captured."""
        return tensors[target] if isinstance(target, int) else target

    def write_back(self, plan: Plan, tensors: Sequence[Tensor], arrays: Sequence[Any]) -> None:
        """What the function wrote, written again: memory, `.grad`, versions."""
        for k in plan.felt:
            if tensors[k]._grad is not None:
                name = self.__name__  # type: ignore[attr-defined]
                raise explain(TraceError(f"{name} looks at .grad of an argument, which held a gradient before the call"),
                              hint="begin with x.grad = None, or use the tensor from outside instead of passing it")
        for target, at in plan.writes:
            store(self._target(target, tensors), arrays[at], plan.results[at].aval)
        for target, place in plan.grads:
            t = self._target(target, tensors)
            g = None if place is None else of_buffer(arrays[place], plan.results[place].aval)
            if g is not None and t._grad is not None and target in plan.grown:
                replace(t._grad, P.add(value(t._grad), value(g)))
            else:
                t._grad = g
        for cell, k in plan.bumps:
            target = self._target(cell, tensors)
            (target if isinstance(target, Cell) else target.cell).version += k

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
        from .inspection import graph_of
        return graph_of(self)

    def _last(self) -> Plan:
        if self.last is None:
            raise explain(RuntimeError("this function has not been called yet"), hint="call it once, then ask")
        return self.last


class Method(functools.partial):  # type: ignore[type-arg]  # calls as fast as a partial
    """A traced function as a method of an object: `model.loss(x)`, and `model.loss.explain()` as for any traced function."""

    __slots__ = ()

    def bind(self, *args: Any) -> Bound:
        """`Traced.bind` with the object as its first argument."""
        return self.func.bind(*self.args, *args)  # type: ignore[no-any-return, attr-defined]

    def explain(self) -> str:
        """What the function tells of itself: its recordings with other objects too."""
        return self.func.explain()  # type: ignore[no-any-return, attr-defined]

    def source(self) -> str:
        """The kernels of the function's last call, with whichever object."""
        return self.func.source()  # type: ignore[no-any-return, attr-defined]

    def graph(self) -> str:
        """The recorded graph of the function's last call, with whichever object."""
        return self.func.graph()  # type: ignore[no-any-return, attr-defined]


class _Static:
    """An argument that is part of the program."""

    __slots__ = ("value",)

    def __init__(self, v: Any) -> None:
        self.value = v

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and type(self.value) is type(other.value) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)


def _outer(leaves: Sequence[Any], structure: Any, wrt: Any) -> Any:
    """Arguments without their extents."""
    kinds = [(x.aval.dtype, len(x.aval.shape)) if isinstance(x, Tensor) else _static_key(x) for x in leaves]
    return structure, tuple(kinds), wrt


def _static_key(x: Any) -> Any:
    return (type(x), x)


def _word(leaf: Any) -> str:
    """An argument's part of a signature, for people."""
    a, rest = leaf
    return repr(rest) if isinstance(a, type) else f"{a!r}{' that requires grad' * bool(rest)}"


def _hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def _moved(x: Any, device: str) -> Any:
    """A run-time argument on a device; numbers go along as they are."""
    return send(x, device, x.aval.dtype) if isinstance(x, Tensor) and x.aval.shape else x


def _kind(leaves: Sequence[Any]) -> str:
    return "(" + ", ".join([repr(x.aval) if isinstance(x, Tensor) else repr(x) for x in leaves]) + ")"


def _input(c: Any) -> Any:
    """A captured tensor, or what stands for one, as an argument of the call."""
    if isinstance(c, Fixed):
        return of_buffer(c.array, c.aval)
    return c if isinstance(c, Tensor) else new(c.storage, c.storage.read(c).aval)


def store(t: Any, array: Any, a: Aval) -> None:
    """A traced write takes effect, through the view that an argument is."""
    n, chain = buffer(array, a), getattr(t, "chain", ())
    t.storage.write(put(t.storage.read(t), chain, n) if chain else n)


def _rule(plan: Plan) -> Rule:
    """The op that stands for a recording in the tape."""
    if plan.rule is None:
        body, count = plan.body, len(plan.needs)

        def fn(*nodes: Node) -> Any:
            outs = [P.call(nodes, body, k) for k in range(count)]
            return outs[0] if count == 1 else tuple(outs)

        name = body.name.title().replace("_", "")
        plan.rule = Rule(body.name, fn, name + "Backward", across=True)
    return plan.rule  # type: ignore[no-any-return]


def trace(fn: Any = None, *, static_argnums: Sequence[int] = (), device: Any = None) -> Any:
    """Decorate a function so that it is recorded and compiled; or, given a tensor, the sum of its diagonal (as torch's).

    Tensors, arrays and floats among the arguments are data; ints, strings, bools and None are part of the program, as are
    arguments named by `static_argnums`.  Nests (tuples, lists, dictionaries) are looked into.

    `device="cuda"`: arguments that are not there are moved there (arrays and tensors; gradients flow back to the tensors that
    were passed by `backward()`, while those that `grad` and `value_and_grad` return stay on the device), and results are
    there.  Without it the function works where its tensors are.

    Python inside the function runs only while it is recorded.  Values that it reads by name (globals, closure variables,
    attributes of `self` and of other objects, what lists, dictionaries and small arrays hold, also in functions it calls) are
    watched, and a change records anew; what comes from properties, `getattr` with a computed name or calls such as
    `random.random()` is not seen and stays as it was.  Use `aj.rand` for random numbers, and arguments for data.

    Python's `if`, `while`, `and`, `assert`, `for` with `break` may ask for the truth of traced values.  Each way through the
    function is recorded and compiled when a call takes it first (so Python runs again), and guards pick the right one at each
    call; results, gradients, writes and random numbers are those of the way that is taken.  TraceError, which names the line,
    for more than 64 ways for arguments of one kind: use `aj.cond`, `aj.while_loop` or `aj.where` there.  A number that is read
    (`float(t)`, `t.item()`) is a TraceError too, but where it is a bool.  An error that the function raises itself comes each
    time; what it wrote before is then not written.

    >>> import autojit as aj
    >>> @aj.trace
    ... def halve(x):
    ...     while x.sum() > 1:
    ...         x = x / 2
    ...     return x
    >>> halve(aj.tensor([3.0, 1.0])), halve(aj.tensor([0.5, 0.25]))
    (tensor([0.7500, 0.2500]), tensor([0.5000, 0.2500]))
    """
    if isinstance(fn, Tensor):
        return fn.trace()
    if fn is None:
        return lambda f: Traced(f, static_argnums, device)
    if isinstance(fn, Traced):
        return fn
    if not callable(fn):
        raise explain(TypeError(f"trace() takes a function (or a matrix, to sum its diagonal), not {type(fn).__name__}"))
    if getattr(getattr(fn, "__code__", None), "co_flags", 0) & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR):
        raise explain(TypeError(f"{fn.__name__} is a generator or coroutine, which cannot be recorded"),
                      hint="trace a function that returns tensors, and loop over its calls")
    return Traced(fn, static_argnums, device)
