"""Dtypes and torch's promotion rules.

In: tensors' dtypes, their dimensions, Python numbers.  Out: the dtype of the result.  Never touches data, but for the two
functions that say how values lie in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BOOL, INT, FLOAT, COMPLEX = 0, 1, 2, 3


class DType:
    """One element type: prints as torch's does (``torch.float32``). `code` is its short name in kernels (f32, i64, b1).
    `np`: NumPy's dtype of its memory (bfloat16 is seen there as uint16: `halves`).  `half`: two bytes, and all arithmetic is
    float32's (`rewrite/half.py`).  `number`: NumPy's type of a number that is not memory, `weak`: the dtype of a Python number
    beside its tensors; both float32 for halves, so that numbers keep their digits until they are used.  `part`: the dtype of
    the real and the imaginary part of a complex one, itself for all others."""

    __slots__ = ("name", "np", "number", "weak", "category", "itemsize", "code", "rank", "half", "part")

    part: DType

    def __init__(self, name: str, code: str, category: int, rank: int) -> None:
        self.name, self.code, self.category, self.rank = name, code, category, rank
        self.half = name in ("float16", "bfloat16")
        self.np = np.dtype("uint16" if name == "bfloat16" else name)
        self.number: Any = np.float32 if self.half else self.np.type
        self.weak = self.part = self
        self.itemsize = self.np.itemsize

    @property
    def is_floating_point(self) -> bool:
        return self.category == FLOAT

    @property
    def is_complex(self) -> bool:
        return self.category == COMPLEX

    def to_real(self) -> DType:
        """The dtype of its parts, if it is complex."""
        return self.part

    def to_complex(self) -> DType:
        """The complex dtype whose parts have this one.  RuntimeError where there is none."""
        return paired(self)

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (by_name, (self.name,))


bool_ = DType("bool", "b1", BOOL, 0)
uint8 = DType("uint8", "u8", INT, 1)
int8 = DType("int8", "i8", INT, 2)
int16 = DType("int16", "i16", INT, 3)
int32 = DType("int32", "i32", INT, 4)
int64 = DType("int64", "i64", INT, 5)
float16 = DType("float16", "f16", FLOAT, 6)
bfloat16 = DType("bfloat16", "bf16", FLOAT, 6)
float32 = DType("float32", "f32", FLOAT, 7)
float64 = DType("float64", "f64", FLOAT, 8)
complex64 = DType("complex64", "c64", COMPLEX, 9)
complex128 = DType("complex128", "c128", COMPLEX, 10)
float16.weak = bfloat16.weak = float32
complex64.part, complex128.part = float32, float64

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64, complex128)
_BY_NP = {d.np: d for d in ALL if d is not bfloat16}
_BY_NAME = {d.name: d for d in ALL}
_BY_PYTHON = {bool: bool_, int: int64, float: float64, complex: complex128}

_default = [float32]


def default_float() -> DType:
    return _default[0]


DEPENDENT: list[Any] = []                                  # who remembers what follows from the default: told before it changes


def set_default_dtype(dtype: Any) -> None:
    """The dtype of floats that say none: any floating one."""
    d = as_dtype(dtype)
    if d.category != FLOAT:
        raise TypeError("only floating-point types are supported as the default type")
    if d is not _default[0]:
        for forget in DEPENDENT:
            forget()
    _default[0] = d


def by_name(name: str) -> DType:
    return _BY_NAME[name]


def paired(d: DType) -> DType:
    """The complex dtype for parts of this one (halves: none of two bytes exists here, so that of float32)."""
    if d.category < FLOAT:
        raise RuntimeError(f"Unknown Complex ScalarType for {d.name}")
    return complex128 if d.part is float64 else complex64


def default_complex() -> DType:
    return paired(_default[0])


def as_dtype(x: Any) -> DType:
    """A DType from a DType, a NumPy dtype, a name, or bool/int/float.  TypeError says which dtypes exist."""
    if type(x) is DType:
        return x
    if isinstance(x, type) and x in _BY_PYTHON:
        return _BY_PYTHON[x]
    if x == "bfloat16" and isinstance(x, str):
        return bfloat16
    try:
        d = np.dtype(x)
    except TypeError:
        d = None
    found = _BY_NP.get(d.newbyteorder("=")) if d is not None else None
    if found is None:
        raise TypeError(f"{x!r} is not a dtype autojit has; it has {', '.join(d.name for d in ALL)}")
    return found


def of_memory(d: Any) -> DType:
    """The dtype of memory that we made ourselves: uint16 are the bits of bfloat16, since no tensor of ours has uint16."""
    return bfloat16 if d == np.uint16 else as_dtype(d)


def memory(values: Any, d: DType) -> Any:
    """Values, as NumPy has them, as memory of a dtype: an array of `d.np`.  No copy where nothing changes."""
    if d is bfloat16:
        from .halves import bits
        return bits(values)
    return np.asarray(values, d.np)


def readable(array: Any) -> Any:
    """Memory that we made ourselves as values: bits of bfloat16 become float32, all else stays what it is."""
    if array.dtype == np.uint16:
        from .halves import values
        return values(array)
    return array


def promote(a: DType, b: DType) -> DType:
    """torch's lattice for two tensors of one kind (both with dimensions, or both without)."""
    if a is b:
        return a
    if a.category != b.category:
        hi, lo = (a, b) if a.category > b.category else (b, a)
        return complex128 if hi.category == COMPLEX and lo is float64 else hi
    if a.rank == b.rank:
        return float32                                    # float16 and bfloat16
    lo, hi = (a, b) if a.rank < b.rank else (b, a)
    if lo is uint8 and hi is int8:
        return int16
    return hi


def of_number(x: Any) -> DType:
    """The dtype a Python number asks for: weak, it wins by category only."""
    if isinstance(x, bool):
        return bool_
    if isinstance(x, int):
        return int64
    return default_complex() if isinstance(x, complex) else default_float()


def result_type(dims: DType | None, zerod: DType | None, weak: DType | None) -> DType:
    """Category beats priority: tensors with dimensions, then 0-d tensors, then Python numbers (torch's result_type)."""
    out = dims
    for other in (zerod, weak):
        if other is not None and (out is None or other.category > out.category):
            out = other if out is None or out.category < FLOAT else paired(out)
    assert out is not None
    return out


def wrapped(v: int, d: DType) -> int:
    """An integer as it is left in memory of an integer dtype: its low bits, read with the dtype's sign."""
    bits = 8 * d.itemsize
    v &= (1 << bits) - 1
    return v if d is uint8 or v < 1 << (bits - 1) else v - (1 << bits)


_LIMITS = {d: (int(np.iinfo(d.np).min) if d is not uint8 else -255, int(np.iinfo(d.np).max)) for d in ALL if d.category == INT}
_LARGEST = {float16: 65504.0, bfloat16: 3.3895313892515355e38, float32: float(np.finfo(np.float32).max)}
_C = {"float32": "float", "float64": "double", "float16": "c10::Half", "bfloat16": "c10::BFloat16"}


def fits(v: Any, d: DType) -> bool:
    """Can a dtype hold a Python number (torch lets -255 to -1 pass as uint8: they wrap)?"""
    if d.category == BOOL or d.category == COMPLEX:
        return True
    if d.category == INT:
        low, high = _LIMITS[d]
        return bool(low <= v <= high)                     # False for NaN
    return d is float64 or isinstance(v, int) and not d.half or not _LARGEST[d] < abs(v) < np.inf


def converted(v: Any, d: DType) -> Any:
    """A Python number as one that a dtype holds.  RuntimeError in torch's words if there is none."""
    if isinstance(v, complex) and d.category != COMPLEX or not fits(v, d):
        name = _C.get(d.name, d.name + "_t")
        raise RuntimeError(f"value cannot be converted to type {name} without overflow")
    if d.category == BOOL:
        return bool(v)
    return wrapped(int(v), d) if d.category == INT else v


class Info:
    """The limits of a dtype: `finfo(float32).eps`, `iinfo(int8).max`, as Python numbers."""

    def __init__(self, dtype: DType, **limits: Any) -> None:
        self.dtype, self.bits = dtype.name, 8 * dtype.itemsize
        self.__dict__.update(limits)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class finfo(Info):
    """Limits of a floating dtype (the default one if none is given): bits eps max min tiny smallest_normal resolution."""

    def __init__(self, dtype: Any = None) -> None:
        d = default_float() if dtype is None else as_dtype(dtype).part
        if d.category != FLOAT:
            raise TypeError("torch.finfo() requires a floating point input type. Use torch.iinfo to handle 'torch.finfo'")
        if d is bfloat16:
            top, least = _LARGEST[d], 2.0 ** -126
            super().__init__(d, resolution=0.01, min=-top, max=top, eps=2.0 ** -7, smallest_normal=least, tiny=least)
            return
        f = np.finfo(d.np)
        super().__init__(d, resolution=float(f"1e-{f.precision}"),
                         **{k: float(getattr(f, k)) for k in ("min", "max", "eps", "smallest_normal", "tiny")})

    def __repr__(self) -> str:
        words = [f"{k}={getattr(self, k):.6g}" for k in ("resolution", "min", "max", "eps", "smallest_normal", "tiny")]
        return f"finfo({', '.join(words)}, dtype={self.dtype})"


class iinfo(Info):
    """Limits of an integer dtype: bits max min."""

    def __init__(self, dtype: Any) -> None:
        d = as_dtype(dtype)
        if d.category != INT:
            raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to handle 'torch.iinfo'")
        f = np.iinfo(d.np)
        super().__init__(d, min=int(f.min), max=int(f.max))

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
