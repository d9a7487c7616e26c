"""Looking at tensors, and turning them into something else: numbers, lists, NumPy arrays, other dtypes, text.

In: a tensor.  Out: Python and NumPy values (which makes pending work run), or another tensor.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np

from ..backends.devices import backend, opened
from ..dtypes import (
    ALL,
    BOOL,
    COMPLEX,
    FLOAT,
    DType,
    as_dtype,
    bfloat16,
    bool_,
    complex64,
    complex128,
    converted,
    default_complex,
    default_float,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    readable,
    uint8,
)
from ..errors import explain
from ..ir.aval import aval
from ..ir.graph import scalar
from ..ir.primitive import BUFFER
from ..ops.declare import cast
from ..ops.placement import sent
from .apply import apply
from .format import format_spec, format_tensor
from .inplace import COPY, FILL, FILL_TENSOR, ZERO, apply_into
from .kept import before_look
from .placing import Device, host, moved, named, shown, type_name
from .state import state
from .storage import lend
from .tape import origin
from .template import CLONE, CONTIGUOUS, Rule, scalar_type
from .tensor import Size, Tensor, alias, expect, new, of_array, value, wrap
from .views import is_contiguous, layout_of

_DTYPE_NAMES = {d.name for d in ALL} | {"float", "double", "half", "int", "long", "complex"}
TO_COPY = Rule("to", cast, "ToCopyBackward0")
TO_DEVICE = Rule("to", sent, "ToCopyBackward0", across=True)


def array_of(t: Tensor) -> Any:
    """What a tensor shows, as a NumPy array that must not be written to (bfloat16 as float32).  Runs what is pending."""
    array = memory_of(t)
    return readable(array) if t.aval.dtype is bfloat16 else array


def memory_of(t: Tensor) -> Any:
    """`array_of`, as it lies in memory."""
    if state.trace is not None:
        return host(value(t))
    if t.fn is not None:
        before_look(t)
    if t.aval.device != "cpu":
        return _looked(t)
    array = t.storage.array(t)
    for prim, params in t.chain:
        array = prim.ref(array, *params)  # type: ignore[misc]
    return array


def _looked(t: Tensor) -> Any:
    """A copy of what a tensor on a device shows.  A view that lies in one piece needs no program."""
    s, a = t.storage, t.aval
    if t.chain and s.strides is None and s.trace is None:
        strides, start = layout_of(t)
        if is_contiguous(a.shape, strides):
            at = backend(a.device)
            return at.to_host(at.part(s.array(t), start, a.shape))
    return host(value(t))


# ---------------------------------------------------------------- Python values
def item(self: Tensor) -> Any:
    """The one element as a Python number.

    >>> tensor([2.5]).item()
    2.5
    """
    s = self.storage
    n = s.value
    if (n is not None and n.prim is BUFFER and s.mem is None and not self.chain and not n.aval.shape and state.trace is None
            and n.aval.device == "cpu" and n.aval.dtype is not bfloat16):
        return n.data.item()                              # computed already, and nobody writes to it
    if self.aval.size != 1:
        raise explain(RuntimeError(f"a Tensor with {self.aval.size} elements cannot be converted to Scalar"),
                      hint="use tolist() for several elements")
    if state.trace is not None and self.aval.dtype is bool_:
        return _bool(self)                                # two outcomes, as a branch has
    return array_of(self).item()


def tolist(self: Tensor) -> Any:
    """Nested lists of Python numbers."""
    return array_of(self).tolist()


def _bool(self: Tensor) -> bool:
    if self.aval.size != 1:
        what = "no values" if self.aval.size == 0 else "more than one value"
        raise explain(RuntimeError(f"Boolean value of Tensor with {what} is ambiguous"),
                      hint="use .any() or .all(), or torch.where(condition, a, b)")
    return bool(array_of(self).item()) if state.trace is None else state.trace.decide(value(self))  # type: ignore[no-any-return]


def _number(self: Tensor, kind: str = "complex") -> Any:
    if self.aval.size != 1:
        raise explain(ValueError("only one element tensors can be converted to Python scalars"))
    v = item(self)
    if kind != "complex" and isinstance(v, complex):
        if v.imag != 0:
            raise explain(RuntimeError(f"value cannot be converted to type {kind} without overflow"))
        return v.real
    return v


def _index(self: Tensor) -> int:
    if self.aval.dtype.category >= FLOAT or self.aval.size != 1:
        raise explain(TypeError("only integer tensors of a single element can be converted to an index"))
    return int(item(self))


def _len(self: Tensor) -> int:
    if not self.aval.shape:
        raise explain(TypeError("len() of a 0-d tensor"))
    return self.aval.shape[0]


def _contains(self: Tensor, element: Any) -> bool:
    if isinstance(element, (Tensor, int, float, complex, bool, np.generic)):
        return bool((self == element).any())
    raise explain(RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}."))


def _iter(self: Tensor) -> Any:
    if not self.aval.shape:
        raise explain(TypeError("iteration over a 0-d tensor"))
    return iter(self.unbind(0))


# ---------------------------------------------------------------- NumPy
def numpy(self: Tensor, *, force: bool = False) -> Any:
    """The memory itself as a NumPy array: writes on either side are seen on the other.  Refused for tensors that require
    grad or lie on a device, unless `force`: then it is detached, and copied to the host."""
    if self.aval.device != "cpu":
        if not force:
            raise explain(TypeError(f"can't convert {shown(self.aval.device)} device type tensor to numpy. Use Tensor.cpu() to "
                                    "copy the tensor to host memory first."))
        return np.array(array_of(self.detach()))
    if self.requires_grad and (state.grad or force):
        if not force:
            raise explain(RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."))
        return self.detach().numpy()
    if self.aval.dtype is bfloat16:
        raise explain(TypeError("Got unsupported ScalarType BFloat16"), hint="NumPy has no bfloat16: x.float().numpy()")
    return exposed(self)


def exposed(self: Tensor) -> Any:
    """The memory itself, as NumPy has it."""
    if state.trace is not None:
        return host(value(self))
    array = self.storage.expose(self)
    for prim, params in self.chain:
        array = prim.ref(array, *params)  # type: ignore[misc]
    return array


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> Any:
    a = numpy(self)
    if dtype is not None and a.dtype != dtype:
        return a.astype(dtype)
    return a.copy() if copy else a


# ---------------------------------------------------------------- dtype and device
def change(self: Tensor, dtype: DType, copy: bool = False) -> Tensor:
    """The same values as another dtype; itself where nothing changes."""
    if self.aval.dtype is dtype:
        return clone(self) if copy else self
    if self.aval.dtype.category == COMPLEX and BOOL < dtype.category < COMPLEX and not _Warned.before:
        _Warned.before = True
        warnings.warn("Casting complex values to real discards the imaginary part", UserWarning, stacklevel=3)
    return apply(TO_COPY, (self,), (dtype,))  # type: ignore[no-any-return]


class _Warned:
    before = False                                        # once a process, as torch does it


def send(self: Tensor, device: str, dtype: DType, copy: bool = False) -> Tensor:
    """The same values on a device (a name that avals have), as a dtype; itself where nothing changes.  What wants no gradient
    and is there already is copied at once; all else is a part of the programs to come."""
    if device == self.aval.device:
        return change(self, dtype, copy)
    if dtype is not self.aval.dtype:                      # as few bytes as can be are sent
        if dtype.itemsize < self.aval.dtype.itemsize:
            return send(change(self, dtype), device, dtype)
        return change(send(self, device, self.aval.dtype), dtype)
    if state.trace is None and not (state.grad and self.requires_grad):
        n = value(self)
        if n.prim is BUFFER:
            return _finished(wrap(moved(n, aval(self.aval.shape, dtype, device))))
    return apply(TO_DEVICE, (self,), (device,))  # type: ignore[no-any-return]


def _finished(t: Tensor) -> Tensor:
    t.frozen = state.inference
    return t


def to(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False, non_blocking: bool = False,
       memory_format: Any = None) -> Tensor:
    """Another dtype or device: `to(torch.float64)`, `to("cpu")`, `to(other)`.  Returns the tensor itself if nothing changes;
    gradients flow back through it."""
    for a in args:
        if isinstance(a, Tensor):
            dtype, device = a.aval.dtype, a.aval.device
        elif isinstance(a, (str, Device)) and str(a).split(":")[0] in ("cpu", "cuda"):
            device = a
        elif isinstance(a, int) and not isinstance(a, bool):
            device = _accelerator(a)
        elif isinstance(a, str) and a not in _DTYPE_NAMES:
            Device(a)                                     # says which devices there are
        elif a is not None and not isinstance(a, bool):    # a bool is torch's non_blocking
            dtype = a
    wanted = self.aval.dtype if dtype is None else as_dtype(dtype)
    if device is None:
        return change(self, wanted, copy)
    return send(self, named(device), wanted, copy)


def _accelerator(number: int) -> Device:
    """The device that a number means.  RuntimeError in torch's words where there is none."""
    try:
        named(Device(number))
    except RuntimeError as e:
        if "CUDA error" in str(e):
            raise
        raise explain(RuntimeError("Cannot access accelerator device when none is available."), hint=str(e)) from None
    return Device(number)


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """A copy in memory that a device reads without waiting; itself if it is there.  Tensors on the CPU only."""
    if self.aval.device != "cpu":
        raise explain(RuntimeError(f"cannot pin 'torch.cuda.{scalar_type(self.aval.dtype)}Tensor' only dense CPU tensors can "
                                   "be pinned"))
    if is_pinned(self):
        return self
    named("cuda")
    array = backend("cuda").pinned(self.aval.shape, self.aval.dtype)
    np.copyto(array, memory_of(self.detach()))
    return of_array(array)


def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Is it in memory that `pin_memory` gave?"""
    s = self.storage
    array = s.mem if s.mem is not None else s.value.data if s.value.prim is BUFFER else None
    return self.aval.device == "cpu" and isinstance(array, np.ndarray) and opened("cuda") and backend("cuda").is_pinned(array)


def type_(self: Tensor, dtype: Any = None) -> Any:
    """The name of the tensor's type, or the tensor as another dtype."""
    if dtype is None:
        return type_name(self.aval)
    if isinstance(dtype, str) and dtype.endswith("Tensor"):
        names = {type_name(aval((), d, where)): (d, where) for d in ALL for where in ("cpu", "cuda")}
        wanted, device = names[dtype]
        return send(self, named(device), wanted)
    return change(self, as_dtype(dtype))


def clone(self: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with a history: gradients flow back through it."""
    expect("clone", self)
    return apply(CLONE, (self,))  # type: ignore[no-any-return]


def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """Itself if its memory is in row-major order, else a copy."""
    return self if contiguous_now(self) else apply(CONTIGUOUS, (self,))


def contiguous_now(self: Tensor, memory_format: Any = None) -> bool:
    """Is the memory in row-major order?"""
    return is_contiguous(self.aval.shape, layout_of(self)[0])


# ---------------------------------------------------------------- shape as numbers
def size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or one extent of it."""
    if dim is None:
        return self.shape
    n = len(self.aval.shape)
    _whole("size", dim)
    if not -n <= dim < n:
        raise explain(IndexError(f"Dimension out of range (expected to be in range of [{-max(n, 1)}, {max(n, 1) - 1}], but got "
                                 f"{dim})"))
    return self.aval.shape[dim]


def stride(self: Tensor, dim: int | None = None) -> Any:
    """Elements from one index to the next, of each dimension."""
    strides = layout_of(self)[0]
    if dim is None:
        return strides
    _whole("stride", dim)
    return strides[dim]


def _whole(name: str, dim: Any) -> None:
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise explain(TypeError(f"{name}(): argument 'dim' (position 1) must be int, not {type(dim).__name__}"))


# ---------------------------------------------------------------- writes
def _source(self: Tensor, v: Any) -> Any:
    if isinstance(v, Tensor):
        return v
    if isinstance(v, np.generic):
        v = v.item()
    if isinstance(v, (int, float, complex)):
        try:
            return scalar(converted(v, self.aval.dtype), self.aval.dtype)
        except RuntimeError as e:
            raise explain(e) from None
    raise explain(TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(v).__name__}"))


def copy_(self: Tensor, other: Any, non_blocking: bool = False) -> Tensor:
    """Overwrite with another tensor's values, in this one's dtype; gradients go to `other`."""
    return apply_into(COPY, (self, _source(self, other)))


def fill_(self: Tensor, value: Any) -> Tensor:
    """Overwrite every element with one number (a 0-d tensor may be one)."""
    if isinstance(value, Tensor):
        if value.aval.shape:
            raise explain(RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} "
                                       "dimensions."))
        return apply_into(FILL_TENSOR, (self, value))
    return apply_into(FILL, (self, _source(self, value)))


def zero_(self: Tensor) -> Tensor:
    """Overwrite every element with 0."""
    return apply_into(ZERO, (self, _source(self, 0)))


def _number_of(self: Tensor) -> int:
    """The number of its GPU; -1 on the CPU."""
    index = self.device.index
    return -1 if index is None else index


def _address(self: Tensor) -> int:
    if self.aval.device == "cpu":
        return exposed(self).__array_interface__["data"][0]  # type: ignore[no-any-return]
    return lend(self.storage, self).ptr + layout_of(self)[1] * self.aval.dtype.itemsize  # type: ignore[no-any-return]


# ---------------------------------------------------------------- text
def default_dtype(d: DType) -> bool:
    return d is default_float() or d is int64 or d is bool_ or d is default_complex()


def text(self: Tensor) -> str:
    """As torch prints it."""
    if self.blind and self.base is not None:
        grad_fn = "Invalid" if self.seen != self.cell.version and self.base.requires_grad else None
    else:
        record = origin(self.edge())
        grad_fn = None if record is None else record.name()
    return format_tensor(array_of(self), dtype_name=self.aval.dtype.name, default=default_dtype(self.aval.dtype),
                         requires_grad=self.requires_grad, grad_fn=grad_fn, device=shown(self.aval.device))


def _format(self: Tensor, spec: str) -> str:
    return format_spec(array_of(self), spec, lambda: text(self))


# ---------------------------------------------------------------- copies of the object
def rebuild(array: Any, requires_grad: bool, device: str = "cpu") -> Tensor:
    t = of_array(array, named(device))
    t.req = requires_grad
    return t


def _reduce(self: Tensor, protocol: int) -> Any:
    """The values alone: what comes back is a leaf, as in torch."""
    device = self.aval.device
    return rebuild, (np.array(memory_of(self)), self.requires_grad, *(() if device == "cpu" else (device,)))


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    if not self.is_leaf:
        raise explain(RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If you "
            "were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, see "
            "https://github.com/pytorch/pytorch/pull/103001"))
    t = _copied(self, memo)
    t.__class__ = type(self)
    t.req = self.req
    t.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items() if k not in ("hooks", "post", "calls")})
    memo[id(self)] = t
    return t


def _copied(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """A copy of the memory; of memory that was copied before under this memo, the same place in that copy."""
    if state.trace is not None:
        return new(type(self.storage)(value(self)), self.aval)
    whole = memo.get(id(self.storage))
    if whole is None:
        whole = memo[id(self.storage)] = type(self.storage)(self.storage.read(self))
        memo.setdefault(id(memo), []).append(self.storage)      # it lives as long as its id is used
    t = new(whole, self.aval)
    t.chain, t.cell = self.chain, whole
    return t


def _copy(self: Tensor) -> Tensor:
    t = alias(self)
    t.__class__ = type(self)
    t.req = self.req
    return t


METHODS: dict[str, Any] = {
    "item": item, "tolist": tolist, "numpy": numpy, "to": to, "type": type_, "clone": clone, "contiguous": contiguous,
    "is_contiguous": contiguous_now, "size": size, "stride": stride, "copy_": copy_, "fill_": fill_, "zero_": zero_,
    "__bool__": _bool, "__len__": _len, "__iter__": _iter, "__contains__": _contains, "__index__": _index,
    "__int__": lambda self: int(_number(self, "int64_t")), "__float__": lambda self: float(_number(self, "double")),
    "__complex__": lambda self: complex(_number(self)),
    "__array__": _array, "__repr__": text, "__str__": text, "__format__": _format, "__reduce_ex__": _reduce,
    "__deepcopy__": _deepcopy, "__copy__": _copy,
    "numel": lambda self: self.aval.size, "nelement": lambda self: self.aval.size,
    "element_size": lambda self: self.aval.dtype.itemsize, "dim": lambda self: len(self.aval.shape),
    "ndimension": lambda self: len(self.aval.shape), "storage_offset": lambda self: layout_of(self)[1],
    "is_floating_point": lambda self: self.aval.dtype.category == FLOAT,
    "is_complex": lambda self: self.aval.dtype.category == COMPLEX,
    "is_signed": lambda self: self.aval.dtype.category != BOOL and self.aval.dtype is not uint8,
    "is_inference": lambda self: self.frozen,
    "data_ptr": lambda self: _address(self.detach()), "get_device": _number_of,
    "cpu": lambda self, memory_format=None: send(self, "cpu", self.aval.dtype),
    "cuda": lambda self, device=None, **_: to(self, device="cuda" if device is None else device),
    "pin_memory": pin_memory, "is_pinned": is_pinned,
}
for _name, _dtype in (("float", float32), ("double", float64), ("half", float16), ("bfloat16", bfloat16),
                      ("long", int64), ("int", int32), ("short", int16), ("char", int8), ("byte", uint8), ("bool", bool_),
                      ("cfloat", complex64), ("cdouble", complex128)):
    METHODS[_name] = lambda self, _dtype=_dtype: change(self, _dtype)

PROPERTIES: dict[str, Any] = {
    "itemsize": lambda self: self.aval.dtype.itemsize, "nbytes": lambda self: self.aval.size * self.aval.dtype.itemsize,
    "is_cuda": lambda self: self.aval.device == "cuda", "is_cpu": lambda self: self.aval.device == "cpu",
    "is_sparse": lambda self: False, "is_quantized": lambda self: False,
    "layout": lambda self: "torch.strided", "names": lambda self: (None,) * len(self.aval.shape),
}


def install() -> None:
    for name, f in METHODS.items():
        setattr(Tensor, name, f)
    for name, f in PROPERTIES.items():
        setattr(Tensor, name, property(f))


__all__ = ["Size", "array_of", "change", "clone", "contiguous_now", "install", "send"]
