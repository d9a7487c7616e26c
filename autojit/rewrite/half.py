"""float16 and bfloat16: memory holds them, float32 computes.

`widened` looks at what one public op does: its inputs become float32 where they are read, its results are rounded once at
its end, and nothing is rounded in between (as torch's kernels do it).  `lowered` looks at a whole graph and does the same
for each node that is left: what adds up cotangents, what a gradient of a gradient replays.

After `lowered` a half value is only moved, looked up by index, cast from and to float32, or an operand of a matrix product
that stays one (`products`): it is summed in float32 and rounded once, if its result is half at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import FLOAT, DType, float32
from ..ir.graph import Graph, Node, base, const, infer, linearise, node, substitute
from ..ir.primitive import LEAF, REGISTRY, Primitive
from ..ops.declare import P
from ..ops.grouped import GROUPED

MOVED = frozenset(("reshape", "permute", "expand", "slice", "flip", "shear", "unshear", "concat", "update", "take", "gather",
                   "stop", "transfer"))
FEW = 64                                                  # multiplications up to which a product is written out

Inputs = tuple[Node, ...]
Params = tuple[object, ...]


def _halves(order: Sequence[Node]) -> bool:
    for n in order:
        if n.aval.dtype.half:
            return True
    return False


def _cast(n: Node, dtype: DType) -> Node:
    """`n` as a dtype, by way of float32 where one side is half; there and back is `n` itself."""
    d = n.dtype
    if d is dtype:
        return n
    if dtype.half and d is not float32 or d.half and dtype is not float32:
        n = _cast(n, float32)
    if n.op == "cast" and n.inputs[0].dtype is dtype and dtype.half:
        return n.inputs[0].real or n.inputs[0]
    return P.cast(n, dtype)  # type: ignore[no-any-return]


def _number(n: Node, dtype: DType) -> Node:
    """A constant as one of another dtype, its digits kept."""
    return const(n.data, dtype, n.aval.device)


# ------------------------------------------------------------------------------------------------ inside one op
class _Widening:
    """`plain`: nodes of the same dtype as before, `wide`: half ones in float32.  Half nodes that are only moved have a plain
    form and get a wide one when somebody computes with it; computed ones the other way round; products have both."""

    def __init__(self) -> None:
        self.plain: dict[Node, Node] = {}
        self.wide: dict[Node, Node] = {}

    def read(self, n: Node) -> Node:
        """What arithmetic reads."""
        if not n.dtype.half:
            return self.plain[n]
        w = self.wide.get(n)
        if w is None:
            w = self.wide[n] = _cast(self.plain[n], float32)
        return w

    def rounded(self, n: Node) -> Node:
        """What stands in memory."""
        p = self.plain.get(n)
        if p is None:
            p = self.plain[n] = _cast(self.wide[n], n.dtype)
        return p

    def visit(self, n: Node) -> None:
        inputs = [i.real or i for i in n.inputs]
        half = n.dtype.half
        if n.prim.kind == LEAF:
            self.plain[n] = n
            if half and n.op == "const":
                self.wide[n] = _number(n, float32)
        elif not half and not any([i.dtype.half for i in inputs]):
            self.plain[n] = node(n.prim, tuple([self.plain[i] for i in inputs]), n.params)
        elif n.op in GROUPED:                              # what is inside is lowered by itself
            self.plain[n] = node(n.prim, tuple([self.rounded(i) for i in inputs]), n.params)
        elif n.op in MOVED and all([i in self.plain for i in inputs]):
            self.plain[n] = node(n.prim, tuple([self.plain[i] for i in inputs]), n.params)
            if any([i in self.wide for i in inputs]):       # a constant, a product
                self.wide[n] = node(n.prim, tuple([self.read(i) for i in inputs]), n.params)
        elif n.op == "cast":
            self._cast(n, inputs[0])
        elif n.op == "matmul":
            operands = tuple([self.rounded(i) for i in inputs])
            self.wide[n] = node(n.prim, operands, (float32,))
            if half:
                self.plain[n] = node(n.prim, operands)
            else:
                self.plain[n] = self.wide.pop(n)
        else:
            self._computed(n, inputs)

    def _cast(self, n: Node, of: Node) -> None:
        """A cast that an op asks for rounds; but a number beside a tensor keeps its digits."""
        if not n.dtype.half:
            self.plain[n] = _cast(self.read(of), n.dtype)
            return
        self.plain[n] = _cast(self.rounded(of) if of.dtype.half else self.plain[of], n.dtype)
        if base(of, ("transfer",)).prim.kind == LEAF and not of.shape and of.dtype.category == FLOAT and not of.dtype.half:
            self.wide[n] = _cast(self.plain[of], float32)

    def _computed(self, n: Node, inputs: Sequence[Node]) -> None:
        new = node(n.prim, tuple([self.read(i) for i in inputs]), n.params)
        if n.dtype.half:
            self.wide[n] = _cast(new, float32)
        else:
            self.plain[n] = new


def widened(outs: Sequence[Node]) -> list[Node]:
    """The results of one public op, with float32 inside where it has half values.  Same avals; what only moves stays."""
    order = linearise(outs)
    if not _halves(order):
        return list(outs)
    w = _Widening()
    for n in order:
        w.visit(n)
    return [w.rounded(o.real or o) for o in outs]


# ------------------------------------------------------------------------------------------------ a whole graph
def _stays(a: Node, b: Node) -> bool:
    """Is a product of half operands long enough for the library?"""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    return min(m, k, n) > 1 and m * k * n > FEW and a.aval.size > 0 and b.aval.size > 0


def lowered(graph: Graph, products: bool = False) -> Graph:
    """`graph` without arithmetic on half values.  `products`: matrix products may have half operands."""
    if not _halves(graph.order):
        return graph

    def build(prim: Primitive, ins: Inputs, params: Params) -> Node:
        if prim.name == "cast":
            return _cast(ins[0], params[0])                 # type: ignore[arg-type]
        if prim.name in MOVED or prim.name in GROUPED or not any([i.dtype.half for i in ins]):
            return node(prim, ins, params)
        if prim.name == "matmul" and products and _stays(*ins):
            return node(prim, ins, params)
        half = infer(prim, ins, params).dtype
        out = node(prim, tuple([_cast(i, float32) if i.dtype.half else i for i in ins]),
                   () if prim.name == "matmul" else params)
        return _cast(out, half) if half.half else out

    env: dict[Node, Node] = {i: i for i in graph.inputs}
    for n in graph.order:
        if n.op == "const" and n.dtype.half:
            env[n] = node(REGISTRY["cast"], (_number(n, float32),), (n.dtype,))
    return Graph(graph.inputs, substitute(graph.outputs, env, build))
