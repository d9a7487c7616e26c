"""Many small operations, one after the other: what is between the kernels decides."""

from __future__ import annotations

import numpy as np

from perf.workloads.registry import Arrays, Rng, normal, scan_form, workload


@workload(
    "rosen",
    lambda rng, n: [normal(rng, n)],
    wrt=1,
    target=2,
    bound_target=1.0,
    n=10,
)
def rosen(m, x):
    """Rosenbrock's function of ten variables"""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@workload(
    "rnn",
    lambda rng, steps, batch, inputs, hidden: [
        normal(rng, hidden, hidden, scale=0.1),
        normal(rng, inputs, hidden, scale=0.1),
        normal(rng, hidden, scale=0.1),
        normal(rng, steps, batch, inputs),
    ],
    wrt=3,
    target=1.5,
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


@workload(
    "ode",
    lambda rng, steps: [np.array([1.1, 0.4, 0.4, 0.1], np.float32)],
    wrt=1,
    bound_target=1.0,
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


def draw_lstm(rng: Rng, steps: int, batch: int, inputs: int, hidden: int) -> Arrays:
    return [
        normal(rng, hidden, 4 * hidden, scale=0.08),
        normal(rng, inputs, 4 * hidden, scale=0.08),
        normal(rng, 4 * hidden, scale=0.08),
        normal(rng, steps, batch, inputs),
    ]


@workload("lstm", draw_lstm, wrt=3, target=1.5, steps=32, batch=16, inputs=64, hidden=128)
def lstm(m, W, U, b, X, *, steps, hidden):
    """LSTM, 32 unrolled steps, 128 units, batch of 16"""
    h = (X[0] @ U)[:, :hidden] * 0
    c = h
    for t in range(steps):
        z = h @ W + X[t] @ U + b
        i, f = m.sigmoid(z[:, :hidden]), m.sigmoid(z[:, hidden : 2 * hidden])
        g, o = m.tanh(z[:, 2 * hidden : 3 * hidden]), m.sigmoid(z[:, 3 * hidden :])
        c = f * c + i * g
        h = o * m.tanh(c)
    return (h * h).sum()


@scan_form("lstm")
def lstm_scan(m, W, U, b, X, *, steps, hidden):
    def step(state, x):
        h, c = state
        z = h @ W + x @ U + b
        i, f = m.sigmoid(z[:, :hidden]), m.sigmoid(z[:, hidden : 2 * hidden])
        g, o = m.tanh(z[:, 2 * hidden : 3 * hidden]), m.sigmoid(z[:, 3 * hidden :])
        c = f * c + i * g
        return o * m.tanh(c), c

    h = (X[0] @ U)[:, :hidden] * 0
    h, _ = m.scan(step, (h, h), X)
    return (h * h).sum()


def draw_kalman(rng: Rng, steps: int) -> Arrays:
    turn = np.eye(4) + 0.1 * np.eye(4, k=2) - 0.02 * np.eye(4, k=-2)
    see = np.eye(2, 4)
    noise = [np.full(4, -3.0), np.full(2, -1.0)]
    states = np.cumsum(rng.standard_normal((steps, 2)) * 0.1, 0) + rng.standard_normal((steps, 2)) * 0.5
    return [np.asarray(a, np.float32) for a in (turn, *noise, see, np.eye(4), states)]


def filtered(m, F, q, r, H, eye, state, z):
    """One step of a Kalman filter: the next state, and what the observation z adds to -2 log p."""
    x, P, loss = state
    x = F @ x
    P = F @ P @ m.permute(F, (1, 0)) + m.exp(q)[:, None] * eye
    PH = P @ m.permute(H, (1, 0))
    S = H @ PH
    noise = m.exp(r)
    a, b, d = S[0, 0] + noise[0], S[0, 1], S[1, 1] + noise[1]
    det = a * d - b * b
    e = z - H @ x
    u, v = (d * e[0] - b * e[1]) / det, (a * e[1] - b * e[0]) / det
    x = x + PH[:, 0] * u + PH[:, 1] * v
    left, right = (PH[:, 0] * d - PH[:, 1] * b) / det, (PH[:, 1] * a - PH[:, 0] * b) / det
    P = P - left[:, None] * PH[None, :, 0] - right[:, None] * PH[None, :, 1]
    return x, P, loss + m.log(det) + e[0] * u + e[1] * v


@workload(
    "kalman",
    draw_kalman,
    wrt=3,
    target=2,
    tolerance=1e-4,
    slow=("jax", "torch.compile", "torch.compile-joint"),
    steps=100,
)
def kalman(m, F, q, r, H, eye, Z, *, steps):
    """Kalman filter, 4 states, 2 observed, 100 unrolled steps, likelihood by its noises"""
    state = 0 * q, eye + 0 * F, 0 * q[0]
    for t in range(steps):
        state = filtered(m, F, q, r, H, eye, state, Z[t])
    return state[2]


@scan_form("kalman")
def kalman_scan(m, F, q, r, H, eye, Z, *, steps):
    state = 0 * q, eye + 0 * F, 0 * q[0]
    return m.scan(lambda s, z: filtered(m, F, q, r, H, eye, s, z), state, Z)[2]
