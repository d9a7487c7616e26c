"""The rows of the table beyond the programs themselves: other sizes, other dtypes.

What "size" means is said here for every program: the axis that grows with the user's data, or,
where several do, those that the work is proportional to. About a third and about three times the
work; one of the two is odd, mostly the smaller one, so that tails and the lengths that no vector
divides are measured too.
"""

from __future__ import annotations

from perf.workloads.registry import WORKLOADS, Workload

Sizes = dict[str, int]
PARTS = ("base", "sizes", "float64")
SIZES: dict[str, tuple[Sizes, Sizes]] = {
    "elem": ({"n": 333_333}, {"n": 3_000_001}),
    "bs": ({"n": 166_667}, {"n": 1_500_001}),
    "softmax_ce": ({"classes": 333}, {"rows": 12_288}),
    "gmm": ({"points": 1667}, {"points": 15_000}),
    "lnorm": ({"width": 341}, {"rows": 12_288}),
    "groupnorm": ({"side": 19}, {"batch": 48}),
    "gp": ({"n": 347}, {"n": 1040}),  # the work is n²
    "pair": ({"n": 577}, {"n": 1732}),
    "bnorm": ({"side": 17}, {"batch": 192}),
    "nbody": ({"n": 577}, {"n": 1732}),
    "spline": ({"points": 33_333}, {"points": 300_000}),
    "stencil": ({"side": 89}, {"side": 184}),
    "logreg": ({"rows": 33_333}, {"rows": 300_000}),
    "mlp": ({"batch": 21}, {"batch": 192}),
    "cnn": ({"batch": 11}, {"batch": 96}),
    "attn": ({"batch": 3}, {"batch": 24}),
    "linreg": ({"rows": 33_333}, {"rows": 300_000}),
    "power": ({"n": 1155}, {"n": 3464}),
    "rosen": ({"n": 3}, {"n": 31}),
    "rnn": ({"batch": 3}, {"batch": 24}),  # more steps would measure the peers' patience
    "lstm": ({"batch": 5}, {"batch": 48}),
    "ode": ({"steps": 67}, {"steps": 600}),
    "kalman": ({"steps": 33}, {"steps": 300}),
}
FLOAT64 = ("elem", "pair", "gmm", "ode")


def rows(names: list[str], parts: tuple[str, ...]) -> list[Workload]:
    """The rows of these programs, all of one part before the next."""
    found: list[Workload] = []
    if "base" in parts:
        found += [WORKLOADS[n] for n in names]
    if "float64" in parts:
        found += [WORKLOADS[n].variant("float64", "float64") for n in names if n in FLOAT64]
    if "sizes" in parts:
        found += [WORKLOADS[n].variant("sizes", **s) for n in names for s in SIZES.get(n, ())]
    return found


def find(row: str) -> Workload:
    """The row by its name, as in `elem n=333333`. Raises KeyError if there is none."""
    return {w.name: w for w in rows([row.split()[0]], PARTS)}[row]
