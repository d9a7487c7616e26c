"""Loops whose body comes again and again, so that it goes along a known path, and what may happen in the middle of one."""

from .frame import attempt, mat, program, vec


def again(t, body, times=4):
    """The body on fresh leaves, and on leaves that stay."""
    found = []
    for _ in range(times):
        x = vec(t)
        found.append([attempt(lambda: body(x)), x.grad, x._version])
    x = vec(t)
    for _ in range(times):
        found.append([attempt(lambda: body(x)), x.grad, x._version])
        x.grad = None
    return found


@program
def path_plain(t):
    return again(t, lambda x: (x[1:] * x[:-1] + 3.5 * x.exp()[0] - x[1:] ** 2 / 7).sum().backward())


@program
def path_grad_accumulates(t):
    x, found, kept = vec(t), [], None
    for k in range(5):
        (x * x * 1.5).sum().backward()
        found.append((x.grad.tolist(), k == 0 or x.grad is kept))
        kept = x.grad
    for _ in range(3):
        x.grad.zero_()
        (x * x * 1.5).sum().backward()
        found.append((x.grad.tolist(), x.grad is kept))
    return found


@program
def path_write_in_the_middle(t):
    def body(x):
        y = x * 2; y.add_(1); z = y * y; y2 = z[1:]; y2.mul_(3); z.sum().backward()
        return y, z, y2, y.grad_fn, z.grad_fn, y2.grad_fn
    return again(t, body)


@program
def path_write_to_what_is_read(t):
    def body(x):
        y = x.exp(); z = y * 3; y.add_(1); z.sum().backward()
    return again(t, body)


@program
def path_leaf_written_quietly(t):
    def body(x):
        y = x * x
        with t.no_grad():
            x.add_(1)
        (y * x.detach()).sum().backward()
    return again(t, body)


@program
def path_leaf_written_after_use_that_reads_nothing(t):
    def body(x):
        y = x + 1
        with t.no_grad():
            x.mul_(2)
        (y + x).sum().backward()
        return y
    return again(t, body)


@program
def path_data_changed_in_the_middle(t):
    def body(x):
        y = x * x
        x.data.mul_(2)
        y.sum().backward()
        return y
    return again(t, body)


@program
def path_data_replaced_in_the_middle(t):
    def body(x):
        y = x * x
        x.data = t.tensor([5.0, 6.0, 7.0])
        (y + x).sum().backward()
        return y
    return again(t, body, 1)


@program
def path_update_through_data(t):
    x, found = vec(t), []
    for _ in range(5):
        (x.sin() * x).sum().backward()
        x.data -= 0.1 * x.grad.data
        found.append((x.tolist(), x.grad.tolist()))
        x.grad.data.zero_()
    return found


@program
def path_descent(t):
    x, found = vec(t), []
    for k in range(6):
        loss = ((x - 1.25) ** 2).mean()
        loss.backward()
        with t.no_grad():
            x -= (0.1 + k) * x.grad
        x.grad = None
        found.append((loss.item(), x.tolist(), x._version))
    return found


@program
def path_quiet_part(t):
    def body(x):
        y = x * 2
        with t.no_grad():
            c = y.mean()
            v = y[1:]
        (y * c).sum().backward()
        return c, v, y.requires_grad, c.requires_grad
    return again(t, body)


@program
def path_backward_while_quiet(t):
    def body(x):
        y = (x * 2.5).sum()
        with t.no_grad():
            y.backward()
        return y
    return again(t, body)


@program
def path_detached_part(t):
    return again(t, lambda x: (x * x.detach() * x.exp().detach()).sum().backward())


@program
def path_leaf_under_two_names(t):
    def body(x):
        d = x.detach()
        (d * x * d).sum().backward()
    found = again(t, body)
    for k in range(4):
        x = vec(t); d = x.detach() if k % 2 else t.tensor([1.0, 2.0, 4.0])
        (d * x * x).sum().backward()
        found.append(x.grad)
    return found


@program
def path_views_stay_views(t):
    found, x = [], vec(t)
    for _ in range(4):
        v = x[1:]; w = v[None, :]; h = x * 2; hv = h[1:]
        (w.sum() + (hv * hv).sum()).backward()
        with t.no_grad():
            x.add_(1)
            found.append((v.tolist(), w.tolist(), h.tolist(), hv.tolist(), v._version))
            hv.mul_(0)
            found.append((h.tolist(), v._base is x, hv._base is h, h._version))
        found.append((v.grad_fn, hv.is_leaf, w.requires_grad, x.grad.tolist()))
    return found


@program
def path_seen_afterwards(t):
    found = []
    for _ in range(4):
        x = vec(t); y = x.exp(); z = y * 2.5; s = z.sum(); s.backward()
        found.append((s, y, z, s.grad_fn, z.grad_fn, y.grad_fn, s.is_leaf, s.requires_grad, s._version, y._version,
                      [f for f, _ in s.grad_fn.next_functions], s.grad_fn.next_functions[0][0] is z.grad_fn))
        found.append(attempt(lambda: s.backward()))
        found.append(attempt(lambda: y.sum().backward()))
        found.append(x.grad)
    return found


@program
def path_root_seen_alone_afterwards(t):
    def once(x):
        s = (x.exp() * 2.5).sum()
        s.backward()
        return s
    found = []
    for _ in range(4):
        x = vec(t); s = once(x)
        found.append((s.grad_fn, s.grad_fn.next_functions[0][0], s, s.item(), float(s)))
        found.append(attempt(lambda: (s * 2).backward()))
        found.append(attempt(lambda: once(vec(t)).backward()))
        found.append(x.grad)
    return found


@program
def path_backward_twice_where_nothing_is_read(t):
    def body(x):
        s = (x + 1).sum(); s.backward(); s.backward()
        return s
    return again(t, body)


@program
def path_retained(t):
    def body(x):
        s = (x * x).sum(); s.backward(retain_graph=True); s.backward()
        return s
    return again(t, body)


@program
def path_two_losses(t):
    def body(x):
        a, b = (x * 3).sum(), (x.exp() * x).sum()
        a.backward()
        b.backward()
        return a, b
    return again(t, body)


@program
def path_two_losses_share(t):
    def body(x):
        y = x.exp(); a, b = (y * 3).sum(), (y * y).sum()
        a.backward()
        return attempt(lambda: b.backward()), a, b, y
    return again(t, body)


@program
def path_second_loss_after_an_update(t):
    def body(x):
        a, b, c = (x * 3).sum(), (x * x).sum(), (x + 1).sum()
        a.backward()
        with t.no_grad():
            x.add_(0.5)
        c.backward()
        return attempt(lambda: b.backward()), b
    return again(t, body)


@program
def path_second_loss_after_data_changed(t):
    def body(x):
        a, b = (x * 3).sum(), (x * x).sum()
        a.backward()
        x.data.mul_(2)
        b.backward()
        return b
    return again(t, body)


@program
def path_hooks_come_later(t):
    found, x = [], vec(t)
    for k in range(8):
        if k == 4:
            h = x.register_hook(lambda g: g * 10)
        if k == 6:
            h.remove()
        x.grad = None
        y = x.exp()
        if k in (3, 5):
            y.register_hook(lambda g: g + 1)
        (y * x).sum().backward()
        found.append(x.grad.tolist())
    return found


@program
def path_after_accumulation(t):
    found, x = [], vec(t)
    for k in range(6):
        if k == 3:
            x.register_post_accumulate_grad_hook(lambda p: found.append(("hook", p.grad.tolist())))
        (x * x).sum().backward()
        found.append(x.grad.tolist())
    return found


@program
def path_gradient_of_the_middle(t):
    found = []
    for k in range(6):
        x = vec(t); y = x.exp()
        if k in (2, 5):
            y.retain_grad()
        z = y * x; z.sum().backward()
        found.append((y.grad if k in (2, 5) else None, x.grad))
    return found


@program
def path_second_order(t):
    def body(x):
        (g,) = t.autograd.grad((x ** 3).sum(), x, create_graph=True)
        (g * x).sum().backward()
        return g
    found = again(t, body)
    for _ in range(4):
        x = vec(t); s = (x ** 3).sum(); s.backward(create_graph=True)
        g, x.grad = x.grad, None
        g.sum().backward()
        found.append((g, x.grad))
    return found


@program
def path_grad_function(t):
    return again(t, lambda x: t.autograd.grad((x * x.exp()).sum(), x))


@program
def path_backward_with_a_gradient(t):
    return again(t, lambda x: (x * x).backward(t.tensor([1.0, 2.0, 3.0])))


@program
def path_backward_of_many(t):
    return again(t, lambda x: t.autograd.backward([(x * x).sum(), x.exp().sum()]))


@program
def path_backward_to_inputs(t):
    def body(x):
        w = t.tensor([2.0, 3.0, 4.0], requires_grad=True)
        (x * w).sum().backward(inputs=[w])
        return w.grad
    return again(t, body)


@program
def path_refused_in_the_middle(t):
    def body(x):
        y = x * 2
        e = attempt(lambda: y + t.ones(2))
        f = attempt(lambda: y @ t.ones(2))
        z = y * y; z.sum().backward()
        return e, f, z
    return again(t, body)


@program
def path_not_a_scalar(t):
    return again(t, lambda x: (x * 2).backward())


@program
def path_without_gradients(t):
    def body(x):
        y = x.detach() * 2
        return attempt(lambda: y.sum().backward()), y.requires_grad
    return again(t, body)


@program
def path_numbers_equal_and_not(t):
    found = []
    for a, b in ((3.0, 3.0), (3.0, 3.0), (3.0, 3.0), (3.0, 4.0), (3.0, 4.0), (3.0, 4.0), (5.0, 5.0), (7, 7.0), (7, 8), (1, 1),
                 (0.0, -0.0), (0.1, 0.1 + 1e-12), (0.1, 0.2), (2, 3), (3, 2), (float("inf"), 3.0), (True, 2.0)):
        for _ in range(3):
            x = vec(t)
            y = x * a + x / (x + b) - b
            y.sum().backward()
            found.append((y, x.grad))
    return found


@program
def path_not_a_number(t):
    found = []
    for v in (float("nan"), 1.5, float("nan"), 2.5):
        for _ in range(3):
            x = vec(t); y = x * v + 2.5 * x; y.sum().backward()
            found.append((y, x.grad))
    return found


@program
def path_signs_of_zero(t):
    found = []
    for v in (0.0, -0.0, 0, 0.0, -0.0):
        for _ in range(3):
            x = vec(t); y = 1 / (x * v); (x * v + x).sum().backward()
            found.append((y, x.grad))
    return found


@program
def path_powers(t):
    found = []
    for p in (2, 3, 2.0, 0.5, True, 2, -1, 0, 3):
        for _ in range(3):
            x = vec(t); (x ** p).sum().backward()
            found.append(x.grad)
    return found


@program
def path_other_shapes_and_dtypes(t):
    found = []
    for dtype in (t.float32, t.float64):
        for n in (3, 4, 3, 1, 4):
            for _ in range(3):
                x = t.linspace(0.5, 2.0, n, dtype=dtype).requires_grad_()
                y = x.tanh() * 1.1 + x[:1]
                y.sum().backward()
                found.append((y, x.grad))
    return found


@program
def path_whole_numbers(t):
    found = []
    for _ in range(4):
        n = t.tensor([1, 2, 3]); x = vec(t); k = n * 2 + 1; y = x * k + n / 2
        y.sum().backward()
        found.append((k, y, x.grad, (x > 1).sum(), n + 1.5, n // 2))
    return found


@program
def path_asks_for_gradients_later(t):
    found = []
    for _ in range(4):
        x, w = vec(t), t.tensor([1.0, 2.0, 3.0])
        a = (x * w).sum()
        w.requires_grad_()
        b = (x * w).sum()
        (a + b).backward()
        found.append((x.grad, w.grad))
        x.grad = w.grad = None
        w.requires_grad_(False)
        (x * w).sum().backward()
        found.append((x.grad, w.grad))
    return found


@program
def path_shapes_changed(t):
    def body(x):
        m = x.reshape(1, 3); q = (m * 2).reshape(3); p = m.t().reshape(-1); r = (m.t() * 2).view(3)
        e = attempt(lambda: x.expand(2, 3).t().view(6))
        (q * p * r).sum().backward()
        return q, p, e, m.stride(), q._base is not None, p.grad_fn, q.grad_fn
    return again(t, body)


@program
def path_order_of_memory(t):
    found = []
    for _ in range(4):
        m = mat(t); y = m.t() + 1; z = y.exp().reshape(-1); w = (m * 2).t()
        (z.sum() + (w * y).sum()).backward()
        found.append((y.stride(), w.stride(), z, w.is_contiguous(), y.is_contiguous(), m.grad, z.grad_fn))
    return found


@program
def path_new_shape_in_place(t):
    def body(x):
        y = x * 2; y.unsqueeze_(0); z = y * 3; z.sum().backward()
        return y, z, y.grad_fn
    return again(t, body)


@program
def path_results_in_pairs(t):
    def body(x):
        y = x * 2; v, i = y.max(0); a, b = y[:2].chunk(2); (v * y + a * b).sum().backward()
        return v, i, a, b
    return again(t, body)


@program
def path_value_asked_before(t):
    def body(x):
        s = (x * x.exp()).sum(); v = s.item(); s.backward()
        return v, s
    return again(t, body)


@program
def path_branch_by_value(t):
    found, x = [], vec(t)
    for _ in range(6):
        s = (x * x).sum()
        if s > 5:
            s = s * 0.5
        s.backward()
        with t.no_grad():
            x -= 0.2 * x.grad
        x.grad = None
        found.append((s, x.tolist()))
    return found


@program
def path_loop_of_growing_length(t):
    found = []
    for n in (1, 2, 3, 2, 3, 4, 3):
        x = vec(t); h = x
        for _ in range(n):
            h = (h * 0.5 + x).tanh()
        h.sum().backward()
        found.append((h, x.grad))
    return found
