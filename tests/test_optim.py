"""Optimisers and schedules: the same numbers as torch, step by step, eager and traced; state that can be saved."""

from __future__ import annotations

import numpy as np
import pytest

import autojit as aj

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((20, 3)), RNG.standard_normal(20)
W, B = RNG.standard_normal((3, 4)), RNG.standard_normal(4)

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-4, "maximize": True}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.1}),
    ("Adamax", {"lr": 0.05, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.05}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.05, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adadelta", {"lr": 1.0, "weight_decay": 0.1}),
    ("Rprop", {"lr": 0.01}),
]
NAMES = [f"{name}-{k}" for k, (name, _) in enumerate(CASES)]


def training(m, name, options, schedule=None):
    """Parameters and a function that makes one step of them."""
    x, y = m.tensor(X), m.tensor(Y)
    w, b = m.tensor(W, requires_grad=True), m.tensor(B, requires_grad=True)
    opt = getattr(m.optim, name)([w, b], **options)

    def step(x, y):
        opt.zero_grad()
        loss = ((((x @ w) + b).tanh().sum(1) - y) ** 2).mean()
        loss.backward()
        opt.step()
        return loss.detach()
    return (w, b), step, opt, (x, y)


def same(ours, theirs, tol=1e-10):
    for a, b in zip(ours, theirs):
        assert np.allclose(a.detach().numpy(), b.detach().numpy(), tol, tol)


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_steps_are_torchs(name, options):
    ours, step, _, data = training(aj, name, options)
    theirs, torch_step, _, torch_data = training(torch, name, options)
    for _ in range(20):
        a, b = step(*data), torch_step(*torch_data)
        assert abs(a.item() - b.item()) < 1e-10 * max(1, abs(b.item()))
        same(ours, theirs)


@pytest.mark.parametrize(("name", "options"), [CASES[k] for k in (1, 4, 6, 9, 12)], ids=[NAMES[k] for k in (1, 4, 6, 9, 12)])
def test_a_traced_step_is_recorded_once(name, options):
    ours, step, _, data = training(aj, name, options)
    theirs, torch_step, _, torch_data = training(torch, name, options)
    runs = []

    def counted(x, y):
        runs.append(1)
        return step(x, y)
    traced = aj.trace(counted)
    for _ in range(20):
        assert abs(traced(*data).item() - torch_step(*torch_data).item()) < 1e-8
        same(ours, theirs)
    assert len(runs) <= 2                                 # the first call found no gradients


def test_a_traced_step_with_adam_is_one_compiled_program(compiled):
    ours, step, _, data = training(aj, "Adam", {"lr": 0.05})
    theirs, torch_step, _, torch_data = training(torch, "Adam", {"lr": 0.05})
    traced = aj.trace(step)
    for _ in range(5):
        traced(*data), torch_step(*torch_data)
    same(ours, theirs)
    assert len(traced.plans) == 1


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5], "gamma": 0.5}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 4}),
    ("LinearLR", {"start_factor": 0.25, "total_iters": 6}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {"total_iters": 6, "power": 2.0}),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
    ("LambdaLR", {"lr_lambda": lambda k: 0.9 ** k}),
    ("MultiplicativeLR", {"lr_lambda": lambda k: 0.9 + 0.01 * k}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25, "three_phase": True, "anneal_strategy": "linear"}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "step_size_down": 4}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "mode": "exp_range", "gamma": 0.95}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "mode": "triangular2", "cycle_momentum": False}),
]


@pytest.mark.parametrize(("name", "options"), SCHEDULES, ids=[f"{n}-{k}" for k, (n, _) in enumerate(SCHEDULES)])
@pytest.mark.parametrize("optimiser", [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"lr": 0.1})], ids=["SGD", "Adam"])
def test_schedules_are_torchs(name, options, optimiser):
    both = []
    for m in (aj, torch):
        _, _, opt, _ = training(m, *optimiser)
        opt.step()
        schedule = getattr(m.optim.lr_scheduler, name)(opt, **options)
        rates = []
        for _ in range(24):
            group = opt.param_groups[0]
            rates.append((group["lr"], group.get("momentum", group.get("betas"))))
            assert schedule.get_last_lr() == [group["lr"]]
            opt.step()
            schedule.step()
        both.append([np.hstack(r) for r in rates])
    assert np.allclose(*both, 1e-12, 1e-15)


@pytest.mark.filterwarnings("ignore")
def test_schedules_in_sequence_and_upon_each_other():
    both = []
    for m in (aj, torch):
        _, _, opt, _ = training(m, "SGD", {"lr": 0.1})
        s = m.optim.lr_scheduler
        opt.step()
        parts = [s.LinearLR(opt, 0.1, total_iters=4), s.ExponentialLR(opt, 0.9), s.CosineAnnealingLR(opt, 6)]
        whole = s.SequentialLR(opt, parts, [4, 9])
        rates = []
        for _ in range(16):
            rates.append(opt.param_groups[0]["lr"])
            opt.step(), whole.step()
        _, _, opt, _ = training(m, "SGD", {"lr": 0.1})
        opt.step()
        chained = s.ChainedScheduler([s.ConstantLR(opt, 0.1, 4), s.ExponentialLR(opt, 0.9)])
        for _ in range(8):
            rates.append(opt.param_groups[0]["lr"])
            opt.step(), chained.step()
        both.append(rates)
    assert np.allclose(*both, 1e-12)


@pytest.mark.parametrize("options", [{}, {"mode": "max", "threshold_mode": "abs", "cooldown": 2, "patience": 1,
                                          "min_lr": 1e-3}])
def test_a_plateau_lowers_the_rate(options):
    measured = [1.0, 0.9, 0.9, 0.95, *[0.91] * 20, 0.3, *[0.5] * 13]
    both = []
    for m in (aj, torch):
        _, _, opt, _ = training(m, "SGD", {"lr": 0.1})
        plateau = m.optim.lr_scheduler.ReduceLROnPlateau(opt, **options)
        rates = []
        for v in measured:
            plateau.step(v)
            rates.append(opt.param_groups[0]["lr"])
        both.append(rates)
    assert np.allclose(*both, 1e-12) and both[0][-1] < 0.1


def test_schedules_go_on_from_their_state():
    _, _, opt, _ = training(aj, "SGD", {"lr": 0.1})
    one = aj.optim.lr_scheduler.CosineAnnealingLR(opt, 10)
    for _ in range(3):
        one.step()
    saved, rate = one.state_dict(), opt.param_groups[0]["lr"]
    _, _, other, _ = training(aj, "SGD", {"lr": rate})
    two = aj.optim.lr_scheduler.CosineAnnealingLR(other, 10)
    two.load_state_dict(saved)
    other.param_groups[0]["lr"] = rate
    one.step(), two.step()
    assert one.get_last_lr() == two.get_last_lr() and two.last_epoch == 4


@pytest.mark.parametrize(("name", "schedule"), [("SGD", "ExponentialLR"), ("Adam", "OneCycleLR")])
def test_a_schedule_is_data_of_a_traced_step(name, schedule):
    options = {"lr": 0.1, **({"momentum": 0.5} if name == "SGD" else {})}
    more = {"gamma": 0.9} if schedule == "ExponentialLR" else {"max_lr": 0.2, "total_steps": 20}
    runs, results = [], []
    for m in (aj, torch):
        ours, step, opt, data = training(m, name, options)
        plan = getattr(m.optim.lr_scheduler, schedule)(opt, **more)
        if m is aj:
            plain = step
            step = aj.trace(lambda x, y: runs.append(1) or plain(x, y))
        for _ in range(10):
            step(*data)
            plan.step()
        results.append(ours)
    same(*results)
    assert len(runs) <= 2


def test_a_schedule_inside_a_trace_is_refused():
    _, _, opt, _ = training(aj, "SGD", {"lr": 0.1})
    plan = aj.optim.lr_scheduler.ExponentialLR(opt, 0.9)
    with pytest.raises(aj.TraceError, match="scheduler"):
        aj.trace(lambda x: (plan.step(), x)[1])(aj.ones(2))


def test_an_option_that_is_a_constant_records_anew():
    ours, step, opt, data = training(aj, "SGD", {"lr": 0.1})
    theirs, torch_step, torch_opt, torch_data = training(torch, "SGD", {"lr": 0.1})
    traced = aj.trace(step)
    for decay in (0.0, 0.0, 0.3, 0.3, 0.7):
        opt.param_groups[0]["weight_decay"] = torch_opt.param_groups[0]["weight_decay"] = decay
        traced(*data), torch_step(*torch_data)
        same(ours, theirs)


# ---------------------------------------------------------------- state
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_state_can_be_saved_and_loaded(name):
    options = {"lr": 0.05, **({"momentum": 0.9} if name != "Adam" else {})}
    first, step, opt, data = training(aj, name, options)
    for _ in range(3):
        step(*data)
    second, again, other, _ = training(aj, name, {**options, "lr": 0.5})
    with aj.no_grad():
        for p, q in zip(second, first):
            p.copy_(q)
    kept = {p: dict(s) for p, s in other.state.items()}
    traced = aj.trace(again)
    other.load_state_dict(opt.state_dict())
    assert all(other.state[p][n] is t for p, s in kept.items() for n, t in s.items())     # in place
    for _ in range(3):
        step(*data), traced(*data)
    same(first, second)
    assert other.param_groups[0]["lr"] == 0.05
    assert sorted(opt.state_dict()["state"]) == [0, 1]


def test_the_names_of_the_state_are_torchs():
    for name, options in CASES[3:]:
        ours, step, opt, data = training(aj, name, options)
        _, torch_step, torch_opt, torch_data = training(torch, name, options)
        step(*data), torch_step(*torch_data)
        assert set(opt.state_dict()["state"][0]) == set(torch_opt.state_dict()["state"][0]), name


def test_groups():
    w, b = aj.ones(2, requires_grad=True), aj.ones(2, requires_grad=True)
    opt = aj.optim.SGD([{"params": [w], "lr": 0.5}, {"params": b}], lr=0.1)
    (w + b).sum().backward()
    opt.step()
    assert np.allclose(w.tolist(), 0.5) and np.allclose(b.tolist(), 0.9)
    c = aj.ones(1, requires_grad=True)
    opt.add_param_group({"params": [c], "lr": 1.0})
    with pytest.raises(ValueError, match="more than one parameter group"):
        opt.add_param_group({"params": [w]})
    opt.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0, 0]
    opt.zero_grad()
    assert w.grad is None and "Parameter Group 2" in repr(opt)


def test_a_rate_that_is_a_tensor():
    lr = aj.tensor(0.5, dtype=aj.float64)
    w = aj.ones(1, dtype=aj.float64, requires_grad=True)
    opt = aj.optim.SGD([w], lr=lr)
    w.sum().backward()
    opt.step()
    lr.fill_(0.25)
    opt.step()
    assert w.item() == 0.25
    aj.optim.lr_scheduler.ExponentialLR(opt, 0.5).step()
    assert lr.item() == 0.125 and opt.param_groups[0]["lr"] is lr


ERRORS = [
    ("SGD", {"lr": -1.0}), ("SGD", {"momentum": -1.0}), ("SGD", {"nesterov": True}), ("Adam", {"lr": -1.0}),
    ("Adam", {"eps": -1.0}), ("Adam", {"betas": (1.0, 0.9)}), ("Adam", {"betas": (0.9, -0.1)}), ("LBFGS", {"lr": -1.0}),
    ("AdamW", {"weight_decay": -1.0}), ("RMSprop", {"alpha": -1.0}), ("Adagrad", {"lr_decay": -1.0}),
    ("Adadelta", {"rho": 2.0}), ("Rprop", {"etas": (1.2, 0.5)}), ("NAdam", {"momentum_decay": -1.0}),
]


@pytest.mark.parametrize(("name", "options"), ERRORS)
def test_refusals_are_torchs(name, options):
    said = []
    for m in (aj, torch):
        with pytest.raises((ValueError, RuntimeError)) as e:
            getattr(m.optim, name)([m.ones(1, requires_grad=True)], **options)
        said.append((type(e.value), str(e.value)))
    assert said[0] == said[1]


def test_what_cannot_be_optimised():
    w = aj.ones(2, requires_grad=True)
    bad = ((w, TypeError), ([], ValueError), ([w * 2], ValueError), ([1.0], TypeError), ([{"params": {w}}], TypeError))
    for params, error in bad:
        with pytest.raises(error):
            aj.optim.Adam(params)
    with pytest.raises(NotImplementedError, match="differentiable"):
        aj.optim.Adam([w], differentiable=True)
    with pytest.raises(ValueError, match="number of parameter groups"):
        aj.optim.Adam([w]).load_state_dict({"state": {}, "param_groups": []})


# ---------------------------------------------------------------- L-BFGS
@pytest.mark.parametrize("options", [{"lr": 0.1, "max_iter": 6}, {"line_search_fn": "strong_wolfe", "max_iter": 7},
                                     {"line_search_fn": "strong_wolfe", "history_size": 2, "lr": 5.0}])
def test_lbfgs_is_torchs(options):
    paths = []
    for m in (aj, torch):
        w = m.tensor([-1.2, 1.0, 0.5], dtype=m.float64, requires_grad=True)
        opt = m.optim.LBFGS([w], **options)

        def closure():
            opt.zero_grad()
            loss = (3 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()
            loss.backward()
            return loss
        path = []
        for _ in range(4):
            path.append([opt.step(closure).item(), *w.detach().tolist()])
        paths.append(path)
        if m is aj:
            evals = opt.state[w]["func_evals"]
        else:
            assert evals == opt.state[w]["func_evals"]
    assert np.allclose(*paths, 1e-6, 1e-9)


def test_lbfgs_goes_on_from_its_state():
    def made(start, saved=None):
        w = aj.tensor(start, dtype=aj.float64, requires_grad=True)
        opt = aj.optim.LBFGS([w], max_iter=3, line_search_fn="strong_wolfe")
        if saved is not None:
            opt.load_state_dict(saved)

        def closure():
            opt.zero_grad()
            loss = (w ** 4).sum() + (w[0] * w[1])
            loss.backward()
            return loss
        return w, opt, closure
    w, opt, closure = made([2.0, -1.0])
    opt.step(closure)
    v, other, again = made(w.tolist(), opt.state_dict())
    opt.step(closure), other.step(again)
    assert np.allclose(w.tolist(), v.tolist(), 1e-12)
    with pytest.raises(TypeError, match="closure"):
        opt.step()
    with pytest.raises(aj.TraceError, match="LBFGS"):
        aj.trace(lambda x: (opt.step(closure), x)[1])(aj.ones(1))


def test_a_gradient_from_outside_is_followed():
    """What stands in `.grad` when a traced function begins is another object each time: its value must be this one's."""
    ends = []
    for traced in (False, True):
        w = aj.ones(2, requires_grad=True)
        opt, seen = aj.optim.SGD([w], lr=1.0), []

        def accumulate(x, w=w):
            (w * w * x).sum().backward()

        def change(opt=opt):
            opt.step()
        f, g = (aj.trace(accumulate), aj.trace(change)) if traced else (accumulate, change)
        for k in range(4):
            f(aj.ones(2) * (k + 1))
            g()
            seen += [w.grad.tolist(), w.tolist()]
            if k % 2:
                w.grad = aj.ones(2) * k
        ends.append(seen)
    assert ends[0] == ends[1]


def test_a_step_is_one_program_and_copies_do_without_it():
    import copy
    ours, step, opt, data = training(aj, "Adam", {"lr": 0.05})
    theirs, torch_step, _, torch_data = training(torch, "Adam", {"lr": 0.05})
    step(*data), torch_step(*torch_data)
    first = opt._recorded
    twin = copy.deepcopy(opt)
    assert twin._recorded is None and not {*map(id, twin.state)} & {*map(id, opt.state)}
    step(*data), torch_step(*torch_data)
    assert opt._recorded is first and len(first.plans) == 1
    same(ours, theirs)

    class Mine(aj.optim.Optimizer):
        calls = 0

        def update(self, group, p, g):
            Mine.calls += 1
            p.sub_(g * group["lr"] * Mine.calls)
    w = aj.ones(1, requires_grad=True)
    own = Mine([w], {"lr": 1.0})
    for _ in range(3):
        own.zero_grad()
        w.sum().backward()
        own.step()
    assert w.item() == 1 - 1 - 2 - 3
