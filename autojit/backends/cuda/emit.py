"""Kernels as readable Python text in the device's language: one function of buffers, sizes and constants.

In: a `KernelStep`, mapped to threads by `mapping.py`.  Out: `Emitted`: the text, its parameters, its launch.  The text depends
on the kernel's structure and on how it was mapped, never on sizes that are parameters.  Indices are of a type of their own
(`ix`); data integers are int64 and never mix with them.  Decides nothing about threads, never compiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...dtypes import BOOL, FLOAT
from ...schedule.index import Range, provenance
from ...schedule.loops import At, Begin, Buffer, Condition, Const, Init, KernelStep, Let, Operand, Schedule, Store, names_read
from ..cpu.known import Look
from ..emitting import BINARY, LITERALS, Block, Writer, applied, bare
from .access import WORDS, Facts, moves
from .deals import Barrier, Combine, Deal, Home, Mapping, Single
from .emitted import Area, Emitted, Launches
from .mapping import mapped

INDICES = ("index_div", "index_mod", "index_clamp")
STEP = "    "
LIMIT = 500                        # kernels that are remembered


def launches(step: KernelStep, schedule: Schedule, k: int) -> Launches:
    """The one launch of a kernel step, and the memory of its scratch arrays; `k`, the step's number, makes their names."""
    look = Look(step.kernel)
    names = {name: f"b{n}" for n, name in enumerate(look.buffers)}
    shape = tuple([names.get(x, x) if x.__class__ is str else x for x in look.key[0]])
    buffers = tuple([(b.dtype, b.kind, b.size, b.per_chunk) for b in look.buffers.values()])
    key = (shape, look.key[1], tuple(look.atoms.values()), buffers, step.n, step.chunks)
    known = _KNOWN.get(key)
    if known is None:
        if len(_KNOWN) >= LIMIT:
            _KNOWN.clear()
        known = _KNOWN[key] = CudaWriter(step, mapped(step)).written(look)
    return known.launches(list(look.buffers), look.values, f"s{k}_")


def emit_step(step: KernelStep, schedule: Schedule, k: int = 0) -> Emitted:
    """The launch of a kernel step."""
    return launches(step, schedule, k).launches[0]


@dataclass(frozen=True, slots=True)
class Written:
    """A kernel without the names of its buffers and its numbers, which steps of the same sizes may differ in: `table` and
    `vector` count the buffers, `areas` are (buffer, code, size)."""

    text: str
    signature: tuple[str, ...]
    table: tuple[tuple[Any, ...], ...]
    mapping: Mapping
    vector: tuple[int, ...]
    areas: tuple[tuple[int, str, int], ...]

    def launches(self, buffers: list[str], values: list[Any], prefix: str) -> Launches:
        """The launch of a step that looks the same."""
        areas = [Area(f"{prefix}{buffers[n]}", code, size) for n, code, size in self.areas]
        for (n, _, _), area in zip(self.areas, areas):
            buffers[n] = area.name
        table = tuple([("buffer", buffers[e[1]]) if e[0] == "buffer" else ("const", *values[e[1]]) if e[0] == "const" else e
                       for e in self.table])
        m = self.mapping
        vector = tuple([buffers[n] for n in self.vector])
        return Launches((Emitted(self.text, self.signature, table, m.way.threads, m.blocks, m.wide, vector),), tuple(areas))


_KNOWN: dict[Any, Written] = {}


class CudaWriter(Writer):
    """Writes one kernel as it was mapped."""

    integer = "to_i64({})"

    def __init__(self, step: KernelStep, mapping: Mapping) -> None:
        super().__init__(step.kernel)
        self.mapping, self.way = mapping, mapping.way
        self.indices = {"chunk"}                           # names that are of the index type
        self.guards: dict[int, str] = {}                   # id of a load → the value that its conditions are
        self.pads: dict[str, str] = {}                     # dtype → shared memory for reductions
        self.shared: dict[str, str] = {}                   # scratch → its name, where it is shared memory
        self.head: list[str] = []                          # lines before the body
        self.used: set[str] = set()                        # "rows", "chunks", "chunk", "lane", "team", "part"
        self.alone = (0, "")                               # where the last lines of one thread end

    # ------------------------------------------------------------------ the function
    def written(self, look: Look) -> Written:
        guard = self.mapping.fixed and self.way.owner < self.way.threads
        if guard:
            self.used |= {"chunk", "chunks"}
        self._block(self.mapping.body, STEP * 2 if guard else STEP)
        lines = self._threads()
        if guard:
            lines.append(f"{STEP}if chunk < chunks:")
        number = {name: n for n, name in enumerate(look.buffers)}
        names, signature, table = self._parameters(number, look)
        text = "\n".join([f"def kernel({', '.join(names)}):", *self.head, *lines, *self.lines]) + "\n"
        areas = [(number[b.name], b.dtype.code, home.size * home.copies * self.mapping.blocks)
                 for b in self.views if (home := self.mapping.homes.get(b.name)) is not None]
        vector = tuple([number[name] for name in self.mapping.vector])
        return Written(text, tuple(signature), tuple(table), self.mapping, vector, tuple(areas))

    def _parameters(self, number: dict[str, int], look: Look) -> tuple[list[str], list[str], list[tuple[Any, ...]]]:
        """Names of the parameters, their types, and what is passed: buffers, sizes, constants, rows, chunks."""
        names = [f"x{k}" for k in range(len(self.views))]
        signature = [f"*{b.dtype.code}" for b in self.views]
        table: list[tuple[Any, ...]] = [("buffer", number[b.name]) for b in self.views]
        for kind in ("size", "const"):
            for (name, _), entry, origin in zip(self.slot_lines, self.slots, self.origins):
                if entry[0] == kind:
                    names.append(name)
                    table.append(entry if kind == "size" else ("const", look.consts[origin[1]]))
                    signature.append("ix" if kind == "size" else entry[2].code)
        for word in ("rows", "chunks"):
            if word in self.used:
                names.append(word)
                table.append((word,))
                signature.append("ix")
        return names, signature, table

    def _threads(self) -> list[str]:
        """The lines that say which thread this is, as far as the body asks."""
        way, out = self.way, []
        if "part" in self.used:
            self.used |= {"chunk", "rows"}
        if "lane" in self.used:
            out.append(f"lane = thread() % {way.team}")
        if "team" in self.used:
            out.append(f"team = thread() // {way.team}")
        if "slices" in self.used:
            out.append("slices = blocks() // chunks")
        if "chunk" in self.used and self.mapping.slices:
            out.append("chunk = block() // slices")
        elif "chunk" in self.used:
            own = "" if way.owner == way.threads else f" * {way.owners} + {self._unit(way.owner)}"
            out.append(f"chunk = block(){own}")
        if "part" in self.used:
            count = self._count()
            out.append(f"lo, hi = part_lo(rows, chunk, {count}), part_hi(rows, chunk, {count})")
        return [STEP + line for line in out]

    def _count(self) -> str:
        """How many owners there are."""
        if self.way.owner == self.way.threads and not self.mapping.slices:
            return "blocks()"
        if self.mapping.fixed:
            self.used.add("chunks")
            return "chunks"
        return f"(blocks() * {self.way.owners})"

    def _lane(self, width: int) -> str:
        """Which of `width` threads this is."""
        if width == self.way.threads:
            return "thread()"
        self.used.add("lane")
        return "lane"

    def _unit(self, width: int) -> str:
        """Which group of `width` threads of the block this is."""
        return f"thread() // {width}"

    # ------------------------------------------------------------------ blocks
    def _uses(self, body: tuple[Any, ...]) -> dict[str, int]:
        uses: dict[str, int] = {}
        self._guarded(body, uses)
        stack = [(body, 1)]
        while stack:
            statements, weight = stack.pop()
            for s in statements:
                if type(s) is Deal:
                    stack.append((s.body, 9))
                elif type(s) is Single:
                    stack.append((s.body, weight))
                elif type(s) is not Combine and type(s) is not Barrier:
                    if id(s) not in self.read:
                        self.read[id(s)] = names_read(s)
                    for name in self.read[id(s)]:
                        uses[name] = uses.get(name, 0) + weight
        return uses

    def _guarded(self, body: Sequence[Any], uses: dict[str, int]) -> None:
        """Which loads of a block have conditions that a value before them stands for."""
        known: dict[Any, str] = {}
        for s in body:
            if type(s) is Let and s.op == "inside":
                known[_origin(s.params)] = s.name
            elif type(s) is Let and s.op == "load" and s.params[1] and known:
                name = known.get(_origin(s.params[1]))
                if name is not None:
                    self.guards[id(s)] = name
                    uses[name] = uses.get(name, 0) + 1

    def _block(self, body: Sequence[Any], indent: str) -> None:
        block = Block(self._uses(tuple(body)))
        for s in body:
            if type(s) is Let:
                self._let(s, block, indent)
            elif type(s) is Deal:
                self._flush(block, indent)
                self._deal(s, indent)
            elif type(s) is Single:
                self._single(s, block, indent)
            elif type(s) is Combine:
                self._combine(s, indent)
            elif type(s) is Barrier:
                self._flush(block, indent)
                self.lines.append(f"{indent}sync()" if s.lanes > 32 else f"{indent}warp_sync({s.lanes})")
            else:
                self._statement(s, block, indent)
        self._flush(block, indent)

    def _single(self, s: Single, block: Block, indent: str) -> None:
        """Statements of one thread.  Values that others may need too are written before."""
        inside: list[str] = []
        for q in s.body:
            if type(q) is Store:
                at, value = self._stored(q, block, indent)
                inside.append(f"{indent}{STEP}{at} = {value}")
            else:
                value = self._operand(q.value, block)
                self._flush(block, indent, q.name)
                name = self._name(q.name)
                inside.append(f"{indent}{STEP}{name} = {self._accumulate(q.op, q.dtype, name, value)}")
        test = f"{indent}if {self._lane(s.lanes)} == 0:"
        self.lines += inside if self.alone == (len(self.lines), test) else [test, *inside]
        self.alone = (len(self.lines), test)

    def _combine(self, s: Combine, indent: str) -> None:
        """The word of a reduction; bools go through integers."""
        name, op, code = self._name(s.name), s.op, s.dtype.code
        value = name
        if s.dtype.category == BOOL:
            op, value = {"sum": "max", "prod": "min"}.get(op, op), f"to_i64({name})"
        if s.dtype.category != FLOAT:
            code = "i64"
        text = f"warp_{op}_{code}({value}, {s.lanes})"
        if s.lanes > 32:
            pad = self.pads.get(code)
            if pad is None:
                pad = self.pads[code] = f"p{len(self.pads)}"
                self.head.append(f"{STEP}{pad} = shared_{code}(32)")
            text = f"block_{op}_{code}({value}, {pad})"
        if s.dtype.category == BOOL:
            text += f" != {self.integer.format(0)}"
        elif s.dtype.category != FLOAT and code != s.dtype.code:
            text = f"to_{s.dtype.code}({text})"             # a narrow sum wraps
        self.lines.append(f"{indent}{name} = {text}")

    # ------------------------------------------------------------------ loops
    def _deal(self, s: Deal, indent: str) -> None:
        if s.ranges:
            self._points(s, indent)
            return
        if s.vector > 1:
            self._vector(s, indent)
        if s.vector == 1 or s.rows:
            start, step = self._share(s)
            if s.vector > 1:                                # what is left of a loop over rows
                start = f"rows // {s.vector} * {s.vector} + {start}"
            base, stop = self._span(s)
            if base:
                start = base if start == "0" else f"{base} + {start}"
            self._head(s.range, start, stop, step, indent)
            self._block(s.body, indent + STEP)

    def _head(self, r: Range, start: str, stop: str, step: str, indent: str) -> None:
        span = stop if start == "0" and step == "1" else f"{start}, {stop}" if step == "1" else f"{start}, {stop}, {step}"
        self.lines.append(f"{indent}for {self._loop(r)} in range({span}):")

    def _span(self, s: Deal) -> tuple[str, str]:
        """Where turns begin, if not at 0, and where they end."""
        if not s.rows:
            return "", self._size(s.range.extent)
        self.used.add("rows" if self.mapping.grid else "part")
        return ("", "rows") if self.mapping.grid else ("lo", "hi")

    def _share(self, s: Deal) -> tuple[str, str]:
        """The first of a thread's turns, and how far it is to the next."""
        who, of = "0", 1
        if s.by == "teams":
            self.used.add("team")
            who, of = "team", self.way.owner // self.way.team
        elif s.by == "lanes":
            who, of = self._lane(s.lanes), s.lanes
        if s.cut:
            block, blocks = "block()", "blocks()"
            if self.kernel.parallel is not None:
                self.used |= {"slices", "chunks"}
                block, blocks = "block() % slices", "slices"
            return (block, blocks) if of == 1 else (f"{block} * {of} + {who}", f"{blocks} * {of}")
        if not (s.rows and self.mapping.grid):
            return who, str(of)
        owner, count = "block()", self._count()
        if count != "blocks()":
            self.used.add("chunk")
            owner = "chunk"
        return (owner, bare(count)) if of == 1 else (f"{owner} * {of} + {who}", f"{count} * {of}")

    def _points(self, s: Deal, indent: str) -> None:
        """The points of several loops; the last of these goes from thread to thread."""
        start, step = self._share(s)
        counts = {r: self._size(r.extent) for r in s.ranges if r is not s.range or not s.rows}
        first = ""
        if s.rows:
            lo, hi = self._span(s)
            counts[s.range], first = (f"({hi} - {lo})", f"{lo} + ") if lo else (hi, "")
        rest = self._point()
        before = {r: self._loop(r) for r in s.ranges}
        names = {r: f"{name}_{rest[5:]}" for r, name in before.items()}    # loops elsewhere keep theirs for themselves
        total = " * ".join([counts[r] for r in s.ranges])
        self.lines.append(f"{indent}for {rest} in range({start}, {total}, {step}):")
        below = indent + STEP
        for k in range(len(s.ranges) - 1, 0, -1):
            r = s.ranges[k]
            lo = first if r is s.range else ""
            self.lines.append(f"{below}{names[r]} = {lo}index_mod({rest}, {counts[r]})")
            left = f"index_div({rest}, {counts[r]})"
            if k > 1:
                rest = self._point()
                self.lines.append(f"{below}{rest} = {left}")
            else:
                r = s.ranges[0]
                self.lines.append(f"{below}{names[r]} = {first if r is s.range else ''}{left}")
        self.loops.update(names)
        self._block(s.body, below)
        self.loops.update(before)

    def _point(self) -> str:
        k = self.counts["point"] = self.counts.get("point", 0) + 1
        return f"point{k}"

    # ------------------------------------------------------------------ vectors
    def _vector(self, s: Deal, indent: str) -> None:
        """A loop whose turns take neighbours: their loads first, then each of them, then their stores."""
        width, r = s.vector, s.range
        start, step = self._share(s)
        if s.rows:
            self.used.add("rows")
            self._head(r, f"({start}) * {width}", f"rows - {width - 1}", f"{step} * {width}", indent)
        else:
            start, step = (f"({start})", f"{step} * {width}") if s.cut else (start, str(s.lanes * width))
            self._head(r, f"{start} * {width}", self._size(r.extent), step, indent)
        below, name = indent + STEP, self._loop(r)
        facts = Facts(s.body)
        loaded: dict[Any, list[str]] = {}                  # by the name of a value, or the store that adds to it
        for q in s.body:
            if type(q) is Let and q.op == "load" and moves(q.params[0], r, facts):
                self.types[q.name] = q.dtype
                loaded[q.name] = self._loads(q.params[0], width, below)
            elif type(q) is Store and q.op is not None:
                loaded[id(q)] = self._loads(q.at, width, below)
        values: dict[int, list[str]] = {}
        inner = [q.name for q in s.body if isinstance(q, (Let, Init, Begin))]
        for v in range(width):
            for n in inner:
                self.names.pop(n, None)
            self.names.update({n: names[v] for n, names in loaded.items() if type(n) is str})
            self.loops[r] = f"({name} + {v})" if v else name
            self._turn(s, loaded, values, below)
        self.loops[r] = name
        for n in inner:
            self.names.pop(n, None)
        for q in s.body:
            if type(q) is Store:
                self._stores(q, values[id(q)], below)

    def _turn(self, s: Deal, loaded: dict[Any, list[str]], values: dict[int, list[str]], indent: str) -> None:
        """One of the neighbours; what it stores is kept in a name."""
        block = Block(self._uses(s.body))
        for q in s.body:
            if type(q) is Let and q.name in loaded:
                continue
            if type(q) is Let:
                self._let(q, block, indent)
            elif type(q) is Store:
                value = self._operand(q.value, block)
                if q.op is not None:
                    old, d = loaded[id(q)][len(values.get(id(q), ()))], q.at.buffer.dtype
                    value = applied(BINARY[q.op], d, d, [old, value], (), self.integer)
                if not (value.isidentifier() or type(q.value) is Const and q.op is None):
                    k = self.counts["y"] = self.counts.get("y", 0) + 1
                    self.lines.append(f"{indent}y{k} = {bare(value)}")
                    value = f"y{k}"
                values.setdefault(id(q), []).append(value)
            else:
                self._statement(q, block, indent)
        self._flush(block, indent)

    def _loads(self, at: At, width: int, indent: str) -> list[str]:
        """The vector loads of one place; the names of its elements."""
        code = at.buffer.dtype.code
        names = []
        for _ in range(width):
            k = self.counts["t"] = self.counts.get("t", 0) + 1
            names.append(f"t{k}")
        buffer, index = self._at(at, Block({})).split("[", 1)
        few = WORDS[code]
        for k in range(0, width, few):
            part = ", ".join(names[k:k + few])
            place = bare(index[:-1]) + (f" + {k}" if k else "")
            self.lines.append(f"{indent}{part} = load{few}_{code}({buffer}, {place})")
        return names

    def _stores(self, q: Store, values: list[str], indent: str) -> None:
        code = q.at.buffer.dtype.code
        buffer, index = self._at(q.at, Block({})).split("[", 1)
        few = WORDS[code]
        for k in range(0, len(values), few):
            place = index[:-1] + (f" + {k}" if k else "")
            self.lines.append(f"{indent}store{few}_{code}({buffer}, {place}, {', '.join(values[k:k + few])})")

    # ------------------------------------------------------------------ places
    def _at(self, at: At, block: Block) -> str:
        home = self.mapping.homes.get(at.buffer.name)
        if home is None:
            if at.buffer.per_chunk and not at.whole:
                self.used.add("chunk")
            return super()._at(at, block)
        inner = super()._at(At(self._flat(at.buffer), at.index, at.shape), block)
        name, index = inner.split("[", 1)
        return f"{name}[{self._housed(at.buffer, home, index[:-1])}]"

    def _flat(self, b: Buffer) -> Buffer:
        return Buffer(b.name, b.kind, b.dtype, b.size)

    def _housed(self, b: Buffer, home: Home, index: str) -> str:
        """The index in an array of which a block has copies."""
        way = self.way
        if home.per == "thread":
            return f"({index}) * {way.threads} + thread()"
        if home.kind == "shared":
            if home.copies == 1:
                return index
            return f"{self._unit(way.owner if home.per == 'owner' else way.team)} * {home.size} + {index}"
        if self.kernel.parallel is None:
            return index                                    # there is but one owner
        size = self._slot((((("area", b.name),), 1),), self.sizes, "n", "size", ("size", home.size))
        if home.per == "owner":
            self.used.add("chunk")
            return f"chunk * {size} + {index}"
        return f"(block() * {home.copies} + {self._unit(way.team)}) * {size} + {index}"

    def _buffer(self, b: Buffer) -> str:
        home = self.mapping.homes.get(b.name)
        if home is None or home.kind == "area":
            return super()._buffer(b)
        name = self.shared.get(b.name)
        if name is None:
            name = self.shared[b.name] = f"s{len(self.shared)}"
            self.head.append(f"{STEP}{name} = shared_{b.dtype.code}({home.size * home.copies})")
        return name

    # ------------------------------------------------------------------ words
    def _term(self, name: str, block: Block) -> str:
        text = super()._operand(name, block)
        return text if name in self.indices else f"to_ix({bare(text)})"

    def _operand(self, a: Operand, block: Block) -> str:
        text = super()._operand(a, block)
        return f"to_i64({bare(text)})" if a in self.indices else text

    def _clamped(self, text: str) -> str:
        return f"index_clamp({text})"

    def _const(self, c: Const) -> str:
        if c.dtype.category == FLOAT and c.dtype.code not in LITERALS:
            return f"to_{c.dtype.code}(f4({float(c.value)}))"
        return super()._const(c)

    def _identity(self, c: Const) -> str:
        if c.dtype.category in (BOOL, FLOAT) or abs(int(c.value)) <= 2:
            return self._const(c)
        text = super()._identity(c)
        return self.integer.format(text)

    def _expression(self, s: Let, block: Block) -> str:
        if id(s) in self.guards:
            test = self._operand(self.guards[id(s)], block)
            return f"({self._at(s.params[0], block)} if {test} else {self._const(Const(s.dtype.number(0), s.dtype))})"
        text = super()._expression(s, block)
        if s.op in INDICES:
            self.indices.add(s.name)
        return f"to_i64({bare(text)})" if s.op == "index" else text


def _origin(conditions: Sequence[Condition]) -> Any:
    """Conditions by where their numbers come from: equal only if they are so for all sizes."""
    return tuple([(provenance(c.step), provenance(c.index.const), tuple([(t, provenance(k)) for t, k in c.index.terms]))
                  for c in conditions])
