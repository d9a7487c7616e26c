"""Loops along a known path where something leaves it: custom functions, modes, changes of history and of memory."""

from .frame import attempt, program, vec
from .paths import again


@program
def path_custom_function(t):
    class Square(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g
    return again(t, lambda x: (Square.apply(x * 2) * x).sum().backward())


@program
def path_with_anomaly_mode(t):
    found = []
    for k in range(6):
        x = vec(t); y = x * 2 if k != 3 else x * -2
        if k in (2, 3):
            with t.autograd.detect_anomaly():
                found.append(attempt(lambda: y.sqrt().sum().backward()) is None)
        else:
            y.sqrt().sum().backward()
            found.append(x.grad)
    return found


@program
def path_inference_mode(t):
    found = []
    for _ in range(5):
        x = vec(t); y = x * 2
        with t.inference_mode():
            z = y * 2
            c = t.ones(3) * 2
        found.append((z, z.requires_grad, attempt(lambda: (y * c).sum().backward())))
        (y * y).sum().backward()
        found.append(x.grad)
    return found


@program
def path_detached_in_place(t):
    def body(x):
        y = x * 2; z = y.exp(); y.detach_(); s = (z + y).sum()
        e = attempt(lambda: s.backward())
        return e, y.requires_grad
    return again(t, body)


@program
def path_grad_is_an_argument(t):
    found, x = [], vec(t)
    for _ in range(6):
        (x * x).sum().backward()
        g = x.grad
        y = (g * x * 0.1).sum()
        x.grad = None
        y.backward()
        found.append((g.tolist(), x.grad.tolist(), x.grad is g))
    return found


@program
def path_memory_seen_by_numpy(t):
    import numpy as np
    found = []
    a = np.array([1.0, 2.0, 3.0], np.float32)
    c, x = t.from_numpy(a), vec(t)
    for _ in range(6):
        y = x * c
        a += 1
        y2 = x * c
        (y + y2).sum().backward()
        found.append((x.grad.tolist(), c.tolist()))
        x.grad = None
        z = x.detach().numpy()
        s = (x * x).sum()
        z *= 1.1
        s.backward()
        found.append(x.grad.tolist())
        x.grad = None
    return found
