"""The benchmark programs: one registered function each, with its data, sizes and target.

A program is written once for every system: `program(m, *arrays)` uses operators and the methods
that NumPy-like libraries share (`sum(dim)`, `mean(dim)`, `reshape`), and the namespace `m` for the
rest: `exp log log1p sin tanh sigmoid erf sqrt abs maximum`, `amax(x, dim)` (keeps the axis),
`permute(x, order)`, `pick(x, column)` (`x[i, column[i]]`) and, in second forms written for it,
`scan(step, carry, xs, length)` (gives the last carry). Data are float32 (labels int64), drawn from
a fixed seed in a fixed order. Nothing here knows a system or measures time.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = list[np.ndarray]
WORKLOADS: dict[str, Workload] = {}


@dataclass
class Workload:
    """A program, how its data are drawn, and what is asked of it.

    wrt: how many leading arrays are differentiated. targets: system of ours → what the best peer's
    time is divided by, at least. tolerance: see `measure.worst_error`. slow: systems that take
    minutes to compile it, left out by `--quick`.
    """

    name: str
    program: Callable[..., Any]
    draw: Callable[..., Arrays]
    wrt: int
    targets: dict[str, float]
    sizes: dict[str, int]
    tolerance: float
    slow: tuple[str, ...] = ()
    scan: Callable[..., Any] | None = None

    @property
    def title(self) -> str:
        return (self.program.__doc__ or self.name).strip().splitlines()[0]

    def arrays(self, **sizes: int) -> Arrays:
        return self.draw(np.random.default_rng(0), **{**self.sizes, **sizes})

    def function(self, m: Any, form: str = "plain", **sizes: int) -> Callable[..., Any]:
        """The program as a function of its arrays; sizes it names as keywords are filled in."""
        program = self.scan if form == "scan" else self.program
        if program is None:
            raise ValueError(f"workload {self.name} has no form {form!r}")
        known = {**self.sizes, **sizes}
        keywords = inspect.getfullargspec(program).kwonlyargs
        fixed = {word: known[word] for word in keywords}
        return lambda *arrays: program(m, *arrays, **fixed)


def workload(
    name: str,
    draw: Callable[..., Arrays],
    *,
    wrt: int,
    target: float,
    eager_target: float | None = None,
    tolerance: float = 1e-5,
    slow: tuple[str, ...] = (),
    **sizes: int,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated program under `name`."""

    def register(program: Callable[..., Any]) -> Callable[..., Any]:
        targets = {"autojit": target}
        if eager_target is not None:
            targets["autojit-eager"] = eager_target
        WORKLOADS[name] = Workload(name, program, draw, wrt, targets, sizes, tolerance, slow)
        return program

    return register


def scan_form(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated program as the second form, with `m.scan`, of a looping workload."""

    def register(program: Callable[..., Any]) -> Callable[..., Any]:
        WORKLOADS[name].scan = program
        return program

    return register


Rng = np.random.Generator


def normal(rng: Rng, *shape: int, scale: float = 1.0) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32) * np.float32(scale)


def uniform(rng: Rng, n: int, low: float, width: float) -> np.ndarray:
    return (rng.random(n) * width + low).astype(np.float32)


@workload(
    "elem",
    lambda rng, n: [normal(rng, n)],
    wrt=1,
    target=2.5,
    eager_target=4,
    n=1_000_000,
)
def elem(m, x):
    """Σ exp(-x²)·sin x + x over a million elements"""
    return (m.exp(-x * x) * m.sin(x) + x).sum()


@workload(
    "rosen",
    lambda rng, n: [normal(rng, n)],
    wrt=1,
    target=2,
    eager_target=0.5,
    n=10,
)
def rosen(m, x):
    """Rosenbrock's function of ten variables"""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@workload("pair", lambda rng, n: [normal(rng, n, 3)], wrt=1, target=12, n=1000)
def pair(m, x):
    """Σij 1/√(|xi - xj|² + 0.01) of a thousand points in space"""
    d = x[:, None, :] - x[None, :, :]
    return (1.0 / m.sqrt((d * d).sum(-1) + 0.01)).sum()


@workload(
    "logreg",
    lambda rng, rows, features: [
        normal(rng, features),
        normal(rng, rows, features),
        (rng.random(rows) > 0.5).astype(np.float32),
    ],
    wrt=1,
    target=1.5,
    tolerance=5e-5,  # small sums of large terms of both signs: float32 peers are off by 1.4e-5
    rows=100_000,
    features=50,
)
def logreg(m, w, X, y):
    """Logistic regression, 100,000 rows of 50 features, stable loss"""
    z = X @ w
    return (m.log1p(m.exp(-m.abs(z))) + m.maximum(z, 0 * z) - z * y).mean()


def draw_mlp(rng: Rng, batch: int, inputs: int, hidden: int, classes: int) -> Arrays:
    weights = [
        normal(rng, inputs, hidden, scale=0.05),
        normal(rng, hidden, scale=0.05),
        normal(rng, hidden, classes, scale=0.05),
        normal(rng, classes, scale=0.05),
    ]
    x = normal(rng, batch, inputs)
    return [*weights, x, np.eye(classes, dtype=np.float32)[rng.integers(0, classes, batch)]]


@workload("mlp", draw_mlp, wrt=4, target=1.0, batch=64, inputs=784, hidden=256, classes=10)
def mlp(m, W1, b1, W2, b2, X, Y):
    """Perceptron 784-256-10, batch of 64, softmax cross entropy"""
    z = m.tanh(X @ W1 + b1) @ W2 + b2
    z = z - m.amax(z, 1)
    return (m.log(m.exp(z).sum(1)) - (z * Y).sum(1)).mean()


@workload(
    "rnn",
    lambda rng, steps, batch, inputs, hidden: [
        normal(rng, hidden, hidden, scale=0.1),
        normal(rng, inputs, hidden, scale=0.1),
        normal(rng, hidden, scale=0.1),
        normal(rng, steps, batch, inputs),
    ],
    wrt=3,
    target=1.2,
    steps=50,
    batch=8,
    inputs=16,
    hidden=32,
)
def rnn(m, W, U, b, X, *, steps):
    """Recurrent net, 50 unrolled tanh steps, 32 units, batch of 8"""
    h = X[0] @ U * 0
    for t in range(steps):
        h = m.tanh(h @ W + X[t] @ U + b)
    return (h * h).sum()


@scan_form("rnn")
def rnn_scan(m, W, U, b, X):
    h = m.scan(lambda h, x: m.tanh(h @ W + x @ U + b), X[0] @ U * 0, X)
    return (h * h).sum()


def draw_attn(rng: Rng, batch: int, length: int, width: int, inner: int, heads: int) -> Arrays:
    square = [normal(rng, width, width, scale=0.05) for _ in range(4)]
    outward = normal(rng, width, inner, scale=0.05)
    inward = normal(rng, inner, width, scale=0.05)
    return [*square, outward, inward, normal(rng, batch, length, width)]


@workload("attn", draw_attn, wrt=6, target=0.8, batch=8, length=64, width=128, inner=512, heads=4)
def attn(m, Wq, Wk, Wv, Wo, W1, W2, x, *, heads):
    """Transformer block: 8 sequences of 64, width 128, 4 heads, gelu"""
    batch, length, width = x.shape
    each = width // heads

    def standardised(x):
        mu = x.mean(-1)[..., None]
        v = ((x - mu) ** 2).mean(-1)[..., None]
        return (x - mu) / m.sqrt(v + 1e-5)

    def split(t):
        return m.permute(t.reshape(batch, length, heads, each), (0, 2, 1, 3))

    h = standardised(x)
    q, k, v = split(h @ Wq), split(h @ Wk), split(h @ Wv)
    s = q @ m.permute(k, (0, 1, 3, 2)) * (1 / math.sqrt(each))
    e = m.exp(s - m.amax(s, -1))
    p = e / e.sum(-1)[..., None]
    x = x + m.permute(p @ v, (0, 2, 1, 3)).reshape(batch, length, width) @ Wo
    h = standardised(x) @ W1
    h = 0.5 * h * (1 + m.tanh(0.7978845608 * (h + 0.044715 * h * h * h)))
    x = x + h @ W2
    return (x * x).mean()


@workload(
    "lnorm",
    lambda rng, rows, width: [normal(rng, width), normal(rng, width), normal(rng, rows, width)],
    wrt=3,
    target=4,
    rows=4096,
    width=1024,
)
def lnorm(m, g, b, x):
    """Σ tanh(layernorm(x)·g + b)·x, 4096 rows of 1024"""
    mu = x.mean(-1)[:, None]
    v = ((x - mu) ** 2).mean(-1)[:, None]
    return (m.tanh((x - mu) / m.sqrt(v + 1e-5) * g + b) * x).sum()


@workload(
    "bs",
    lambda rng, n: [
        uniform(rng, n, 75, 50),
        uniform(rng, n, 0.1, 0.4),
        uniform(rng, n, 75, 50),
        uniform(rng, n, 0.1, 1),
    ],
    wrt=2,
    target=2,
    n=500_000,
)
def bs(m, S, sigma, K, T):
    """Black-Scholes prices of 500,000 calls, delta and vega as gradients"""
    spread = sigma * m.sqrt(T)
    d1 = (m.log(S / K) + (0.02 + 0.5 * sigma * sigma) * T) / spread
    d2 = d1 - spread

    def cdf(t):
        return 0.5 * (1 + m.erf(t * 0.70710678))

    return (S * cdf(d1) - K * m.exp(-0.02 * T) * cdf(d2)).sum()


@workload(
    "gmm",
    lambda rng, points, parts, dims: [
        normal(rng, parts, dims),
        normal(rng, parts, dims, scale=0.1),
        normal(rng, parts),
        normal(rng, points, dims),
    ],
    wrt=3,
    target=2,
    points=5000,
    parts=20,
    dims=16,
)
def gmm(m, mu, ls, lw, X):
    """Gaussian mixture log likelihood, 5000 points, 20 parts, 16 dims"""
    d = (X[:, None, :] - mu[None]) * m.exp(-ls)[None]
    q = -0.5 * (d * d).sum(-1) - ls.sum(-1)[None] + lw[None]
    mx = m.amax(q, 1)
    return (m.log(m.exp(q - mx).sum(1)) + mx[:, 0]).sum()


@workload(
    "gp",
    lambda rng, n, dims: [
        normal(rng, dims, scale=0.1) + 1,
        normal(rng, n, dims),
        normal(rng, n, dims),
    ],
    wrt=1,
    target=4,
    n=600,
    dims=8,
)
def gp(m, scale, A, B):
    """Sum of a squared-exponential kernel matrix 600×600, 8 length scales"""
    d = (A[:, None, :] - B[None, :, :]) / scale
    return m.exp(-0.5 * (d * d).sum(-1)).sum()


@workload(
    "softmax_ce",
    lambda rng, rows, classes: [normal(rng, rows, classes), rng.integers(0, classes, rows)],
    wrt=1,
    target=2.5,
    rows=4096,
    classes=1000,
)
def softmax_ce(m, z, y):
    """Softmax cross entropy with labels, 4096 rows of 1000 classes"""
    z = z - m.amax(z, 1)
    return (m.log(m.exp(z).sum(1)) - m.pick(z, y)).mean()


@workload(
    "ode",
    lambda rng, steps: [np.array([1.1, 0.4, 0.4, 0.1], np.float32)],
    wrt=1,
    target=10,
    slow=("jax", "torch.compile", "torch.compile-joint"),
    steps=200,
)
def ode(m, p, *, steps):
    """Lotka-Volterra, 200 unrolled Euler steps of scalars"""
    a, b, c, d = p[0], p[1], p[2], p[3]
    x, y = 1.0 + 0 * a, 0.5 + 0 * a
    for _ in range(steps):
        x, y = x + 0.01 * (a * x - b * x * y), y + 0.01 * (-c * y + d * x * y)
    return x * x + y * y


@scan_form("ode")
def ode_scan(m, p, *, steps):
    a, b, c, d = p[0], p[1], p[2], p[3]

    def step(state, _):
        x, y = state
        return x + 0.01 * (a * x - b * x * y), y + 0.01 * (-c * y + d * x * y)

    x, y = m.scan(step, (1.0 + 0 * a, 0.5 + 0 * a), None, steps)
    return x * x + y * y


@workload(
    "groupnorm",
    lambda rng, batch, channels, side, groups: [
        normal(rng, batch, channels, side, side),
        normal(rng, channels),
        normal(rng, channels),
    ],
    wrt=3,
    target=2,
    batch=16,
    channels=64,
    side=32,
    groups=8,
)
def groupnorm(m, x, g, b, *, groups):
    """Group norm (8 groups) and swish of 16×64×32×32"""
    batch, channels, height, width = x.shape
    h = x.reshape(batch, groups, channels // groups * height * width)
    mu = h.mean(-1)[..., None]
    v = ((h - mu) ** 2).mean(-1)[..., None]
    h = ((h - mu) / m.sqrt(v + 1e-5)).reshape(batch, channels, height, width)
    h = h * g.reshape(1, channels, 1, 1) + b.reshape(1, channels, 1, 1)
    return (h * m.sigmoid(h)).mean()
