"""Programs of graphs that are not on the CPU alone: compiled at the first call, and waited for.

In: a Graph over devices.  Out: `Elsewhere`, a `Program` whose arrays lie on the devices that the graph says.  Never answers by
the NumPy tier: what a device has no kernel for is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..backends.devices import backend
from ..config import config
from ..ir.graph import Graph
from ..rewrite.inline import inline
from . import events
from .cuts import Cut, Part
from .program import Program, profiled

if TYPE_CHECKING:
    from .compile import OnDevice, Prepared
    from .turning import Turning


class Elsewhere(Program):
    """`cut`: its parts.  `native`: what runs it, once it is there.  `on_cpu`: how a part on the CPU becomes a program."""

    elsewhere = True
    __slots__ = ("cut", "on_cpu")

    def __init__(self, graph: Graph, eager: bool, on_cpu: Callable[[Graph], Program]) -> None:
        super().__init__(graph, eager)
        self.cut: Cut | None = None
        self.on_cpu = on_cpu
        for device in {n.aval.device for n in graph.order} - {"cpu"}:
            backend(device).early()
        self.tier = "compiled"

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        self.runs += 1
        native = self.native
        if native is None:
            native = self._made()
        return native(arrays)

    def interpret(self, arrays: Sequence[Any]) -> list[Any]:
        return self(arrays)

    def wait(self) -> None:
        self._made()

    def _made(self) -> Any:
        with self._lock:
            if self.native is None:
                self.prepare()
                assert self.cut is not None
                for part, made in zip(self.cut.parts, self.prepared.parts):  # type: ignore[union-attr]
                    part.run = self.on_cpu(part.graph) if made is None else made.link()
                single = self.cut.single
                made = self.cut if single is None else single.run
                self.native = profiled(made) if config.debug >= 2 and hasattr(made, "profile") else made  # type: ignore[assignment]
                if config.debug:
                    events.log(1, "compiled", self.prepared.summary)  # type: ignore[union-attr]
        return self.native

    def prepare(self) -> Parts:
        """All that can be done without a compiler."""
        from . import turning  # the stages: imported when first needed
        if self.prepared is None:
            self.cut = Cut(inline(self.graph))
            made = [None if p.device == "cpu" else turning.prepare(p.graph, p.device) for p in self.cut.parts]
            self.prepared = Parts(self.cut.parts, made)  # type: ignore[assignment]
        return self.prepared  # type: ignore[return-value]


class Parts:
    """What is known of a program's parts before they are compiled: as `compile.Prepared`, where somebody looks at it."""

    __slots__ = ("cut", "parts")

    def __init__(self, cut: Sequence[Part], parts: Sequence[OnDevice | Turning | None]) -> None:
        self.cut, self.parts = cut, parts

    def _each(self) -> list[tuple[str, OnDevice | Turning | Prepared]]:
        from . import compile as pipeline
        return [(p.device, pipeline.prepare(p.graph) if made is None else made) for p, made in zip(self.cut, self.parts)]

    @property
    def summary(self) -> str:
        """A line for all parts."""
        return "; then ".join([f"on {device}: {made.summary}" for device, made in self._each()])

    @property
    def notes(self) -> list[str]:
        return [note for _, made in self._each() for note in made.notes]

    def source(self) -> str:
        """The kernels of all parts in the order they run."""
        found = self._each()
        if len(found) == 1:
            return found[0][1].source()
        return "\n".join([f"# part {k}, on {device}\n{made.source()}" for k, (device, made) in enumerate(found)])
