"""Public ops of matrix products.  All end in the one primitive `matmul`, or in a product and a sum where a factor is a vector.

In: nodes of one dtype.  Out: nodes.  Shapes are refused in torch's words.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import BOOL, FLOAT
from ..errors import explain
from ..ir.aval import Shape
from ..ir.graph import Node
from .checks import c_type, same_dtype, scalar_type
from .declare import P, arith, broadcast_shapes, op, spread
from .elementwise import like
from .index import swap
from .shapes import expanded


def size(n: Any) -> str:
    """A shape as torch's messages write it: 2x3."""
    return "x".join(map(str, n.shape))


def product(a: Node, b: Node) -> Node:
    """(M, K) @ (K, N); a vector-like factor becomes a product and a sum, which fuses with its neighbours."""
    if a.dtype.category == BOOL:
        raise explain(NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Bool'"))
    return P.matmul(a, b)


def vector_product(a: Node, v: Node) -> Node:
    """(..., M, K) @ (K,): the sum over the last axis of a product."""
    return P.sum(P.mul(a, spread(v, a.shape)), (a.ndim - 1,))


def _words(a: Node, b: Node) -> None:
    if a.dtype is not b.dtype:
        raise explain(RuntimeError("expected m1 and m2 to have the same dtype, but got: "
                                   f"{c_type(a.dtype)} != {c_type(b.dtype)}"),
                      hint="convert one of them: x.to(y.dtype)")


def _mm(a: Node, b: Node) -> Node:
    if a.shape[1] != b.shape[0]:
        raise explain(RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({size(a)} and {size(b)})"),
                      hint=f"the inner extents must match: {a.shape[1]} and {b.shape[0]}")
    _words(a, b)
    return product(a, b)


def _need(ndim: int, words: str, n: Node) -> None:
    if n.ndim != ndim:
        raise explain(RuntimeError(words))


@op()
def mm(input: Node, mat2: Node) -> Node:
    """(M, K) @ (K, N)."""
    _need(2, "self must be a matrix", input)
    _need(2, "mat2 must be a matrix", mat2)
    return _mm(input, mat2)


@op()
def bmm(input: Node, mat2: Node) -> Node:
    """(B, M, K) @ (B, K, N)."""
    _need(3, "batch1 must be a 3D tensor", input)
    _need(3, "batch2 must be a 3D tensor", mat2)
    _bmm_sizes(input, mat2)
    _words(input, mat2)
    return product(input, mat2)


def _bmm_sizes(a: Node, b: Node) -> None:
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise explain(RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, {a.shape[2]}] but got: "
            f"[{b.shape[0]}, {b.shape[1]}]."))


def _mv(a: Node, v: Node) -> Node:
    if a.shape[1] != v.shape[0]:
        raise explain(RuntimeError(f"size mismatch, got input ({a.shape[0]}), mat ({size(a)}), vec ({v.shape[0]})"))
    same_dtype("addmv input tensors must have the same dtype, but got {1}, {0}, and {1}", a, v)
    return vector_product(a, v)


@op()
def mv(input: Node, vec: Node) -> Node:
    """(M, K) @ (K,)."""
    if input.ndim != 2 or vec.ndim != 1:
        raise explain(RuntimeError(f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}"))
    return _mv(input, vec)


def _dot(a: Node, b: Node) -> Node:
    same_dtype("dot : expected both vectors to have same dtype, but found {0} and {1}", a, b)
    if a.shape != b.shape:
        raise explain(RuntimeError(
            f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{b.shape[0]}] to have the same number of "
            f"elements, but got {a.shape[0]} and {b.shape[0]} elements respectively"))
    return P.sum(P.mul(a, b), (0,))


def _vectors(input: Node, other: Node) -> Node:
    if input.ndim != 1 or other.ndim != 1:
        raise explain(RuntimeError(f"1D tensors expected, but got {input.ndim}D and {other.ndim}D tensors"))
    return _dot(input, other)


@op()
def dot(input: Node, tensor: Node) -> Node:
    """The sum of the products of two vectors."""
    return _vectors(input, tensor)


@op()
def vdot(input: Node, other: Node) -> Node:
    """dot, for real numbers."""
    return _vectors(input, other)


# ---------------------------------------------------------------- every rank
def _batched(a: Node, b: Node) -> Node:
    """(*B, M, K) @ (*C, K, N) with broadcast leading axes."""
    lead = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return product(spread(a, lead + a.shape[-2:]), spread(b, lead + b.shape[-2:]))


def _folded(a: Node, b: Node) -> Node:
    """(..., M, K) @ (K, N) as one product of matrices."""
    *lead, k = a.shape
    rows = 1
    for s in lead:
        rows *= s
    return P.reshape(product(P.reshape(a, (rows, k)), b), (*lead, b.shape[1]))


def multiply(a: Node, b: Node) -> Node:
    """torch.matmul for every pair of ranks from 1 up."""
    if a.ndim == 1 and b.ndim == 1:
        return _dot(a, b)
    if a.ndim == 2 and b.ndim == 1:
        return _mv(a, b)
    if a.ndim == 2 and b.ndim == 2:
        return _mm(a, b)
    inner, rows = a.shape[-1], b.shape[max(b.ndim - 2, 0)]
    if inner != rows:
        _refuse(a, b)
    _words(a, b)
    if b.ndim == 1:
        return vector_product(a, b)
    if a.ndim == 1:
        return vector_product(swap(b), a)
    return _folded(a, b) if b.ndim == 2 else _batched(a, b)


def _refuse(a: Node, b: Node) -> None:
    if a.ndim == 1 or (a.ndim >= 3 and b.ndim >= 3):
        lead: Shape = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        n = 1
        for s in lead:
            n *= s
        words = (f"mat1 and mat2 shapes cannot be multiplied (1x{a.shape[0]} and {size(b)})" if a.ndim == 1 and b.ndim == 2
                 else f"Expected size for first two dimensions of batch2 tensor to be: [{n}, {a.shape[-1]}] but got: "
                 f"[{n}, {b.shape[-2]}].")
    else:
        m = 1
        for s in a.shape[:-1]:
            m *= s
        words = f"mat1 and mat2 shapes cannot be multiplied ({m}x{a.shape[-1]} and {size(b)})"
    raise explain(RuntimeError(words), hint=f"the inner extents must match: {a.shape[-1]} and {b.shape[max(b.ndim - 2, 0)]}")


def _matmul_name(input: Any, other: Any) -> str:
    ranks = (input.ndim, other.ndim)
    known = {(1, 1): "DotBackward0", (2, 1): "MvBackward0", (2, 2): "MmBackward0", (1, 2): "SqueezeBackward4"}
    if ranks == (2, ranks[1]) and ranks[1] > 2:
        return "CloneBackward0"
    return known.get(ranks, "UnsafeViewBackward0")


@op(grad="MmBackward0", grad_of=_matmul_name)
def matmul(input: Node, other: Node) -> Node:
    """The matrix product: vectors, matrices and batches of them, leading dims broadcast."""
    if input.ndim == 0 or other.ndim == 0:
        raise explain(RuntimeError("both arguments to matmul need to be at least 1D, but they are "
                                   f"{input.ndim}D and {other.ndim}D"))
    return multiply(input, other)


# ---------------------------------------------------------------- products added to something
def _added(input: Node, p: Node, beta: float, alpha: float) -> Node:
    """beta * input + alpha * p; input is not looked at where beta is 0."""
    if input.dtype is not p.dtype:
        raise explain(RuntimeError("self and mat2 must have the same dtype, but got "
                                   f"{scalar_type(input.dtype)} and {scalar_type(p.dtype)}"))
    if p.dtype.category < FLOAT and (isinstance(beta, float) or isinstance(alpha, float)):
        raise explain(RuntimeError("For integral input tensors, argument "
                                   f"{'beta' if isinstance(beta, float) else 'alpha'} must not be a floating point number."))
    base = expanded(input, p.shape)
    if alpha != 1:
        p = P.mul(p, like(alpha, p))
    if beta == 0:
        return p
    return P.add(base if beta == 1 else P.mul(base, like(beta, base)), p)


@op(inplace=True)
def addmm(input: Node, mat1: Node, mat2: Node, beta: float = 1, alpha: float = 1) -> Node:
    """beta * input + alpha * mat1 @ mat2."""
    _need(2, f"mat1 must be a matrix, got {mat1.ndim}-D tensor", mat1)
    _need(2, f"mat2 must be a matrix, got {mat2.ndim}-D tensor", mat2)
    return _added(input, _mm(mat1, mat2), beta, alpha)


@op(inplace=True)
def addmv(input: Node, mat: Node, vec: Node, beta: float = 1, alpha: float = 1) -> Node:
    """beta * input + alpha * mat @ vec."""
    if mat.ndim != 2 or vec.ndim != 1:
        raise explain(RuntimeError(f"vector + matrix @ vector expected, got {input.ndim}, {mat.ndim}, {vec.ndim}"))
    return _added(input, _mv(mat, vec), beta, alpha)


@op(inplace=True)
def addr(input: Node, vec1: Node, vec2: Node, beta: float = 1, alpha: float = 1) -> Node:
    """beta * input + alpha * outer(vec1, vec2)."""
    return _added(input, outer_product(vec1, vec2), beta, alpha)


@op(inplace=True)
def addbmm(input: Node, batch1: Node, batch2: Node, beta: float = 1, alpha: float = 1) -> Node:
    """beta * input + alpha * the sum over the batch of batch1 @ batch2."""
    _need(3, "batch1 must be a 3D tensor", batch1)
    _need(3, "batch2 must be a 3D tensor", batch2)
    _bmm_sizes(batch1, batch2)
    same_dtype("expected scalar type {0} but found {1}", batch1, batch2)
    return _added(input, P.sum(product(batch1, batch2), (0,)), beta, alpha)


@op(inplace=True)
def baddbmm(input: Node, batch1: Node, batch2: Node, beta: float = 1, alpha: float = 1) -> Node:
    """beta * input + alpha * batch1 @ batch2."""
    _need(3, "batch1 must be a 3D tensor", batch1)
    _need(3, "batch2 must be a 3D tensor", batch2)
    _bmm_sizes(batch1, batch2)
    same_dtype("expected scalar type {0} but found {1}", batch1, batch2)
    return _added(input, product(batch1, batch2), beta, alpha)


# ---------------------------------------------------------------- vectors and blocks
def outer_product(a: Node, b: Node) -> Node:
    if a.ndim != 1 or b.ndim != 1:
        which, n = ("self", a) if a.ndim != 1 else ("vec2", b)
        raise explain(RuntimeError(f"outer: Expected 1-D argument {which}, but got {n.ndim}-D"))
    return P.mul(*arith(P.reshape(a, (a.shape[0], 1)), P.reshape(b, (1, b.shape[0]))))


@op(grad="MulBackward0", aliases=("ger",))
def outer(input: Node, vec2: Node) -> Node:
    """The products of all pairs of elements of two vectors."""
    return outer_product(input, vec2)


@op(grad="ViewBackward0")
def inner(input: Node, other: Node) -> Node:
    """Sums of products over the last dims."""
    if input.ndim == 0 or other.ndim == 0:
        return P.mul(*arith(input, other))
    if input.shape[-1] != other.shape[-1]:
        raise explain(RuntimeError("inner() the last dimension must match on both input tensors but got shapes "
                                   f"{list(input.shape)} and {list(other.shape)}"))
    if other.ndim == 1:
        return vector_product(input, other) if input.ndim > 1 else _dot(input, other)
    if input.ndim == 1:
        return vector_product(other, input)
    k = input.shape[-1]
    rows = P.reshape(other, (other.aval.size // k if k else _rows(other), k))
    return P.reshape(_folded(input, swap(rows)), input.shape[:-1] + other.shape[:-1])


def _rows(n: Node) -> int:
    rows = 1
    for s in n.shape[:-1]:
        rows *= s
    return rows


@op(grad="UnsafeViewBackward0")
def kron(input: Node, other: Node) -> Node:
    """Every element of input times the whole of other, in blocks."""
    n = max(input.ndim, other.ndim)
    a = (1,) * (n - input.ndim) + input.shape
    b = (1,) * (n - other.ndim) + other.shape
    wide = [P.reshape(input, tuple([x for s in a for x in (s, 1)])), P.reshape(other, tuple([x for s in b for x in (1, s)]))]
    return P.reshape(P.mul(*arith(*wide)), tuple([s * t for s, t in zip(a, b)]))


def _linear_name(input: Any, weight: Any, bias: Any = None) -> str:
    if bias is not None:
        return "AddmmBackward0" if input.ndim == 2 else "ViewBackward0"
    return {1: "SqueezeBackward4", 2: "MmBackward0"}.get(input.ndim, "UnsafeViewBackward0")


@op(method=False, function=False, functional=True, grad="AddmmBackward0", grad_of=_linear_name)
def linear(input: Node, weight: Node, bias: Node | None = None) -> Node:
    """input @ weight.T + bias, for (..., K), (N, K) and (N,)."""
    if weight.ndim == 1:
        out = multiply(input, weight)
    else:
        if input.ndim == 0 or input.shape[-1] != weight.shape[-1]:
            rows = input.aval.size // max(input.shape[-1], 1) if input.ndim else 1
            raise explain(RuntimeError(
                f"mat1 and mat2 shapes cannot be multiplied ({rows}x{input.shape[-1] if input.ndim else 1} and "
                f"{weight.shape[-1]}x{weight.shape[0]})"))
        _words(input, weight)
        wt = swap(weight)
        out = vector_product(weight, input) if input.ndim == 1 else _mm(input, wt) if input.ndim == 2 else _folded(input, wt)
    if bias is None:
        return out
    same_dtype("self and mat2 must have the same dtype, but got {0} and {1}", bias, out)
    return P.add(out, spread(bias, out.shape))
