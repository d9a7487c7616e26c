"""The benchmark harness: it must catch wrong results, and its ratios must be what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from perf import coldstart, harness, machine
from perf.__main__ import main
from perf.measure import quartiles, sample, worst_error
from perf.peers import SYSTEMS, jax_namespace
from perf.report import markdown
from perf.workloads import WORKLOADS

PATIENCE = machine.Patience(0)


class ScriptedWorker:
    """Answers like a worker process: `answers` by request, a Gone is raised."""

    def __init__(self, system, **answers):
        self.system = SYSTEMS[system]
        self.answers = answers
        self.asked = []

    def ask(self, limit, **request):
        self.asked.append(request["do"])
        answer = self.answers[request["do"]]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


class Reference(ScriptedWorker):
    def __init__(self):
        super().__init__("torch", reference={})

    def ask(self, limit, **request):
        np.savez(request["path"], np.zeros(1))
        return super().ask(limit, **request)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(machine.Watch, "others", lambda self, own_seconds=0.0: 0.0)


def timed(system, us, error=1e-7, last_error=1e-7):
    return ScriptedWorker(
        system,
        prepare={"first_s": 0.5, "error": error},
        round={"us": us, "samples": 5, "cpu_s": 0.0},
        finish={"error": last_error},
    )


def row(tmp_path, *workers, workload="elem"):
    plan = harness.Plan([workload], [], cell_seconds=0.02, rounds=2)
    table = {worker.system.name: worker for worker in workers}
    path = tmp_path / "reference.npz"
    return harness.run_workload(WORKLOADS[workload], table, Reference(), plan, path, PATIENCE)


def test_right_results_are_timed(tmp_path):
    cells = row(tmp_path, timed("autojit", 10.0), timed("torch", 40.0))
    assert cells["autojit"]["us"] == 10.0
    assert cells["torch"]["rounds"] == [40.0, 40.0]


def test_wrong_results_are_not_timed(tmp_path):
    wrong = timed("autojit", 10.0, error=1e-2)
    cells = row(tmp_path, wrong, timed("torch", 40.0))
    assert "us" not in cells["autojit"] and cells["autojit"]["wrong"]
    assert "round" not in wrong.asked
    assert harness.ratios(WORKLOADS["elem"], cells) == {}


def test_a_nan_error_counts_as_wrong(tmp_path):
    assert row(tmp_path, timed("autojit", 1.0, error=float("nan")))["autojit"]["wrong"]


def test_results_that_go_wrong_while_timed_are_dropped(tmp_path):
    cells = row(tmp_path, timed("autojit", 10.0, last_error=1.0))
    assert cells["autojit"]["wrong"] and "us" not in cells["autojit"]


def test_a_slow_compile_and_a_failure_become_notes(tmp_path):
    slow = ScriptedWorker("torch", prepare=harness.Gone("not done after 1 s"))
    failing = ScriptedWorker("jax", prepare={"failed": "ValueError: no"})
    cells = row(tmp_path, slow, failing)
    assert cells == {"torch": {"note": "not done after 1 s"}, "jax": {"note": "ValueError: no"}}


def test_only_programs_with_a_loop_have_the_scan_form(tmp_path):
    assert "jax-scan" not in row(tmp_path, timed("jax-scan", 1.0))
    assert "jax-scan" in row(tmp_path, timed("jax-scan", 1.0), workload="ode")


def test_ratios_take_the_best_rival(tmp_path):
    workers = {
        "autojit": 10.0,
        "autojit-eager": 30.0,
        "torch": 90.0,
        "jax": 24.0,
        "torch.compile-joint": 15.0,
    }
    cells = row(tmp_path, *(timed(name, us) for name, us in workers.items()))
    ratios = harness.ratios(WORKLOADS["elem"], cells)
    traced, eager = ratios["autojit"], ratios["autojit-eager"]
    assert (traced["rival"], traced["ratio"], traced["pass"]) == ("jax", 2.4, False)
    assert (traced["best_of_all"], traced["ratio_of_all"]) == ("torch.compile-joint", 1.5)
    assert (eager["rival"], eager["ratio"], eager["pass"]) == ("torch", 3.0, False)
    record = record_of("elem", cells, ratios)
    text = markdown(record)
    assert "| elem | 2.40 | 2.40-2.40 | jax | 2.5 | **miss** | 1.50 | torch.compile-joint |" in text
    assert json.loads(json.dumps(record)) == record


def test_disturbed_times_neither_pass_nor_miss(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.Watch, "others", lambda self, own_seconds=0.0: 1.5)
    cells = row(tmp_path, timed("autojit", 1.0), timed("torch", 40.0))
    assert cells["torch"]["disturbed"] == 2
    ratios = harness.ratios(WORKLOADS["elem"], cells)
    assert "pass" not in ratios["autojit"]
    assert "| elem | 40.00† | 40.00-40.00 | torch | 2.5 |  |" in markdown(
        record_of("elem", cells, ratios)
    )


def test_coldstart_is_judged_above_numpy_and_without_numba():
    cases = [case for case in coldstart.CASES if case.system != "jax"]
    results = {case.name: {"s": 0.3, "numba": False} for case in cases}
    results["import numpy"]["s"] = 0.2
    results["autojit traced, warm"]["numba"] = True
    coldstart.judge(cases, results)
    verdicts = {name: row["pass"] for name, row in results.items() if "pass" in row}
    assert verdicts == {
        "import autojit": False,
        "autojit eager, warm": True,
        "autojit traced, warm": False,
        "autojit traced, warm, compiled code": True,
    }


def test_coldstart_starts_processes(tmp_path):
    facts = coldstart.start(coldstart.CASES[0], str(tmp_path))
    assert facts["seconds"] > 0 and facts["numba"] is False
    wrong = coldstart.Case("wrong", "print('[0.0]')")
    assert "printed '[0.0]'" in coldstart.measure([wrong], 1)["wrong"]["note"]


def record_of(workload, cells, ratios):
    return {
        "time": "now",
        "mode": "full",
        "cell_seconds": 1,
        "rounds": 2,
        "machine": machine.fingerprint(),
        "load_before": {"average": 0.1, "busy": 0.0},
        "load_after": {"average": 0.1, "busy": 0.0},
        "absent": {},
        "cells": {workload: cells},
        "ratios": {workload: ratios},
        "wall_s": 1.0,
    }


def test_worst_error():
    right = [np.float64(2.0), np.array([1.0, -4.0])]
    assert worst_error(right, right) == 0
    assert worst_error([np.float64(2.0), np.array([1.0, -4.4])], right) == pytest.approx(0.1)
    assert worst_error([np.float64(2.0), np.array([1.0, np.nan])], right) == np.inf
    assert worst_error([np.float64(2.0)], right) == np.inf
    assert worst_error([np.float64(2.0), np.zeros((2, 1))], right) == np.inf
    holes = [np.array([np.nan, np.inf, 1.0])]
    assert worst_error(holes, holes) == 0
    assert worst_error([np.array([np.nan, -np.inf, 1.0])], holes) == np.inf


def test_sample_and_quartiles():
    calls = []
    times = sample(lambda: calls.append(None), 0.01)
    assert len(times) >= 2 and len(calls) > 100 and min(times) > 0
    assert quartiles([4.0]) == (4.0, 4.0, 4.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_every_workload_is_declared_fully():
    assert len(WORKLOADS) >= 14
    for workload in WORKLOADS.values():
        assert workload.title and workload.targets["autojit"] > 0
        assert set(workload.slow) <= set(SYSTEMS)
        arrays = workload.arrays()
        assert all(a.dtype == np.float32 for a in arrays[: workload.wrt])


@pytest.mark.parametrize("name", ["rnn", "ode"])
def test_scan_form_is_the_plain_program(name):
    pytest.importorskip("jax")
    m, workload = jax_namespace(), WORKLOADS[name]
    arrays = workload.arrays(steps=4)
    plain = workload.function(m, steps=4)(*arrays)
    scanned = workload.function(m, "scan", steps=4)(*arrays)
    assert float(plain) == pytest.approx(float(scanned), rel=1e-6)


def test_a_whole_quick_run(capsys):
    pytest.importorskip("torch")
    words = ["--quick", "--only", "rosen", "--systems", "torch", "--no-record"]
    assert main([*words, "--patience", "0"]) == 0
    assert "| rosen: Rosenbrock's function of ten variables |" in capsys.readouterr().out


def test_a_worker_past_its_limit_is_ended():
    worker = harness.WorkerProcess(SYSTEMS["torch"])
    with pytest.raises(harness.Gone, match="not done after 0 s"):
        worker.ask(0.0, do="finish")
    assert worker.process is None


def test_patience_ends():
    patience = machine.Patience(0)
    patience.wait()
    patience.spend(1)
    assert patience.left < 0
