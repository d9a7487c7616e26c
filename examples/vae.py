"""A variational autoencoder learns how digits are written: it draws new ones, and says how probable unseen ones are.

    python examples/vae.py                 # writes vae.png and vae.safetensors

Digits are scikit-learn's, 8 x 8 pixels of 17 levels, a fifth of them held back.  Prints the mean of -log p of held-back images
in nats an image and in bits a pixel, smaller being better: a bound from above for the autoencoder (importance weighted), the
exact value for pixels that know nothing of each other and for a Gaussian with full covariance.  The Gaussian sees levels with
uniform noise of one level added, in learning and in judging; a model of levels is a density that is flat within each, so all
three are densities of the same noisy images: 2.060, 2.430 and 2.951 bits.  If the bound does not beat both, the exit code is 1.
"""

from __future__ import annotations

import argparse
import math
import time

from common import Bar, check_falling, digits, save

import autojit as aj
from autojit import nn
from autojit.nn import functional as F
from autojit.utils.data import DataLoader, TensorDataset

PIXELS, LEVELS = 64, 17


class VAE(nn.Module):
    """Images (n, 64) with levels 0 to 16 to a few hidden numbers each, and back to how probable each level of each pixel is."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.encoder = nn.Sequential(
            nn.Linear(PIXELS, width), nn.SiLU(), nn.Dropout(0.2),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2 * hidden))
        self.decoder = nn.Sequential(
            nn.Linear(hidden, width), nn.SiLU(), nn.Dropout(0.2),
            nn.Linear(width, width), nn.SiLU(), nn.Dropout(0.2), nn.Linear(width, LEVELS * PIXELS))

    def decode(self, z):
        """Scores (n, 17, 64) of levels."""
        return self.decoder(z).view(-1, LEVELS, PIXELS)

    def forward(self, x):
        """log p(x, z) - log q(z | x), (n,), for a z drawn from q: its mean is at most log p(x)."""
        mean, log_scale = self.encoder(x / 8 - 1).chunk(2, -1)
        noise = aj.randn_like(mean)
        z = mean + log_scale.exp() * noise
        log_likelihood = -F.cross_entropy(self.decode(z), x.long(), reduction="none").sum(-1)
        return log_likelihood + (0.5 * (noise ** 2 - z ** 2) + log_scale).sum(-1)


# ---------------------------------------------------------------- others: mean -log p of held-back images in nats
def independent(x: aj.Tensor, held: aj.Tensor) -> float:
    """Each pixel by itself: how often it has each level, counted with 1/17 more for each."""
    counts = F.one_hot(x.long(), LEVELS).sum(0) + 1 / LEVELS
    log_p = (counts / counts.sum(-1, keepdim=True)).log()
    return -log_p.T.gather(0, held.long()).sum(-1).mean().item()


def gaussian(x: aj.Tensor, held: aj.Tensor) -> float:
    """A normal distribution with all its covariances, of levels with uniform noise (ten draws of it)."""
    x, held = [aj.cat([t.double() + aj.rand(t.shape, dtype=aj.float64) for _ in range(10)]) for t in (x, held)]
    root = aj.linalg.cholesky(aj.cov(x.T))
    white = aj.linalg.solve_triangular(root, (held - x.mean(0)).T, upper=False)
    log_p = -0.5 * (white ** 2).sum(0) - root.diagonal().log().sum() - PIXELS / 2 * math.log(2 * math.pi)
    return -log_p.mean().item()


def picture(model: VAE, held: aj.Tensor, path: str) -> None:
    """Digits that were held back, and new ones: hidden numbers from a normal distribution, then each pixel from its levels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    n = 9
    with aj.no_grad():
        chances = model.decode(aj.randn(n * n, model.hidden)).softmax(1).transpose(1, 2)
        drawn = aj.multinomial(chances.reshape(-1, LEVELS), 1)
        means = chances @ aj.arange(float(LEVELS))
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
    titles = ("held back", "drawn by the model", "the same: means of its levels")
    for ax, images, title in zip(axes, (held[:n * n], drawn.float(), means), titles):
        tiles = F.pad(images.reshape(n, n, 8, 8), (1, 1, 1, 1)).transpose(1, 2)
        ax.imshow(tiles.reshape(10 * n, 10 * n).numpy(), cmap="gray_r")
        ax.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
    print(f"digits: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small network, a few epochs: the loss must fall, no target")
    parser.add_argument("--out", default="vae", help="where the picture (.png) and the parameters (.safetensors) go")
    args = parser.parse_args()
    hidden, width, epochs, draws = (8, 32, 10, 10) if args.quick else (16, 256, 100, 200)

    aj.manual_seed(0)
    images, _, held, _ = digits()
    images, held = images.flatten(1), held.flatten(1)
    loader = DataLoader(TensorDataset(images), batch_size=128, shuffle=True, drop_last=True)
    model = VAE(hidden, width)
    optimizer = aj.optim.AdamW(model.parameters(), lr=2e-3)
    scheduler = aj.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    print(f"{sum([p.numel() for p in model.parameters()]):,} parameters, {len(images)} images to learn from, "
          f"{len(held)} held back")

    @aj.trace                                             # noise, forward, backward and update: one compiled program
    def train_step(x):
        optimizer.zero_grad()
        loss = -model(x).mean()
        loss.backward()
        optimizer.step()
        return loss

    began, losses = time.perf_counter(), []
    bar = Bar(range(epochs), "epoch")
    for _ in bar:
        for x, in loader:
            losses.append(train_step(x).item())
            if len(losses) == 1:
                aj.wait_compiled()                        # else NumPy answers until then, and is in the compiler's way
        scheduler.step()
        bar.text = f"loss {sum(losses[-len(loader):]) / len(loader):.2f}"
    print(f"{time.perf_counter() - began:.1f} s, {len(losses) / (time.perf_counter() - began):.0f} steps a second")

    model.eval()
    weights = aj.trace(aj.no_grad()(model))
    log_p = aj.stack([weights(held) for _ in Bar(range(draws), "draw")]).logsumexp(0) - math.log(draws)
    found = {"each pixel by itself": independent(images, held), "Gaussian, full covariance": gaussian(images, held),
             "variational autoencoder": -log_p.mean().item()}
    for name, nats in found.items():
        print(f"{name:26s} {nats:7.2f} nats an image  {nats / PIXELS / math.log(2):.3f} bits a pixel")
    picture(model, held, f"{args.out}.png")
    save(model, f"{args.out}.safetensors")
    *others, own = found.values()
    if args.quick:
        check_falling(losses)
    elif not own < min(others):
        raise SystemExit("the bound does not beat the others")


if __name__ == "__main__":
    main()
