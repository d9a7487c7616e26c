"""Train a network on scikit-learn's handwritten digits: 1797 real images of 8 x 8 pixels, ten classes.

    python examples/digits.py              # about ten seconds; writes digits.png

The training step, optimiser included, is one traced function: its forward pass, its gradient and its update become a few
compiled kernels that run in one native call.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from sklearn.datasets import load_digits

import autojit as aj
from autojit.nn import functional as F


def load(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, held-back images and labels (a fifth of them)."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images = (data.data[order] / 16).astype(np.float32)
    labels = data.target[order].astype(np.int64)
    cut = len(order) * 4 // 5
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


def parameters(sizes: list[int]) -> list[aj.Tensor]:
    """Weights (He's initialisation) and biases of a multilayer perceptron."""
    out = []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        out.append((aj.randn(fan_in, fan_out) * (2 / fan_in) ** 0.5).requires_grad_())
        out.append(aj.zeros(fan_out, requires_grad=True))
    return out


def network(params: list[aj.Tensor], x: aj.Tensor) -> aj.Tensor:
    """Class scores (batch, 10) of images (batch, 64)."""
    *hidden, w, b = params
    for v, c in zip(hidden[::2], hidden[1::2]):
        x = (x @ v + c).relu()
    return x @ w + b


def progress(done: int, total: int, text: str) -> None:
    if sys.stderr.isatty():
        bar = "#" * (30 * done // total)
        print(f"\r[{bar:30s}] {text}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def train(epochs: int, batch: int = 64, seed: int = 0) -> tuple[list[float], float, float, float]:
    """Loss of each step, accuracy on held-back digits, seconds until the first compiled step, steps a second after it."""
    aj.manual_seed(seed)
    images, labels, test_images, test_labels = load(seed)
    params = parameters([64, 128, 10])
    optimiser = aj.optim.SGD(params, lr=0.1, momentum=0.9)

    @aj.trace
    def step(x, y):
        loss = F.cross_entropy(network(params, x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    rng, losses = np.random.default_rng(seed), []
    per_epoch = len(labels) // batch
    began = time.perf_counter()
    step(aj.from_numpy(images[:batch]), aj.from_numpy(labels[:batch]))
    aj.wait_compiled()
    compiling = time.perf_counter() - began
    began = time.perf_counter()
    for epoch in range(epochs):
        order = rng.permutation(len(labels))
        for k in range(per_epoch):
            at = order[k * batch:(k + 1) * batch]
            losses.append(step(aj.from_numpy(images[at]), aj.from_numpy(labels[at])).item())
        progress(epoch + 1, epochs, f"epoch {epoch + 1}/{epochs}  loss {np.mean(losses[-per_epoch:]):.4f}")
    rate = len(losses) / (time.perf_counter() - began)
    with aj.no_grad():
        guess = network(params, aj.from_numpy(test_images)).argmax(1)
        accuracy = (guess == aj.from_numpy(test_labels)).float().mean().item()
    return losses, accuracy, compiling, rate


def picture(losses: list[float], accuracy: float, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.semilogy(losses, lw=0.6, alpha=0.5, label="each step")
    smooth = np.convolve(losses, np.ones(22) / 22, "valid")
    axes.semilogy(np.arange(len(smooth)) + 11, smooth, label="mean of 22 steps (an epoch)")
    axes.set(xlabel="step", ylabel="cross entropy (nats)", title=f"Digits: {accuracy:.1%} of held-back images right")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--out", default="digits.png", help="where the loss curve goes")
    args = parser.parse_args()
    losses, accuracy, compiling, rate = train(12 if args.quick else 40)
    picture(losses, accuracy, args.out)
    print(f"held-back digits right: {accuracy:.2%}   first step and compiling: {compiling:.2f} s   "
          f"then {rate:.0f} steps a second   loss curve: {args.out}")
    if accuracy < 0.96:
        raise SystemExit("accuracy is below 96 %")


if __name__ == "__main__":
    main()
