"""The steps of a schedule as the statements of a Numba function: kernels, products, loops and branches.

In: a schedule, what was emitted for its kernels, the names of its inputs and outputs.  Out: lines, and the arrays that they
need beside these.  A loop of the schedule is a loop of the text, around the steps of its body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .dtypes import FLOAT
from .ops.grouped import SOME
from .schedule.loops import (
    BranchStep,
    CallStep,
    ControlStep,
    CountedStep,
    GemmStep,
    KernelStep,
    LoopStep,
    Schedule,
    WhileStep,
    written,
)


def every(plan: Schedule) -> Iterator[Any]:
    """All steps, those of loops and branches included."""
    for s in plan.steps:
        yield s
        if isinstance(s, ControlStep):
            for body in s.bodies:
                yield from every(body)


class Text:
    """What the statements of one function share.  kernels: names by their text; unused: makes a name one that nobody has;
    memory: lines that make arrays, once and before anything else."""

    def __init__(self, kernels: dict[str, str], unused: Callable[[str], str], parallel: bool) -> None:
        self.kernels, self.unused, self.parallel = kernels, unused, parallel
        self.memory: list[str] = []
        self.functions: dict[str, str] = {}               # of other libraries: name → its address's name in the text
        self._counts: dict[str, int] = {}

    def free(self, name: str) -> str:
        """A name like this one: the second gets a number."""
        k = self._counts[name] = self._counts.get(name, 0) + 1
        return self.unused(name if k == 1 else f"{name}{'_' * name[-1:].isdigit()}{k}")

    def function(self, name: str) -> str:
        """The name of the address of a function of LAPACK or SciPy."""
        if name not in self.functions:
            self.functions[name] = self.unused(name.rpartition(".")[2])
        return self.functions[name]

    def array(self, name: str, size: Any, d: Any) -> str:
        """The name of a new array."""
        name = self.free(name)
        self.memory.append(f"{name} = np.empty({size}, {dtype(d)})")
        return name


class Steps:
    """The statements of one schedule.  place: names in the text of its inputs and outputs; tapes: how long the arrays are that
    only loops of SOME turns read and write, as text."""

    def __init__(self, text: Text, plan: Schedule, emitted: dict[int, Any], place: dict[str, str], turns: str = "") -> None:
        self.text, self.plan, self.emitted, self.turns = text, plan, emitted, turns
        self.place = dict(place)
        self.tapes = {name for s in plan.steps if isinstance(s, LoopStep) and s.spec.length == SOME
                      for name in s.outputs[s.spec.carries:]}
        chunks: dict[str, int] = {}
        for s in plan.steps:
            if isinstance(s, KernelStep):
                for name in written(s.kernel.body):
                    if plan.buffers[name].per_chunk:
                        chunks[name] = max(chunks.get(name, 1), s.chunks)
        for name in dict.fromkeys([name for k, s in enumerate(plan.steps) for name in self._touched(k, s)]):
            b = plan.buffers[name]
            if name not in self.place and name not in self.tapes:
                self.place[name] = text.array(name, b.size * chunks.get(name, 1), b.dtype)

    def _touched(self, k: int, s: Any) -> Iterable[str]:
        if isinstance(s, (KernelStep, CallStep)):
            return [e[1] for e in self.emitted[k].table if e[0] == "buffer"]
        return [s.a, s.b, s.c] if isinstance(s, GemmStep) else [*s.inputs, *s.outputs]

    def lines(self) -> Iterator[str]:
        """One after the other."""
        for k, s in enumerate(self.plan.steps):
            if isinstance(s, (KernelStep, CallStep)):
                yield from self._kernel(self.emitted[k], s)
            elif isinstance(s, GemmStep):
                if 0 not in (s.m, s.n, s.batch, s.outer[0]):
                    yield from _product(s, self.place)
            elif isinstance(s, LoopStep):
                yield from self._loop(s, self.emitted[k])
            elif isinstance(s, WhileStep):
                yield from self._while(s, self.emitted[k])
            elif isinstance(s, CountedStep):
                yield from self._counted(s, self.emitted[k])
            else:
                assert isinstance(s, BranchStep)           # others have no text: refused before
                yield from self._branch(s, self.emitted[k])

    def _kernel(self, emitted: Any, s: KernelStep | CallStep) -> Iterator[str]:
        words = []
        for entry in emitted.table:
            if entry[0] == "buffer":
                words.append(self.place[entry[1]])
            elif entry[0] == "size":
                words.append(f"np.int64({int(entry[1])})")
            elif entry[0] == "function":
                words.append(f"np.int64({self.text.function(entry[1])})")
            else:
                words.append(f"{dtype(entry[2])}({float(entry[1]) if entry[2].category == FLOAT else int(entry[1])!r})")
        call = f"{self.text.kernels[emitted.text]}(({', '.join(words)}{',' * (len(words) == 1)})"
        if s.chunks == 1:
            yield f"{call}, 0, {s.n}, 0)"
            return
        yield f"for chunk in {'prange' if self.text.parallel else 'range'}({s.chunks}):"
        yield f"    {call}, {s.n} * chunk // {s.chunks}, {s.n} * (chunk + 1) // {s.chunks}, chunk)"

    # ------------------------------------------------------------ loops and branches
    def _inside(self, plan: Schedule, emitted: dict[int, Any], names: Sequence[str], outs: Sequence[str]) -> Iterator[str]:
        body = Steps(self.text, plan, emitted, dict(zip([*plan.inputs, *plan.outputs], [*names, *outs])))
        return map("    {}".format, body.lines())

    def _carries(self, s: LoopStep | WhileStep) -> list[tuple[str, str]]:
        """Two arrays for each carry: what it is, and what it will be."""
        buffers = [self.plan.buffers[name] for name in s.outputs[:s.spec.carries]]
        return [(self.text.array("carry", b.size, b.dtype), self.text.array("after", b.size, b.dtype)) for b in buffers]

    def _begin(self, s: LoopStep | WhileStep, carries: Sequence[tuple[str, str]]) -> Iterator[str]:
        for (now, _), name in zip(carries, s.inputs[s.spec.consts:]):
            yield f"{now}[:] = {self.place[name]}.reshape(-1)"

    def _end(self, s: LoopStep | WhileStep, carries: Sequence[tuple[str, str]]) -> Iterator[str]:
        """Of a turn, and then of the loop."""
        yield from [f"    {now}, {after} = {after}, {now}" for now, after in carries]
        yield from [f"{self.place[name]}.reshape(-1)[:] = {now}" for (now, _), name in zip(carries, s.outputs)]

    def _loop(self, s: LoopStep, emitted: list[dict[int, Any]]) -> Iterator[str]:
        spec, (body,) = s.spec, s.bodies
        m, c = spec.consts, spec.carries
        carries, turn = self._carries(s), self.text.free("turn")
        n = self.turns if spec.length == SOME else str(spec.length)
        yield from self._begin(s, carries)
        yield f"for {turn} in range({f'{n} - 1, -1, -1' if spec.reverse else n}):"
        slices: list[str] = []
        for outer, name in [*zip(s.inputs[m + c:], body.inputs[m + c:]), *zip(s.outputs[c:], body.outputs[c:])]:
            row = body.buffers[name].size
            slices.append(self.text.free("row"))
            yield f"    {slices[-1]} = {self.place[outer]}.reshape(-1)[{turn} * {row}:{turn} * {row} + {row}]"
        count = len(s.inputs) - m - c
        consts = [self.place[name] for name in s.inputs[:m]]
        yield from self._inside(body, emitted[0], [*consts, *[now for now, _ in carries], *slices[:count]],
                                [*[after for _, after in carries], *slices[count:]])
        yield from self._end(s, carries)

    def _while(self, s: WhileStep, emitted: list[dict[int, Any]]) -> Iterator[str]:
        carries, flag = self._carries(s), self.text.array("flag", 1, s.bodies[0].buffers[s.bodies[0].outputs[0]].dtype)
        names = [*[self.place[name] for name in s.inputs[:s.spec.consts]], *[now for now, _ in carries]]
        yield from self._begin(s, carries)
        yield "while True:"
        yield from self._inside(s.bodies[0], emitted[0], names, [flag])
        yield f"    if not {flag}[0]:"
        yield "        break"
        yield from self._inside(s.bodies[1], emitted[1], names, [after for _, after in carries])
        yield from self._end(s, carries)

    def _counted(self, s: CountedStep, emitted: list[dict[int, Any]]) -> Iterator[str]:
        """Loops of as many turns as are counted when it runs, and arrays for what these leave."""
        (body,), turns = s.bodies, self.text.free("turns")
        outer = dict(zip([*body.inputs, *body.outputs], [self.place[name] for name in (*s.inputs, *s.outputs)]))
        yield f"{turns} = {outer[body.inputs[0]]}.reshape(-1)[0]"
        inner = Steps(self.text, body, emitted[0], outer, turns)
        for name in inner.tapes:
            b = body.buffers[name]
            inner.place[name] = self.text.free("tape")
            yield f"{inner.place[name]} = np.empty({turns} * {b.size // SOME}, {dtype(b.dtype)})"
        yield from inner.lines()

    def _branch(self, s: BranchStep, emitted: list[dict[int, Any]]) -> Iterator[str]:
        flag, *names = [self.place[name] for name in s.inputs]
        for head, body, inner in zip((f"if {flag}.reshape(-1)[0]:", "else:"), s.bodies, emitted):
            yield head
            lines = list(self._inside(body, inner, names, [self.place[name] for name in s.outputs]))
            yield from lines or ["    pass"]


def dtype(d: Any) -> str:
    """A dtype as an expression."""
    return f"np.{d.np.name}" if d.np.name != "bool" else "np.bool_"


def _product(s: GemmStep, place: dict[str, str]) -> Iterator[str]:
    """A matrix product."""
    at, indent = [str(o) for o in s.offsets], ""
    for count, variable, strides in ((s.outer[0], "p", s.outer[1:]), (s.batch, "q", (s.stride_a, s.stride_b, s.stride_c))):
        if count > 1:
            yield f"{indent}for {variable} in range({count}):"
            indent += "    "
            at = [f"{o} + {variable} * {step}" if step else o for o, step in zip(at, strides)]
    a, b, c = [place[name] for name in (s.a, s.b, s.c)]
    words = [bool(s.trans_a), bool(s.trans_b), s.m, s.n, s.k, s.alpha, a, at[0], s.lda, b, at[1], s.ldb, s.beta, c, at[2],
             s.ldc]
    yield f"{indent}gemm({', '.join(map(str, words))})"
