"""The script for the first run on a GPU, tried on the stand-in driver: parts, failures, budgets, the table."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

from perf import gpu, gpu_parts
from perf.gpu_rows import BY_NAME, QUICK, ROWS, digest, judged, least_bytes
from perf.gpu_systems import SYSTEMS
from perf.gpu_worker import Worker
from perf.workloads import WORKLOADS

STANDIN = gpu_parts.Asked(standin=True, quick=True)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("AUTOJIT_CUDA", "standin")         # workers in this process set it: it ends with the test


def test_every_row_is_a_program_with_something_asked_of_it():
    assert set(QUICK) < set(BY_NAME)
    for row in ROWS:
        assert row.base in WORKLOADS and row.over and row.tolerance < 1
        assert set(row.over) <= {"torch", "torch.compile"}
        sizes = row.workload(False).sizes
        assert set(row.sizes) <= set(WORKLOADS[row.base].sizes) and sizes != row.workload(True).sizes
    elements = {"elem": 1 << 26, "lnorm": 1 << 26, "softmax CE": 67_108_000, "Black-Scholes": 1 << 26}
    for name, count in elements.items():
        product = np.prod([n for k, n in BY_NAME[name].sizes.items()])
        assert product == count


def test_the_bytes_that_must_move():
    arrays = [np.zeros((3, 4), np.float32), np.zeros(5, np.int64)]
    assert least_bytes(arrays, 1, 4) == 48 + 40 + 48
    assert least_bytes(arrays, 1, 2) == 24 + 40 + 24


def test_large_results_are_compared_by_a_digest():
    a = np.arange(100_000, dtype=np.float32)
    few, total = digest([a])
    assert 20_000 <= few.size <= 25_000 and total[0] == a.astype("f8").sum()
    b = a.copy()
    b[3] += 100.0
    assert digest([b])[1][0] != total[0]


def test_the_best_of_torch_compiles_ways_counts():
    row = BY_NAME["elem"]
    cells = {"autojit": {"us": 100.0, "bytes": 2.0e8}, "torch": {"us": 900.0}, "torch.compile": {"us": 150.0},
             "torch.compile-joint-graph": {"us": 105.0}, "jax": {"note": "no GPU"}}
    found = judged(row, cells, copy=2100.0)
    assert found["ratios"]["torch.compile"] == {"ratio": 1.05, "by": "torch.compile-joint-graph", "target": 1.0}
    assert found["ratios"]["torch"]["ratio"] == 9.0 and "jax" not in found["ratios"]
    assert found["share"] == pytest.approx(2000 / 2100) and found["pass"] is True
    assert judged(row, cells, copy=2500.0)["pass"] is False                    # 80 % of the bandwidth
    cells["torch.compile-joint-graph"]["us"] = 99.0
    assert judged(row, cells, copy=2100.0)["pass"] is False
    assert judged(row, {"autojit": {"note": "wrong"}}, 2000.0)["pass"] is None


def test_a_part_that_hangs_or_dies_is_a_row(monkeypatch):
    clock = gpu.Clock(100.0)
    monkeypatch.setitem(gpu.PARTS, "list", (gpu.PARTS["list"][0], 0.05))
    assert [row[3] for row in gpu.run_part("list", STANDIN, clock)] == [False]
    monkeypatch.setitem(gpu.PARTS, "nonsense", (None, 30.0))
    (row,) = gpu.run_part("nonsense", STANDIN, clock)
    assert row[0] == "nonsense" and "process ended with 1: KeyError" in row[1] and row[3] is False


def test_rows_go_through_a_line_of_text():
    assert gpu_parts.read_row("ROW " + json.dumps(["a", "b", "", None])) == ("a", "b", "", None)
    assert gpu_parts.read_row("something that a library printed") is None


def test_no_time_left_is_told(monkeypatch):
    monkeypatch.setattr(gpu, "workers_for", lambda asked, clock: {})
    found = gpu.run_programs([BY_NAME["elem"]], STANDIN, gpu.Clock(0.0))
    assert found["cells"] == {"elem": {"all": {"note": "no time left"}}}


def test_the_table():
    cells = {"autojit": {"us": 100.0, "bytes": 2.0e8}, "torch.compile": {"us": 150.0}, "jax": {"note": "a | b\nc"}}
    record = {"card": "A card", "time": "now", "wall_s": 12.0, "notes": ["a note"],
              "parts": {"device": [("name", "A card", "", None)], "random": [("rand", "3 ulp", "equal bits", False)]},
              "programs": {"copy": 3000.0, "cells": {"elem": cells, "pair": {"all": {"note": "no time left"}}},
                           "judged": {"elem": judged(BY_NAME["elem"], cells, 3000.0)}}}
    text = gpu.markdown(record)
    assert "# On a GPU: A card" in text and "| rand | 3 ulp | equal bits | **miss** |" in text
    assert "| elem | 100 | 150 | (a / b c) |  | 67% | torch.compile 1.50 (target 1) | **miss** |" in text
    assert "| pair |  |  |  | (no time left) |  |  |  |" in text
    assert gpu.card_of(record["parts"], None) == "A card" and gpu.card_of({}, None) == "unknown"


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--only", "nothing"])
    assert "no nothing; there are versions" in capsys.readouterr().err


def test_peers_are_left_out_where_they_see_no_gpu():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert SYSTEMS["torch.compile-joint-graph"].absent(False) == "this torch sees no GPU"


@pytest.mark.parametrize("system", ["torch", "jax"])
@pytest.mark.parametrize("name", ["elem", "softmax CE", "attn, large, bfloat16", "attn, large, TF32"])
def test_a_worker_prepares_times_and_drops(tmp_path, system, name):
    pytest.importorskip(system)
    worker, path = Worker(system, True), str(tmp_path / "r.npz")
    Worker("torch" if find_spec("torch") else "jax", True).do_reference(name, path)
    made = worker.do_prepare(name, path)
    assert made["error"] <= BY_NAME[name].tolerance and made["bytes"] > 0
    assert worker.do_time(0.01)["us"] > 0
    worker.do_drop()
    assert worker.made is None


@pytest.mark.proof
def test_the_whole_script_on_the_standin(capsys):
    gpu.main(["--standin", "--quick"])
    said = capsys.readouterr().out
    table = said[said.index("# On a GPU: "):]
    for name in gpu.PARTS:
        assert f"## {name}\n" in table
    assert "**miss**" not in table, table
    for name in QUICK:
        assert f"| {name} | " in table
