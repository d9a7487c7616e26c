"""From declared ops to methods and functions: arguments sorted into tensors and static values, numbers into slots.

In: what the user wrote.  Out: calls of `apply` and `apply_into`.  There is no list of ops here: `ops.declare.OPS` is it.
Both spellings of names are taken (dim/axis, keepdim/keepdims), lists become tuples, NumPy numbers Python ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from ..dtypes import (
    COMPLEX,
    FLOAT,
    INT,
    DType,
    as_dtype,
    converted,
    fits,
    int64,
    of_number,
    paired,
    promote,
    result_type,
    wrapped,
)
from ..errors import explain
from ..ir.graph import Node, scalar
from ..ops.declare import OPS, Op
from .apply import apply
from .checks import SHARES, check_bounds, check_divisor, check_shares, compute_now
from .inplace import apply_into
from .quick import quick_binary, quick_pair, quick_static, quick_unary, written_ints
from .template import lasting
from .tensor import Tensor

SYNONYMS = {"axis": "dim", "axes": "dim", "keepdims": "keepdim", "self": "input", "x": "input", "x1": "input", "x2": "other",
            "dims": "dim", "shape": "size", "repeats": "size", "a": "input", "mat": "input", "tensor": "input"}
NUMBERS = (int, float, bool, complex)
_REAL = {int, float}
_DIVIDES = {"floor_divide", "remainder", "fmod"}
_EXACT = {"clamp", "clamp_min", "clamp_max", "masked_fill", "where"}    # numbers must fit the tensor's dtype
_MATRICES = {"matmul", "mm", "bmm", "mv", "dot"}          # take no numbers
_FLOATS = {"div", "true_divide", "atan2", "copysign", "xlogy"}  # integers become floats


def is_number(v: Any) -> bool:
    return type(v) in NUMBERS or isinstance(v, (int, float, complex, np.generic))


def _complex(v: Any) -> bool:
    return isinstance(v, (complex, np.complexfloating))


def static(v: Any, name: str) -> Any:
    """A static argument in its canonical form."""
    kind = type(v)
    if kind is int or v is None or kind is bool or kind is float:
        return as_dtype(v) if name == "dtype" and v is not None else v
    if isinstance(v, (tuple, list)):
        return tuple([static(i, "") for i in v])
    if kind is DType or kind is str:
        return v
    if isinstance(v, np.generic):
        return v.item()
    if isinstance(v, Tensor):
        if v.aval.size != 1:
            raise explain(TypeError(f"argument '{name}' must be a Python number, not a tensor of {v.aval.size} elements"))
        return v.item()
    if name == "dtype":
        return as_dtype(v)
    if hasattr(v, "__index__"):
        return v.__index__()
    return v


def number(v: Any, others: Sequence[Any], op: str = "") -> Node:
    """A Python number as a 0-d node, of the dtype that it weakly asks for beside these tensors.  An integer that the dtype
    cannot hold wraps, as in torch; OverflowError beyond 64 bits."""
    if isinstance(v, np.generic):
        v = v.item()
    dims = zerod = None
    for t in others:
        if isinstance(t, Tensor):
            d = t.aval.dtype
            if t.aval.shape:
                dims = d if dims is None else promote(dims, d)
            else:
                zerod = d if zerod is None else promote(zerod, d)
    own = of_number(v)
    d = own if dims is None and zerod is None else result_type(dims, zerod, None)
    if own.category > d.category:
        d = paired(d) if own.category == COMPLEX and d.category == FLOAT else own
    if d.category == COMPLEX and own.category < COMPLEX:  # a real number scales: it has no imaginary part to multiply by
        return scalar(v, d.part)
    if op in _EXACT:
        return scalar(converted(v, d), _weak(d, others))
    if d.category == INT and not fits(v, d):
        if not -1 << 63 <= v < 1 << 64:
            raise explain(OverflowError("int too big to convert" if v > 0 else "can't convert negative int to unsigned"))
        if op in _FLOATS:
            d = int64                                     # its value is looked at before it would wrap
    return scalar(wrapped(v, d) if d.category == INT else v, _weak(d, others))


def _weak(d: DType, others: Sequence[Any]) -> DType:
    """A number beside halves is float32: it keeps its digits until it is used (`template._weak` takes it from here)."""
    floats = d.half and {t.aval.dtype for t in others if isinstance(t, Tensor) and t.aval.dtype.category == FLOAT}
    return d.weak if floats == {d} else d


# ---------------------------------------------------------------- sorting arguments
def arrange(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Op, dict[str, Any]]:
    """(the op or its variant, arguments by name).  TypeError says what does not fit."""
    params = op.params
    given: dict[str, Any] = {}
    last = len(params) - 1
    if op.loose and args:
        flat = [v for a in args for v in (a if isinstance(a, (tuple, list)) else (a,))]
        args = ([v for v in flat if isinstance(v, Tensor)], *[v for v in flat if not isinstance(v, Tensor)])
    if op.star and len(args) > last and not (len(args) == last + 1 and isinstance(args[last], (tuple, list))):
        args = (*args[:last], tuple(args[last:]))
    if len(args) > len(params):
        return arrange_variant(op, args, kwargs)
    given.update(zip(params, args))
    for name, v in kwargs.items():
        if name not in params:
            name = SYNONYMS.get(name, name)
            if name not in params:
                if name in op.variants:
                    return arrange_variant(op, args, kwargs)
                name = next((p for p in params if SYNONYMS.get(p) == name), name)
                if name not in params:
                    raise explain(TypeError(f"{op.name}() got an unexpected keyword argument '{name}'"),
                                  hint=f"its parameters are {', '.join(params)}")
        if name in given:
            raise explain(TypeError(f"{op.name}() got multiple values for argument '{name}'"))
        given[name] = v
    for name, variant in op.variants.items():
        if name in given and name in params and is_number(given[name]) and not (name == "exponent" and _complex(given[name])):
            if op.name == "pow" and is_number(given.get(op.params[0], 0.0)) and is_number(given.get(op.params[1], 0.0)):
                raise explain(TypeError("pow() needs a tensor: one of 'input' and 'exponent', or both"))
            return OPS[variant], given
    return op, given


def arrange_variant(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Op, dict[str, Any]]:
    """A call that the op itself does not take: `x.max(1)`, `x.max(other)`, `x.max(dim=1)`."""
    words = {SYNONYMS.get(k, k) for k in kwargs}
    extra = args[len(op.params)] if len(args) > len(op.params) else None
    for name, variant in op.variants.items():
        v = OPS[variant]
        if name in words or (extra is not None and name in v.params
                             and v.is_tensor[v.params.index(name)] == isinstance(extra, Tensor)):
            return arrange(v, args, kwargs)
    raise explain(TypeError(f"{op.name}() takes {len(op.params)} arguments but {len(args)} were given"),
                  hint=f"its parameters are {', '.join(op.params)}")


def sort(op: Op, given: dict[str, Any], method: bool = False) -> tuple[list[Any], tuple[Any, ...], bool]:
    """(tensor arguments, static arguments, was one a number).  method: messages do not count the tensor itself."""
    tensors: list[Any] = []
    fixed: list[Any] = []
    numbers = False
    for name, wants in zip(op.params, op.is_tensor):
        if name in given:
            v = given[name]
        elif name in op.defaults:
            v = op.defaults[name]
        else:
            raise explain(TypeError(f"{op.name}() missing 1 required positional arguments: \"{name}\""))
        if not wants:
            v = static(v, name)
            if name in op.whole and type(v) is not int and v is not None:
                _check_whole(op, name, v, method)
            fixed.append(v)
        elif op.sequence and not tensors:
            tensors.extend(_sequence(op, name, v))
        else:
            if v is None and op.defaults.get(name, v is not None) is not None:
                raise explain(TypeError(f"{op.name}(): argument '{name}' (position {op.params.index(name) + (not method)}) "
                                        "must be Tensor, not NoneType"))
            tensors.append(v)
    if op.sequence:
        return tensors, tuple(fixed), False
    for k, v in enumerate(tensors):
        if v is not None and not isinstance(v, Tensor):
            tensors[k] = _lift(op, k, v, tensors, method)
            numbers = True
    return tensors, tuple(fixed), numbers


def _check_whole(op: Op, name: str, v: Any, method: bool) -> None:
    """An int, or ints: neither floats nor bools.  TypeError in torch's words."""
    bad = next((i for i in v if type(i) is not int), None) if type(v) is tuple else v
    if bad is None or (type(bad) is bool and "unbiased" in op.params):    # var(False)
        return
    wants = "tuple of ints" if op.star or type(v) is tuple else "int"
    raise explain(TypeError(f"{op.name}(): argument '{name}' (position {op.params.index(name) + (not method)}) must be "
                            f"{wants}, not {_kind(bad)}"))


def _sequence(op: Op, parameter: str, v: Any) -> list[Any]:
    if isinstance(v, Tensor) or not isinstance(v, (tuple, list)):
        raise explain(TypeError(f"{op.name}(): argument '{parameter}' (position 1) must be tuple of Tensors, not {_kind(v)}"))
    for k, t in enumerate(v):
        if not isinstance(t, Tensor):
            raise explain(TypeError(f"expected Tensor as element {k} in argument 0, but got {_kind(t)}"))
    if not v:
        kind, name = (ValueError, "torch.cat") if op.name == "cat" else (RuntimeError, op.name)
        raise explain(kind(f"{name}(): expected a non-empty list of Tensors"))
    return list(v)


def _lift(op: Op, k: int, v: Any, tensors: Sequence[Any], method: bool) -> Node:
    name = [p for p, wants in zip(op.params, op.is_tensor) if wants][k]
    if not is_number(v) or op.name in _MATRICES or (k == 0 and not any(isinstance(t, Tensor) for t in tensors)):
        hint = None
        if isinstance(v, np.ndarray):
            hint = "convert it: torch.from_numpy(a) shares its memory, torch.tensor(a) copies"
        raise explain(TypeError(f"{op.name}(): argument '{name}' (position {k + (not method)}) must be Tensor, not "
                                f"{_kind(v)}"), hint=hint)
    return number(v, tensors, op.name)


def _kind(v: Any) -> str:
    kind = type(v)
    if isinstance(v, Tensor):
        return "Tensor"
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


# ---------------------------------------------------------------- calling
def call(op: Op, args: Sequence[Any], kwargs: dict[str, Any], method: bool = False) -> Any:
    """The op on what the user wrote."""
    out = kwargs.pop("out", None) if kwargs else None
    op, given = arrange(op, args, kwargs)
    tensors, fixed, numbers = sort(op, given, method)
    if op.name in _DIVIDES or (op.name == "div" and fixed[0] is not None):
        check_divisor(tensors[-1], tensors[0])
    if op.bounds is not None:
        check_bounds(op, tensors, fixed)
    if op.name in SHARES:
        check_shares(op.name, tensors)
    result = apply(op, tensors, fixed, numbers)
    if op.raises:
        compute_now(op, fixed, result)
    if type(result) is tuple and op.returns is not None:
        result = named(op)(result)
    if out is None:
        return result
    if result.aval.device != out.aval.device:
        raise explain(RuntimeError(f"Expected out tensor to have device {result.device}, but got {out.device} instead"))
    return out.copy_(result)


def call_into(op: Op, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    """The op written to its first argument."""
    op, given = arrange(op, args, kwargs)
    tensors, fixed, numbers = sort(op, given, True)
    if op.name in _DIVIDES or (op.name == "div" and fixed[0] is not None):
        check_divisor(tensors[-1], tensors[0])
    if op.bounds is not None:
        check_bounds(op, tensors, fixed)
    return apply_into(op, tensors, fixed, numbers)


class Named(tuple[Any, ...]):
    """Several results with names, printed as torch prints them."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _title = ""

    def __repr__(self) -> str:
        inner = ",\n".join([f"{f}={v!r}" for f, v in zip(self._fields, self)])
        return f"torch.return_types.{self._title}(\n{inner})"


_NAMED: dict[str, Any] = {}


def named(op: Op) -> Any:
    """The tuple class of an op with several results."""
    found = _NAMED.get(op.name)
    if found is None:
        assert op.returns is not None
        title = op.name.removesuffix("_dim")
        space: dict[str, Any] = {"__slots__": (), "_fields": op.returns, "_title": title}
        space.update({f: property(itemgetter(k)) for k, f in enumerate(op.returns)})
        found = _NAMED[op.name] = type(title, (Named,), space)
    return found


# ---------------------------------------------------------------- methods and functions
def function_of(op: Op, method: bool = False) -> Callable[..., Any]:
    """The public function of an op; as a method it takes the tensor first."""
    simple = (op.bounds is None and op.name not in _DIVIDES and op.name not in SHARES and op.returns is None and not op.sequence
              and not op.raises)
    fixed = lasting(tuple([op.defaults.get(p) for p, wants in zip(op.params, op.is_tensor) if not wants]))
    rest = [p for p in op.params[1:] if p not in op.defaults]

    def f(*args: Any, **kwargs: Any) -> Any:
        return call(op, args, kwargs, method)

    def unary(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            return apply(op, args, fixed)
        return call(op, args, kwargs, method)

    def binary(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 2 and not kwargs and isinstance(args[0], Tensor) and isinstance(args[1], Tensor):
            return apply(op, args, fixed)
        return call(op, args, kwargs, method)

    f.__name__ = unary.__name__ = binary.__name__ = op.name
    f.__doc__ = unary.__doc__ = binary.__doc__ = op.doc
    if simple and op.ntensors == 1 and not rest and op.is_tensor[0]:
        f = quick_unary(unary, op, fixed)
    elif simple and op.ntensors == 2 and op.is_tensor[:2] == (True, True) and rest in ([op.params[1]], []):
        f = quick_pair(binary, op, fixed)
    elif simple and op.ntensors == 1 and op.is_tensor[0]:
        f = quick_static(f, written_ints)
    f.__qualname__ = op.name
    return f


def inplace_of(op: Op) -> Callable[..., Tensor]:
    """The method with a trailing underscore."""
    def f(*args: Any, **kwargs: Any) -> Tensor:
        return call_into(op, args, kwargs)
    f.__name__ = f.__qualname__ = op.name + "_"
    f.__doc__ = f"In place: {op.doc}"
    return f


OPERATORS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
             "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
             "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift"}
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
UNARY = {"neg": "neg", "abs": "abs", "invert": "bitwise_not", "pos": "positive"}


def _operator(op: Op, swap: bool) -> Callable[..., Any]:
    plain = not op.variants and op.bounds is None and op.name not in _DIVIDES
    fixed = lasting(tuple([op.defaults[p] for p, wants in zip(op.params, op.is_tensor) if not wants]))
    by_number = OPS.get(op.variants.get(op.params[1], "")) if not swap else None      # x ** 2
    if by_number is not None and by_number.is_tensor != (True, False):
        by_number = None

    def f(self: Tensor, other: Any) -> Any:
        a, b = (other, self) if swap else (self, other)
        if isinstance(other, Tensor):
            return apply(op, (a, b), fixed) if plain else call(op, (a, b), {})
        if not is_number(other) or op.name == "matmul":
            return NotImplemented
        if by_number is not None and type(other) in NUMBERS and not _complex(other):
            return apply(by_number, (self,), (other,))
        if plain:
            d = self.aval.dtype
            n = scalar(other, d.weak) if d.category == FLOAT and type(other) in _REAL else number(other, (self,), op.name)
            return apply(op, (n, b) if swap else (a, n), fixed, True)
        return call(op, (a, b), {})

    f.__name__ = op.name
    if by_number is not None:
        return quick_static(f, written_ints)              # x ** 2
    return quick_binary(f, op, fixed, swap) if plain else f


def _operator_into(op: Op) -> Callable[..., Any]:
    def f(self: Tensor, other: Any) -> Any:
        if not isinstance(other, Tensor) and not is_number(other):
            return NotImplemented
        return call_into(op, (self, other), {})
    return f


def _reverse_division(self: Tensor, other: Any) -> Any:
    return self.reciprocal() * other if is_number(other) else NotImplemented


def _inverted(self: Tensor) -> Any:
    if self.aval.dtype.category > INT:
        raise explain(TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors"))
    return apply(OPS["bitwise_not"], (self,))


def bind_methods() -> None:
    """Put every declared op on Tensor."""
    for op in OPS.values():
        f = function_of(op, True)
        if op.method:
            for name in (op.name, *op.aliases):
                if not hasattr(Tensor, name):
                    setattr(Tensor, name, f)
        if op.inplace:
            for name in (op.name, *op.aliases):
                if not hasattr(Tensor, name + "_"):
                    setattr(Tensor, name + "_", inplace_of(op))
    for word, name in OPERATORS.items():
        if name in OPS:
            op = OPS[name]
            setattr(Tensor, f"__{word}__", _operator(op, False))
            setattr(Tensor, f"__r{word}__", _operator(op, word not in ("add", "mul", "and", "or", "xor")))
            setattr(Tensor, f"__i{word}__", _operator_into(op))
    if "rsub" in OPS:
        Tensor.__rsub__ = _operator(OPS["rsub"], False)  # type: ignore[attr-defined]
    Tensor.__rtruediv__ = _reverse_division  # type: ignore[attr-defined]
    for name in COMPARISONS:
        if name in OPS:
            setattr(Tensor, f"__{name}__", _operator(OPS[name], False))
    for word, name in UNARY.items():
        if name in OPS:
            setattr(Tensor, f"__{word}__", function_of(OPS[name], True))
    Tensor.__invert__ = _inverted  # type: ignore[attr-defined, operator]


def functions() -> dict[str, Callable[..., Any]]:
    """Public functions by name: what stands in the namespace of `autojit`."""
    found: dict[str, Callable[..., Any]] = {}
    for op in OPS.values():
        if op.function:
            f = function_of(op)
            for name in (op.name, *op.aliases):
                found.setdefault(name, f)
    return found


def functional() -> dict[str, Callable[..., Any]]:
    """What stands in `nn.functional`."""
    return {name: f for op in OPS.values() if op.functional for f in [function_of(op)] for name in (op.name, *op.aliases)}
