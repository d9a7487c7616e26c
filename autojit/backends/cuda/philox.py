"""Random numbers made on the device: the kernels of `ops/philox.py`, bit for bit.

In: a seed, the number of the draw, a shape.  Out: arrays of the device.  Words, integers and uniform numbers are the host's to
the last bit; normal ones come from the same formula in float64, with the device's log1p, sin and cos (a few ulp of float64,
so float32's are nearly always equal).  Never keeps state.

A thread makes four words at a time, those of one counter; a word is the low half of an int64.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Any

from ...dtypes import DType
from .emitted import Emitted
from .handwritten import FAR, MANY, THREADS
from .memory import DeviceArray

if TYPE_CHECKING:
    from .backend import CudaBackend

STEPS = {"f16": 2.0 ** 11, "bf16": 2.0 ** 8}              # uniform numbers of 16 bits are multiples of a power of two

MORE = {"integers": (("span", "i64"), ("first", "i64")), "normal": (("turn", "f64"),)}      # parameters of a kind
_HEAD = """def kernel(x0, n, quads, k0, k1, d0, d1{more}):
    low = to_i64(4294967295)
    half = to_i64(32)
    for i in range(block() * {threads} + thread(), quads, blocks() * {threads}):
        at = to_i64(i)
        w0 = at & low
        w1 = ushr_i64(at, half)
        w2 = d0
        w3 = d1
        key0 = k0
        key1 = k1
        for r in range(10):
            a = mul_wide_u32(w0, to_i64(3528531795))
            b = mul_wide_u32(w2, to_i64(3449720151))
            w0 = ushr_i64(b, half) ^ w1 ^ key0
            w1 = b & low
            w2 = ushr_i64(a, half) ^ w3 ^ key1
            w3 = a & low
            key0 = add_i64(key0, to_i64(2654435769)) & low
            key1 = add_i64(key1, to_i64(3144134277)) & low
"""
_UNIFORM32 = "to_f32(ushr_i64({w}, to_i64(8))) * f4(5.960464477539063e-08)"
_UNIFORM64 = "to_f64(ushr_i64({w}, to_i64(11))) * f8(1.1102230246251565e-16)"
_LONGS = ["l0 = w0 | shl_i64(w1, half)", "l1 = w2 | shl_i64(w3, half)"]
_REST = """t{k} = remainder_i64(ushr_i64(l{k}, to_i64(1)), span)
rest{k} = sub_i64(span, t{k})
v{k} = select(t{k} >= rest{k}, sub_i64(t{k}, rest{k}), add_i64(t{k}, t{k})) + (l{k} & to_i64(1))
v{k} = add_i64(select(v{k} >= span, sub_i64(v{k}, span), v{k}), first)"""
_FAR = """v{k} = select((l{k} ^ least) < (span ^ least), l{k}, sub_i64(l{k}, span))
v{k} = add_i64(v{k}, first)"""


def _uniform(code: str) -> list[str]:
    """Lines that make u0, u1 and so on, each uniform in [0, 1): of 16-bit types, multiples of what is exact just below 1."""
    if code == "f64":
        return [*_LONGS, *[f"u{k} = {_UNIFORM64.format(w=f'l{k}')}" for k in range(2)]]
    one = "floor_f32(({}) * f4({d!r})) * f4({inverse!r})" if code in STEPS else "{}"
    d = STEPS.get(code, 1.0)
    return [f"u{k} = {one.format(_UNIFORM32.format(w=f'w{k}'), d=d, inverse=1.0 / d)}" for k in range(4)]


def _normal(double: bool) -> list[str]:
    """Box and Muller in float64: a pair of numbers from each pair of uniform ones."""
    lines = _uniform("f64" if double else "f32")
    for k in range(0, 2 if double else 4, 2):
        a, b = (f"u{k}", f"u{k + 1}") if double else (f"to_f64(u{k})", f"to_f64(u{k + 1})")
        lines += [f"radius{k} = sqrt_f64(f8(-2.0) * log1p_f64(f8(-1.0) * {a}))", f"angle{k} = turn * {b}",
                  f"v{k} = radius{k} * cos_f64(angle{k})", f"v{k + 1} = radius{k} * sin_f64(angle{k})"]
    return lines


def text(kind: str, code: str, far: bool = False) -> str:
    """The kernel of a kind ("uniform", "normal", "integers") for a dtype's code.  `far`: integers of 2 ** 63 values or more."""
    double = code == "f64" or kind == "integers"
    count = 2 if double else 4
    if kind == "integers":
        lines = list(_LONGS)
        if far:
            lines.append("least = shl_i64(to_i64(1), to_i64(63))")
        for k in range(2):
            lines += (_FAR if far else _REST).format(k=k).split("\n")
    else:
        lines = _normal(double) if kind == "normal" else [*_uniform(code), *[f"v{k} = u{k}" for k in range(count)]]
    single = "to_f32({})" if kind == "normal" and not double else "{}"
    stored = f"to_{code}({single})" if code in ("f16", "bf16") else single
    values = [stored.format(f"v{k}") for k in range(count)]
    lines += [f"j = i * {count}", f"if j + {count - 1} < n:"]
    if code in ("f16", "bf16"):
        lines += [f"    x0[j + {k}] = {v}" for k, v in enumerate(values)]
    else:
        lines.append(f"    store{count}_{code}(x0, j, {', '.join(values)})")
    lines.append("else:")
    for k, v in enumerate(values[:-1]):
        lines += [f"    if j + {k} < n:", f"        x0[j + {k}] = {v}"]
    head = _HEAD.format(threads=THREADS, more="".join([f", {name}" for name, _ in MORE.get(kind, ())]))
    return head + "".join([f"        {line}\n" for line in lines])


def _signed(bits: int) -> int:
    """An unsigned 64-bit number as the int64 of its bits."""
    bits &= (1 << 64) - 1
    return bits - (1 << 64) if bits >> 63 else bits


class Random:
    """The kernels, loaded when they are first asked for."""

    def __init__(self, backend: CudaBackend) -> None:
        self.backend = backend
        self._kernels: dict[tuple[Any, ...], Any] = {}

    def _kernel(self, kind: str, code: str, far: bool, wide: bool) -> tuple[Any, tuple[str, ...]]:
        key = kind, code, far, wide
        if key not in self._kernels:
            signature = (f"*{code}", "ix", "ix", "i64", "i64", "i64", "i64", *[c for _, c in MORE.get(kind, ())])
            table = (("buffer", "x0"), ("size", 0), ("size", 0), *[("const", 0, None)] * (len(signature) - 3))
            one = Emitted(text(kind, code, far), signature, table, THREADS, 1, wide)
            self._kernels[key] = self.backend.driver.load(self.backend.compile([one])[0]), signature
        found: tuple[Any, tuple[str, ...]] = self._kernels[key]
        return found

    def __call__(self, kind: str, seed: int, draw: int, shape: tuple[int, ...], dtype: DType, low: int = 0,
                 high: int = 1) -> DeviceArray:
        """The numbers that `ops/philox.py` makes of the same seed and draw."""
        out = self.backend.memory.empty(shape, dtype)
        if not out.size:
            return out
        span, wide = high - low, out.size >= FAR
        handle, signature = self._kernel(kind, dtype.code, kind == "integers" and span >= 1 << 63, wide)
        per = 2 if dtype.code == "f64" or kind == "integers" else 4
        quads, mask = -(-out.size // per), (1 << 32) - 1
        more = {"integers": (_signed(span), low), "normal": (2.0 * pi,)}.get(kind, ())
        values = [out.size, quads, seed & mask, seed >> 32 & mask, draw & mask, draw >> 32 & mask, *more]
        args = [(signature[0], out.ptr, out.nbytes), *zip(signature[1:], values, strict=True)]
        self.backend.driver.launch(handle, min(-(-quads // THREADS), MANY), THREADS, args)
        return out
