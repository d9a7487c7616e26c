"""NumPy's and the array standard's protocols: `np.exp(t)`, `np.sum(t)`, `a + t`, DLPack.

In: NumPy's calls with tensors among the arguments.  Out: tensors, computed and differentiated by our own ops.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..dtypes import DType, as_dtype, promote
from ..errors import explain
from .convert import array_of, numpy
from .creation import array_from, from_numpy
from .lending import borrowed, lent
from .tensor import Tensor, of_array

# NumPy's ufuncs, where their names are not ours
UFUNCS = {"subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "power": "pow", "negative": "neg",
          "absolute": "abs", "fabs": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
          "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "greater": "gt", "greater_equal": "ge", "less": "lt",
          "less_equal": "le", "equal": "eq", "not_equal": "ne", "invert": "bitwise_not", "rint": "round", "mod": "remainder",
          "left_shift": "bitwise_left_shift", "right_shift": "bitwise_right_shift", "conjugate": "conj"}
# NumPy's functions that mean what ours of the second name mean, given the same arguments
SAME = {"sum": "sum", "mean": "mean", "prod": "prod", "amax": "amax", "amin": "amin", "max": "amax", "min": "amin",
        "all": "all", "any": "any", "argmax": "argmax", "argmin": "argmin", "where": "where", "concatenate": "cat",
        "stack": "stack", "hstack": "hstack", "vstack": "vstack", "reshape": "reshape", "ravel": "ravel", "squeeze": "squeeze",
        "expand_dims": "unsqueeze", "swapaxes": "swapaxes", "moveaxis": "moveaxis", "outer": "outer", "tensordot": "tensordot",
        "einsum": "einsum", "trace": "trace", "tril": "tril", "triu": "triu", "diagonal": "diagonal", "tile": "tile",
        "repeat": "repeat_interleave", "nan_to_num": "nan_to_num", "broadcast_to": "broadcast_to", "argsort": "argsort",
        "logaddexp": "logaddexp", "kron": "kron", "isnan": "isnan"}


def _flat_by_default(name: str) -> Any:
    def f(a: Any, axis: Any = None, **k: Any) -> Any:
        return _FUNCTIONS[name](a.reshape(-1) if axis is None else a, dim=axis or 0, **k)
    return f


def _spread(name: str) -> Any:
    return lambda a, axis=None, ddof=0, keepdims=False: _FUNCTIONS[name](a, dim=axis, correction=ddof, keepdim=keepdims)


def _dot(a: Any, b: Any) -> Any:
    if a.ndim > 2 or b.ndim > 2:
        return NotImplemented
    return a * b if a.ndim == 0 or b.ndim == 0 else a @ b


# Functions whose defaults or arguments differ
ADAPTED: dict[str, Any] = {
    "cumsum": _flat_by_default("cumsum"), "cumprod": _flat_by_default("cumprod"), "var": _spread("var"), "std": _spread("std"),
    "sort": lambda a, axis=-1: _FUNCTIONS["sort"](a, dim=axis)[0],
    "clip": lambda a, a_min=None, a_max=None: _FUNCTIONS["clamp"](a, a_min, a_max),
    "flip": lambda a, axis=None: _FUNCTIONS["flip"](a, tuple(range(a.ndim)) if axis is None else axis),
    "roll": lambda a, shift, axis=None: _FUNCTIONS["roll"](a, shift, axis),
    "transpose": lambda a, axes=None: a.permute(*(reversed(range(a.ndim)) if axes is None else axes)),
    "dot": _dot, "norm": lambda a: _FUNCTIONS["norm"](a),
    "round": lambda a, decimals=0: _FUNCTIONS["round"](a, decimals=decimals),
    "copy": lambda a: a.clone(), "zeros_like": lambda a: a.new_zeros(a.shape), "ones_like": lambda a: a.new_ones(a.shape),
}


_FUNCTIONS: dict[str, Any] = {}


def set_functions(found: dict[str, Any]) -> None:
    """The public functions announce themselves here."""
    _FUNCTIONS.update(found)


def _tensors(v: Any) -> Any:
    """Arrays among the arguments become tensors."""
    if isinstance(v, np.ndarray):
        return of_array(array_from(v, None))
    if isinstance(v, (list, tuple)) and any(isinstance(i, (Tensor, np.ndarray)) for i in v):
        return type(v)([_tensors(i) for i in v])
    return v


def _call(f: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    kwargs = {k: v for k, v in kwargs.items() if v is not None and v is not np._NoValue}
    return f(*[_tensors(a) for a in args], **{k: _tensors(v) for k, v in kwargs.items()})


_REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "amax", "minimum": "amin"}


def _array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    name = ufunc.__name__
    if method == "__call__":
        out, dtype = kwargs.pop("out", None), kwargs.pop("dtype", None)
        if name == "matmul" or dtype is not None:
            inputs = _as_one_dtype([_tensors(a) for a in inputs], None if dtype is None else as_dtype(dtype))
        f = _FUNCTIONS.get(UFUNCS.get(name, name))
        if f is not None:
            result = _call(f, inputs, kwargs)
            return result if out is None else _store(out[0], result)
    elif method == "reduce" and name in _REDUCTIONS:
        kwargs.pop("out", None)
        return _call(_FUNCTIONS[_REDUCTIONS[name]], inputs, {"axis": 0, **kwargs})
    return _by_arrays(lambda *a: getattr(ufunc, method)(*a, **kwargs), f"np.{name}", inputs)


def _as_one_dtype(inputs: Any, d: DType | None) -> Any:
    """Tensors in the dtype asked for, or in the one that NumPy would promote them to."""
    if d is None:
        for t in inputs:
            if isinstance(t, Tensor):
                d = t.aval.dtype if d is None else promote(d, t.aval.dtype)
    return [t.to(d) if isinstance(t, Tensor) else t for t in inputs]


def _store(target: Any, result: Tensor) -> Any:
    if isinstance(target, Tensor):
        return target.copy_(result)
    np.copyto(target, array_of(result.detach()))
    return target


def _array_function(self: Tensor, func: Any, types: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.__name__
    if func in (np.shape, np.ndim, np.size) and len(args) == 1 and not kwargs:
        return {"shape": self.aval.shape, "ndim": len(self.aval.shape), "size": self.aval.size}[name]
    f = ADAPTED.get(name) or _FUNCTIONS.get(SAME.get(name, ""))
    if f is not None and func.__module__ in ("numpy", "numpy.linalg") and not (name == "norm" and len(args) + len(kwargs) > 1):
        result = _call(f, args, kwargs)
        if result is not NotImplemented:
            return result
    return _by_arrays(lambda *a: func(*a, **kwargs), f"np.{name}", args)


def _by_arrays(f: Any, name: str, args: Any) -> Any:
    """NumPy's own function on plain arrays, for tensors that want no gradient."""
    def plain(v: Any) -> Any:
        if isinstance(v, Tensor):
            if v.requires_grad:
                raise explain(TypeError(f"{name} has no differentiable counterpart for tensors that require grad"),
                              hint="use a function of autojit, or tensor.detach().numpy()")
            return numpy(v)
        return type(v)([plain(i) for i in v]) if isinstance(v, (list, tuple)) else v
    return f(*[plain(a) for a in args])


def _namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    return sys.modules[__name__.split(".")[0]]


def _dlpack(self: Tensor, *, stream: Any = None, **words: Any) -> Any:
    if self.requires_grad:
        raise explain(BufferError("Can't export tensors that require gradient, use tensor.detach()"))
    if self.aval.device == "cpu":
        return numpy(self).__dlpack__(**words)
    return lent(self).__dlpack__(stream=stream, **words)


def _cuda_interface(self: Tensor) -> Any:
    """The protocol of CuPy and Numba; AttributeError for tensors on the CPU, as torch has it."""
    if self.aval.device == "cpu":
        raise AttributeError
    return lent(self).__cuda_array_interface__


def _dlpack_device(self: Tensor) -> tuple[int, int]:
    if self.aval.device == "cpu":
        return 1, 0
    return lent(self).__dlpack_device__()  # type: ignore[no-any-return]


def from_dlpack(ext: Any) -> Tensor:
    """A tensor over the memory of another library's array, on the host or on a device."""
    kind = int(ext.__dlpack_device__()[0]) if hasattr(ext, "__dlpack_device__") else 1
    if kind == 2:
        return borrowed(ext)
    return from_numpy(np.from_dlpack(ext))


METHODS = {"__array_ufunc__": _array_ufunc, "__array_function__": _array_function, "__array_namespace__": _namespace,
           "__dlpack__": _dlpack, "__dlpack_device__": _dlpack_device}


def install() -> None:
    for name, f in METHODS.items():
        setattr(Tensor, name, f)
    Tensor.__cuda_array_interface__ = property(_cuda_interface)  # type: ignore[attr-defined]
