"""What a kernel of the device is before it is compiled: a text, its parameters and its launch.

In: nothing; the makers are `emit.py` (kernels of the loop IR) and `steps.py` (steps that have kernels written by hand).
Out: records that the compiler, the interpreter and the program read.  Never builds or runs one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Emitted:
    """One launch.  `table` and `signature` go parameter by parameter: ("buffer", name) with "*f32" and its like (a pointer to
    elements of the dtype's code), ("size", int) with "ix", ("const", value, dtype) with the dtype's code, ("rows",) and
    ("chunks",) with "ix".

    `blocks`: the grid for the sizes that the launch was made for; nothing but these and `table` changes with sizes, so plans
    for other sizes share the compiled text."""

    text: str                                   # one function named `kernel`
    signature: tuple[str, ...]
    table: tuple[tuple[Any, ...], ...]
    threads: int                                # in a block: a multiple of 32, at most 1024
    blocks: int
    wide: bool = False                          # indices have 64 bits
    vector: tuple[str, ...] = ()                # buffers that must be aligned to 16 bytes for this text


@dataclass(frozen=True, slots=True)
class Area:
    """Memory that the launches of one step share, by a name that stands in their tables; the step's alone, so it lives from
    its first launch to its last.  `code`: of its elements ("f32", "i32", ...)."""

    name: str
    code: str
    size: int


@dataclass(frozen=True, slots=True)
class Launches:
    """A step as kernels, launched in order on one stream; each sees what those before it wrote."""

    launches: tuple[Emitted, ...]
    areas: tuple[Area, ...] = ()
