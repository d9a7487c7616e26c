"""Who does what: the statements of a kernel with their loops dealt to threads, as data.

In: nothing but the records themselves.  Out: `Mapping`, which `mapping.py` makes and `emit.py` writes as text.

A *block* of threads holds one *owner* or several; an owner executes a chunk of the rows.  The threads of an owner go through
the statements together, so that values are the same in all of them, until a loop deals its turns: to the lanes of the owner,
or, a row each, to the *teams* that the owner consists of.  Inside of what is dealt to lanes every thread is on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...schedule.index import Range


@dataclass(slots=True)
class Deal:
    """A loop and who takes its turns.  by:

    turns    all threads all turns, together; of rows the owner takes every so manieth
    lanes    `lanes` threads one each, in `vector`s of neighbours
    teams    a row for each team of `lanes` threads

    `ranges`: loops whose points are dealt in the place of turns, the last of them from thread to thread.  `cut`: is it dealt
    among several blocks that share a chunk?"""

    range: Range
    body: tuple[Any, ...]
    by: str
    lanes: int = 1
    rows: bool = False                          # is it the chunk's part of the parallel range?
    vector: int = 1
    ranges: tuple[Range, ...] = ()
    cut: bool = False


@dataclass(slots=True)
class Single:
    """Stores and accumulations that one of `lanes` threads does."""

    body: tuple[Any, ...]
    lanes: int


@dataclass(slots=True)
class Combine:
    """The shares of `lanes` threads in an accumulator become their reduction, in all of them."""

    name: str
    op: str
    dtype: Any
    lanes: int


@dataclass(slots=True)
class Barrier:
    """What `lanes` threads stored before, all of them see after."""

    lanes: int


@dataclass(slots=True)
class Home:
    """Where an array of a chunk lies.  kind: shared (memory of the block) or area (global memory).  per: owner, team or
    thread, each of which has one; `copies` in a block."""

    kind: str
    per: str
    size: int
    copies: int


@dataclass(frozen=True, slots=True)
class Way:
    """The shape of a block: `threads`, of which `owner` execute a chunk, and `team` a row of it (the owner itself, or some)."""

    threads: int
    owner: int
    team: int

    @property
    def owners(self) -> int:
        return self.threads // self.owner


@dataclass(slots=True)
class Mapping:
    """How a kernel runs.  `grid`: rows go round over the owners, dealt in one way; else each owner has its part of them, from
    `lo` to `hi`.  `owners`: how many there are in the grid; `fixed`: the chunks, neither more nor less.  `slices`: how many
    blocks share one chunk and have nothing in common; 0 where a block has all of it."""

    way: Way
    body: tuple[Any, ...]
    homes: dict[str, Home]
    grid: bool
    owners: int
    fixed: bool
    wide: bool
    vector: list[str] = field(default_factory=list)
    slices: int = 0

    @property
    def blocks(self) -> int:
        return -(-self.owners // self.way.owners) * max(1, self.slices)
