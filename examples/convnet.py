"""A convolutional network reads handwritten digits: 1797 real images of 8 x 8 pixels from scikit-learn, a fifth held back.

    python examples/convnet.py             # writes convnet.safetensors

Prints the number of parameters, the loss while it learns (a bar), the training steps a second, and how many of the 360
held-back images are read right: 98 % at least, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import time

from common import Bar, check_falling, digits, save

import autojit as aj
from autojit import nn
from autojit.nn import functional as F
from autojit.utils.data import DataLoader, TensorDataset

TARGET = 0.98


class ConvNet(nn.Module):
    """Scores (n, 10) of images (n, 1, 8, 8) with pixels from 0 to 16."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.classify = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(2 * width * 4, 10))

    def forward(self, x):
        return self.classify(self.features(x / 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small network, two epochs: the loss must fall, no target")
    parser.add_argument("--out", default="convnet.safetensors", help="where the parameters go")
    args = parser.parse_args()
    width, epochs = (8, 2) if args.quick else (32, 20)

    aj.manual_seed(0)
    images, labels, held_images, held_labels = digits()
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True, drop_last=True)
    model = ConvNet(width)
    optimizer = aj.optim.AdamW(model.parameters(), weight_decay=1e-2)
    scheduler = aj.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=epochs * len(loader))
    print(f"{sum([p.numel() for p in model.parameters()]):,} parameters, {len(images)} images to learn from, "
          f"{len(held_images)} held back")

    @aj.trace                                             # forward, backward and update: one compiled program
    def train_step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
        loss.backward()
        optimizer.step()
        return loss

    began, losses = time.perf_counter(), []
    bar = Bar(range(epochs), "epoch")
    for _ in bar:
        for x, y in loader:
            losses.append(train_step(x, y).item())
            if len(losses) == 1:
                aj.wait_compiled()                        # else NumPy answers until then, and is in the compiler's way
            scheduler.step()
        bar.text = f"loss {sum(losses[-len(loader):]) / len(loader):.4f}"
    spent = time.perf_counter() - began

    model.eval()
    with aj.no_grad():
        right = (model(held_images).argmax(1) == held_labels).float().mean().item()
    print(f"held-back images read right: {right:.2%}   {spent:.1f} s, {len(losses) / spent:.0f} steps a second")
    save(model, args.out)
    if args.quick:
        check_falling(losses)
    elif right < TARGET:
        raise SystemExit(f"fewer than {TARGET:.0%}")


if __name__ == "__main__":
    main()
