"""A graph without its numbers: what graphs over other extents have in common, and the numbers by themselves.

In: a Graph.  Out: its `Outline`: a key (operations, connections, dtypes, axes, special constants) and two lists, in order of
first use: extents (shapes of inputs, sizes among parameters, integer constants) and floating constants.  The key and the lists
together say all that the graph says.  `rebuilt` goes the other way.  Never guesses which numbers may change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..dtypes import BOOL, FLOAT, DType
from .aval import aval
from .graph import SPECIAL, Graph, Node, const, placeholder, private
from .primitive import LEAF

# Operations whose parameters in tuples are sizes and places; the parameters of all others stay in the key.
SIZED = frozenset(("reshape", "expand", "slice", "pad", "update", "iota"))
SMALL = 2                                                 # integer constants up to this stand in the code of a kernel


class Outline:
    """`key`: hashable; `ints`, `floats`: the numbers in order, `floats` as (NumPy scalar, dtype)."""

    __slots__ = ("key", "ints", "floats")

    def __init__(self, key: Any, ints: list[int], floats: list[tuple[Any, DType]]) -> None:
        self.key, self.ints, self.floats = key, ints, floats

    @property
    def exact(self) -> Any:
        """A key of the graph itself."""
        return self.key, tuple(self.ints), tuple([v.tobytes() for v, _ in self.floats])


def outline(graph: Graph) -> Outline:
    """Operations and connections as one key, extents and constants as lists."""
    if graph.outline is not None:
        return graph.outline  # type: ignore[no-any-return]
    rows: list[Any] = [len(graph.inputs)]
    ints: list[int] = []
    floats: list[tuple[Any, DType]] = []
    number: dict[Node, int] = {}
    add = rows.append
    for k, n in enumerate(graph.order):
        number[n] = k
        add(n.op)
        if n.prim.kind == LEAF:
            _leaf(n, rows, ints, floats)
            continue
        for i in n.inputs:
            add(number[i if i.real is None else i.real])
        if n.op in SIZED:
            for p in n.params:
                if p.__class__ is tuple:
                    ints += p
                    add(len(p))
                else:
                    add(p)
        else:
            for p in n.params:                            # 1, 1.0 and True are three parameters
                add(repr(p) if p.__class__ is float or p.__class__ is bool else p)
    rows += [number[o] for o in graph.outputs]
    graph.outline = Outline(tuple(rows), ints, floats)
    return graph.outline  # type: ignore[no-any-return]


def _leaf(n: Node, rows: list[Any], ints: list[int], floats: list[tuple[Any, DType]]) -> None:
    d = n.dtype
    rows += (d, n.aval.device)
    if n.op not in ("const", "scalar"):
        rows.append(len(n.aval.shape))
        ints += n.aval.shape
    elif d.category == FLOAT and n.data == n.data and n.data not in SPECIAL:
        floats.append((n.data, d))
    elif d.category < FLOAT and d.category != BOOL and abs(int(n.data)) > SMALL:
        rows.append("int")
        ints.append(int(n.data))
    else:
        rows.append(n.data.tobytes())


def rebuilt(graph: Graph, ints: Sequence[int], floats: Sequence[Any]) -> Graph:
    """The graph of the same outline over other numbers.  What an operation refuses, it refuses here too."""
    take, value = iter(ints), iter(floats)
    made: Callable[..., Node] = private()
    env: dict[Node, Node] = {}

    def taken(p: Any) -> Any:
        return tuple([next(take) for _ in p]) if p.__class__ is tuple else p

    for n in graph.order:
        d = n.dtype
        if n.prim.kind != LEAF:
            params = tuple([taken(p) for p in n.params]) if n.op in SIZED else n.params
            env[n] = made(n.prim, tuple([env[i.real or i] for i in n.inputs]), params)
        elif n.op not in ("const", "scalar"):
            env[n] = placeholder(aval(taken(n.aval.shape), d, n.aval.device))
        elif d.category == FLOAT and n.data == n.data and n.data not in SPECIAL:
            env[n] = const(next(value), d)
        elif d.category < FLOAT and d.category != BOOL and abs(int(n.data)) > SMALL:
            env[n] = const(next(take), d)
        else:
            env[n] = n
    return Graph([env[i] for i in graph.inputs], [env[o] for o in graph.outputs])
