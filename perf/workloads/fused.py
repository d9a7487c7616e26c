"""Elementwise work and sums: what fusion decides."""

from __future__ import annotations

import numpy as np

from perf.workloads.registry import Arrays, Rng, normal, uniform, workload


@workload(
    "elem",
    lambda rng, n: [normal(rng, n)],
    wrt=1,
    target=1.3,
    n=1_000_000,
)
def elem(m, x):
    """Σ exp(-x²)·sin x + x over a million elements"""
    return (m.exp(-x * x) * m.sin(x) + x).sum()


@workload("pair", lambda rng, n: [normal(rng, n, 3)], wrt=1, target=8, n=1000)
def pair(m, x):
    """Σij 1/√(|xi - xj|² + 0.01) of a thousand points in space"""
    d = x[:, None, :] - x[None, :, :]
    return (1.0 / m.sqrt((d * d).sum(-1) + 0.01)).sum()


@workload(
    "lnorm",
    lambda rng, rows, width: [normal(rng, width), normal(rng, width), normal(rng, rows, width)],
    wrt=3,
    target=3,
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
    target=1.4,
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
    target=1.5,
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
    target=5,
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
    target=1.8,
    rows=4096,
    classes=1000,
)
def softmax_ce(m, z, y):
    """Softmax cross entropy with labels, 4096 rows of 1000 classes"""
    z = z - m.amax(z, 1)
    return (m.log(m.exp(z).sum(1)) - m.pick(z, y)).mean()


@workload(
    "groupnorm",
    lambda rng, batch, channels, side, groups: [
        normal(rng, batch, channels, side, side),
        normal(rng, channels),
        normal(rng, channels),
    ],
    wrt=3,
    target=3,
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


@workload(
    "bnorm",
    lambda rng, batch, channels, side: [
        normal(rng, batch, channels, side, side),
        normal(rng, channels),
        normal(rng, channels),
    ],
    wrt=3,
    target=2,
    batch=64,
    channels=32,
    side=28,
)
def bnorm(m, x, g, b):
    """Batch norm and gelu of 64×32×28×28"""
    channels = x.shape[1]
    mu = x.mean((0, 2, 3)).reshape(1, channels, 1, 1)
    v = ((x - mu) ** 2).mean((0, 2, 3)).reshape(1, channels, 1, 1)
    h = (x - mu) / m.sqrt(v + 1e-5) * g.reshape(1, channels, 1, 1) + b.reshape(1, channels, 1, 1)
    h = 0.5 * h * (1 + m.erf(h * 0.70710678))
    return (h * h).mean()


@workload(
    "nbody",
    lambda rng, n: [normal(rng, n, 3), normal(rng, n, 3, scale=0.1), uniform(rng, n, 0.5, 1)],
    wrt=3,
    target=5,
    n=1000,
)
def nbody(m, x, v, mass):
    """One leapfrog step of gravity, a thousand bodies, Σ|x'|² + Σ|v'|²"""
    d = x[None, :, :] - x[:, None, :]
    r2 = (d * d).sum(-1) + 0.01
    pull = mass[None, :] / (r2 * m.sqrt(r2))
    v = v + 0.001 * (d * pull[:, :, None]).sum(1)
    x = x + 0.001 * v
    return (x * x).sum() + (v * v).sum()


def draw_spline(rng: Rng, points: int, knots: int) -> Arrays:
    x = uniform(rng, points, 0, 1)
    noise = normal(rng, points, scale=0.1)
    noise[rng.integers(0, points, points // 50)] += 5  # what makes the robust loss worth its name
    y = np.sin(12 * x).astype(np.float32) + noise
    places = np.sort(rng.random(knots)).astype(np.float32)
    return [normal(rng, knots), places, x, y]


@workload("spline", draw_spline, wrt=2, target=2, points=100_000, knots=64)
def spline(m, c, t, x, y):
    """Robust fit of a cubic spline: 100,000 points, 64 knots, Huber's loss, free knots"""
    u = m.maximum(x[:, None] - t[None, :], 0 * t[None, :])
    r = m.abs((u * u * u * c[None, :]).sum(1) - y)
    near = m.minimum(r, 0 * r + 0.5)
    return (near * (r - 0.5 * near)).mean()


@workload(
    "stencil",
    lambda rng, side: [normal(rng, side, side, side), uniform(rng, 1, 0.1, 0.05)],
    wrt=2,
    target=1.5,
    side=128,
)
def stencil(m, u, k):
    """One step of a reaction-diffusion equation on 128³ cells, six neighbours"""
    c = u[1:-1, 1:-1, 1:-1]
    around = (
        u[2:, 1:-1, 1:-1] + u[:-2, 1:-1, 1:-1] + u[1:-1, 2:, 1:-1] + u[1:-1, :-2, 1:-1] + u[1:-1, 1:-1, 2:] + u[1:-1, 1:-1, :-2]
    )
    c = c + k * (around - 6 * c) + 0.01 * c * (1 - c)
    return (c * c).mean()
