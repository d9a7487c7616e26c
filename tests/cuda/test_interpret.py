"""The SIMT interpreter: right kernels equal NumPy, and each thing that a GPU would let pass is caught, with its line."""

from __future__ import annotations

import numpy as np
import pytest

from autojit.backends.cpu import interpret as plain
from autojit.backends.cuda import lanes
from autojit.backends.cuda.interpret import KernelFault, run

rng = np.random.default_rng(8)


def random(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


# ---------------------------------------------------------------------------------------------- right kernels
ROWS = """def kernel(x0, x1, n0, rows, chunks):
    lo, hi = part_lo(rows, block(), chunks), part_hi(rows, block(), chunks)
    s0 = shared_f32(32)
    for i in range(lo, hi):
        acc1 = f4({start})
        for j in range(thread(), n0, {threads}):
            acc1 = {join}(acc1, x0[i * n0 + j])
        acc1 = block_{what}_f32(acc1, s0)
        if thread() == 0:
            x1[i] = acc1
"""
REDUCTIONS = {"sum": ("0.0", "add_f32", np.sum), "prod": ("1.0", "mul_f32", np.prod),
              "max": ("-inf", "maximum_f32", np.max), "min": ("inf", "minimum_f32", np.min)}


@pytest.mark.parametrize("what", REDUCTIONS)
@pytest.mark.parametrize("threads", [32, 96, 256])
def test_rows_reduced_by_a_block(what: str, threads: int) -> None:
    start, join, reference = REDUCTIONS[what]
    x, y = random(7, 300) * np.float32(0.9), np.full(7, np.nan, np.float32)
    run(ROWS.format(start=start, join=join, what=what, threads=threads), ("*f32", "*f32", "ix", "ix", "ix"),
        (x.reshape(-1), y, 300, 7, 3), 3, threads)
    np.testing.assert_allclose(y, reference(x, 1), rtol=1e-4, atol=1e-5)


def test_blocks_together_are_blocks_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = ROWS.format(start="0.0", join="add_f32", what="sum", threads=64)
    x, y, z = random(9, 100), np.zeros(9, np.float32), np.zeros(9, np.float32)
    for out, together in ((y, 8192), (z, 1)):
        monkeypatch.setattr("autojit.backends.cuda.interpret.LANES", together)
        run(text, ("*f32", "*f32", "ix", "ix", "ix"), (x.reshape(-1), out, 100, 9, 4), 4, 64)
    assert (y == z).all()


def test_a_nan_wins_the_maximum() -> None:
    x, y = random(2, 64), np.zeros(2, np.float32)
    x[1, 63] = np.nan
    run(ROWS.format(start="-inf", join="maximum_f32", what="max", threads=32), ("*f32", "*f32", "ix", "ix", "ix"),
        (x.reshape(-1), y, 64, 2, 1), 1, 32)
    assert y[0] == x[0].max() and np.isnan(y[1])


@pytest.mark.parametrize("width", [2, 8, 32])
def test_rows_reduced_by_groups_of_lanes(width: int) -> None:
    text = f"""def kernel(x0, x1, n0, rows):
    group = (block() * 64 + thread()) // {width}
    lane = thread() % {width}
    for i in range(group, rows, blocks() * 64 // {width}):
        acc1 = to_i64(0)
        for j in range(lane, n0, {width}):
            acc1 = acc1 + x0[i * n0 + j]
        acc1 = warp_sum_i64(acc1, {width})
        if lane == 0:
            x1[i] = acc1
"""
    x, y = rng.integers(-99, 99, (45, 13)).astype(np.int32), np.zeros(45, np.int64)
    run(text, ("*i32", "*i64", "ix", "ix"), (x.reshape(-1), y, 13, 45), 3, 64)
    assert (y == x.sum(1)).all()


def test_sums_add_the_pairs_of_a_butterfly() -> None:
    text = """def kernel(x0, x1):
    x1[thread()] = warp_sum_f32(x0[thread()], 4)
"""
    x, y = random(32) * np.float32(1e3), np.zeros(32, np.float32)
    run(text, ("*f32", "*f32"), (x, y), 1, 32)
    a = x.reshape(-1, 4)
    assert (y.reshape(-1, 4) == ((a[:, 0] + a[:, 2]) + (a[:, 1] + a[:, 3]))[:, None]).all()


TILES = """def kernel(x0, x1, x2, m, n, k):
    s0 = shared_f32(64)
    s1 = shared_f32(64)
    across = (n + 7) // 8
    r = thread() // 8
    c = thread() % 8
    i = index_div(block(), across) * 8 + r
    j = index_mod(block(), across) * 8 + c
    acc = f4(0.0)
    for p in range(0, k, 8):
        s0[thread()] = x0[i * k + p + c] if i < m and p + c < k else f4(0.0)
        s1[thread()] = x1[(p + r) * n + j] if p + r < k and j < n else f4(0.0)
        sync()
        for q in range(8):
            acc += s0[r * 8 + q] * s1[q * 8 + c]
        sync()
    if i < m and j < n:
        x2[i * n + j] = acc
"""


def test_ragged_product_by_shared_tiles() -> None:
    m, n, k = 19, 13, 21
    a, b, c = random(m, k), random(k, n), np.full(m * n, np.nan, np.float32)
    run(TILES, ("*f32", "*f32", "*f32", "ix", "ix", "ix"), (a.reshape(-1), b.reshape(-1), c, m, n, k), 6, 64)
    np.testing.assert_allclose(c.reshape(m, n), a @ b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wide", [False, True])
def test_elementwise_in_strides_of_the_grid(wide: bool) -> None:
    text = """def kernel(x0, x1, n0, c0):
    for i in range(block() * 32 + thread(), n0, blocks() * 32):
        v1 = x0[i]
        v2 = exp_f32(v1 * c0) if v1 > f4(0.0) else -v1
        x1[i] = select(v1 < f4(-1.0), f4(7.0), v2)
"""
    x, y = random(1000), np.full(1000, np.nan, np.float32)
    run(text, ("*f32", "*f32", "ix", "f32"), (x, y, 1000, 0.5), 5, 32, wide=wide)
    np.testing.assert_allclose(y, np.where(x < -1, np.float32(7), np.where(x > 0, np.exp(x * np.float32(0.5)), -x)), rtol=1e-6)


@pytest.mark.parametrize("wide", [False, True])
def test_data_as_indices(wide: bool) -> None:
    """Of either width, an index is no int64: it takes a word to go from one to the other."""
    text = """def kernel(x0, x1, x2, n0):
    for i in range(thread(), n0, 32):
        k = index_clamp(to_ix(x1[i]) - 1)
        j = k % n0 + n0 // n0 - 1
        x2[i] = x0[j if j < n0 else 0] + to_i64(j * 1) + to_i64(select(i < 3, i, 3))
"""
    x, at, y = rng.integers(0, 99, 70), rng.integers(0, 70, 70), np.zeros(70, np.int64)
    run(text, ("*i64", "*i64", "*i64", "ix"), (x, at, y, 70), 1, 32, wide=wide)
    j = np.maximum(at - 1, 0)
    assert (y == x[j] + j + np.minimum(np.arange(70), 3)).all()
    with pytest.raises(KernelFault, match="[*] of i64 and ix"):
        run("def kernel(x0, n0):\n    v = x0[thread()] * n0\n", ("*i64", "ix"), (x, 70), 1, 32, wide=wide)


def test_sixteen_bytes_at_a_time() -> None:
    text = """def kernel(x0, x1, n0):
    for i in range(thread(), n0 // 4, 32):
        a0, a1, a2, a3 = load4_f32_nc(x0, i * 4)
        store4_f32(x1, i * 4, a3, a2, a1, a0)
"""
    x, y = random(144), np.zeros(144, np.float32)
    run(text, ("*f32", "*f32", "ix"), (x, y, 144), 1, 32)
    assert (y.reshape(-1, 4) == x.reshape(-1, 4)[:, ::-1]).all()


def test_while_and_break_leave_lane_by_lane() -> None:
    text = """def kernel(x0, x1, x2, n0):
    lo = 0
    hi = n0
    while lo < hi:
        mid = (lo + hi) // 2
        if x0[mid] < to_i64(thread()):
            lo = mid + 1
        else:
            hi = mid
    x1[thread()] = to_i64(lo)
    count = to_i64(0)
    for k in range(n0):
        if x0[k] > to_i64(thread()):
            break
        count = count + to_i64(1)
    x2[thread()] = count
"""
    x = np.sort(rng.integers(0, 40, 50))
    left, right = np.zeros(32, np.int64), np.zeros(32, np.int64)
    run(text, ("*i64", "*i64", "*i64", "ix"), (x, left, right, 50), 1, 32)
    assert (left == np.searchsorted(x, np.arange(32))).all()
    assert (right == np.searchsorted(x, np.arange(32), "right")).all()


def test_atomics_of_integers_and_barriers_between_blocks_of_work() -> None:
    text = """def kernel(x0, x1, n0):
    s0 = shared_i32(8)
    if thread() < 8:
        s0[thread()] = to_i64(0)
    sync()
    for i in range(thread(), n0, 64):
        old = atomic_add_i32(s0, to_ix(x0[i]), to_i64(1))
    sync()
    if thread() < 8:
        x1[thread()] = s0[thread()]
"""
    x, y = rng.integers(0, 8, 500), np.zeros(8, np.int64)
    run(text, ("*i64", "*i64", "ix"), (x, y, 500), 1, 64)
    assert (y == np.bincount(x, minlength=8)).all()


def test_arrays_of_a_thread_and_the_order_of_a_warp() -> None:
    text = """def kernel(x0, x1):
    s0 = shared_f32(64)
    a = local_f32(3)
    for k in range(3):
        a[k] = x0[thread() * 3 + k]
    s0[thread()] = a[0] * a[1] + a[2]
    warp_sync(32)
    x1[thread()] = s0[thread() // 32 * 32 + (thread() + 1) % 32]
"""
    x, y = random(64, 3), np.zeros(64, np.float32)
    run(text, ("*f32", "*f32"), (x.reshape(-1), y), 1, 64)
    assert (y == np.roll((x[:, 0] * x[:, 1] + x[:, 2]).reshape(2, 32), -1, 1).reshape(-1)).all()


def test_halves_are_carried_and_rounded() -> None:
    text = """def kernel(x0, x1, x2, x3, n0):
    for i in range(thread(), n0, 32):
        v1 = x0[i] if i > 0 else to_f16(f4(0.0))
        x1[i] = to_bf16(to_f32(v1))
        x2[i] = to_f32(x3[i])
"""
    x, y = random(40).astype(np.float16), np.zeros(40, np.uint16)
    z, w = np.zeros(40, np.float32), np.arange(40, dtype=np.uint16) + np.uint16(0x3F80)
    run(text, ("*f16", "*bf16", "*f32", "*bf16", "ix"), (x, y, z, w, 40), 1, 32)
    expected = [0] + [plain.to_bf16(np.float32(v)).word for v in x[1:]]
    assert y.tolist() == expected
    assert (z == (w.astype(np.uint32) << 16).view(np.float32)).all()


# ---------------------------------------------------------------------------------------------- planted errors
BODIES = {
    "past the end": ("bounds", 3, """
    i = block() * 32 + thread()
    x1[i] = x0[i]
"""),
    "before the start": ("bounds", 2, """
    x1[thread()] = x0[thread() - 1]
"""),
    "past shared memory": ("bounds", 3, """
    s0 = shared_f32(31)
    s0[thread()] = f4(1.0)
"""),
    "past local memory": ("bounds", 4, """
    a = local_f32(2)
    for k in range(3):
        a[k] = f4(1.0)
"""),
    "too much shared memory": ("bounds", 2, """
    s0 = shared_f32(14000)
"""),
    "a barrier for some": ("divergence", 3, """
    if thread() < 3:
        sync()
"""),
    "a barrier in a loop that some leave": ("divergence", 3, """
    for i in range(thread(), 40, 32):
        sync()
"""),
    "a barrier for each side": ("divergence", 3, """
    if thread() < 16:
        sync()
    else:
        sync()
"""),
    "a block's sum without some": ("divergence", 4, """
    s0 = shared_f32(32)
    if thread() != 5:
        v = block_sum_f32(f4(1.0), s0)
"""),
    "a group's sum without some": ("mask", 3, """
    if thread() < 5:
        v = warp_sum_f32(f4(1.0), 4)
"""),
    "a group's barrier without some": ("mask", 3, """
    if thread() < 5:
        warp_sync(32)
"""),
    "shared memory that nobody wrote": ("uninitialised", 3, """
    s0 = shared_f32(32)
    x1[thread()] = s0[thread()]
"""),
    "local memory that nobody wrote": ("uninitialised", 5, """
    a = local_f32(2)
    if thread() < 7:
        a[0] = f4(1.0)
    x1[thread()] = a[0]
"""),
    "a pad after its sum": ("uninitialised", 5, """
    s0 = shared_f32(32)
    s0[thread()] = f4(0.0)
    v = block_sum_f32(f4(1.0), s0)
    x1[thread()] = s0[thread()]
"""),
    "a read of what another wrote": ("race", 4, """
    s0 = shared_f32(32)
    s0[thread()] = f4(1.0)
    x1[thread()] = s0[31 - thread()]
"""),
    "a write of what another read": ("race", 6, """
    s0 = shared_f32(32)
    s0[thread()] = f4(1.0)
    sync()
    v = s0[31 - thread()]
    s0[thread()] = v
"""),
    "two values for one cell": ("race", 2, """
    x1[thread() // 2] = x0[thread()]
"""),
    "two values, one after the other": ("race", 4, """
    x1[thread()] = f4(0.0)
    if thread() == 3:
        x1[2] = f4(2.0)
"""),
    "what another block wrote": ("race", 4, """
    x1[block()] = f4(1.0)
    sync()
    v = x1[1 - block()]
"""),
    "a global read in the same block": ("race", 3, """
    x1[thread()] = f4(1.0)
    v = x1[(thread() + 1) % 32]
"""),
    "16 bytes askew": ("misaligned", 2, """
    a0, a1, a2, a3 = load4_f32(x0, thread() // 32 + 1)
"""),
    "16 bytes past the end": ("bounds", 2, """
    a0, a1, a2, a3 = load4_f32(x0, thread() * 4)
"""),
    "a float64 literal": ("type", 2, """
    v = x0[thread()] * 0.5
"""),
    "a double in a kernel of floats": ("type", 2, """
    v = to_f64(x0[thread()])
"""),
    "an index as a float": ("type", 2, """
    v = x0[thread()] * 2
"""),
    "an index as data": ("type", 2, """
    v = add_i64(to_i64(3), n0)
"""),
    "data as an index": ("type", 2, """
    v = x0[to_i64(thread())]
"""),
    "a store of another type": ("type", 2, """
    x1[thread()] = to_i64(1)
"""),
    "a name of two types": ("type", 4, """
    v = f4(0.0)
    if thread() < 3:
        v = to_i64(1)
"""),
    "a test that is no bool": ("type", 2, """
    if n0:
        pass
"""),
    "rounding of a negative index": ("type", 2, """
    i = (thread() - 1) // 2
"""),
    "an unknown word": ("language", 2, """
    v = frobnicate(x0[thread()])
"""),
    "an unknown name": ("type", 2, """
    v = x0[thread()] * c9
"""),
    "no return": ("language", 3, """
    if thread() > 3:
        return
"""),
    "an endless loop": ("language", 2, """
    while n0 > 0:
        pass
"""),
    "a loop index after its loop": ("language", 1, """
    for k in range(3):
        pass
    x1[thread()] = x0[k]
"""),
}


@pytest.mark.parametrize("name", BODIES)
def test_planted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autojit.backends.cuda.interpret.TURNS", 100)
    kind, line, body = BODIES[name]
    x, y = random(33), np.zeros(33, np.float32)
    with pytest.raises(KernelFault) as caught:
        run("def kernel(x0, x1, n0):" + body, ("*f32", "*f32", "ix"), (x, y, 33), 2, 32)
    assert (caught.value.kind, caught.value.line) == (kind, line), caught.value


def test_a_fault_says_who_and_where() -> None:
    with pytest.raises(KernelFault, match=r"bounds: line 2 `x0\[thread\(\)\] = f4\(1.0\)`: x0 has 5 elements, index 5 "
                                          r"\(block 0, thread 5\)"):
        run("def kernel(x0):\n    x0[thread()] = f4(1.0)\n", ("*f32",), (np.zeros(5, np.float32),), 1, 32)


def test_a_barrier_orders_what_was_a_race() -> None:
    body = """def kernel(x0):
    s0 = shared_f32(32)
    s0[thread()] = to_f32(to_i64(thread()))
    sync()
    v = s0[31 - thread()]
    sync()
    s0[thread()] = v
    x0[thread()] = s0[thread()]
"""
    x = np.zeros(32, np.float32)
    run(body, ("*f32",), (x,), 1, 32)
    assert (x == np.arange(31, -1, -1)).all()


@pytest.mark.parametrize(("width", "races"), [(32, False), (16, True)])
def test_a_warp_orders_its_own_reads_and_writes(width: int, races: bool) -> None:
    """Thread 20 reads what thread 3 read and wrote: not of one group of 16."""
    text = f"""def kernel(x0):
    x0[thread()] = x0[thread()] + f4(1.0)
    warp_sync({width})
    j = (thread() + 17) % 32
    x0[j] = x0[j] * f4(2.0)
"""
    x = np.arange(32, dtype=np.float32)
    if races:
        with pytest.raises(KernelFault, match="^race"):
            run(text, ("*f32",), (x,), 1, 32)
    else:
        run(text, ("*f32",), (x,), 1, 32)
        assert (x == 2 * np.arange(1, 33)).all()


def test_a_bool_that_was_never_written_is_no_bool() -> None:
    x = np.full(32, 0xFF, np.uint8).view(np.bool_)
    with pytest.raises(KernelFault, match="uninitialised"):
        run("def kernel(x0, x1):\n    x1[thread()] = x0[thread()]\n", ("*b1", "*b1"), (x, np.zeros(32, bool)), 1, 32)


def test_doubles_that_are_meant() -> None:
    x, y = random(32), np.zeros(32, np.float32)
    run("def kernel(x0, x1):\n    x1[thread()] = to_f32(to_f64(x0[thread()]) * f8(0.5))\n", ("*f32", "*f32"), (x, y), 1, 32,
        double=True)
    assert (y == x / 2).all()


def test_buffers_must_not_overlap() -> None:
    x = random(64)
    with pytest.raises(KernelFault, match="x1 and x0 overlap"):
        run("def kernel(x0, x1):\n    x1[thread()] = x0[thread()]\n", ("*f32", "*f32"), (x[:40], x[32:]), 1, 32)


# ---------------------------------------------------------------------------------------------- words
SAMPLES = {"f32": np.array([0.0, -0.0, 1.5, -2.5, 3.0, 0.3, -7.25, np.inf, -np.inf, np.nan, 1e-40, 3e9, -1e20], np.float32),
           "i64": np.array([0, 1, -1, 2, -3, 7, 63, 64, 65, 2 ** 31, -2 ** 31 - 1, 2 ** 63 - 1, -2 ** 63]),
           "b1": np.array([True, False])}
SAMPLES["f64"] = np.append(SAMPLES["f32"].astype(np.float64), [1e300, 2.0 ** 63, -2.0 ** 63])


def arguments(word: str) -> list[list[str]]:
    """The types of the arguments that a word may take."""
    stem, _, suffix = word.rpartition("_")
    if stem == "to":
        return [["f32"], ["f64"], ["i64"], ["b1"]] if suffix not in ("f16", "bf16") else []
    if stem in ("from_bits",):
        return [["i64"]]
    if stem == "philox":
        return [["i64"] * 3]
    count = 3 if stem == "fma" else 2 if stem in BINARY else 1
    return [[suffix] * count] if suffix in SAMPLES else []


BINARY = ("add sub mul floordiv remainder fmod maximum minimum fmax fmin copysign pow atan2 hypot shl shr ushr").split()
WORDS = sorted(set(lanes.words()) & set(plain.python_namespace()) - {"f4", "f8"})


def test_words_over_lanes_are_the_plain_words() -> None:
    """Bit for bit (sign of zero, NaN), over all pairs of hard values."""
    scalar, checked = plain.python_namespace(), 0
    with np.errstate(all="ignore"):
        for word in WORDS:
            if word.startswith(("powi", "polygamma", "shift", "int_pow")):
                continue
            for types in arguments(word):
                columns = [c.ravel() for c in np.meshgrid(*[SAMPLES[t][:8] if len(types) > 2 else SAMPLES[t] for t in types])]
                got = lanes.words()[word](None, *columns)
                for k in range(columns[0].size):
                    expected = scalar[word](*[c[k] for c in columns])
                    assert same(got[k], expected) or word[:4] in ("fmax", "fmin") and expected == got[k] == 0, \
                        f"{word}({[c[k] for c in columns]}) = {got[k]}, not {expected}"
                checked += 1
    assert checked > 100


def same(a: object, b: object) -> bool:
    x, y = np.asarray(a), np.asarray(b)
    if plain.kind(a) != plain.kind(b):
        return False
    if x.dtype.kind == "f":  # the vector loops of NumPy may differ from its scalar ones in the last place
        return bool(np.isnan(x) and np.isnan(y)) or bool(np.signbit(x) == np.signbit(y) and (
            x == y or abs(x - y) <= 4 * np.spacing(abs(y))))
    return bool(x == y)


def test_powers_over_lanes_are_the_plain_ones() -> None:
    with np.errstate(all="ignore"):
        for n in (-3, 0, 1, 2, 7):
            got = lanes.words()["powi_f32"](None, SAMPLES["f32"], n)
            assert all(same(g, plain.python_namespace()["powi_f32"](x, n)) for g, x in zip(got, SAMPLES["f32"], strict=True))


def test_words_in_some_lanes_leave_the_others_alone() -> None:
    mask = np.array([True, False, True])
    got = lanes.words()["floordiv_i64"](mask, np.array([7, 7, -7]), np.array([2, 0, 2]))
    assert got.tolist() == [3, 0, -4]


def test_shifts_of_narrow_integers() -> None:
    a, b = (c.ravel() for c in np.meshgrid(np.array([0, 1, 5, -1, -128, 127]), np.array([-1, 0, 1, 7, 8, 100])))
    for name, dtype in (("i8", np.int8), ("u8", np.uint8), ("i64", np.int64)):
        bits, word = 8 * np.dtype(dtype).itemsize, lanes.words()[f"shift_{name}"]
        for left in (True, False):
            for x, n, got in zip(a, b, word(None, a, b, left), strict=True):
                value = int(np.asarray(x).astype(dtype))
                inside = value << n if left and 0 <= n < bits else value >> n if 0 <= n < bits else -(not left and value < 0)
                assert got == plain.wrap(inside, bits, name[0] == "i"), (name, left, x, n)


def test_polygammas() -> None:
    x, of = np.array([0.5, 1.0, 3.25]), lanes.words()["polygamma_f64"]
    np.testing.assert_allclose(of(None, x[:2], 0), [-np.euler_gamma - 2 * np.log(2), -np.euler_gamma], rtol=1e-12)
    np.testing.assert_allclose(of(None, x[:2], 1), [np.pi ** 2 / 2, np.pi ** 2 / 6], rtol=1e-12)
    np.testing.assert_allclose(of(None, x + 1, 1), of(None, x, 1) - 1 / x ** 2, rtol=1e-12)


@pytest.mark.parametrize("barrier", range(2))
def test_no_barrier_of_the_tiles_can_go(barrier: int) -> None:
    at = [k for k, line in enumerate(TILES.splitlines()) if line.strip() == "sync()"][barrier]
    lines = TILES.splitlines()
    lines[at] = "        pass"
    a, b, c = random(8, 16), random(16, 8), np.zeros(64, np.float32)
    with pytest.raises(KernelFault, match="^race"):
        run("\n".join(lines), ("*f32", "*f32", "*f32", "ix", "ix", "ix"), (a.reshape(-1), b.reshape(-1), c, 8, 8, 16), 1, 64)
