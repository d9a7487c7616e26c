"""What kernels written by hand are made with: parameters by first use, words by dtype, launches.

In: buffers, sizes, lines of the kernel language.  Out: `Emitted`.  Texts depend on structure (dtypes, ranks, threads) alone:
every size is a parameter.  Never knows which step a kernel is for.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...dtypes import BOOL, FLOAT, DType, int32, int64
from ...schedule.cost import MULTIPROCESSORS
from ...schedule.loops import Schedule
from .emitted import Area, Emitted, Launches

MANY = MULTIPROCESSORS * 16                    # blocks of a grid whose threads take turns, at most
THREADS = 256
FAR = 1 << 30                      # elements from which indices have 64 bits: a turn's next index must still be one
WIDE = 1 << 31                     # places that no longer fit 32 bits


class Source:
    """Memory that a kernel reads or writes: its name, the dtype of its elements, how many there are."""

    __slots__ = ("name", "dtype", "size")

    def __init__(self, name: str, dtype: DType, size: int) -> None:
        self.name, self.dtype, self.size = name, dtype, size


class Writer:
    """The launches of one step and the areas that they share.  `prefix` keeps the areas' names apart from other steps'."""

    def __init__(self, schedule: Schedule, prefix: str) -> None:
        self.schedule, self.prefix = schedule, prefix
        self.launches: list[Emitted] = []
        self.areas: list[Area] = []

    def buffer(self, name: str) -> Source:
        b = self.schedule.buffers[name]
        return Source(name, b.dtype, b.size)

    def area(self, what: str, dtype: DType, size: int) -> Source:
        name = f"{self.prefix}{what}{len(self.areas)}"
        self.areas.append(Area(name, dtype.code, size))
        return Source(name, dtype, size)

    def done(self) -> Launches:
        return Launches(tuple(self.launches), tuple(self.areas))


class Text:
    """One kernel in the making.  Lines name its parameters as `at` and `size` return them."""

    def __init__(self, writer: Writer, threads: int = THREADS) -> None:
        self.writer, self.threads = writer, threads
        self.buffers: dict[str, tuple[str, Source]] = {}
        self.sizes: list[int] = []
        self.roles: dict[str, str] = {}
        self.lines: list[str] = []
        self.depth = 1

    def at(self, source: Source) -> str:
        found = self.buffers.get(source.name)
        if found is None:
            found = self.buffers[source.name] = f"x{len(self.buffers)}", source
        return found[0]

    def size(self, n: int, role: str) -> str:
        """The parameter for a size: one for each role, whatever its number."""
        found = self.roles.get(role)
        if found is None:
            found = self.roles[role] = f"n{len(self.sizes)}"
            self.sizes.append(int(n))
        return found

    def add(self, *lines: str) -> None:
        """Lines at the current depth; those that begin with spaces lie deeper."""
        self.lines += ["    " * self.depth + line for line in lines]

    def turns(self, name: str, total: int) -> None:
        """A loop over all of `total`, dealt to the threads of the grid; what is added from here on stands in it."""
        first, step = f"block() * {self.threads} + thread()", f"blocks() * {self.threads}"
        self.add(f"for {name} in range({first}, {self.size(total, 'turns')}, {step}):")
        self.depth += 1

    def launch(self, blocks: int) -> None:
        names = [name for name, _ in self.buffers.values()] + [f"n{k}" for k in range(len(self.sizes))]
        head = f"def kernel({', '.join(names)}):"
        signature = [f"*{s.dtype.code}" for _, s in self.buffers.values()] + ["ix"] * len(self.sizes)
        table = [("buffer", s.name) for _, s in self.buffers.values()] + [("size", n) for n in self.sizes]
        wide = max([s.size for _, s in self.buffers.values()] + self.sizes) >= FAR
        self.writer.launches.append(Emitted("\n".join([head, *self.lines]) + "\n", tuple(signature), tuple(table), self.threads,
                                            blocks, wide))

    def over(self, total: int) -> None:
        """Launch a grid whose threads take turns over `total`."""
        self.launch(min(-(-total // self.threads), MANY))


# ------------------------------------------------------------------------------------------------ words by dtype
def value_dtype(d: DType) -> DType:
    """The dtype of a number of d in a kernel: integers are 64 bits wide."""
    return d if d.category in (BOOL, FLOAT) else int64


def number(value: float | int, d: DType) -> str:
    """A number as the text of a literal."""
    if d.category == FLOAT:
        word = "f8" if d.code == "f64" else "f4"
        return f"{word}({float(value)})"
    if d.category == BOOL:
        return str(bool(value))
    least = value == -2 ** 63
    return f"(to_i64({-2 ** 63 + 1}) - to_i64(1))" if least else f"to_i64({int(value)})"


def added(d: DType, a: str, b: str) -> str:
    return f"{a} | {b}" if d.category == BOOL else f"add_{value_dtype(d).code}({a}, {b})"


def multiplied(d: DType, a: str, b: str) -> str:
    return f"{a} & {b}" if d.category == BOOL else f"mul_{value_dtype(d).code}({a}, {b})"


def whole(d: DType, text: str) -> str:
    """A loaded value as a number: bools as integers."""
    return f"to_i64({text})" if d.category == BOOL else text


def places_dtype(count: int) -> DType:
    """The dtype of places below `count` in memory."""
    return int32 if count < WIDE else int64


def product(ns: Iterable[int]) -> int:
    out = 1
    for n in ns:
        out *= int(n)
    return out
