"""A walk through automatic differentiation as PyTorch's tutorial teaches it, with autojit in torch's place.

    python examples/tutorial.py

Each step prints its code and what it gives.  Nothing here is special to autojit until the last step.
"""

from __future__ import annotations

import argparse
import textwrap

import autojit as torch

STEPS = [
    ("A tensor that wants its gradient is a leaf; what is computed from it remembers how.", """
        x = torch.ones(2, 2, requires_grad=True)
        y = x + 2
        print(y)
        print(y.grad_fn is not None, x.is_leaf, y.is_leaf)
    """),
    ("backward() on a scalar fills .grad of the leaves.", """
        out = (y * y * 3).mean()
        print(out)
        out.backward()
        print(x.grad)
    """),
    ("Gradients accumulate until they are zeroed.", """
        (x * x).sum().backward()
        print(x.grad)
        x.grad.zero_()
        print(x.grad)
    """),
    ("A non-scalar needs a vector: backward(v) is the vector-Jacobian product.", """
        x = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
        y = x * 2
        while y.norm() < 1000:
            y = y * 2
        y.backward(torch.tensor([0.1, 1.0, 0.0001]))
        print(x.grad)
    """),
    ("no_grad() and detach() leave the record.", """
        with torch.no_grad():
            print((x ** 2).requires_grad)
        print(x.detach().requires_grad, x.detach().eq(x).all())
    """),
    ("In-place changes of what a rule needs are noticed.", """
        a = torch.ones(3, requires_grad=True)
        b = a.exp()
        b += 1
        try:
            b.sum().backward()
        except RuntimeError as error:
            print("RuntimeError:", str(error).split(":")[0])
    """),
    (".data changes a value behind autograd's back: the rule then sees the new one.", """
        x = torch.ones(1, requires_grad=True)
        y = 2 * x
        x.data *= 100
        y.backward()
        print(x)
        print(x.grad)
    """),
    ("A Function of your own states its forward and backward.", """
        class Cube(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x ** 3

            @staticmethod
            def backward(ctx, g):
                x, = ctx.saved_tensors
                return g * 3 * x ** 2

        x = torch.tensor([1.0, 2.0], requires_grad=True)
        Cube.apply(x).sum().backward()
        print(x.grad)
    """),
    ("Derivatives of derivatives: the backward pass is recorded too.", """
        x = torch.tensor(2.0, requires_grad=True)
        first, = torch.autograd.grad(x ** 4, x, create_graph=True)
        second, = torch.autograd.grad(first, x)
        print(first, second)
    """),
    ("Fitting a line by hand: loss.backward(), then a step under no_grad().", """
        torch.manual_seed(0)
        t = torch.linspace(-1, 1, 50)
        target = 3 * t - 0.5
        w = torch.zeros(2, requires_grad=True)
        for _ in range(200):
            loss = ((w[0] * t + w[1] - target) ** 2).mean()
            loss.backward()
            with torch.no_grad():
                w -= 0.5 * w.grad
                w.grad.zero_()
        print(w)
    """),
    ("And what torch has no word for: the compiled code is Python that you can read.", """
        @torch.trace
        def energy(x):
            return (torch.exp(-x * x) * torch.sin(x)).sum()

        value, grad = torch.value_and_grad(energy)(torch.linspace(0, 1, 1000))
        print(value)
        print(energy.source())
    """),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the same: this walk is short")
    parser.parse_args()
    names: dict[str, object] = {"torch": torch}
    for k, (what, code) in enumerate(STEPS, 1):
        code = textwrap.dedent(code).strip()
        print(f"\n{k}. {what}\n")
        print(textwrap.indent(code, "    ") + "\n")
        exec(compile(code, f"<step {k}>", "exec"), names)


if __name__ == "__main__":
    main()
