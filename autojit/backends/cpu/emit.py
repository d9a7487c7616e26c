"""Kernels as readable Python text: one function over a table of arguments.

In: a `Kernel` of the loop IR.  Out: `Emitted`, the text and what stands in each slot of the table.  The text depends on
the kernel's structure alone: buffers are named by first use, extents and strides above 16 and numbers that are not special
are slots, one for each origin, never one for each value.  Never decides anything about loops, never compiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...schedule.index import literal, provenance
from ...schedule.loops import Index, Kernel, Let, Loop, Run, conditions
from ..emitting import Block, Writer
from .known import KNOWN, Look, remember

ROLLED = 11                        # turns of a loop that stays one


@dataclass(frozen=True, slots=True)
class Emitted:
    """`table`: in the order of the arguments ("buffer", name), ("size", int) and ("const", value, dtype); kernels that a person
    wrote may have ("address", int) too, and an `address` of their own in place of a text."""

    text: str
    table: tuple[tuple[Any, ...], ...]
    address: int = 0


def emit_kernel(kernel: Kernel) -> Emitted:
    """The text of a kernel and its table."""
    look = Look(kernel)
    known = KNOWN.get(look.key)
    if known is not None:
        return Emitted(known.text, known.table(look))
    emitter = _Emitter(kernel)
    out = emitter.emitted()
    remember(look, out.text, emitter.rows())
    return out


class _Emitter(Writer):
    def emitted(self) -> Emitted:
        self._block(self.kernel.body, "    ")
        n = len(self.views)
        head = ["def kernel(args, lo, hi, chunk):"]
        head += [f"    x{k} = {b.dtype.code}(args, {k}, {n})" for k, b in enumerate(self.views)]
        head += [f"    {name} = {word}(args, {n + k})" for k, (name, word) in enumerate(self.slot_lines)]
        table = [("buffer", b.name) for b in self.views] + self.slots
        return Emitted("\n".join(head + self.lines) + "\n", tuple(table))

    def rows(self) -> list[tuple[Any, ...]]:
        """The table with origins in the place of numbers."""
        return [("buffer", b.name) for b in self.views] + self.origins

    def _turns(self, n: int) -> str:
        """The bound of a loop: a slot from ROLLED turns on, or LLVM unrolls the loop before it would make vectors."""
        if not literal(n) or int(n) < ROLLED:
            return self._size(n)
        return self._slot(provenance(n), self.sizes, "n", "size", ("size", int(n)))

    def _block(self, body: tuple[Any, ...], indent: str) -> None:
        block = Block(self._uses(body))
        for s in body:
            if type(s) is Let:
                self._let(s, block, indent)
            elif isinstance(s, Run):
                self._flush(block, indent)
                first, last = ("lo", "hi") if s.span == "chunk" else ("0", self._size(s.range.extent))
                self.lines.append(f"{indent}for base in range({first}, {last}, {s.length}):")
                self.lines.append(f"{indent}    end = minimum_i64(base + {s.length}, {last})")
                self._block(s.body, indent + "    ")
            elif type(s) is not Loop:
                self._statement(s, block, indent)
            else:
                self._flush(block, indent)
                first, last = {"chunk": ("lo", "hi"), "run": ("base", "end")}.get(s.span) or ("0", self._turns(s.range.extent))
                if s.split and conditions(s.body, s.range):
                    self._parted(s, first, last, block, indent)
                else:
                    span = last if first == "0" else f"{first}, {last}"
                    self.lines.append(f"{indent}for {self._loop(s.range)} in range({span}):")
                    self._block(s.body, indent + "    ")
        self._flush(block, indent)

    def _parted(self, s: Loop, first: str, last: str, block: Block, indent: str) -> None:
        """A loop in three parts: where all conditions hold it runs without them; what is before and after keeps them.  If a
        condition on the loops outside fails, everything is before."""
        r, k = s.range, self._loop(s.range)
        low: dict[str, None] = {first: None}
        high: dict[str, None] = {last: None}
        tests: dict[str, None] = {}
        for c in conditions(s.body, r):
            sign = sum([int(q) for t, q in c.index.terms if t is r])
            rest = tuple([(t, q) for t, q in c.index.terms if t is not r])
            if sign > 0:
                low[self._index(Index(-c.index.const, tuple([(t, -q) for t, q in rest])), block)] = None
            elif sign < 0:
                high[self._index(Index(c.index.const + 1, rest), block)] = None
            else:
                tests[f"({self._index(c.index, block)} >= 0)"] = None
        a, z, part = (self._name(f"{word}{id(s)}") for word in ("split", "rest", "edge"))
        start, stop = self._nested("maximum_i64", low), self._nested("minimum_i64", high)
        start, stop = f"minimum_i64({start}, {last})", f"maximum_i64({stop}, {first})"
        if tests:
            test = " and ".join(tests)
            start, stop = f"select({test}, {start}, {last})", f"select({test}, {stop}, {last})"
        lines, names = self.lines, dict(self.names)
        lines += [f"{indent}{a} = {start}", f"{indent}{z} = maximum_i64({a}, {stop})"]
        lines.append(f"{indent}for {part} in range(2):")
        bounds = f"select({part} == 0, {first}, {z}), select({part} == 0, {a}, {last})"
        lines.append(f"{indent}    for {k} in range({bounds}):")
        self._block(s.body, indent + "        ")
        self.names = names                                  # the second copy has names of its own
        lines.append(f"{indent}for {k} in range({a}, {z}):")
        self.parted = r
        self._block(s.body, indent + "    ")
        self.parted = None

    def _nested(self, word: str, of: dict[str, None]) -> str:
        text, *more = of
        for m in more:
            text = f"{word}({text}, {m})"
        return text
