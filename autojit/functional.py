"""Functions of functions: `grad`, `value_and_grad`, `vjp`, `stop_gradient`.  All others: `transforms/`.

In: a function of tensors, arrays or nests of them.  Out: a function that gives derivatives.  For a traced function value and
gradient are one compiled program, found by a dictionary look-up and run by one native call; for any other function they are
the eager face's `autograd.grad`.  All nest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import tree
from .dtypes import FLOAT
from .eager import autograd
from .eager.apply import apply
from .eager.modes import enable_grad
from .eager.state import state
from .eager.sweep import Sweep
from .eager.template import Rule
from .eager.tensor import Tensor, alias, of_buffer, wrap
from .errors import explain
from .ops.declare import P
from .ops.placement import zeros
from .tracing.hot import Call, Short, Writer
from .tracing.plan import Asked, Plan, array_of, as_tensor, gather, run_time
from .tracing.traced import Method, Traced

if TYPE_CHECKING:
    from .bound import Bound

Argnums = int | Sequence[int]


def _sequence(argnums: Argnums) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def numbers(argnums: Argnums, given: int) -> tuple[int, ...]:
    """Positions of arguments, counted from the front."""
    chosen = _sequence(argnums)
    for k in chosen:
        if type(k) is not int:
            raise explain(TypeError(f"argnums takes a position or a sequence of positions, not {argnums!r}"))
        if not -given <= k < given:
            raise explain(ValueError(f"argnums says {k}, but the function was called with {given} positional arguments"))
    return tuple([k % given for k in chosen])


def zero_like(t: Tensor) -> Any:
    return wrap(zeros(t.aval))


def not_floating(t: Tensor) -> RuntimeError:
    return explain(RuntimeError(f"only floating point tensors can be differentiated by, not {t.aval.dtype}"),
                   hint="convert it with .float()")


def _leaf(x: Any) -> Tensor:
    """An argument to differentiate by: an alias with a place of its own in the tape."""
    if not run_time(x):
        raise explain(TypeError(f"only floating numbers, tensors and arrays can be differentiated by, not {type(x).__name__}"),
                      hint="pass 3.0 instead of 3" if isinstance(x, (int, np.integer)) else None)
    t = as_tensor(x, _default())
    if t.aval.dtype.category < FLOAT:
        raise not_floating(t)
    if t.requires_grad and state.grad:
        return t.view_as(t)
    own = t.detach().clone() if t.chain else t.detach()   # a view's storage is another's: loops capture whole ones
    return own.requires_grad_()


def _default() -> Any:
    from .dtypes import default_float
    return default_float()


def _like(x: Any, g: Tensor) -> Any:
    """A gradient in the kind of its argument: arrays for arrays (a device has none), floats for floats, tensors for tensors."""
    if isinstance(x, np.ndarray) and state.trace is None and g.aval.device == "cpu":
        return g.detach().numpy()
    if isinstance(x, (float, np.floating)) and state.trace is None:
        return g.item()
    return g


def _in_place(x: Any, g: Tensor) -> Any:
    """A gradient whose memory is written again and again: an array for an array, else a tensor."""
    return g.numpy() if isinstance(x, np.ndarray) else g


class ValueAndGrad:
    """`value_and_grad(f)`; see there."""

    def __init__(self, fn: Callable[..., Any], argnums: Argnums, has_aux: bool) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn, self.argnums, self.has_aux = fn, argnums, has_aux
        self._short = Short()
        self._whole: ValueAndGrad | None = None           # of a method: of the function, whose first argument is the object
        if type(fn) is Method:
            later = [k + 1 if type(k) is int and k >= 0 else k for k in _sequence(argnums)]
            self._whole = ValueAndGrad(fn.func, later[0] if isinstance(argnums, int) else later, has_aux)

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self._whole is not None:
            numbers(self.argnums, len(args))              # speaks of the arguments that the caller sees
            return self._whole(*self.fn.args, *args, **kwargs)  # type: ignore[attr-defined]
        if not kwargs:
            for call in self._short.calls:
                found = call(args)
                if found is not None:
                    return found  # type: ignore[no-any-return]
            if type(self.fn) is Traced and state.trace is None and not (state.grad and _differentiated(args)):
                return self._traced(args)
        return self._eager(args, kwargs)

    # ------------------------------------------------------------ one compiled program
    def _traced(self, args: tuple[Any, ...]) -> tuple[Any, Any]:
        fn: Any = self.fn
        leaves, structure, tensors = fn.leaves(args, {})
        plan, arrays, drawn = fn.answer(Asked(leaves, structure, tensors, self.wrt(args, tensors)))
        if arrays is None:
            arrays = plan.run([array_of(t) for t in tensors] + gather(plan, drawn))
        found = self._finish(plan, args, tensors, arrays)
        if not fn.static_argnums:
            self._short.used(plan, args, lambda native: self._write(plan, native, args))
        return found

    def _write(self, plan: Plan, native: Any, args: tuple[Any, ...]) -> Call:
        w = Writer(self.fn, self._short, plan, native, args)
        w.unpack()
        value, at, per = w.value(), len(plan.needs), []
        for k in numbers(self.argnums, len(args)):
            leaves, structure = tree.flatten(args[k])
            parts = []
            for x in leaves:
                shown = isinstance(x, Tensor) or isinstance(x, np.ndarray) and plan.results[at].aval.device != "cpu"
                plain = f"r{at}" if isinstance(x, np.ndarray) else f"{w.number(at)}.item()"
                parts.append(w.shown(at) if shown else plain)
                at += 1
            per.append(w.nest(structure, parts))
        results = f"{value}, {per[0]}" if isinstance(self.argnums, int) else f"{value}, ({', '.join(per)},)"
        return w.write(results, state.grad if _differentiated(args) else None)

    def wrt(self, args: Sequence[Any], tensors: Sequence[Tensor]) -> tuple[int, ...]:
        """Which of the run-time leaves of the arguments to differentiate by."""
        chosen = numbers(self.argnums, len(args))
        wrt, at = [], 0
        for k, a in enumerate(args):
            for x in tree.flatten(a)[0]:
                if run_time(x):
                    if k in chosen:
                        wrt.append(at)
                    at += 1
                elif k in chosen:
                    raise explain(TypeError(f"argument {k} holds {type(x).__name__}, which has no gradient"),
                                  hint="pass a float, a floating tensor or array")
        for k in wrt:
            if tensors[k].aval.dtype.category < FLOAT:
                raise not_floating(tensors[k])
        return tuple(wrt)

    def bind(self, *args: Any) -> Bound:
        """The function with its arguments and results fixed in memory: see `value_and_grad`."""
        if self._whole is not None:
            return self._whole.bind(*self.fn.args, *args)  # type: ignore[attr-defined]
        from .bound import bind, fixed  # imported when first needed
        fn: Any = self.fn if type(self.fn) is Traced else Traced(self.fn)
        given = fixed(args, fn.static_argnums)
        leaves, structure, tensors = fn.leaves(given, {})
        plan = fn.plan(leaves, structure, self.wrt(given, tensors))
        fn.last = plan
        return bind(plan, tensors, plan.body.name, lambda grads: self._structured(args, grads, _in_place))

    def _finish(self, plan: Plan, args: Sequence[Any], tensors: list[Any], arrays: list[Any]) -> tuple[Any, Any]:
        n, count = len(plan.needs), plan.gradients
        outs = [of_buffer(a, r.aval) for a, r in zip(arrays[:n], plan.results)]
        grads = [of_buffer(a, r.aval) for a, r in zip(arrays[n:n + count], plan.results[n:n + count])]
        if not plan.pure:
            fn: Any = self.fn
            fn.write_back(plan, tensors, arrays)
        return plan.nest(outs), self._structured(args, grads)

    def _structured(self, args: Sequence[Any], grads: Sequence[Any], like: Callable[[Any, Any], Any] | None = None) -> Any:
        like = like or _like
        it = iter(grads)
        per = []
        for k in numbers(self.argnums, len(args)):
            leaves, structure = tree.flatten(args[k])
            per.append(tree.unflatten(structure, [like(x, next(it)) for x in leaves]))
        return per[0] if isinstance(self.argnums, int) else tuple(per)

    # ------------------------------------------------------------ the tape
    def _eager(self, args: tuple[Any, ...], kwargs: Any) -> tuple[Any, Any]:
        chosen = numbers(self.argnums, len(args))
        given, inner, leaves = list(args), [], []
        nested = state.grad and _differentiated([args[k] for k in chosen])
        recording = state.grad                            # the function may change it
        for k in chosen:
            flat, structure = tree.flatten(args[k])
            new_leaves = [_leaf(x) for x in flat]
            inner += new_leaves
            leaves += flat
            given[k] = tree.unflatten(structure, new_leaves)
        with enable_grad():
            out = self.fn(*given, **kwargs)
        value = out[0] if self.has_aux else out
        if not isinstance(value, Tensor) or value.aval.size != 1:
            raise explain(RuntimeError("grad needs a function that returns one floating number, and this one returned "
                                       f"{value.aval if isinstance(value, Tensor) else type(value).__name__}"),
                          hint="sum() or mean() the result")
        nested = nested or recording and value.requires_grad and _captured(value, inner)
        if value.requires_grad:
            grads = autograd.grad(value, inner, create_graph=bool(nested), allow_unused=True, materialize_grads=True)
        else:
            grads = tuple([zero_like(t) for t in inner])
        if not nested:
            out = _detached(out)
        return out, self._structured(args, grads)


class Gradient:
    """`grad(f)`; see there."""

    def __init__(self, fn: Callable[..., Any], argnums: Argnums, has_aux: bool) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.both, self.has_aux = ValueAndGrad(fn, argnums, has_aux), has_aux

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        value, g = self.both(*args, **kwargs)
        return (g, value[1]) if self.has_aux else g

    def bind(self, *args: Any) -> Bound:
        """As `value_and_grad(f).bind`: the value comes with the gradient."""
        return self.both.bind(*args)


def _differentiated(args: Sequence[Any]) -> bool:
    """Does an outer derivative look at any of these?"""
    return any(isinstance(x, Tensor) and x.requires_grad for x in tree.flatten(list(args))[0])


def value_and_grad(fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns (value, gradient) of `fn`, which returns one floating number.

    `argnums`: by which positional argument (an int: the gradient has its structure) or arguments (a sequence: a tuple of
    gradients).  `has_aux`: `fn` returns (value, anything else) and the value is returned in that form.
    RuntimeError if the result is not a single floating number, TypeError for an argument that has no gradient.
    Value and gradient have a history where an argument, or a captured tensor, wants a gradient itself; those of a traced
    function only by its arguments: pass what else you differentiate by.

    >>> import autojit as aj
    >>> value, grad = aj.value_and_grad(lambda x: (x ** 3).sum())(aj.tensor([1.0, 2.0]))
    >>> value, grad
    (tensor(9.), tensor([ 3., 12.]))

    `value_and_grad(f).bind(*args)` compiles (and waits for it) and gives a `Bound`: the form for the inner loop of a sampler,
    an integrator or an optimiser.  `b()` reads the arguments' memory again and writes `b.value` and `b.grads`, objects that
    stay, over memory that stays, with no Python in between; it returns `b.value`.  What keeps gradients from call to call
    (SciPy's BFGS does) must be given `b.grads.copy()`.

    - Arrays and tensors are read where they lie, captured tensors too; a Python float keeps its value.  `b.grads` has the
      structure that the call's gradient has: arrays for arrays, else tensors.  Nothing in `b` requires grad.
    - `b.run` is the builtin behind it and `b.address` the C function: see `Bound`.
    - Shapes, Python values, and which tensors are captured are those of the moment of binding.
    - What the function writes in place is written by each call, so a whole step of an integrator or optimiser can be bound.
    - ValueError for memory that is not contiguous, aligned and of the machine's byte order; RuntimeError for a function
      that uses an op without a kernel, which does not run without Python.  An index
      out of range raises in `b()`; nothing is written in place then, and the results are of no use.

    >>> import numpy as np
    >>> x = np.array([1.0, 2.0])
    >>> b = aj.value_and_grad(lambda x: (x ** 3).sum()).bind(x)
    >>> x[:] = 2.0, 3.0
    >>> b(), b.grads
    (tensor(35., dtype=torch.float64), array([12., 27.]))
    """
    return ValueAndGrad(fn, argnums, has_aux)


def grad(fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of `fn` (with `has_aux`: gradient and the rest); see `value_and_grad`.

    >>> import autojit as aj
    >>> aj.grad(aj.grad(lambda x: x ** 3))(aj.tensor(2.0))
    tensor(12.)
    """
    return Gradient(fn, argnums, has_aux)


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(fn(*primals), pull): `pull(cotangent)` gives the vector-Jacobian product for each primal; it may be called again.

    has_aux: `fn` returns (result, anything else), which is returned as a third.  TypeError for a cotangent of another
    structure than the result's.

    >>> import autojit as aj
    >>> y, pull = aj.vjp(lambda x: x.sin(), aj.tensor([0.0, 0.0]))
    >>> pull(aj.tensor([1.0, 2.0]))
    (tensor([1., 2.]),)
    """
    flat, structure = tree.flatten(primals)
    nested = state.grad and _differentiated(flat)
    inner = [_leaf(x) for x in flat]
    aux = None
    with enable_grad():
        out = fn(*tree.unflatten(structure, inner))
    if has_aux:
        if not isinstance(out, tuple) or len(out) != 2:
            raise explain(RuntimeError("vjp(f, *primals): output of function f should be a tuple: (output, aux) if has_aux is "
                                       "True"))
        out, aux = out
    outs, out_structure = tree.flatten(out)
    nested = nested or state.grad and any([_captured(o, inner) for o in outs if isinstance(o, Tensor) and o.requires_grad])

    def pull(cotangent: Any) -> tuple[Any, ...]:
        cts, given = tree.flatten(cotangent)
        if given != out_structure:
            raise explain(TypeError("the cotangent must have the structure of the function's result"))
        pairs = [(o, as_tensor(c, _default())) for o, c in zip(outs, cts) if o.requires_grad]
        if not pairs:
            grads: Any = [zero_like(t) for t in inner]
        else:
            grads = autograd.grad([o for o, _ in pairs], inner, [c for _, c in pairs], retain_graph=True,
                                  create_graph=bool(nested), allow_unused=True, materialize_grads=True)
        return tree.unflatten(structure, [_like(x, g) for x, g in zip(flat, grads)])  # type: ignore[no-any-return]

    shown = out if nested else _detached(out)
    return (shown, pull, aux if nested else _detached(aux)) if has_aux else (shown, pull)


def _captured(value: Tensor, inner: Sequence[Tensor]) -> bool:
    """Does it depend on what wants a derivative, beside the arguments?"""
    own = set(inner)
    return any([leaf not in own for leaf in Sweep([value], [None], None).leaves])


def _detached(nest: Any) -> Any:
    """Without history.  In a recording that is no cut: nothing but arguments of the function's own was differentiated by."""
    def bare(t: Any) -> Any:
        return t if not isinstance(t, Tensor) else t.detach() if state.trace is None else alias(t)
    return tree.tree_map(bare, nest)


STOP = Rule("stop_gradient", lambda n: P.stop(n), "StopGradientBackward")


def stop_gradient(x: Any) -> Any:
    """The same values, through which no derivative flows (a nest's too): `detach()` as a function, which transforms and traced
    functions know by its node, so that derivatives of any order may be taken around it.

    >>> import autojit as aj
    >>> aj.grad(lambda x: x * aj.stop_gradient(x))(aj.tensor(3.0))
    tensor(3.)
    """
    return tree.tree_map(lambda t: _stopped(t) if isinstance(t, Tensor) else t, x)


def _stopped(t: Tensor) -> Tensor:
    if state.trace is None or state.trace.light is not None or t.aval.dtype.category < FLOAT:
        return t.detach()
    with enable_grad():
        return alias(apply(STOP, (t,)))
