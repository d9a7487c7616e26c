"""Matrix products for BLAS: which nodes, on which memory, with which strides.

In: a matmul node (or the sum of one over its leading axes).  Out: the nodes that must be in memory and the GemmSteps.
Permuted operands become transpose flags and leading dimensions, expanded ones stride 0, slices an offset; an operand that
BLAS cannot stride through is itself put in memory.  Products with an inner extent of 1, with small matrices and one
row or column, and of tiny constant sizes are left to the fused kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ..dtypes import FLOAT
from ..ir.graph import Node
from .axes import SMALL, operands
from .loops import Buffer, GemmStep

TINY = 512                         # multiplications up to which a constant product is written out
LARGE = 1 << 15                    # elements of a matrix from which its product with a vector is not fused
SEVERAL, LONG, TERMS = 16, 256, 64   # and elements of the result, if they are dot products or a sum of rows, and terms
SHORT, FUSED = 16, 1 << 24         # terms, and multiplications, up to which a GPU fuses a product
FEW, OFTEN = 32, 8                  # rows of C, and products of that many, from which a transposed B is turned once for all
CALLS = 64                         # calls for batches that no two strides describe

Ints = tuple[int, ...]


@dataclass(slots=True)
class View:
    """A node as elements of another's memory: base[offset + sum of index * stride]."""

    base: Node
    offset: int
    strides: Ints


def contiguous(shape: Sequence[int]) -> Ints:
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= n
    return tuple(reversed(out))


def view(n: Node, stop: set[Node]) -> View:
    """`n` through as many movements as strides can express; `stop`: nodes not to look through."""
    chain = []
    while n not in stop and n.op in ("permute", "expand", "reshape", "slice"):
        chain.append(n)
        n = operands(n)[0]
    v = View(n, 0, contiguous(n.shape))
    shape = n.shape
    for m in reversed(chain):
        w = _through(m, v, shape)
        shape = m.shape
        v = w if w is not None else View(m, 0, contiguous(shape))
    return v


def _through(m: Node, v: View, shape: Ints) -> View | None:
    if m.op == "permute":
        return View(v.base, v.offset, tuple([v.strides[p] for p in m.params[0]]))
    if m.op == "expand":
        return View(v.base, v.offset, tuple([s if a == b else 0 for s, a, b in zip(v.strides, shape, m.shape)]))
    if m.op == "slice":
        starts, _, steps = m.params
        return View(v.base, v.offset + sum([a * s for a, s in zip(starts, v.strides)]),
                    tuple([c * s for c, s in zip(steps, v.strides)]))
    return _reshaped(v, shape, m.shape)


def _reshaped(v: View, old: Ints, new: Ints) -> View | None:
    """The strides of a reshape, if it needs no copy."""
    dims = [(n, s) for n, s in zip(old, v.strides) if n != 1]
    merged: list[list[int]] = []
    for n, s in dims:                                       # runs of dimensions that lie one in the other
        if merged and merged[-1][1] == n * s:
            merged[-1] = [merged[-1][0] * n, s]
        else:
            merged.append([n, s])
    out: list[int] = []
    for n in reversed(new):
        if n == 1:
            out.append(0)
            continue
        if not merged or merged[-1][0] % n:
            return None
        out.append(merged[-1][1])
        merged[-1] = [merged[-1][0] // n, merged[-1][1] * n]
        if merged[-1][0] == 1:
            merged.pop()
    return View(v.base, v.offset, tuple(reversed(out)))


def is_product(n: Node, runtime: bool, simt: bool = False) -> bool:
    """Is this matmul for BLAS?  `runtime`: some of its sizes are run-time ones.  On a GPU a product of few terms is fused:
    entering BLAS costs more than the terms do."""
    a, b = operands(n)
    m, k, c = a.shape[-2], a.shape[-1], b.shape[-1]
    if a.dtype.half:
        return True                                        # no kernel multiplies them: see rewrite/half.py
    if n.dtype.category != FLOAT or not a.aval.size or not b.aval.size or k == 1 or m == c == 1:
        return False
    if m == 1 or c == 1:
        by_rows = (a.op == "permute") == (c == 1)           # a sum of the matrix's rows as they lie in memory
        return m * k * c >= LARGE and k >= TERMS and m * c >= (LONG if by_rows else SEVERAL)
    if simt and k <= SHORT and n.aval.size * k <= FUSED:
        return False
    return runtime or not (m * k * c <= TINY and max(m, k, c) <= SMALL)


@dataclass(slots=True)
class _Matrix:
    """An operand as BLAS sees it."""

    trans: bool
    ld: int


def _matrix(rows: int, columns: int, sr: int, sc: int) -> _Matrix | None:
    if (sc == 1 or columns == 1) and (sr >= columns or rows == 1):
        return _Matrix(False, sr if rows > 1 else columns)
    if (sr == 1 or rows == 1) and (sc >= rows or columns == 1):
        return _Matrix(True, sc if columns > 1 else rows)
    return None


def _turned(v: View) -> View:
    return View(v.base, v.offset, (*v.strides[:-2], v.strides[-1], v.strides[-2]))


class Gemm:
    """One product: its operands' views, and the steps once their memory is known."""

    def __init__(self, n: Node, inputs: set[Node], uniform: set[Node]) -> None:
        self.node = n
        self.summed = n.op == "sum"
        self.product = operands(n)[0] if self.summed else n
        a, b = operands(self.product)
        stop = inputs | uniform if len(inputs) < 8 else inputs
        self.a, self.b = self._operand(a, stop, uniform), self._operand(b, stop, uniform)
        self.out = contiguous(self.product.shape)           # strides of the product's memory
        self.m, self.k, self.n = a.shape[-2], a.shape[-1], b.shape[-1]
        if not self.summed and self._calls() > CALLS:
            self.a, self.b = View(a, 0, contiguous(a.shape)), View(b, 0, contiguous(b.shape))

    def _operand(self, x: Node, stop: set[Node], uniform: set[Node]) -> View:
        v = view(x, stop)
        if v.base in uniform or _matrix(*x.shape[-2:], *v.strides[-2:]) is None or any([s < 0 for s in v.strides]):
            return View(x, 0, contiguous(x.shape))
        return v

    def joins(self) -> bool:
        """Can the leading axes be counted through with the inner one, so that a sum over them is one product?"""
        a, b = operands(self.product)
        ma, mb = _matrix(*a.shape[-2:], *self.a.strides[-2:]), _matrix(*b.shape[-2:], *self.b.strides[-2:])
        assert ma is not None and mb is not None
        k = a.shape[-1]
        sa = ma.ld if ma.trans else 1
        sb = 1 if mb.trans else mb.ld
        for n, x, y in zip(a.shape[-3::-1], self.a.strides[-3::-1], self.b.strides[-3::-1]):
            if n != 1 and (x != k * sa or y != k * sb):
                return False
            k *= n
        return True

    def moves_to(self, n: Node) -> bool:
        """Let the product lie as `n` does, which is made of it by moving elements; False if it can't."""
        strides: Ints = contiguous(n.shape)
        while n is not self.product:
            (x,) = operands(n)
            if n.op == "permute":
                strides = tuple([strides[n.params[0].index(d)] for d in range(len(x.shape))])
            else:
                v = _reshaped(View(n, 0, strides), n.shape, x.shape)
                if v is None:
                    return False
                strides = v.strides
            n = x
        rows, columns = n.shape[-2:]
        if rows == 1 or columns == 1:
            return False
        if strides[-2] == 1 and strides[-1] >= rows:        # the other way round: the product of the transposes
            self.a, self.b = _turned(self.b), _turned(self.a)
            self.m, self.n = self.n, self.m
            strides = (*strides[:-2], strides[-1], 1)
        elif strides[-1] != 1 or strides[-2] < columns:
            return False
        self.out = strides
        return True

    def turns_again(self) -> bool:
        """Is B a transposed matrix that costs more to turn than a product of few rows should?"""
        mb = _matrix(self.k, self.n, *self.b.strides[-2:])
        return mb is not None and mb.trans and self.m <= FEW and min(self.k, self.n) >= FEW and len(self.b.strides) == 2

    def take_turned(self) -> None:
        """B is put in memory as it is read."""
        b = operands(self.product)[1]
        self.b = View(b, 0, contiguous(b.shape))

    # ------------------------------------------------------------------ batches
    def _batch(self) -> list[tuple[int, int, int, int]]:
        """(count, stride a, stride b, stride c) of the leading axes, outermost first, merged where all three agree."""
        shape = self.product.shape
        out: list[tuple[int, int, int, int]] = []
        for d in range(len(shape) - 2):
            item = (shape[d], self.a.strides[d], self.b.strides[d], self.out[d])
            if item[0] == 1:
                continue
            if out and all([out[-1][k] == item[0] * item[k] for k in (1, 2, 3)]):
                out[-1] = (out[-1][0] * item[0], *item[1:])
            else:
                out.append(item)
        return out

    def _calls(self) -> int:
        calls = 1
        for n in sorted([item[0] for item in self._batch()])[:-2]:
            calls *= n
        return calls

    def steps(self, memory: dict[Node, Buffer], out: Buffer, beta: float = 0.0) -> list[GemmStep]:
        """The product into `out`, or with beta 1 added to what is there."""
        m, k, n = self.m, self.k, self.n
        ma, mb = _matrix(m, k, *self.a.strides[-2:]), _matrix(k, n, *self.b.strides[-2:])
        assert ma is not None and mb is not None
        batch, ldc = self._batch(), n if self.summed else self.out[-2]
        if self.summed:
            for item in batch:
                k *= item[0]
            batch = []
        elif batch and not ma.trans and batch[-1][2] == 0 and batch[-1][1] == m * ma.ld and batch[-1][3] == m * ldc:
            m *= batch.pop()[0]                             # one right-hand matrix for all: a taller product
        if len(batch) > 2:
            batch.sort(key=lambda item: item[0])            # the longest go in one call: few steps, whatever the batch
        inner = batch.pop() if batch else (1, 0, 0, 0)
        outer = batch.pop() if batch else (1, 0, 0, 0)
        of = self.a.base.dtype
        result = None if out.dtype is of else out.dtype
        steps = []
        for at in product(*[range(item[0]) for item in batch]):
            offsets = [self.a.offset, self.b.offset, 0]
            for i, item in zip(at, batch):
                for x in range(3):
                    offsets[x] += i * item[x + 1]
            steps.append(GemmStep(of, ma.trans, mb.trans, m, n, k, memory[self.a.base].name, ma.ld,
                                  memory[self.b.base].name, mb.ld, out.name, ldc, inner[0], inner[1], inner[2], inner[3],
                                  (offsets[0], offsets[1], offsets[2]), beta=beta, outer=outer, result=result))
        return steps
