"""Custom functions and anomaly detection."""

from .frame import attempt, program, vec


def cube(t):
    class Cube(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x); return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors; return g * 3 * x * x

    return Cube


def exponential(t):
    class Exponential(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp(); ctx.save_for_backward(y); return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors; return g * y

    return Exponential


def scaled(t, result):
    class Scaled(t.autograd.Function):
        @staticmethod
        def forward(ctx, x, k=2):
            ctx.k = k; return x * k

        @staticmethod
        def backward(ctx, g): return result(g, ctx)

    return Scaled


@program
def custom_gradient(t):
    x = vec(t); y = cube(t).apply(x * 2); y.sum().backward()
    return y, y.grad_fn, x.grad


@program
def custom_second_order(t):
    x = vec(t); (g,) = t.autograd.grad(cube(t).apply(x).sum(), x, create_graph=True); (g * g).sum().backward()
    y = vec(t); (h,) = t.autograd.grad(exponential(t).apply(y).sum(), y, create_graph=True)
    return g, x.grad, h, t.autograd.grad(h.sum(), y)


@program
def custom_result_changed(t):
    x = vec(t); y = exponential(t).apply(x); y.add_(1); y.sum().backward()


@program
def custom_input_changed(t):
    x = vec(t); h = x * 1; y = cube(t).apply(h); h.mul_(2); y.sum().backward()


@program
def custom_twice(t):
    x = vec(t); y = exponential(t).apply(x).sum(); y.backward(); y.backward()


@program
def custom_wrong_results(t):
    x = vec(t); out = []
    for bad in (lambda g, c: (g, g, g), lambda g, c: t.ones(2), lambda g, c: 1.0, lambda g, c: None,
                lambda g, c: (g * c.k, None, None)):
        x.grad = None; out.append((attempt(lambda: scaled(t, bad).apply(x, 3).sum().backward()), x.grad))
    return out


@program
def custom_needs(t):
    seen = []

    class Product(t.autograd.Function):
        @staticmethod
        def forward(ctx, a, b, k): seen.append(ctx.needs_input_grad); ctx.save_for_backward(a, b); return a * b * k

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors; seen.append(ctx.needs_input_grad); return g * b, None, None

    x = vec(t); Product.apply(x, t.ones(3), 3).sum().backward()
    with t.no_grad(): free = Product.apply(x, t.ones(3), 3)
    return seen, x.grad, free.requires_grad


@program
def custom_setup_context(t):
    class Product(t.autograd.Function):
        @staticmethod
        def forward(a, b): return a * b

        @staticmethod
        def setup_context(ctx, inputs, output): ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors; return g * b, g * a

    a, b = vec(t), vec(t, 2, 3, 4); Product.apply(a * a, b).sum().backward()
    return a.grad, b.grad


@program
def custom_several_results(t):
    seen = []

    class Two(t.autograd.Function):
        @staticmethod
        def forward(ctx, x): return x * 2, x * 3

        @staticmethod
        def backward(ctx, g, h): seen.append((g, h)); return g * 2 + h * 3

    x = vec(t); a, b = Two.apply(x); b.sum().backward(); first = x.grad.clone(); x.grad = None
    a, b = Two.apply(x); a.register_hook(lambda g: g * 10); (a * b).sum().backward()
    return seen[0], first, x.grad


@program
def custom_without_zeros(t):
    seen = []

    class Two(t.autograd.Function):
        @staticmethod
        def forward(ctx, x): ctx.set_materialize_grads(False); return x * 2, x * 3

        @staticmethod
        def backward(ctx, g, h): seen.append((g is None, h is None)); return h * 3

    x = vec(t); Two.apply(x)[1].sum().backward()
    return seen, x.grad


@program
def custom_without_gradient_for_places(t):
    class Sorted(t.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            v, i = x.sort(); ctx.mark_non_differentiable(i); ctx.save_for_backward(i); return v, i

        @staticmethod
        def backward(ctx, g, _):
            (i,) = ctx.saved_tensors; out = t.zeros_like(g); out[i] = g; return out

    x = vec(t, 3, 1, 2); v, i = Sorted.apply(x); (v * t.tensor([1.0, 10.0, 100.0])).sum().backward()
    return v, i, i.requires_grad, x.grad


@program
def custom_in_place(t):
    class Double(t.autograd.Function):
        @staticmethod
        def forward(ctx, x): x.mul_(2); ctx.mark_dirty(x); return x

        @staticmethod
        def backward(ctx, g): return g * 2

    x = vec(t); y = x * 1; z = Double.apply(y); (z * z).sum().backward()
    return z is y, z, x.grad, attempt(lambda: Double.apply(x))


@program
def custom_that_returns_its_input(t):
    class Same(t.autograd.Function):
        @staticmethod
        def forward(ctx, x): return x

        @staticmethod
        def backward(ctx, g): return g * 5

    x = vec(t); z = Same.apply(x); z.sum().backward()
    return z is x, z._is_view(), z.grad_fn, x.grad, attempt(lambda: z.add_(1))


@program
def custom_once_differentiable(t):
    class Square(t.autograd.Function):
        @staticmethod
        def forward(ctx, x): ctx.save_for_backward(x); return x * x

        @staticmethod
        @t.autograd.function.once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors; return 2 * x * g

    x, u = vec(t), vec(t, 1, 1, 1); Square.apply(x).sum().backward(); first = x.grad
    (g,) = t.autograd.grad(Square.apply(x), x, grad_outputs=u, create_graph=True)
    return first, g.requires_grad, attempt(lambda: g.sum().backward())


@program
def custom_not_finished(t):
    class Nothing(t.autograd.Function):
        pass

    class Half(t.autograd.Function):
        @staticmethod
        def forward(ctx, x): return x * 2

    x = vec(t)
    return (attempt(lambda: Nothing.apply(x)), attempt(lambda: Half.apply(x).sum().backward()), attempt(lambda: Half()(x)),
            attempt(lambda: cube(t).apply(x).sum().backward()), x.grad)


@program
def anomaly_in_backward(t):
    x = vec(t, 0, 1, 2)
    with t.autograd.detect_anomaly():
        return attempt(lambda: (x.sqrt() * t.tensor([0.0, 1.0, 1.0])).sum().backward()), t.is_grad_enabled()


@program
def inference(t):
    x = vec(t)
    with t.inference_mode(): y = x * 2; inside = t.is_inference_mode_enabled()
    return (y.requires_grad, inside, y.is_inference(), attempt(lambda: x * y), attempt(lambda: x + y),
            attempt(lambda: y.add_(1)), attempt(lambda: y.requires_grad_()))
