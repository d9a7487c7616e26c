"""Programs of the list made for the device: scheduled, emitted, run, compared with the NumPy oracle.

In: `Program`s.  Out: `Made`, and what is wrong with each in words.  The device is whatever the driver opens: a GPU, or the
stand-in, which interprets the kernels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from autojit.backends.cuda.emitted import Emitted
from autojit.backends.devices import backend
from autojit.backends.numpy.run import NumpyProgram
from autojit.dtypes import bfloat16, float64
from autojit.engine import compile as pipeline
from autojit.halves import values
from autojit.ir.graph import Graph, forget
from autojit.rewrite.half import lowered
from autojit.rewrite.inline import inline

from ..graphs import agree
from .programs import WITHOUT_KERNEL, Program

ROUNDED = {"rtol": 2e-4, "atol": 2e-5}


class Made:
    """A program, its graph without calls, arrays for its inputs, and what the device is to run."""

    __slots__ = ("program", "graph", "arrays", "prepared")

    def __init__(self, program: Program, graph: Graph, arrays: list[np.ndarray], prepared: Any) -> None:
        self.program, self.graph, self.arrays, self.prepared = program, graph, arrays, prepared

    @property
    def kernels(self) -> list[Emitted]:
        return [e for step in self.prepared.emitted.values() for e in step.launches]

    @property
    def single(self) -> bool:
        """Is no value of the program float64, so that no double precision may appear in its code?"""
        return all([n.dtype is not float64 for n in self.graph.order])

    def want(self) -> list[np.ndarray]:
        return NumpyProgram(lowered(self.graph))(self.arrays)


class Refused(Exception):
    """The backend made no kernels of a program."""


def prepare(program: Program) -> Made | None:
    """None: the program needs a primitive that has no kernel.  Refused names the program that should have had one."""
    graph, arrays = program.make()
    graph = inline(graph)
    try:
        if any(n.op in WITHOUT_KERNEL for n in graph.order):
            return None
        return Made(program, graph, arrays, pipeline.prepare_for(graph, "cuda"))
    except Exception as e:
        raise Refused(f"{program.name}: {type(e).__name__}: {e}") from e
    finally:
        forget()


def prepared(programs: Iterable[Program]) -> Iterator[Made]:
    for p in programs:
        made = prepare(p)
        if made is not None:
            yield made


def prepare_all(programs: Iterable[Program]) -> list[Made]:
    """Prepared, and compiled together, so that the compile processes stay busy."""
    made = list(prepared(programs))
    backend("cuda").compile([e for m in made for e in m.kernels])
    return made


def difference_on_device(made: Made) -> str | None:
    """None, or what differs from the oracle, and for which program."""
    device = backend("cuda")
    try:
        arrays = [a if n.op == "scalar" else device.from_host(np.ascontiguousarray(a), n.dtype)
                  for n, a in zip(made.graph.inputs, made.arrays)]
        got = [device.to_host(r) for r in made.prepared.link()(arrays)]
    except Exception as e:
        return f"{made.program.name}: {type(e).__name__}: {e}"
    dtypes = [o.dtype for o in made.graph.outputs]
    got, want = ([numbers(a, d) for a, d in zip(part, dtypes, strict=True)] for part in (got, made.want()))
    why = agree(got, want, **{**ROUNDED, **made.program.tolerance})
    return None if why is None else f"{made.program.name}: {why}"


def numbers(a: np.ndarray, dtype: Any) -> np.ndarray:
    """What memory of a half dtype means, as float32; other arrays as they are."""
    return values(a) if dtype is bfloat16 else a.astype(np.float32) if dtype.half else a


def differences(programs: Iterable[Program]) -> list[str]:
    """What is wrong with each program that is wrong."""
    found = []
    for p in programs:
        try:
            made = prepare(p)
            why = None if made is None else difference_on_device(made)
        except Refused as e:
            why = str(e)
        if why is not None:
            found.append(why)
    return found


class Rate:
    """How many things a second, said in a line."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def say(self, count: int, what: str) -> str:
        spent = time.perf_counter() - self.start
        return f"{count} {what} in {spent:.1f} s, {count / max(spent, 1e-9):.1f} a second"
