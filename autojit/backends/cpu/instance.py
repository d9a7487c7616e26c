"""Native programs of one form: the plan for another size, made from plans for some sizes without scheduling anything.

In: native programs that differ in one size only, the ends of a range of sizes among them.  Out: `Form`, which writes the
program for any size of the range in some 0.1 ms.  Every word of the plan is the same in all samples, or a polynomial of the
size through all of them, or a floating number that follows the size; what is none of these is no form, and said so.
Temporaries lie where the largest size has them.  Never compiles, never changes what a program computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ir.aval import Aval
from . import blas
from .link import NativeProgram, OutputPool
from .runner import NativePlan, _Template
from .runtime import runtime
from .series import Series, follow

PLACES = (1, 2, 3, 4, 5)                                  # words of a product that its builder chose by the sizes

_SHAPE = np.array((6, 7, 8, 9, 10, 12, 14, 16, 17, 23))   # of a product: transposes, m, n, k, lda, ldb, ldc, batch, item size


class NoForm(Exception):
    """Why the samples have no common form."""


class Sample:
    """What a form needs of a program: its plan before addresses (None: steps on the host), and the bytes of its temporaries
    and steps.  Holds no memory of the program's."""

    __slots__ = ("template", "areas", "nbytes")

    def __init__(self, program: NativeProgram) -> None:
        self.template: _Template | None = None if program.plan is None else program.plan._template
        self.areas, self.nbytes = program.areas, program.nbytes


class Form:
    """`make(size, floats, outputs)` gives the program for a size between the least and the greatest sample."""

    __slots__ = ("series", "follows", "pools", "template", "least", "greatest", "chosen", "products", "room", "threads", "cut",
                 "end")

    def __init__(self, sizes: Sequence[int], programs: Sequence[Sample], bases: Sequence[Sequence[Any]]) -> None:
        """`bases`: floating numbers that are known at each size, for `make` to take.  NoForm if there is none."""
        templates = [p.template for p in programs if p.template is not None]
        if len(templates) < len(programs):
            raise NoForm("it has steps on the host")
        last = max(range(len(sizes)), key=lambda k: sizes[k])
        self.least, self.greatest = min(sizes), max(sizes)
        self.template = top = templates[last]
        self.threads = runtime().pool.num_threads
        self._compare(templates, [len(p.areas) for p in programs])
        self.room = np.array(programs[last].areas, np.int64)
        self.cut = len(top.words)
        self.end = self.cut + len(self.room)
        rows = [np.array([*t.words.tolist(), *p.areas, *p.nbytes], np.int64) for t, p in zip(templates, programs)]
        self.chosen = _chosen(top)
        self.products = self._groups(rows)
        for row in rows:
            before = row.copy()
            self._choose(row)
            if (before != row).any():
                raise NoForm("a step is not written as it was for the samples")
        for row in rows:
            for _, _, users in top.arenas:
                row[users] = top.words[users]
            for at in self.chosen:
                row[[at + k for k in PLACES]] = 0
        self.series = Series(sizes, rows)
        self.pools: list[OutputPool] = []                  # of the first program that was made
        self.follows: list[tuple[int, Any, Any]] = []
        for at in self.series.bad.tolist():
            self.follows.append((at, *self._follow(at, [r[at] for r in rows], sizes, bases)))

    def _compare(self, templates: list[_Template], areas: Sequence[int]) -> None:
        first = self.template
        if len(set(areas)) > 1:
            raise NoForm("there are more or fewer temporaries")
        for t in templates:
            if t.steps != first.steps or len(t.words) != len(first.words):
                raise NoForm("the steps are others")
            if not np.array_equal(t.inside, first.inside) or len(t.arenas) != len(first.arenas) or \
                    any(not np.array_equal(a[2], b[2]) for a, b in zip(t.arenas, first.arenas)):
                raise NoForm("the steps use other memory")

    def _follow(self, at: int, words: Sequence[Any], sizes: Sequence[int], bases: Any) -> tuple[Any, Any]:
        """(kind, function of the size or (number of a base, factor)) of a word that holds a double's bits."""
        if at < self.cut:
            values = np.array(words, np.int64).view(np.float64)
            with np.errstate(all="ignore"):
                single = values.astype(np.float32)
            kind: Any = np.float32 if np.array_equal(single.astype(np.float64), values) else np.float64
            found = follow(sizes, [kind(v) for v in values], kind, bases)
            if found is not None:
                return kind, found
        raise NoForm(f"word {at} is {', '.join(map(str, words))} for sizes {', '.join(map(str, sizes))}")

    def _groups(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Products that are of one shape in every sample: where each of their chosen words stands."""
        groups: dict[Any, list[int]] = {}
        for at in self.chosen:
            groups.setdefault(tuple([tuple(row[at + _SHAPE].tolist()) for row in rows]), []).append(at)
        return [np.array(places)[:, None] + np.array(PLACES) for places in groups.values()]

    def _choose(self, row: np.ndarray) -> None:
        """What the plan's builder chooses by the sizes, chosen for these."""
        for places in self.products:
            trans_a, trans_b, m, n, k, lda, ldb, ldc, batch, size = row[places[0, 0] - 1 + _SHAPE].tolist()
            shape = blas.Shape("f32" if size == 4 else "f64", m, n, k, batch, bool(trans_a), bool(trans_b), lda, ldb, ldc)
            split = blas.choose(shape, self.threads)
            row[places] = (split.axis, split.chunks, -split.align, *blas.routine(shape))

    def make(self, size: int, floats: Sequence[Any], outputs: Sequence[Aval]) -> NativeProgram | None:
        """The program for `size`; `floats`: the bases at this size.  None if this form does not hold for it."""
        if not self.least <= size <= self.greatest or runtime().pool.num_threads != self.threads:
            return None
        row = self.series.at(size)
        if (row[self.cut:self.end] > self.room).any():
            return None
        for at, kind, found in self.follows:
            value = kind(found[1] * kind(floats[found[0]])) if type(found) is tuple else found(size)
            row[at] = np.float64(value).view(np.int64)
        self._choose(row)
        top, made = self.template, _Template.__new__(_Template)
        made.words, made.inside, made.arenas = row[:self.cut].copy(), top.inside, top.arenas
        made.steps, made.keep = top.steps, top.keep
        areas, nbytes = row[self.cut:self.end].tolist(), row[self.end:].tolist()
        return NativeProgram.over(NativePlan(made), self._pools(outputs), nbytes, areas)

    def _pools(self, outputs: Sequence[Aval]) -> list[OutputPool]:
        """Results that do not follow the size (gradients of weights) have the same memory in all programs of the form."""
        pools = [OutputPool(a) for a in outputs]
        if not self.pools:
            self.pools = pools
        return [old if old.shape == new.shape else new for old, new in zip(self.pools, pools)]


def _chosen(t: _Template) -> list[int]:
    """Where the products stand."""
    at = int(t.words[5]) // 8
    out = []
    for name, words in t.steps:
        if name == "gemm":
            out.append(at)
        at += words
    return out


def difference(a: NativeProgram, b: NativeProgram) -> str | None:
    """Where two programs for one size differ, but for the places of temporaries; None if they do not."""
    if a.plan is None or b.plan is None:
        return "one has steps on the host"
    s, t = a.plan._template, b.plan._template
    if s.steps != t.steps or len(s.words) != len(t.words):
        return "the steps are others"
    unlike = s.words != t.words
    for x, y in zip(s.arenas, t.arenas):
        if not np.array_equal(x[2], y[2]):
            return "other words are places in the arena"
        unlike[x[2]] = False
    if unlike.any():
        return f"words {np.flatnonzero(unlike).tolist()} are {s.words[unlike].tolist()} and {t.words[unlike].tolist()}"
    return None if list(a.areas) == list(b.areas) else f"temporaries of {list(a.areas)} and {list(b.areas)} bytes"
