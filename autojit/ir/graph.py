"""Nodes and graphs: hash-consed, immutable but for `real`.

In: primitives and their inputs.  Out: one Node object for equal expressions; `Graph` with a structural key.
Never recurses over a graph (a loop of 2000 steps is over 10,000 nodes deep) and never relies on sharing to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..dtypes import DType
from .aval import Aval, Shape, aval
from .primitive import BUFFER, CONST, LEAF, PLACEHOLDER, SCALAR, SENDS, Primitive

# Numbers that stay in keys and in code; all others are run-time slots of the kernels.
SPECIAL = (0.0, 1.0, -1.0, 2.0, 0.5)
_SPECIAL = frozenset(SPECIAL)


class Node:
    """One value of the graph.  `real` is the buffer leaf that holds it once something has computed it; `data` is a leaf's
    content (const and scalar: a NumPy scalar, float32 if it is half; placeholder: its number or name; buffer: the memory)."""

    __slots__ = ("prim", "op", "inputs", "params", "aval", "real", "data", "born", "__weakref__")

    prim: Primitive
    op: str
    inputs: tuple[Node, ...]
    params: tuple[Any, ...]
    aval: Aval
    real: Node | None
    data: Any
    born: int

    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> DType:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    def __repr__(self) -> str:
        return f"<{self.op} {self.aval}>"

    # Arithmetic, for rules and composites: operands broadcast, Python numbers become constants.
    def __add__(self, other: Any) -> Node: return OPERATORS["add"](self, other)
    def __radd__(self, other: Any) -> Node: return OPERATORS["add"](other, self)
    def __sub__(self, other: Any) -> Node: return OPERATORS["sub"](self, other)
    def __rsub__(self, other: Any) -> Node: return OPERATORS["sub"](other, self)
    def __mul__(self, other: Any) -> Node: return OPERATORS["mul"](self, other)
    def __rmul__(self, other: Any) -> Node: return OPERATORS["mul"](other, self)
    def __truediv__(self, other: Any) -> Node: return OPERATORS["div"](self, other)
    def __rtruediv__(self, other: Any) -> Node: return OPERATORS["div"](other, self)
    def __neg__(self) -> Node: return OPERATORS["neg"](self)


OPERATORS: dict[str, Callable[..., Node]] = {}          # filled by ops.elementwise

_TABLE: dict[Any, Node] = {}
NEVER = 1 << 62


class _Clock:
    """How many programs have run: `born` of a node is the reading when its oldest uncomputed ancestor was made."""

    run = 0


clock = _Clock()


def forget() -> None:
    """Empty the hash-consing table: called after each run, so that it never grows.  Only sharing is lost."""
    _TABLE.clear()


def _new(prim: Primitive, inputs: tuple[Node, ...], params: tuple[Any, ...], a: Aval, data: Any, born: int) -> Node:
    n = Node()
    n.prim, n.op, n.inputs, n.params, n.aval = prim, prim.name, inputs, params, a
    n.real, n.data, n.born = None, data, born
    return n


def infer(prim: Primitive, inputs: tuple[Node, ...], params: tuple[Any, ...]) -> Aval:
    """The aval of a node: shape and dtype are the primitive's affair; it is where its operands are.  What is made of numbers
    alone is nowhere in particular and goes along; two devices never meet (the face refuses that, or sends one operand)."""
    device = "cpu"
    avals = []
    for i in inputs:
        a = i.aval if i.real is None else i.real.aval
        if a.device != "cpu":
            device = a.device
        avals.append(a)
    if device == "cpu" or prim.name in SENDS:
        return prim.infer(*avals, *params)  # type: ignore[no-any-return]
    found: Aval = prim.infer(*[a.host for a in avals], *params)
    return aval(found.shape, found.dtype, device)


def node(prim: Primitive, inputs: tuple[Node, ...], params: tuple[Any, ...] = ()) -> Node:
    """The node of `prim` over `inputs`; shapes and dtypes are inferred, and errors raised, here."""
    inputs = tuple([i.real or i for i in inputs])
    key = (prim, inputs, params)
    n = _TABLE.get(key)
    if n is None:
        a = infer(prim, inputs, params)
        born = clock.run
        for i in inputs:
            if i.born < born:
                born = i.born
        n = _TABLE[key] = _new(prim, inputs, params, a, None, born)
    return n


_WRITTEN: dict[tuple[DType, Any], tuple[Any, bytes]] = {}  # (dtype, Python number) -> NumPy scalar, its bytes


def _number(prim: Primitive, value: Any, dtype: DType, device: str = "cpu") -> Node:
    plain = type(value) is float or type(value) is int
    known = _WRITTEN.get((dtype, value)) if plain else None
    if known is None:
        data = np.asarray(value).astype(dtype.number)[()] if not isinstance(value, (bool, int, float)) else dtype.number(value)
        known = data, data.tobytes()
        if plain and value and value == value and len(_WRITTEN) < 10_000:    # not zero: it has a sign
            _WRITTEN[dtype, value] = known
    data, bits = known
    params = (bits,) if device == "cpu" else (bits, device)
    key = (prim, dtype, *params)                         # bits: -0.0 is not 0.0, and NaN is found again
    n = _TABLE.get(key)
    if n is None:
        n = _TABLE[key] = _new(prim, (), params, aval((), dtype, device), data, NEVER)
    return n


def const(value: Any, dtype: DType, device: str = "cpu") -> Node:
    """A 0-d number that belongs to the program.  One on the CPU goes along with whatever it meets."""
    return _number(CONST, value, dtype, device)


def scalar(value: Any, dtype: DType) -> Node:
    """A 0-d number that the user wrote.  Special ones stay constants; the others are slots and never enter keys."""
    return _number(CONST if value in _SPECIAL else SCALAR, value, dtype)


def placeholder(a: Aval, data: Any = None) -> Node:
    """A fresh input; never merged with another."""
    return _new(PLACEHOLDER, (), (), a, data, clock.run)


def buffer(data: Any, a: Aval) -> Node:
    """A leaf over memory that holds its value."""
    return _new(BUFFER, (), (), a, data, NEVER)


def is_const(n: Node, value: float | None = None) -> bool:
    return n.op == "const" and (value is None or bool(n.data == value))


def base(n: Node, through: tuple[str, ...]) -> Node:
    """What a chain of the operations `through` starts from."""
    while n.op in through:
        n = n.inputs[0].real or n.inputs[0]
    return n


def linearise(roots: Iterable[Node], stop: Any = ()) -> list[Node]:
    """Nodes in evaluation order, each after its inputs; inputs of nodes in `stop` are not visited."""
    order: list[Node] = []
    done: set[Node] = set()
    stack: list[Any] = [r.real or r for r in roots]
    stack.reverse()
    while stack:
        n = stack.pop()
        if n is None:                                     # the inputs of the node below are done
            order.append(stack.pop())
        elif n not in done:
            done.add(n)
            inputs = n.inputs
            if not inputs or n in stop:
                order.append(n)
            else:
                stack += (n, None)
                for i in inputs[::-1]:
                    m = i.real or i
                    if m not in done:
                        stack.append(m)
    return order


def structure(order: Sequence[Node], number: dict[Node, int]) -> tuple[Any, ...]:
    """The structural key of nodes in evaluation order: leaves by first use, constants by bits.  Same loop body, same key."""
    rows: list[Any] = []
    for n in order:
        if n.prim.kind == LEAF:
            rows.append((n.op, n.aval, n.params) if n.op == "const" else (n.op, n.aval))
        else:
            rows.append((n.op, n.params, tuple([number[i.real or i] for i in n.inputs])))
    return tuple(rows)


def private() -> Callable[[Primitive, tuple[Node, ...], tuple[Any, ...]], Node]:
    """A builder with a table of its own: for graphs that outlive the moment.  Nodes that are shared with the user's tensors
    are settled when somebody looks at them (also constant expressions, which no placeholder keeps apart); these never are."""
    table: dict[Any, Node] = {}

    def build(prim: Primitive, inputs: tuple[Node, ...], params: tuple[Any, ...]) -> Node:
        key = (prim, inputs, params)
        n = table.get(key)
        if n is None:
            n = table[key] = _new(prim, inputs, params, infer(prim, inputs, params), None, NEVER)
        return n
    return build


class Graph:
    """(inputs, outputs): a pure function.  Inputs are leaves of any kind but const; every leaf that is reached must be one."""

    __slots__ = ("inputs", "outputs", "_order", "_key", "outline")

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple([o.real or o for o in outputs])
        self._order: list[Node] | None = None
        self._key: tuple[Any, ...] | None = None
        self.outline: Any = None                          # kept by `ir.outline.outline`

    @property
    def order(self) -> list[Node]:
        """All nodes in evaluation order, inputs first."""
        if self._order is None:
            self._order = linearise([*self.inputs, *self.outputs])
        return self._order

    @property
    def key(self) -> tuple[Any, ...]:
        if self._key is None:
            number = {n: k for k, n in enumerate(self.order)}
            self._key = (len(self.inputs), structure(self.order, number), tuple(number[o] for o in self.outputs))
        return self._key


def substitute(outputs: Sequence[Node], env: dict[Node, Node],
               build: Callable[[Primitive, tuple[Node, ...], tuple[Any, ...]], Node] = node) -> list[Node]:
    """`outputs` with the nodes in `env` replaced; `build` makes each changed node (a rewriter hooks in here)."""
    for n in linearise(outputs, stop=env):
        if n not in env:
            new = tuple([env[i.real or i] for i in n.inputs])
            env[n] = n if n.prim.kind == LEAF else build(n.prim, new, n.params)
    return [env[o.real or o] for o in outputs]
