"""Programs made of a network's layers that are neither products nor elementwise."""

from __future__ import annotations

from perf.workloads.registry import Arrays, Rng, normal, workload


def draw_cnn(rng: Rng, batch: int, side: int, first: int, second: int, classes: int) -> Arrays:
    last = ((side - 2) // 2 - 2) // 2
    parameters = [
        normal(rng, first, 1, 3, 3, scale=0.3),
        normal(rng, first, scale=0.1),
        normal(rng, second, first, 3, 3, scale=0.1),
        normal(rng, second, scale=0.1),
        normal(rng, second * last * last, classes, scale=0.05),
        normal(rng, classes, scale=0.05),
    ]
    x = normal(rng, batch, 1, side, side)
    return [*parameters, x, rng.integers(0, classes, batch)]


@workload("cnn", draw_cnn, wrt=6, target=1 / 1.5, tolerance=2e-5, batch=32, side=28, first=8, second=16, classes=10)
def cnn(m, W1, b1, W2, b2, W3, b3, x, y):
    """Convolutional network, 32 images of 28×28, 3×3 to 8 and 16 channels, pooled, cross entropy"""
    h = m.pool2(m.relu(m.conv2(x, W1, b1)))
    h = m.pool2(m.relu(m.conv2(h, W2, b2)))
    z = h.reshape(len(x), -1) @ W3 + b3
    z = z - m.amax(z, 1)
    return (m.log(m.exp(z).sum(1)) - m.pick(z, y)).mean()
