"""Calls of LAPACK's functions from a kernel's text.

In: names of functions and arguments as they stand in a text.  Out: lines.  Fortran takes everything by address: integers and
letters stand in memory that a chunk has for itself.  Matrices lie by columns there: ours, by rows, are their transposes.
Where a function is missing the kernel refuses, and NumPy runs the operation.  Never looks for a library but for the width of
its integers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ....dtypes import DType, float64, int32, int64
from .. import libraries
from . import Form, placed

WORDS = 48                         # int64 of a chunk, and room for another's cache lines
INFO = "info"                      # as an argument: where the function says what went wrong


_here = threading.local()          # .narrow, in a thread inside of `narrow`


@contextmanager
def narrow() -> Iterator[None]:
    """What is made meanwhile is for a library whose integers have 32 bits: SciPy's."""
    _here.narrow = True
    try:
        yield
    finally:
        _here.narrow = False


def whole() -> DType:
    """The type of LAPACK's integers in memory."""
    found = libraries.find()
    return int32 if getattr(_here, "narrow", False) or found is not None and found.integers == 32 else int64


def precise(dtype: DType) -> str:
    """The letter of LAPACK's names for a type."""
    return "d" if dtype is float64 else "s"


class Calls:
    """The functions that one kernel calls, and the integers and letters it hands them."""

    def __init__(self, f: Form, chunks: int) -> None:
        self.f, self.chunks = f, chunks
        self.functions: dict[str, tuple[Any, ...]] = {}
        self.words: dict[str, int] = {}
        self.before: list[str] = []                        # lines that say what integers are which no size is
        f.room("ints", int64, max(WORDS * chunks, f.scratch.get("ints", (int64, 0))[1]))     # of all kernels of a form

    def line(self, name: str, *arguments: str, own: str = "") -> str:
        """A call.  arguments: 'L' in quotes: a letter; &x[i]: the place of an element; info; else the text of an integer,
        which is read once, before the rows (`own`: one that changes from call to call is stored first)."""
        self.functions[name] = ("function", name)
        letters = sum([a.startswith("'") for a in arguments])
        words = [self._word(a) for a in arguments] + ["1"] * letters
        return f"{own}call({name}, {', '.join(words)})"

    def _word(self, a: str) -> str:
        if a.startswith("&"):
            view, _, place = a[1:].partition("[")
            return f"address({view}, {place.removesuffix(']')})"
        if a == INFO:
            return "address(ints, own)"
        text = str(ord(a[1])) if a.startswith("'") else a
        return f"address(ints, own + {self.words.setdefault(text, len(self.words) + 1)})"

    def kernel(self, body: str, buffers: Mapping[str, str], sizes: Mapping[str, int], n: int,
               writes: Sequence[str] = ("out",), numbers: Mapping[str, tuple[Any, ...]] | None = None) -> None:
        """The kernel: body, its lines as for ``Form.kernel``, sets `bad` where it refuses."""
        assert len(self.words) < WORDS - 16
        lines = ["    bad = False", *self.before]
        if self.functions:
            lines += [f"    own = chunk * {WORDS}", "    ints[own] = 0"]        # of 32 bits, the high ones stay so
            lines += [f"    ints[own + {k}] = {text}" for text, k in self.words.items()]
            lines.append(f"    if {' or '.join(f'{name} < 1' for name in self.functions)}:\n        bad = True\n    else:")
            body = placed(body, 4)
            buffers, writes = {**buffers, "ints": "ints"}, (*writes, "ints")
        lines += [body.strip("\n"), "    if bad:\n        refuse()"]
        self.f.kernel("\n".join(lines), buffers, sizes, n, self.chunks, writes, {**(numbers or {}), **self.functions})


# ------------------------------------------------------------------------------------------------ matrices
TILE = 8


def turned(to: str, at: str, source: str, start: str, rows: str, columns: str, word: str = "{}", indent: int = 8) -> str:
    """Lines that store a matrix of `rows` by `columns` from source[start:] by columns at to[at:]; word: what becomes of an
    element."""
    lines = [f"for tile in range(0, {columns}, {TILE}):",
             f"    for i in range({rows}):",
             f"        for j in range(tile, minimum_i64({columns}, tile + {TILE})):",
             f"            {to}[{at} + j * {rows} + i] = " + word.format(f"{source}[{start} + i * {columns} + j]")]
    return placed("\n".join(lines), indent)


def copied(to: str, at: str, source: str, start: str, n: str, word: str = "{}", indent: int = 8) -> str:
    """Lines that copy n elements."""
    return placed(f"for j in range({n}):\n    {to}[{at} + j] = " + word.format(f"{source}[{start} + j]"), indent)
