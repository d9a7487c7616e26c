"""Programs by key.

In: a key and a way to build the Graph if the key is new.  Out: `Program`, called with arrays; where the graph is not on the CPU
alone, an `Elsewhere`.  Never compiles.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from ..backends import devices
from ..config import config
from ..ir.graph import Graph
from . import events
from .cuts import plain
from .program import Program

if TYPE_CHECKING:
    from ..backends.cpu.link import NativeProgram

KEPT = 4096                                               # programs that are remembered


_PROGRAMS: OrderedDict[Hashable, Program] = OrderedDict()
_lock = threading.Lock()


def find(key: Hashable, build: Callable[[], Graph], eager: bool = True) -> Program:
    """The program of `key`; `build` makes its graph if the key is new."""
    program = _PROGRAMS.get(key)
    if program is None:
        start = time.perf_counter()
        program = _new(build(), eager)
        events.log(1, "new program", f"{len(program.graph.order)} nodes, {(time.perf_counter() - start) * 1e3:.1f} ms")
        events.log(3, "graph", program.graph)
        with _lock:
            program = _PROGRAMS.setdefault(key, program)
            while len(_PROGRAMS) > KEPT:
                _PROGRAMS.popitem(last=False)
    return program


def _new(graph: Graph, eager: bool) -> Program:
    if plain(graph):
        if not eager and config.tier != "numpy":
            from . import kernels  # with the stages: imported when first needed
            kernels.early()
        return Program(graph, eager)
    from .elsewhere import Elsewhere  # imported when first needed
    return Elsewhere(graph, eager, lambda part: find(("part", part.key), lambda: part, eager))


def made(native: NativeProgram, graph: Callable[[], Graph]) -> Program:
    """A program that has its compiled code, and a graph that is made if somebody asks."""
    program = Program(None, False, graph)
    program.take(native, "of a known form")
    return program


def wait_compiled() -> None:
    """Return when every program that was asked for has its compiled code (or has failed)."""
    for p in list(_PROGRAMS.values()):
        if p.native is None and p.failed is None and p.prepared is not None:
            p.wait()


def clear() -> None:
    """Forget all programs: for tests."""
    with _lock:
        _PROGRAMS.clear()


def _disk() -> Any:
    from . import kernels  # with the stages: imported when first needed
    return kernels.disk()


devices.provide(_disk)
