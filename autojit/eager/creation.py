"""New tensors: from Python data, from NumPy memory, from a shape.

In: numbers, nested lists, arrays, shapes.  Out: tensors.  Constants (`zeros`, `full`) are expressions, not memory, until
somebody looks.  `tensor()` copies; `from_numpy` shares.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import (
    ALL,
    BOOL,
    COMPLEX,
    FLOAT,
    DType,
    as_dtype,
    bfloat16,
    converted,
    default_float,
    fits,
    int64,
    memory,
    of_number,
    promote,
    wrapped,
)
from ..errors import explain
from ..ir.aval import Shape
from ..ir.graph import Node, scalar
from ..ops.declare import P, spread
from ..ops.declare import full as constant
from ..ops.placement import placed, sent
from .convert import array_of
from .evaluate import pend
from .evenly import line
from .lending import borrowed
from .placing import named
from .state import state
from .storage import Storage, aval_of
from .template import scalar_type
from .tensor import Size, Tensor, alias, expect, new, of_array, wrap

_KINDS = "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint8, and bool"


def finish(t: Tensor, requires_grad: bool) -> Tensor:
    """The last words of a creation: requires_grad, inference."""
    if requires_grad is not False:
        if requires_grad is not True:
            raise explain(TypeError(f"argument 'requires_grad' must be bool, not {type(requires_grad).__name__}"))
        if t.aval.dtype.category < FLOAT:
            raise explain(RuntimeError("Only Tensors of floating point and complex dtype can require gradients"),
                          hint="make it floating: write 1. for 1, or give dtype=torch.float32")
        t.req = True
    if state.inference:
        t.frozen = True
    return t


# ---------------------------------------------------------------- from data
def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """A tensor with a copy of `data`: a number, nested lists or tuples of numbers, a NumPy array, another tensor.

    Floats become the default dtype, ints int64; NumPy data keep theirs.  ValueError for ragged lists.

    >>> tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    if isinstance(data, Tensor):
        warnings.warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
                      UserWarning, stacklevel=2)
        at = data.aval.device if device is None else named(device)
        if at != "cpu" or data.aval.device != "cpu":
            return finish(data.detach().to(at, None if dtype is None else as_dtype(dtype), copy=True), requires_grad)
    elif hasattr(data, "__cuda_array_interface__"):
        t = borrowed(data)
        return finish(t.to(t.aval.device if device is None else device, dtype, copy=True), requires_grad)
    array = array_from(data, None if dtype is None else as_dtype(dtype))
    return finish(of_array(array, named(device)), requires_grad)


def array_from(data: Any, dtype: DType | None) -> Any:
    """A new array with the data, C-contiguous, of a dtype that we have."""
    kind = type(data)
    if kind is float or kind is int or kind is bool or kind is complex:
        return _cast(data, dtype or of_number(data))
    if isinstance(data, Tensor):
        return _stored(array_of(data), dtype or data.aval.dtype)
    if isinstance(data, (np.ndarray, np.generic)):
        no_mask(data)
        return _stored(data, known(np.asarray(data), dtype))
    if isinstance(data, (list, tuple)):
        return _from_sequence(data, dtype)
    if hasattr(data, "__array__"):
        return array_from(np.asarray(data), dtype)
    if isinstance(data, str):
        raise explain(TypeError("new(): invalid data type 'str'"))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, dict):
        return _from_sequence(list(data), dtype)
    raise explain(RuntimeError(f"Could not infer dtype of {kind.__name__}"))


def _stored(values: Any, d: DType) -> Any:
    """A new array that holds the values as they lie in memory."""
    return memory(values, d) if d is bfloat16 else np.array(values, d.np, order="C", copy=True)


def known(array: Any, dtype: DType | None) -> DType:
    """The dtype that an array's elements become.  TypeError for what no tensor can hold."""
    if array.dtype.kind not in "bifuc" or array.dtype.itemsize > 16:
        raise explain(TypeError(f"can't convert np.ndarray of type {array.dtype.type.__module__}.{array.dtype.type.__name__}. "
                                f"The only supported types are: {_KINDS}."))
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        raise explain(TypeError(f"can't convert np.ndarray of type numpy.{array.dtype.name}. The only supported types are: "
                                f"{_KINDS}."), hint="convert it first: array.astype(np.int64)")
    return dtype or as_dtype(array.dtype)


def no_mask(array: Any) -> None:
    """Refuse masked arrays: no tensor has a mask."""
    if isinstance(array, np.ma.MaskedArray):
        raise explain(TypeError("a masked array cannot become a tensor: its mask would be lost"),
                      hint="fill the gaps first: array.filled(0)")


def _cast(v: Any, d: DType) -> Any:
    """A Python number as a 0-d array."""
    if isinstance(v, complex) and d.category < COMPLEX:
        raise explain(TypeError("must be real number, not complex"))
    if d.category < FLOAT:
        if d.category > BOOL and isinstance(v, int) and not -1 << 63 <= v < 1 << 63:
            raise explain(ValueError("Overflow when unpacking long long"))
        if not fits(v, d):
            raise explain(_overflow(d))
        return np.array(v if d.category == BOOL else wrapped(int(v), d), d.np)
    try:
        with np.errstate(all="ignore"):
            return memory(v, d)
    except OverflowError:
        raise explain(ValueError("Overflow when unpacking long long")) from None


def _overflow(d: DType) -> RuntimeError:
    return RuntimeError(f"value cannot be converted to type {d.name} without overflow")


def _from_sequence(data: Sequence[Any], dtype: DType | None) -> Any:
    first = _first(data)
    if isinstance(first, (Tensor, np.ndarray)):
        data = _plain(data, 0)
    try:
        array = np.array(data) if len(data) else np.zeros(0)
    except ValueError:
        array = None
    if array is None or array.dtype.kind not in "bifuc" or array.dtype == np.uint64:
        _refuse(data, _shape(data), 0)
        if array is None or array.dtype.kind not in "biufO":
            raise explain(RuntimeError(f"Could not infer dtype of {type(first).__name__}"))
        raise explain(ValueError("Overflow when unpacking long long"))
    if dtype is None:
        dtype = _dtype_of(data) if array.size else default_float()
    if array.dtype.kind == "c" and dtype.category < COMPLEX:
        raise explain(TypeError("must be real number, not complex"))
    if dtype.np == array.dtype and dtype is not bfloat16:
        return np.ascontiguousarray(array) if array.ndim else array
    if BOOL < dtype.category < FLOAT and array.size and not all([fits(v.item(), dtype) for v in (array.min(), array.max())]):
        raise explain(_overflow(dtype))
    with np.errstate(all="ignore"):
        return memory(array, dtype) if dtype.half else array.astype(dtype.np, order="C")


_DEEPEST = 64                                             # NumPy's limit on dimensions


def _first(data: Any) -> Any:
    depth = 0
    while isinstance(data, (list, tuple)) and len(data):
        data = data[0]
        depth += 1
        _not_deeper(depth)
    return data


def _not_deeper(depth: int) -> None:
    if depth > _DEEPEST:                                  # perhaps a list that holds itself
        raise explain(ValueError("too many dimensions 'list'"))


def _dtype_of(data: Any) -> DType:
    """What nested lists ask for: Python numbers weakly as always, NumPy's numbers and tensors by their own dtypes."""
    kinds: set[Any] = set()
    _gather_kinds(data, kinds)
    found: DType | None = None
    for kind in kinds:
        d = _dtype_by(kind)
        found = d if found is None else promote(found, d)
    assert found is not None
    return found


def _dtype_by(kind: Any) -> DType:
    if type(kind) is DType:
        return kind
    if issubclass(kind, np.generic):
        return as_dtype(np.dtype(kind))
    return of_number(1j if issubclass(kind, complex) else issubclass(kind, bool) or (1 if issubclass(kind, int) else 1.0))


def _gather_kinds(data: Any, kinds: set[Any]) -> None:
    """The types of the numbers in nested lists; for tensors and arrays their dtypes."""
    here = set(map(type, data))
    if here <= _PLAIN:
        kinds |= here
        return
    for d in data:
        if isinstance(d, (list, tuple)):
            _gather_kinds(d, kinds)
        elif isinstance(d, Tensor):
            kinds.add(d.aval.dtype)
        elif isinstance(d, np.ndarray):
            no_mask(d)
            kinds.add(known(d, None))
        else:
            kinds.add(type(d))


_PLAIN = {bool, int, float, complex}


def _plain(data: Any, depth: int) -> Any:
    """Nested lists with tensors and arrays as lists of NumPy values."""
    _not_deeper(depth)
    if isinstance(data, Tensor):
        if data.aval.size != 1:
            raise explain(ValueError("only one element tensors can be converted to Python scalars"),
                          hint="torch.stack(list) makes one tensor of several")
        return array_of(data).reshape(())[()]
    return [_plain(d, depth + 1) for d in data] if isinstance(data, (list, tuple)) else data


def _shape(data: Any) -> Shape:
    shape = []
    while isinstance(data, (list, tuple, np.ndarray)) and not (isinstance(data, np.ndarray) and data.ndim == 0):
        shape.append(len(data))
        if not len(data):
            break
        data = data[0]
    return tuple(shape)


def _refuse(data: Any, shape: Shape, dim: int) -> None:
    """Raise torch's error for nested lists that are no tensor."""
    if isinstance(data, str):
        raise explain(TypeError("new(): invalid data type 'str'"))
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], str):
        raise explain(ValueError("too many dimensions 'str'"))
    if dim == len(shape):
        if isinstance(data, (list, tuple)):
            raise explain(TypeError(f"'{type(data).__name__}' object cannot be interpreted as an integer"))
        if data is None or not isinstance(data, (int, float, complex, np.generic)):
            raise explain(RuntimeError(f"Could not infer dtype of {type(data).__name__}"))
        return
    if not isinstance(data, (list, tuple, np.ndarray)):
        if data is None:
            raise explain(RuntimeError("Could not infer dtype of NoneType"))
        raise explain(TypeError("not a sequence"))
    if len(data) != shape[dim]:
        raise explain(ValueError(f"expected sequence of length {shape[dim]} at dim {dim} (got {len(data)})"),
                      hint="every row needs the same length: pad the short ones")
    for d in data:
        _refuse(d, shape, dim + 1)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor over `data` without a copy where that is possible: a tensor of that dtype is returned as it is, the memory of
    NumPy's arrays, and of a device's (CuPy's, Numba's), is shared."""
    if isinstance(data, Tensor):
        return data.to(dtype=dtype, device=device)  # type: ignore[no-any-return]
    if hasattr(data, "__cuda_array_interface__"):
        return borrowed(data).to(dtype=dtype, device=device)  # type: ignore[no-any-return]
    if isinstance(data, np.ndarray) and (dtype is None or as_dtype(dtype).np == data.dtype):
        return from_numpy(data).to(device=named(device))  # type: ignore[no-any-return]
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: Any) -> Tensor:
    """A tensor over the memory of a NumPy array: writes on either side are seen on the other.

    >>> a = np.zeros(2, np.float32); t = from_numpy(a); a[0] = 5; t
    tensor([5., 0.])
    """
    if not isinstance(array, np.ndarray):
        raise explain(TypeError(f"expected np.ndarray (got {type(array).__name__})"))
    no_mask(array)
    known(array, None)
    if any(s < 0 for s in array.strides):
        raise explain(ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not currently "
            "supported. (You can probably work around this by making a copy of your array  with array.copy().) "))
    if not array.dtype.isnative:
        raise explain(ValueError("given numpy array has byte order different from the native byte order. Conversion between "
                                 "byte orders is currently not supported."))
    if not array.flags.writeable:
        warnings.warn("The given NumPy array is not writable, and PyTorch does not support non-writable tensors. This means "
                      "writing to this tensor will result in undefined behavior.", UserWarning, stacklevel=2)
    return _over(array)


def _over(array: Any) -> Tensor:
    return finish(new(Storage(None, array[...]), aval_of(array)), False)


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A tensor over the memory of an object that shows a buffer."""
    d = as_dtype(dtype)
    array = np.frombuffer(buffer, d.np, count, offset)
    t = _over(array) if d is bfloat16 else from_numpy(array)
    return finish(t, requires_grad)


# ---------------------------------------------------------------- from a shape
def shape_of(name: str, size: Sequence[Any]) -> Shape:
    """`(2, 3)` from `f(2, 3)`, `f((2, 3))`, `f([2, 3])`."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    for k, n in enumerate(size):
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise explain(TypeError(f"{name}(): argument 'size' (position {k + 1}) must be tuple of ints, not "
                                    f"{type(n).__name__}"))
        if int(n) < 0:
            raise explain(RuntimeError(f"{name}: Dimension size must be non-negative."))
    shape = tuple([int(n) for n in size])
    if math.prod(shape) >= 1 << 60:
        raise explain(RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)}"))
    return shape


def size_of(name: str, size: Sequence[Any], words: dict[str, Any]) -> Sequence[Any]:
    """The size that was given: loose, as one sequence, or by name."""
    if not size and "size" not in words:
        raise explain(TypeError(f'{name}() missing 1 required positional arguments: "size"'))
    return size or (words["size"],)


def whole(name: str, parameter: str, v: Any) -> int:
    """An argument that is an int.  TypeError in torch's words."""
    if isinstance(v, bool) or not hasattr(v, "__index__"):
        raise explain(TypeError(f"{name}(): argument '{parameter}' must be int, not {type(v).__name__}"))
    return int(v.__index__())


def lazily(n: Node, requires_grad: bool) -> Tensor:
    """A leaf tensor of an expression of constants."""
    t = wrap(n)
    if state.trace is None:
        pend(t.storage)
    return finish(t, requires_grad)


def _filled(name: str, size: Sequence[Any], v: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    d = default_float() if dtype is None else as_dtype(dtype)
    return lazily(constant(v, shape_of(name, size), d, named(device)), requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **words: Any) -> Tensor:
    """Zeros of a shape: `zeros(2, 3)` or `zeros((2, 3))`.

    >>> zeros(2)
    tensor([0., 0.])
    """
    return _filled("zeros", size_of("zeros", size, words), 0, dtype, device, requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **words: Any) -> Tensor:
    """Ones of a shape.

    >>> ones(2, dtype="int64")
    tensor([1, 1])
    """
    return _filled("ones", size_of("ones", size, words), 1, dtype, device, requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **words: Any) -> Tensor:
    """Memory of a shape, to be filled; it holds zeros."""
    return _filled("empty", size_of("empty", size, words), 0, dtype, device, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """One number everywhere; its dtype is the number's unless given.

    >>> full((2,), 3)
    tensor([3, 3])
    """
    where = named(device)
    if isinstance(fill_value, (Tensor, np.generic)):
        fill_value = fill_value.item()
    if not isinstance(fill_value, (int, float, complex)):
        raise explain(TypeError(f"full(): argument 'fill_value' (position 2) must be Number, not {type(fill_value).__name__}"))
    d = of_number(fill_value) if dtype is None else as_dtype(dtype)
    shape = shape_of("full", (size,) if isinstance(size, (tuple, list)) else ((size,),))
    return lazily(spread(sent(scalar(_converted(fill_value, d), d), where), shape), requires_grad)


def _converted(v: Any, d: DType) -> Any:
    try:
        return converted(v, d)
    except RuntimeError as e:
        raise explain(e) from None


def _like(name: str, v: Any) -> Any:
    def f(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
          memory_format: Any = None) -> Tensor:
        expect(name, input)
        return _filled(name, (input.aval.shape,), v, input.aval.dtype if dtype is None else dtype,
                       input.aval.device if device is None else device, requires_grad)
    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"`{name[:-5]}` of another tensor's shape and dtype, on its device."
    return f


zeros_like, ones_like, empty_like = _like("zeros_like", 0), _like("ones_like", 1), _like("empty_like", 0)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False,
              memory_format: Any = None) -> Tensor:
    """One number everywhere, of another tensor's shape and dtype."""
    expect("full_like", input)
    return full(input.aval.shape, fill_value, dtype=input.aval.dtype if dtype is None else dtype,
                device=input.aval.device if device is None else device, requires_grad=requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an n by m matrix."""
    where = named(device)
    d = default_float() if dtype is None else as_dtype(dtype)
    for word, k in (("n", n), ("m", m)):
        if k is not None and whole("eye", word, k) < 0:
            raise explain(RuntimeError(f"{word} must be greater or equal to 0, got {k}"))
    return finish(of_array(memory(np.eye(n, n if m is None else m, dtype=d.number), d), where), requires_grad)


# ---------------------------------------------------------------- ranges
def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:
    """start, start + step, ... below end.  Ints give int64, floats the default dtype.

    >>> arange(3)
    tensor([0, 1, 2])
    """
    where = named(device)
    if end is None:
        start, end = 0, start
    start, end, step = [v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step)]
    for word, v in (("start", start), ("end", end), ("step", step)):
        if not isinstance(v, (int, float)):
            raise explain(TypeError(f"arange(): argument '{word}' (position 1) must be Number, not {type(v).__name__}"))
    ints = all(isinstance(v, int) for v in (start, end, step))
    d = as_dtype(dtype) if dtype is not None else int64 if ints else default_float()
    if d.category == BOOL or d.category == COMPLEX:
        raise explain(NotImplementedError(f"\"arange_cpu\" not implemented for '{scalar_type(d)}'"),
                      hint="compare: torch.arange(n) > 0")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise explain(RuntimeError(f"unsupported range: {start} -> {end}"))
    if ints and d is int64:
        start, end, step = [_converted(v, int64) for v in (start, end, step)]
    if step == 0 or step != step:
        raise explain(RuntimeError("step must be nonzero"))
    if (end - start) * step < 0:
        raise explain(RuntimeError("upper bound and lower bound inconsistent with step sign"))
    n = max(0, math.ceil((end - start) / step))
    if ints and d is int64 and state.trace is not None:
        out = P.iota((n,), 0)
        out = out if step == 1 else P.mul(out, constant(step, (n,), int64))
        out = out if start == 0 else P.add(out, constant(start, (n,), int64))
        return lazily(placed(out, where), requires_grad)
    return finish(of_array(_cut(start + step * np.arange(n), d), where), requires_grad)


def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`steps` numbers from start to end, both included, evenly spaced."""
    where = named(device)
    start, end = [v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end)]
    d = default_float() if dtype is None else as_dtype(dtype)
    if whole("linspace", "steps", steps) < 0:
        raise explain(RuntimeError("number of steps must be non-negative"))
    return finish(of_array(line(start, end, steps, d), where), requires_grad)


def _cut(values: Any, d: DType) -> Any:
    """Computed values as memory of a dtype."""
    return memory(values, d) if d.half else values.astype(d.np)


def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """base ** linspace(start, end, steps)."""
    d = default_float() if dtype is None else as_dtype(dtype)
    points = linspace(start, end, steps, dtype="float64")
    return finish(of_array(_cut(np.power(base, array_of(points)), d), named(device)), requires_grad)


# ---------------------------------------------------------------- methods
def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`tensor(data)` in this tensor's dtype."""
    d = self.aval.dtype if dtype is None and not isinstance(data, (np.ndarray, Tensor)) else dtype
    return tensor(data, dtype=d, device=self.aval.device if device is None else device, requires_grad=requires_grad)


def _new(name: str, v: Any) -> Any:
    def f(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        return _filled(name, size, v, self.aval.dtype if dtype is None else dtype,
                       self.aval.device if device is None else device, requires_grad)
    f.__name__ = name
    f.__doc__ = f"`{name[4:]}` of a shape, in this tensor's dtype."
    return f


def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """`full` of a shape, in this tensor's dtype."""
    return full(size, fill_value, dtype=self.aval.dtype if dtype is None else dtype,
                device=self.aval.device if device is None else device, requires_grad=requires_grad)


def construct(cls: Any, *data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`torch.Tensor(data)`: floating data of the default dtype; ints give memory of that shape; a tensor gives an alias."""
    d = default_float() if dtype is None else dtype
    if len(data) == 1 and isinstance(data[0], Tensor):
        t = alias(data[0])
    elif len(data) == 1 and isinstance(data[0], (list, tuple, np.ndarray)) and not isinstance(data[0], Size):
        t = tensor(data[0], dtype=d, device=device)
    elif all(hasattr(n, "__index__") for n in data) or (data and isinstance(data[0], Size)):
        t = empty(*(data or (0,)), dtype=d, device=device)
    else:
        raise explain(TypeError(f"new(): data must be a sequence (got {type(data[0]).__name__})"))
    t.__class__ = cls
    return t


class Typed(type):
    """torch's old names of tensors by dtype: `FloatTensor(data)`, `isinstance(x, FloatTensor)`."""

    of: DType

    def __call__(cls, *data: Any, device: Any = None) -> Any:
        return construct(Tensor, *data, dtype=cls.of, device=device)

    def __instancecheck__(cls, t: Any) -> bool:
        return isinstance(t, Tensor) and t.aval.dtype is cls.of and t.aval.device == "cpu"


def typed() -> dict[str, Any]:
    """FloatTensor, DoubleTensor, LongTensor ..."""
    return {f"{scalar_type(d)}Tensor": Typed(f"{scalar_type(d)}Tensor", (), {"of": d}) for d in ALL}


METHODS = {"new_tensor": new_tensor, "new_zeros": _new("new_zeros", 0), "new_ones": _new("new_ones", 1),
           "new_empty": _new("new_empty", 0), "new_full": new_full}


def install() -> None:
    for name, f in METHODS.items():
        setattr(Tensor, name, f)
    Tensor.__new__ = construct  # type: ignore[assignment]


__all__ = ["arange", "as_tensor", "empty", "empty_like", "eye", "from_numpy", "frombuffer", "full", "full_like",
           "linspace", "logspace", "ones", "ones_like", "tensor", "zeros", "zeros_like"]
