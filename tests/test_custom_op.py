"""`custom_op`: functions compiled by the user's Numba, as ops that run inside programs."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import autojit as aj
from autojit.eager.tensor import wrap
from autojit.ir.aval import aval
from autojit.ir.graph import placeholder
from autojit.schedule.loops import CallStep
from autojit.testing import gradcheck, gradgradcheck

numba = pytest.importorskip("numba")
njit = numba.njit
F64 = aj.float64


@aj.custom_op(out=lambda x, y: x)
@njit
def product(x, y, out):
    """x * y."""
    for i in range(x.size):
        out.flat[i] = x.flat[i] * y.flat[i]


@product.vjp
@njit
def product_vjp(x, y, out, ct, ct_x, ct_y):
    for i in range(x.size):
        ct_x.flat[i] = ct.flat[i] * y.flat[i]
        ct_y.flat[i] = ct.flat[i] * x.flat[i]


@aj.custom_op
@njit
def cube(x, out):
    for i in range(x.size):
        out.flat[i] = x.flat[i] ** 3


@cube.defvjp
def _(x, out, ct):
    return ct * 3 * x * x


@aj.custom_op(out=lambda x, s: (x, ((x.shape[0],), F64), ((), aj.int64)))
@njit
def several(x, s, scaled, sums, count):
    """x * s, the sums of its rows, how many elements."""
    for i in range(x.shape[0]):
        sums[i] = 0.0
        for j in range(x.shape[1]):
            scaled[i, j] = x[i, j] * s
            sums[i] += scaled[i, j]
    count[()] = x.size


@several.vjp
@njit
def several_vjp(x, s, scaled, sums, count, ct_scaled, ct_sums, ct_x):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            ct_x[i, j] = (ct_scaled[i, j] + ct_sums[i]) * s


@aj.custom_op(out=lambda x: x)
@njit
def root(x, out):
    for i in range(x.size):
        if x.flat[i] < 0:
            raise ValueError("root of a negative number")
        out.flat[i] = np.sqrt(x.flat[i])


def some(*shape, seed=0):
    return aj.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape))


def grown(*shape, seed=0):
    return some(*shape, seed=seed).requires_grad_()


# ---------------------------------------------------------------- natively
def steps(traced, *args):
    """The steps of a traced function's program, and the program."""
    traced(*args)
    plan = traced.last
    return plan.program.prepared.schedule.steps, plan.program.native


def test_a_program_with_a_custom_op_is_one_native_call(compiled):
    """No host step, one plan, and no Python function is entered between the call and the result."""
    f = aj.trace(lambda x, y: (product(x.exp(), y) * 2).sum())
    x, y = some(4, 3), some(4, 3, seed=1)
    found, native = steps(f, x, y)
    assert [type(s) for s in found].count(CallStep) == 1 and native.plan is not None and len(native.parts) == 1
    np.testing.assert_allclose(f(x, y).item(), (np.exp(x.numpy()) * y.numpy()).sum() * 2)
    arrays, outs = [x.numpy(), y.numpy()], [np.empty(()) for _ in native.pools]
    entered = []
    sys.setprofile(lambda frame, event, what: entered.append((event, what)))
    try:
        status = native.run(native.address, *arrays, *outs)
    finally:
        sys.setprofile(None)
    assert status == 0
    assert [e for e, _ in entered if e == "call"] == []    # no Python frame at all
    assert [w.__name__ for e, w in entered if e == "c_call"] == ["run", "setprofile"]


def counter():
    """A function that counts its own calls in memory of ours, and the count."""
    from llvmlite import ir
    from numba.extending import intrinsic
    count = np.zeros(1, np.int64)
    where = count.ctypes.data

    @intrinsic
    def bump(context):
        def code(target, builder, signature, args):
            at = builder.inttoptr(ir.Constant(ir.IntType(64), where), ir.IntType(64).as_pointer())
            builder.store(builder.add(builder.load(at), ir.Constant(ir.IntType(64), 1)), at)
            return target.get_dummy_value()
        return numba.types.void(), code

    @njit
    def copy(x, out):
        bump()
        for i in range(x.size):
            out.flat[i] = x.flat[i]

    return copy, count


def test_the_function_itself_is_what_runs_and_once_a_call(compiled):
    copy, count = counter()
    op = aj.custom_op(copy)
    f = aj.trace(lambda x: op(x) + 1)
    x = some(5)
    f(x)
    count[:] = 0
    for _ in range(3):
        np.testing.assert_array_equal(f(x).numpy(), x.numpy() + 1)
    assert count[0] == 3
    g = aj.trace(lambda xs: aj.scan(lambda c, x: (c + op(x), c), aj.zeros(5, dtype=F64), xs)[0])
    xs = some(7, 5)
    g(xs)
    count[:] = 0
    np.testing.assert_allclose(g(xs).numpy(), xs.numpy().sum(0))
    assert count[0] == 7                                  # in each turn of the native loop


def test_results_of_one_call_are_one_call(compiled):
    x = some(3, 2)
    f = aj.trace(lambda x: several(x, 2.0))
    found, _ = steps(f, x)
    assert [type(s) for s in found].count(CallStep) == 1
    scaled, sums, count = f(x)
    np.testing.assert_allclose(scaled.numpy(), x.numpy() * 2)
    np.testing.assert_allclose(sums.numpy(), x.numpy().sum(1) * 2)
    assert count.item() == 6 and count.dtype is aj.int64
    g = aj.trace(lambda x: several(x, 2.0)[1])             # what nobody reads has a place all the same
    np.testing.assert_allclose(g(x).numpy(), x.numpy().sum(1) * 2)


def test_bound_calls_loops_and_branches(compiled):
    x = some(4)
    bound = aj.trace(lambda x: cube(x).sum()).bind(x)
    np.testing.assert_allclose(bound().item(), (x.numpy() ** 3).sum())
    h = aj.trace(lambda x: aj.cond(x.sum() > 0, lambda x: cube(x), lambda x: -x, x))
    np.testing.assert_allclose(h(x).numpy(), x.numpy() ** 3)
    np.testing.assert_allclose(h(-x).numpy(), x.numpy())
    w = aj.trace(lambda x: aj.while_loop(lambda v: v[0] < 3, lambda v: (v[0] + 1, cube(v[1])), (aj.tensor(0), x))[1])
    np.testing.assert_allclose(w(x).numpy(), x.numpy() ** 27)


def test_gradients_of_scans_and_of_checkpoints(compiled):
    xs = some(5, 3)

    def run(xs):
        return aj.scan(lambda c, x: (product(c, x), c), aj.ones(3, dtype=F64), xs)[0].sum()

    wanted = xs.numpy().prod(0) / xs.numpy()
    np.testing.assert_allclose(aj.grad(run)(xs).numpy(), wanted)
    np.testing.assert_allclose(aj.trace(aj.grad(run))(xs).numpy(), wanted)
    x = some(3)
    again = aj.checkpoint(lambda x: cube(x.sin()))
    np.testing.assert_allclose(aj.grad(lambda x: again(x).sum())(x).numpy(),
                               3 * np.sin(x.numpy()) ** 2 * np.cos(x.numpy()))


# ---------------------------------------------------------------- derivatives
def test_eager_gradients():
    x, y = grown(3, 2), grown(3, 2, seed=1)
    out = product(x, y)
    assert type(out.grad_fn).__name__ and out.grad_fn.name() == "ProductBackward"
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    np.testing.assert_array_equal(y.grad.numpy(), x.detach().numpy())
    assert gradcheck(product, (x, y))
    assert gradcheck(lambda x: several(x, 1.5)[:2], (x,))
    assert gradcheck(cube, (x,)) and gradgradcheck(cube, (x,))


def test_a_compiled_reverse_is_differentiated_once():
    x, y = grown(2), grown(2, seed=1)
    g, = aj.autograd.grad(product(x, y).sum(), x, create_graph=True)
    np.testing.assert_array_equal(g.detach().numpy(), y.detach().numpy())
    with pytest.raises(RuntimeError, match="differentiate twice product"):
        aj.autograd.grad(g.sum(), y)
    with pytest.raises(RuntimeError, match="differentiate twice product"):
        aj.grad(aj.grad(lambda x: product(x * aj.ones(2), x * aj.ones(2)).sum().sin()))(aj.tensor(1.0, dtype=F64))


def test_a_reverse_in_ops_has_all_derivatives():
    x = aj.tensor(2.0, dtype=F64)
    scalar = lambda x: cube(x.reshape(1)).sum()            # noqa: E731
    assert aj.grad(scalar)(x).item() == 12 and aj.grad(aj.grad(scalar))(x).item() == 12
    assert aj.grad(aj.grad(aj.grad(scalar)))(x).item() == 6
    value, tangent = aj.jvp(cube, (some(3),), (aj.ones(3, dtype=F64),))
    np.testing.assert_allclose(tangent.numpy(), 3 * some(3).numpy() ** 2)
    np.testing.assert_allclose(aj.hessian(lambda x: cube(x).sum())(some(2)).numpy(), np.diag(6 * some(2).numpy()))
    np.testing.assert_allclose(aj.jacfwd(cube)(some(2)).numpy(), np.diag(3 * some(2).numpy() ** 2))
    np.testing.assert_allclose(aj.jacrev(cube)(some(2)).numpy(), np.diag(3 * some(2).numpy() ** 2))
    with pytest.raises(RuntimeError, match="product has no forward derivative"):
        aj.jvp(product, (some(2), some(2)), (some(2), some(2)))


def test_a_rule_reads_the_result_that_is_there(compiled):
    """exp, whose rule reads its result: the function is not called a second time."""
    copy, count = counter()
    op = aj.custom_op(copy)
    op.defvjp(lambda x, out, ct: ct * out)
    x = grown(3)
    y = op(x)
    y.tolist()
    count[:] = 0
    y.sum().backward()
    x.grad.numpy()
    assert count[0] == 0
    np.testing.assert_array_equal(x.grad.numpy(), x.detach().numpy())


def test_without_a_rule_there_is_a_value_and_no_gradient():
    x = grown(3)
    y = root(x)
    np.testing.assert_allclose(y.detach().numpy(), np.sqrt(x.detach().numpy()))
    with pytest.raises(RuntimeError, match="Trying to backward through root but no autograd formula was registered"):
        y.sum().backward()
    with pytest.raises(RuntimeError, match="Trying to backward through root"):
        aj.trace(aj.grad(lambda x: root(x).sum()))(x.detach())


# ---------------------------------------------------------------- vmap
def test_vmap_turns_natively(compiled):
    x, y = some(4, 3), some(3, seed=1)
    f = aj.trace(lambda x, y: aj.vmap(product, (0, None))(x, y))
    found, native = steps(f, x, y)
    calls = [s for s in found if isinstance(s, CallStep)]
    assert [s.n for s in calls] == [4] and len(native.parts) == 1
    np.testing.assert_array_equal(f(x, y).numpy(), x.numpy() * y.numpy())
    both = aj.vmap(aj.vmap(product, (0, None)), (None, 0))(x, some(2, 3))
    np.testing.assert_array_equal(both.numpy(), x.numpy()[None] * some(2, 3).numpy()[:, None])
    both = aj.vmap(aj.vmap(product, (0, None)), (0, None))(some(2, 4, 3), y)
    np.testing.assert_array_equal(both.numpy(), some(2, 4, 3).numpy() * y.numpy())
    axis = aj.vmap(product, (1, None), 1)(some(3, 4), y)
    np.testing.assert_array_equal(axis.numpy(), some(3, 4).numpy() * y.numpy()[:, None])


@pytest.mark.parametrize("op, rule", [(product, lambda x, y: y), (lambda x, y: cube(x) * y, lambda x, y: 3 * x ** 2 * y)])
def test_vmap_and_gradients_in_any_order(op, rule):
    x, y = some(4, 3), some(3, seed=1)
    wanted = rule(x.numpy(), y.numpy()) + np.zeros((4, 3))
    each = aj.vmap(aj.grad(lambda x, y: op(x, y).sum()), (0, None))(x, y)
    np.testing.assert_allclose(each.numpy(), wanted)
    gx, gy = aj.grad(lambda x, y: aj.vmap(op, (0, None))(x, y).sum(), (0, 1))(x, y)
    np.testing.assert_allclose(gx.numpy(), wanted)
    shared, = aj.grad(lambda y: aj.vmap(op, (0, None))(x, y).sum(), (0,))(y)
    np.testing.assert_allclose(gy.numpy(), shared.numpy())
    np.testing.assert_allclose(gy.numpy(), sum(op(x[k], aj.ones(3, dtype=F64)).numpy() for k in range(4)))


def test_vmap_of_numbers_and_of_nothing():
    @aj.custom_op(out=lambda x, y: x)
    @njit
    def total(x, y, out):
        out[()] = x + y

    np.testing.assert_array_equal(aj.vmap(total, (0, None))(aj.tensor([1.0, 2.0]), aj.tensor(3.0)).numpy(), [4, 5])
    assert aj.vmap(cube)(aj.zeros(0, 3)).shape == (0, 3)
    assert cube(aj.zeros(2, 0)).shape == (2, 0)


# ---------------------------------------------------------------- arguments
@pytest.mark.parametrize("dtype", [aj.bool, aj.uint8, aj.int8, aj.int16, aj.int32, aj.int64, aj.float32, aj.float64])
def test_dtypes(dtype, compiled):
    @aj.custom_op
    @njit
    def turned(x, out):
        for i in range(x.size):
            out[i] = x[x.size - 1 - i]

    x = aj.tensor([1, 0, 1]).to(dtype)
    assert turned(x).dtype is dtype
    np.testing.assert_array_equal(turned(x).numpy(), x.numpy()[::-1])
    np.testing.assert_array_equal(aj.trace(turned)(x).numpy(), x.numpy()[::-1])


def test_memory_that_is_not_contiguous(compiled):
    x, y = some(3, 2), some(2, 3, seed=1)
    wanted = x.numpy() * y.numpy().T
    np.testing.assert_array_equal(product(x, y.t()).numpy(), wanted)
    np.testing.assert_array_equal(aj.trace(lambda x, y: product(x, y.t()))(x, y).numpy(), wanted)
    np.testing.assert_array_equal(product(x, aj.ones(1, 2, dtype=F64).expand(3, 2)).numpy(), x.numpy())
    array = np.arange(12.0).reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(product(array, x).numpy(), array * x.numpy())


def test_arguments_that_are_no_tensors(compiled):
    @aj.custom_op(out=lambda x, *rest, **more: x)
    @njit
    def line(x, a, b, up, kind, out):
        for i in range(x.size):
            out[i] = a * x[i] + b[0] * b[1] + (100 if up else 0) + (1000 if kind == "k" else 0)

    x = aj.tensor([1.0, 2.0], dtype=F64)
    assert line(x, 2.5, (3, 4), True, "k").tolist() == [1114.5, 1117.0]
    assert line(x, 2, (3, 4), False, "l").tolist() == [14.0, 16.0]
    assert line(x, b=(3, 4), a=-1.5, kind="l", up=False).tolist() == [10.5, 9.0]
    assert line(x, np.float64(2.5), (3, 4), False, "l").tolist() == [14.5, 17.0]
    assert line(x, aj.tensor(2.0, dtype=F64), (3, 4), False, "l").tolist() == [14.0, 16.0]
    traced = aj.trace(lambda x, a: line(x, a, (3, 4), False, "l"))
    assert traced(x, 2.0).tolist() == [14.0, 16.0] and traced(x, 3.0).tolist() == [15.0, 18.0]


def test_defaults():
    @aj.custom_op(out=lambda x, *more, **named: x)
    @njit
    def moved(x, by=2.0, out=None):
        for i in range(x.size):
            out[i] = x[i] + by

    assert moved(aj.ones(2)).tolist() == [3, 3] and moved(aj.ones(2), by=3.0).tolist() == [4, 4]
    assert moved(aj.ones(2), -1.0).tolist() == [0, 0]


def test_two_ops_of_one_name_are_two(compiled):
    def make(by):
        @aj.custom_op(name="same")
        @njit
        def shifted(x, out):
            for i in range(x.size):
                out[i] = x[i] + by
        return shifted

    one, two = make(1.0), make(2.0)
    x = aj.zeros(2)
    for _ in range(2):
        assert one(x).tolist() == [1, 1] and two(x).tolist() == [2, 2]
        assert aj.trace(lambda x: one(x) * 1)(x).tolist() == [1, 1]
        assert aj.trace(lambda x: two(x) * 1)(x).tolist() == [2, 2]
        assert (one(x) + two(x)).tolist() == [3, 3]


def test_another_rule_is_another_op():
    @aj.custom_op
    @njit
    def same(x, out):
        out[:] = x

    x = aj.ones(2)
    same.defvjp(lambda x, out, ct: ct)
    assert aj.grad(lambda x: same(x).sum())(x).tolist() == [1, 1]
    same.defvjp(lambda x, out, ct: ct * 5)
    assert aj.grad(lambda x: same(x).sum())(x).tolist() == [5, 5]
    same.defvjp(lambda x, out, ct: None)
    assert aj.grad(lambda x: same(x).sum())(x).tolist() == [0, 0]


# ---------------------------------------------------------------- what goes wrong
def test_exceptions_of_the_function(compiled):
    good, bad = aj.ones(3), -aj.ones(3)
    f = aj.trace(lambda x: root(x * 2).sum())
    assert f(good).item() == pytest.approx(3 * 2 ** 0.5)
    for _ in range(2):
        with pytest.raises(ValueError, match="root of a negative number"):
            f(bad)
        assert f(good).item() == pytest.approx(3 * 2 ** 0.5)
    with pytest.raises(ValueError, match="root of a negative number"):
        root(bad).tolist()
    memory = np.ones(3)
    bound = aj.trace(lambda x: root(x).sum()).bind(memory)
    assert bound().item() == 3
    memory[1] = -1
    with pytest.raises(ValueError, match="root of a negative number"):
        bound()


def test_what_is_no_compiled_function():
    with pytest.raises(TypeError, match="takes a function compiled by numba.njit, not function") as e:
        aj.custom_op(lambda x, out: None)
    assert "autograd.Function" in "".join(e.value.__notes__)
    with pytest.raises(TypeError, match="not int"):
        aj.custom_op(3)
    with pytest.raises(TypeError, match="is an op already"):
        aj.custom_op(cube)
    with pytest.raises(TypeError, match=r"product\.vjp takes a function compiled by numba\.njit"):
        product.vjp(lambda *a: None)
    with pytest.raises(TypeError, match="cube.defvjp takes a function of tensors"):
        cube.defvjp(product_vjp)
    with pytest.raises(TypeError, match="out must be a function"):
        aj.custom_op(njit(lambda x, out: None), out="x")


def test_calls_that_do_not_fit():
    x = aj.ones(2)
    with pytest.raises(TypeError, match=r"product\(\) takes 2 arguments \(x, y\) and fills 1 \(out\).*misses y"):
        aj.custom_op(product.function)(x)
    with pytest.raises(TypeError, match="got 3 arguments"):
        aj.custom_op(product.function)(x, x, x)
    with pytest.raises(TypeError, match="argument 'z'"):
        aj.custom_op(product.function)(x, y=x, z=x)
    with pytest.raises(TypeError, match="at least one tensor"):
        cube(2.0)
    with pytest.raises(TypeError, match="must be a tensor, an array or a number, not list"):
        cube([1.0, 2.0])
    with pytest.raises(TypeError, match="float16"):
        cube(x.half())
    with pytest.raises(TypeError, match="cannot be compiled for") as e:
        several(aj.ones(3), 1.0)                          # x.shape[1] of a vector: out's own error, or Numba's
    assert e


@pytest.mark.parametrize("told, error", [(3, TypeError), (None, TypeError), ((), TypeError), (((2,), "no dtype"), TypeError),
                                         (((-1,), aj.float32), ValueError), (((2,), aj.float16), TypeError)])
def test_what_out_may_not_tell(told, error):
    op = aj.custom_op(cube.function, out=lambda x: told)
    with pytest.raises(error, match="out|fill"):
        op(aj.ones(2))


def test_rules_that_do_not_fit():
    def op():
        return aj.custom_op(cube.function, name="cubed")

    x = aj.ones(2)
    short = op()
    short.vjp(njit(lambda x, out, ct: None))
    with pytest.raises(TypeError, match="the vjp takes 4 arguments here: 1 of the call, 1 results, 1 cotangents, and 1"):
        short(x)
    many = op()
    many.defvjp(lambda x, out, ct: (ct, ct))
    with pytest.raises(ValueError, match="a cotangent for each of its 1 tensors, not 2"):
        many(x)
    shape = op()
    shape.defvjp(lambda x, out, ct: ct.sum())
    with pytest.raises(ValueError, match=r"a cotangent of shape \(2,\) for tensor 0"):
        shape(x)
    outside = op()
    outside.defvjp(lambda x, out, ct: ct * x.detach() * aj.exp(x) * kept)
    kept = aj.ones(2)
    with pytest.raises(RuntimeError, match="reads data or random numbers from outside"):
        outside(x)


def test_devices_and_exports_are_refused_by_name(tmp_path):
    with pytest.raises(RuntimeError, match="cube is code for the CPU, and its argument 0 is on cuda:0"):
        cube(wrap(placeholder(aval((2,), aj.float32, "cuda:0"))))
    with pytest.raises(RuntimeError, match="uses the custom op cube, .*: it cannot be exported"):
        aj.export(lambda x: cube(x), aj.ones(2), path=tmp_path / "m.py")


# ---------------------------------------------------------------- around it
def test_threads(compiled):
    f = aj.trace(lambda x: cube(x) * 2)
    x = some(1000)
    f(x)
    wrong = []

    def work(k):
        for _ in range(50):
            if not np.allclose(f(x * k).numpy(), (x.numpy() * k) ** 3 * 2, rtol=1e-12):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_numba_is_the_users_import():
    text = "import autojit as aj, sys; aj.custom_op; assert 'numba' not in sys.modules\n" \
           "try: aj.custom_op(len)\nexcept TypeError: assert 'numba' not in sys.modules\nelse: assert False"
    subprocess.run([sys.executable, "-c", text], check=True)
