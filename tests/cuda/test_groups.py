"""Reductions over threads, with arrays in place of LLVM values: one element a thread of a block."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from llvmlite import ir

from autojit.backends.cuda import groups, words
from autojit.backends.cuda.words import F32, F64, I32, I64

DTYPES = {"float": np.float32, "double": np.float64, "i32": np.int32, "i64": np.int64, "i1": np.bool_}
TYPES = {"f32": (F32, np.float32), "f64": (F64, np.float64), "i64": (I64, np.int64), "i32": (I32, np.int32)}


class Lanes:
    """A value of all threads."""

    def __init__(self, data, ty):
        self.data, self.type = np.asarray(data, DTYPES[str(ty)]), ty


class Block:
    """A builder that computes at once; `pad` is its shared memory, `running` the threads that are here."""

    def __init__(self, threads, ty):
        self.type_of_pad = ty
        self.threads, self.running, self.barriers = threads, np.ones(threads, bool), 0
        self.pad = np.full(32, 77, DTYPES[str(ty)])
        self.touched: dict[int, set[int]] = {}            # place in the pad → threads since the last barrier

    def lanes(self, x):
        return x if isinstance(x, Lanes) else Lanes(np.full(self.threads, x.constant, DTYPES[str(x.type)]), x.type)

    def _two(self, fn, x, y, ty=None):
        x, y = self.lanes(x), self.lanes(y)
        assert x.type == y.type
        with np.errstate(all="ignore"):
            return Lanes(fn(x.data, y.data), ty or x.type)

    def add(self, x, y):
        return self._two(np.add, x, y)

    def mul(self, x, y):
        return self._two(np.multiply, x, y)

    fadd = add

    def and_(self, x, y):
        return self._two(np.bitwise_and, x, y)

    def or_(self, x, y):
        return self._two(np.bitwise_or, x, y)

    def shl(self, x, n):
        return self._two(np.left_shift, x, n)

    def lshr(self, x, n):
        x, n = self.lanes(x), self.lanes(n)
        unsigned = x.data.view(f"u{x.data.itemsize}") >> n.data.view(f"u{n.data.itemsize}")
        return Lanes(unsigned.view(x.data.dtype), x.type)

    def icmp_signed(self, sign, x, y):
        return self._two({">": np.greater, "<": np.less}[sign], x, y, ir.IntType(1))

    def icmp_unsigned(self, sign, x, y):
        x, y = self.lanes(x), self.lanes(y)
        bits = [v.data.view(f"u{v.data.itemsize}") for v in (x, y)]
        return Lanes({"==": np.equal, "<": np.less}[sign](*bits), ir.IntType(1))

    def select(self, c, x, y):
        x, y = self.lanes(x), self.lanes(y)
        return Lanes(np.where(c.data, x.data, y.data), x.type)

    def trunc(self, x, ty):
        return Lanes(x.data.view(np.uint64).astype(np.uint32).view(np.int32), ty)

    def zext(self, x, ty):
        return Lanes(x.data.view(np.uint32).astype(np.int64), ty)

    def bitcast(self, x, ty):
        return Lanes(x.data.view(DTYPES[str(ty)]), ty)

    def gep(self, pad, indices, inbounds=True):
        return self.lanes(indices[0]).data

    def _touch(self, places, writes):
        for t in np.flatnonzero(self.running):
            if not places[t] < self.threads // 32:        # nobody wrote there, and what is read is thrown away
                assert not writes
                continue
            who = self.touched.setdefault(int(places[t]), set())
            assert not writes or who <= {t}, "a race"
            who.add(int(t) if writes else -1 - int(t))    # readers below 0

    def store(self, value, places):
        self._touch(places, True)
        self.pad[places[self.running]] = value.data[self.running]

    def load(self, places):
        written = {p for p, who in self.touched.items() if any(w >= 0 for w in who)}
        assert not written, "read before the barrier"
        return Lanes(self.pad[places], self.type_of_pad)

    @contextlib.contextmanager
    def if_then(self, c):
        before, self.running = self.running, self.running & c.data
        yield
        self.running = before

    def asm(self, fnty, text, constraint, args, side_effect=False):
        fn = np.maximum if "max" in text else np.minimum
        x, y = (self.lanes(a).data for a in args)
        return Lanes(fn(x, y) if ".NaN" in text else {np.maximum: np.fmax, np.minimum: np.fmin}[fn](x, y), args[0].type)

    def fcmp_unordered(self, sign, x, y):
        assert sign == "uno"
        return Lanes(np.isnan(x.data) | np.isnan(y.data), ir.IntType(1))

    def call(self, name, result, args):
        if name.endswith("tid.x"):
            return Lanes(np.arange(self.threads), I32)
        if "barrier" in name:
            assert self.running.all(), "a barrier that not all threads reach"
            self.barriers, self.touched = self.barriers + 1, {}
            return None
        assert "shfl.sync.bfly" in name and self.running.all()
        mask, value, distance, clamp = (self.lanes(a).data for a in args)
        lane = np.arange(self.threads)
        other = lane ^ distance
        masks = mask.view(np.uint32)
        assert (clamp == 31).all() and (masks >> (other % 32) & 1).all() and (masks >> (lane % 32) & 1).all()
        assert (masks == masks[other]).all() and (other // 32 == lane // 32).all()
        return Lanes(value[other], result)


@pytest.fixture(autouse=True)
def played(monkeypatch):
    monkeypatch.setattr(words, "call", lambda b, name, result, *args: b.call(name, result, args))
    monkeypatch.setattr(groups, "call", lambda b, name, result, *args: b.call(name, result, args))
    for what, emits in groups.COMBINE.items():
        if what in ("sum", "prod"):                       # methods of LLVM's builder
            name = "add" if what == "sum" else "mul"
            monkeypatch.setitem(groups.COMBINE, what, dict.fromkeys(emits, lambda b, x, y, name=name: getattr(b, name)(x, y)))


WHOLE = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


def values(kind, threads, what):
    rng = np.random.default_rng(threads)
    if kind.startswith("f"):
        x = rng.uniform(0.9, 1.1, threads) if what == "prod" else rng.standard_normal(threads)
        if threads == 96 and what in ("max", "min"):
            x[threads // 2] = np.nan
    else:
        x = rng.integers(-2**40, 2**40, threads) if kind == "i64" else rng.integers(-2**31, 2**31, threads)
    return x.astype(TYPES[kind][1])


def close(got, want):
    if got.dtype.kind == "f":
        np.testing.assert_allclose(got, np.full_like(got, want), rtol=1e-5 if got.dtype == np.float32 else 1e-13, atol=1e-5)
        assert (got.view(f"u{got.itemsize}") == got.view(f"u{got.itemsize}")[0]).all() or np.isnan(got).all()
    else:
        assert (got == want).all()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("what", WHOLE)
def test_blocks(kind, what):
    ty = TYPES[kind][0]
    for threads in (32, 64, 96, 160, 256, 512, 992, 1024):
        words.setting.threads = threads
        b, x = Block(threads, ty), values(kind, threads, what)
        with np.errstate(all="ignore"):
            want = WHOLE[what].reduce(x, dtype=x.dtype)
            for _ in range(2):                            # the same pad again at once
                close(groups.block_reduce(b, what, Lanes(x, ty), "pad").data, want)
        assert b.barriers == (0 if threads == 32 else 4)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("width", [2, 4, 8, 16, 32])
def test_groups_in_a_warp(kind, width):
    ty, b = TYPES[kind][0], Block(128, TYPES[kind][0])
    for what, whole in WHOLE.items():
        x = values(kind, 128, what)
        with np.errstate(all="ignore"):
            got = groups.warp_reduce(b, what, Lanes(x, ty), width).data.reshape(-1, width)
            for row, part in zip(got, x.reshape(-1, width)):
                close(row, whole.reduce(part, dtype=part.dtype))


def test_masks():
    b = Block(64, I32)
    for width in (2, 4, 8, 16, 32):
        masks = b.lanes(groups.members(b, width)).data.view(np.uint32)
        for t in range(64):
            first = t % 32 // width * width
            assert masks[t] == ((1 << width) - 1) << first


def test_what_is_wrong_is_seen(monkeypatch):
    class Deaf(Block):
        """Barriers are not heard."""

        def call(self, name, result, args):
            return None if "barrier" in name else super().call(name, result, args)

    words.setting.threads = 64
    with pytest.raises(AssertionError, match="read before the barrier"):
        groups.block_reduce(Deaf(64, F32), "sum", Lanes(np.ones(64), F32), "pad")
    monkeypatch.setattr(groups, "_identity", lambda what, ty: ty(1))
    words.setting.threads = 96
    with pytest.raises(AssertionError):
        close(groups.block_reduce(Block(96, I32), "sum", Lanes(np.ones(96), I32), "pad").data, 96)
