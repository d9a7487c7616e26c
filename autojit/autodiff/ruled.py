"""`Ruled`: a sub-graph that has a reverse of its own, which is not what its nodes would say.

In: a graph, and for each floating output the graph of its cotangents.  Out: a body for `call` nodes.  The other passes here
know by the type that they may not look inside: forward mode transposes the reverse, batching batches both.
"""

from __future__ import annotations

from typing import Any

from ..ir.graph import Graph
from ..ops.control import SubGraph


class Ruled(SubGraph):
    """A SubGraph whose pulls are all preset (`preset_pull`, for each floating output)."""

    __slots__ = ("batched",)

    def __init__(self, graph: Graph, name: str) -> None:
        super().__init__(graph, name)
        self.batched: dict[Any, Ruled] = {}               # by which inputs have a batch axis, and its size
