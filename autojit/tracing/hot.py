"""The shortest way from arguments to a native program and back: a function written for one signature.

In: a plan whose program is compiled, and arguments that fit it.  Out: a Python function without loops or lookups, which takes
a few hundred nanoseconds where the general way takes ten times as much.  It gives None where anything is not as when it was
written, and the general way answers; it never records, compiles or differentiates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import tree
from ..backends.devices import from_host, to_host
from ..dtypes import as_dtype, bfloat16, default_float, memory
from ..eager.state import state
from ..eager.storage import aval_of, shared
from ..eager.tensor import Tensor, of_buffer
from ..ir.primitive import BUFFER
from .plan import Fixed, Plan, daring, float_beside, run_time

USES = 8                                                  # calls of a signature before a function is written for it
_WRITTEN = frozenset({USES, 8 * USES, 64 * USES, 512 * USES})   # and again, where the kinds of its arguments have changed
KEPT = 8                                                  # functions that are asked in turn

Call = Callable[[tuple[Any, ...]], Any]


class Short:
    """The short ways of one traced function: those of its signatures that are used again and again."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls: tuple[Call, ...] = ()                 # last written first

    def used(self, plan: Plan, args: tuple[Any, ...], make: Callable[[Any], Call | None]) -> None:
        """The general way has answered by this plan: `make` writes a function when that has happened often enough."""
        native: Any = plan.program.native
        if native is None:
            return
        plan.uses += 1
        if plan.uses in _WRITTEN and applies(plan, native, args):
            call = make(native)
            if call is not None:
                self.calls = (call, *self.calls[:KEPT - 1])

    def last(self, call: Call) -> None:
        """A path that a call has not taken: the others are asked before it, until one of them is wrong."""
        if self.calls[-1] is not call:
            self.calls = (*[c for c in self.calls if c is not call], call)


def applies(plan: Plan, native: Any, args: tuple[Any, ...]) -> bool:
    """Can a function be written for this plan and these arguments?"""
    if plan.guards and (plan.draws or any([c.guards for _, c in plan.before]) or not daring(plan)):
        return False
    return ((plan.program.elsewhere or bool(getattr(native, "address", 0))) and not (plan.writes or plan.grads or plan.bumps)
            and all([isinstance(c, Fixed) or _plain(c) or _seen(c) for c in plan.captured])
            and all([_plain(x) or _seen(x) for x in tree.flatten(args)[0] if isinstance(x, Tensor)]))


def _plain(t: Any) -> bool:
    """A tensor over memory of its own, outside of the tape."""
    return _leaf(t) and t.storage.mem is None and t.storage.value.prim is BUFFER


def _seen(t: Any) -> bool:
    """A tensor over memory that others see (`from_numpy`), outside of the tape: read where it lies."""
    m: Any = t.storage.mem if _leaf(t) else None
    return isinstance(m, np.ndarray) and shared(m) and m.flags.c_contiguous and m.flags.aligned


def _leaf(t: Any) -> bool:
    return isinstance(t, Tensor) and t.fn is None and t.base is None and not t.chain


@cache
def shower() -> Callable[[Any, Any], Any]:
    """`of_buffer` as a builtin, where that can be."""
    from ..backends.cpu.making import maker  # imported when first needed, as all that is native
    from ..backends.cpu.runtime import runtime
    from ..engine.kernels import disk
    pairs = [(a, aval_of(a)) for a in (np.zeros(2), np.zeros((2, 3), np.float32))]
    return maker(runtime(disk()), of_buffer, lambda t: (t.storage.value, t.storage, t), pairs)


class Writer:
    """Writes one function: first what takes the arguments apart and looks at them, then the call, then the results."""

    def __init__(self, traced: Any, short: Short, plan: Plan, native: Any, args: tuple[Any, ...]) -> None:
        self.short, self.plan, self.native, self.args = short, plan, native, args
        self.names: dict[str, Any] = {"BUFFER": BUFFER, "state": state, "changed": plan.watch.changed, "traced": traced,
                                      "plan": plan, "empty": np.empty, "ndarray": np.ndarray, "of_buffer": shower(),
                                      "asarray": np.asarray, "default": default_float, "shared": shared}
        self.names |= {"run": native, "to_host": to_host, "from_host": from_host} if plan.program.elsewhere else {
            "run": native.run, "address": native.address}
        self.looks: list[str] = []                        # statements that take apart and look
        self.given: list[str] = []                        # expressions of the program's inputs
        self.before: list[str] = []                       # statements after looking: what may fail or costs more
        leaves = tree.flatten(args)[0]
        self.beside = float_beside(leaves)                # the dtype of floats
        floating = [x for x in leaves if isinstance(x, (Tensor, np.ndarray)) and as_dtype(x.dtype) is self.beside]
        self.default = [] if floating else [f"default() is not {self.name(self.beside, 'd')}"]

    def name(self, v: Any, prefix: str) -> str:
        """A name for an object."""
        name = f"{prefix}{len(self.names)}"
        self.names[name] = v
        return name

    def unless(self, *conditions: str) -> None:
        """Give up where one of these holds."""
        self.looks.append(f"if {' or '.join(conditions)}: return None")

    # ------------------------------------------------------------ arguments
    def take(self, x: str, v: Any) -> None:
        """What takes apart and looks at the variable `x`, which is `v` now."""
        kind = type(v)
        if v is None:
            self.unless(f"{x} is not None")
        elif kind is tuple or kind is list or isinstance(v, tuple) and hasattr(kind, "_fields"):
            inner = [f"{x}_{k}" for k in range(len(v))]
            self.unless(f"type({x}) is not {self.name(kind, 't')}", f"len({x}) != {len(v)}")
            self.looks += [f"{i} = {x}[{k}]" for k, i in enumerate(inner)]
            for i, part in zip(inner, v):
                self.take(i, part)
        elif kind is dict:
            self.unless(f"type({x}) is not dict", f"len({x}) != {len(v)}")
            for k, key in enumerate(tree.flatten(v)[1][1]):
                self.looks.append(f"{x}_{k} = {x}[{self.name(key, 'k')}]")
                self.take(f"{x}_{k}", v[key])
        elif isinstance(v, Tensor):
            self.give(self.tensor(x, v), v.aval.device)
        elif isinstance(v, np.ndarray):
            d = self.name(v.dtype, "d")
            self.unless(f"type({x}) is not ndarray", f"{x}.dtype is not {d} and {x}.dtype != {d}", f"{x}.shape != {v.shape}")
            self.looks.append(f"f = {x}.flags")
            self.unless("not f.c_contiguous", "not f.aligned")
            self.give(x, "cpu")
        elif run_time(v):
            self.unless(f"type({x}) is not {self.name(kind, 't')}", *self.default)
            self.given.append(f"asarray({x}, {self.name(self.beside.np, 'd')})" if self.beside is not bfloat16 else
                              f"{self.name(memory, 'm')}({x}, {self.name(bfloat16, 'd')})")
        else:
            c = self.name(v, "c")
            self.unless(f"{x} is not {c} and (type({x}) is not {self.name(kind, 't')} or {x} != {c})")

    def give(self, array: str, device: str) -> None:
        """An argument of the program: an expression of an array on a device, copied to where the program takes it."""
        k = len(self.given)
        a = self.plan.inputs[k].aval if self.plan.program.elsewhere else None
        if a is None or a.device == device:
            self.given.append(array)
        else:
            self.before.append(f"d{k} = from_host({array}, {self.name(a.dtype, 'd')}, {a.device!r})")
            self.given.append(f"d{k}")

    def tensor(self, x: str, t: Tensor) -> str:
        """Looks at a tensor; an expression of its array."""
        n, m = f"n_{x}", f"m_{x}"
        self.looks.append(f"s = {x}.storage; {m} = s.mem")
        self.unless(f"{x}.aval is not {self.name(t.aval, 'a')}", f"{x}.fn is not None", f"{x}.req is not {t.req}",
                    f"{x}.base is not None", f"{x}.chain")
        if t.storage.mem is not None:
            self.unless(f"{m} is None", f"not shared({m})")
            self.looks.append(f"f = {m}.flags")
            self.unless("not f.c_contiguous", "not f.aligned")
            return m
        self.looks.append(f"{n} = s.value")
        self.unless(f"{m} is not None", f"{n}.prim is not BUFFER")
        return f"{n}.data"

    def captured(self) -> None:
        """Inputs that are no arguments."""
        for c in self.plan.captured:
            if isinstance(c, Fixed):
                self.given.append(self.name(c.array, "g"))
            else:
                x = self.name(c, "g")
                self.given.append(self.tensor(x, c))
                self.unless(f"({x}._grad is None) is not {c._grad is None}")
        self.given += [f"{self.name(make, 'draw')}()" for make in self.plan.draws]

    def checks(self) -> None:
        """Places among the inputs: looked at unless they are the very buffer that was looked at last."""
        for at, check in self.plan.before:
            c, given = self.name(check, "c"), self.given[at]
            if given.startswith("n_"):
                seen = self.name([None], "s")
                n = given.removesuffix(".data")
                self.before.append(f"if {n} is not {seen}[0]: {c}.array({given}); {seen}[0] = {n}")
            else:
                self.before.append(f"{c}.array({given})")

    # ------------------------------------------------------------ results
    def nest(self, structure: Any, parts: Sequence[str]) -> str:
        """An expression that builds a nest."""
        return self._nest(structure, iter(parts))

    def _nest(self, structure: Any, parts: Any) -> str:
        if structure == tree.LEAF:
            return next(parts)  # type: ignore[no-any-return]
        kind = structure[0]
        if kind is None:
            return "None"
        inner = [self._nest(s, parts) for s in structure[-1]]
        if kind is dict:
            return "{" + ", ".join(f"{self.name(k, 'k')}: {v}" for k, v in zip(structure[1], inner)) + "}"
        words = ", ".join(inner)
        return f"[{words}]" if kind is list else f"({words}{',' * bool(inner)})" if kind is tuple else \
            f"{self.name(getattr(kind, '_make', kind), 't')}(({words}{',' * bool(inner)}))"

    def shown(self, k: int) -> str:
        """Result `k` as a tensor."""
        return f"of_buffer(r{k}, {self.name(self.plan.results[k].aval, 'b')})"

    def number(self, k: int) -> str:
        """Result `k`, which has one element, as an array of the host's."""
        device = self.plan.results[k].aval.device
        return f"r{k}" if device == "cpu" else f"to_host(r{k}, {device!r})"

    def value(self) -> str:
        """What the function returns."""
        at = iter(range(len(self.plan.needs)))
        return self.nest(self.plan.structure, [self.shown(next(at)) if s is None else self.name(s, "v")
                                               for s in self.plan.static])

    def write(self, results: str, grad: bool | None = None) -> Call:
        """The function; `results`: the expression that it gives.  `grad`: the grad mode that it needs, if any."""
        lines = [*self.looks]
        moved = self.plan.watch.identities(self.name)
        watched = "" if not self.plan.watch.anything else " or changed() is not None" if moved is None else \
            f" or ({moved}) and changed() is not None"
        mode = "" if grad is None else f" or state.grad is not {grad}"
        lines.append(f"if state.trace is not None{mode}{watched}: return None")
        body = [f"    {line}" for line in lines]
        after = [f"{self.name(c, 'c')}.range(int({self.number(least)}), int({self.number(greatest)}))"
                 for least, greatest, c in self.plan.after]
        tail = [*self.before, *(self._tried() if self.plan.guards else self._run()), *after, "traced.last = plan",
                f"return {results}"]
        text = "\n".join(["def call(args):", "    try:", *[f"    {line}" for line in body],
                          "    except (AttributeError, KeyError, TypeError, ValueError): return None",
                          *[f"    {line}" for line in tail]])
        exec(compile(text, f"{__file__}: the short way of {self.plan.body.name}", "exec"), self.names)
        return self.names["call"]  # type: ignore[no-any-return]

    def _run(self) -> list[str]:
        """Statements that run the program: it fills arrays that are made here, or (on a device) gives its own."""
        outs = [f"r{k}" for k in range(len(self.plan.graph.outputs))]
        if self.plan.program.elsewhere:
            return [f"{', '.join(outs)}, = run(({', '.join(self.given)},))" if self.given else f"{', '.join(outs)}, = run(())"]
        made = []
        for k, (r, pool) in enumerate(zip(self.plan.graph.outputs, self.native.pools)):
            made.append(f"r{k} = " + (f"empty({r.aval.shape}, {self.name(r.aval.dtype.np, 'd')})" if pool.small
                                      else f"{self.name(pool.take, 'take')}()"))
        return [*made, f"if run({', '.join(['address', *self.given, *outs])}): return None"]

    def _tried(self) -> list[str]:
        """The same where it may be another path's turn: then nothing of it counts, its errors neither."""
        self.names["last"] = self.short.last
        wrong = " or ".join([f"{self.number(k)}.item() != {bits}" for k, bits, _ in self.plan.codes])
        return ["try:", *[f"    {line}" for line in self._run()], "except Exception: return None",
                f"if {wrong}:", "    last(call)", "    return None"]

    def unpack(self) -> None:
        """The whole of the arguments, in the order of the program's inputs."""
        names = [f"x{k}" for k in range(len(self.args))]
        self.looks.append(f"{', '.join(names)}{',' * (len(names) == 1)} = args" if names else "() = args")
        for x, v in zip(names, self.args):
            self.take(x, v)
        self.captured()
        self.checks()
