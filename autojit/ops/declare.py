"""How an operation is declared, in one statement; and the namespace `P` through which rules reach primitives.

Two levels.  A *primitive* is a node kind of the graph: `infer`, NumPy reference, vjp rule, scalar text.  An *op* is a public
function (`aj.softmax`, `Tensor.softmax`): plain Python over nodes, which needs no rule.  From the two come methods,
functions, stubs, documentation and tests.  Never imports a family file: rules look primitives up in `P` when they run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..dtypes import BOOL, COMPLEX, FLOAT, DType, default_float, promote, result_type
from ..ir.aval import Aval, Shape, aval
from ..ir.graph import Node, const, node
from ..ir.primitive import ELEMENTWISE, MOVEMENT, Primitive, register


class _Namespace:
    """`P.exp(x)`, `P.sum(x, axes)`: nodes first (or one sequence of nodes), then the primitive's params."""

    iota: Callable[..., Node]
    cast: Callable[..., Node]

    def __getattr__(self, name: str) -> Callable[..., Node]:
        raise AttributeError(f"no primitive {name!r} is declared")


P = _Namespace()


def primitive(name: str, kind: str, infer: Callable[..., Aval], ref: Callable[..., Any],
              vjp: Callable[..., Any] | None, **more: Any) -> Callable[..., Node]:
    """Declare a primitive; the result builds its nodes and stands as `P.<name>`."""
    p = register(Primitive(name, kind, infer, ref, vjp, **more))

    def bind(*args: Any) -> Node:
        if type(args[0]) is not Node:                    # a sequence of nodes (concat)
            return node(p, tuple(args[0]), args[1:])
        k = 1
        while k < len(args) and type(args[k]) is Node:
            k += 1
        inputs, params = args[:k], args[k:]
        for i in inputs:
            if i.aval.dtype.category == COMPLEX and name not in CARRIED:
                return in_parts(name, inputs, params)
        return node(p, inputs, params)

    bind.__name__ = name
    setattr(P, name, bind)
    return bind


# Primitives whose nodes may be complex: what moves elements, and what is linear in them.  Of all others a complex value is the
# business of FORMS: the same function, spelled in real and imaginary parts (`complexes`, `analytic`).
CARRIED = frozenset(("reshape", "permute", "expand", "slice", "pad", "update", "flip", "shear", "unshear", "concat", "take",
                     "gather", "index_add", "scatter_add", "add", "sub", "neg", "where", "sum", "stop", "transfer", "call",
                     "real", "imag", "as_real"))
FORMS: dict[str, Callable[..., Node]] = {}


def in_parts(name: str, inputs: Sequence[Node], params: Sequence[Any]) -> Node:
    """A primitive of complex operands, in primitives of their parts.  NotImplementedError in torch's words if there is none."""
    form = FORMS.get(name)
    if form is None:
        d = next(i.dtype for i in inputs if i.dtype.category == COMPLEX)
        raise NotImplementedError(f'"{name}" not implemented for \'{"ComplexFloat" if d.itemsize == 8 else "ComplexDouble"}\'')
    return form(*inputs, *params)


# ---------------------------------------------------------------- inference shared by families
def same_aval(*avals: Aval) -> Aval:
    a = avals[0]
    for b in avals[1:]:
        if b is not a:
            raise TypeError(f"operands differ: {a} and {b}")
    return a


def _float(*avals: Aval) -> Aval:
    a = same_aval(*avals)
    if a.dtype.category < FLOAT:
        raise TypeError(f"needs floating point, got {a}")
    return a


def _bool(*avals: Aval) -> Aval:
    a = same_aval(*avals)
    from ..dtypes import bool_
    return aval(a.shape, bool_, a.device)


INFER: dict[str, Callable[..., Aval]] = {"same": same_aval, "float": _float, "bool": _bool}


def quiet(f: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy without its warnings: NaN and Inf are values here."""
    def g(*a: Any) -> Any:
        with np.errstate(all="ignore"):
            return f(*a)
    return g


def keep_dtype(f: Callable[..., Any]) -> Callable[..., Any]:
    """For references that widen float32: the result has the first operand's dtype, as the kernels give."""
    def g(*a: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.asarray(f(*a)).astype(a[0].dtype, copy=False)
    return g


def elementwise(name: str, *, ref: Callable[..., Any], emit: str, vjp: Callable[..., Any] | None, dtype: str = "float",
                **more: Any) -> Callable[..., Node]:
    """A primitive that works element by element; all operands have one shape and dtype (`where` and casts differ)."""
    return primitive(name, ELEMENTWISE, INFER[dtype], quiet(ref), vjp, emit=emit, **more)


def movement(name: str, *, infer: Callable[..., Aval], ref: Callable[..., Any], vjp: Callable[..., Any],
             doc: str) -> Callable[..., Node]:
    """A primitive that only moves elements; linear, so its rule never looks at values."""
    return primitive(name, MOVEMENT, infer, ref, vjp, doc=doc, linear=True, cost=0)


# ---------------------------------------------------------------- helpers for rules and composites
def full(value: Any, shape: Shape, dtype: DType, device: str = "cpu") -> Node:
    """A constant of any shape: an expanded 0-d number, never memory.  Rules need not say a device: numbers go along."""
    return spread(const(value, dtype, device), shape)


def zeros_like(n: Node) -> Node:
    return full(0, n.shape, n.dtype)


def ones_like(n: Node) -> Node:
    return full(1, n.shape, n.dtype)


def spread(n: Node, shape: Shape) -> Node:
    """Broadcast `n` to `shape` by NumPy's rule: new leading axes by reshape, then expand."""
    if n.shape == shape:
        return n
    lead = len(shape) - len(n.shape)
    if lead > 0:
        n = P.reshape(n, (1,) * lead + n.shape)
    return n if n.shape == shape else P.expand(n, shape)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The common shape.  RuntimeError in torch's words if there is none."""
    out: list[int] = []
    for s in shapes:
        if len(s) > len(out):
            out = [1] * (len(s) - len(out)) + out
        for k in range(1, len(s) + 1):
            n = s[-k]
            if n != 1:
                if out[-k] != 1 and out[-k] != n:
                    raise RuntimeError(f"The size of tensor a ({out[-k]}) must match the size of tensor b ({n}) at "
                                       f"non-singleton dimension {len(out) - k}")
                out[-k] = n
    return tuple(out)


def broadcast(*nodes: Node) -> tuple[Node, ...]:
    """All nodes at their common shape."""
    first = nodes[0].shape
    for n in nodes:
        if n.shape != first:
            shape = broadcast_shapes(*[n.shape for n in nodes])
            return tuple([spread(n, shape) for n in nodes])
    return nodes


def cast(n: Node, dtype: DType) -> Node:
    """`n` as `dtype`; itself if it is."""
    if n.dtype is dtype:
        return n
    return FORMS["cast"](n, dtype) if dtype.category == COMPLEX else P.cast(n, dtype)


def common_dtype(*nodes: Node) -> DType:
    """torch's result type: tensors with dimensions before 0-d ones, category before all."""
    dims = zerod = None
    for n in nodes:
        d = n.dtype
        if n.aval.shape:
            dims = d if dims is None else promote(dims, d)
        else:
            zerod = d if zerod is None else promote(zerod, d)
    return result_type(dims, zerod, None)


def arith(*nodes: Node) -> tuple[Node, ...]:
    """Operands promoted to one dtype and broadcast to one shape."""
    d = nodes[0].dtype
    for n in nodes:
        if n.dtype is not d:
            d = common_dtype(*nodes)
            nodes = tuple([cast(n, d) for n in nodes])
            break
    return broadcast(*nodes)


def inexact(*nodes: Node) -> tuple[Node, ...]:
    """As `arith`, and integers become the default float."""
    d = common_dtype(*nodes)
    if d.category < FLOAT:
        d = default_float()
    return broadcast(*[cast(n, d) for n in nodes])


def truth(n: Node) -> Node:
    """`n != 0` as bool."""
    return n if n.dtype.category == BOOL else P.ne(n, zeros_like(n))


def dim_of(dim: int, ndim: int) -> int:
    """A dimension counted from either end.  IndexError in torch's words."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n if ndim else 0


def dims_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """Sorted axes for `dim=None | int | sequence`; an empty sequence means all, as in torch."""
    if dim is None or dim == ():
        return tuple(range(ndim))
    if isinstance(dim, int):
        axis = dim_of(dim, ndim)
        return (axis,) if ndim else ()
    out = sorted([dim_of(int(d), ndim) for d in dim])
    for a, b in zip(out, out[1:]):
        if a == b:
            raise RuntimeError(f"dim {a} appears multiple times in the list of dims")
    return tuple(out) if ndim else ()


def keepdims(n: Node, axes: Sequence[int], shape: Shape) -> Node:
    """A reduced value with its reduced axes back as 1; `shape` is the unreduced one."""
    return P.reshape(n, tuple([1 if i in axes else s for i, s in enumerate(shape)]))


def back(n: Node, axes: Sequence[int], shape: Shape) -> Node:
    """A reduced value spread over what was reduced."""
    return spread(keepdims(n, axes, shape), shape)


def unspread(g: Node, n: Node) -> Node:
    """The cotangent of `n` from that of what `n` was cast and broadcast to: for rules of public ops."""
    if g.shape != n.shape:
        lead = len(g.shape) - len(n.shape)
        axes = (*range(lead), *[i + lead for i, m in enumerate(n.shape) if m == 1 != g.shape[i + lead]])
        g = P.reshape(P.sum(g, axes), n.shape)
    return cast(g, n.dtype)


# ---------------------------------------------------------------- public ops
class Op:
    """A public function.  `fn(*args)` takes nodes where `is_tensor` says so and static values elsewhere, and returns a Node
    or a tuple of Nodes.  `grad_name`: torch's name of its grad_fn, a string or a function of the static values;
    `vjp(ct, out, *args)`: its own rule, where torch reads less than the primitives' rules would (softmax: the output alone);
    `view`: the result aliases the first argument; `inplace`: a method with a trailing underscore exists;
    `star`: the last positional parameter takes loose arguments (`x.reshape(2, 3)`); `returns`: names of several results
    (an op without them that gives a tuple gives a plain sequence: split, unbind).
    `variants`: other ops to call instead, by a static parameter that they have and this one lacks, or by a tensor parameter
    of this op that is a Python number (`pow`: {"exponent": "pow_number"}).
    `grad_number`: the grad_fn's name when a tensor argument is a Python number; `grad_of(*args)`: the name where it depends
    on shapes; `bounds(*args)`: what an index must satisfy, (index node, lowest, end, words with {value}) for each, and
    perhaps the class of the error and a value to be ignored.  `loose`: a sequence of tensors that may be given loose, static
    arguments before or after them (`einsum("ij,jk", a, b)`)."""

    __slots__ = ("name", "fn", "params", "defaults", "is_tensor", "ntensors", "sequence", "grad_name", "vjp", "view", "inplace",
                 "star", "returns", "method", "function", "functional", "aliases", "leading", "doc", "variants", "grad_number",
                 "grad_of", "bounds", "loose", "whole", "raises")

    name: str
    fn: Callable[..., Any]
    params: tuple[str, ...]
    defaults: dict[str, Any]
    is_tensor: tuple[bool, ...]
    ntensors: int
    sequence: bool                 # the first parameter is a sequence of tensors
    grad_name: Any
    vjp: Any
    view: bool
    inplace: bool
    star: bool
    returns: tuple[str, ...] | None
    method: bool
    function: bool
    functional: bool               # stands in nn.functional
    aliases: tuple[str, ...]
    leading: bool                  # all tensor parameters come first
    doc: str
    variants: dict[str, str]
    grad_number: str | None
    grad_of: Any
    bounds: Any
    loose: bool
    whole: frozenset[str]          # static parameters that are an int, or ints
    raises: Any                    # does it refuse by value (True, or a function of the static values): then it is computed at
                                   # the call, outside of a trace
    across = False                 # arguments may lie on several devices

    def call(self, nodes: Sequence[Node | None], static: Sequence[Any]) -> Any:
        """`fn` with `nodes` at the tensor positions and `static` at the others."""
        for n in nodes:
            if n is not None and n.aval.dtype.category == COMPLEX:
                return hooks["complex"](self)(*self.arrange(nodes, static))  # type: ignore[no-any-return]
        return self.fn(*self.arrange(nodes, static))

    def pull(self, ct: Node, out: Node, nodes: Sequence[Node], static: Sequence[Any]) -> Sequence[Node | None]:
        """Its own rule (`vjp` is not None): one cotangent or None for each tensor argument."""
        found: Sequence[Node | None] = self.vjp(ct, out, *self.arrange(nodes, static))
        return found

    def arrange(self, nodes: Sequence[Any], static: Sequence[Any]) -> list[Any]:
        """Tensor and static arguments in the order of `params`."""
        if self.sequence:
            return [tuple(nodes), *static]
        if self.leading:
            return [*nodes, *static]
        n, s = iter(nodes), iter(static)
        return [next(n) if t else next(s) for t in self.is_tensor]

    def label(self, static: Sequence[Any], nodes: Sequence[Any] = (), number: bool = False) -> str:
        """The name of its grad_fn, as torch has it.  `nodes`: the tensor arguments (anything with `shape` and `ndim` does);
        `number`: one of them was a Python number."""
        if number and self.grad_number is not None:
            return self.grad_number
        if nodes and self.grad_of is not None:
            return str(self.grad_of(*self.arrange(nodes, static)))
        g = self.grad_name
        return str(g if isinstance(g, str) else g(*static))

    def __repr__(self) -> str:
        return f"<op {self.name}>"


OPS: dict[str, Op] = {}
hooks: dict[str, Callable[[Op], Callable[..., Any]]] = {}  # "complex": what an op does with complex arguments (`imaginary`)
_WHOLE = {"int", "int | None", "Ints", "int | Ints", "int | Ints | None", "Dim"}
Nodes = tuple[Node, ...]           # annotates the one parameter that is a sequence of tensors
F = TypeVar("F", bound=Callable[..., Any])


def op(name: str | None = None, *, grad: Any = None, vjp: Any = None, view: bool = False, inplace: bool = False,
       star: bool = False, returns: tuple[str, ...] | None = None, method: bool = True, function: bool = True,
       functional: bool = False, aliases: tuple[str, ...] = (), variants: dict[str, str] | None = None,
       grad_number: str | None = None, grad_of: Any = None,
       bounds: Any = None, loose: bool = False, raises: Any = False) -> Callable[[F], F]:
    """Declare a public op: annotate tensor parameters `Node` (or `Nodes` for a sequence); all others are static."""
    def declare(fn: F) -> F:
        f: Any = fn
        o, code = Op(), f.__code__
        o.name, o.fn = name or f.__name__, fn
        o.params = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
        plain = f.__defaults__ or ()
        o.defaults = dict(zip(code.co_varnames[code.co_argcount - len(plain):code.co_argcount], plain))
        o.defaults.update(f.__kwdefaults__ or {})
        kinds = [str(f.__annotations__.get(p, "")) for p in o.params]
        o.is_tensor = tuple([k.startswith("Node") for k in kinds])
        o.whole = frozenset([p for p, k in zip(o.params, kinds) if k in _WHOLE])
        o.ntensors = sum(o.is_tensor)
        o.sequence = bool(kinds) and kinds[0] == "Nodes"
        o.leading = all(o.is_tensor[:o.ntensors])
        camel = "".join([w[:1].upper() + w[1:] for w in o.name.split("_")])
        o.grad_name = grad or camel + "Backward0"
        o.vjp, o.view, o.inplace, o.star, o.returns = vjp, view, inplace, star, returns
        o.method, o.function, o.functional = method, function, functional
        o.aliases, o.doc, o.variants = aliases, fn.__doc__ or "", variants or {}
        o.grad_number, o.grad_of, o.bounds, o.loose, o.raises = grad_number, grad_of, bounds, loose, raises
        if o.name in OPS:
            raise ValueError(f"op {o.name!r} is declared twice")
        OPS[o.name] = o
        return fn
    return declare
