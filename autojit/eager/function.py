"""`autograd.Function`: operations whose gradient the user writes.

In: a subclass with `forward` and `backward` (and perhaps `setup_context`).  Out: `apply`, whose results stand in the tape
like any op's.  The user's backward runs on lazy tensors, so it is part of the same program, and can be differentiated again.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from weakref import ref

from ..dtypes import FLOAT
from ..errors import explain
from ..ir.aval import Aval
from ..ops.declare import broadcast_shapes
from ..ops.placement import zeros
from .apply import caller
from .cotangents import placed
from .inplace import bump
from .placing import carried
from .state import state
from .tape import FREED, Output, Record, Saved, moved_error
from .tensor import Tensor, alias, new, value, wrap

Pair = tuple[Any, Any]


class FunctionCtx:
    """What `forward` hands to `backward`.  Any attribute may be set on it; `grad_fn` of the results has them too."""

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._to_save: tuple[Any, ...] | None = None
        self._record: Any = None
        self._dirty: tuple[Tensor, ...] = ()
        self._fixed: tuple[Tensor, ...] = ()
        self._materialize = True
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Tensors that `backward` will find in `saved_tensors`; changes to them in between are noticed."""
        for k, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise explain(TypeError(f"save_for_backward can only save variables, but argument {k} is of type "
                                        f"{type(t).__name__}"))
        self._to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Accepted for torch's sake: forward mode needs nothing saved."""

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Inputs that `forward` has changed in place (and returns)."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Results that have no gradient."""
        self._fixed = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """False: `backward` gets None instead of zeros for results that nobody used."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved.  RuntimeError if it has been freed or changed."""
        return () if self._record is None else self._record.unpack()

    def name(self) -> str:
        """As `grad_fn.name()` says it."""
        return self._name


class CustomRecord(Record):
    """A call of a custom function.  saved: (what, edge or result number) for each saved tensor.  slots: which of the arguments
    are tensors.  avals: of the results, None for what is no tensor.  It has the attributes of its context."""

    __slots__ = ("function", "ctx", "avals", "slots")

    custom = True

    def __init__(self, function: Any, ctx: FunctionCtx, edges: Sequence[Any], slots: Sequence[int]) -> None:
        super().__init__(None, edges, (), caller())
        self.function, self.ctx = function, ctx
        self.slots = slots
        self.avals: list[Aval | None] = []
        self._name = ctx.name()

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_":
            raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")
        return getattr(self.ctx, name)

    @property
    def count(self) -> int:
        return len(self.avals)

    @property
    def differentiable(self) -> list[int]:
        return list(range(len(self.avals)))

    def check(self) -> None:
        """Freed and changed values are found when the user's backward asks for them, as in torch."""

    def free(self) -> None:
        if self.saved:
            self.saved = FREED

    def unpack(self) -> tuple[Any, ...]:
        """Saved tensors in their place in the tape."""
        Record.check(self)                                # freed?
        out: list[Any] = []
        for s, where in self.saved:
            if s is None:
                out.append(None)
                continue
            if s.moved() is not None:
                raise moved_error(_Maker(self, where), 0 if not isinstance(where, int) else ~where, s)
            out.append(self._tensor(s, where))
        return tuple(out)

    def _tensor(self, s: Saved, where: Any) -> Tensor:
        if s.leaf is not None:
            return s.leaf  # type: ignore[no-any-return]
        t = new(s.storage, s.node().aval)
        t.cell, t.chain, t.seen = s.cell, s.chain, s.cell.version
        if isinstance(where, int):
            where = self if self.outs is None else self.outs[where]() or Output(self, where)
        return placed(t, where)

    def pull(self, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The user's backward, its results checked: one for each tensor argument."""
        if self.ctx._materialize:
            grads = [wrap(zeros(a)) if g is None and a is not None else g for g, a in zip(grads, self.avals)]
        found = rule_of(self.function)(self.ctx, *grads)
        results = list(found) if isinstance(found, tuple) else [found]
        expected = len(self.ctx.needs_input_grad)
        if len(results) > expected and all(r is None for r in results[expected:]):
            results = results[:expected]
        if len(results) != expected:
            raise explain(RuntimeError(f"function {self._name} returned an incorrect number of gradients (expected "
                                       f"{expected}, got "
                                       f"{len(results)})"), where=self.place)
        for i, g in enumerate(results):
            if g is not None and i not in self.slots:
                raise explain(RuntimeError(f"function {self._name} returned a gradient different than None at position {i + 1},"
                                           " but the corresponding forward input was not a Variable"), where=self.place)
        return [self._checked(k, results[i], e) for k, (i, e) in enumerate(zip(self.slots, self.edges))]

    def _checked(self, k: int, g: Any, edge: Any) -> Tensor | None:
        if g is None or edge is None:
            return None
        if not isinstance(g, Tensor):
            raise explain(RuntimeError(f"expected Variable or None (got {type(g).__name__})"), where=self.place)
        a = self.ctx._inputs[k]  # type: ignore[attr-defined]
        if g.aval.shape != a.shape:
            try:
                fits = broadcast_shapes(a.shape, g.aval.shape) == g.aval.shape
            except RuntimeError:
                fits = False
            if not fits:
                raise explain(RuntimeError(f"Function {self._name} returned an invalid gradient at index {k} - got "
                                           f"{list(g.aval.shape)} but expected shape compatible with {list(a.shape)}"),
                              where=self.place)
            g = g.sum_to_size(a.shape)
        if g.aval.device != a.device:
            g = carried(g, a, f"Function {self._name} returned an invalid gradient at index {k}", self.place)
        return g.to(a.dtype)  # type: ignore[no-any-return]

    def pull_nodes(self, cts: Sequence[Pair | None]) -> list[Pair | None]:
        grad, state.grad = state.grad, False
        try:
            found = self.pull([None if c is None else wrap(c[0]) for c in cts])
            return [None if g is None else (value(g), None) for g in found]
        finally:
            state.grad = grad

    def pull_tensors(self, cts: Sequence[Pair | None]) -> list[Pair | None]:
        found = self.pull([None if c is None else c[0] for c in cts])
        return [None if g is None else (g, None) for g in found]


class _Maker:
    """What `moved_error` asks of a record, for a tensor that a custom function saved."""

    __slots__ = ("record", "edges")
    template = slices = None

    def __init__(self, record: CustomRecord, where: Any) -> None:
        self.record = record
        self.edges = (where,)

    @property
    def place(self) -> str:
        return self.record.place

    def name(self) -> str:
        return self.record.name()


class Function:
    """Base of custom functions: override `forward` and `backward`, call `apply`.

    >>> class Double(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g * 2
    >>> x = tensor([1.0], requires_grad=True)
    >>> Double.apply(x)
    tensor([2.], grad_fn=<DoubleBackward>)
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise explain(RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd "
            "function with "
            "static forward method. (Example: https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)"))

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """forward(ctx, *args), or forward(*args) where `setup_context` is defined too."""
        raise explain(NotImplementedError("You must implement the forward function for custom autograd.Function."))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Save what `backward` needs."""
        raise explain(NotImplementedError("setup_context is not implemented."))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """One gradient for each argument of `forward`: a tensor or None."""
        raise explain(NotImplementedError("You must implement either the backward or vjp method for your custom "
                                          "autograd.Function "
                                          "to use it with backward mode AD."))

    @staticmethod
    def vjp(ctx: Any, *grads: Any) -> Any:
        """Another name of `backward`: define one of them."""
        raise NotImplementedError

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run `forward`; the result's gradient will be `backward`'s."""
        apart = cls.setup_context is not Function.setup_context
        if kwargs or apart:
            args = _bound(cls.forward, apart, args, kwargs)
        ctx = FunctionCtx(cls.__name__ + "Backward")
        if state.trace is not None:
            state.trace.cut = True
        slots = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
        tensors = [args[k] for k in slots]
        edges = [t.edge() if state.grad and t.aval.dtype.category >= FLOAT else None for t in tensors]
        needs = {k: t.requires_grad for k, t in zip(slots, tensors)}
        ctx.needs_input_grad = tuple([needs.get(k, False) for k in range(len(args))])
        ctx._inputs = [t.aval for t in tensors]  # type: ignore[attr-defined]
        grad, state.grad = state.grad, False
        try:
            if apart:
                out = cls.forward(*args)
                cls.setup_context(ctx, args, out)
            else:
                out = cls.forward(ctx, *args)
        finally:
            state.grad = grad
        return _finish(cls, ctx, slots, tensors, edges, out)


def _finish(cls: Any, ctx: FunctionCtx, slots: list[int], tensors: list[Tensor], edges: list[Any], out: Any) -> Any:
    """Results with their history; what was saved, saved."""
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    for t in ctx._dirty:
        if not any([o is t for o in outs]):
            raise explain(RuntimeError("Some elements marked as dirty during the forward method were not returned as output. "
                                       "The inputs that are modified inplace must all be outputs of the Function."))
        bump(t)
    record = None
    if any(e is not None for e in edges):
        for t in ctx._dirty:
            if t.req and t.fn is None:
                raise explain(RuntimeError("a leaf Variable that requires grad has been used in an in-place operation."))
            if t.base is not None:
                raise explain(RuntimeError("a custom function that changes a view in place is not supported"),
                              hint="give it a clone() and return that")
        record = CustomRecord(cls, ctx, edges, slots)
    results = [_result(cls, ctx, tensors, k, o) if isinstance(o, Tensor) else o for k, o in enumerate(outs)]
    if record is not None:
        record.avals = [o.aval if isinstance(o, Tensor) else None for o in results]
        saved = [_save(t, tensors, edges, outs) for t in ctx._to_save or ()]
        _attach(record, results, ctx._fixed)
        # results are saved after they have their place, so that a change of them is noticed
        record.saved = [(None if t is None else Saved(results[w] if type(w) is int else t), w)
                        for t, w in zip(ctx._to_save or (), saved)]
        ctx._record, ctx._to_save, ctx._dirty, ctx._fixed = _Weak(record), None, (), ()
    return type(out)(results) if type(out) in (tuple, list) else tuple(results) if isinstance(out, tuple) else results[0]


def _bound(forward: Any, apart: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of `forward` by position, those left out with their defaults.  apart: it takes no context."""
    code = getattr(forward, "__code__", None)
    if code is not None and not kwargs and not code.co_flags & 4 and len(args) == code.co_argcount:
        return args
    import inspect  # of no concern to most calls
    signature = inspect.signature(forward)
    bound = signature.bind(*args, **kwargs) if apart else signature.bind(None, *args, **kwargs)
    bound.apply_defaults()
    return bound.args if apart else bound.args[1:]


def rule_of(function: Any) -> Any:
    """`backward` of a custom function, by whichever of its two names."""
    if function.vjp is Function.vjp:
        return function.backward
    if function.backward is not Function.backward:
        raise explain(RuntimeError("Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should "
                                   "only implement one of them."))
    return function.vjp


class _Weak:
    """The context's way to its record: not an owner, else the two would keep each other."""

    __slots__ = ("record",)

    def __init__(self, record: CustomRecord) -> None:
        self.record = ref(record)

    def unpack(self) -> tuple[Any, ...]:
        record = self.record()
        if record is None:
            raise explain(RuntimeError("the context of a custom function has outlived its call"))
        return record.unpack()


def _save(t: Tensor | None, tensors: list[Tensor], edges: list[Any], outs: list[Any]) -> Any:
    """Where a saved tensor stands: a result's number, or an edge."""
    if t is None:
        return None
    for k, o in enumerate(outs):
        if o is t and not any(t is i for i in tensors):
            return k
    for i, e in zip(tensors, edges):
        if i is t:
            return e
    return t.edge()


def _result(cls: Any, ctx: FunctionCtx, tensors: list[Tensor], k: int, out: Tensor) -> Tensor:
    """A result that may be given a history: never an input itself, unless it was changed in place."""
    if any(out is t for t in ctx._dirty):
        return out
    same = next((t for t in tensors if t is out), None)
    if same is not None or out.base is not None:
        shown = alias(out)
        shown.base = (out if same is not None and out.base is None else out.base)
        shown.custom_view = f"Output {k} of {cls.__name__}"
        return shown
    return out


def _attach(record: CustomRecord, outs: list[Any], fixed: Sequence[Tensor]) -> None:
    kept: list[Any] = []
    for k, out in enumerate(outs):
        if not isinstance(out, Tensor) or out.aval.dtype.category < FLOAT or any(out is f for f in fixed):
            kept.append(lambda: None)
            continue
        place: Any = record if len(outs) == 1 else Output(record, k)
        if out.fn is not None:
            out.moved(place)
        else:
            out.fn, out.seen = place, out.cell.version
        out.storage.taped = True
        kept.append(ref(place))
    record.outs = None if len(outs) == 1 else kept


class OnceRecord(Record):
    """Where a function that was marked once-differentiable stands in the tape of a second derivative."""

    __slots__ = ()

    custom = True

    def check(self) -> None:
        raise explain(RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable"),
                      where=self.place)


def once_differentiable(fn: Any) -> Any:
    """Decorate `backward` whose own derivative would be wrong or is unknown: differentiating it is refused."""
    @functools.wraps(fn)
    def wrapper(ctx: Any, *grads: Any) -> Any:
        recording, state.grad = state.grad, False
        try:
            found = fn(ctx, *grads)
        finally:
            state.grad = recording
        if not recording or not any(isinstance(g, Tensor) and g.requires_grad for g in grads):
            return found
        edges = [g.edge() for g in grads if isinstance(g, Tensor)]
        results = []
        for r in found if isinstance(found, tuple) else (found,):
            if isinstance(r, Tensor) and r.aval.dtype.category >= FLOAT:
                r = alias(r)
                r.fn = OnceRecord(None, edges, (), caller())
                r.fn._name = "Error"
            results.append(r)
        return tuple(results) if isinstance(found, tuple) else results[0]
    return wrapper
