"""What loops and branches have in common, for whoever only has to know that a node is one.

Nodes with equal inputs and spec are one loop; a spec (`loops.py`, `whiles.py`) knows its graphs, its values and its derivative.
This is on the import path of the library; the specs are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..ir.graph import Node

GROUPED = frozenset(("scan", "branch", "while", "counted", "custom"))
SOME = 1 << 40                                            # the length of a loop whose turns are counted when it runs
Run = Callable[[Sequence[Any]], list[Any]]
Cotangents = Sequence[Node | None]
hooks: dict[str, Callable[..., Any]] = {}


def set_hook(name: str, f: Callable[..., Any]) -> None:
    """Who lives above announces itself here.  reverse: the reverse pass; program: a graph made executable by NumPy;
    compiled: the same by whatever is fastest."""
    hooks[name] = f


def programs(spec: Any, how: str) -> list[Run]:
    """The graphs of a spec made executable: `how` is "program" or "compiled"."""
    found = spec.kept.get(how)
    if found is None:
        found = spec.kept[how] = [hooks[how](b) for b in spec.bodies]
    return found  # type: ignore[no-any-return]


def group_key(n: Node) -> tuple[Any, ...]:
    """What the nodes of one loop have in common."""
    return n.prim, tuple([i.real or i for i in n.inputs]), n.params[0]


def group_pull(n: Node, cts: Cotangents) -> list[Node | None]:
    """Cotangents of the inputs of n's loop, given those of all its results."""
    return n.params[0].pull([i.real or i for i in n.inputs], cts)  # type: ignore[no-any-return]
