"""Fit a nonlinear model to real data: NIST's Misra1a (dental research, monomolecular adsorption; public domain).

    python examples/curve_fit.py

Model y = b1 (1 - exp(-b2 x)), x a pressure, y a volume.  SciPy's BFGS gets value and gradient from one compiled call.
The result is compared with NIST's certified values (https://www.itl.nist.gov/div898/strd/nls/data/misra1a.shtml).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.optimize import minimize

import autojit as aj

X = np.array([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0])
Y = np.array([10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78])
CERTIFIED = np.array([2.3894212918e2, 5.5015643181e-4])
SCALE = np.array([1e2, 1e-4])                    # parameters of like size make a round valley


@aj.trace
def residual_sum(b, scale, x, y):
    """Sum of squared residuals, a 0-d float64 tensor."""
    b1, b2 = (b * scale).unbind()
    return ((y - b1 * (1 - (-b2 * x).exp())) ** 2).sum()


def fit(start: np.ndarray) -> tuple[np.ndarray, float, int]:
    """(b1, b2), residual sum and number of evaluations from a starting point."""
    objective = aj.value_and_grad(residual_sum)
    scale, x, y = aj.from_numpy(SCALE), aj.from_numpy(X), aj.from_numpy(Y)

    def value_and_jac(b: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = objective(aj.tensor(b), scale, x, y)
        return value.item(), grad.numpy()

    found = minimize(value_and_jac, start / SCALE, jac=True, method="BFGS", options={"gtol": 1e-9})
    return found.x * SCALE, float(found.fun), found.nfev


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the easy starting point only")
    quick = parser.parse_args().quick
    for start in ([[250.0, 5e-4]] if quick else [[500.0, 1e-4], [250.0, 5e-4]]):
        began = time.perf_counter()
        b, rss, calls = fit(np.array(start))
        digits = -np.log10(np.max(np.abs(b / CERTIFIED - 1)))
        print(f"from {start}: b1 = {b[0]:.6f}  b2 = {b[1]:.9e}  residual sum {rss:.9f}  "
              f"({calls} evaluations, {time.perf_counter() - began:.2f} s, {digits:.1f} digits as certified)")
        assert digits > 4, "not NIST's optimum"


if __name__ == "__main__":
    main()
