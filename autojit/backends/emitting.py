"""What the emitters of all backends share: names, slots, indices and expressions as readable Python text.

In: statements of the loop IR.  Out: lines of text, and what stands in each slot.  The text depends on the kernel's structure
alone: buffers are named by first use, extents and strides above 16 and numbers that are not special are slots, one for each
origin, never one for each value.  Never decides anything about loops and writes none: a backend's emitter does that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, DType, float32, int64
from ..ir.graph import SPECIAL
from ..ir.primitive import REGISTRY
from ..schedule.index import Range, Size, literal, provenance
from ..schedule.loops import (
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
    names_read,
    parting,
)
from ..schedule.sums import identity

KEPT = 8192                        # texts of values that are remembered: other extents have the same ones
WIDTH = 96                         # a line is not made longer by writing a value where it is used
LITERALS = {"f32": "f4", "f64": "f8"}
BINARY = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}


@dataclass(slots=True)
class Block:
    """Lines of one block, and values that wait to be written where they are used: name → (text, buffers it reads)."""

    uses: dict[str, int]
    waiting: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)


class Writer:
    """Writes the statements of one kernel but its loops.  `integer`: how a number of integer data is written."""

    integer = "{}"

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.lines: list[str] = []
        self.buffers: dict[str, str] = {}                  # buffer → its name in the text
        self.views: list[Buffer] = []
        self.sizes: dict[Any, str] = {}                    # provenance → name
        self.consts: dict[Any, str] = {}
        self.slots: list[tuple[Any, ...]] = []
        self.origins: list[Any] = []                       # what each slot is, whatever its number
        self.slot_lines: list[tuple[str, str]] = []
        self.loops: dict[Range, str] = {}
        self.types: dict[str, DType] = {}
        self.registers: set[str] = set()                   # names whose value changes
        self.names = {"chunk": "chunk", "base": "base"}    # name in the kernel → in the text, counted by first use
        self.counts: dict[str, int] = {}
        self.parted: Range | None = None                   # in the part of a loop over this range where its conditions hold
        self.read: dict[int, list[str]] = {}               # id of a statement → the names that it reads

    # ------------------------------------------------------------------ names and numbers
    def _buffer(self, b: Buffer) -> str:
        name = self.buffers.get(b.name)
        if name is None:
            name = self.buffers[b.name] = f"x{len(self.views)}"
            self.views.append(b)
        return name

    def _name(self, name: str) -> str:
        """The name of a value in the text: numbered as they come, so that equal kernels have equal texts."""
        found = self.names.get(name)
        if found is None:
            prefix = "acc" if name in self.registers else name[0]
            k = self.counts[prefix] = self.counts.get(prefix, 0) + 1
            found = self.names[name] = f"{prefix}{k}"
        return found

    def _loop(self, r: Range) -> str:
        name = self.loops.get(r)
        if name is None:
            k = len(self.loops)
            name = self.loops[r] = "ijkmpquvw"[k] if k < 9 else f"i{k}"
        return name

    def _slot(self, key: Any, names: dict[Any, str], prefix: str, word: str, entry: tuple[Any, ...]) -> str:
        name = names.get(key)
        if name is None:
            name = names[key] = f"{prefix}{len(names)}"
            self.slots.append(entry)
            self.origins.append((entry[0], key))
            self.slot_lines.append((name, word))
        return name

    def _size(self, s: int) -> str:
        if literal(s):
            return str(int(s))
        return self._slot(provenance(s), self.sizes, "n", "size", ("size", int(s)))

    def _const(self, c: Const) -> str:
        d, v = c.dtype, c.value
        if d.category == BOOL:
            return str(bool(v))
        if d.category != FLOAT:
            if abs(int(v)) <= 2:
                return self.integer.format(int(v))
            return self._slot(("int", int(v)), self.consts, "c", "c_i64", ("const", int(v), int64))
        if d.half:
            return f"to_{d.code}({self._const(Const(v, float32))})"
        word = LITERALS[d.code]
        if v != v or v in SPECIAL or np.isinf(v):
            return f"{word}({'nan' if v != v else '-inf' if v < 0 and np.isinf(v) else 'inf' if np.isinf(v) else float(v)})"
        return self._slot((d.code, v.tobytes()), self.consts, "c", f"c_{d.code}", ("const", float(v), d))

    # ------------------------------------------------------------------ indices
    def _affine(self, parts: dict[Any, int], const: int, block: Block) -> str:
        words = []
        items: Any = parts.items()
        if len(parts) > 1:
            items = sorted(items, key=lambda tc: -abs(int(tc[1])))
        for term, c in items:
            if type(c) is Size and not literal(c) or int(c):
                name = self._loop(term) if type(term) is Range else self._term(term, block)
                words.append(name if type(c) is int and c == 1 else self._product(name, c))
        if type(const) is Size and not literal(const) or int(const) or not words:
            words.append(self._signed(const))
        text = words[0]
        for w in words[1:]:
            text += f" - {w[1:]}" if w[0] == "-" else f" + {w}"
        return text

    def _term(self, name: str, block: Block) -> str:
        """A named integer as part of an index."""
        return self._operand(name, block)

    def _product(self, name: str, c: int) -> str:
        if literal(c):
            return name if int(c) == 1 else f"-{name}" if int(c) == -1 else f"{name} * {int(c)}" if int(c) > 0 \
                else f"-{name} * {-int(c)}"
        key = provenance(c)
        if len(key) == 1 and key[0][1] < 0:
            return f"-{name} * {self._size(-c)}"
        return f"{name} * {self._size(c)}"

    def _signed(self, c: int) -> str:
        key = provenance(c)
        if not literal(c) and len(key) == 1 and key[0][1] < 0:
            return f"-{self._size(-c)}"
        return self._size(c)

    def _index(self, ix: Index, block: Block) -> str:
        return self._affine(dict(ix.terms), ix.const, block)

    def _at(self, at: At, block: Block) -> str:
        parts: dict[Any, int] = {}
        const: int = 0
        step: int = 1
        if at.run is not None:
            parts["base"] = 0
        for ix, n in zip(reversed(at.index), reversed(at.shape)):
            for term, c in ix.terms:
                parts[term] = parts.get(term, 0) + c * step
                if term is at.run:
                    parts["base"] -= c * step
            const = const + ix.const * step
            step = step * n
        if at.buffer.per_chunk and not at.whole:
            parts["chunk"] = Size(at.buffer.size, ("area", at.buffer.name))
        return f"{self._buffer(at.buffer)}[{self._affine(parts, const, block)}]"

    def _conditions(self, tests: tuple[Condition, ...], block: Block) -> str:
        words = []
        if self.parted is not None:
            tests = tuple([c for c in tests if not parting(c, self.parted)])
        if not tests:
            return "True"
        for c in tests:
            text = self._index(c.index, block)
            words.append(f"{text} >= 0" if not c.step else f"index_mod({self._clamped(text)}, {self._size(c.step)}) == 0")
        return " and ".join(words) if len(words) == 1 else " and ".join([f"({w})" for w in words])

    def _clamped(self, text: str) -> str:
        return f"maximum_i64({text}, 0)"

    # ------------------------------------------------------------------ blocks
    def _uses(self, body: tuple[Any, ...]) -> dict[str, int]:
        """How often each name is used in a block; a use inside a loop counts as many."""
        uses: dict[str, int] = {}
        reads = self.read
        stack = [(body, 1)]
        while stack:
            statements, weight = stack.pop()
            for s in statements:
                if type(s) is Loop or type(s) is Run:
                    stack.append((s.body, 9))
                    continue
                read = reads.get(id(s))
                if read is None:
                    read = reads[id(s)] = names_read(s)
                for name in read:
                    uses[name] = uses.get(name, 0) + weight
        return uses

    def _flush(self, block: Block, indent: str, reading: str | None = None) -> None:
        """Write waiting values out as names: all of them, or those that read a buffer or register about to change."""
        for name, (text, reads) in list(block.waiting.items()):
            if reading is None or reading in reads:
                self.lines.append(f"{indent}{self._name(name)} = {text}")
                del block.waiting[name]

    def _let(self, s: Let, block: Block, indent: str) -> None:
        self.types[s.name] = s.dtype
        waiting, registers = block.waiting, self.registers
        found = [n for a in self.read[id(s)] if a in waiting for n in waiting[a][1]]
        if s.op == "load":
            found.append(s.params[0].buffer.name)
        found += [a for a in s.args if a.__class__ is str and a in registers]
        reads = frozenset(found)
        text = self._expression(s, block)
        if block.uses.get(s.name, 0) == 1 and len(text) < WIDTH - 30:
            block.waiting[s.name] = (text, reads)
        else:
            self.lines.append(f"{indent}{self._name(s.name)} = {text}")

    def _statement(self, s: Any, block: Block, indent: str) -> None:
        """A statement that is neither a `Let` nor a loop."""
        if isinstance(s, Init):
            self._flush(block, indent)
            self.types[s.name] = s.dtype
            self.registers.add(s.name)
            start = Const(s.dtype.number(identity(s.op, s.dtype)), s.dtype)
            self.lines.append(f"{indent}{self._name(s.name)} = {self._identity(start)}")
        elif isinstance(s, (Begin, Next)):
            value = self._operand(s.value, block)
            self._flush(block, indent, s.name)
            self.types[s.name] = s.dtype
            self.registers.add(s.name)
            self.lines.append(f"{indent}{self._name(s.name)} = {bare(value)}")
        elif isinstance(s, Accumulate):
            value = self._operand(s.value, block)
            self._flush(block, indent, s.name)
            name = self._name(s.name)
            self.lines.append(f"{indent}{name} = {self._accumulate(s.op, s.dtype, name, value)}")
        else:
            at, value = self._stored(s, block, indent)
            self.lines.append(f"{indent}{at} = {value}")

    def _stored(self, s: Store, block: Block, indent: str) -> tuple[str, str]:
        """The place of a store and what it gets, once nothing waits any more that reads the old value."""
        value = self._operand(s.value, block)
        at = self._at(s.at, block)
        self._flush(block, indent, s.at.buffer.name)
        if s.op is not None:
            d = s.at.buffer.dtype
            value = applied(BINARY[s.op], d, d, [at, value], (), self.integer)
        return at, bare(value)

    def _operand(self, a: Operand, block: Block) -> str:
        if a.__class__ is Const:
            return self._const(a)  # type: ignore[arg-type]
        if a in block.waiting:
            text, _ = block.waiting.pop(a)  # type: ignore[arg-type]
            return text if is_atom(text) else f"({text})"
        return self.names.get(a) or self._name(a)  # type: ignore[arg-type]

    def _identity(self, c: Const) -> str:
        """The start of an accumulator: always in the text."""
        if c.dtype.category in (BOOL, FLOAT) or abs(int(c.value)) <= 2:
            return self._const(c)
        return str(int(c.value)) if int(c.value) > -2 ** 63 else "-9223372036854775807 - 1"

    def _accumulate(self, op: str, d: DType, name: str, value: str) -> str:
        if d.category == FLOAT:
            return f"{BINARY[op]}_{d.code}({name}, {bare(value)})"
        return applied(BINARY[op], d, d, [name, value], (), self.integer)

    # ------------------------------------------------------------------ expressions
    def _expression(self, s: Let, block: Block) -> str:
        if s.op == "load":
            at, guard = s.params
            if not guard:
                return self._at(at, block)
            test = self._conditions(guard, block)
            if test == "True":
                return self._at(at, block)
            zero = self._const(Const(s.dtype.number(0), s.dtype))
            return f"({self._at(at, block)} if {test} else {zero})"
        if s.op == "index":
            return self._index(s.params[0], block)
        if s.op == "inside":
            return self._conditions(s.params, block)
        if s.op in ("index_div", "index_mod"):
            return f"{s.op}({self._index(s.params[0], block)}, {self._size(s.params[1])})"
        if s.op == "index_clamp":
            return self._clamped(self._index(s.params[0], block))
        of = s.args[1] if s.op == "where" else s.args[0]
        d = of.dtype if isinstance(of, Const) else self.types[of]
        return applied(s.op, d, s.dtype, [self._operand(a, block) for a in s.args], s.params, self.integer)


def applied(op: str, d: DType, out: DType, args: list[str], params: tuple[Any, ...], integer: str) -> str:
    """The text of an elementwise op over operands of dtype d."""
    if op == "where":
        return f"select({', '.join(map(bare, args))})"
    if op == "cast":
        return _cast(d, out, args[0])
    template, call, whole, words = _template(op, d, out, integer)
    if call:
        args = [bare(a) if whole or " else " not in a else a for a in args]
    if params:
        words = {**words, **{f"p{k}": p for k, p in enumerate(params)}}
    text = template.format(*args, **words)
    if d.category not in (BOOL, FLOAT) and d is not int64 and out is d and op in _WRAPPING:
        text = f"to_{d.code}({text})"
    return text


@lru_cache(maxsize=KEPT)
def _template(op: str, d: DType, out: DType, integer: str) -> tuple[str, bool, bool, dict[str, str]]:
    """The text of an op with places for its operands; is it one call?; are they its arguments as they are, not parts of them?;
    the words that dtypes put in."""
    special = (_BOOLS if d.category == BOOL else _FLOATS if d.category == FLOAT else _INTS).get(op)
    template = special or REGISTRY[op].emit
    floating = d.category == FLOAT
    zero, one = (f"{LITERALS[d.code]}({v}.0)" if floating else integer.format(v) for v in (0, 1))
    words = {"t": d.code if floating else "i64", "o": out.code, "z": zero, "u": one, "m": integer.format(-1)}
    whole = not re.search(r"[^( ]\{\d|[^,] \{\d|\d\}[^,)]", template)
    return template, is_atom(template.replace("{", "").replace("}", "")), whole, words


@lru_cache(maxsize=KEPT)
def is_atom(text: str) -> bool:
    """A name, a literal, or one call or subscript: needs no parentheses."""
    if text[0] == "(":
        return _closes(text) == len(text) - 1
    k = 0
    while k < len(text) and (text[k].isalnum() or text[k] in "_."):
        k += 1
    if k == len(text):
        return True
    return k > 0 and text[k] in "([" and _closes(text[k:]) == len(text) - k - 1


@lru_cache(maxsize=KEPT)
def bare(text: str) -> str:
    """Without the parentheses around all of it."""
    return text[1:-1] if text[0] == "(" and _closes(text) == len(text) - 1 else text


def _closes(text: str) -> int:
    """Where the bracket that opens the text is closed."""
    depth = 0
    for k, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if depth == 0:
            return k
    return -1


def _cast(d: DType, out: DType, a: str) -> str:
    word = out.code
    if d.category == BOOL and out.category == FLOAT:        # a masked addition follows: cheaper than a converted integer
        return f"select({bare(a)}, {LITERALS[word]}(1.0), {LITERALS[word]}(0.0))"
    if BOOL < out.category < FLOAT and d.category < FLOAT:
        if d.category == BOOL:
            word = "i64"
        elif np.iinfo(out.np).min <= np.iinfo(d.np).min and np.iinfo(d.np).max <= np.iinfo(out.np).max:
            return a                                        # all integers are 64 bits wide in a kernel
    return f"to_{word}({bare(a)})"


# Where the text of a primitive is not its `emit`: integers wrap at 64 bits by function, bools are logic.
_WRAPPING = {"add", "sub", "mul", "neg", "powi", "pow", "abs", "floor_divide", "trunc_divide", "bitwise_not"}
_INTS = {
    "add": "add_i64({0}, {1})", "sub": "sub_i64({0}, {1})", "mul": "mul_i64({0}, {1})", "neg": "neg_i64({0})",
    "bitwise_not": "~{0}", "relu": "select({0} <= {z}, {z}, {0})",
    "sign": "select({0} > {z}, {u}, select({0} < {z}, {m}, {z}))",
    "trunc_divide": "floordiv_i64(sub_i64({0}, fmod_i64({0}, {1})), {1})",
}
_FLOATS = {
    "relu": "select({0} <= {z}, {z}, {0})", "reciprocal": "{u} / {0}",
    "sign": "select({0} > {z}, {u}, select({0} < {z}, -{u}, select({0} == {z}, {z}, {0})))",
    "trunc_divide": "trunc_{t}({0} / {1})",
}
_BOOLS = {
    "add": "{0} | {1}", "mul": "{0} & {1}", "sub": "{0} ^ {1}", "maximum": "{0} | {1}", "minimum": "{0} & {1}",
    "bitwise_not": "not {0}", "eq": "not ({0} ^ {1})", "ne": "{0} ^ {1}", "lt": "(not {0}) & {1}", "le": "(not {0}) | {1}",
    "gt": "{0} & (not {1})", "ge": "{0} | (not {1})", "abs": "{0}", "sign": "{0}", "relu": "{0}", "powi": "{0}",
}
