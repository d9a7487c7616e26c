"""Figures of rivals measured elsewhere, for when one cannot run here.

Microseconds for value and gradient in float32 at the workloads' own sizes, beside torch eager in
the same quiet run: Zen 5, 2 cores, 1 MB of L2 each, the least of six interleaved rounds. Only the
ratio to torch eager is used: it, times torch eager's time in the run at hand, stands in for the
rival, marked `~`.
"""

from __future__ import annotations

TORCH = {
    "elem": 3655,
    "pair": 10301,
    "softmax_ce": 11370,
    "bs": 5980,
    "gp": 6530,
    "logreg": 3468,
    "rosen": 64,
    "ode": 14542,
    "rnn": 1753,
    "attn": 5995,
}
RIVALS: dict[str, dict[str, float]] = {
    "elem": {"heyoka": 541, "drjit": 545},
    "pair": {"halide": 1569, "drjit": 2684},
    "softmax_ce": {"drjit": 6419},
    "bs": {"iree": 1205},
    "gp": {"drjit": 2092},
    "logreg": {"pytensor": 738, "iree": 921},
    "rosen": {"casadi": 0.31, "heyoka": 1.5},
    "ode": {"casadi": 2.2, "heyoka": 3.5, "drjit": 11.7},
    "rnn": {"iree": 106},  # 106 to 157
    "attn": {"iree": 4282},
}


def share_of_torch(workload: str, rival: str) -> float | None:
    """The rival's time as a share of torch eager's, or None where nothing was measured."""
    us = RIVALS.get(workload, {}).get(rival)
    return None if us is None else us / TORCH[workload]
