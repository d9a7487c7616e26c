"""A program that takes its second and third time along a known path does what it did the first time, and what torch does.

All programs that compare the eager face with torch are run again with a path open from the start, three times, so that steps
are new, then known, then ended by a program that was learned; with `restless`, a path that was closed begins anew at once.
"""

from __future__ import annotations

import gc
import json
import threading
import warnings
import weakref

import numpy as np
import pytest

import autojit as aj
from autojit.eager import ahead, autograd, path
from autojit.eager.state import state

from . import test_eager_fuzz as fuzz
from . import test_eager_programs as programs
from . import test_tutorial as tutorial
from .eagerly.frame import PROGRAMS, outcome, same


def fresh():
    """A path is open, whatever happened before."""
    state.open, state.fails, state.skip = None, 0, 0
    path.start()


@pytest.fixture(autouse=True)
def open_path():
    fresh()
    yield
    state.open, state.fails, state.skip = None, 0, 0


@pytest.fixture(params=[False, True], ids=["usual", "restless"])
def restless(request, monkeypatch):
    """Closed paths begin anew at once: tensors with and without a path meet in every way."""
    if request.param:
        close = path.Path.close

        def reopened(self):
            mine = state.open is self
            close(self)
            if mine and state.open is None:
                path.start()
        monkeypatch.setattr(path.Path, "close", reopened)


class Counter:
    """How often backward() was known."""

    def __init__(self, monkeypatch):
        self.known = 0
        ran = ahead.ran_ahead

        def counted(root):
            done = ran(root)
            self.known += done
            return done
        monkeypatch.setattr(autograd, "ran_ahead", counted)

    def since(self, f):
        before = self.known
        f()
        return self.known - before


@pytest.fixture
def known(monkeypatch):
    return Counter(monkeypatch)


# ---------------------------------------------------------------- everything again
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name, restless):
    for _ in range(3):
        fresh()
        got = json.loads(json.dumps(outcome(PROGRAMS[name], aj)))
        assert same(got, programs.EXPECTED[name]), f"\n   here {got}\n  torch {programs.EXPECTED[name]}"


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_programs(first, restless):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = []
        for seed in range(first, first + 50):
            for _ in range(3):
                fresh()
                found.append(fuzz.difference(seed))
    assert [d for d in found if d is not None][:3] == []


@pytest.mark.parametrize("file", tutorial.PROGRAMS, ids=lambda p: p.stem)
def test_tutorial(file):
    for _ in range(3):
        fresh()
        assert tutorial.text_of(tutorial.ours(file), str(file)) == file.with_suffix(".txt").read_text()


# ---------------------------------------------------------------- what agreeing with torch does not show
def leaf(n=3):
    return aj.tensor(np.linspace(0.5, 1.5, n, dtype=np.float32), requires_grad=True)


def test_a_known_pass_records_nothing(known, monkeypatch):
    x = leaf()

    def step():
        x.grad = None
        loss = (x[1:] * x[:-1] * 3.25 + x.exp()[1:]).sum()
        loss.backward()
        return loss.item()
    first = [step(), x.grad.tolist()]
    step()
    made = []
    plain = path.Record.__init__
    monkeypatch.setattr(path.Record, "__init__", lambda self, *a: (made.append(self), plain(self, *a))[1])
    assert known.since(step) == 1 and not made
    assert [step(), x.grad.tolist()] == first


def test_dropped_tensors_are_gone_at_once(known):
    for _ in range(3):
        x = leaf()
        y = x * 2
        r = weakref.ref(y)
        z = y * 3
        del y
        assert r() is None
        z.sum().backward()
        assert x.grad.tolist() == [6.0] * 3
        del z
    assert known.known == 2


def test_a_result_keeps_no_leaf_alive(known):
    """A list of losses holds neither parameters' old values nor batches."""
    losses, batches = [], []
    x = leaf()
    for _ in range(6):
        batch = aj.tensor([1.0, 2.0, 3.0])
        batches.append(weakref.ref(batch))
        loss = (x * batch).sum()
        loss.backward()
        losses.append(loss)
        del batch
    assert known.known >= 4
    assert [b() for b in batches[2:]] == [None] * 4
    assert losses[-1].grad_fn.next_functions[0][0].name() == "MulBackward0"


def test_nothing_grows():
    """10,000 steps, results of the last ones still held, one activation kept for good now and then."""
    x, kept, last = leaf(), [], []

    def step(k):
        h = (x * 1.5).tanh()
        loss = (h * h).sum()
        loss.backward()
        with aj.no_grad():
            x.sub_(0.001 * x.grad)
        x.grad = None
        last.append(h)
        if len(last) > 5:
            del last[0]
        if k % 2000 == 0:
            kept.append(h)

    def objects():
        gc.collect()
        return len(gc.get_objects())
    for k in range(500):
        step(k)
    before = objects()
    for k in range(10_000):
        step(k)
    assert objects() - before < 600
    assert all(0.0 < v < 1.0 for h in kept for v in h.tolist())


def test_forgotten_activations_do_not_keep_leaves_alive():
    x, kept, leaves = leaf(), [], []
    for _ in range(60):
        c = aj.tensor([1.0, 2.0, 3.0])
        leaves.append(weakref.ref(c))
        h = x * c
        (h * h).sum().backward()
        kept.append(h)
        x.grad = None
    del c, h
    assert sum(r() is not None for r in leaves) < 40
    assert all(h.tolist() == [0.5, 2.0, 4.5] for h in kept)


def test_large_memory_is_not_kept(monkeypatch):
    from autojit.eager import evaluate
    monkeypatch.setattr(evaluate, "HEAVY", 1 << 16)
    x, alive = leaf(1000), []
    for _ in range(3):
        (x * 2).sum().backward()
    for _ in range(200):
        c = aj.tensor(np.ones(1000, np.float32))
        alive.append(weakref.ref(c))
        y = x * c
    del y, c
    assert sum(r() is not None for r in alive) < 100


def test_long_programs_are_linear(known):
    def calls(n):
        import cProfile
        import pstats
        fresh()
        x = leaf()

        def step():
            h = x
            for _ in range(n):
                h = (h * 0.99 + x).tanh()
            h.sum().backward()
            x.grad = None
        for _ in range(2):
            step()                                        # the second learns
        first = cProfile.Profile()
        fresh()
        START = path.START.next
        path.START.next = {}
        first.runcall(step)
        path.START.next = START
        fresh()
        again = cProfile.Profile()
        again.runcall(step)
        return [pstats.Stats(p).total_calls for p in (first, again)]
    short, long = calls(100), calls(400)
    assert long[0] < 4.4 * short[0] and long[1] < 4.4 * short[1]
    assert long[1] < long[0] / 4 and known.known > 0


def test_paths_of_endless_length_end(monkeypatch, known):
    monkeypatch.setattr(path, "LENGTH", 20)
    for _ in range(4):
        x = leaf()
        h = x
        for _ in range(30):
            h = h * 1.01
        h.sum().backward()
        assert np.allclose(x.grad.tolist(), 1.01 ** 30)
        x.grad = None
        (x * 3).sum().backward()
        assert x.grad.tolist() == [3.0] * 3
    assert known.known > 0


def test_the_tree_begins_anew(monkeypatch, known):
    monkeypatch.setattr(path, "STEPS", 50)
    for k in range(40):
        x = leaf()
        h = x * 1.5
        for _ in range(k % 7):
            h = h.exp() * 0.1
        h.sum().backward()
        y = leaf()
        h = y * 1.5
        for _ in range(k % 7):
            h = h.exp() * 0.1
        h.sum().backward()
        assert x.grad.tolist() == y.grad.tolist()
    assert 0 < known.known < 80


def test_programs_that_never_repeat_stop_trying():
    opened = 0
    for k in range(400):
        x = leaf()
        h = x
        for bit in f"{k:b}":
            h = h * 1.1 if bit == "1" else h + 1.2
        opened += state.open is not None
        h.sum().backward()
    assert opened < 120


def test_threads_each_have_a_path(known):
    errors = []

    def work(seed):
        try:
            rng = np.random.default_rng(seed)
            for _ in range(150):
                a = rng.random(5).astype(np.float32)
                x = aj.tensor(a, requires_grad=True)
                h = x * 1.5
                y = (h * h + x.exp()).sum()
                y.backward()
                assert np.allclose(x.grad.numpy(), 4.5 * a + np.exp(a), rtol=1e-5)
                assert np.allclose(h.tolist(), 1.5 * a)
        except BaseException as e:
            errors.append(e)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors and known.known > 300


def test_a_result_is_used_in_another_thread():
    for _ in range(5):
        x = leaf()
        h, found = x * 3, []
        t = threading.Thread(target=lambda: found.append((h * 2).tolist()))
        t.start()
        t.join()
        y = (h * h).sum()
        y.backward()
        assert found == [[3.0, 6.0, 9.0]] and x.grad.tolist() == [9.0, 18.0, 27.0]


def test_a_leaf_is_written_in_another_thread():
    for _ in range(5):
        x = leaf()
        h = x * 3

        def change():
            with aj.no_grad():
                x.mul_(10)
        t = threading.Thread(target=change)
        t.start()
        t.join()
        assert h.tolist() == [1.5, 3.0, 4.5]
        assert (x * 1).tolist() == [5.0, 10.0, 15.0]


def test_many_threads_read_what_one_makes():
    """Other threads make the path real while its own goes on."""
    errors, handed = [], []
    stop = threading.Event()

    def read():
        while not stop.is_set():
            if handed:
                h, expected = handed[-1]
                try:
                    assert h.tolist() == expected, (h.tolist(), expected)
                except BaseException as e:
                    errors.append(e)
                    return
    threads = [threading.Thread(target=read) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(300):
            x = leaf()
            h = x * 2
            handed.append((h, [1.0, 2.0, 3.0]))
            for _ in range(10):
                h = h + x
            h.sum().backward()
            assert x.grad.tolist() == [12.0] * 3
            del handed[:-3]
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not errors


def test_something_comes_between(monkeypatch):
    """A finaliser that uses tensors runs in the middle of an operator."""
    from autojit.eager import quick
    x, between = leaf(), []
    make = weakref.ref

    def interrupting(t):
        if len(between) % 3 == 1:
            between.append(None)
            between.append(x * 7.5)
        else:
            between.append(None)
        return make(t)
    for _ in range(3):
        (((x * 2) * x + 1.5).exp() * x).sum().backward()
    expected = x.grad.tolist()
    monkeypatch.setattr(quick, "ref", interrupting)
    x.grad = None
    for _ in range(3):
        (((x * 2) * x + 1.5).exp() * x).sum().backward()
    assert np.allclose(x.grad.tolist(), expected)
    assert all(b.tolist() == [3.75, 7.5, 11.25] for b in between if b is not None)


def test_a_trace_in_the_middle():
    @aj.trace
    def double(v):
        return v * 2 + y

    for _ in range(4):
        x = leaf()
        y = x * 3
        z = double(y)
        (z * z).sum().backward()
        assert np.allclose(x.grad.tolist(), 162 * np.array([0.5, 1.0, 1.5]))


def test_functional_transforms_in_the_middle(known):
    for _ in range(4):
        x = leaf()
        y = x * 3
        g = aj.grad(lambda v: (v * v * y).sum())(x.detach())
        (y * g.detach()).sum().backward()
        assert np.allclose(x.grad.tolist(), 18 * np.array([0.25, 1.0, 2.25]))


def test_errors_name_the_line_of_the_step():
    for _ in range(4):
        x = leaf()
        h = x.exp()
        y = (h * 2).sum()
        with aj.no_grad():
            h.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as e:
            y.backward()
        notes = " ".join(e.value.__notes__)
        line = test_errors_name_the_line_of_the_step.__code__.co_firstlineno
        assert f"{__file__}:{line + 3}" in notes and f"{__file__}:{line + 6}" in notes
        (leaf() * 2).sum().backward()


def test_one_path_from_two_places():
    """The same ops from another function: errors name the place that was used."""
    def one(x):
        return (x.exp() * 2).sum()

    def two(x):
        return (x.exp() * 2).sum()
    for f in (one, one, one, two, two):
        y = f(leaf())
        y.backward()
        with pytest.raises(RuntimeError, match="second time") as e:
            y.backward()
        assert f":{f.__code__.co_firstlineno + 1}" in " ".join(e.value.__notes__)


def test_an_update_leaves_other_paths_alone(known):
    """Writing to memory that no step has read does not make a path real."""
    x, count = leaf(), aj.zeros(1)
    for _ in range(4):
        y = x * 2
        with aj.no_grad():
            count.add_(1)
        (y * y).sum().backward()
    assert known.known == 3 and count.item() == 4


def test_the_default_dtype_changes_in_the_middle():
    try:
        for _ in range(2):
            for d in (aj.float32, aj.float64):
                aj.set_default_dtype(d)
                for _ in range(3):
                    x, n = leaf(), aj.tensor([1, 2, 3])
                    h = n / n
                    aj.set_default_dtype(aj.float64 if d is aj.float32 else aj.float32)
                    k = n / 2
                    aj.set_default_dtype(d)
                    y = (x * h * k).sum()
                    y.backward()
                    assert h.dtype is d and k.dtype is not d and x.grad.tolist() == [0.5, 1.0, 1.5]
                    fresh()
    finally:
        aj.set_default_dtype(aj.float32)
