"""The benchmark harness: it must catch wrong results, and its ratios must be what they say."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from perf import (
    calls,
    check,
    coldstart,
    harness,
    history,
    limits,
    loops,
    machine,
    memory,
    notes,
    plot,
    published,
    shapes,
)
from perf import compile as compiling
from perf.__main__ import main
from perf.measure import quartiles, sample, worst_error
from perf.notes import MATHEMATICS, TABLE, marks, with_lines
from perf.peers import jax_namespace
from perf.ratios import contenders, ratios, rivals, stand_in
from perf.report import markdown
from perf.systems import SYSTEMS
from perf.workloads import PARTS, WORKLOADS, find, rows

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
    plan = harness.Plan([find(workload)], [], cell_seconds=0.02, rounds=2)
    table = {worker.system.name: worker for worker in workers}
    path = tmp_path / "reference.npz"
    return harness.run_workload(find(workload), table, Reference(), plan, path, PATIENCE)


def test_right_results_are_timed(tmp_path):
    cells = row(tmp_path, timed("autojit", 10.0), timed("torch", 40.0))
    assert cells["autojit"]["us"] == 10.0
    assert cells["torch"]["rounds"] == [40.0, 40.0]


def test_wrong_results_are_not_timed(tmp_path):
    wrong = timed("autojit", 10.0, error=1e-2)
    cells = row(tmp_path, wrong, timed("torch", 40.0))
    assert "us" not in cells["autojit"] and cells["autojit"]["wrong"]
    assert "round" not in wrong.asked
    assert ratios(WORKLOADS["elem"], cells) == {}


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


def test_ratios_take_the_best_of_all(tmp_path):
    workers = {
        "autojit": 10.0,
        "autojit-eager": 30.0,
        "torch": 90.0,
        "jax": 24.0,
        "torch.compile-joint": 15.0,
        "drjit": 12.0,
    }
    cells = row(tmp_path, *(timed(name, us) for name, us in workers.items()))
    found = ratios(WORKLOADS["elem"], cells)
    traced, eager = found["autojit"], found["autojit-eager"]
    assert (traced["rival"], traced["ratio"], traced["pass"]) == ("drjit", 1.2, False)
    assert (eager["rival"], eager["ratio"], eager["pass"]) == ("torch", 3.0, True)
    record = record_of("elem", cells, found)
    text = markdown(record)
    assert "| elem | traced | 1.20 | 1.20-1.20 | drjit | 1.3 | **miss** |" in text
    assert "| elem | 3.00 | 3.00-3.00 | torch | 1 | pass |" in text
    assert json.loads(json.dumps(record)) == record


def test_an_ordinary_call_is_not_measured_against_bound_ones(tmp_path):
    workers = {"autojit": 2.0, "autojit-bound": 0.2, "jax": 6.0, "casadi": 0.1}
    cells = row(tmp_path, *(timed(name, us) for name, us in workers.items()), workload="rosen")
    found = ratios(WORKLOADS["rosen"], cells)
    assert (found["autojit"]["rival"], found["autojit"]["pass"]) == ("jax", True)
    assert (found["autojit-bound"]["rival"], found["autojit-bound"]["pass"]) == ("casadi", False)
    assert "heyoka" in rivals(WORKLOADS["elem"], "autojit")


def test_a_rival_that_cannot_run_enters_with_its_published_share(tmp_path):
    cells = row(tmp_path, timed("autojit", 10.0), timed("torch", 3655.0))
    stand_in(WORKLOADS["elem"], cells, ["heyoka", "casadi"])
    assert cells["heyoka"]["us"] == pytest.approx(541) and "casadi" not in cells
    found = ratios(WORKLOADS["elem"], cells)
    assert found["autojit"]["published"] and found["autojit"]["rival"] == "heyoka"
    text = markdown(record_of("elem", cells, found))
    assert "| heyoka~ |" in text and "| 541~ (541-541) |" in text


def test_a_rival_that_ran_keeps_its_own_time(tmp_path):
    cells = row(tmp_path, timed("torch", 3655.0), timed("heyoka", 700.0))
    stand_in(WORKLOADS["elem"], cells, ["heyoka"])
    assert cells["heyoka"]["us"] == 700 and "published" not in cells["heyoka"]


def test_other_sizes_ask_for_four_fifths_and_run_only_contenders(tmp_path):
    small = find("softmax_ce classes=333")
    assert small.sizes == {"rows": 4096, "classes": 333} and small.part == "sizes"
    cells = {"autojit": {"us": 1.0}, "jax": {"us": 2.0}, "drjit": {"us": 6.1}, "torch": {"us": 9.0}}
    assert contenders(small, cells) == {"jax", "torch"}
    cells = {"jax": {"us": 6.0}, "casadi": {"us": 0.1}, "heyoka": {"us": 1.8}, "torch": {"us": 119.0}}
    assert contenders(find("rosen n=31"), cells) == {"jax", "casadi", "torch"}     # for ordinary calls, and for bound ones
    found = ratios(small, row(tmp_path, timed("autojit", 1.0), timed("jax", 1.5)))
    assert found["autojit"]["target"] == pytest.approx(0.8 * 1.8) and found["autojit"]["pass"]


def test_every_program_has_other_sizes_near_a_third_and_three_times():
    for name in WORKLOADS:
        sizes = rows([name], ("sizes",))
        assert len(sizes) == 2
        assert any(v % 2 for w in sizes for k, v in w.sizes.items() if v != find(name).sizes[k])
    doubles = {w.name for w in rows(list(WORKLOADS), PARTS) if w.dtype == "float64"}
    assert doubles == {f"{name} float64" for name in ("elem", "pair", "gmm", "ode")}
    assert find("elem float64").dtype == "float64"


def test_rows_come_from_their_newest_complete_run(tmp_path):
    cells = row(tmp_path, timed("autojit", 10.0), timed("torch", 40.0))
    old = record_of("elem", cells, ratios(WORKLOADS["elem"], cells))
    new = {**old, "time": "later", "cells": {"bs": cells}, "ratios": {}, "seconds": {"bs": 1.0}}
    partial = {**old, "time": "last", "complete": False}
    path = tmp_path / "history.jsonl"
    for record in (old, new, partial):
        history.append(record, path)
    table = history.merged(history.records(path))
    assert list(table["cells"]) == ["elem", "bs"]
    assert [(run["time"], run["rows"]) for run in table["runs"]] == [("now", 1), ("later", 1)]
    assert history.known([old], old)["elem"]["seconds"] == 2.0
    elsewhere = {**old, "machine": {**old["machine"], "cpu": "another"}}
    assert "elem" not in history.merged([old, {**elsewhere, "cells": {"bs": cells}}])["cells"]


def test_disturbed_times_neither_pass_nor_miss(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.Watch, "others", lambda self, own_seconds=0.0: 1.5)
    cells = row(tmp_path, timed("autojit", 1.0), timed("torch", 40.0))
    assert cells["torch"]["disturbed"] == 2
    found = ratios(WORKLOADS["elem"], cells)
    assert "pass" not in found["autojit"]
    assert "| elem | traced | 40.00† | 40.00-40.00 | torch | 1.3 |  |" in markdown(
        record_of("elem", cells, found)
    )


def test_coldstart_is_judged_above_numpy_or_whole_and_without_numba():
    cases = [case for case in coldstart.CASES if case.system != "jax"]
    results = {case.name: {"s": 0.27, "numba": False} for case in cases}
    results["import numpy"]["s"] = 0.12
    results["autojit traced, warm, compiled code"]["s"] = 0.24
    results["autojit eager, cache empty"]["numba"] = True
    coldstart.judge(cases, results)
    verdicts = {name: row["pass"] for name, row in results.items() if "pass" in row}
    assert verdicts == {
        "import autojit": False,
        "autojit eager, warm": False,
        "autojit traced, warm": False,
        "autojit traced, warm, compiled code": True,
        "autojit eager, cache empty": False,
        "autojit traced, cache empty": True,
    }


def test_coldstart_starts_processes(tmp_path):
    facts = coldstart.start(coldstart.CASES[0], str(tmp_path))
    assert facts["seconds"] > 0 and facts["numba"] is False
    wrong = coldstart.Case("wrong", "print('[0.0]')")
    assert "printed '[0.0]'" in coldstart.measure([wrong], 1)["wrong"]["note"]


def record_of(workload, cells, found):
    return {
        "time": "now",
        "mode": "full",
        "complete": True,
        "cell_seconds": 1,
        "rounds": 2,
        "machine": machine.fingerprint(),
        "load_before": {"average": 0.1, "busy": 0.0},
        "load_after": {"average": 0.1, "busy": 0.0},
        "absent": {},
        "cells": {workload: cells},
        "ratios": {workload: found},
        "seconds": {workload: 2.0},
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
    assert len(WORKLOADS) == 23
    for workload in WORKLOADS.values():
        assert workload.title and workload.targets[workload.mode] > 0
        assert workload.targets["autojit-eager"] == 1
        assert set(workload.slow) <= set(SYSTEMS)
        arrays = workload.arrays()
        assert all(a.dtype == np.float32 for a in arrays[: workload.wrt])


@pytest.mark.parametrize("name, rel", [("rnn", 1e-6), ("ode", 1e-6), ("lstm", 1e-5), ("kalman", 1e-5)])
def test_scan_form_is_the_plain_program(name, rel):
    pytest.importorskip("jax")
    m, workload = jax_namespace(), WORKLOADS[name]
    arrays = workload.arrays(steps=4)
    plain = workload.function(m, steps=4)(*arrays)
    scanned = workload.function(m, "scan", steps=4)(*arrays)
    assert float(plain) == pytest.approx(float(scanned), rel=rel)


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


SMALL = {"elem": {"n": 1000}, "pair": {"n": 20}, "gp": {"n": 30}, "softmax_ce": {"rows": 8, "classes": 33}}
SMALL |= {"rosen": {}, "ode": {"steps": 5}}


@pytest.mark.parametrize("system", ["drjit", "heyoka", "casadi", "halide"])
def test_rivals_compute_what_everyone_does(system):
    pytest.importorskip("torch")
    rival = SYSTEMS[system]
    why = rival.missing()
    if why or (system == "halide" and "LD_LIBRARY_PATH" not in os.environ):
        pytest.skip(why or "its scheduler is found through LD_LIBRARY_PATH")
    for name in rival.pairs:
        small = WORKLOADS[name].variant("sizes", **SMALL[name])
        reference = SYSTEMS["torch"].prepare(small, "float64")
        try:
            prepared = rival.prepare(small)
        except (ImportError, OSError) as e:  # a library or a compiler of the system is missing
            pytest.skip(str(e))
        for pair in (reference, prepared, prepared):
            pair.call()
        assert worst_error(prepared.read(), reference.read()) < 1e-5


def test_every_rival_that_was_published_is_a_system():
    for name, figures in published.RIVALS.items():
        assert name in published.TORCH
        assert all(name in SYSTEMS[rival].pairs for rival in figures)
    named = {(name, rival) for name, figures in published.RIVALS.items() for rival in figures}
    assert named == {(n, s.name) for s in SYSTEMS.values() for n in s.pairs or ()}


def test_a_regression_is_told_from_noise(tmp_path):
    def run_of(*us):
        workers = [timed("autojit", 1.0), timed("torch", 1.0)]
        cells = row(tmp_path, *workers)
        cells["autojit"].update(us=us[0], rounds=list(us))
        cells["torch"].update(us=40.0, rounds=[40.0] * len(us))
        return record_of("elem", cells, ratios(WORKLOADS["elem"], cells))

    quiet, same, slower = run_of(10.0, 10.0), run_of(10.3, 10.3), run_of(12.0, 12.0)
    assert [e["worse"] for e in check.compare(quiet, same)] == [False]
    assert [e["worse"] for e in check.compare(quiet, slower)] == [True]
    assert [e["worse"] for e in check.compare(run_of(10.0, 7.0, 13.0), slower)] == [False]
    disturbed = run_of(12.0, 12.0)
    disturbed["ratios"]["elem"]["autojit"]["disturbed"] = True
    assert check.compare(quiet, disturbed) == []


def test_check_reads_runs_from_files(tmp_path, capsys):
    cells = row(tmp_path, timed("autojit", 10.0), timed("torch", 40.0))
    paths = []
    for k, us in enumerate((10.0, 20.0)):
        cells["autojit"].update(us=us, rounds=[us, us])
        path = tmp_path / f"{k}.jsonl"
        history.append(record_of("elem", cells, ratios(WORKLOADS["elem"], cells)), path)
        paths.append(str(path))
    assert check.main(paths) == 1
    assert "lost: elem (autojit)" in capsys.readouterr().out
    assert check.main([paths[0], paths[0]]) == 0


def test_the_picture_shows_each_program(tmp_path):
    pytest.importorskip("matplotlib")
    cells = row(tmp_path, timed("autojit", 10.0), timed("autojit-eager", 20.0), timed("torch", 40.0))
    plot.draw(record_of("elem", cells, ratios(WORKLOADS["elem"], cells)), str(tmp_path / "p.png"))
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_memory_and_notes(tmp_path, monkeypatch, capsys):
    assert memory.peak() >= memory.resident() * 0.9 > 10
    monkeypatch.setattr(history, "RESULTS", tmp_path)
    monkeypatch.setattr(notes.history, "append", lambda record: None)
    notes.note("name", "A title", ["a", "b"], [["1", notes.verdict(False)]], {})
    assert "| 1 | **miss** |" in (tmp_path / "name.md").read_text() == capsys.readouterr().out[:-1]


def test_the_table_goes_between_its_marks():
    first, last = marks(TABLE)
    page = f"a\n{first}\nold\n{last}\nb\n"
    once = with_lines(page, TABLE, ["| new |"])
    assert once == f"a\n{first}\n\n| new |\n\n{last}\nb\n" == with_lines(once, TABLE, ["| new |"])
    readme = (history.RESULTS.parent / "README.md").read_text()
    for what in (TABLE, MATHEMATICS):
        assert "| new |" in with_lines(readme, what, ["| new |"])


def test_what_the_small_measurements_ask_for():
    assert compiling.limit("elem", {}) == ("whole", 1.5) and compiling.limit("rnn", {}) == ("whole", 3)
    assert compiling.limit("rnn", {"steps": 500}) == ("first", 5)
    sizes = shapes.chosen(40)
    assert min(sizes) == 3 and max(sizes) == 1000 and len(set(sizes)) == len(sizes) >= 30
    assert {n % 2 for n in sizes} == {0, 1}
    calls_made = []
    assert calls.least(lambda: calls_made.append(None), 3) < 1000 and len(calls_made) > 100


def test_limits_count_bytes_and_operations():
    elem, mlp = WORKLOADS["elem"], WORKLOADS["mlp"]
    assert limits.least_bytes(elem) == 8e6 == limits.footprint(elem)
    assert limits.least_bytes(WORKLOADS["power"]) > 40 * 4 * 2000**2
    batch, inputs, hidden, classes = (mlp.sizes[k] for k in ("batch", "inputs", "hidden", "classes"))
    products = 2 * batch * hidden * inputs, 2 * batch * hidden * classes
    assert limits.OPERATIONS["mlp"](mlp.sizes) == 2 * products[0] + 3 * products[1]


def test_a_peer_that_ran_past_the_limit_is_not_asked_again():
    old = {"jax": {"note": "not done after 120 s", "limit": 120.0}, "autojit": {"note": "x", "limit": 120.0}}
    known = {"ode": {"cells": old, "seconds": 1.0, "versions": {"jax": "1"}}}
    plan = harness.Plan([WORKLOADS["ode"]], ["jax", "autojit"], known, compile_limit=120.0)
    assert list(harness._hopeless(plan, WORKLOADS["ode"], {"jax": "1"})) == ["jax"]
    assert harness._hopeless(plan, WORKLOADS["ode"], {"jax": "2"}) == {}
    plan.compile_limit = 200.0
    assert harness._hopeless(plan, WORKLOADS["ode"], {"jax": "1"}) == {}


def test_a_stopped_run_keeps_its_finished_rows(monkeypatch):
    done = iter([{"torch": {"note": "n"}}])

    def one(*words):
        try:
            return next(done)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(harness, "run_workload", one)
    said = []
    record = harness.run(harness.Plan(rows(["elem", "bs"], ("base",)), []), said.append)
    assert list(record["cells"]) == ["elem"] and "stopped before bs" in said[-1]


def test_loops_beside_jax(monkeypatch):
    """The programs are what their loops in Python are; who disagrees is not timed."""
    def scan(step, carry, xs, length):
        for t in range(length):
            carry = step(carry, None if xs is None else xs[t])
        return carry

    def loop(test, body, v):
        while test(v):
            v = body(v)
        return v

    plain = SimpleNamespace(tanh=np.tanh, sin=np.sin, scan=scan, loop=loop)
    monkeypatch.setattr(loops, "TURNS", 20)
    answers = {}
    for name, (program, _) in loops.PROGRAMS.items():
        call, read = loops.ours(name, "value")
        call()
        answers[name] = read()
        np.testing.assert_allclose(answers[name][0], program(plain, *loops.drawn(name)), rtol=1e-4)

    class Library:
        def __init__(self, seconds, off=0.0):
            self.seconds, self.off = seconds, off

        def ask(self, what):
            return [(a + self.off).tolist() for a in answers[what[0]]] if isinstance(what, list) else self.seconds

    found = loops.compared({"autojit": Library(2.0), "jax": Library(8.0)}, "rnn", "value", 3, 0.1)
    assert found == {"autojit": 2.0, "jax": 8.0, "ratio": 4.0}
    with pytest.raises(AssertionError):
        loops.compared({"autojit": Library(2.0), "jax": Library(8.0, off=1.0)}, "rnn", "value", 3, 0.1)
    assert set(loops.compared({"autojit": Library(2.0), "jax": Library(8.0)}, "until", loops.KINDS[1], 3, 0.1)) == {"autojit"}
