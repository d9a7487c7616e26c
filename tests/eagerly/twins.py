"""Equal expressions with different histories: one node, several records."""

from .frame import mat, program, vec


@program
def recorded_and_not(t):
    x = vec(t); a = x.sin()
    with t.no_grad(): b = x.sin()
    (a * 2 + b * 5).sum().backward()
    return x.grad, a.requires_grad, b.requires_grad, b.grad_fn


@program
def value_times_its_own_detach(t):
    x = vec(t); y = x.cos()
    (y * y.detach()).sum().backward()
    return x.grad


@program
def leaf_times_its_own_detach(t):
    x = vec(t); (x.detach() * x).sum().backward()
    return x.grad


@program
def detach_of_sum_subtracted(t):
    x = vec(t); s = x.sum(); ((s - s.detach()) * x).sum().backward()
    return x.grad, s


@program
def two_leaves_of_equal_values(t):
    a, b = vec(t), vec(t); (a * a * b).sum().backward()
    return a.grad, b.grad


@program
def data_and_self_multiplied(t):
    x = vec(t); (x * x.data * 3).sum().backward()
    return x.grad


@program
def square_by_product(t):
    x = vec(t); h = x + 1; (h * h).sum().backward()
    return x.grad


@program
def diamond_of_four(t):
    x = vec(t); a = x.exp(); b, c = a * 2, a / 3; (b * c + a).mean().backward()
    return x.grad


@program
def branch_never_used(t):
    x = vec(t); dead = x.log().sin(); live = (x * 3).sum(); live.backward()
    return x.grad, dead


@program
def grad_switched_on_between_twins(t):
    x = t.tensor([1.0, 2.0]); a = x * x; x.requires_grad_(); b = x * x; (a + b).sum().backward()
    return x.grad, a.requires_grad, b.requires_grad


@program
def modes_nested(t):
    x = vec(t); flags = []
    with t.no_grad():
        a = x * 2; flags.append(t.is_grad_enabled())
        with t.enable_grad(): b = x * 2; flags.append(t.is_grad_enabled())
        with t.set_grad_enabled(True): c = x * 2
        d = x * 2
    return [v.requires_grad for v in (a, b, c, d)], flags, t.is_grad_enabled()


@program
def mode_restored_after_error(t):
    try:
        with t.no_grad(): raise KeyError("x")
    except KeyError:
        pass
    return t.is_grad_enabled(), (vec(t) * 2).requires_grad


@program
def decorated_functions(t):
    @t.no_grad()
    def f(x): return x * 2

    @t.enable_grad()
    def g(x): return x * 2

    x = vec(t); a = f(x)
    with t.no_grad(): b = g(x)
    return a.requires_grad, b.requires_grad, f.__name__


@program
def decorated_generator(t):
    @t.no_grad()
    def f(x):
        for _ in range(2): yield (x * 2).requires_grad, t.is_grad_enabled()

    return [(got, t.is_grad_enabled()) for got in f(vec(t))]


@program
def hook_on_one_of_two_equal_calls(t):
    x = vec(t); a, b = x.tanh(), x.tanh(); a.register_hook(lambda g: g * 100)
    (a + b).sum().backward()
    return x.grad


@program
def retain_on_one_of_two_equal_calls(t):
    x = vec(t); a, b = x * 4, x * 4; b.retain_grad(); (a * b).sum().backward()
    return a.grad, b.grad, x.grad


@program
def lerp_with_inner_weight(t):
    a, b = vec(t), vec(t, 3, 1, 2); w = (b - a) * 0.1
    a.lerp(b, w.detach()).sum().backward(); first = a.grad.clone(), b.grad.clone()
    a.grad = b.grad = None; a.lerp(b, w).sum().backward()
    return first, a.grad, b.grad


@program
def broadcast_both_ways(t):
    w, x = mat(t), vec(t); c = t.tensor([[2.0], [3.0]], requires_grad=True)
    ((w * x + c) / (x + 5)).sum().backward()
    return w.grad, x.grad, c.grad


@program
def products_and_means(t):
    w = mat(t); x = t.tensor([[1.0, 0.0], [0.5, -1.0], [2.0, 1.0]], requires_grad=True)
    ((w @ x).sigmoid() * 2).mean().backward()
    return w.grad, x.grad


@program
def means_along_dims(t):
    w = mat(t); m = w.mean(0, keepdim=True); s = w.sum(dim=1)
    ((w - m) ** 2).sum().backward(retain_graph=True); s.sum().backward()
    return w.grad, m.grad_fn, s.grad_fn


@program
def choice_by_mask(t):
    x = vec(t); y = t.where(x > 1, x * x, x * 10); y.sum().backward()
    return y, x.grad


@program
def extremes_share_ties(t):
    x = t.tensor([2.0, 1.0, 2.0], requires_grad=True); x.amax().backward(); g = x.grad.clone(); x.grad = None
    x.max().backward(); h = x.grad.clone(); x.grad = None
    x.max(0).values.backward()
    return g, h, x.grad


@program
def subgradients_at_kinks(t):
    x = t.tensor([-1.0, 0.0, 1.0], requires_grad=True); out = []
    for f in (t.relu, t.abs, t.sign, lambda v: v.clamp(-1, 1), lambda v: v.clamp(min=0)):
        x.grad = None; f(x).sum().backward(); out.append(x.grad)
    return out
