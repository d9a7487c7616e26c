"""Small serial kernels that follow each other as one kernel: nothing is launched between them.

In: the steps of a schedule.  Out: the same steps, runs of kernels without a parallel range joined.  Numbers that one left
in memory for the next stay in registers, and memory that nobody reads any more goes.  The arithmetic is what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..dtypes import FLOAT
from .index import Range, Size
from .loops import At, Buffer, GemmStep, HostStep, Index, Kernel, KernelStep, Let, Loop, Run, Store, renamed, touched

LONGEST = 3_000                    # statements of a joined kernel


def joined(steps: Sequence[Any], buffers: dict[str, Buffer]) -> list[Any]:
    """`steps` with runs of serial kernels as one; `buffers` loses those that are needed no more."""
    out = _runs(steps)
    read = _read(out)
    gone = {name for name, b in buffers.items() if b.kind == "temp" and name not in read}
    for k, s in enumerate(out):
        if isinstance(s, KernelStep) and gone:
            out[k] = replace(s, kernel=replace(s.kernel, body=tuple(_without(s.kernel.body, gone))))
    written = {s.at.buffer.name for step in out if isinstance(step, KernelStep) for s in _flat(step.kernel.body)
               if isinstance(s, Store)}
    for name in gone - written:
        del buffers[name]
    return out


def _flat(body: Sequence[Any]) -> Iterator[Any]:
    for s in body:
        if isinstance(s, (Loop, Run)):
            yield from _flat(s.body)
        else:
            yield s


def _read(steps: Sequence[Any]) -> set[str]:
    """Buffers that some step reads."""
    out: set[str] = set()
    for step in steps:
        if isinstance(step, GemmStep):
            out.update((step.a, step.b, step.c))
        elif isinstance(step, KernelStep):
            for s in _flat(step.kernel.body):
                if isinstance(s, Let) and s.op == "load":
                    out.add(s.params[0].buffer.name)
                elif isinstance(s, Store) and s.op is not None:
                    out.add(s.at.buffer.name)
        elif isinstance(step, HostStep):
            out.update(step.inputs)
            out.add(step.output)
        else:
            out |= set.union(*touched(step))
    return out


def _without(body: Sequence[Any], gone: set[str]) -> list[Any]:
    """Statements without the stores to some buffers."""
    out: list[Any] = []
    for s in body:
        if isinstance(s, (Loop, Run)):
            s = replace(s, body=tuple(_without(s.body, gone)))
        if not (isinstance(s, Store) and s.at.buffer.name in gone):
            out.append(s)
    return out


def _runs(steps: Sequence[Any]) -> list[Any]:
    out: list[Any] = []
    run: list[KernelStep] = []
    length = 0
    known: dict[Any, int] = {}

    def close() -> None:
        nonlocal length, known
        if run:
            out.append(run[0] if len(run) == 1 else _one(run))
        run.clear()
        length, known = 0, {}

    for s in steps:
        if not (isinstance(s, KernelStep) and s.kernel.parallel is None and s.n == s.chunks == 1):
            close()
            out.append(s)
            continue
        size, sizes = _statements(s.kernel.body), _sizes(s.kernel.body)
        if length + size > LONGEST or any([known.get(how, n) != n for how, n in sizes.items()]):
            close()
        run.append(s)
        length += size
        known |= sizes
    close()
    return out


def _sizes(body: Sequence[Any]) -> dict[Any, int]:
    """The numbers that a kernel's sizes are made of, by their origin: in one kernel an origin has one number."""
    out: dict[Any, int] = {}
    stack: list[Any] = []
    for s in _flat(body):
        for at in [s.at] if isinstance(s, Store) else [s.params[0]] if isinstance(s, Let) and s.op == "load" else []:
            stack += at.shape
        for ix in _indices(s):
            stack += [ix.const, *[c for _, c in ix.terms], *[t.extent for t, _ in ix.terms if isinstance(t, Range)]]
        if isinstance(s, Let):
            stack += [p for p in s.params if isinstance(p, Size)]
    stack += [s.range.extent for s in _loops(body)]
    while stack:
        n = stack.pop()
        if type(n) is not Size:
            continue
        if n.how[0] in ("+", "*"):
            stack += n.how[1:]
        else:
            out[n.how] = int(n)
    return out


def _indices(s: Any) -> list[Index]:
    """All indices of a statement."""
    if isinstance(s, Store):
        return list(s.at.index)
    if not isinstance(s, Let):
        return []
    if s.op == "load":
        return [*s.params[0].index, *[c.index for c in s.params[1]]]
    return [c.index for c in s.params] if s.op == "inside" else [p for p in s.params if isinstance(p, Index)]


def _loops(body: Sequence[Any]) -> Iterator[Any]:
    for s in body:
        if isinstance(s, (Loop, Run)):
            yield s
            yield from _loops(s.body)


def _statements(body: Sequence[Any]) -> int:
    return sum([1 + _statements(s.body) if isinstance(s, (Loop, Run)) else 1 for s in body])


def _one(run: Sequence[KernelStep]) -> KernelStep:
    body: list[Any] = []
    for k, s in enumerate(run):
        body += _apart(s.kernel.body, k, {})
    return KernelStep(Kernel(tuple(_forwarded(body))), 1, 1)


def _spot(at: At) -> Any:
    """A place in memory that is the same whenever it is met; None for others."""
    if at.run is not None or at.buffer.kind != "temp" or any([ix.terms for ix in at.index]):
        return None
    place, step = 0, 1
    for ix, n in zip(reversed(at.index), reversed(at.shape)):
        place, step = place + int(ix.const) * step, step * int(n)
    return at.buffer.name, place


def _forwarded(body: Sequence[Any]) -> list[Any]:
    """Statements in which what was stored before need not be loaded again."""
    out: list[Any] = []
    names: dict[str, Any] = {}
    holds: dict[Any, Any] = {}                              # place in memory → the value that is there
    for s in body:
        s = renamed(s, names)
        if isinstance(s, (Loop, Run)):
            changed = {q.at.buffer.name for q in _flat(s.body) if isinstance(q, Store)}
            holds = {spot: value for spot, value in holds.items() if spot[0] not in changed}
        elif isinstance(s, Store):
            spot = _spot(s.at) if s.op is None else None
            if spot is None:
                holds = {other: value for other, value in holds.items() if other[0] != s.at.buffer.name}
            else:
                holds[spot] = s.value
        elif isinstance(s, Let) and s.op == "load" and not s.params[1]:
            value = holds.get(_spot(s.params[0]))
            if isinstance(value, str) or value is not None and s.dtype.category == FLOAT:
                names[s.name] = value
                continue
        out.append(s)
    return out


def _apart(body: Sequence[Any], k: int, names: dict[str, str]) -> list[Any]:
    """Statements whose names no other kernel of the run has."""
    out: list[Any] = []
    for s in body:
        if isinstance(s, (Loop, Run)):
            out.append(replace(s, body=tuple(_apart(s.body, k, names))))
            continue
        if not isinstance(s, Store) and s.name not in names:
            names[s.name] = f"{s.name}_{k}"
        new = renamed(s, names)
        out.append(new if isinstance(s, Store) else replace(new, name=names[s.name]))
    return out
