"""Matrix products of our own, for the sizes where a library's call costs more than its work: LLVM text.

In: an element type and the CPU's register width.  Out: ``text()``, two functions of one signature, row-major
C = alpha op(A) op(B) + beta C: ``vector_<type>`` where C is a row or a column, which reads a matrix once, as fast as memory
gives it; ``matrices_<type>``, which packs nothing and so wants a B that stays in the second cache.  With beta 0 what C held
does not matter.  Terms are added in an order that the sizes alone decide.  Never allocates and never calls anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

SIGNATURE = ("i64 %ta, i64 %tb, i64 %m, i64 %n, i64 %k, double %alpha, ptr %a, i64 %lda, ptr %b, i64 %ldb, "
             "double %beta, ptr %c, i64 %ldc")
DEEP = 256                         # terms that are summed before C is touched again
FLAT = 48                          # terms up to which C is written row by row: B's rows are few enough to be at hand
ROWS = 128                         # rows of C whose columns are gone through before the next rows
AHEAD = 8                          # rows of a matrix that are added up before the sum goes to memory

Values = Sequence[str]


class Writer:
    """Lines of one function; `block` is the label the next line stands under."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.block = "entry"
        self.count = 0

    def op(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def say(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def when(self, test: str, body: Callable[[], None]) -> None:
        self.count += 1
        name = f"W{self.count}"
        self.say(f"br i1 {test}, label %{name}, label %{name}.end")
        self.label(name)
        body()
        self.say(f"br label %{name}.end")
        self.label(f"{name}.end")

    def loop(self, first: str, end: str, step: int, carried: Sequence[tuple[str, str]],
             body: Callable[[str, Values], Values]) -> tuple[str, Values]:
        """``for i in range(first, end - step + 1, step)``: only whole steps.  `carried`: (type, first value); `body` gives
        their next ones.  Gives the i at which it stopped, and the carried values."""
        self.count += 1
        name = f"L{self.count}"
        last = self.op(f"sub i64 {end}, {step - 1}")
        before = self.block
        self.say(f"br label %{name}")
        self.label(name)
        at = len(self.lines)
        i = self.op("")
        values = [self.op("") for _ in carried]
        more = self.op(f"icmp slt i64 {i}, {last}")
        self.say(f"br i1 {more}, label %{name}.body, label %{name}.end")
        self.label(f"{name}.body")
        following = [self.op(f"add nuw nsw i64 {i}, {step}"), *body(i, values)]
        for k, (phi, (kind, start)) in enumerate(zip([i, *values], [("i64", first), *carried])):
            self.lines[at + k] = (f"  {phi} = phi {kind} [ {start}, %{before} ], "
                                  f"[ {following[k]}, %{self.block} ]")
        self.say(f"br label %{name}")
        self.label(f"{name}.end")
        return i, values


class Kernel(Writer):
    """A function over elements of one type, `lanes` to a register."""

    def __init__(self, kind: str, bits: int) -> None:
        super().__init__()
        self.size = 4 if kind == "float" else 8
        self.kind, self.lanes = kind, bits // (8 * self.size)
        self.vector = f"<{self.lanes} x {kind}>"
        self.tag = f"v{self.lanes}f{8 * self.size}"
        self.zero = "zeroinitializer"

    def at(self, base: str, *indices: str) -> str:
        for index in indices:
            base = self.op(f"getelementptr {self.kind}, ptr {base}, i64 {index}")
        return base

    def mul(self, x: str, y: str) -> str:
        return self.op(f"mul i64 {x}, {y}")

    def load(self, address: str, mask: str = "", kind: str = "") -> str:
        if mask:
            return self.op(f"call {self.vector} @llvm.masked.load.{self.tag}.p0(ptr {address}, i32 {self.size}, "
                           f"<{self.lanes} x i1> {mask}, {self.vector} {self.zero})")
        return self.op(f"load {kind or self.vector}, ptr {address}, align {self.size}")

    def store(self, value: str, address: str, mask: str = "", kind: str = "") -> None:
        if mask:
            self.say(f"call void @llvm.masked.store.{self.tag}.p0({self.vector} {value}, ptr {address}, i32 {self.size}, "
                     f"<{self.lanes} x i1> {mask})")
        else:
            self.say(f"store {kind or self.vector} {value}, ptr {address}, align {self.size}")

    def splat(self, x: str) -> str:
        one = self.op(f"insertelement {self.vector} poison, {self.kind} {x}, i64 0")
        return self.op(f"shufflevector {self.vector} {one}, {self.vector} poison, <{self.lanes} x i32> zeroinitializer")

    def product(self, x: str, y: str, kind: str = "") -> str:
        return self.op(f"fmul contract {kind or self.vector} {x}, {y}")

    def fused(self, x: str, y: str, z: str, kind: str = "") -> str:
        """x · y + z."""
        return self.op(f"fadd contract {kind or self.vector} {z}, {self.product(x, y, kind)}")

    def scaled(self, old: str, overwrite: str, beta: str, kind: str) -> str:
        """beta · old, or 0 where beta is 0."""
        zero = self.zero if kind == self.vector else "0.0"
        return self.op(f"select i1 {overwrite}, {kind} {zero}, {kind} {self.product(old, beta, kind)}")

    def scalars(self) -> tuple[str, str, str]:
        """alpha, beta as elements, and whether beta is 0."""
        both = [f"%{s}" if self.kind == "double" else self.op(f"fptrunc double %{s} to {self.kind}")
                for s in ("alpha", "beta")]
        return both[0], both[1], self.op("fcmp oeq double %beta, 0.0")

    def function(self, name: str) -> str:
        return "\n".join([f"define void @{name}({SIGNATURE}) {{", "entry:", *self.lines, "  ret void", "}", ""])


# ------------------------------------------------------------------------------------------------ matrix times vector
def _vector(kind: str, bits: int) -> str:
    """C is a column (n = 1) or a row (m = 1): each element a row's dot product, or all elements a sum of rows."""
    w = Kernel(kind, bits)
    column = w.op("icmp eq i64 %n, 1")
    ta, tb = w.op("icmp ne i64 %ta, 0"), w.op("icmp ne i64 %tb, 0")

    def pick(test: str, x: str, y: str, kind: str = "i64") -> str:
        return w.op(f"select i1 {test}, {kind} {x}, {kind} {y}")

    matrix, vector = pick(column, "%a", "%b", "ptr"), pick(column, "%b", "%a", "ptr")
    rows = pick(column, pick(ta, "%k", "%m"), pick(tb, "%n", "%k"))
    columns = pick(column, pick(ta, "%m", "%k"), pick(tb, "%k", "%n"))
    ld = pick(column, "%lda", "%ldb")
    step_x = pick(column, pick(tb, "1", "%ldb"), pick(ta, "%lda", "1"))
    step_y = pick(column, "%ldc", "1")
    summed = pick(column, ta, w.op(f"xor i1 {tb}, true"), "i1")
    alpha, beta, overwrite = w.scalars()
    w.say(f"br i1 {summed}, label %summed, label %dotted")
    w.label("dotted")
    _dotted(w, matrix, rows, columns, ld, vector, step_y, alpha, beta, overwrite)
    w.say("br label %done")
    w.label("summed")
    _summed(w, matrix, rows, columns, ld, vector, step_x, alpha, beta, overwrite)
    w.say("br label %done")
    w.label("done")
    return w.function(f"vector_{kind}")


def _dotted(w: Kernel, matrix: str, rows: str, columns: str, ld: str, x: str, step_y: str, alpha: str, beta: str,
            overwrite: str) -> None:
    """y[i] = row i · x, x contiguous: one row at a time, so that the matrix is one long stream."""
    def row(i: str, _: Values) -> Values:
        start = w.at(matrix, w.mul(i, ld))

        def four(j: str, sums: Values) -> Values:
            at = [w.op(f"add i64 {j}, {k * w.lanes}") for k in range(4)]
            return [w.fused(w.load(w.at(start, p)), w.load(w.at(x, p)), s) for p, s in zip(at, sums)]

        def one(j: str, sums: Values) -> Values:
            return [w.fused(w.load(w.at(start, j)), w.load(w.at(x, j)), sums[0])]

        def last(j: str, sums: Values) -> Values:
            return [w.fused(w.load(w.at(start, j), kind=w.kind), w.load(w.at(x, j), kind=w.kind), sums[0], w.kind)]

        j, sums = w.loop("0", columns, 4 * w.lanes, [(w.vector, w.zero)] * 4, four)
        pairs = [w.op(f"fadd {w.vector} {sums[k]}, {sums[k + 2]}") for k in (0, 1)]
        total = w.op(f"fadd {w.vector} {pairs[0]}, {pairs[1]}")
        j, sums = w.loop(j, columns, w.lanes, [(w.vector, total)], one)
        whole = w.op(f"call reassoc {w.kind} @llvm.vector.reduce.fadd.{w.tag}({w.kind} -0.0, {w.vector} {sums[0]})")
        j, sums = w.loop(j, columns, 1, [(w.kind, whole)], last)
        to = w.at("%c", w.mul(i, step_y))
        old = w.scaled(w.load(to, kind=w.kind), overwrite, beta, w.kind)
        w.store(w.fused(sums[0], alpha, old, w.kind), to, kind=w.kind)
        return []

    w.loop("0", rows, 1, [], row)


def _summed(w: Kernel, matrix: str, rows: str, columns: str, ld: str, x: str, step_x: str, alpha: str, beta: str,
            overwrite: str) -> None:
    """y = Σ x[i] · row i, y contiguous: some rows at once, whose sum is added to y."""
    def everywhere(body: Callable[[str, str], None]) -> None:
        def inside(kind: str) -> Callable[[str, Values], Values]:
            def run(j: str, _: Values) -> Values:
                body(j, kind)
                return []
            return run
        j, _ = w.loop("0", columns, w.lanes, [], inside(w.vector))
        w.loop(j, columns, 1, [], inside(w.kind))

    wide_beta = w.splat(beta)

    def begin(j: str, kind: str) -> None:
        to = w.at("%c", j)
        w.store(w.scaled(w.load(to, kind=kind), overwrite, wide_beta if kind == w.vector else beta, kind), to, kind=kind)

    everywhere(begin)

    def some(count: int) -> Callable[[str, Values], Values]:
        def run(i: str, _: Values) -> Values:
            at = [w.op(f"add i64 {i}, {r}") for r in range(count)]
            factors = [w.product(w.load(w.at(x, w.mul(p, step_x)), kind=w.kind), alpha, w.kind) for p in at]
            wide = [w.splat(f) for f in factors]
            starts = [w.at(matrix, w.mul(p, ld)) for p in at]

            def add(j: str, kind: str) -> None:
                own = wide if kind == w.vector else factors
                total = w.product(w.load(w.at(starts[0], j), kind=kind), own[0], kind)
                for start, f in zip(starts[1:], own[1:]):
                    total = w.fused(w.load(w.at(start, j), kind=kind), f, total, kind)
                to = w.at("%c", j)
                w.store(w.op(f"fadd {kind} {w.load(to, kind=kind)}, {total}"), to, kind=kind)

            everywhere(add)
            return []
        return run

    i, _ = w.loop("0", rows, AHEAD, [], some(AHEAD))
    w.loop(i, rows, 1, [], some(1))


# ------------------------------------------------------------------------------------------------ matrices
class Matrices(Kernel):
    """Blocks of C in registers, `TALL` rows by `BROAD` registers, over panels of as many columns; the columns that are left
    under a mask.  A panel of a transposed B is turned on the stack first; nothing else is copied."""

    def __init__(self, kind: str, bits: int) -> None:
        super().__init__(kind, bits)
        self.tall, self.broad = (8, 2) if bits == 512 else (6, 2)
        self.width = self.broad * self.lanes
        self.alpha, self.beta, self.overwrite = self.scalars()
        self.space = self.op(f"alloca [{DEEP * self.width} x {kind}], align 64")
        self.turned = self.op("icmp ne i64 %tb, 0")
        ta = self.op("icmp ne i64 %ta, 0")
        self.row_a, self.column_a = (self.op(f"select i1 {ta}, i64 {x}, i64 {y}") for x, y in (("1", "%lda"), ("%lda", "1")))
        self.wide_alpha, self.one = self.splat(self.alpha), self.splat("1.0")
        self.wide_beta = self.splat(self.beta)

    def least(self, x: str, y: str) -> str:
        return self.op(f"select i1 {self.op(f'icmp slt i64 {x}, {y}')}, i64 {x}, i64 {y}")

    def blocks(self, end: str, size: str, body: Callable[[str, str], None]) -> None:
        """`body(start, end)` for parts of [0, end) of `size`."""
        more = self.op(f"sub i64 {size}, 1")
        count = self.op(f"sdiv i64 {self.op(f'add i64 {end}, {more}')}, {size}")

        def one(b: str, _: Values) -> Values:
            start = self.mul(b, size)
            body(start, self.least(self.op(f"add i64 {start}, {size}"), end))
            return []
        self.loop("0", count, 1, [], one)

    def written(self) -> str:
        def deep(p: str, end: str) -> None:
            first = self.op(f"icmp eq i64 {p}, 0")
            self.start, self.depth = p, self.op(f"sub i64 {end}, {p}")
            self.old = self.op(f"select i1 {first}, {self.vector} {self.wide_beta}, {self.vector} {self.one}")
            self.fresh = self.op(f"and i1 {first}, {self.overwrite}")
            flat = self.op(f"icmp sle i64 %k, {FLAT}")
            rows = self.op(f"select i1 {flat}, i64 {self.tall}, i64 {ROWS}")
            size = self.op(f"select i1 {self.turned}, i64 %m, i64 {rows}")
            self.blocks("%m", size, self.across)

        self.blocks("%k", str(DEEP), deep)
        return self.function(f"matrices_{self.kind}")

    def across(self, top: str, bottom: str) -> None:
        """All columns of rows `top` to `bottom`."""
        def panel(vectors: int) -> Callable[[str, Values], Values]:
            def run(j: str, _: Values) -> Values:
                self.panel(vectors, top, bottom, j, "")
                return []
            return run

        j, _ = self.loop("0", "%n", self.width, [], panel(self.broad))
        j, _ = self.loop(j, "%n", self.lanes, [], panel(1))
        rest = self.op(f"sub i64 %n, {j}")
        self.when(self.op(f"icmp sgt i64 {rest}, 0"), lambda: self.rest(top, bottom, j, rest))

    def rest(self, top: str, bottom: str, j: str, rest: str) -> None:
        kind = f"<{self.lanes} x i64>"
        one = self.op(f"insertelement {kind} poison, i64 {rest}, i64 0")
        every = self.op(f"shufflevector {kind} {one}, {kind} poison, <{self.lanes} x i32> zeroinitializer")
        count = ", ".join(f"i64 {k}" for k in range(self.lanes))
        self.panel(1, top, bottom, j, self.op(f"icmp slt {kind} <{count}>, {every}"), rest)

    def panel(self, vectors: int, top: str, bottom: str, j: str, mask: str, rest: str = "") -> None:
        there = self.at("%b", self.mul(self.start, "%ldb"), j)
        self.when(self.turned, lambda: self.turn(j, rest or str(vectors * self.lanes)))
        b = self.op(f"select i1 {self.turned}, ptr {self.space}, ptr {there}")
        ldb = self.op(f"select i1 {self.turned}, i64 {self.width}, i64 %ldb")

        def rows(count: int) -> Callable[[str, Values], Values]:
            def go(i: str, _: Values) -> Values:
                self.tile(count, vectors, i, j, b, ldb, mask)
                return []
            return go

        i = top
        for count in (self.tall, self.tall // 2, 1):
            i, _ = self.loop(i, bottom, count, [], rows(count))

    def tile(self, rows: int, vectors: int, i: str, j: str, b: str, ldb: str, mask: str) -> None:
        """C[i : i + rows, j : j + vectors · lanes]."""
        lines = [self.op(f"add i64 {i}, {r}") for r in range(rows)]
        aside = self.mul(self.start, self.column_a)
        tops = [self.at("%a", self.mul(x, self.row_a), aside) for x in lines]

        def term(p: str, sums: Values) -> Values:
            line, beyond = self.at(b, self.mul(p, ldb)), self.mul(p, self.column_a)
            right = [self.load(self.at(line, str(v * self.lanes)), mask) for v in range(vectors)]
            out = []
            for r in range(rows):
                x = self.splat(self.load(self.at(tops[r], beyond), kind=self.kind))
                out += [self.fused(x, y, sums[r * vectors + v]) for v, y in enumerate(right)]
            return out

        _, sums = self.loop("0", self.depth, 1, [(self.vector, self.zero)] * (rows * vectors), term)
        for r in range(rows):
            line = self.at("%c", self.mul(lines[r], "%ldc"), j)
            for v in range(vectors):
                to = self.at(line, str(v * self.lanes))
                old = self.scaled(self.load(to, mask), self.fresh, self.old, self.vector)
                self.store(self.fused(sums[r * vectors + v], self.wide_alpha, old), to, mask)

    # ---- a panel of a transposed B
    def turn(self, j: str, columns: str) -> None:
        """B[j : j + columns, start : start + depth], stored with k inside, to the stack with columns inside."""
        def squares(q: str, _: Values) -> Values:
            corner = self.at("%b", self.mul(self.op(f"add i64 {j}, {q}"), "%ldb"), self.start)
            to = self.at(self.space, q)

            def square(p: str, _: Values) -> Values:
                rows = [self.load(self.at(corner, self.mul(str(r), "%ldb"), p)) for r in range(self.lanes)]
                for r, x in enumerate(self.crossed(rows)):
                    self.store(x, self.at(to, self.mul(self.op(f"add i64 {p}, {r}"), str(self.width))))
                return []

            p, _ = self.loop("0", self.depth, self.lanes, [], square)
            self.loop(p, self.depth, 1, [], lambda p, _: self.moved(p, corner, to, str(self.lanes)))
            return []

        q, _ = self.loop("0", columns, self.lanes, [], squares)
        corner = self.at("%b", self.mul(self.op(f"add i64 {j}, {q}"), "%ldb"), self.start)
        to, left = self.at(self.space, q), self.op(f"sub i64 {columns}, {q}")
        self.loop("0", self.depth, 1, [], lambda p, _: self.moved(p, corner, to, left))

    def moved(self, p: str, corner: str, to: str, columns: str) -> Values:
        """One line of the panel, element by element."""
        line = self.at(to, self.mul(p, str(self.width)))

        def one(r: str, _: Values) -> Values:
            self.store(self.load(self.at(corner, self.mul(r, "%ldb"), p), kind=self.kind), self.at(line, r), kind=self.kind)
            return []

        self.loop("0", columns, 1, [], one)
        return []

    def crossed(self, rows: list[str]) -> list[str]:
        """The transpose of a square of registers: rounds of interleaving the first half with the second."""
        half = self.lanes // 2
        masks = []
        for start in (0, half):
            order = [k for i in range(start, start + half) for k in (i, i + self.lanes)]
            masks.append(f"<{self.lanes} x i32> <{', '.join(f'i32 {k}' for k in order)}>")
        for _ in range(self.lanes.bit_length() - 1):
            rows = [self.op(f"shufflevector {self.vector} {rows[i]}, {self.vector} {rows[i + half]}, {mask}")
                    for i in range(half) for mask in masks]
        return rows


def text(kind: str, bits: int) -> str:
    """Both functions for elements of `kind` (float or double) in registers of `bits`."""
    w = Kernel(kind, bits)
    lanes, v = w.lanes, w.vector
    declared: list[Any] = [
        f"declare {v} @llvm.masked.load.{w.tag}.p0(ptr, i32, <{lanes} x i1>, {v})",
        f"declare void @llvm.masked.store.{w.tag}.p0({v}, ptr, i32, <{lanes} x i1>)",
        f"declare {kind} @llvm.vector.reduce.fadd.{w.tag}({kind}, {v})"]
    return "\n".join([*declared, "", _vector(kind, bits), Matrices(kind, bits).written()])
