"""A program: one graph made executable, on the NumPy tier at once, by compiled code when that is ready.

In: a Graph.  Out: `Program`, called with arrays.  Never waits for a compiler unless `config.tier` is "compile"; never compiles
if it is "numpy".
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..backends.numpy.run import NumpyProgram
from ..config import config
from ..errors import Refused
from ..ir.graph import Graph
from ..ops.grouped import set_hook
from ..rewrite.inline import inline
from . import events

if TYPE_CHECKING:
    from ..backends.cpu.link import NativeProgram
    from .compile import Prepared

Arrays = Sequence[Any]


class Program:
    """One graph made executable.  `tier` is the tier that answered last: "numpy" or "compiled"."""

    elsewhere = False                                     # does it take arrays of other devices?

    __slots__ = ("_graph", "_make", "runs", "tier", "native", "prepared", "failed", "_numpy", "_lock", "eager", "checked")

    def __init__(self, graph: Graph | None, eager: bool = True, make: Callable[[], Graph] | None = None) -> None:
        """`graph`, or None and how it is made if somebody asks."""
        self._graph, self._make, self.eager = graph, make, eager
        self.runs = 0
        self.tier = "numpy"
        self.native: Callable[[Arrays], list[Any]] | None = None
        self.prepared: Prepared | None = None
        self.failed: Exception | None = None              # why it stays on the NumPy tier
        self._numpy: NumpyProgram | None = None
        self._lock = threading.Lock()
        self.checked = 0.0

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            assert self._make is not None
            self._graph = self._make()
        return self._graph

    def __call__(self, arrays: Arrays) -> list[Any]:
        """Arrays for the graph's inputs (C-contiguous, right dtype and shape); fresh arrays for its outputs."""
        self.runs += 1
        native = self.native
        if native is None and config.tier != "numpy" and self.failed is None:
            self._advance()
            native = self.native
        if native is not None:
            try:
                return native(arrays)
            except Refused:                               # NumPy raises what is to be raised
                pass
        return self.interpret(arrays)

    def interpret(self, arrays: Arrays) -> list[Any]:
        """The oracle's answer; a forward and its reverse share what they have in common."""
        if self._numpy is None:
            self._numpy = NumpyProgram(inline(self.graph))
        self.tier = "numpy"
        return self._numpy(arrays)

    def _advance(self) -> None:
        """One step on the way to compiled code: prepare, ask for kernels, link when they are there."""
        wait = config.tier == "compile"
        if not wait and self.eager and self.runs < 2:
            return                                        # an eager graph seen once may never come again
        if not self._lock.acquire(blocking=wait):
            return
        try:
            if self.native is None:
                self._compile(wait)
        except Exception as e:
            if wait:
                self.failed = e
                raise
            self._stay(e)
        finally:
            self._lock.release()

    def prepare(self) -> Any:
        """All that can be done without a compiler."""
        if self.prepared is None:
            from . import compile as pipeline
            self.prepared = pipeline.prepare(self.graph)
        return self.prepared

    def _compile(self, wait: bool) -> None:
        from . import compile as pipeline  # the stages: imported when first needed
        if self.prepared is None:
            native = pipeline.known(self.graph)
            if native is not None:
                self.take(native, "of a known form")
                return
            self.prepared = pipeline.prepare(self.graph)
            self.prepared.request()
        if wait or self.prepared.ready():
            native = self.prepared.link()
            self.take(native, self.prepared.summary)
            pipeline.learn(self.graph, self.prepared, native)

    def take(self, native: NativeProgram, how: str) -> None:
        """This is the compiled code."""
        self.native = profiled(native) if config.debug >= 2 else native
        self.tier = "compiled"
        events.log(1, "compiled", how)

    def wait(self) -> None:
        """Compile now, whatever the tier; if that fails, say so and stay on the NumPy tier."""
        with self._lock:
            if self.native is None and self.failed is None:
                try:
                    self._compile(True)
                except Exception as e:
                    self._stay(e)

    def _stay(self, e: Exception) -> None:
        """No compiled code for this program: once, a warning; from now on the NumPy tier, without another try."""
        self.failed = e
        warnings.warn(f"autojit runs this program on NumPy, since it could not be compiled: {type(e).__name__}: {e}",
                      RuntimeWarning, stacklevel=5)


def profiled(native: Any) -> Callable[[Arrays], list[Any]]:
    """A native program that prints what each of its steps cost: AUTOJIT_DEBUG=2."""
    def run(arrays: Arrays) -> list[Any]:
        outs, steps = native.profile(arrays)
        for name, seconds, nbytes in steps:
            events.log(2, name, f"{seconds * 1e6:9.1f} us" + (f"  {nbytes / seconds / 1e9:7.1f} GB/s" if nbytes else ""))
        return outs  # type: ignore[no-any-return]
    return run


set_hook("compiled", lambda graph: Program(graph, eager=False))
