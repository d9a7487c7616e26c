"""Arrays of other libraries as ours, and ours as theirs, without a copy: DLPack and `__cuda_array_interface__`.

In: a DeviceArray, or an object of CuPy, PyTorch, Numba, JAX.  Out: the same memory in the other's words.  Streams are ordered
by events: what we have asked for is done before the other reads, and what they have before we do.  When an array comes back,
our stream waits for theirs; a borrowed one goes when our last work on it is done.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from ...dtypes import ALL, DType, as_dtype

if TYPE_CHECKING:
    from .memory import DeviceArray, Memory

NAME, USED = b"dltensor", b"used_dltensor"
KINDS = {"i": 0, "u": 1, "f": 2, "bf": 4, "b": 6}         # DLPack's kinds by the letters of a dtype's code
DEFAULTS = (1, 2)                                         # streams that are always there: others may be gone by then
HOST = 1                                                  # DLPack's device type of host memory


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("number", ctypes.c_int32)]


class _Type(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32), ("type", _Type),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("offset", ctypes.c_uint64)]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_DELETER = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


def _code(dtype: DType) -> tuple[int, int]:
    """DLPack's kind and bits."""
    return KINDS[dtype.code.rstrip("0123456789")], 8 * dtype.itemsize


_DTYPES: dict[tuple[int, int], DType] = {_code(d): d for d in ALL if d.code.rstrip("0123456789") in KINDS}


# ------------------------------------------------------------------------------------------------ ours as theirs
class Loan:
    """An array that somebody reads by DLPack: alive until they say they are done."""

    __slots__ = ("array", "managed", "shape", "stream")

    def __init__(self, array: DeviceArray, stream: int | None) -> None:
        self.array, self.stream = array, stream
        self.shape = (ctypes.c_int64 * max(1, array.ndim))(*array.shape)
        kind, bits = _code(array.dtype)
        place = _Device(*array.memory.driver.place)
        tensor = _Tensor(array.ptr, place, array.ndim, _Type(kind, bits, 1), self.shape, None, 0)
        self.managed = _Managed(tensor, None, ctypes.cast(_returned, ctypes.c_void_p))


_lent: dict[int, Loan] = {}                               # by the address that the others know


def _give_back(address: int, lent: dict[int, Loan] = _lent) -> None:      # no globals: it may be the end of the process
    """What the other did on its stream comes before what we do with the memory next."""
    loan = lent.pop(address, None)
    if loan is not None and loan.stream is not None:
        driver, stream = loan.array.memory.driver, loan.stream
        loan.array.memory.later.append((lambda: driver.order(stream, driver.stream)) if stream in DEFAULTS else driver.settle)


def _dropped(capsule: int, valid: Any = _is_valid, pointer: Any = _pointer_of, name: bytes = NAME,
             done: Any = _give_back) -> None:
    """A capsule dies: if nobody took what is in it, the loan ends."""
    if valid(capsule, name):
        done(pointer(capsule, name))


_returned, _destructor = _DELETER(_give_back), _DELETER(_dropped)
for _callback in (_returned, _destructor):                # others may call them when this module is gone
    _api.Py_IncRef(ctypes.py_object(_callback))


def lend(array: DeviceArray, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None) -> Any:
    """`__dlpack__`: a capsule.  `stream`: the reader's (None: CUDA's default one; -1: it needs no order).  BufferError for what
    would be a copy."""
    driver = array.memory.driver
    if copy or (dl_device is not None and tuple(dl_device) != driver.place):
        raise BufferError("DLPack shows memory where it is: use .cpu() for the host's, .clone() for a copy")
    reader = None
    if driver.place[0] != HOST and stream != -1:
        reader = 1 if stream is None else int(stream)
        driver.order(driver.stream, reader)
    elif driver.place[0] == HOST:
        driver.synchronize()
    loan = Loan(array, reader)
    address = ctypes.addressof(loan.managed)
    _lent[address] = loan
    return _api.PyCapsule_New(address, NAME, ctypes.cast(_destructor, ctypes.c_void_p))


def interface(array: DeviceArray) -> dict[str, Any]:
    """`__cuda_array_interface__`, version 3.  AttributeError where it has no letter for the dtype, or on the host."""
    if array.memory.driver.place[0] == HOST:
        raise AttributeError("the stand-in's memory is the host's")
    if array.dtype.code == "bf16":
        raise AttributeError("__cuda_array_interface__ has no bfloat16: use DLPack")
    return {"shape": array.shape, "typestr": array.dtype.np.str, "data": (array.ptr if array.size else 0, False), "version": 3,
            "strides": None, "stream": array.memory.driver.stream}


# ------------------------------------------------------------------------------------------------ theirs as ours
class Leaving:
    """An owner that waits for a mark in our stream."""

    __slots__ = ("owner", "memory", "ptr", "mark")

    def __init__(self, owner: Any, memory: Memory, ptr: int) -> None:
        self.owner, self.memory, self.ptr, self.mark = owner, memory, ptr, None

    def __call__(self) -> None:
        driver = self.memory.driver
        if self.mark is None:
            self.mark = driver.event()
        if not driver.done(self.mark):
            self.memory.later.append(self)                # asked again at the next turn
            return
        driver.disown(self.ptr)
        self.owner = None


class Guest:
    """Memory of another library.  It is let go when our last work on it is done."""

    __slots__ = ("owner", "memory", "ptr", "nbytes")

    def __init__(self, owner: Any, memory: Memory, ptr: int, nbytes: int) -> None:
        self.owner, self.memory, self.ptr, self.nbytes = owner, memory, ptr, nbytes
        memory.driver.adopt(ptr, nbytes)

    def __del__(self, leaving: Any = Leaving) -> None:
        if hasattr(self, "nbytes"):
            self.memory.later.append(leaving(self.owner, self.memory, self.ptr))


class _Capsule:
    """What was taken out of a capsule: given back to its maker in the end."""

    __slots__ = ("address", "managed")

    def __init__(self, capsule: Any) -> None:
        self.address = _api.PyCapsule_GetPointer(capsule, NAME)
        self.managed = _Managed.from_address(self.address)
        _api.PyCapsule_SetName(capsule, USED)

    def __del__(self, deleter: Any = _DELETER) -> None:
        if self.managed.deleter:
            deleter(self.managed.deleter)(self.address)


def borrow(owner: Any, memory: Memory) -> DeviceArray:
    """Another library's array on this device, by DLPack, else by `__cuda_array_interface__`.  TypeError for what speaks
    neither, ValueError for what is elsewhere, not contiguous or of a dtype that autojit has not."""
    memory.sweep()
    if hasattr(owner, "__dlpack__"):
        return _from_dlpack(owner, memory)
    if hasattr(owner, "__cuda_array_interface__"):
        return _from_interface(owner, memory)
    raise TypeError(f"{type(owner).__name__} has neither __dlpack__ nor __cuda_array_interface__")


def _from_dlpack(owner: Any, memory: Memory) -> DeviceArray:
    driver = memory.driver
    device = tuple([int(v) for v in owner.__dlpack_device__()])
    if device != driver.place:
        raise ValueError(f"the array is on DLPack's device {device}, not on {driver.place}: move it there first")
    capsule = owner.__dlpack__() if device[0] == HOST else owner.__dlpack__(stream=driver.stream)
    taken = _Capsule(capsule)
    t = taken.managed.tensor
    shape = tuple([t.shape[k] for k in range(t.ndim)])
    strides = tuple([t.strides[k] for k in range(t.ndim)]) if t.strides else None
    dtype = _DTYPES.get((t.type.kind, t.type.bits)) if t.type.lanes == 1 else None
    if dtype is None:
        raise ValueError(f"autojit has no dtype of DLPack's kind {t.type.kind} with {t.type.bits} bits")
    return _array((t.data or 0) + t.offset, shape, strides, dtype, taken, memory)


def _from_interface(owner: Any, memory: Memory) -> DeviceArray:
    found = owner.__cuda_array_interface__
    if found.get("mask") is not None:
        raise ValueError("masked arrays cannot be read")
    dtype = as_dtype(found["typestr"])
    strides = found.get("strides")
    if strides is not None:
        strides = tuple([s // dtype.itemsize for s in strides])
    stream = found.get("stream")
    if stream is not None:
        memory.driver.order(int(stream), memory.driver.stream)
    return _array(found["data"][0] or 0, tuple(found["shape"]), strides, dtype, owner, memory)


def _array(ptr: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, dtype: DType, owner: Any,
           memory: Memory) -> DeviceArray:
    step = size = 1
    for n in shape:
        size *= n
    for n, s in zip(reversed(shape), reversed(strides or ())):
        if n != 1 and size and s != step:
            raise ValueError(f"an array of shape {shape} with strides {strides} is not contiguous: make it so first")
        step *= n
    if not size:
        return memory.empty(shape, dtype)
    return memory.over(ptr, shape, dtype, Guest(owner, memory, ptr, size * dtype.itemsize))
