"""What is known of a value before it exists: shape, dtype, device.  Interned, so that equality is identity."""

from __future__ import annotations

from ..dtypes import DType

Shape = tuple[int, ...]


class Aval:
    """Abstract value.  Make it with `aval()`: one object for each (shape, dtype, device).  host: the same on the CPU."""

    __slots__ = ("shape", "dtype", "device", "size", "host")

    shape: Shape
    dtype: DType
    device: str
    size: int
    host: Aval

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        where = "" if self.device == "cpu" else f"@{self.device}"
        return f"{self.dtype.code}[{','.join(map(str, self.shape))}]{where}"


_INTERNED: dict[tuple[Shape, DType, str], Aval] = {}


def aval(shape: Shape, dtype: DType, device: str = "cpu") -> Aval:
    """The one Aval of this shape (a tuple of Python ints), dtype and device."""
    key = (shape, dtype, device)
    a = _INTERNED.get(key)
    if a is None:
        a = Aval()
        a.shape, a.dtype, a.device = shape, dtype, device
        size = 1
        for n in shape:
            size *= n
        a.size = size
        a.host = a if device == "cpu" else aval(shape, dtype)
        a = _INTERNED.setdefault(key, a)
    return a
