"""Batching: every primitive from the registry, against one example at a time; then `vmap` and its words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import autojit as aj
from autojit.autodiff.batching import _each, _rule, batch, spread
from autojit.dtypes import as_dtype, float32, float64, int64
from autojit.ir.aval import aval
from autojit.ir.graph import Graph, node, placeholder
from autojit.ir.primitive import CREATE, ELEMENTWISE, LEAF, REGISTRY
from autojit.ops.declare import P

from .checking import evaluate, leaf, outputs
from .oplist import SAMPLES
from .test_primitives import OTHERS, operands

SIZE = 3
WHOLE = np.array([[3, 1, 2], [0, 5, 4]])
# What test_primitives has no differentiable sample of.
MORE = {
    "int_pow": [(P.int_pow, [WHOLE, WHOLE % 3])],
    "shift": [(lambda a, b: P.shift(a, b, True), [WHOLE, WHOLE % 3]), (lambda a, b: P.shift(a, b, False), [WHOLE, WHOLE % 3])],
    "argmax": [(lambda a: P.argmax(a, 1), [WHOLE * 1.5]), (lambda a: P.argmax(a, 0), [WHOLE])],
    "argmin": [(lambda a: P.argmin(a, 0), [WHOLE * 1.5])],
    "argsort": [(lambda a: P.argsort(a, 1, True), [WHOLE * 1.5])],
    "cumarg": [(lambda a: P.cumarg(a, 1, True), [WHOLE * 1.5])],
    "bitwise_and": [(P.bitwise_and, [WHOLE, WHOLE + 1])], "bitwise_or": [(P.bitwise_or, [WHOLE, WHOLE + 1])],
    "bitwise_xor": [(P.bitwise_xor, [WHOLE, WHOLE + 1])], "bitwise_not": [(P.bitwise_not, [WHOLE])],
    "take": [(lambda a, i: P.take(a, i, 0), [WHOLE * 1.5, np.array([[1, 0], [0, 0]])]),
             (lambda a, i: P.take(a, i, 1), [WHOLE * 1.5, np.array(2)]),
             (lambda a, i: P.take(a, i, 1), [np.arange(24.0).reshape(2, 3, 4), np.array([[1, 0], [2, 2], [0, 1]])])],
    "index_add": [(lambda a, i, v: P.index_add(a, i, v, 1),
                   [np.arange(24.0).reshape(2, 3, 4), np.array([[1, 0], [2, 2]]), np.arange(32.0).reshape(2, 2, 2, 4)])],
    "index_set": [(lambda a, i, v: P.index_set(a, i, v, 0), [WHOLE * 1.5, np.array([1, 0]), WHOLE * 0.5])],
    "matmul": [(P.matmul, [WHOLE * 1.5, WHOLE.T * 0.5])],
    "gcd": [(P.gcd, [WHOLE * 4, WHOLE + 2])], "nextafter": [(P.nextafter, [WHOLE * 1.5, WHOLE * 1.0])],
}
M = np.random.default_rng(9).uniform(-1, 1, (3, 3)) + 3 * np.eye(3)
S, TALL = (M + M.T) / 2 + 3 * np.eye(3), np.random.default_rng(8).uniform(-1, 1, (4, 3))
MORE |= {
    "cholesky_info": [(lambda a: P.cholesky_info(a, False), [S])], "detsign": [(lambda a: P.detsign(a), [M])],
    "eig": [(lambda a: P.eig(a, False), [M])],
    "eigh": [(lambda a: P.eigh(a, True), [S])], "svd": [(lambda a: P.svd(a, False), [TALL])],
    "qr": [(lambda a: P.qr(a, False), [TALL])], "lu_info": [(lambda a: P.lu_info(a), [M])],
    "lu_pivots": [(lambda a: P.lu_pivots(a), [M])],
    "philox": [(lambda *k, d=d: P.philox(*k, d), [np.arange(6).reshape(2, 3), np.full((2, 3), 7), np.full((2, 3), 3)])
               for d in (int64, float32, float64)],
    "permutation": [(lambda p: P.permutation(p, 3), [np.array([2, 3, 3], "int32")])],
}
WITH_GRAPHS = ("call", "scan", "branch", "while", "counted", "custom")         # their bodies are batched: tests further down
KNOWN = [p.name for p in REGISTRY.values() if p.kind not in (LEAF, CREATE) and p.name not in (*WITH_GRAPHS, "transfer")]


def samples(name):
    prim = REGISTRY[name]
    found = list(MORE.get(name, [])) + list(OTHERS.get(name, []))
    if prim.kind == ELEMENTWISE and name not in OTHERS:
        dtype = "float64" if prim.name[:4] != "bitw" else "int64"
        found.append((lambda *n: node(prim, n), operands(prim, (2, 3), dtype)))
    return found


def variants(a, k):
    """One example of many: the same kind of values, others for each."""
    rng = np.random.default_rng(k)
    if a.dtype.kind == "f":
        return a + 0.01 * k * rng.uniform(0.5, 1, a.shape)
    flat = a.reshape(-1)
    return np.roll(flat, k).reshape(a.shape) if a.size > 1 else a


def test_every_primitive_has_a_sample():
    assert [n for n in KNOWN if not samples(n)] == []


@pytest.mark.parametrize("name", KNOWN)
def test_many_examples_are_one_by_one(name):
    for fn, arrays in samples(name):
        leaves = [placeholder(aval(np.shape(a), as_dtype(np.asarray(a).dtype))) for a in arrays]
        roots = outputs(fn(*leaves))
        for flags in itertools.product([False, True], repeat=len(arrays)):
            if not any(flags):
                continue
            columns = [[variants(np.asarray(a), k) if f else np.asarray(a) for k in range(SIZE)] for a, f in zip(arrays, flags)]
            if name == "index_set":                       # equal places: the last wins, which variants would make unlike
                columns[1] = [np.asarray(arrays[1])] * SIZE
            want = zip(*[evaluate(roots, leaves, [c[k] for c in columns]) for k in range(SIZE)])
            many = [placeholder(aval((SIZE, *n.shape), n.dtype)) if f else n for n, f in zip(leaves, flags)]
            made = batch(roots, {n: m for n, m, f in zip(leaves, many, flags) if f}, SIZE)
            assert all(whole and n.dtype is r.dtype for (n, whole), r in zip(made, roots))
            got = evaluate([n for n, _ in made], many, [np.stack(c) if f else c[0] for c, f in zip(columns, flags)])
            for g, w in zip(got, want):
                np.testing.assert_allclose(g, np.stack(w), rtol=1e-12, atol=1e-13, err_msg=f"{name} {flags}")


@pytest.mark.parametrize("name", ["exp", "sum", "take", "sort", "matmul", "concat"])
def test_no_examples_give_nothing(name):
    fn, arrays = samples(name)[0]
    leaves = [placeholder(aval(np.shape(a), as_dtype(np.asarray(a).dtype))) for a in arrays]
    root = fn(*leaves)
    none = [placeholder(aval((0, *n.shape), n.dtype)) for n in leaves]
    (made, _), = batch([root], dict(zip(leaves, none)), 0)
    assert made.shape == (0, *root.shape) and made.dtype is root.dtype


def test_what_no_rule_knows_is_done_one_by_one():
    x = placeholder(aval((2, 3), as_dtype("float64")))
    root = P.sum(P.exp(x), (0,))
    many = placeholder(aval((SIZE, 2, 3), as_dtype("float64")))
    data = np.random.default_rng(0).random((SIZE, 2, 3))
    got, = evaluate([_each(root, [P.exp(many)], [True], SIZE)], [many], [data])
    np.testing.assert_allclose(got, np.exp(data).sum(1))
    assert _each(root, [P.exp(many)], [True], 0).shape == (0, 3)


class Stub:
    """All that a rule is chosen by."""

    def __init__(self, prim):
        self.prim, self.op = prim, prim.name


def test_the_rules_know_all_primitives_of_today():
    assert [n for n in KNOWN if _rule(Stub(REGISTRY[n])) is _each] == []


def test_what_is_the_same_for_all_stays_as_it_is():
    x, w = (placeholder(aval((3,), as_dtype("float64"))) for _ in range(2))
    many = placeholder(aval((4, 3), as_dtype("float64")))
    shared = P.exp(w)
    (made, flag), (same, other) = batch([P.mul(x, shared), shared], {x: many}, 4)
    assert flag and not other and same is shared
    assert sum(n.op == "exp" for n in Graph([many, w], [made]).order) == 1
    assert spread(w, 4).shape == (4, 3)


# ---------------------------------------------------------------- vmap
torch = pytest.importorskip("torch")
A = np.random.default_rng(1).uniform(0.5, 1.5, (4, 3, 5))
B = np.random.default_rng(2).uniform(0.5, 1.5, (3, 4))


def both(fn, *arrays, **how):
    """vmap here and in torch, of a function that both understand."""
    ours = aj.vmap(fn, **how)(*[aj.tensor(a) for a in arrays])
    theirs = torch.vmap(fn, **how)(*[torch.tensor(a) for a in arrays])
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)


def leaves(nest):
    from autojit import tree
    return tree.flatten(nest)[0]


@pytest.mark.parametrize("how", [{}, {"in_dims": 1}, {"in_dims": -1}, {"in_dims": (2,), "out_dims": 1}, {"out_dims": -1},
                                 {"out_dims": (-1,)}], ids=str)
def test_axes_of_one_argument(how):
    both(lambda x: x.sin() * x.sum(), A, **how)


@pytest.mark.parametrize("dims", [(0, 1), (0, None), (None, 0), (-1, 0), (1, 0)], ids=str)
def test_axes_of_two_arguments(dims):
    row = A[:, :, 0]
    a, b = {(0, 1): (row, B), (0, None): (row, B), (None, 0): (B, A[0]), (-1, 0): (B, B.T), (1, 0): (B.T, B)}[dims]
    both(lambda x, y: (x.sum() * y).cos(), a, b, in_dims=dims)


def test_nests_of_arguments_and_results():
    def f(d):
        return {"s": d["a"] + d["b"][0], "t": (d["b"][1].sum(), [d["a"] * 2])}
    how = {"in_dims": ({"a": 0, "b": (1, None)},), "out_dims": {"s": 0, "t": (0, [1])}}
    ours = aj.vmap(f, **how)({"a": aj.tensor(B), "b": (aj.tensor(B.T), aj.tensor(A))})
    theirs = torch.vmap(f, **how)({"a": torch.tensor(B), "b": (torch.tensor(B.T), torch.tensor(A))})
    for x, y in zip(leaves(ours), leaves(theirs), strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-12)
    assert type(ours["t"]) is tuple and type(ours["t"][1]) is list


PROGRAMS = {
    "softmax": lambda x: x.softmax(-1), "sort": lambda x: x.sort(-1)[0], "max": lambda x: x.max(),
    "index": lambda x: x[1:, ::2],
    "matmul": lambda x: x @ x.T, "var": lambda x: x.var(), "cat": lambda x: x.reshape(-1), "flip": lambda x: x.flip(0),
    "where": lambda x: (x > 1).to(x.dtype) * x, "cumsum": lambda x: x.cumsum(0),
    "inplace": lambda x: x.clone().add_(1).mul_(x),
    "gather": lambda x: x.gather(1, x.argsort(1)), "write": lambda x: _written(x), "norm": lambda x: x.norm(),
    "permute": lambda x: x.permute(1, 0).contiguous(), "triu": lambda x: x.triu(), "split": lambda x: x.split(2, 1)[1],
    "logsumexp": lambda x: x.logsumexp(0), "prod": lambda x: x.prod(1), "std": lambda x: x.std(0),
    "clamp": lambda x: x.clamp(0.8, 1.2),
}


def _written(x):
    y = x.clone()
    y[0] = y[1] * 2
    return y


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    both(PROGRAMS[name], A)
    both(lambda x: PROGRAMS[name](x), A, in_dims=1) if name not in ("split",) else None


def test_named_results():
    x = aj.tensor(B)
    most = aj.vmap(lambda r: r.max(0))(x)
    assert most.values.shape == (3,) and most.indices.tolist() == B.argmax(1).tolist()
    assert type(aj.trace(lambda x: x.sort())(x)).__name__ == "sort"


def test_nested_maps():
    both(lambda x: aj_or_torch(x).vmap(lambda r: r.sin().sum())(x), A)
    pairs = aj.vmap(lambda a: aj.vmap(lambda b: (a * b).sum())(aj.tensor(B)))(aj.tensor(B))
    np.testing.assert_allclose(pairs.numpy(), B @ B.T)
    outer = aj.vmap(aj.vmap(lambda a, b: a * b, in_dims=(None, 0)), in_dims=(0, None))(aj.tensor(B[0]), aj.tensor(B[1]))
    np.testing.assert_allclose(outer.numpy(), np.outer(B[0], B[1]))


def aj_or_torch(x):
    return torch if isinstance(x, torch.Tensor) else aj


def test_gradients_through_a_map_reach_what_it_captures():
    x, w = aj.tensor(B, requires_grad=True), aj.tensor(A[0].T.copy()[:4], requires_grad=True)
    aj.vmap(lambda r: (r @ w).sin())(x).square().sum().backward()
    tx, tw = torch.tensor(B, requires_grad=True), torch.tensor(A[0].T.copy()[:4], requires_grad=True)
    torch.vmap(lambda r: (r @ tw).sin())(tx).square().sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(w.grad.numpy(), tw.grad.numpy(), rtol=1e-12)


def test_traced_inside_and_outside():
    f = lambda r: (r * 2).sin().sum()  # noqa: E731
    want = np.sin(B * 2).sum(1)
    for g in (aj.vmap(aj.trace(f)), aj.trace(aj.vmap(f)), aj.trace(lambda x: aj.vmap(aj.trace(f))(x))):
        for _ in range(3):
            np.testing.assert_allclose(g(aj.tensor(B)).numpy(), want)


def test_a_traced_map_sees_that_a_global_has_changed():
    place = {"k": 2.0}
    g = aj.trace(aj.vmap(lambda r: (r * place["k"]).sum()))
    assert g(aj.ones(2, 3)).tolist() == [6.0, 6.0]
    place["k"] = 3.0
    assert g(aj.ones(2, 3)).tolist() == [9.0, 9.0]


def test_arrays_come_back_as_arrays():
    out = aj.vmap(lambda r, s: (r * s, r.sum()), in_dims=(0, None))(B, 2.0)
    assert type(out[0]) is np.ndarray and out[0].dtype == np.float64
    np.testing.assert_allclose(out[0], B * 2)
    np.testing.assert_allclose(out[1], B.sum(1))
    assert isinstance(aj.vmap(lambda r, s: r * s, in_dims=(0, None))(B, aj.tensor(2.0)), aj.Tensor)


def test_keyword_arguments_are_the_same_for_all():
    got = aj.vmap(lambda r, *, k: r * k)(aj.tensor(B), k=aj.tensor(B[0]))
    np.testing.assert_allclose(got.numpy(), B * B[0])


def test_chunks():
    f = lambda r: (r.sum(), r * 2)  # noqa: E731
    whole, parts = aj.vmap(f, out_dims=(0, 1))(aj.tensor(A)), aj.vmap(f, out_dims=(0, 1), chunk_size=3)(aj.tensor(A))
    for a, b in zip(whole, parts):
        assert a.shape == b.shape and bool((a == b).all())


def test_random_numbers():
    x = aj.zeros(4)
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        aj.vmap(lambda r: r + aj.rand(3))(x)
    aj.manual_seed(0)
    same = aj.vmap(lambda r: r + aj.rand(3), randomness="same")(x)
    assert same.shape == (4, 3) and bool((same == same[0]).all())
    other = aj.vmap(lambda r: r + aj.rand(3), randomness="different")(x)
    assert len(set(other.reshape(-1).tolist())) == 12
    traced = aj.trace(lambda x: aj.vmap(lambda r: r + aj.rand(3), randomness="different")(x))
    assert not bool((traced(x) == traced(x)).any())
    aj.manual_seed(0)
    assert bool((aj.vmap(lambda r: r + aj.rand(3), randomness="same")(x) == same).all())


class Tenfold(aj.autograd.Function):
    """A function whose gradient only the tape knows."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x * 10


def test_what_only_the_tape_knows_goes_along():
    y, w = aj.tensor([1.0, 2.0, 3.0], requires_grad=True), aj.tensor(2.0, requires_grad=True)
    out = aj.vmap(lambda a: Tenfold.apply(a * w))(y)
    assert out.tolist() == [4.0, 16.0, 36.0]
    out.sum().backward()
    assert y.grad.tolist() == [40.0, 80.0, 120.0] and w.grad.item() == 20.0 * 14
    z = aj.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        aj.autograd.grad(aj.vmap(Tenfold.apply)(z).sum(), z, create_graph=True)


def test_detached_values_are_constants():
    y = aj.tensor([1.0, 2.0, 3.0], requires_grad=True)
    aj.vmap(lambda a: a * a.detach())(y).sum().backward()
    assert y.grad.tolist() == [1.0, 2.0, 3.0]
    y.grad = None
    d = y.detach()
    aj.vmap(lambda k: (y * d * k).sum())(aj.tensor([1.0, 2.0])).sum().backward()
    assert y.grad.tolist() == [3.0, 6.0, 9.0]
    y.grad = None
    aj.vmap(lambda k: (d * y * k).sum())(aj.tensor([1.0, 2.0])).sum().backward()     # the constant is met first
    assert y.grad.tolist() == [3.0, 6.0, 9.0]


def test_the_tape_outside_may_be_walked_inside():
    w = aj.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = w ** 2 * w.sum()
    rows = aj.vmap(lambda v: aj.autograd.grad(y, w, v, retain_graph=True)[0])(aj.eye(3))
    want = aj.jacrev(lambda w: w ** 2 * w.sum())(w.detach())
    np.testing.assert_allclose(rows.numpy(), want.numpy())


def test_places_are_looked_at():
    x = aj.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    pick = aj.vmap(lambda r, i: r[i], in_dims=(0, 0))
    assert pick(x, aj.tensor([2, 0])).tolist() == [3.0, 4.0]
    with pytest.raises(IndexError):
        pick(x, aj.tensor([2, 5]))
    with pytest.raises(IndexError):
        aj.trace(pick)(x, aj.tensor([2, 5]))


def test_values_that_are_the_same_for_all_can_be_read():
    k = aj.tensor(2.0)
    assert aj.vmap(lambda r: r * k.item() if k > 1 else r)(aj.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert aj.vmap(lambda r, k: r * 3 if k > 1 else r, in_dims=(0, None))(aj.ones(3), k).tolist() == [3.0, 3.0, 3.0]


X = [1.0, 2.0]
REFUSED = [
    (ValueError, "Expected all tensors to have the same size in the mapped dimension, got sizes \\[3, 4\\]",
     lambda m: m.vmap(lambda a, b: a + b)(m.ones(3), m.ones(4))),
    (RuntimeError, "data-dependent control flow", lambda m: m.vmap(lambda a: a if a > 0 else -a)(m.tensor(X))),
    (RuntimeError, "item\\(\\)", lambda m: m.vmap(lambda a: a.item())(m.tensor(X))),
    (ValueError, "must only return Tensors, got type <class 'int'>", lambda m: m.vmap(lambda a: 3)(m.tensor(X))),
    (ValueError, "Got in_dim=3 for some input, but that input is a Tensor of dimensionality 1",
     lambda m: m.vmap(lambda a: a, in_dims=3)(m.tensor(X))),
    (ValueError, "in_dims is not compatible with the structure", lambda m: m.vmap(lambda a: a, in_dims=(0, 0))(m.tensor(X))),
    (ValueError, "Got in_dim=0 for an input but the input is of type <class 'float'>",
     lambda m: m.vmap(lambda a, b: a, in_dims=0)(m.tensor(X), 2.0)),
    (ValueError, "expected `in_dims` to be int or a", lambda m: m.vmap(lambda a: a, in_dims="a")(m.tensor(X))),
    (ValueError, "expected `in_dims` to be int or a", lambda m: m.vmap(lambda a: a, in_dims=None)(m.tensor(X))),
    (ValueError, "out_dims is not compatible with the structure", lambda m: m.vmap(lambda a: a, out_dims=(0, 1))(m.tensor(X))),
    (IndexError, "Dimension out of range", lambda m: m.vmap(lambda a: a, out_dims=3)(m.tensor(X))),
    (ValueError, "can not return a BatchedTensor when out_dim is None",
     lambda m: m.vmap(lambda a: a, out_dims=None)(m.tensor(X))),
    (RuntimeError, "Only allowed values for randomness", lambda m: m.vmap(lambda a: a, randomness="x")(m.tensor(X))),
    (ValueError, "got no inputs", lambda m: m.vmap(lambda: 1)()),
    (ValueError, "chunk_size should be None or greater than 0", lambda m: m.vmap(lambda a: a, chunk_size=0)(m.tensor(X))),
]


@pytest.mark.parametrize("error, words, call", REFUSED, ids=[r[1][:40] for r in REFUSED])
def test_refusals_are_torchs(error, words, call):
    for module in (aj, torch):
        with pytest.raises(error, match=words):
            call(module)


def test_changes_outside_are_refused():
    total = aj.zeros(())
    with pytest.raises(RuntimeError, match="changes a tensor from outside in place"):
        aj.vmap(lambda r: total.add_(r.sum()))(aj.ones(3))
    assert total.item() == 0.0
    with pytest.raises(RuntimeError, match="changes its argument in place"):
        aj.vmap(lambda r: r.add_(1))(aj.ones(3))


# ---------------------------------------------------------------- every public op
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_public_ops_of_many_examples(name):
    for s in SAMPLES[name]:
        arrays = s.arrays("float64")
        leaves = [leaf(a, "float64") for a in arrays]
        roots = outputs(s.call(*leaves))
        flags = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in arrays]
        if not any(flags):
            continue
        columns = [[variants(a, k) for k in range(2)] if f else [a, a] for a, f in zip(arrays, flags)]
        want = zip(*[evaluate(roots, leaves, [c[k] for c in columns]) for k in range(2)])
        many = [placeholder(aval((2, *n.shape), n.dtype)) if f else n for n, f in zip(leaves, flags)]
        made = batch(roots, {n: m for n, m, f in zip(leaves, many, flags) if f}, 2)
        got = evaluate([n for n, _ in made], many, [np.stack(c) if f else c[0] for c, f in zip(columns, flags)])
        for (_, whole), g, w in zip(made, got, want):
            np.testing.assert_allclose(g if whole else np.stack([g, g]), np.stack(w), rtol=1e-10, atol=1e-12)
