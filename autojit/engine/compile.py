"""The road, from a graph to something that runs: the only place that knows the order of the stages.

In: a Graph.  Out: `Prepared` (all that can be done without a compiler), then a native program once its kernels are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..backends.cpu import blas, byhand
from ..backends.cpu.emit import Emitted, emit_kernel
from ..backends.cpu.link import NativeProgram
from ..backends.cpu.runtime import runtime
from ..backends.devices import backend
from ..collector import paused
from ..config import config
from ..ir.aval import Aval
from ..ir.graph import Graph
from ..ir.verify import verify_graph
from ..ops.grouped import SOME
from ..rewrite.complexes import in_pairs
from ..rewrite.half import lowered
from ..rewrite.inline import inline
from ..rewrite.loops import has_loops, settled
from ..rewrite.merge import merge
from ..rewrite.simplify import simplify
from ..rewrite.vectors import vectors
from ..schedule.cost import Target
from ..schedule.loops import (
    BranchStep,
    CallStep,
    ControlStep,
    CountedStep,
    GemmStep,
    HostStep,
    KernelStep,
    LoopStep,
    Schedule,
    WhileStep,
)
from ..schedule.plan import schedule
from ..schedule.verify import verify_schedule
from . import events, families, kernels, tune


class Prepared:
    """A scheduled graph and the text of its kernels; `link()` needs their machine code."""

    __slots__ = ("graph", "results", "schedule", "emitted", "texts", "seconds")

    def __init__(self, graph: Graph, results: Sequence[Aval], plan: Schedule, emitted: dict[int, Any],
                 seconds: dict[str, float]) -> None:
        self.graph, self.results, self.schedule, self.emitted, self.seconds = graph, results, plan, emitted, seconds
        self.texts = list(dict.fromkeys(e.text for e in _all(emitted) if e.text))

    def request(self) -> None:
        """Have what is missing compiled in the background."""
        kernels.store().request(self.texts)

    def ready(self) -> bool:
        return kernels.store().ready(self.texts)

    def link(self) -> NativeProgram:
        """The native program; waits for its kernels.  CompileError if one cannot be compiled."""
        start = time.perf_counter()
        pool = runtime(kernels.disk()).pool               # its own machine code is kept there too
        if pool.num_threads != config.num_threads:
            pool.set_num_threads(config.num_threads)
        for code in sorted({s.dtype.code for s in _steps_of(self.schedule) if isinstance(s, GemmStep)}):
            blas.expect(code)                             # while the workers compile
        address = dict(zip(self.texts, kernels.store().require(self.texts)))
        native = NativeProgram(self.schedule, _addressed(self.emitted, address), self.results)
        self.seconds["link"] = time.perf_counter() - start
        return native

    @property
    def summary(self) -> str:
        """One line: what the program is made of and what each stage cost."""
        kinds = [type(s) for s in _steps_of(self.schedule)]
        parts = [f"{kinds.count(KernelStep)} kernels ({len(self.texts)} distinct)"]
        others = ((kinds.count(CallStep), "kernels by hand"), (kinds.count(GemmStep), "matrix products"),
                  (kinds.count(HostStep), "host steps"),
                  (kinds.count(LoopStep) + kinds.count(WhileStep), "loops"),
                  (kinds.count(BranchStep), "branches"))
        parts += [f"{n} {word}" for n, word in others if n]
        return ", ".join(parts) + "; " + _lasted(self.seconds)

    @property
    def notes(self) -> Sequence[str]:
        """Why what was not fused was not."""
        return self.schedule.notes

    def source(self) -> str:
        return source(self)


def _steps_of(plan: Schedule) -> Iterator[Any]:
    """All steps, those of loops and branches included."""
    for s in plan.steps:
        yield s
        if isinstance(s, ControlStep):
            for body in s.bodies:
                yield from _steps_of(body)


def _emitted(plan: Schedule) -> dict[int, Any]:
    """The text of each kernel by its step; for loops and branches one such dictionary for each body."""
    out: dict[int, Any] = {}
    for k, s in enumerate(plan.steps):
        if isinstance(s, KernelStep):
            out[k] = emit_kernel(s.kernel)
        elif isinstance(s, CallStep):
            out[k] = Emitted(s.text, s.table, s.address)
        elif isinstance(s, ControlStep):
            out[k] = [_emitted(body) for body in s.bodies]
    return out


def _all(emitted: dict[int, Any]) -> Iterator[Emitted]:
    for e in emitted.values():
        if isinstance(e, list):
            for body in e:
                yield from _all(body)
        else:
            yield e


def _addressed(emitted: dict[int, Any], address: dict[str, int]) -> dict[int, Any]:
    return {k: [_addressed(body, address) for body in e] if isinstance(e, list) else (e, e.address or address[e.text])
            for k, e in emitted.items()}


def _lasted(seconds: dict[str, float]) -> str:
    return ", ".join(f"{k} {v * 1e3:.1f} ms" for k, v in seconds.items())


class OnDevice:
    """A graph scheduled for a device that has a backend of its own, and the text of its kernels."""

    __slots__ = ("device", "graph", "results", "schedule", "emitted", "seconds")

    def __init__(self, device: str, graph: Graph, results: Sequence[Aval], plan: Schedule, emitted: Any,
                 seconds: dict[str, float]) -> None:
        self.device, self.graph, self.results = device, graph, results
        self.schedule, self.emitted, self.seconds = plan, emitted, seconds

    def link(self) -> Callable[[Sequence[Any]], list[Any]]:
        """The program; waits for its kernels.  CompileError if one cannot be compiled."""
        start = time.perf_counter()
        program = backend(self.device).link(self.schedule, self.emitted, self.results)
        self.seconds["link"] = time.perf_counter() - start
        return program  # type: ignore[no-any-return]

    @property
    def summary(self) -> str:
        """One line: how many steps the program has and what each stage cost."""
        kinds = [type(s) for s in self.schedule.steps]
        products = kinds.count(GemmStep)
        return f"{len(kinds) - products} kernels, {products} matrix products; {_lasted(self.seconds)}"

    @property
    def notes(self) -> Sequence[str]:
        """Why what was not fused was not."""
        return self.schedule.notes

    def source(self) -> str:
        """The kernels and the steps as readable text."""
        return str(backend(self.device).source(self.schedule, self.emitted))


def known(graph: Graph) -> NativeProgram | None:
    """The native program, if graphs like this one have a form: no stage is run."""
    flat = inline(graph)
    return families.find(flat, prepare) if config.forms and not has_loops(flat) else None


def learn(graph: Graph, prepared: Prepared, native: NativeProgram) -> None:
    """Let the next graph like this one be `known`."""
    flat = inline(graph)
    if config.forms and not has_loops(flat):
        with paused():
            families.learn(flat, native, prepared.texts, prepare)


def prepare(graph: Graph) -> Prepared:
    """Every stage but the compiler."""
    with paused():
        return tune.tuned(graph, _stages) if config.tune else _stages(graph)


def prepare_for(graph: Graph, device: str) -> OnDevice:
    """The same for a device that has a backend of its own; the graph's avals say nothing of it, and it has no loops (see
    `turning`)."""
    with paused():
        at = backend(device)
        plan, simple, clock = _planned(graph, at.target)
        emitted = at.emit(plan)
        clock.lap("emit")
        made = OnDevice(device, simple, [o.aval for o in graph.outputs], plan, emitted, clock.seconds)
    if config.debug >= 4:
        events.log(4, "kernels", made.source())
    return made


def _stages(graph: Graph, target: Target | None = None) -> Prepared:
    plan, simple, clock = _planned(graph, target)
    emitted = _emitted(plan)
    clock.lap("emit")
    for text in dict.fromkeys(e.text for e in _all(emitted)):
        events.log(4, "kernel", text)
    return Prepared(simple, [o.aval for o in graph.outputs], plan, emitted, clock.seconds)


def _planned(graph: Graph, target: Target | None) -> tuple[Schedule, Graph, _Clock]:
    """The stages that are the same for all."""
    clock = _Clock()
    verify_graph(graph, "trace")
    products = target is not None and target.simt

    def flat(g: Graph) -> Graph:
        return lowered(in_pairs(inline(g)), products)

    def simpler(g: Graph) -> Graph:
        return vectors(merge(simplify(settled(flat(g), lambda body: simpler(body)))))

    plain = flat(graph)
    clock.lap("inline")
    simple = simpler(plain)
    verify_graph(simple, "simplify")
    events.log(5, "simplified", simple)
    clock.lap("simplify")
    plan = schedule(simple, target or Target(byhand=byhand.form))
    verify_schedule(plan)
    clock.lap("schedule")
    return plan, simple, clock


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.at = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self.at
        self.at = now


def source(prepared: Prepared) -> str:
    """The program's kernels as readable text, in the order they run."""
    names: dict[str, str] = {}
    lines: list[str] = []
    for text in prepared.texts:
        names[text] = f"kernel{len(names)}"
        lines.append(text.replace("def kernel(", f"def {names[text]}(", 1).rstrip() + "\n")
    lines.append("\n".join(["# steps", *_steps(prepared.schedule, prepared.emitted, names, "")]))
    return "\n".join(lines)


def _over(s: KernelStep | CallStep) -> str:
    return f"over {s.n} in {s.chunks} chunk{'s' * (s.chunks > 1)}"


def _heads(s: Any) -> list[str]:
    """What stands before each body of a loop or branch."""
    if isinstance(s, LoopStep):
        return ["as many turns" if s.spec.length == SOME else f"{s.spec.length} turns"]
    if isinstance(s, CountedStep):
        return [f"loops of {s.inputs[0]} turns"]
    return [f"if {s.inputs[0]}", "else"] if isinstance(s, BranchStep) else ["while", "turn", "end"]


def _steps(plan: Schedule, emitted: dict[int, Any], names: dict[str, str], indent: str) -> Iterator[str]:
    for k, s in enumerate(plan.steps):
        what: Any
        if isinstance(s, KernelStep):
            buffers = [e[1] for e in emitted[k].table if e[0] == "buffer"]
            what = f"{names[emitted[k].text]}({', '.join(buffers)})  {_over(s)}"
        elif isinstance(s, CallStep):
            what = f"{', '.join(s.writes)} = {names.get(s.text, s.host.prim.name)}({', '.join(s.buffers)})  {_over(s)}: " \
                f"{s.host.prim.name}"
        elif isinstance(s, GemmStep):
            what = s.shown()
        elif isinstance(s, ControlStep):
            heads = _heads(s)
            for head, body, inner in zip(heads, s.bodies, emitted[k]):
                yield f"#   {indent}{', '.join(s.outputs)} = {head}({', '.join(s.inputs)}): {', '.join(body.inputs)}"
                yield from _steps(body, inner, names, indent + "    ")
                yield f"#   {indent}    -> {', '.join(body.outputs)}"
            continue
        else:
            assert isinstance(s, HostStep)                # the other kinds are steps of devices
            what = f"{s.output} = {s.prim.name}({', '.join(s.inputs)})"
        yield f"#   {indent}{what}"
