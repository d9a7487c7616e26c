"""The Primitive record: all that is known of one operation of the graph, in one statement.

In: declarations in `ops/`.  Out: `REGISTRY`.  Never knows a backend; `emit` is scalar text that each backend reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# kinds: how the scheduler and the batching rule treat it
ELEMENTWISE = "elementwise"      # same shape in and out; `emit` gives the scalar text
REDUCE = "reduce"                # params (axes,): those axes vanish
MOVEMENT = "movement"            # an index map, no arithmetic
INDEX = "index"                  # reads at an index that is data
SCATTER = "scatter"              # adds at an index that is data
CONTRACT = "contract"            # matrix product
CREATE = "create"                # no input: iota
PARTS = "parts"                  # complex values taken apart and put together: no kernel has one (rewrite/complexes.py)
HOST = "host"                    # runs by its NumPy reference, on every backend without a kernel or word for it
TRANSFER = "transfer"            # from one device to another: programs are cut here
LEAF = "leaf"                    # const, scalar, placeholder, buffer


class Primitive:
    """`infer(*avals, *params) -> Aval`; `ref(*arrays, *params)`; `vjp(ct, out, *primals, *params)` gives one Node or
    None a primal.  `emit`: scalar text with {0} {1} for operands, {t} for the operand's dtype code, {o} for the result's.
    `cost`: scalar operations, an add being 1."""

    __slots__ = ("name", "kind", "infer", "ref", "vjp", "emit", "cost", "domain", "doc", "commutative", "linear")

    def __init__(self, name: str, kind: str, infer: Callable[..., Any], ref: Callable[..., Any] | None,
                 vjp: Callable[..., Any] | None, *, emit: str = "", cost: int = 1, domain: tuple[float, float] = (-3, 3),
                 doc: str = "", commutative: bool = False, linear: bool = False) -> None:
        self.name, self.kind, self.infer, self.ref, self.vjp = name, kind, infer, ref, vjp
        self.emit, self.cost, self.domain, self.doc = emit, cost, domain, doc
        self.commutative, self.linear = commutative, linear

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


REGISTRY: dict[str, Primitive] = {}
SENDS = frozenset(("transfer", "call"))                   # primitives that say themselves on which device their result is


def register(p: Primitive) -> Primitive:
    if p.name in REGISTRY:
        raise ValueError(f"primitive {p.name!r} is declared twice")
    REGISTRY[p.name] = p
    return p


def _leaf(name: str, doc: str) -> Primitive:
    return register(Primitive(name, LEAF, lambda *a: None, None, None, cost=0, doc=doc))


CONST = _leaf("const", "A number that a rule or an op wrote: part of the program, keyed by dtype and bits.")
SCALAR = _leaf("scalar", "A number that the user wrote: a run-time slot.")
PLACEHOLDER = _leaf("placeholder", "An input of a graph.")
BUFFER = _leaf("buffer", "Memory that holds a value.")
