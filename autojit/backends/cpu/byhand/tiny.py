"""Matrices of up to LEAST rows written out: their elements are names, so that LLVM works on several matrices at once.

In: how to load an element.  Out: lines, and the names of what they compute, in float64.  Rows are exchanged by choices, not by
branches.  `bad` is set where there is no answer.  Never stores anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

LEAST = 4                          # rows up to which matrices are written out
Names = list[list[str]]


class Lines:
    """Lines, each of which gives a name to a value."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def name(self, text: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def matrix(self, rows: int, columns: int, text: Callable[[int, int], str]) -> Names:
        return [[self.name(text(i, j)) for j in range(columns)] for i in range(rows)]

    def less(self, start: str, *products: tuple[str, str]) -> str:
        """start minus products."""
        for a, b in products:
            start = self.name(f"{start} - {a} * {b}")
        return start

    def refused(self, test: str) -> None:
        self.lines.append(f"bad = bad | ({test})")


def cholesky(out: Lines, a: Names) -> Names:
    """The lower factor of a matrix, of which the lower triangle is looked at."""
    n = len(a)
    low: Names = [[""] * n for _ in range(n)]
    for j in range(n):
        square = out.less(a[j][j], *[(low[j][k], low[j][k]) for k in range(j)])
        out.refused(f"not {square} > f8(0.0)")
        low[j][j] = out.name(f"sqrt_f64({square})")
        for i in range(j + 1, n):
            low[i][j] = out.name(f"{out.less(a[i][j], *[(low[i][k], low[j][k]) for k in range(j)])} / {low[j][j]}")
    return low


def eliminated(out: Lines, a: Names, b: Names) -> tuple[Names, Names, list[str]]:
    """Gaussian elimination with exchanges: (U, the right sides, whether each pair of rows was exchanged)."""
    n, width = len(a), len(b[0]) if b else 0
    rows = [a[i] + (b[i] if b else []) for i in range(n)]
    exchanged = []
    for p in range(n):
        for r in range(p + 1, n):
            swap = out.name(f"abs_f64({rows[r][p]}) > abs_f64({rows[p][p]})")
            exchanged.append(swap)
            upper, lower = rows[p], rows[r]
            rows[p], rows[r] = ([*upper[:p], *[out.name(f"select({swap}, {y}, {x})") for x, y in pairs]] for pairs in (
                list(zip(upper[p:], lower[p:], strict=True)), list(zip(lower[p:], upper[p:], strict=True))))
        for r in range(p + 1, n):
            q = out.name(f"{rows[r][p]} / {rows[p][p]}")
            rows[r] = rows[r][:p + 1] + [out.less(rows[r][j], (q, rows[p][j])) for j in range(p + 1, n + width)]
    return [r[:n] for r in rows], [r[n:] for r in rows], exchanged


def solved(out: Lines, a: Names, b: Names) -> Names:
    """X with A X = B."""
    up, right, _ = eliminated(out, a, b)
    n = len(up)
    for i in range(n):
        out.refused(f"abs_f64({up[i][i]}) <= f8(0.0)")
    x: Names = [[] for _ in range(n)]
    for i in reversed(range(n)):
        x[i] = [out.name(f"{out.less(right[i][c], *[(up[i][j], x[j][c]) for j in range(i + 1, n)])} / {up[i][i]}")
                for c in range(len(right[i]))]
    return x


def determinant(out: Lines, a: Names) -> tuple[list[str], str]:
    """The diagonal of U, and the sign of the exchanges."""
    up, _, exchanged = eliminated(out, a, [])
    sign = out.name("f8(1.0)")
    for swap in exchanged:
        sign = out.name(f"select({swap}, -{sign}, {sign})")
    return [up[i][i] for i in range(len(up))], sign


def stored(view: str, at: str, names: Names, word: str = "{}", columns: int = 0) -> Sequence[str]:
    """Lines that store a matrix by rows; word: what becomes of an element; an empty name: zero."""
    width = columns or len(names[0])
    return [f"{view}[{at} + {i * width + j}] = " + word.format(name or "f8(0.0)")
            for i, row in enumerate(names) for j, name in enumerate(row)]
