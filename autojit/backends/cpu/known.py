"""Texts of kernels that were emitted before: a kernel of the same structure, over other extents, has the same text.

In: a `Kernel`.  Out: `Look`, all that its text depends on as one key, and the numbers that go in the slots of its table.
The key holds every statement, the origin of every size (never its value), which constants are equal, and the order of an
index's strides, by which its terms are written.  Never guesses: whatever the text could depend on is in the key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...dtypes import BOOL, FLOAT, DType, float32, int64
from ...ir.graph import SPECIAL
from ...schedule.index import Range, Size, provenance
from ...schedule.loops import (
    Accumulate,
    At,
    Begin,
    Buffer,
    Condition,
    Const,
    Index,
    Init,
    Kernel,
    Let,
    Loop,
    Next,
    Operand,
    Run,
    Store,
)

LIMIT = 500                        # texts that are remembered


class Look:
    """What a kernel looks like.  `atoms`: the value of each extent or parameter that sizes are made of; `consts`: those
    numbers that are slots, equal ones once."""

    __slots__ = ("out", "ranges", "sizes", "atoms", "consts", "values", "buffers", "_words", "key")

    def __init__(self, kernel: Kernel) -> None:
        self.out: list[Any] = []
        self.ranges: dict[Range, int] = {}
        self.sizes: dict[Any, str] = {}                    # origin → its word in the key
        self.atoms: dict[Any, int] = {}
        self.consts: dict[Any, int] = {}                   # (kind, bits) → number
        self.values: list[tuple[Any, DType]] = []
        self.buffers: dict[str, Buffer] = {}
        self._words: dict[int, str] = {}
        self._block(kernel.body)
        views = [(b.name, b.dtype, b.per_chunk) for b in self.buffers.values()]
        self.key = (tuple(self.out), tuple(self.sizes), tuple(views))

    # ------------------------------------------------------------------ numbers
    def _size(self, s: int) -> Any:
        """A number of the text as it is, a size as a word that stands for its origin."""
        if type(s) is not Size:
            return int(s)
        word = self._words.get(id(s))
        if word is None:
            origin = provenance(s)
            word = self._words[id(s)] = self.sizes.setdefault(origin, f"s{len(self.sizes)}")
            self._find(s)
        return word

    def _find(self, s: Size) -> None:
        """The values of what a size is made of."""
        stack: list[Any] = [s]
        while stack:
            a = stack.pop()
            if type(a) is Size:
                if a.how[0] in ("*", "+"):
                    stack += a.how[1:]
                else:
                    self.atoms[a.how] = int(a)

    def _range(self, r: Range) -> int:
        return self.ranges.setdefault(r, len(self.ranges))

    def _const(self, c: Const) -> None:
        d, v = c.dtype, c.value
        if d.category == BOOL:
            self.out += ("bool", d, bool(v))
        elif d.category == FLOAT:
            if v != v or v in SPECIAL or math.isinf(v):
                self.out += ("special", d, v.tobytes())
            else:
                kept = float32 if d.half else d
                self.out += ("const", d, self._slot((kept.code, v.tobytes()), float(v), kept))
        elif abs(int(v)) <= 2:
            self.out += ("int", d, int(v))
        else:
            self.out += ("const", d, self._slot(("int", int(v)), int(v), int64))

    def _slot(self, key: Any, value: Any, dtype: DType) -> int:
        k = self.consts.get(key)
        if k is None:
            k = self.consts[key] = len(self.values)
            self.values.append((value, dtype))
        return k

    # ------------------------------------------------------------------ indices
    def _operand(self, a: Operand) -> None:
        if isinstance(a, Const):
            self._const(a)
        else:
            self.out.append(a)

    def _terms(self, ix: Index) -> None:
        out = self.out
        out += (self._size(ix.const), len(ix.terms))
        for term, c in ix.terms:
            out += (self._range(term) if type(term) is Range else term, self._size(c))

    def _index(self, ix: Index) -> None:
        self._terms(ix)
        if len(ix.terms) > 1:
            self._order([abs(int(c)) for _, c in ix.terms])

    def _order(self, strides: list[int]) -> None:
        """In which order terms are written: by their strides."""
        self.out += sorted(range(len(strides)), key=lambda k: -strides[k])

    def _at(self, at: At) -> None:
        b = at.buffer
        self.buffers.setdefault(b.name, b)
        self.out += (b.name, at.whole, len(at.index), -1 if at.run is None else self._range(at.run))
        for ix in at.index:
            self._terms(ix)
        self.out += [self._size(n) for n in at.shape]
        parts: dict[Any, int] = {} if at.run is None else {"base": 0}
        step = 1
        for ix, n in zip(reversed(at.index), reversed(at.shape)):
            for term, c in ix.terms:
                parts[term] = parts.get(term, 0) + int(c) * step
                if term is at.run:
                    parts["base"] -= int(c) * step
            step *= int(n)
        if b.per_chunk and not at.whole:
            parts["chunk"] = b.size
            self.atoms["area", b.name] = b.size
        if len(parts) > 1:
            self._order([abs(c) for c in parts.values()])

    def _conditions(self, conditions: Sequence[Condition]) -> None:
        self.out.append(len(conditions))
        for c in conditions:
            self.out.append(self._size(c.step))
            self._index(c.index)

    # ------------------------------------------------------------------ statements
    def _block(self, body: Sequence[Any]) -> None:
        out = self.out
        out.append(len(body))
        for s in body:
            kind = type(s)
            out.append(kind)
            if kind is Let:
                self._let(s)
            elif kind is Store:
                out.append(s.op)
                self._at(s.at)
                self._operand(s.value)
            elif kind is Loop:
                out += (self._range(s.range), s.span, s.split, self._size(s.range.extent))
                self._block(s.body)
            elif kind is Run:
                out += (self._range(s.range), s.length, s.span, self._size(s.range.extent))
                self._block(s.body)
            elif kind is Init:
                out += (s.name, s.op, s.dtype)
            else:
                assert isinstance(s, (Accumulate, Begin, Next))
                out += (s.name, s.op if isinstance(s, Accumulate) else "", s.dtype)
                self._operand(s.value)

    def _let(self, s: Let) -> None:
        self.out += (s.name, s.op, s.dtype, len(s.args))
        for a in s.args:
            self._operand(a)
        if s.op == "load":
            self._at(s.params[0])
            self._conditions(s.params[1])
        elif s.op == "inside":
            self._conditions(s.params)
        elif s.op == "index":
            self._index(s.params[0])
        elif s.op.startswith("index_"):
            self._index(s.params[0])
            self.out.append(self._size(s.params[1]))
        else:
            self.out.append(repr(s.params) if s.params else "")    # 1, 1.0 and True are three texts


class Known:
    """A text, and its table with origins in the place of numbers."""

    __slots__ = ("text", "rows")

    def __init__(self, text: str, rows: list[tuple[Any, ...]]) -> None:
        self.text, self.rows = text, rows

    def table(self, look: Look) -> tuple[tuple[Any, ...], ...]:
        """The table of a kernel that looks the same."""
        out: list[tuple[Any, ...]] = []
        for row in self.rows:
            if row[0] == "size":
                total = 0
                for origins, factor in row[1]:
                    for a in origins:
                        factor *= look.atoms[a]
                    total += factor
                out.append(("size", total))
            elif row[0] == "const":
                out.append(("const", *look.values[row[1]]))
            else:
                out.append(row)
        return tuple(out)


KNOWN: dict[Any, Known] = {}


def remember(look: Look, text: str, rows: list[tuple[Any, ...]]) -> None:
    """Keep a text; `rows`: ("buffer", name), ("size", origin), ("const", bits as `Look` numbers them)."""
    if len(KNOWN) >= LIMIT:
        KNOWN.clear()
    KNOWN[look.key] = Known(text, [("const", look.consts[r[1]]) if r[0] == "const" else r for r in rows])
