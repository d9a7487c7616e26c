"""Memory as the lanes of the interpreter see it: bounds, first writes and races are watched, cell by cell.

In: indices and values of the lanes that run.  Out: the values, or a `KernelFault` that names what a GPU would have done
wrong in silence.  Never knows the text; `interpret.py` adds the line.

Two accesses of a cell by different threads, one of them a write, need an order: a block barrier between them (same block),
or a barrier of their warp.  Threads of different blocks have none within a launch.  A second write of the same value is let
through.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STORAGE: dict[str, str] = {"f32": "float32", "f64": "float64", "i64": "int64", "i32": "int32", "i16": "int16",
                           "i8": "int8", "u8": "uint8", "b1": "bool", "f16": "float16", "bf16": "uint16"}
"""Code of an element -> its dtype in NumPy; bf16 is held as its bits."""

CODES: dict[str, str] = {"f": "f32", "d": "f64", "l": "i64", "i": "ix", "q": "ix", "?": "b1", "e": "f16", "H": "bf16"}
"""Letter of a dtype -> type of a value.  64-bit indices are `longlong`, so that they are told from int64."""

_PYTHON: dict[type, str] = {int: "ix", bool: "b1", float: "f64"}

WARP = 32
FLOATING = ("f32", "f64", "b1", "f16", "bf16")
Mask = Any                                                 # None: all lanes run; or a bool a lane.  Never empty.


class KernelFault(RuntimeError):
    """A kernel did what no kernel may.  `kind`: bounds, misaligned, uninitialised, race, divergence, mask, type or language;
    `line` of the text, once it is known."""

    def __init__(self, kind: str, text: str, line: int = 0) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text, self.line = kind, text, line


def code(value: Any) -> str:
    """The type of a value: f32 f64 i64 ix b1 f16 bf16; an int of the text is ix."""
    found = CODES.get(value.dtype.char) if hasattr(value, "dtype") else _PYTHON.get(type(value))
    if found is None:
        raise KernelFault("type", f"kernels have no values of {getattr(value, 'dtype', type(value).__name__)}")
    return found


class Grid:
    """The lanes that run together: the threads of `count` blocks from `first` on, and how far each has come."""

    def __init__(self, first: int, count: int, threads: int, blocks: int, wide: bool) -> None:
        self.first, self.count, self.threads, self.blocks = first, count, threads, blocks
        self.lanes = count * threads
        self.integer: Any = np.longlong if wide else np.int32
        self.thread = np.tile(np.arange(threads, dtype=self.integer), count)
        self.local = np.repeat(np.arange(count), threads)  # block of each lane, counted from the first here
        self.names = np.arange(self.lanes, dtype=np.int32) + np.int32(first * threads)
        self.barriers = np.zeros(count, np.int32)          # block barriers passed, by block
        self.warps = np.zeros(self.lanes, np.int32)        # warp barriers passed, by lane
        self.widths = np.full(self.lanes, 1, np.int32)     # of the last one
        self.every = np.arange(self.lanes)

    def running(self, mask: Mask) -> np.ndarray:
        """Numbers of the lanes that run."""
        return self.every if mask is None else np.flatnonzero(mask)

    def who(self, lane: Any) -> str:
        """A lane in words."""
        return self.person(self.names[int(lane)])

    def person(self, name: int) -> str:
        """A thread of the whole grid in words."""
        return "block {}, thread {}".format(*divmod(int(name), self.threads))

    def ordered(self, lanes: np.ndarray, name: np.ndarray, barriers: np.ndarray, warps: np.ndarray) -> np.ndarray:
        """Did what thread `name` did come before what `lanes` do now, for sure?"""
        mine = self.names[lanes]
        block = self.local[lanes]
        same = name // self.threads == block + self.first
        width = self.widths[lanes]
        near = (name // width == mine // width) & (warps < self.warps[lanes])
        return (name == mine) | same & ((barriers < self.barriers[block]) | near)


class History:
    """Who wrote and who read each cell last, and when."""

    def __init__(self, size: int, reads: bool) -> None:
        self.writer = np.full(size, -1, np.int32)
        self.atomic = np.zeros(size, np.bool_)
        self.written = np.zeros((2, size), np.int32)       # barriers of the block, and of the warp, that the writer had passed
        self.reads = reads                                 # readers matter only where the kernel reads and writes
        if reads:
            self.reader = np.full(size, -1, np.int32)      # the last reader; `several` says whether it was not the only one
            self.several = np.zeros(size, np.int8)         # 0 one, 1 more of its warp, 2 more of its block, 3 of other blocks
            self.seen = np.zeros((2, size), np.int32)

    def after_writes(self, grid: Grid, cells: np.ndarray, lanes: np.ndarray, atomic: bool = False) -> np.ndarray:
        """Positions whose cell another thread wrote without an order since."""
        writer = self.writer[cells]
        late = writer >= 0
        if not late.any():
            return np.empty(0, np.intp)
        late &= ~grid.ordered(lanes, writer, self.written[0, cells], self.written[1, cells])
        if atomic:
            late &= ~self.atomic[cells]
        return np.flatnonzero(late)

    def _over(self, grid: Grid, cells: np.ndarray, lanes: np.ndarray) -> np.ndarray:
        """Came all reads of a cell before what a lane does now, by a barrier of the block or of the warp?"""
        reader, several, mine = self.reader[cells], self.several[cells], grid.names[lanes]
        same = (reader // grid.threads == mine // grid.threads) & (several < 3)
        width = np.where(several == 0, grid.widths[lanes], WARP)
        near = (reader // width == mine // width) & (several < 2) & (width <= grid.widths[lanes])
        out: np.ndarray = same & (self.seen[0, cells] < grid.barriers[grid.local[lanes]]) | near & (
            self.seen[1, cells] < grid.warps[lanes])
        return out

    def after_reads(self, grid: Grid, cells: np.ndarray, lanes: np.ndarray) -> np.ndarray:
        """Positions whose cell another thread read without an order since."""
        reader = self.reader[cells]
        late = reader >= 0
        if not late.any():
            return np.empty(0, np.intp)
        alone = (self.several[cells] == 0) & (reader == grid.names[lanes])
        return np.flatnonzero(late & ~(self._over(grid, cells, lanes) | alone))

    def write(self, grid: Grid, cells: np.ndarray, lanes: np.ndarray, atomic: bool = False) -> None:
        self.writer[cells] = grid.names[lanes]
        self.atomic[cells] = atomic
        self.written[0, cells] = grid.barriers[grid.local[lanes]]
        self.written[1, cells] = grid.warps[lanes]

    def read(self, grid: Grid, cells: np.ndarray, lanes: np.ndarray) -> None:
        mine = grid.names[lanes]
        now = grid.barriers[grid.local[lanes]]
        reader = self.reader[cells]
        block = mine // grid.threads
        fresh = (reader < 0) | self._over(grid, cells, lanes)
        old = np.where(fresh, mine, reader)
        self.reader[cells] = mine
        last = self.reader[cells]                          # one of those that read the cell in this very step
        level = np.where(fresh, 0, self.several[cells]).astype(np.int8)
        for other in (old, last):
            level = np.maximum(level, np.where(other == mine, 0, np.where(other // WARP == mine // WARP, 1, np.where(
                other // grid.threads == block, 2, 3)))).astype(np.int8)
        self.several[cells] = 0
        np.maximum.at(self.several, cells, level)
        self.seen[0, cells] = now
        self.seen[1, cells] = grid.warps[lanes]


class Cells:
    """A flat piece of memory of one type: global (the same for all), shared (one piece a block) or local (one a lane)."""

    def __init__(self, label: str, kind: str, name: str, data: np.ndarray, each: int, history: History | None,
                 watched: bool = False) -> None:
        self.label, self.kind, self.name, self.data, self.each, self.history = label, kind, name, data, each, history
        self.known = None if kind == "global" else np.zeros(data.size, np.bool_)
        self.watched = watched or kind != "global"
        self.value = name if name in FLOATING else "i64"

    def place(self, grid: Grid, index: Any, mask: Mask, width: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The running lanes and the cells they mean, checked."""
        kind = code(index)
        if kind != "ix":
            raise KernelFault("type", f"an index of {self.label} is an ix, not {kind}")
        lanes = grid.running(mask)
        if isinstance(index, np.ndarray):
            cells = index[lanes].astype(np.int64)
        else:
            cells = np.full(lanes.size, int(index), np.int64)
        self._bounds(grid, lanes, cells, width)
        if self.kind == "shared":
            cells += grid.local[lanes] * self.each
        elif self.kind == "local":
            cells += lanes * self.each
        return lanes, cells

    def _bounds(self, grid: Grid, lanes: np.ndarray, cells: np.ndarray, width: int) -> None:
        wrong = (cells < 0) | (cells > self.each - width)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            many = f" to {cells[at] + width - 1}" if width > 1 else ""
            raise KernelFault("bounds", f"{self.label} has {self.each} elements, index {cells[at]}{many} "
                                        f"({grid.who(lanes[at])})")

    # ------------------------------------------------------------------ reads
    def load(self, grid: Grid, index: Any, mask: Mask) -> Any:
        if not self.watched and not isinstance(index, np.ndarray):      # one value for all lanes
            lane = slice(0, 1) if mask is None else slice(at := int(mask.argmax()), at + 1)
            lanes = grid.every[lane]
            cells = np.full(1, int(index), np.int64)
            self._bounds(grid, lanes, cells, 1)
            return self.gathered(grid, lanes, cells)[0]
        lanes, cells = self.place(grid, index, mask)
        return spread(grid, lanes, self.gathered(grid, lanes, cells))

    def gathered(self, grid: Grid, lanes: np.ndarray, cells: np.ndarray) -> np.ndarray:
        self._initialised(grid, cells, lanes)
        if self.history is not None:
            late = self.history.after_writes(grid, cells, lanes)
            if late.size:
                self._race(grid, cells, lanes, int(late[0]), "reads", "written", self.history.writer)
            if self.history.reads:
                self.history.read(grid, cells, lanes)
        if self.name == "b1":
            raw = self.data.view(np.uint8)[cells]
            if (raw > 1).any():
                raise KernelFault("uninitialised", f"{self.label}[{cells[int(raw.argmax())] % self.each}] is no bool")
        values = self.data[cells]
        return values if self.name in FLOATING else values.astype(np.int64)

    def load_many(self, grid: Grid, index: Any, mask: Mask, width: int) -> tuple[Any, ...]:
        """`width` elements that follow one another, as one access of 16 bytes."""
        lanes, cells = self._aligned(grid, index, mask, width)
        return tuple([spread(grid, lanes, self.gathered(grid, lanes, cells + k)) for k in range(width)])

    # ------------------------------------------------------------------ writes
    def store(self, grid: Grid, index: Any, value: Any, mask: Mask) -> None:
        lanes, cells = self.place(grid, index, mask)
        self._scatter(grid, lanes, cells, value)

    def store_many(self, grid: Grid, index: Any, values: tuple[Any, ...], mask: Mask) -> None:
        lanes, cells = self._aligned(grid, index, mask, len(values))
        for k, value in enumerate(values):
            self._scatter(grid, lanes, cells + k, value)

    def _scatter(self, grid: Grid, lanes: np.ndarray, cells: np.ndarray, value: Any) -> None:
        kind = code(value)
        if kind != self.value:
            raise KernelFault("type", f"a store to {self.label} wants {self.value}, got {kind}")
        values = value[lanes] if isinstance(value, np.ndarray) else np.full(lanes.size, value)
        values = values.astype(self.data.dtype)            # narrow integers keep their low bits
        if self.known is not None:
            self.known[cells] = True
        h = self.history
        if h is None:
            self.data[cells] = values
            return
        late = h.after_writes(grid, cells, lanes)
        if late.size:
            late = late[_bits(self.data[cells[late]]) != _bits(values[late])]
            if late.size:
                self._race(grid, cells, lanes, int(late[0]), "writes another value than was", "written", h.writer)
        if h.reads:
            late = h.after_reads(grid, cells, lanes)
            if late.size:
                self._race(grid, cells, lanes, int(late[0]), "writes what was", "read", h.reader)
        h.write(grid, cells, lanes)
        self.data[cells] = values
        late = np.flatnonzero(_bits(self.data[cells]) != _bits(values))
        if late.size:
            self._race(grid, cells, lanes, int(late[0]), "writes another value than is at once", "written", h.writer)

    def atomic(self, grid: Grid, what: str, index: Any, value: Any, mask: Mask) -> Any:
        """Change in one piece (add, max, min) and give the old value, one lane after another."""
        lanes, cells = self.place(grid, index, mask)
        kind = code(value)
        if kind != self.value:
            raise KernelFault("type", f"an atomic of {self.label} wants {self.value}, got {kind}")
        values = value[lanes] if isinstance(value, np.ndarray) else np.full(lanes.size, value)
        values = values.astype(self.data.dtype)
        self._initialised(grid, cells, lanes)
        if self.history is not None:
            late = self.history.after_writes(grid, cells, lanes, atomic=True)
            if late.size:
                self._race(grid, cells, lanes, int(late[0]), "changes what was", "written", self.history.writer)
            self.history.write(grid, cells, lanes, atomic=True)
        old = np.empty(lanes.size, self.data.dtype)
        change = {"add": np.add, "max": np.maximum, "min": np.minimum}[what]
        for k, cell in enumerate(cells):
            old[k] = self.data[cell]
            self.data[cell] = change(old[k], values[k])
        return spread(grid, lanes, old if self.name in FLOATING else old.astype(np.int64))

    def forget(self, grid: Grid, blocks: np.ndarray) -> None:
        """What some blocks hold here was used by a word of its own, with barriers around."""
        if self.known is not None:
            self.known.reshape(-1, self.each)[blocks] = False

    # ------------------------------------------------------------------ faults
    def _aligned(self, grid: Grid, index: Any, mask: Mask, width: int) -> tuple[np.ndarray, np.ndarray]:
        lanes, cells = self.place(grid, index, mask, width)
        wrong = (self.data.ctypes.data + cells * self.data.itemsize) % 16
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise KernelFault("misaligned", f"16 bytes of {self.label} at element {cells[at]} ({grid.who(lanes[at])})")
        return lanes, cells

    def _initialised(self, grid: Grid, cells: np.ndarray, lanes: np.ndarray) -> None:
        if self.known is not None and not self.known[cells].all():
            at = int(np.flatnonzero(~self.known[cells])[0])
            raise KernelFault("uninitialised", f"{self.label}[{cells[at] % self.each}] is read before it is written "
                                               f"({grid.who(lanes[at])})")

    def _race(self, grid: Grid, cells: np.ndarray, lanes: np.ndarray, at: int, does: str, was: str,
              other: np.ndarray) -> None:
        cell = cells[at]
        raise KernelFault("race", f"{grid.who(lanes[at])} {does} {was} by {grid.person(other[cell])} with no barrier "
                                  f"between: {self.label}[{cell % self.each if self.kind == 'shared' else cell}]")


def spread(grid: Grid, lanes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of some lanes as a value of all; the others have 0."""
    if lanes.size == grid.lanes:
        return values
    out = np.zeros(grid.lanes, values.dtype)
    out[lanes] = values
    return out


def _bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"u{values.itemsize}")
