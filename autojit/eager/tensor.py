"""Tensor: what the user holds.  Storage, version cell, view chain, place in the tape.

In: storages and records.  Out: the class, its state and its plain attributes.  Operations, printing, indexing, conversion
are put on it by the modules above (`binding`, `indexing`, `convert` ...).  Never computes: asking for shape, dtype or
requires_grad costs nothing.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from ..dtypes import FLOAT, DType
from ..errors import explain, user_frame
from ..ir.aval import Aval
from ..ir.graph import NEVER, Node, node
from ..ir.primitive import BUFFER
from .handles import Handle
from .placing import Device, shown
from .state import disturb, state
from .storage import Cell, Storage, memory
from .tape import NOWHERE, Output, Record, origin
from .template import AS_VIEW, Chain, scalar_type, template


class Size(tuple[int, ...]):
    """A shape: a tuple that prints as torch's does and counts elements."""

    __slots__ = ()

    def numel(self) -> int:
        n = 1
        for k in self:
            n *= k
        return n

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, key: Any) -> Any:
        got = tuple.__getitem__(self, key)
        return Size(got) if isinstance(key, slice) else got

    def __add__(self, other: Any) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: Any) -> Size:
        return Size(tuple(other) + tuple(self))


_LATER = frozenset(["storage", "cell", "chain", "base", "fn", "seen", "req"])


class Tensor:
    """storage, cell: what it shows, and the version that its in-place operations move.  chain: movement steps from the
    storage to what is shown.  base: the tensor of which it is a view.  fn: the Record (or Output) that made it; None for a
    leaf.  req: a leaf that wants a gradient.  seen: the version at which `fn` was right (views are rebuilt lazily).
    path, at: its place on a path.  A tensor that a path made has nothing but this and `aval`, until somebody asks.

    Rare: _grad, hooks, calls (hooks of its AccumulateGrad), blind (a view made while not recording), several (one of many views
    of an op), post (hooks after accumulation), frozen (made in inference mode), custom_view (an input or a view that a custom
    function returned)."""

    __slots__ = ("storage", "aval", "cell", "chain", "base", "fn", "seen", "req", "path", "at", "__dict__", "__weakref__")

    storage: Storage
    aval: Aval
    cell: Cell
    chain: Chain
    base: Tensor | None
    fn: Any
    seen: int
    req: bool
    path: Any
    at: int
    _grad: Any = None
    hooks: Any = None
    calls: Any = None
    post: Any = None
    blind = False
    several: str | None = None
    custom_view: str | None = None
    frozen = False
    _retaining = False
    __array_priority__ = 1000

    if TYPE_CHECKING:                                     # what the modules above put here
        backward: Any

        def __getitem__(self, key: Any) -> Any: ...
        def __setitem__(self, key: Any, v: Any) -> None: ...
        def __eq__(self, other: Any) -> Any: ...
        def __ne__(self, other: Any) -> Any: ...
        def __lt__(self, other: Any) -> Any: ...
        def __ge__(self, other: Any) -> Any: ...
        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __neg__(self) -> Any: ...

    def __getattr__(self, name: str) -> Any:
        if name in _LATER:
            path = self.path
            if path is not None:
                path.settle()
                return object.__getattribute__(self, name)
        elif name == "path":
            return None
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    # ------------------------------------------------------------ place in the tape
    def edge(self) -> Any:
        """This tensor's place in the tape now: Record, Output, itself (a leaf that wants a gradient), NOWHERE or None.  A view
        whose version moved is rebuilt from the present history of its base."""
        if self.base is not None:
            if self.blind:
                return self._blind_edge()
            if self.seen != self.cell.version:
                self._rebuild()
        if self.fn is not None:
            return self.fn
        return self if self.req else None

    def _rebuild(self) -> None:
        base: Any = self.base
        self.seen = self.cell.version
        e = base.edge()
        if e is not None:
            chain = self.chain[len(base.chain):]
            if self.chain[:len(base.chain)] != base.chain:
                raise explain(RuntimeError("a view is used after the shape of its base was changed in place"),
                              hint="use unsqueeze() or transpose() without the underscore")
            t = template(AS_VIEW, (base.aval,), (chain,), (True,))
            self.moved(Record(t, (e,), [], user_frame(2)))

    def _blind_edge(self) -> Any:
        base: Any = self.base
        if not base.requires_grad:
            return None
        if self.seen != self.cell.version:
            raise explain(RuntimeError(
                "A view was created in no_grad mode and its base or another view of its base has been modified inplace "
                "with grad "
                "mode enabled. Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify "
                "your code by "
                "moving both the view and the inplace either both inside the no_grad block (if you don't want the inplace "
                "to be "
                "tracked) or both outside (if you want the inplace to be tracked)."))
        return NOWHERE

    def moved(self, record: Any) -> None:
        """A new history.  `retain_grad` follows the tensor; hooks stay with the value they were put on."""
        old, self.fn, self.seen = self.fn, record, self.cell.version
        if old is not None and old.retains:
            mine = [r for r in old.retains if r() is self]
            old.retains, record.retains = [r for r in old.retains if r() is not self], mine

    @property
    def grad_fn(self) -> Any:
        self.edge()
        return origin(self.fn)

    @property
    def output_nr(self) -> int:
        self.edge()
        return self.fn.index if type(self.fn) is Output else 0

    @property
    def is_leaf(self) -> bool:
        if not self.blind:
            self.edge()
        return self.fn is None

    @property
    def requires_grad(self) -> bool:
        if self.blind and self.base is not None:
            return self.base.requires_grad
        return self.edge() is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if type(value) is not bool:
            raise explain(RuntimeError("requires_grad must be a bool"))
        if value and self.aval.dtype.category < FLOAT:
            raise explain(RuntimeError("only Tensors of floating point and complex dtype can require gradients"),
                          hint=_FLOAT_HINT)
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for a gradient (or no longer).  Leaves only, floating point only; returns the tensor.

        >>> tensor([1.0]).requires_grad_().requires_grad
        True
        """
        if type(requires_grad) is not bool:
            raise explain(TypeError("requires_grad_(): argument 'requires_grad' (position 1) must be bool, not "
                                    f"{type(requires_grad).__name__}"))
        if self.fn is not None:
            if not requires_grad:
                raise explain(RuntimeError(
                    "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                    "subgraph that doesn't require differentiation use var_no_grad = var.detach()."))
            return self
        if requires_grad:
            if self.aval.dtype.category < FLOAT:
                raise explain(RuntimeError("only Tensors of floating point dtype can require gradients"), hint=_FLOAT_HINT)
            if self.frozen and not state.inference:
                raise explain(RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not "
                                           "allowed."))
        if self.req is not requires_grad:
            disturb(self.storage)
            self.req = requires_grad
        return self

    # ------------------------------------------------------------ gradient
    @property
    def grad(self) -> Any:
        """The gradient accumulated so far, or None."""
        g = self._grad
        if state.trace is not None:
            state.trace.read_grad(self, g)
        return g

    @grad.setter
    def grad(self, g: Any) -> None:
        if g is not None:
            if not isinstance(g, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(g).__name__}")
            if g.aval is not self.aval:
                _refuse_grad(self.aval, g.aval)
            if g is self:
                raise RuntimeError("can't assign Variable as its own grad")
        self.put_grad(g)

    @grad.deleter
    def grad(self) -> None:
        self.put_grad(None)

    def put_grad(self, g: Any) -> None:
        """`.grad = g` without checks; a trace takes note."""
        if state.trace is not None:
            state.trace.assign_grad(self, self._grad)
        self._grad = g

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in `.grad` at backward."""
        e = self.edge()
        if e is None:
            raise explain(RuntimeError("can't retain_grad on Tensor that has requires_grad=False"))
        if self.fn is not None and not any(r() is self for r in e.retains or ()):
            e.retains = [*(e.retains or ()), weakref.ref(self)]

    @property
    def retains_grad(self) -> bool:
        e = self.edge()
        return self.fn is not None and any(r() is self for r in e.retains or ())

    def register_hook(self, hook: Any) -> Handle:
        """Call `hook(grad)` at backward; what it returns, if not None, takes the gradient's place.  Returns a handle."""
        e = self.edge()
        if e is None:
            raise explain(RuntimeError("cannot register a hook on a tensor that doesn't require gradient"))
        if e is NOWHERE:
            e = Output(None, 0)                           # no gradient will come
        self._cut()
        e.hooks = [*(e.hooks or ()), hook]
        return Handle(e, "hooks", hook)

    def register_post_accumulate_grad_hook(self, hook: Any) -> Handle:
        """Call `hook(tensor)` after a gradient has been added to this leaf's `.grad`."""
        if not self.requires_grad:
            raise explain(RuntimeError("cannot register a hook on a tensor that doesn't require gradient"))
        if self.fn is not None:
            raise explain(RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors"))
        self.post = [*(self.post or ()), hook]
        return Handle(self, "post", hook)

    # ------------------------------------------------------------ the same memory under another name
    def detach(self) -> Tensor:
        """The same memory and version, no history."""
        if state.trace is not None:
            state.trace.detached(self)
        t = alias(self)
        t.blind = self.blind
        return t

    def _cut(self) -> None:
        """A trace takes note that a value leaves the record."""
        if state.trace is not None and self.requires_grad:
            state.trace.cut = True

    def detach_(self) -> Tensor:
        """Forget the history, in place.  Views cannot."""
        if self.base is not None:
            raise explain(RuntimeError(
                "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
                "training, "
                "and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence detach_() cannot be "
                "called on these gradients. To fix this error, please refer to the Optimizer.zero_grad() function in "
                "torch/optim/optimizer.py as the solution."))
        disturb(self.storage)
        if type(self.fn) is Record:
            self.fn.detached = True
        self.fn, self.req = None, False
        return self

    @property
    def data(self) -> Tensor:
        """The same memory, no history, and a version of its own: a change through it is not noticed."""
        self._cut()
        return alias(self, Cell())

    @data.setter
    def data(self, t: Tensor) -> None:
        if not isinstance(t, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(t).__name__}")
        if t.aval.dtype.category < FLOAT and self.requires_grad:
            raise explain(RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype"))
        disturb(self.storage)
        if self.cell is self.storage:
            self.cell = Cell(self.cell.version)
            self.seen = self.cell.version
        self.storage, self.chain, self.aval = t.storage, t.chain, t.aval

    @property
    def _version(self) -> int:
        return self.cell.version

    @property
    def _base(self) -> Tensor | None:
        return self.base

    def _is_view(self) -> bool:
        return self.base is not None

    # ------------------------------------------------------------ kind
    @property
    def shape(self) -> Size:
        return Size(self.aval.shape)

    @property
    def dtype(self) -> DType:
        return self.aval.dtype

    @property
    def device(self) -> Device:
        return Device(shown(self.aval.device))

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    def __hash__(self) -> int:
        return id(self)


def expect(name: str, t: Any) -> None:
    """A function's first argument is a tensor.  TypeError in torch's words."""
    if not isinstance(t, Tensor):
        raise explain(TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(t).__name__}"))


_FLOAT_HINT = "make it floating: tensor([1., 2.]), x.float(), or dtype=torch.float32"


def _refuse_grad(own: Aval, given: Aval) -> None:
    if given.host is own.host:
        raise explain(RuntimeError(
            f"attempting to assign a gradient with device type '{given.device}' to a tensor with device type '{own.device}'. "
            "Please ensure that the gradient and the tensor are on the same device"))
    if given.dtype is not own.dtype:
        raise explain(RuntimeError(
            f"attempting to assign a gradient with dtype '{_word(given.dtype)}' to a tensor with grad_dtype "
            f"'{scalar_type(own.dtype)}'. The gradient must match the tensor's grad_dtype (defaults to the tensor's "
            "dtype). You can "
            "set the tensor's grad_dtype attribute with a specific dtype, or None to allow any dtype. Set grad_dtype with "
            "caution. "
            "Diverging the dtypes of a tensor and its gradient may break downstream systems that assume they match."))
    raise explain(RuntimeError(f"attempting to assign a gradient of size '{list(given.shape)}' to a tensor of size "
                               f"'{list(own.shape)}'. Please ensure that the gradient and the tensor are the same size"))


def _word(d: DType) -> str:
    return {"float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double", "int64": "long int",
            "int32": "int", "bool": "bool"}.get(d.name, d.name)


# ---------------------------------------------------------------- making tensors
_new = object.__new__


def new(storage: Storage, a: Aval, fn: Any = None) -> Tensor:
    """A tensor that shows the whole of a storage."""
    t = _new(Tensor)
    t.storage = t.cell = storage
    t.aval, t.fn = a, fn
    t.chain, t.base, t.seen, t.req, t.path = (), None, storage.version, False, None
    return t


def alias(t: Tensor, cell: Cell | None = None) -> Tensor:
    """Another tensor over the same memory, without history."""
    out = _new(Tensor)
    out.storage, out.aval, out.chain, out.base, out.fn, out.req, out.path = t.storage, t.aval, t.chain, None, None, False, None
    out.cell = t.cell if cell is None else cell
    out.seen = out.cell.version
    return out


def view_of(t: Tensor, chain: Chain, a: Aval) -> Tensor:
    """A view of `t` through further movement steps."""
    out = _new(Tensor)
    out.storage, out.cell, out.aval, out.chain = t.storage, t.cell, a, t.chain + chain
    out.base = t if t.base is None else t.base
    out.fn, out.seen, out.req, out.path = None, t.cell.version, False, None
    return out


def wrap(n: Node, fn: Any = None) -> Tensor:
    """A tensor of a node."""
    return new(Storage(n), n.aval, fn)


def of_array(array: Any, device: str = "cpu") -> Tensor:
    """A tensor that adopts an array of the host's nobody else will write to, or holds a copy of it on a device."""
    n = memory(array, device)
    return new(Storage(n), n.aval)


def of_buffer(array: Any, a: Aval, trace: Any = None) -> Tensor:
    """A tensor over an array that a program has just made (as `of_array`, without looking at it)."""
    n = _new(Node)
    n.prim, n.op, n.inputs, n.params, n.aval, n.real, n.data, n.born = BUFFER, "buffer", (), (), a, None, array, NEVER
    s = _new(Storage)
    s.version, s.last, s.strides, s.value, s.mem, s.taped, s.trace = 0, None, None, n, None, False, trace
    t = _new(Tensor)
    t.storage = t.cell = s
    t.aval, t.fn, t.chain, t.base, t.seen, t.req, t.path = a, None, (), None, 0, False, None
    return t


def value(t: Tensor) -> Node:
    """The node of what a tensor shows now."""
    s = t.storage
    n = s.value if s.mem is None and s.trace is state.trace else s.read(t)
    n = n.real or n
    for prim, params in t.chain:
        n = node(prim, (n,), params)
    return n
