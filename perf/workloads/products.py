"""Programs that matrix products or memory rule."""

from __future__ import annotations

import math

import numpy as np

from perf.workloads.registry import Arrays, Rng, normal, scan_form, workload


@workload(
    "logreg",
    lambda rng, rows, features: [
        normal(rng, features),
        normal(rng, rows, features),
        (rng.random(rows) > 0.5).astype(np.float32),
    ],
    wrt=1,
    target=1.0,
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


@workload("mlp", draw_mlp, wrt=4, target=1.15, batch=64, inputs=784, hidden=256, classes=10)
def mlp(m, W1, b1, W2, b2, X, Y):
    """Perceptron 784-256-10, batch of 64, softmax cross entropy"""
    z = m.tanh(X @ W1 + b1) @ W2 + b2
    z = z - m.amax(z, 1)
    return (m.log(m.exp(z).sum(1)) - (z * Y).sum(1)).mean()


def draw_attn(rng: Rng, batch: int, length: int, width: int, inner: int, heads: int) -> Arrays:
    square = [normal(rng, width, width, scale=0.05) for _ in range(4)]
    outward = normal(rng, width, inner, scale=0.05)
    inward = normal(rng, inner, width, scale=0.05)
    return [*square, outward, inward, normal(rng, batch, length, width)]


@workload("attn", draw_attn, wrt=6, target=1.25, batch=8, length=64, width=128, inner=512, heads=4)
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
    "linreg",
    lambda rng, rows, features: [
        normal(rng, features),
        normal(rng, 1),
        normal(rng, rows, features),
        normal(rng, rows),
    ],
    wrt=2,
    target=1.1,
    rows=100_000,
    features=100,
)
def linreg(m, w, b, X, y):
    """Linear regression, 100,000 rows of 100 features"""
    r = X @ w + b - y
    return (r * r).mean()


def draw_power(rng: Rng, n: int, steps: int) -> Arrays:
    a = normal(rng, n, n, scale=1 / math.sqrt(n))
    return [(a + a.T) / 2, normal(rng, n)]


@workload("power", draw_power, wrt=2, target=1.1, n=2000, steps=20)
def power(m, A, v, *, steps):
    """Power iteration, 20 steps of a 2000×2000 matrix, Rayleigh's quotient"""
    for _ in range(steps):
        v = A @ v
        v = v / m.sqrt((v * v).sum())
    return (v * (A @ v)).sum()


@scan_form("power")
def power_scan(m, A, v, *, steps):
    def step(v, _):
        v = A @ v
        return v / m.sqrt((v * v).sum())

    v = m.scan(step, v, None, steps)
    return (v * (A @ v)).sum()
