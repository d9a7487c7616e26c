"""The language of kernel text, and its plain Python reading.

In: the text of one kernel and its table of arguments.  Out: the same stores the compiled kernel
would make, slowly, with every access and every type checked.  Never imports numba or llvmlite;
`library.py` gives the same names to the compiler, and a test holds the two against each other.

A kernel is a function ``kernel(args, lo, hi, chunk)``.  `args` is a table of 64-bit words: first
the addresses of the buffers, then slots.  `lo`, `hi`, `chunk` and every loop index are int64.

Types.  There are four: int64 (``i64``), float32 (``f32``), float64 (``f64``) and bool (``b1``).
Narrow integers exist in memory only: a load widens them to int64, a store keeps their low bits.
Two more, float16 (``f16``) and bfloat16 (``bf16``), are only carried from place to place: ``to_f32``
reads them, ``to_f16`` and ``to_bf16`` round an f32 to them, to nearest even.
Nothing converts by itself: both sides of an operator, and a store and its view, have one type
(integers may be stored in any integer view).

==================  ==============================================================================
views               ``x = f32(args, k, n)``: buffer k of the n buffers of this kernel, which
                    overlaps no other of them; also f64 i64 i32 i16 i8 u8 b1 f16 bf16.  ``x[i]``,
                    ``x[i] = v``
slots               ``size(args, s)`` int64 · ``c_f32 c_f64`` (the slot holds float64 bits) · ``c_i64``
                    · ``set_error(args, s, code)`` writes an int64, seen after the run
literals            ``3`` is i64, ``True`` b1, ``f4(1.5)`` f32, ``f8(1.5)`` f64; ``inf`` and ``nan``
                    stand inside f4(), f8()
casts               ``to_f32 to_f64 to_i64 to_b1``; ``to_i32 to_i16 to_i8 to_u8`` wrap an integer to
                    that width, as int64.  Float to integer cuts towards zero; NaN and what does not
                    fit give the least int64 (int32 below 64 bits, then cut), as x86 and torch do.
                    To bool: ``x != 0``, NaN is True
bits                ``bits_f32(x)``: the pattern as int64 (sign extended), ``from_bits_f32(i)``; _f64
accumulate          ``add_f32(acc, v)``, ``mul_f32``; f64: the order of terms is free
order               ``maximum_f32 minimum_f32`` (NaN wins; f64, i64), ``fmax_f32 fmin_f32`` (NaN loses)
choice              ``select(cond, a, b)`` computes both sides, vectorises; ``a if c else b`` may branch
exact               ``sqrt fma floor ceil trunc rint abs copysign`` + ``_f32/_f64``; ``abs_i64``
tests               ``isnan isinf isfinite signbit`` + ``_f32/_f64`` -> b1
division            ``floordiv remainder fmod`` + ``_f32/_f64/_i64``: torch's (Python's signs; fmod has
                    C's).  An integer divided by 0 gives 0: the emitter notes the error by set_error
index               ``index_div(i, n)``, ``index_mod(i, n)`` for i >= 0, n > 0, unchecked
powers              ``powi_f32(x, 3)``: integer constant, by products; f64, i64 (not negative there);
                    ``pow_i64(x, y)`` run-time y
integers            ``add_i64 sub_i64 mul_i64 neg_i64`` wrap at 64 bits: use them for data, and ``+ - *``
                    for indices, which never overflow; ``shl_i64 shr_i64 ushr_i64`` (a shift by 64 or
                    more, or less than 0, shifts all out)
random              ``philox_i64 philox_f32 philox_f64`` (place, seed, draw), integers all: `ops/philox.py`
mathematics         `MATH`: exp log sin tanh erf pow ... + ``_f32/_f64``, within the ulps of vecmath
outside             ``address(x, i)``: where x[i] stands, as int64; ``call(f, a, b, ...)``: C's function at the
                    address f, of int64 arguments; what it returns is not looked at.  ``call_f64(f, x, ...)``:
                    SciPy's function of doubles, and what it returns.  ``refuse()``: the
                    kernel ends with status 1 (it goes on until then): NumPy is to run the whole and say what is wrong
==================  ==============================================================================

``+ - *`` on all numbers, ``/`` on floats, ``& | ^ ~`` on integers, ``& | ^`` and ``not`` on bools,
comparisons, ``a and b``, ``if``, ``while``, ``for i in range(lo, hi)`` with a constant step, assignment to one name
(no tuples), ``pass``.  Nothing else: no calls of other functions, no ``return``, no ``break``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

VIEWS: dict[str, str] = {"f32": "float32", "f64": "float64", "i64": "int64", "i32": "int32",
                         "i16": "int16", "i8": "int8", "u8": "uint8", "b1": "bool", "f16": "float16", "bf16": "uint16"}
"""Name of a view -> dtype of its elements."""

HALVES = ("f16", "bf16")
"""Floats of two bytes: values that are loaded, stored, chosen and cast, nothing else."""

FLOATS: dict[str, type] = {"f32": np.float32, "f64": np.float64}

UNARY = ("exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh "
         "atanh sigmoid softplus rsqrt cbrt erf erfc erfinv lgamma digamma").split()
BINARY = "pow atan2 hypot".split()
MATH = (*UNARY, *BINARY)
"""Functions that `vecmath` gives to the compiler, each with suffix _f32 and _f64."""



class Half:
    """A float16 or bfloat16 as the interpreter carries it: what stands in memory, with which nothing can be computed."""

    __slots__ = ("name", "word")

    def __init__(self, name: str, word: Any) -> None:
        self.name, self.word = name, word


def kind(value: Any) -> str:
    """f32, f64, i64, b1, f16 or bf16: the type the compiler would give to this Python value."""
    if isinstance(value, (bool, np.bool_)):
        return "b1"
    if isinstance(value, np.float32):
        return "f32"
    if isinstance(value, float):  # np.float64 is one
        return "f64"
    if isinstance(value, (int, np.int64)):
        return "i64"
    if isinstance(value, Half):
        return value.name
    raise TypeError(f"kernels know f32, f64, i64 and b1, not {type(value).__name__}")


def _expect(what: str, *pairs: tuple[Any, str]) -> None:
    for value, wanted in pairs:
        if kind(value) != wanted:
            raise TypeError(f"{what} wants {wanted}, got {kind(value)}: {value!r}")


def wrap(value: int, bits: int, signed: bool = True) -> int:
    """The low `bits` of an integer, read as signed or unsigned."""
    value = int(value) & ((1 << bits) - 1)
    return value - (1 << bits) if signed and value >> (bits - 1) else value


KEPT = ("f32", "f64", "b1", *HALVES)                      # views whose values have their type


class View:
    """One buffer as kernels see it: flat, typed, and here bounds-checked."""

    __slots__ = ("name", "data", "label")

    def __init__(self, name: str, array: np.ndarray, label: str) -> None:
        if array.dtype != np.dtype(VIEWS[name]):
            raise TypeError(f"{label} holds {array.dtype}, the kernel reads it as {VIEWS[name]}")
        if not array.flags.c_contiguous:
            raise ValueError(f"{label} is not contiguous")
        self.name, self.data, self.label = name, array.reshape(-1), label

    def _index(self, i: Any) -> int:
        _expect(f"an index of {self.label}", (i, "i64"))
        if not 0 <= i < self.data.size:
            raise IndexError(f"{self.label} has {self.data.size} elements, index {i}")
        return int(i)

    def __getitem__(self, i: Any) -> Any:
        value = self.data[self._index(i)]
        if self.name in HALVES:
            return Half(self.name, value)
        return value if self.name in KEPT else np.int64(value)

    def __setitem__(self, i: Any, value: Any) -> None:
        wanted = self.name if self.name in KEPT else "i64"
        _expect(f"a store to {self.label}", (value, wanted))
        if wanted in HALVES:
            value = value.word
        if wanted == "i64":
            bits = 8 * self.data.itemsize
            value = wrap(value, bits, signed=self.name != "u8")
        self.data[self._index(i)] = value


def _view(name: str) -> Callable[[Sequence[Any], int, int], View]:
    def view(args: Sequence[Any], k: int, n: int) -> View:
        if not 0 <= k < n <= len(args):
            raise IndexError(f"buffer {k} of {n} in a table of {len(args)}")
        return View(name, args[k], f"buffer {k} ({name})")
    return view


def _size(args: Sequence[Any], slot: int) -> int:
    _expect(f"slot {slot}", (args[slot], "i64"))
    return int(args[slot])


def _set_error(args: Any, slot: int, code: int) -> None:
    args[slot] = int(code)


def _address(view: View, i: Any) -> int:
    return int(view.data.ctypes.data) + view._index(i) * view.data.itemsize


def _refuse() -> None:
    raise ArithmeticError("the kernel refuses what it was given")


def _call(f: int, *words: int) -> None:
    import ctypes
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(words))(f)(*words)


def _call_f64(f: int, *x: float) -> Any:
    import ctypes
    return np.float64(ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_double] * len(x), ctypes.c_int)(f)(*x, 0))


# ---------------------------------------------------------------------------------------- casts
def to_int(x: Any, bits: int = 64, signed: bool = True) -> Any:
    """Convert to an integer of a width, as int64."""
    if kind(x) in ("i64", "b1"):
        return np.int64(wrap(int(x), bits, signed))
    hardware = 64 if bits == 64 else 32
    least = -(2 ** (hardware - 1))
    whole = least if not math.isfinite(x) else int(x)
    if not least <= whole < -least:
        whole = least
    return np.int64(wrap(whole, bits, signed))


def _to_float(dtype: type) -> Callable[[Any], Any]:
    def cast(x: Any) -> Any:
        if kind(x) in HALVES:
            if dtype is not np.float32:
                raise TypeError("only to_f32 reads a half")
            return x.word.astype(dtype) if x.name == "f16" else (np.uint32(x.word) << np.uint32(16)).view(np.float32)
        return dtype(x)
    return cast


def to_f16(x: Any) -> Half:
    """A float32 rounded to float16."""
    _expect("to_f16", (x, "f32"))
    return Half("f16", np.float16(x))


def to_bf16(x: Any) -> Half:
    """A float32 rounded to bfloat16; a NaN stays one, and keeps its sign."""
    _expect("to_bf16", (x, "f32"))
    word = int(np.float32(x).view(np.uint32))
    if np.isnan(x):
        return Half("bf16", np.uint16(word >> 16 | 0x40))
    return Half("bf16", np.uint16((word + 0x7FFF + (word >> 16 & 1)) >> 16))


def _to_bool(x: Any) -> bool:
    return bool(x) if kind(x) == "b1" else bool(x != 0)


# -------------------------------------------------------------------------------- integer words
def floordiv_int(a: Any, b: Any) -> Any:
    """Towards minus infinity; by zero 0; the least int64 by -1 is itself."""
    return np.int64(0) if b == 0 else np.int64(wrap(int(a) // int(b), 64))


def remainder_int(a: Any, b: Any) -> Any:
    return np.int64(0) if b == 0 else np.int64(int(a) % int(b))


def fmod_int(a: Any, b: Any) -> Any:
    if b == 0:
        return np.int64(0)
    rest = abs(int(a)) % abs(int(b))
    return np.int64(-rest if a < 0 else rest)


def pow_int(x: Any, y: Any) -> Any:
    """Modulo 2**64; a negative exponent gives 0 unless the base is 1 or -1 (torch)."""
    x, y = int(x), int(y)
    if y < 0:
        return np.int64(0 if x not in (1, -1) else 1 if x == 1 or y % 2 == 0 else -1)
    return np.int64(wrap(pow(x, y, 2 ** 64), 64))


def _shl(a: Any, n: Any) -> Any:
    return np.int64(wrap(int(a) << int(n), 64)) if 0 <= n < 64 else np.int64(0)


def _shr(a: Any, n: Any) -> Any:
    return np.int64(int(a) >> (int(n) if 0 <= n < 64 else 63))


def _ushr(a: Any, n: Any) -> Any:
    return np.int64(wrap((int(a) % 2 ** 64) >> int(n), 64)) if 0 <= n < 64 else np.int64(0)


# ---------------------------------------------------------------------------------- float words
def floordiv_float(a: Any, b: Any) -> Any:
    """torch's floor division: exact where a / b is near a whole number."""
    t = type(a)
    if b == 0:
        return a / b
    mod = np.fmod(a, b)
    div = (a - mod) / b
    if mod != 0 and (b < 0) != (mod < 0):
        div = div - t(1)
    if div == 0:
        return np.copysign(t(0), a / b)
    whole = np.floor(div)
    return whole + t(1) if div - whole > t(0.5) else whole


def remainder_float(a: Any, b: Any) -> Any:
    mod = np.fmod(a, b)
    return mod + b if mod != 0 and (b < 0) != (mod < 0) else mod


def powi(x: Any, n: int) -> Any:
    """x**n by squaring, in the order the compiled kernel multiplies."""
    if kind(n) != "i64":
        raise TypeError("powi wants an integer constant")
    if n < 0:
        if kind(x) == "i64":
            raise TypeError("powi_i64 wants a constant >= 0")
        return type(x)(1) / powi(x, -n)
    result, square, first = type(x)(1), x, True
    while n:
        if n & 1:
            result, first = (square if first else result * square), False
        n >>= 1
        square = square * square if n else square
    return result


def _fma(a: Any, b: Any, c: Any) -> Any:
    if isinstance(a, np.float32):  # exact product, one rounding too many in rare ties
        return np.float32(float(a) * float(b) + float(c))
    return _fma_f64(float(a), float(b), float(c))


def _fma_f64(a: float, b: float, c: float) -> np.float64:
    from fractions import Fraction  # only here: exact, and not wanted on any hot path
    plain = a * b + c
    if not all(map(math.isfinite, (a, b, c))):
        return np.float64(plain)
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return np.float64(float(exact)) if exact else np.float64(plain)
    except OverflowError:
        return np.float64(math.inf if exact > 0 else -math.inf)


def _maximum(a: Any, b: Any) -> Any:
    """NaN wins, and 0 is more than -0 (NumPy leaves that open)."""
    return (b if np.signbit(a) else a) if a == b else np.maximum(a, b)


def _minimum(a: Any, b: Any) -> Any:
    return (a if np.signbit(a) else b) if a == b else np.minimum(a, b)


def _special(name: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        import scipy.special  # type: ignore[import-untyped]
        return getattr(scipy.special, name)(*args)
    return call


def _lgamma(x: Any) -> Any:
    """SciPy gives -inf at -inf; it is inf, as at every pole."""
    return _special("gammaln")(np.where(x == -np.inf, np.inf, x))


NUMPY: dict[str, Callable[..., Any]] = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "atan2": np.arctan2, "pow": np.power,
    "sigmoid": _special("expit"), "erf": _special("erf"), "erfc": _special("erfc"),
    "erfinv": _special("erfinv"), "lgamma": _lgamma, "digamma": _special("digamma"),
    "softplus": lambda x: np.logaddexp(type(x)(0), x),
    "rsqrt": lambda x: type(x)(1) / np.sqrt(x),
    "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint,
    "abs": np.abs, "copysign": np.copysign, "maximum": _maximum, "minimum": _minimum,
    "fmax": np.fmax, "fmin": np.fmin, "fmod": np.fmod, "remainder": remainder_float,
    "floordiv": floordiv_float, "fma": _fma, "add": np.add, "mul": np.multiply,
}
_TESTS: dict[str, Callable[[Any], Any]] = {"isnan": np.isnan, "isinf": np.isinf,
                                           "isfinite": np.isfinite, "signbit": np.signbit}
_EXACT = ("sqrt floor ceil trunc rint abs copysign maximum minimum fmax fmin fmod remainder floordiv "
          "fma add mul").split()
_INTEGER: dict[str, Callable[..., Any]] = {
    "floordiv": floordiv_int, "remainder": remainder_int, "fmod": fmod_int, "pow": pow_int,
    "shl": _shl, "shr": _shr, "ushr": _ushr, "maximum": np.maximum, "minimum": np.minimum,
    "add": lambda a, b: np.int64(wrap(int(a) + int(b), 64)),
    "sub": lambda a, b: np.int64(wrap(int(a) - int(b), 64)),
    "neg": lambda a: np.int64(wrap(-int(a), 64)),
    "mul": lambda a, b: np.int64(wrap(int(a) * int(b), 64)),
    "abs": lambda a: np.int64(wrap(abs(int(a)), 64)),
}


def _typed(name: str, suffix: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` on arguments of one type, giving that type."""
    dtype = {"f32": np.float32, "f64": np.float64, "i64": np.int64}[suffix]

    def call(*args: Any) -> Any:
        _expect(f"{name}_{suffix}", *((a, suffix) for a in args))
        return dtype(fn(*map(dtype, args)))
    return call


def _test(name: str, suffix: str, fn: Callable[[Any], Any]) -> Callable[[Any], bool]:
    def call(x: Any) -> bool:
        _expect(f"{name}_{suffix}", (x, suffix))
        return bool(fn(x))
    return call


def _powi(suffix: str) -> Callable[[Any, int], Any]:
    def call(x: Any, n: int) -> Any:
        _expect(f"powi_{suffix}", (x, suffix))
        return powi(np.int64(x) if suffix == "i64" else FLOATS[suffix](x), n)
    return call


def _philox(suffix: str) -> Callable[[Any, Any, Any], Any]:
    def call(place: Any, seed: Any, draw: Any) -> Any:
        from ...ops import philox  # compile processes know words, not ops
        _expect(f"philox_{suffix}", (place, "i64"), (seed, "i64"), (draw, "i64"))
        return philox.at([place], [seed], [draw], suffix)[0]
    return call


def _select(cond: Any, a: Any, b: Any) -> Any:
    _expect("the condition of select", (cond, "b1"))
    _expect("the second side of select", (b, kind(a)))
    return a if cond else b


def _index(fn: Callable[[int, int], int]) -> Callable[[Any, Any], int]:
    def call(i: Any, n: Any) -> int:
        _expect("an index", (i, "i64"), (n, "i64"))
        if i < 0 or n <= 0:
            raise ValueError(f"index arithmetic wants i >= 0 and n > 0, got {i}, {n}")
        return fn(int(i), int(n))
    return call


def python_namespace() -> dict[str, Any]:
    """Every name of the language, over NumPy arrays and Python numbers.

    `args` is then a list: contiguous arrays of the views' dtypes first, ints and floats after
    them.  Wrong types, indices out of bounds and unknown names raise.  The same function objects
    come each time: they are also what `library.py` hangs the compiled meaning on.
    """
    return dict(_words())


@cache
def _words() -> dict[str, Any]:
    ns: dict[str, Any] = {name: _view(name) for name in VIEWS}
    ns.update(size=_size, c_i64=_size, set_error=_set_error, inf=math.inf, nan=math.nan,
              address=_address, call=_call, call_f64=_call_f64, refuse=_refuse,
              f4=_to_float(np.float32), f8=_to_float(np.float64), select=_select, to_b1=_to_bool,
              index_div=_index(lambda i, n: i // n), index_mod=_index(lambda i, n: i % n))
    for bits in (64, 32, 16, 8):
        ns[f"to_i{bits}"] = lambda x, bits=bits: to_int(x, bits)
    ns["to_u8"] = lambda x: to_int(x, 8, signed=False)
    ns.update(to_f16=to_f16, to_bf16=to_bf16)
    for suffix, dtype in FLOATS.items():
        integer = np.int32 if suffix == "f32" else np.int64
        ns[f"c_{suffix}"] = lambda args, slot, dtype=dtype: dtype(args[slot])
        ns[f"to_{suffix}"] = _to_float(dtype)
        ns[f"bits_{suffix}"] = _typed_bits(suffix, dtype, integer)
        ns[f"from_bits_{suffix}"] = _from_bits(suffix, dtype, integer)
        for name in (*MATH, *_EXACT):
            ns[f"{name}_{suffix}"] = _typed(name, suffix, NUMPY.get(name) or getattr(np, name))
        for name, fn in _TESTS.items():
            ns[f"{name}_{suffix}"] = _test(name, suffix, fn)
        ns[f"powi_{suffix}"] = _powi(suffix)
    for name, fn in _INTEGER.items():
        ns[f"{name}_i64"] = _typed(name, "i64", fn)
    ns["powi_i64"] = _powi("i64")
    ns.update({f"philox_{suffix}": _philox(suffix) for suffix in ("i64", *FLOATS)})
    return ns


def _typed_bits(suffix: str, dtype: type, integer: type) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        _expect(f"bits_{suffix}", (x, suffix))
        return np.int64(dtype(x).view(integer))
    return call


def _from_bits(suffix: str, dtype: type, integer: type) -> Callable[[Any], Any]:
    bits = 8 * np.dtype(integer).itemsize

    def call(i: Any) -> Any:
        _expect(f"from_bits_{suffix}", (i, "i64"))
        return integer(wrap(i, bits)).view(dtype)
    return call


def load(text: str) -> Callable[[Any, int, int, int], None]:
    """The function of a kernel text, to be called as ``kernel(args, lo, hi, chunk)``.

    >>> import numpy as np
    >>> x, y = np.ones(3, "f4"), np.zeros(3, "f4")
    >>> k = load('''def kernel(args, lo, hi, chunk):
    ...     x = f32(args, 0, 2)
    ...     y = f32(args, 1, 2)
    ...     for i in range(lo, hi):
    ...         y[i] = x[i] + f4(1.5)
    ... ''')
    >>> k([x, y], 0, 3, 0); y.tolist()
    [2.5, 2.5, 2.5]
    """
    ns = python_namespace()
    exec(compile(text, "<kernel>", "exec"), ns)
    kernel = ns["kernel"]

    def run(args: Any, lo: int, hi: int, chunk: int = 0) -> None:
        with np.errstate(all="ignore"):
            kernel(args, lo, hi, chunk)
    return run
