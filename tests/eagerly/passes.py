"""Hooks, backward, accumulation, freed graphs, autograd.grad, higher orders, loops."""

from .frame import attempt, mat, program, vec


# ---------------------------------------------------------------- hooks, retain_grad
@program
def hook_replaces_gradient(t):
    x = vec(t); y = x.exp(); y.register_hook(lambda g: t.full_like(g, 7.0)); y.sum().backward()
    return x.grad


@program
def hook_on_leaf(t):
    x = vec(t); h = x.register_hook(lambda g: g * 2); (x * x).sum().backward(); h.remove(); (x * 3).sum().backward()
    return x.grad


@program
def hooks_in_order_beside_retain(t):
    x = vec(t); y = x * 2; y.retain_grad(); y.register_hook(lambda g: g * 10); y.register_hook(lambda g: g + 1)
    y.sum().backward()
    return y.grad, x.grad


@program
def hook_that_looks(t):
    seen = []; x = vec(t); y = x.exp(); y.register_hook(lambda g: seen.append(g.tolist())); (y * 3).sum().backward()
    return seen, x.grad


@program
def hook_put_before_a_write(t):
    x = vec(t); y = x * 2; y.register_hook(lambda g: g * 10); y.mul_(3); y.sum().backward()
    return x.grad


@program
def hook_put_after_a_write(t):
    x = vec(t); y = x * 2; y.mul_(3); y.register_hook(lambda g: g * 10 + 1); y.sum().backward()
    return x.grad


@program
def retain_then_write(t):
    x = vec(t); y = x * 2; y.retain_grad(); y.mul_(3); (y * y).sum().backward()
    return y.grad, x.grad, y.retains_grad


@program
def retain_view_then_write_base(t):
    x = vec(t); y = x * 2; v = y[1:]; v.retain_grad(); y.mul_(3); (v * v).sum().backward()
    return v.grad, x.grad


@program
def retain_base_then_write_view(t):
    x = vec(t); y = x * 2; y.retain_grad(); y[1:] *= 3; (y * y).sum().backward()
    return y.grad, x.grad


@program
def hook_that_fails(t):
    x = vec(t); y = x * 2

    def boom(g): raise ValueError("boom")
    y.register_hook(boom)
    return attempt(lambda: (y * 3).sum().backward()), x.grad, attempt(lambda: (x * x).sum().backward()), x.grad


@program
def hooks_that_return_nonsense(t):
    out = []
    for bad in (lambda g: 5, lambda g: t.ones(2), lambda g: g.double()):
        y = vec(t) * 2; y.register_hook(bad); out.append(attempt(lambda: y.sum().backward()))
    return out


@program
def hook_after_accumulation(t):
    x = vec(t); seen = []; x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.tolist()))
    (x * 2).sum().backward(); (x * 3).sum().backward()
    return seen


@program
def hooks_where_there_is_no_gradient(t):
    c, y = t.ones(2), vec(t) * 2
    return (attempt(lambda: c.register_hook(print)), attempt(lambda: c.retain_grad()),
            attempt(lambda: y.register_post_accumulate_grad_hook(print)))


# ---------------------------------------------------------------- accumulation and freeing
@program
def same_grad_object(t):
    x = vec(t); (x * 2).sum().backward(); g = x.grad; (x * 3).sum().backward()
    return x.grad is g, g, g._version


@program
def new_grad_object_with_create_graph(t):
    x = vec(t); (x * 2).sum().backward(); g = x.grad; (x * x).sum().backward(create_graph=True)
    return x.grad is g, g, x.grad


@program
def gradients_of_two_leaves_are_apart(t):
    a, b = vec(t), vec(t); (a + b).sum().backward(); a.grad.mul_(5)
    return a.grad, b.grad


@program
def gradient_cleared_three_ways(t):
    x = vec(t); (x * 2).sum().backward(); x.grad.zero_(); (x * 3).sum().backward(); a = x.grad.clone()
    x.grad.data.zero_(); (x * 4).sum().backward(); b = x.grad.clone(); x.grad = None; (x * 5).sum().backward()
    return a, b, x.grad


@program
def view_of_a_gradient(t):
    x = vec(t); (x * 2).sum().backward(); v = x.grad[1:]; (x * 3).sum().backward()
    return v


@program
def gradient_assigned(t):
    x = vec(t); x.grad = t.ones(3); (x * 2).sum().backward()
    return (x.grad, attempt(lambda: setattr(x, "grad", t.ones(2))), attempt(lambda: setattr(x, "grad", 1.0)),
            attempt(lambda: setattr(x, "grad", t.ones(3, dtype=t.float64))))


@program
def linear_graph_twice(t):
    x = vec(t); y = (x + x - 2).mean(); y.backward(); y.backward()
    return x.grad


@program
def product_with_number_twice(t):
    x = vec(t); y = (x * 3).sum(); y.backward(); y.backward()
    return x.grad


@program
def nonlinear_graph_twice(t):
    x = vec(t); y = x.sin().sum(); y.backward(); y.backward()


@program
def slice_write_twice(t):
    x = vec(t); y = x * 2; y[1:].add_(1); s = y.sum(); s.backward(); s.backward()


@program
def stale_view_twice(t):
    x = vec(t); y = x * 2; v = y[1:]; y.add_(1); s = v.sum(); s.backward(); s.backward()
    return x.grad


@program
def common_part_freed(t):
    x = vec(t); h = x.exp(); a, b = h.sum(), (h + 1).sum(); a.backward()
    return x.grad, attempt(lambda: b.backward())


@program
def graph_retained(t):
    x = vec(t); y = (x * x).sum(); y.backward(retain_graph=True); y.backward(retain_graph=True); y.backward()
    return x.grad, attempt(lambda: y.backward())


@program
def gradient_given(t):
    x = vec(t); y = x * x; y.backward(t.tensor([1.0, 10.0, 100.0]))
    return x.grad


@program
def gradient_missing(t):
    (vec(t) * 2).backward()


@program
def gradient_of_wrong_shape(t):
    (vec(t) * 2).backward(t.ones(2))


@program
def nothing_wants_a_gradient(t):
    t.ones(3).sum().backward()


@program
def one_element_is_a_scalar(t):
    x = t.ones(1, 1, requires_grad=True); (x * 3).backward()
    return x.grad


@program
def leaf_backward(t):
    x = t.tensor(3.0, requires_grad=True); x.backward(); x.backward()
    return x.grad


@program
def backward_of_several(t):
    x = vec(t); t.autograd.backward([x.sum(), (x * x)], [None, t.ones(3)])
    return x.grad


@program
def backward_into_chosen_inputs(t):
    a, b = vec(t), vec(t); h = a * b; (h * h).sum().backward(inputs=[b])
    return a.grad, b.grad


@program
def flags_of_leaves(t):
    x = vec(t); x.requires_grad = False; y = vec(t) * 1
    return (x.is_leaf, attempt(lambda: setattr(y, "requires_grad", False)), attempt(lambda: t.arange(3).requires_grad_()),
            attempt(lambda: t.tensor([1, 2], requires_grad=True)), y.requires_grad_() is y)


@program
def flag_taken_away_before_backward(t):
    x, w = vec(t), vec(t); y = (x * w).sum(); x.requires_grad_(False); y.backward()
    return x.grad, w.grad


# ---------------------------------------------------------------- autograd.grad, higher orders
@program
def grad_of_inner_values(t):
    x = vec(t); y = x.exp(); z = (y * y).sum()
    return t.autograd.grad(z, [y, x]), x.grad


@program
def grad_of_what_is_unused(t):
    x, w = vec(t), vec(t); z = (x * x).sum()
    return (attempt(lambda: t.autograd.grad(z, w, retain_graph=True)),
            t.autograd.grad(z, [x, w], allow_unused=True, retain_graph=True),
            t.autograd.grad(z, [x, w], materialize_grads=True))


@program
def grad_of_what_wants_none(t):
    x = vec(t); return attempt(lambda: t.autograd.grad(x.sum(), t.ones(2)))


@program
def grad_ignores_a_changed_branch(t):
    x, w = vec(t), vec(t); y = x.exp(); z = (y + w * w).sum(); y.add_(1)
    return t.autograd.grad(z, w, retain_graph=True), attempt(lambda: z.backward())


@program
def grad_with_outputs(t):
    x = vec(t); y = x * x
    return t.autograd.grad([y, y.sum()], [x], grad_outputs=[t.ones(3), t.tensor(2.0)])


@program
def grad_batched(t):
    x = vec(t); y = x * x
    return t.autograd.grad(y, x, grad_outputs=t.eye(3), is_grads_batched=True)


@program
def grad_before_hooks_of_inner(t):
    x = vec(t); y = x * 2; y.register_hook(lambda g: g * 5)
    return t.autograd.grad((y * y).sum(), [y, x])


@program
def grad_after_hooks_of_leaf(t):
    x = vec(t); x.register_hook(lambda g: g * 5)
    return t.autograd.grad((x * x).sum(), [x])


@program
def grad_of_the_root_itself(t):
    x = vec(t); y = x * 2; return t.autograd.grad(y.sum(), y), t.autograd.grad(x.sum(), x)


@program
def second_order(t):
    x = vec(t); (g,) = t.autograd.grad((x ** 3).sum(), x, create_graph=True); (h,) = t.autograd.grad(g.sum(), x)
    return g, h, g.grad_fn


@program
def fourth_order(t):
    x = vec(t); y = (x.exp() * x.sin()).sum(); out = []
    for _ in range(4):
        (g,) = t.autograd.grad(y, x, create_graph=True); out.append(g); y = g.sum()
    return out


@program
def second_order_through_quotients(t):
    a, b = vec(t), vec(t, 2, 3, 4); y = ((a / b).tanh() * b.sigmoid()).sum()
    ga, gb = t.autograd.grad(y, [a, b], create_graph=True); (ga * gb).sum().backward()
    return a.grad, b.grad


@program
def second_order_through_products(t):
    w = mat(t); x = t.tensor([[1.0, 0.5], [2.0, 1.0], [0.0, 3.0]], requires_grad=True)
    (g,) = t.autograd.grad(((w @ x) ** 2).mean(), w, create_graph=True); (g * g).sum().backward()
    return w.grad, x.grad


@program
def second_order_through_writes(t):
    x = vec(t); y = x * x; y.mul_(x); y.tanh_(); (g,) = t.autograd.grad(y.sum(), x, create_graph=True); (g * g).sum().backward()
    return g, x.grad


@program
def second_order_through_view_writes(t):
    x = vec(t); y = x * x; y[1:] *= x[1:]; y[:2].exp_(); (g,) = t.autograd.grad((y * y).sum(), x, create_graph=True)
    (g * x).sum().backward()
    return g, x.grad


@program
def second_order_through_stale_view(t):
    x = vec(t); y = x * x; v = y[1:]; y.mul_(x); (g,) = t.autograd.grad((v * v).sum(), x, create_graph=True); g.sum().backward()
    return x.grad


@program
def second_order_with_own_detach(t):
    x = vec(t); (g,) = t.autograd.grad((x * x.detach() * x).sum(), x, create_graph=True); (h,) = t.autograd.grad(g.sum(), x)
    return g, h


@program
def derivative_with_respect_to_cotangent(t):
    x, u = vec(t), vec(t, 1, 1, 1); y = x.exp() * x
    (g,) = t.autograd.grad(y, x, grad_outputs=u, create_graph=True)
    return t.autograd.grad((g * t.tensor([1.0, 2.0, 3.0])).sum(), [u, x])


@program
def second_order_of_max_and_sort(t):
    x = vec(t, 3, 1, 2); y = (x.sort().values * t.tensor([1.0, 2.0, 3.0])).sum() * x.max(0).values * x.sum()
    (g,) = t.autograd.grad(y, x, create_graph=True); (g * g).sum().backward()
    return g, x.grad


@program
def second_order_of_softmax(t):
    x = vec(t); (g,) = t.autograd.grad((x.softmax(0) ** 2).sum(), x, create_graph=True); (g * g).sum().backward()
    return g, x.grad


@program
def gradient_penalty(t):
    w = vec(t); out = []
    for _ in range(3):
        loss = (w.tanh() * w).sum(); (g,) = t.autograd.grad(loss, w, create_graph=True); (loss + (g * g).sum()).backward()
        with t.no_grad(): w -= 0.1 * w.grad
        w.grad = None; out.append(w * 1)
    return out


@program
def hook_under_create_graph(t):
    x = vec(t); y = x * x; y.register_hook(lambda g: g * x); (g,) = t.autograd.grad(y.sum(), x, create_graph=True)
    g.sum().backward()
    return g, x.grad


@program
def value_changed_between_orders(t):
    x = vec(t); y = x * 1; (g,) = t.autograd.grad((y ** 3).sum(), x, create_graph=True); y.add_(1)
    return attempt(lambda: g.sum().backward())


@program
def gradient_changed_under_create_graph(t):
    x = vec(t); (x ** 3).sum().backward(create_graph=True); g = x.grad
    with t.no_grad(): g.mul_(2)
    return g, t.autograd.grad(g.sum(), x)


@program
def hessian_row_by_row(t):
    x = vec(t); (g,) = t.autograd.grad((x[0] * x[1] ** 2 * x[2] ** 3), x, create_graph=True)
    return [t.autograd.grad(g[i], x, retain_graph=True)[0] for i in range(3)]


@program
def functions_named_as_torchs(t):
    x = mat(t); c = t.ones(2, 3)
    made = [x + c, x - c, 2 - x, x * c, 2 / x, x / c, x ** 2, x ** x, 2 ** x, -x, x.sum(), x.sum(0), x.mean(), x.mean(1), x.t(),
            x.T, x.mT, x.transpose(0, 1), x.view(6), x.reshape(3, 2), x.flatten(), x.t().reshape(6), x[0], x[:, 1:], x[None],
            x[...], x[x > 0],
            x @ c.t(), x.max(), x.max(1)[0], x.clamp(0, 1), x.sigmoid(), x.log1p(), x.exp(), x.relu(), x.softmax(1), x.clone(),
            x.t().contiguous(), x.double(), x.chunk(2)[0], x.unsqueeze(0), x.expand(4, 2, 3), x.permute(1, 0), t.cat([x, c]),
            t.stack([x, c]), x.std(), x.var(0), x.prod(), x.abs(), x.norm(), x.cumsum(0), t.where(x > 0, x, c)]
    return [m.grad_fn for m in made]


@program
def graph_walked(t):
    x = vec(t); f = ((x + 1) * 2).mean().grad_fn
    inner = f.next_functions[0][0]; deeper = inner.next_functions[0][0]; last = deeper.next_functions[0][0]
    return f, inner, deeper, last.name().split("::")[-1], last.variable is x, inner.next_functions[1]


# ---------------------------------------------------------------- loops
@program
def descent(t):
    w = vec(t); out = []
    for k in range(5):
        loss = ((w - 2) ** 2).sum(); loss.backward()
        with t.no_grad(): w -= 0.1 / (k + 1) * w.grad
        w.grad.zero_(); out.append(loss.item())
    return out, w, w._version


@program
def descent_with_looks(t):
    w = vec(t); out = []
    for k in range(6):
        loss = (w.exp() * w).mean(); out.append(loss.item()); loss.backward(); out.append(w.grad.tolist())
        with t.no_grad(): w -= 0.05 * w.grad
        if k % 2: w.grad = None
    return out, w


@program
def look_then_change_then_backward(t):
    out = []
    for k in range(3):
        x = vec(t); loss = (x * x).sum(); out.append(loss.item())
        if k == 2: x.data.mul_(10)
        loss.backward(); out.append(x.grad.tolist())
    return out


@program
def momentum_and_average(t):
    w = vec(t); m, ema = t.zeros(3), t.zeros(3)
    for _ in range(6):
        (w.exp() * w).sum().backward()
        with t.no_grad():
            m = m * 0.9 + w.grad; w -= 0.01 * m; ema = ema * 0.5 + w * 0.5
        w.grad = None
    return w, m, ema


@program
def optimiser(t):
    w = vec(t); opt = t.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True); out = []
    for k in range(4):
        opt.zero_grad(); loss = ((w - 1) ** 2).sum(); loss.backward(); opt.step(); out.append(loss.item())
        opt.param_groups[0]["lr"] = 0.1 / (k + 2)
    return out, w


@program
def long_chain(t):
    x = vec(t); h = x
    for _ in range(1500): h = h * 0.999 + x * 0.001
    h.sum().backward()
    return x.grad, h


@program
def truncated_recurrence(t):
    w = vec(t); h = t.zeros(3); out = []
    for k in range(6):
        h = (h * w).tanh() + 0.1
        if k % 2: h.sum().backward(); h = h.detach(); out.append(h)
    return out, w.grad
