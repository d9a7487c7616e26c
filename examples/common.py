"""What the larger examples share: handwritten digits, a progress bar in plain text, saved parameters.

In: a seed, something to count through, a module.  Out: images and labels, the same things one by one with a bar on stderr, a
file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np
from sklearn.datasets import load_digits

import autojit as aj


def digits(seed: int = 0) -> tuple[aj.Tensor, aj.Tensor, aj.Tensor, aj.Tensor]:
    """Images (n, 1, 8, 8) of 0 to 16, float32, and labels (n,), int64: 1437 to learn from, then 360 that are held back."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images = aj.tensor(data.images[order][:, None], dtype=aj.float32)
    labels = aj.tensor(data.target[order], dtype=aj.int64)
    cut = len(order) * 4 // 5
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


class Bar:
    """A bar for a loop over something with a length: `for x in (bar := Bar(things)): ...; bar.text = "loss 0.1"`.

    On a terminal one line that is drawn again, ten times a second at most; elsewhere (a file, a CI log) ten lines in all.
    """

    def __init__(self, things: Iterable, name: str = "") -> None:
        self.things, self.name, self.text = things, name, ""

    def __iter__(self) -> Iterator:
        total, began, shown = len(self.things), time.perf_counter(), 0.0  # type: ignore[arg-type]
        terminal = sys.stderr.isatty()
        for k, thing in enumerate(self.things, 1):
            yield thing
            now = time.perf_counter()
            if k == total or (now - shown > 0.1 if terminal else 10 * k // total > 10 * (k - 1) // total):
                shown, spent = now, now - began
                left = f", {spent / k * (total - k):.0f} s to go" if k < total else ""
                line = f"{self.name} {k}/{total} [{'#' * (24 * k // total):24s}] {spent:.0f} s{left}  {self.text}"
                print("\r\x1b[K" + line if terminal else line, end="" if terminal and k < total else "\n", file=sys.stderr,
                      flush=True)


def save(model: aj.nn.Module, path: str) -> None:
    """Write a module's parameters and buffers as a safetensors file, if that library is installed."""
    try:
        aj.save(model.state_dict(), path)
        print(f"parameters: {path}")
    except ModuleNotFoundError as error:
        print(f"parameters are not saved: {error}")


def check_falling(losses: list[float]) -> None:
    """What a short run is for: the loss at its end must be well below that at its beginning."""
    part = max(1, len(losses) // 10)
    first, last = np.mean(losses[:part]), np.mean(losses[-part:])
    print(f"loss {first:.3f} at first, {last:.3f} at last")
    if not last < 0.9 * first:
        raise SystemExit("the loss does not fall")
