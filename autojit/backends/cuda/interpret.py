"""The SIMT interpreter: a kernel's text run on host memory, with everything checked that a GPU would not.

In: a text, its signature, its arguments and its launch.  Out: the stores that a GPU would make, or a `KernelFault` with the
line: access out of bounds or misaligned, values read before they are written, races, barriers and group words that not all
threads reach, types that mix.  Needs no GPU, no Numba; scalar words mean what `backends/cpu/interpret.py` says.

All threads of some blocks run in step: a value is an array with an element a thread, or one for all, and branches and loops
run in the lanes of a mask.  Between barriers threads have no order, and `cells.py` sees to it that none is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from types import FunctionType, TracebackType
from typing import Any

import numpy as np

from . import collective
from .cells import STORAGE, Cells, Grid, History, KernelFault, Mask, code
from .lanes import OPERATORS, both, choice, conjunction, joined, matched, merged, minus, select, truth, without, words
from .rewriting import FILE, rewritten

__all__ = ["KernelFault", "run"]

LANES = 8192                                               # that run together, as far as whole blocks go
SHARED = 48 * 1024                                         # bytes of static shared memory that a block may have
TURNS = 1 << 20                                            # of a `while` before it is taken to never end
VECTORS = {name: 16 // np.dtype(dtype).itemsize for name, dtype in STORAGE.items()}
"""Elements of 16 bytes."""
_UNSET: Any = object()


def run(text: str, signature: Sequence[str], args: Sequence[Any], blocks: int, threads: int, *, wide: bool = False,
        double: bool = False) -> None:
    """Run a kernel over a grid.

    `args` go with `signature`: for a pointer ("*f32") a one-dimensional array of the element's dtype (bfloat16 as uint16 bits),
    for "ix", "i64", "f32", "f64" a number.  The arrays must not overlap.  `double`: float64 is meant, though only float32 goes
    in and out (a program may cast there and back).  KernelFault names the line and the thread.

    >>> import numpy as np
    >>> x = np.zeros(5, np.float32)
    >>> run('''def kernel(x0, n0):
    ...     for i in range(block() * 32 + thread(), n0, blocks() * 32):
    ...         x0[i] = to_f32(to_i64(i)) * f4(0.5)
    ... ''', ("*f32", "ix"), (x, 5), 2, 32); x.tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    if not 1 <= threads <= 1024 or threads % 32:
        raise ValueError(f"a block has 32, 64 .. 1024 threads, not {threads}")
    try:
        kernel, reads, writes, names = _prepared(text, tuple(signature), double)
    except KernelFault as fault:
        raise _told(fault, text, fault.line) from None
    values = [_argument(name, of, value, wide, name in reads, name in writes)
              for name, of, value in zip(names, signature, args, strict=True)]
    _apart([v for v in values if isinstance(v, Cells)], writes)
    many = max(1, LANES // threads)
    with np.errstate(all="ignore"):
        for first in range(0, blocks, many):
            launch = _Launch(Grid(first, min(many, blocks - first), threads, blocks, wide))
            try:
                FunctionType(kernel, launch.namespace())(*values)
            except KernelFault as fault:
                raise _told(fault, text, _line(fault.__traceback__)) from None
            except (TypeError, ValueError, OverflowError, AttributeError, IndexError, NameError) as error:
                raise _told(KernelFault("type", str(error)), text, _line(error.__traceback__)) from error


def _told(fault: KernelFault, text: str, line: int) -> KernelFault:
    lines = text.splitlines()
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else "?"
    return KernelFault(fault.kind, f"line {line} `{shown}`: {fault.text}", line)


def _line(trace: TracebackType | None) -> int:
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


# ---------------------------------------------------------------------------------------------- texts and arguments
@lru_cache(4096)
def _prepared(text: str, signature: tuple[str, ...],
              double: bool) -> tuple[Any, frozenset[str], frozenset[str], tuple[str, ...]]:
    """The code of a kernel, the parameters that it reads and writes through, and all of them."""
    module, accesses = rewritten(text)
    kernel = next(c for c in module.co_consts if hasattr(c, "co_varnames"))
    names = kernel.co_varnames[:kernel.co_argcount]
    if len(names) != len(signature):
        raise KernelFault("language", f"{len(names)} parameters, {len(signature)} in the signature", 1)
    double = double or any(s in ("f64", "*f64") for s in signature)
    known = _words()
    for word, line in accesses.words:
        if word not in known:
            raise KernelFault("language", f"kernels have no word {word}", line)
        if not double and (word.endswith("_f64") or word == "f8") and any(s.lstrip("*") == "f32" for s in signature):
            raise KernelFault("type", f"{word} in a kernel of float32", line)
    return kernel, frozenset(accesses.reads), frozenset(accesses.writes), names


def _argument(name: str, of: str, value: Any, wide: bool, read: bool, written: bool) -> Any:
    if of[0] == "*":
        if not isinstance(value, np.ndarray) or value.dtype != STORAGE[of[1:]] or value.ndim != 1 \
                or not value.flags.c_contiguous:
            shown = f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise TypeError(f"{name} is a flat array of {STORAGE[of[1:]]}, not {shown}")
        history = History(value.size, read) if written else None
        return Cells(name, "global", of[1:], value, value.size, history, watched=written)
    if of == "ix":
        number = int(value)
        if not wide and not -2 ** 31 <= number < 2 ** 31:
            raise OverflowError(f"{name} = {number} is no 32-bit index")
        return np.longlong(number) if wide else np.int32(number)
    return {"f32": np.float32, "f64": np.float64, "i64": np.int64}[of](value)


def _apart(cells: list[Cells], writes: frozenset[str]) -> None:
    """No buffer that is written may overlap another."""
    for a in cells:
        for b in cells:
            if a is not b and a.label in writes and np.may_share_memory(a.data, b.data):
                raise KernelFault("language", f"{a.label} and {b.label} overlap")


# ---------------------------------------------------------------------------------------------- a launch
class _Launch:
    """What the words of one group of blocks share: where they are, and the memory they made."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.made: dict[int, Cells] = {}
        self.shared = 0

    def namespace(self) -> dict[str, Any]:
        g = self.grid
        ns = dict(_words())
        ns.update({name: partial(fn, g) for name, fn in _bound().items()})
        ns.update({name: partial(fn, self) for name, fn in _MEMORY.items()})
        ns.update(_minus=minus, _joined=joined, _both=both, _without=without, _truth=truth, _conjunction=conjunction,
                  _unset=_UNSET, _endless=_endless)
        return ns


def _endless() -> Iterator[None]:
    for _ in range(TURNS):
        yield None
    raise KernelFault("language", f"a loop did not end in {TURNS} turns")


def _thread(g: Grid, m: Mask) -> Any:
    return g.thread


def _block(g: Grid, m: Mask) -> Any:
    return g.integer(g.first) if g.count == 1 else (g.local + g.first).astype(g.integer)


def _blocks(g: Grid, m: Mask) -> Any:
    return g.integer(g.blocks)


def _part(g: Grid, m: Mask, n: Any, c: Any, parts: Any, more: int) -> Any:
    for a in (n, c, parts):
        if code(a) != "ix":
            raise KernelFault("type", f"part_lo and part_hi take ix, not {code(a)}")
    out = np.int64(n) * (np.int64(c) + more) // np.int64(parts)  # all in 64 bits
    return out.astype(g.integer)


def _to_ix(g: Grid, m: Mask, v: Any) -> Any:
    found = code(v)
    if found not in ("i64", "ix"):
        raise KernelFault("type", f"to_ix of {found}")
    out = np.asarray(v).astype(g.integer)
    lost = out != v
    if np.any(lost if m is None else lost & m):
        raise KernelFault("type", "to_ix of what does not fit an index")
    return out[()]


def _merge(g: Grid, m: Mask, old: Any, new: Any) -> Any:
    """A name after it is set in the lanes of m."""
    if old is _UNSET:
        if m is None or isinstance(new, Cells):
            return new
        old = _poison(g, new)
    if isinstance(new, Cells):
        return new
    if code(new) != code(old):
        matched("a name", old, new)
    return new if m is None else merged(g, m, new, old)


def _poison(g: Grid, new: Any) -> Any:
    """What a name holds in lanes that never set it: nothing that a right kernel would go on with."""
    found = code(new)
    if found == "ix":
        return g.integer(np.iinfo(g.integer).min)
    if found == "b1":
        return np.bool_(False)
    if found == "bf16":
        return np.uint16(0xFFFF)
    return new.dtype.type(np.iinfo(np.int64).min if found == "i64" else np.nan)


def _range(g: Grid, m: Mask, *bounds: Any) -> Iterator[tuple[Any, Mask]]:
    """The turns of a loop: the index, and the lanes that are still in it."""
    for b in bounds:
        if code(b) != "ix":
            raise KernelFault("type", f"a loop goes over ix, not {code(b)}")
    lo, hi, step = (0, bounds[0], 1) if len(bounds) == 1 else bounds if len(bounds) == 3 else (*bounds, 1)
    if isinstance(step, np.ndarray) or step == 0:
        raise KernelFault("language", "a loop's step is the same for all threads, and not 0")
    if not isinstance(lo, np.ndarray) and not isinstance(hi, np.ndarray):
        for i in range(int(lo), int(hi), int(step)):
            yield g.integer(i), m
        return
    at = np.broadcast_to(np.asarray(lo, np.int64), g.lanes)
    hi = np.asarray(hi, np.int64)
    while (inside := both(m, at < hi if step > 0 else at > hi)) is not False:
        yield at.astype(g.integer), inside
        at = at + int(step)


@cache
def _bound() -> dict[str, Callable[..., Any]]:
    """Words that know the lanes: word(grid, mask, *values)."""
    out: dict[str, Callable[..., Any]] = {
        "thread": _thread, "block": _block, "blocks": _blocks, "to_ix": _to_ix, "sync": collective.barrier,
        "warp_sync": collective.warp_barrier, "_merge": _merge, "_range": _range, "_choice": choice, "select": select,
        "part_lo": lambda g, m, n, c, parts: _part(g, m, n, c, parts, 0),
        "part_hi": lambda g, m, n, c, parts: _part(g, m, n, c, parts, 1)}
    for what in collective.COMBINE:
        for suffix in ("f32", "f64", "i32", "i64"):
            for scope, fn in (("warp", collective.warp), ("block", collective.block)):
                name = f"{scope}_{what}_{suffix}"
                out[name] = partial(fn, name)
    return out


# ---------------------------------------------------------------------------------------------- memory
def _cells(what: str, x: Any) -> Cells:
    if not isinstance(x, Cells):
        raise KernelFault("type", f"{what} of what is no memory")
    return x


def _made(kind: str, name: str, launch: _Launch, m: Mask, size: Any, site: int) -> Cells:
    """shared_<code>(n), local_<code>(n): the same memory each time the line runs."""
    found = launch.made.get(site)
    if found is None:
        if type(size) is not int or size < 1:
            raise KernelFault("language", f"{kind}_{name} wants a literal size")
        dtype = np.dtype(STORAGE[name])
        pieces = launch.grid.count if kind == "shared" else launch.grid.lanes
        if kind == "shared":
            launch.shared += size * dtype.itemsize
            if launch.shared > SHARED:
                raise KernelFault("bounds", f"{launch.shared} bytes of shared memory; a block has {SHARED}")
        room = np.empty(pieces * size * dtype.itemsize + 16, np.uint8)
        skip = -room.ctypes.data % 16
        data = room[skip:skip + pieces * size * dtype.itemsize].view(dtype)
        data.view(np.uint8)[:] = 0 if name == "b1" else 0xFF
        history = History(data.size, True) if kind == "shared" else None
        found = launch.made[site] = Cells(f"{kind}_{name}({size})", kind, name, data, size, history)
    return found


def _load(launch: _Launch, m: Mask, x: Any, index: Any) -> Any:
    return _cells("an element", x).load(launch.grid, index, m)


def _store(launch: _Launch, m: Mask, x: Any, index: Any, value: Any) -> None:
    _cells("an element", x).store(launch.grid, index, value, m)


def _load_many(name: str, width: int, launch: _Launch, m: Mask, x: Any, index: Any) -> tuple[Any, ...]:
    return _of(name, x).load_many(launch.grid, index, m, width)


def _store_many(name: str, width: int, launch: _Launch, m: Mask, x: Any, index: Any, *values: Any) -> None:
    if len(values) != width:
        raise KernelFault("language", f"store{width}_{name} stores {width} values")
    _of(name, x).store_many(launch.grid, index, values, m)


def _of(name: str, x: Any) -> Cells:
    cells = _cells("an access", x)
    if cells.name != name:
        raise KernelFault("type", f"{cells.label} holds {cells.name}, not {name}")
    return cells


def _atomic(what: str, name: str, launch: _Launch, m: Mask, x: Any, index: Any, value: Any) -> Any:
    return _of(name, x).atomic(launch.grid, what, index, value, m)


def _memory() -> dict[str, Callable[..., Any]]:
    """Words that touch memory: word(launch, mask, ...)."""
    out: dict[str, Callable[..., Any]] = {"_load": _load, "_store": _store}
    for name in STORAGE:
        for kind in ("shared", "local"):
            out[f"{kind}_{name}"] = partial(_made, kind, name)
    for name, width in VECTORS.items():
        for suffix in ("", "_nc"):
            out[f"load{width}_{name}{suffix}"] = partial(_load_many, name, width)
        out[f"store{width}_{name}"] = partial(_store_many, name, width)
    for what in ("add", "max", "min"):
        for name in ("i32", "i64"):
            out[f"atomic_{what}_{name}"] = partial(_atomic, what, name)
    out["atomic_add_f32"] = partial(_atomic, "add", "f32")
    return out


_MEMORY = _memory()


@cache
def _words() -> dict[str, Any]:
    """Every word of the language that knows neither lanes nor memory, and the operators; with the names of the others."""
    return {**dict.fromkeys((*_bound(), *_MEMORY)), **words(), **{f"_{name}": fn for name, fn in OPERATORS.items()}}
