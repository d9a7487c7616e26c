"""The scalar words of kernel text over all lanes at once.

In: values of lanes (an array, one element a lane) or of all lanes alike (a NumPy scalar or a Python number).  Out: the same.
A word means what `backends/cpu/interpret.py` says: its functions are called, lane by lane where NumPy has no way to take
arrays.  Types never mix: both sides of an operator are one type, and a literal int takes the type of what it meets.  Never
touches memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ... import halves
from ...ops import philox
from ..cpu.interpret import MATH, NUMPY, VIEWS, kind, python_namespace, to_int
from .cells import STORAGE, Grid, KernelFault, Mask, code

NUMBERS = ("f32", "f64", "i64", "ix")
TYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64, "i64": np.int64, "b1": np.bool_, "f16": np.float16,
                         "bf16": np.uint16}
LITERAL = ("powi",)                                       # words whose second argument is an int of the text
Word = Callable[..., Any]


def matched(what: str, a: Any, b: Any) -> str:
    """The one type of two values."""
    x, y = code(a), code(b)
    if x != y:
        raise KernelFault("type", f"{what} of {x} and {y}")
    return x


# ---------------------------------------------------------------------------------------------- operators
def _operator(sign: str, fn: Callable[[Any, Any], Any], types: tuple[str, ...]) -> Word:
    def call(m: Mask, a: Any, b: Any) -> Any:
        found = matched(sign, a, b)
        if found not in types:
            raise KernelFault("type", f"no {sign} of {found}")
        return fn(a, b)
    return call


def _whole(sign: str, fn: Callable[[Any, Any], Any]) -> Word:
    """Division of indices, where Python and the machine agree: of what is not negative, by what is more than 0."""
    def call(m: Mask, a: Any, b: Any) -> Any:
        found = matched(sign, a, b)
        if found != "ix":
            raise KernelFault("type", f"no {sign} of {found}")
        for wrong, why in ((a < 0, "a negative number"), (b <= 0, "a divisor below 1")):
            if np.any(wrong if m is None else wrong & m):
                raise KernelFault("type", f"{sign} of indices with {why}")
        safe = b if m is None or not isinstance(b, np.ndarray) else np.where(m, b, 1)
        out = fn(a, safe)
        like = a if hasattr(a, "dtype") else b
        return out.astype(like.dtype) if hasattr(like, "dtype") else out  # NumPy gives int64 for longlong
    return call


def _compare(sign: str, fn: Callable[[Any, Any], Any]) -> Word:
    def call(m: Mask, a: Any, b: Any) -> Any:
        matched(sign, a, b)
        return fn(a, b)
    return call


def _minus(m: Mask, a: Any) -> Any:
    if code(a) not in NUMBERS:
        raise KernelFault("type", f"no - of {code(a)}")
    return -a


def _invert(m: Mask, a: Any) -> Any:
    if code(a) not in ("i64",):
        raise KernelFault("type", f"no ~ of {code(a)}")
    return ~a


def truth(what: str, a: Any) -> Any:
    if code(a) != "b1":
        raise KernelFault("type", f"{what} wants b1, got {code(a)}")
    return a


def _not(m: Mask, a: Any) -> Any:
    return np.logical_not(truth("not", a))


BITS = ("i64", "b1")
OPERATORS: dict[str, Word] = {
    "Add": _operator("+", lambda a, b: a + b, NUMBERS), "Sub": _operator("-", lambda a, b: a - b, NUMBERS),
    "Mult": _operator("*", lambda a, b: a * b, NUMBERS), "Div": _operator("/", lambda a, b: a / b, ("f32", "f64")),
    "FloorDiv": _whole("//", lambda a, b: a // b), "Mod": _whole("%", lambda a, b: a % b),
    "BitAnd": _operator("&", lambda a, b: a & b, BITS), "BitOr": _operator("|", lambda a, b: a | b, BITS),
    "BitXor": _operator("^", lambda a, b: a ^ b, BITS), "USub": _minus, "Not": _not, "Invert": _invert,
    "Lt": _compare("<", lambda a, b: a < b), "LtE": _compare("<=", lambda a, b: a <= b),
    "Gt": _compare(">", lambda a, b: a > b), "GtE": _compare(">=", lambda a, b: a >= b),
    "Eq": _compare("==", lambda a, b: a == b), "NotEq": _compare("!=", lambda a, b: a != b)}


# ---------------------------------------------------------------------------------------------- choice
def both(m: Mask, cond: Any) -> Any:
    """The lanes of m where cond holds: None all, False none."""
    if not isinstance(cond, np.ndarray):
        return m if cond else False
    out = cond if m is None else m & cond
    if not out.any():
        return False
    return None if m is None and out.all() else out


def without(m: Mask, cond: Any) -> Any:
    return both(m, np.logical_not(cond) if isinstance(cond, np.ndarray) else not cond)


def merged(grid: Grid, cond: Any, a: Any, b: Any) -> Any:
    """a where cond, else b."""
    if matched("a choice", a, b) == "ix":
        a, b = (grid.integer(v) if type(v) is int else v for v in (a, b))
    return np.where(cond, a, b)


def choice(grid: Grid, m: Mask, cond: Any, a: Callable[[Mask], Any], b: Callable[[Mask], Any]) -> Any:
    """``a if cond else b``: each side runs in its own lanes only."""
    truth("if", cond)
    yes, no = both(m, cond), without(m, cond)
    if yes is False:
        return b(m if no is None else no)
    if no is False:
        return a(yes)
    return merged(grid, cond, a(yes), b(no))


def minus(m: Mask, gone: Any) -> Any:
    """The lanes of m that have not left; `gone`: False none, True all."""
    return m if gone is False else False if gone is True else both(m, ~gone)


def joined(gone: Any, m: Mask) -> Any:
    """The lanes that have left, with those of m."""
    return True if m is None or gone is True else m if gone is False else gone | m


def conjunction(m: Mask, a: Any, b: Callable[[Mask], Any], either: bool) -> Any:
    """``a and b``, or ``a or b``: b runs in the lanes that a leaves open."""
    truth("and", a)
    rest = without(m, a) if either else both(m, a)
    if rest is False:
        return a
    c = truth("and", b(rest))
    return a | c if either else a & c


def select(grid: Grid, m: Mask, cond: Any, a: Any, b: Any) -> Any:
    truth("the condition of select", cond)
    matched("select", a, b)
    return merged(grid, cond, a, b) if isinstance(cond, np.ndarray) else a if cond else b


# ---------------------------------------------------------------------------------------------- casts
def _cast(to: str) -> Word:
    def call(m: Mask, x: Any) -> Any:
        found = code(x)
        if found == "bf16":
            x = halves.values(x)[()]
        elif found not in (*NUMBERS, "b1", "f16"):
            raise KernelFault("type", f"no cast of {found}")
        if found in ("f16", "bf16") and to != "f32":
            raise KernelFault("type", f"{found} becomes f32 and nothing else")
        return TYPES[to](x)
    return call


def _to_f16(m: Mask, x: Any) -> Any:
    if code(x) != "f32":
        raise KernelFault("type", f"to_f16 wants f32, got {code(x)}")
    return np.float16(x)


def _to_bf16(m: Mask, x: Any) -> Any:
    if code(x) != "f32":
        raise KernelFault("type", f"to_bf16 wants f32, got {code(x)}")
    bits = np.asarray(x).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)[()]


def _to_b1(m: Mask, x: Any) -> Any:
    return x if code(x) == "b1" else np.not_equal(x, type(x)(0) if not isinstance(x, np.ndarray) else x.dtype.type(0))


def _to_integer(bits: int, signed: bool = True) -> Word:
    least = -(2.0 ** (63 if bits == 64 else 31))
    narrow = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")

    def call(m: Mask, x: Any) -> Any:
        found = code(x)
        if not isinstance(x, np.ndarray):
            return to_int(np.int64(x) if found == "ix" else x, bits, signed)
        if found in ("f32", "f64"):
            whole = np.trunc(x)
            fits = (whole >= least) & (whole < -least)
            x = np.where(fits, whole, least).astype(np.int64)
        return x.astype(narrow).astype(np.int64)
    return call


def _bits(suffix: str) -> Word:
    integer = np.int32 if suffix == "f32" else np.int64

    def call(m: Mask, x: Any) -> Any:
        _typed(f"bits_{suffix}", suffix, x)
        return np.asarray(x).view(integer).astype(np.int64)[()]
    return call


def _from_bits(suffix: str) -> Word:
    integer = np.int32 if suffix == "f32" else np.int64

    def call(m: Mask, i: Any) -> Any:
        _typed(f"from_bits_{suffix}", "i64", i)
        return np.asarray(i).astype(integer).view(TYPES[suffix])[()]
    return call


def _typed(name: str, suffix: str, *args: Any) -> None:
    for a in args:
        found = code(a)
        if found != suffix:
            raise KernelFault("type", f"{name} wants {suffix}, got {found}: {a!r}")


# ---------------------------------------------------------------------------------------------- functions
def _shift(fn: Callable[[Any, Any], Any], out: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def call(a: Any, n: Any) -> Any:
        inside = (n >= 0) & (n < 64)
        return np.where(inside, fn(a, np.where(inside, n, 0)), out(a))
    return call


def _ushr(a: Any, n: Any) -> Any:
    return (np.asarray(a).view(np.uint64) >> n.astype(np.uint64)).view(np.int64)


def maximum(a: Any, b: Any) -> Any:
    """The greater; 0 is greater than -0, NaN than all."""
    return np.where(a == b, np.where(np.signbit(a), b, a), np.maximum(a, b))


def minimum(a: Any, b: Any) -> Any:
    """The lesser; -0 is less than 0, NaN than all."""
    return np.where(a == b, np.where(np.signbit(a), a, b), np.minimum(a, b))


_ARRAYS: dict[str, Callable[..., Any]] = {
    "add_i64": np.add, "sub_i64": np.subtract, "mul_i64": np.multiply, "neg_i64": np.negative, "abs_i64": np.abs,
    "maximum_i64": np.maximum, "minimum_i64": np.minimum,
    "shl_i64": _shift(lambda a, n: a << n, np.zeros_like),
    "shr_i64": _shift(lambda a, n: a >> n, lambda a: a >> 63),
    "ushr_i64": _shift(_ushr, np.zeros_like)}
_MADE: dict[str, Callable[..., Any]] = {
    "softplus": lambda x: np.logaddexp(x.dtype.type(0), x),
    "rsqrt": lambda x: x.dtype.type(1) / np.sqrt(x),
    "maximum": maximum, "minimum": minimum}
_SPECIAL = ("sigmoid", "erf", "erfc", "erfinv", "lgamma", "digamma")


def _over_arrays(name: str) -> Callable[..., Any] | None:
    """A word's function of whole arrays, if NumPy has one that gives the same bits."""
    if name in _ARRAYS:
        return _ARRAYS[name]
    stem, _, suffix = name.rpartition("_")
    if suffix not in ("f32", "f64"):
        return None
    if stem == "fma" and suffix == "f32":
        return lambda a, b, c: np.float32(np.float64(a) * np.float64(b) + np.float64(c))
    if stem == "powi":
        return _powi
    if stem in _MADE:
        return _MADE[stem]
    fn = NUMPY.get(stem) or (getattr(np, stem, None) if stem in MATH or stem.startswith("is") or stem == "signbit" else None)
    return fn if isinstance(fn, np.ufunc) or stem in _SPECIAL else None


def _powi(x: Any, n: Any) -> Any:
    """As `powi`: by squaring, in its order."""
    if n < 0:
        return x.dtype.type(1) / _powi(x, -n)
    result, square, first = np.ones_like(x), x, True
    while n:
        if n & 1:
            result, first = (square if first else result * square), False
        n >>= 1
        square = square * square if n else square
    return result


def _word(name: str, scalar: Word) -> Word:
    """A word of the CPU's language over lanes."""
    fast = _over_arrays(name)
    stem, _, suffix = name.rpartition("_")

    def call(m: Mask, *args: Any) -> Any:
        wide = [a for a in args if isinstance(a, np.ndarray)]
        if not wide:
            return scalar(*[_plain(name, a) for a in args])
        if fast is not None:
            if stem in LITERAL:
                _typed(name, suffix, args[0])
                return fast(*args)
            _typed(name, suffix, *args)
            out = fast(*[a if isinstance(a, np.ndarray) else TYPES[suffix](a) for a in args])
            return out if out.dtype != np.float64 or suffix == "f64" else out.astype(np.float32)
        return _by_lane(name, scalar, m, args, wide[0].size)
    return call


def _by_lane(name: str, scalar: Word, m: Mask, args: tuple[Any, ...], size: int) -> Any:
    lanes = range(size) if m is None else np.flatnonzero(m)
    values = [scalar(*[_plain(name, a[k] if isinstance(a, np.ndarray) else a) for a in args]) for k in lanes]
    found = TYPES[kind(values[0])]
    out = np.zeros(size, found)
    out[np.asarray(lanes)] = values
    return out


def _plain(name: str, a: Any) -> Any:
    """A value as the CPU's words take it; they have neither ix nor halves."""
    found = code(a)
    if found in ("ix", "f16", "bf16") and not (type(a) is int and name.rpartition("_")[0] in LITERAL):
        raise KernelFault("type", f"{name} of {found}")
    return a


def _shifted(name: str) -> Word:
    """``shift_u8(a, b, left)`` in an integer of that width: by less than 0, or by its bits or more, all bits leave."""
    dtype = np.dtype(STORAGE[name])
    bits = 8 * dtype.itemsize

    def call(m: Mask, a: Any, b: Any, left: Any) -> Any:
        _typed(f"shift_{name}", "i64", a, b)
        if type(left) is not bool:
            raise KernelFault("type", f"shift_{name} wants a literal True or False, not {left!r}")
        narrow = np.asarray(a).astype(dtype)
        far = (b < 0) | (b >= bits)
        by = np.where(far, 0, b).astype(dtype)
        if left:
            out = np.where(far, dtype.type(0), narrow << by)
        else:
            out = np.where(far, narrow >> dtype.type(bits - 1) if dtype.kind == "i" else dtype.type(0), narrow >> by)
        return out.astype(np.int64)[()]
    return call


def _mul_wide(m: Mask, a: Any, b: Any) -> Any:
    """The product of two unsigned 32-bit words, each in the low half of an i64: all 64 bits of it."""
    _typed("mul_wide_u32", "i64", a, b)
    low = np.int64(0xFFFFFFFF)
    return np.multiply(np.bitwise_and(a, low), np.bitwise_and(b, low))


def _philox(suffix: str) -> Word:
    def call(m: Mask, place: Any, seed: Any, draw: Any) -> Any:
        _typed(f"philox_{suffix}", "i64", place, seed, draw)
        return philox.at(place, seed, draw, suffix)[()]
    return call


def _polygamma(suffix: str) -> Word:
    def call(m: Mask, x: Any, n: Any) -> Any:
        import scipy.special  # type: ignore[import-untyped]
        _typed(f"polygamma_{suffix}", suffix, x)
        if type(n) is not int or n < 0:
            raise KernelFault("type", f"polygamma_{suffix} wants a literal order, not {n!r}")
        return TYPES[suffix](scipy.special.digamma(x) if n == 0 else scipy.special.polygamma(n, x))
    return call


@cache
def words() -> dict[str, Word]:
    """Every scalar word, as ``word(mask, *values)``."""
    skipped = {*VIEWS, *"size c_i64 c_f32 c_f64 set_error inf nan select index_div index_mod".split(),
               *"address call call_f64 refuse".split()}      # of the CPU alone
    out = {name: _word(name, fn) for name, fn in python_namespace().items() if name not in skipped}
    out.update(to_b1=_to_b1, to_u8=_to_integer(8, False), to_f16=_to_f16, to_bf16=_to_bf16,
               mul_wide_u32=_mul_wide, index_div=OPERATORS["FloorDiv"], index_mod=OPERATORS["Mod"], index_clamp=_index_clamp,
               f4=lambda m, x: np.float32(x), f8=lambda m, x: np.float64(x))
    out.update({f"to_{s}": _cast(s) for s in ("f32", "f64")})
    out.update({f"to_i{bits}": _to_integer(bits) for bits in (64, 32, 16, 8)})
    out.update({f"shift_{s}": _shifted(s) for s in ("u8", "i8", "i16", "i32", "i64")}, int_pow_i64=out["pow_i64"],
               philox_i64=_philox("i64"))
    for s in ("f32", "f64"):
        out[f"philox_{s}"] = _philox(s)
        out[f"bits_{s}"], out[f"from_bits_{s}"], out[f"polygamma_{s}"] = _bits(s), _from_bits(s), _polygamma(s)
    return out


def _index_clamp(m: Mask, i: Any) -> Any:
    """i, or 0 below."""
    if code(i) != "ix":
        raise KernelFault("type", f"index_clamp of {code(i)}")
    return np.maximum(i, 0)
