"""`custom_op`: a function that the user has compiled with Numba, as an op.

In: a dispatcher of `numba.njit` that fills arrays, what its results look like, its reverse (compiled too, or written in ops).
Out: a function of tensors whose calls are nodes (`ops/custom.py`): programs call the machine code, and no Python runs in
between.  Never imports Numba: who has a dispatcher has it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .backends.cpu.byhand import custom as native
from .dtypes import FLOAT, DType, as_dtype
from .eager.apply import apply
from .eager.template import Rule
from .eager.tensor import Tensor, wrap
from .errors import explain
from .ir.aval import Aval, aval
from .ir.graph import Node, const, linearise, node, placeholder, substitute
from .ir.primitive import BUFFER, LEAF, SCALAR
from .ops.custom import CUSTOM, Compiled, Custom, Written
from .tracing.plan import as_tensor
from .transforms.recording import FunctionTrace, record

KEPT = 256                                                # kinds of calls that one op remembers
_TWICE = "trying to differentiate twice {}, whose vjp is a compiled function: it has no derivative itself"
_NO_RULE = ("Trying to backward through {0} but no autograd formula was registered: give it one, compiled with "
            "@{0}.vjp or written in ops with @{0}.defvjp")


class CustomOp:
    """What `custom_op` makes.  `function`: the dispatcher that was given."""

    def __init__(self, function: Any, out: Any = None, name: str | None = None) -> None:
        self.function = _compiled(function, "custom_op")
        functools.update_wrapper(self, function.py_func)
        if out is not None and not callable(out):
            raise explain(TypeError(f"custom_op: out must be a function of the arguments, not {type(out).__name__}"),
                          hint="out=lambda x, y: x says that the result is like x")
        self.name: str = name or function.py_func.__name__
        self.out = out
        self._rule: Any = None
        self._known: dict[Any, _Kind] = {}

    def __repr__(self) -> str:
        return f"<custom op {self.name}>"

    # ------------------------------------------------------------ the reverse
    def vjp(self, function: Any) -> Any:
        """The reverse as a compiled function, `vjp(*arguments, *results, *cotangents, *filled)`: it reads the arguments and
        results of the call and a cotangent for each floating result, and fills an array for each floating argument (a tensor)
        with its cotangent.  It can be differentiated once.  Returns `function`: use it as a decorator.

        TypeError if it is no dispatcher of Numba."""
        self._rule = Compiled(_compiled(function, f"{self.name}.vjp"), f"{self.name}_vjp", _TWICE.format(self.name))
        self._known.clear()
        return function

    def defvjp(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The reverse in ops, `rule(*arguments, *results, *cotangents)` on tensors: returns a cotangent for each argument that
        is a tensor, in order (None: zero).  It is recorded once for each kind of arguments, and can be differentiated to any
        order, forward too.  Returns `function`.

        TypeError if it is a dispatcher of Numba; ValueError, at the call, for cotangents that do not fit."""
        if native.dispatcher(function) or not callable(function):
            raise explain(TypeError(f"{self.name}.defvjp takes a function of tensors, not {type(function).__name__}"),
                          hint=f"a compiled reverse is given with {self.name}.vjp")
        self._rule = Written(lambda one: _derived(self.name, function, one))
        self._known.clear()
        return function

    # ------------------------------------------------------------ calls
    def __call__(self, *args: Any, **named: Any) -> Any:
        kinds = [*[_kind(a) for a in args], *[(k, _kind(a)) for k, a in named.items()]]
        known = self._known.get(tuple(kinds)) if None not in kinds else None
        if known is None:
            args = tuple([self._operand(k, a) for k, a in enumerate(args)])
            named = {k: self._operand(k, a) for k, a in named.items()}
            known = self._new(args, named)
        values = [named[k] if isinstance(k, str) else args[k] for k in known.places]
        return apply(known.rule, values)

    def _operand(self, place: int | str, a: Any) -> Any:
        """An argument as the op has it: arrays as tensors, numbers of NumPy as Python's."""
        if isinstance(a, np.ndarray):
            a = as_tensor(a, None)
        if isinstance(a, Tensor):
            self._refuse(place, a.aval)
            return a
        if isinstance(a, np.generic):
            a = a.item()
        if isinstance(a, (list, dict, set)):
            raise explain(TypeError(f"{self.name}(): argument {place!r} must be a tensor, an array or a number, not "
                                    f"{type(a).__name__}"))
        return a

    def _refuse(self, place: int | str, a: Aval) -> None:
        if a.device != "cpu":
            raise explain(RuntimeError(f"{self.name} is code for the CPU, and its argument {place!r} is on {a.device}"),
                          hint="give it x.cpu(), or write it with Numba's CUDA compiler outside of autojit")
        if not native.supported(a.dtype):
            raise explain(TypeError(f"{self.name}(): argument {place!r} is {a.dtype!r}, which compiled functions do not take"),
                          hint="convert it: x.float(), or its real and imaginary parts")

    def _new(self, args: tuple[Any, ...], named: dict[str, Any]) -> _Kind:
        """A kind of call that is new: what it takes and gives, its kernel compiled."""
        key = tuple([*[_kind(a) for a in args], *[(k, _kind(a)) for k, a in named.items()]])
        known = self._known.get(key)
        if known is not None:
            return known
        results = self._results(args, named)
        order = self._order(len(args), named, len(results))
        given = [p.value if isinstance(p, _Default) else args[p] if type(p) is int else named[p] for p in order]
        places = [p for p, a in zip(order, given) if isinstance(a, Tensor)]
        operands = [a.aval for a in given if isinstance(a, Tensor)]
        if not operands:
            raise explain(TypeError(f"{self.name}() takes at least one tensor or array among its arguments"))
        fixed = [None if isinstance(a, Tensor) else (a,) for a in given]
        spec = Custom(self.name, self.function, fixed, operands, results, self._rule, _NO_RULE.format(self.name))
        self._check(spec)
        if len(self._known) >= KEPT:
            self._known.clear()
        known = self._known[key] = _Kind(spec, places)
        return known

    def _check(self, spec: Custom) -> None:
        """Compiles: what is wrong with the function, or with its reverse, is told at the call."""
        try:
            native.entry(spec)
            if isinstance(self._rule, Compiled):
                back = self._rule.spec(spec)
                _arity(self._rule, spec, back)
                native.entry(back)
            elif isinstance(self._rule, Written) and spec.floats():
                self._rule.graph(spec)
        except TypeError as e:
            raise explain(e) from e.__cause__

    def _results(self, args: tuple[Any, ...], named: dict[str, Any]) -> list[Aval]:
        """Avals of the results, as `out` tells them."""
        seen = [a.aval if isinstance(a, Tensor) else a for a in args]
        words = {k: a.aval if isinstance(a, Tensor) else a for k, a in named.items()}
        if self.out is None:
            found: Any = next((a for a in (*seen, *words.values()) if isinstance(a, Aval)), None)
            if found is None:
                raise explain(TypeError(f"{self.name}() takes at least one tensor or array among its arguments"))
        else:
            found = self.out(*seen, **words)
        several = isinstance(found, (list, tuple)) and not _pair(found)
        results = [self._aval(f) for f in (found if several else [found])]
        if not results:
            raise explain(TypeError(f"custom_op {self.name}: out told of no result"))
        return results

    def _aval(self, found: Any) -> Aval:
        """One result: an argument, (shape, dtype), or anything that has a shape and a dtype."""
        try:
            shape, dtype = found if _pair(found) else (found.shape, found.dtype)
            made = aval(tuple([int(n) for n in shape]), as_dtype(dtype))
        except (AttributeError, TypeError, ValueError) as e:
            raise explain(TypeError(f"custom_op {self.name}: out must tell of each result what it is like, an argument or "
                                    f"(shape, dtype), not {found!r}")) from e
        if any([n < 0 for n in made.shape]):
            raise explain(ValueError(f"custom_op {self.name}: out gives the shape {made.shape}"))
        if not native.supported(made.dtype):
            raise explain(TypeError(f"custom_op {self.name}: a compiled function does not fill {made.dtype!r}"))
        return made

    def _order(self, positional: int, named: dict[str, Any], results: int) -> list[Any]:
        """For each argument of the function its place: a position, a name, or its default value."""
        names = native.parameters(self.function)
        wanted = names[:max(len(names) - results, 0)]
        given = [*wanted[:positional], *named]
        wrong = next((n for n in named if n not in wanted or n in wanted[:positional]), None)
        missing = [n for n in wanted if n not in given]
        defaults = self.function.py_func.__defaults__ or ()
        known = dict(zip(names[len(names) - len(defaults):], defaults))
        missing = [n for n in missing if n not in known]
        if positional > len(wanted) or wrong is not None or missing or len(names) < results:
            what = f"got an unexpected or repeated argument {wrong!r}" if wrong is not None else \
                f"misses {', '.join(missing)}" if missing else f"got {positional} arguments"
            raise explain(TypeError(f"{self.name}() takes {len(wanted)} arguments ({', '.join(wanted)}) and fills {results} "
                                    f"({', '.join(names[len(wanted):])}), as out says; it {what}"))
        return [k if k < positional else n if n in named else _Default(known[n]) for k, n in enumerate(wanted)]


class _Default:
    """The value of an argument that a call leaves out."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Kind:
    """A kind of call.  places: where its operands stand among the arguments, by position or name."""

    __slots__ = ("spec", "rule", "places")

    def __init__(self, spec: Custom, places: Sequence[int | str]) -> None:
        def call(*nodes: Node) -> Any:
            outs = tuple([node(CUSTOM, nodes, (spec, k)) for k in range(len(spec.avals))])
            return outs[0] if len(outs) == 1 else outs

        title = "".join([w[:1].upper() + w[1:] for w in spec.name.split("_")])
        self.spec, self.places = spec, places
        self.rule = Rule(spec.name, call, title + "Backward")


def _kind(a: Any) -> Any:
    """What a kind of call depends on; None for what has to be converted first."""
    if isinstance(a, Tensor):
        return a.aval
    if type(a) is float:
        return float, a.hex()
    if isinstance(a, (np.ndarray, np.generic, list, dict, set)):
        return None
    if type(a) is tuple:
        return tuple, tuple([_kind(x) for x in a])
    return type(a), a


def _pair(found: Any) -> bool:
    """Is it (shape, dtype), and not two results?"""
    return (isinstance(found, (tuple, list)) and len(found) == 2 and isinstance(found[0], (tuple, list))
            and all([isinstance(n, (int, np.integer)) for n in found[0]])
            and (isinstance(found[1], (DType, np.dtype, type, str))))


def _compiled(function: Any, name: str) -> Any:
    """The function, if it is a dispatcher.  TypeError says what else to use."""
    if native.dispatcher(function):
        return function
    kind = type(function).__name__
    if isinstance(function, CustomOp):
        raise explain(TypeError(f"{name} takes a function compiled by numba.njit, and {function!r} is an op already"))
    hint = "decorate it with @numba.njit (below @aj.custom_op), or write the op in Python as an autograd.Function"
    raise explain(TypeError(f"{name} takes a function compiled by numba.njit, not {kind}"), hint=hint)


def _arity(rule: Compiled, spec: Custom, back: Custom) -> None:
    """TypeError unless the compiled reverse has the parameters that it is called with."""
    names = native.parameters(rule.function)
    wanted = len(back.fixed) + len(back.results)
    if len(names) != wanted:
        cts = len(back.fixed) - len(spec.fixed) - len(spec.results)
        raise TypeError(f"{rule.name}: the vjp takes {wanted} arguments here: {len(spec.fixed)} of the call, "
                        f"{len(spec.results)} results, {cts} cotangents, and {len(back.results)} arrays to fill, one for each "
                        f"floating tensor; it "
                        f"has {len(names)} ({', '.join(names)})")


# ---------------------------------------------------------------- a reverse in ops
def _derived(name: str, function: Callable[..., Any], one: Custom) -> tuple[list[Node], list[Node | None]]:
    """The rule as a graph over placeholders; see `ops.custom.Written`."""
    avals = [*one.operands, *one.results, *[a for a in one.results if a.dtype.category >= FLOAT]]
    it = iter([wrap(placeholder(a)) for a in avals])
    args = (*[next(it) if f is None else f[0] for f in one.fixed], *it)
    places: list[int] = []

    def rule(*args: Any) -> list[Tensor]:
        return _cotangents(name, one, function(*args), places)

    given, structure = tree.flatten((args, {}))
    r = record(rule, given, structure, [a.dtype.category >= FLOAT for a in avals], FunctionTrace())
    leaves = [n for n in linearise(r.outputs) if n.prim.kind == LEAF]
    if r.outside or r.cut or any([n.prim is BUFFER for n in leaves]):
        what = "uses a custom Function or hooks" if r.cut else "reads data or random numbers from outside"
        raise explain(RuntimeError(f"the rule of {name}.defvjp {what}: it is recorded once, and must be made of its arguments"))
    numbers: dict[Node, Node] = {n: const(n.data, n.dtype) for n in leaves if n.prim is SCALAR}
    grads: list[Node | None] = [None] * len(one.operands)
    for k, g in zip(places, substitute(r.outputs, numbers)):
        grads[k] = g
    return r.arguments, grads


def _cotangents(name: str, one: Custom, found: Any, places: list[int]) -> list[Tensor]:
    """The cotangents that a rule returned, and in `places` of which operands they are."""
    given = found if isinstance(found, (tuple, list)) else (found,)
    if len(given) != len(one.operands):
        raise explain(ValueError(f"the rule of {name}.defvjp must return a cotangent for each of its {len(one.operands)} "
                                 f"tensors, not {len(given)}"))
    out: list[Tensor] = []
    for k, (g, a) in enumerate(zip(given, one.operands)):
        if g is None or a.dtype.category < FLOAT:
            continue
        if not isinstance(g, Tensor) or g.aval.shape != a.shape:
            what = f"a tensor of shape {g.aval.shape}" if isinstance(g, Tensor) else type(g).__name__
            raise explain(ValueError(f"the rule of {name}.defvjp must return a cotangent of shape {a.shape} for tensor {k}, "
                                     f"not {what}"))
        places.append(k)
        out.append(g.to(a.dtype))
    return out


# ---------------------------------------------------------------- the public function
def custom_op(function: Any = None, *, out: Callable[..., Any] | None = None, name: str | None = None) -> Any:
    """A function compiled by `numba.njit` as an op: eager and in compiled programs (loops, branches, bound calls) it is called
    as machine code, without Python in between.

    function: ``f(*arguments, *results)``.  It reads the arguments and fills the results, which come uninitialised.  Tensors
    and NumPy arrays arrive as C-contiguous arrays of their dtype, those without dimensions as numbers; anything else (numbers,
    strings, tuples) as it is.  It must not write to its arguments, nor keep them; it runs without the GIL, perhaps in several
    threads at once.  What it raises is raised by the op.

    out: what the results are like, by the arguments, where tensors have a `shape` and a `dtype`: one of them,
    ``(shape, dtype)``, or a tuple of such for several results.  Without it there is one result, like the first tensor.
    name: for messages.

    The reverse is given by `@op.vjp`, a compiled function again, or by `@op.defvjp`, a rule in ops (see there).  `vmap` calls
    the function in turn for each example, in one native loop.

    TypeError for what is not compiled by Numba, for arguments that the function cannot be compiled for, float16, bfloat16 and
    complex ones; RuntimeError on other devices.

    >>> import autojit as aj
    >>> from numba import njit
    >>> @aj.custom_op(out=lambda x, s: x)
    ... @njit
    ... def scaled(x, s, out):
    ...     for i in range(x.size):
    ...         out.flat[i] = x.flat[i] * s
    >>> @scaled.vjp
    ... @njit
    ... def scaled_vjp(x, s, out, ct, ct_x):
    ...     for i in range(x.size):
    ...         ct_x.flat[i] = ct.flat[i] * s
    >>> x = aj.tensor([1.0, 2.0], requires_grad=True)
    >>> scaled(x, 3.0)
    tensor([3., 6.], grad_fn=<ScaledBackward>)
    >>> aj.grad(lambda x: scaled(x, 3.0).sum())(x.detach())
    tensor([3., 3.])
    """
    if function is None:
        return lambda f: CustomOp(f, out, name)
    return CustomOp(function, out, name)
