"""Kernels that a person wrote, for operations that are no fused expression: running sums, sorting, scatters.

In: a host primitive with its avals and params.  Out: a `Form`: kernel texts in the language of `interpret`, what each is given,
over how many rows in how many chunks.  One file for each family, imported when an operation of it is first met.  Chunks follow
from sizes alone, so results depend on no number of threads.  Never compiles and never runs anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from ....dtypes import BOOL, DType
from ....ir.aval import Aval
from ....ir.primitive import Primitive

FAMILIES: dict[str, str] = {**dict.fromkeys(("cumsum", "cumprod", "cumarg", "logcumsumexp"), "scans"),
                            **dict.fromkeys(("sort", "argsort"), "sorts"),
                            **dict.fromkeys(("index_set", "scatter_set", "scatter_fold"), "scatters"),
                            **dict.fromkeys(("cholesky", "cholesky_info", "lu", "lu_pivots", "lu_info", "permutation", "qr"),
                                            "factorisations"),
                            **dict.fromkeys(("solve", "inv", "solve_triangular", "det", "detsign", "logabsdet"), "solutions"),
                            **dict.fromkeys(("eigh", "svd", "pinv", "lstsq"), "spectra"),
                            **dict.fromkeys(("cofactor", "cofactor_along"), "cofactors"), "expm": "exponentials",
                            **dict.fromkeys(("i0", "i1", "i0e", "i1e", "j0", "j1", "y0", "y1", "erfcx", "ndtri"), "special"),
                            **dict.fromkeys(("zeta", "igamma", "igammac", "polygamma", "nextafter", "gcd", "int_pow", "shift"),
                                            "special"),
                            **dict.fromkeys(("dft", "rdft", "irdft"), "transforms"), "custom": "custom"}
"""Primitive → the file here that has a function of its name: it takes a `Form` and gives it kernels, or none where NumPy is to
run the operation after all."""

CHUNKS = 16                        # at most: what is summed up over chunks must not depend on the processor
GRAIN = 25_000                     # elementary operations a chunk should have at least


class Pass:
    """One kernel over n rows in `chunks` chunks.  `buffers`: in the order of its table, operands by the form's words for them;
    `numbers`: the rest of the table, ("size", int), ("const", value, dtype) or ("address", int); `writes`: among buffers."""

    __slots__ = ("text", "buffers", "numbers", "writes", "n", "chunks", "address")

    def __init__(self, text: str, buffers: tuple[str, ...], numbers: tuple[tuple[Any, ...], ...], writes: tuple[str, ...],
                 n: int, chunks: int, address: int = 0) -> None:
        self.text, self.buffers, self.numbers, self.writes = text, buffers, numbers, writes
        self.n, self.chunks, self.address = n, chunks, address


class Form:
    """The kernels of one operation, one after the other.

    avals: of its operands; out: of its result; params: the primitive's.  Operands are called "in0", "in1", ..., "out", and
    what `room` was asked for.  first: how many places of an order's axis are read; None: all of them."""

    __slots__ = ("avals", "out", "params", "first", "scratch", "passes", "_dtypes")

    def __init__(self, avals: Sequence[Aval], out: Aval, params: tuple[Any, ...], first: int | None = None) -> None:
        self.avals, self.out, self.params, self.first = tuple(avals), out, params, first
        self.scratch: dict[str, tuple[DType, int]] = {}
        self.passes: list[Pass] = []
        self._dtypes = {f"in{k}": a.dtype for k, a in enumerate(avals)} | {"out": out.dtype}

    def room(self, word: str, dtype: DType, size: int) -> str:
        """Memory of `size` elements between the kernels, under a name.  (A chunk's own: `size` times the chunks, at
        ``chunk * size``; leave 128 bytes between two chunks that write at once.)"""
        self.scratch[word] = dtype, max(size, 1)
        self._dtypes[word] = dtype
        return word

    def kernel(self, body: str, buffers: Mapping[str, str], sizes: Mapping[str, int], n: int, chunks: int,
               writes: Sequence[str] = ("out",), numbers: Mapping[str, tuple[Any, ...]] | None = None) -> None:
        """One more kernel.  body: its lines, indented by four; buffers: name in the text → operand; sizes: name → int64 that
        is no part of the text; numbers: name → ("const", value, dtype), after the sizes; writes: operands it stores to."""
        head, total = ["def kernel(args, lo, hi, chunk):"], len(buffers)
        for k, (name, operand) in enumerate(buffers.items()):
            head.append(f"    {name} = {self._dtypes[operand].code}(args, {k}, {total})")
        slots: list[tuple[Any, ...]] = [("size", int(v)) for v in sizes.values()]
        head += [f"    {name} = size(args, {total + k})" for k, name in enumerate(sizes)]
        for name, entry in (numbers or {}).items():
            word = {"const": "c_" + (entry[2].code if len(entry) > 2 and entry[2].code in ("f32", "f64") else "i64")}
            head.append(f"    {name} = {word.get(entry[0], 'size')}(args, {total + len(slots)})")
            slots.append(entry)
        text = "\n".join(head) + "\n" + body.strip("\n") + "\n"
        self.passes.append(Pass(text, tuple(buffers.values()), tuple(slots), tuple(writes), int(n), int(chunks)))


def form(prim: Primitive, avals: Sequence[Aval], out: Aval, params: tuple[Any, ...], first: int | None = None) -> Form | None:
    """The kernels for an operation; None where it has none, and NumPy runs it."""
    family = FAMILIES.get(prim.name)
    if family is None:
        return None
    made = Form(avals, out, params, first)
    getattr(import_module(f"{__name__}.{family}"), prim.name)(made)
    return made if made.passes else None


def placed(lines: str, indent: int) -> str:
    """Lines further to the right."""
    return "\n".join(" " * indent + line if line else line for line in lines.strip("\n").split("\n"))


def loaded(d: DType, value: str) -> str:
    """An element of an array as a number: bools as 0 and 1."""
    return f"to_i64({value})" if d.category == BOOL else value


# ------------------------------------------------------------------------------------------------ sizes
def around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """(outer, n, inner): an array seen as three dimensions, the axis in the middle."""
    return product(shape[:axis]), shape[axis], product(shape[axis + 1:])


def product(shape: Sequence[int]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def usual(n: int) -> int:
    """The power of two from n up.  Whatever decides about a form is asked of it, so that sizes of a class have one form."""
    return 1 << max(n - 1, 0).bit_length()


def chunks(n: int, cost: float) -> int:
    """How many chunks n rows go in whose work is `cost` each."""
    return max(1, min(usual(n), CHUNKS, int(usual(n) * cost) // GRAIN))


def chunk_rows(rows: int, cost: float) -> int:
    """The same, never more than there are rows."""
    return min(rows, chunks(rows, cost))
