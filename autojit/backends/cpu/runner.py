"""Plans: what one native call runs, written word by word.

In: arguments, arenas, constants and steps, declared in order.  Out: a ``NativePlan``, one int64 array whose address
goes to ``runtime().run``.  Never computes anything itself, never looks at a buffer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import blas
from .runtime import ARGUMENT_WORDS, BUSY, HEADER_WORDS, MAGIC, OK, runtime
from .steps import BRANCH, COPY, GEMM, KERNEL, LOOP, LOOP_WORDS, TAPE


class Slot:
    """A place in memory that steps and tables name before its address is known: ``slot + bytes`` is another.

    Made by ``PlanBuilder`` only.  ``owner`` says whose address counts: an argument's, an arena's, the plan's own, that of
    its steps, a tape, what moves from turn to turn of a loop, or None for a plain address.
    """

    __slots__ = ("owner", "index", "offset")

    def __init__(self, owner: str | None, index: int, offset: int) -> None:
        self.owner, self.index, self.offset = owner, index, offset

    def __add__(self, offset: int) -> Slot:
        return Slot(self.owner, self.index, self.offset + int(offset))

    def __repr__(self) -> str:
        return f"Slot({self.owner or 'fixed'} {self.index} + {self.offset})"


Word = int | Slot


class PlanBuilder:
    """Writes a plan: declare arguments, arenas and constants, then steps in the order they shall run.

    Wherever a step wants an address it takes a ``Slot`` or a plain int.

    >>> made = PlanBuilder()
    >>> a, b, c = made.argument(), made.argument(), made.argument()
    >>> made.gemm("f64", 1, 1, 2, a, b, c)
    >>> plan = made.build()
    >>> x, y, z = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.zeros(1)
    >>> plan.run(x, y, z), float(z[0])
    (0, 11.0)
    """

    __slots__ = ("_arguments", "_arenas", "_keep", "_data", "_steps", "_names", "_products", "_moving")

    def __init__(self) -> None:
        self._arguments = 0
        self._arenas: list[tuple[int, int]] = []        # bytes, alignment
        self._keep: list[object] = []
        self._data: list[Word] = []
        self._steps: list[list[Word]] = []
        self._names: list[str] = []
        self._products = False
        self._moving: list[tuple[Word, ...]] = []

    # ---- memory

    def argument(self) -> Slot:
        """The next external argument: the address of a buffer."""
        self._arguments += 1
        return Slot("argument", self._arguments - 1, 0)

    def arena(self, nbytes: int, align: int = 64) -> Slot:
        """Scratch memory of the plan's own, not initialised; a clone of the plan gets another."""
        if align & (align - 1) or align < 1:
            raise ValueError(f"alignment must be a power of two, not {align}")
        self._arenas.append((int(nbytes), align))
        return Slot("arena", len(self._arenas) - 1, 0)

    def constant(self, address: int, keep: object = None) -> Slot:
        """Memory at a fixed address; ``keep`` lives as long as the plan."""
        self._keep.append(keep)
        return Slot(None, 0, int(address))

    def table(self, words: Sequence[Word]) -> Slot:
        """A table of int64 words inside the plan: kernel arguments, sizes, addresses."""
        at = Slot("plan", 0, 8 * len(self._data))
        self._data.extend(words)
        return at

    # ---- steps

    def kernel(self, function: int, args: Word, n: int, chunks: int = 1, align: int = 1,
               name: str = "kernel", blas: bool = False) -> None:
        """Call ``i32 function(ret, exc, args, lo, hi, chunk)`` on [0, n) in ``chunks`` parts, which the pool runs.

        Part c is [n*c // chunks, n*(c+1) // chunks), both ends rounded down to a multiple of ``align`` (a power of
        two); it may be empty and is called even so.  A status other than 0 ends the plan.  ``blas``: it calls BLAS.
        """
        if chunks < 1 or n < 0 or align < 1 or align & (align - 1):
            raise ValueError(f"a kernel over {n} in {chunks} chunks aligned to {align}")
        self._products |= blas
        self._step(name, KERNEL, [int(function), args, int(n), int(chunks), -int(align)])

    def gemm(self, dtype: str, m: int, n: int, k: int, a: Word, b: Word, c: Word, *, trans_a: bool = False,
             trans_b: bool = False, lda: int | None = None, ldb: int | None = None, ldc: int | None = None,
             batch: int = 1, stride_a: int = 0, stride_b: int = 0, stride_c: int = 0, alpha: float = 1.0,
             beta: float = 0.0, outer: tuple[int, int, int, int] = (1, 0, 0, 0), split: blas.Split | None = None) -> None:
        """Row-major C = alpha op(A) op(B) + beta C, ``batch`` times; all that ``outer[0]`` times, the other three elements
        of ``outer`` apart.

        op(A) is m by k, op(B) k by n.  Strides and leading dimensions count elements; a leading dimension left out
        is that of a contiguous matrix.  With beta 0 what C held does not matter, NaN included.  ``split`` overrides
        ``blas.choose``.  ValueError for a leading dimension shorter than a row.
        """
        if dtype not in ("f32", "f64"):
            raise ValueError(f"a product is of f32 or f64, not {dtype!r}")
        widths = (m if trans_a else k, k if trans_b else n, n)
        lda, ldb, ldc = (max(1, width) if given is None else given
                         for given, width in zip((lda, ldb, ldc), widths, strict=True))
        total = batch * outer[0]
        if 0 in (m, n, total):
            return
        if min(m, n, k, total) < 0 or any(ld < max(1, w) for ld, w in zip((lda, ldb, ldc), widths, strict=True)):
            raise ValueError(f"a product of {m}x{n}x{k} with leading dimensions {lda}, {ldb}, {ldc}")
        shape = blas.Shape(dtype, m, n, k, total, trans_a, trans_b, lda, ldb, ldc)
        if split is None:
            split = blas.choose(shape, runtime().pool.num_threads)
        self._products = True
        self._step("gemm", GEMM, [
            split.axis, split.chunks, -split.align, *blas.routine(shape), int(trans_a), int(trans_b),
            m, n, k, a, lda, b, ldb, c, ldc, total, stride_a, stride_b, stride_c, _bits(alpha), _bits(beta),
            4 if dtype == "f32" else 8, max(1, batch), *outer[1:]])

    def moving(self, first: Word, step: int) -> Slot:
        """An address in the steps of the next loop: `first` in the first turn, `step` bytes on in each later one."""
        self._moving.append((first, int(step)))
        return Slot("moving", len(self._moving) - 1, 0)

    def turning(self, first: Word, odd: Word, even: Word) -> Slot:
        """An address in the steps of the next loop: `first` in turn 0, then `odd` in turns 1, 3, ... and `even` in 2, 4, ..."""
        self._moving.append((first, odd, even))
        return Slot("moving", len(self._moving) - 1, 0)

    def loop(self, count: int | Slot, moving: Sequence[Slot], body: Callable[[], None],
             test: tuple[Word, Callable[[], None]] | None = None, end: Callable[[], None] = lambda: None) -> None:
        """`count` times (a Slot: as often as the int64 there says) the steps that `body()` declares; `moving`: what changes
        from turn to turn of this loop.  With `test` = (flag, steps): before each turn the steps of `steps()`, and no turn if
        then the byte at `flag` is 0.  The steps of `end()` are the last; what moves stands there as for one more turn."""
        at, data = self._open("loop", LOOP_WORDS)
        words_of: list[Word] = []
        for part in (test[1] if test is not None else lambda: None, end):
            before = len(self._steps)
            part()
            words_of.append(sum([len(s) for s in self._steps[before:]]))
        body()
        mine = {s.index for s in moving}
        tables: tuple[list[Word], list[Word]] = [], []
        for words, k, place in self._words(at, data):
            word = words[k]
            if isinstance(word, Slot) and word.owner == "moving" and word.index in mine:
                first, *more = self._moving[word.index]
                words[k] = _later(first, word.offset)
                if len(more) == 1:
                    tables[0].extend([place, words[k], more[0]])
                else:
                    tables[1].extend([place, words[k], *[_later(m, word.offset) for m in more]])
        ends: list[Word] = []
        for table in tables:
            start = self.table(table)
            ends += [start, start + 8 * len(table)]
        fixed, stored = (0, count) if isinstance(count, Slot) else (int(count), 0)
        self._close(at, [fixed, *ends, test[0] if test is not None else 0, *words_of, stored], LOOP)

    def taped(self, offset: int, back: int = 0) -> Slot:
        """An address in the steps of the next tape: `offset` bytes in, and `back` bytes on for each turn but the first."""
        return Slot("tape", back, offset)

    def tape(self, turns: Word, record: int, body: Callable[[], None]) -> None:
        """The steps that `body()` declares, with memory of `record` bytes for each of the turns that the int64 at `turns`
        counts; the plan ends with NO_MEMORY if there is none."""
        at, data = self._open("tape", 5)
        body()
        words: list[Word] = []
        for within, k, place in self._words(at, data):
            word = within[k]
            if isinstance(word, Slot) and word.owner == "tape":
                within[k] = 0
                words += [place, word.offset, word.index]
        start = self.table(words)
        self._close(at, [turns, int(record), start, start + 8 * len(words)], TAPE)

    def copy(self, to: Word, source: Word, nbytes: int) -> None:
        """Bytes from one place to another."""
        self._step("copy", COPY, [to, source, int(nbytes)])

    def branch(self, flag: Word, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """The steps that `yes()` declares if the byte at `flag` is not 0, else those of `no()`."""
        at, _ = self._open("branch", 3)
        yes()
        words = sum([len(s) for s in self._steps[at + 1:]])
        no()
        self._close(at, [flag, words], BRANCH)

    def _open(self, name: str, words: int) -> tuple[int, int]:
        self._steps.append([0] * words)
        self._names.append(name)
        return len(self._steps) - 1, len(self._data)

    def _words(self, at: int, data: int) -> Iterator[tuple[list[Word], int, Slot]]:
        """(list, index in it, its place in the plan) of each word declared since, steps of the open one included."""
        for k in range(data, len(self._data)):
            yield self._data, k, Slot("plan", 0, 8 * k)
        start = sum([len(s) for s in self._steps[:at]])
        for step in self._steps[at:]:
            for k in range(len(step)):
                yield step, k, Slot("step", 0, 8 * (start + k))
            start += len(step)

    def _close(self, at: int, head: list[Word], operation: int) -> None:
        """What was declared since `_open` becomes part of one step."""
        inner = [word for step in self._steps[at + 1:] for word in step]
        del self._steps[at:], self._names[at + 1:]
        self._steps.append([operation | (1 + len(head) + len(inner)) << 8, *head, *inner])

    def _step(self, name: str, operation: int, words: list[Word]) -> None:
        self._steps.append([operation | (len(words) + 1) << 8, *words])
        self._names.append(name)

    # ---- the plan

    def build(self, release: bool = True) -> NativePlan:
        """The finished plan.  ``release``: let go of the GIL while the steps run (30 ns; a must for long ones)."""
        start = HEADER_WORDS + ARGUMENT_WORDS * self._arguments
        words: list[Word] = [0] * start + self._data + [word for step in self._steps for word in step]
        for at, word in enumerate(words):
            if isinstance(word, Slot) and word.owner == "step":
                words[at] = Slot("plan", 0, word.offset + 8 * len(self._data))
        patched: list[list[tuple[int, int]]] = [[] for _ in range(self._arguments)]
        for at, word in enumerate(words):
            if isinstance(word, Slot) and word.owner == "argument":
                patched[word.index].append((at, word.offset))
        end = len(words)

        def inside(at: int) -> Slot:
            return Slot("plan", 0, 8 * (at - start))

        words[:HEADER_WORDS] = [MAGIC, 0, int(release), self._arguments, inside(HEADER_WORDS),
                                inside(start + len(self._data)), inside(end), int(self._products)]
        for number, places in enumerate(patched):
            first = len(words)
            for at, offset in places:
                words += [inside(at), offset]
            record = HEADER_WORDS + ARGUMENT_WORDS * number
            words[record:record + ARGUMENT_WORDS] = [-1, inside(first), inside(len(words))]
        steps = list(zip(self._names, (len(step) for step in self._steps), strict=True))
        return NativePlan(_Template(words, start, self._arenas, steps, self._keep))


def _later(word: Word, offset: int) -> Word:
    """An address some bytes on."""
    return word + offset


class _Template:
    """A plan before its addresses: the words, and which of them count from the plan or from an arena."""

    __slots__ = ("words", "inside", "arenas", "steps", "keep")

    def __init__(self, words: list[Word], start: int, arenas: list[tuple[int, int]],
                 steps: list[tuple[str, int]], keep: list[object]) -> None:
        inside: list[int] = []
        users: list[list[int]] = [[] for _ in arenas]
        for at, word in enumerate(words):
            if isinstance(word, Slot):
                words[at] = word.offset
                if word.owner == "plan":
                    words[at] = word.offset + 8 * start
                    inside.append(at)
                elif word.owner == "arena":
                    users[word.index].append(at)
        self.words = np.array(words, np.int64)
        self.inside = np.array(inside, np.intp)
        self.arenas = [(*arena, np.array(at, np.intp)) for arena, at in zip(arenas, users, strict=True)]
        self.steps, self.keep = steps, keep


LARGE = 1 << 20                                           # bytes from which the memory of temporaries is used again
SPARE = 1 << 28                                           # bytes of it that may lie unused
_spare: list[np.ndarray] = []                             # of plans that are gone; they append, `_area` alone takes
_taking = threading.Lock()


def _area(nbytes: int) -> np.ndarray:
    """Memory for temporaries: of a plan that is gone if it fits well, since fresh pages cost more than most kernels."""
    if nbytes < LARGE or not _taking.acquire(blocking=False):       # never waits: a fork may have left it taken
        return np.empty(nbytes, np.uint8)
    try:
        fits = [k for k, area in enumerate(_spare) if nbytes <= area.nbytes <= 4 * nbytes]
        found = _spare.pop(min(fits, key=lambda k: _spare[k].nbytes)) if fits else None
        while sum([area.nbytes for area in _spare]) > SPARE:
            _spare.pop(0)
    finally:
        _taking.release()
    return np.empty(nbytes, np.uint8) if found is None else found


class NativePlan:
    """A plan in memory, ready for ``Runtime.run(plan.address, *arguments)``.

    It owns its arenas and keeps its constants alive; it must outlive every call.
    """

    __slots__ = ("address", "_memory", "_arenas", "_template", "_spare")

    def __init__(self, template: _Template) -> None:
        self._template = template
        self._memory = template.words.copy()
        self.address: int = self._memory.ctypes.data
        self._memory[template.inside] += self.address
        self._arenas = []
        for nbytes, align, users in template.arenas:
            area = _area(nbytes + align)
            base = area.ctypes.data
            self._memory[users] += base + -base % align
            self._arenas.append(area)
        self._spare: list[NativePlan] = []

    def __del__(self, spare: list[np.ndarray] = _spare, large: int = LARGE) -> None:   # no globals: they may be gone
        for area in getattr(self, "_arenas", ()):
            if area.nbytes >= large:
                spare.append(area)

    @property
    def held(self) -> int:
        """Bytes of its temporaries."""
        return sum([area.nbytes for area in self._arenas])

    def clone(self) -> NativePlan:
        """The same plan with memory of its own, for a second thread; what ``bind`` set is not copied."""
        return NativePlan(self._template)

    def run(self, *arguments: Any) -> int:
        """Run once and give the status, on a clone if another thread is inside (the engine's own road is
        ``Runtime.run``; this one costs a few hundred ns more)."""
        status = runtime().run(self.address, *arguments)
        while status == BUSY:
            try:
                other = self._spare.pop()           # atomic, and never the same for two threads
            except IndexError:
                other = self.clone()
            status = runtime().run(other.address, *arguments)
            self._spare.append(other)
        return int(status)

    def profile(self, *arguments: Any) -> list[tuple[str, float]]:
        """Run once, step by step: each step's name and its seconds (about 0.3 us of each are the call's)."""
        call = runtime()
        if call.bind(self.address, *arguments) != OK:
            raise RuntimeError("the plan is running in another thread")
        first, last = int(self._memory[5]), int(self._memory[6])
        times, at = [], first
        try:
            for name, words in self._template.steps:
                self._memory[5], self._memory[6] = at, at + 8 * words
                start = time.perf_counter()
                status = call.run_bound(self.address)
                times.append((name, time.perf_counter() - start))
                if status != OK:
                    raise RuntimeError(f"step {len(times) - 1} ({name}) ended with status {status}")
                at += 8 * words
        finally:
            self._memory[5], self._memory[6] = first, last
        return times


def _bits(value: float) -> int:
    """A double's bits as an int64."""
    return int(np.float64(value).view(np.int64))
