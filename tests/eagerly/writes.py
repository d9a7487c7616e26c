"""In-place operations, versions, and what they forbid."""

from .frame import attempt, mat, program, vec


@program
def quotient_then_added_to(t):
    a, b = vec(t), vec(t, 2, 4, 8); y = a / b; y += 3; y.sum().backward()
    return a.grad, b.grad, y._version


@program
def exponential_then_added_to(t):
    x = vec(t); y = x.exp(); y += 1; y.sum().backward()


@program
def refused_backward_leaves_no_gradient(t):
    x = vec(t); y = x.tanh(); y.mul_(2)
    return attempt(lambda: y.sum().backward()), x.grad


@program
def logarithm_of_what_changed(t):
    x = vec(t); y = x * 2; z = y.log(); y.add_(1); z.sum().backward()


@program
def sum_of_what_changed(t):
    x = vec(t); y = x * 2; z = y + 3; y.add_(1); z.sum().backward()
    return x.grad, z, y


@program
def partner_changed(t):
    x, c = vec(t), vec(t, 1, 2, 3, grad=False); z = x * c; c.mul_(2); z.sum().backward()


@program
def partner_of_constant_changed(t):
    x, c = vec(t), vec(t, 1, 2, 3, grad=False); y = x * 1; z = y * c; y.zero_(); z.sum().backward()
    return x.grad, y


@program
def product_in_place_with_needy_partner(t):
    a, b = vec(t), vec(t, 2, 3, 4); y = a * 1; y *= b; y.sum().backward()
    return a.grad, b.grad, y.grad_fn


@program
def product_in_place_with_itself(t):
    x = vec(t); y = x + 0; y.mul_(y); y.sum().backward()
    return x.grad


@program
def constant_becomes_recorded(t):
    b = vec(t); y = t.ones(3); y.mul_(b); first = y.requires_grad, y.is_leaf, y.grad_fn; y.mul_(b); y.sum().backward()
    return first, b.grad


@program
def in_place_function_reads_its_result(t):
    x = vec(t); y = x * 1; y.sigmoid_(); y.sum().backward()
    return x.grad, y.grad_fn


@program
def in_place_function_then_changed(t):
    x = vec(t); y = x * 1; y.sqrt_(); y.add_(1); y.sum().backward()


@program
def leaf_written(t):
    x = vec(t); x.mul_(2)


@program
def leaf_written_without_recording(t):
    x = vec(t)
    with t.no_grad(): x *= 3
    return x, x._version, x.is_leaf, x.requires_grad


@program
def leaf_written_after_use(t):
    x = vec(t); y = (x ** 3).sum()
    with t.no_grad(): x.sub_(1)
    y.backward()


@program
def leaf_written_after_linear_use(t):
    x = vec(t); y = (x * 2 - 1).mean()
    with t.no_grad(): x.sub_(1)
    y.backward()
    return x.grad, x


@program
def power_of_what_changed(t):
    x = vec(t); y = x * 1; z = y ** 3; y.fill_(2.0); z.sum().backward()


@program
def chosen_branch_changed(t):
    x = vec(t); y = x * 1; z = t.where(y > 1, y, x * 4); y.zero_(); z.sum().backward()
    return x.grad


@program
def mask_changed(t):
    x = vec(t); m = x > 1; z = t.where(m, x, x * 4); m.zero_(); z.sum().backward()


@program
def changed_through_detach(t):
    x = vec(t); y = x.sigmoid(); y.detach().add_(1); y.sum().backward()


@program
def versions_count(t):
    x = vec(t); y = x * 1; v = y[:2]; d = y.detach(); r = [y._version]
    y.add_(1); r += [v._version, d._version]; v.mul_(2); r += [y._version]; y.data.mul_(3); r += [y._version, y.data._version]
    d.zero_(); r += [y._version, (y + 0)._version]; y[1] = 4.0; y[1:] += 1
    return r + [v._version, y._version, y]


@program
def copied_into(t):
    x = vec(t); y = t.zeros(3); y.copy_(x); (y * y).sum().backward()
    return x.grad, y.grad_fn, y.requires_grad


@program
def copied_from_other_dtype(t):
    x = vec(t); y = t.zeros(3, dtype=t.float64); y.copy_(x); (y * 2).sum().backward()
    return x.grad, y


@program
def fill_cuts_the_history(t):
    x = vec(t); y = x * 2; y.fill_(7.0); y.sum().backward()
    return x.grad, y.grad_fn


@program
def zero_cuts_the_history(t):
    x = vec(t); y = x.exp(); y.zero_(); (y + x).sum().backward()
    return x.grad


@program
def written_dtype_refused(t):
    i = t.arange(3); return attempt(lambda: i.add_(0.5)), attempt(lambda: i.div_(2)), i


@program
def written_shape_refused(t):
    return attempt(lambda: t.ones(3).add_(t.ones(2, 3))), attempt(lambda: t.ones(2).copy_(t.ones(3)))


@program
def expanded_memory_written(t):
    return attempt(lambda: t.ones(3).expand(2, 3).add_(1)), attempt(lambda: t.ones(1).expand(4).zero_())


@program
def operators_in_place(t):
    x = t.tensor([7.0, 8.0]); y = x; x += 1; x -= 2; x *= 3; x /= 2; x //= 2; x **= 2; x %= 5
    i = t.tensor([12, 10]); i &= 6; i |= 1; i ^= 3
    return x is y, x, i


@program
def clamp_in_place(t):
    x = vec(t); y = x * 2; y.clamp_(2, 4); y.sum().backward()
    return y, x.grad


@program
def partly_overlapping_operand(t):
    y = vec(t) * 1; y[1:].add_(y[:2])


@program
def overlapping_operand_with_steps(t):
    x = vec(t, 1, 2, 3, 4, 5, 6); y = x * 1; y[::2].mul_(y[1::2]); return attempt(lambda: y.sum().backward())


@program
def same_view_as_operand(t):
    x = vec(t); y = x * 1; y[1:].mul_(y[1:]); return attempt(lambda: y.sum().backward()), y


@program
def loop_in_place(t):
    x = vec(t); y = x * 1
    for _ in range(20): y.mul_(1.1).add_(x * 0.1)
    y.sum().backward()
    return x.grad, y._version


@program
def error_says_which_version(t):
    x = vec(t); y = x * 1; z = y.sin(); y[0] = 1.0; y.mul_(2); z.sum().backward()


@program
def max_index_unharmed_by_input(t):
    x = vec(t); y = x * 1; v = y.max(0)[0]; y.zero_(); v.backward()
    return x.grad


@program
def sorted_places_changed(t):
    x = vec(t, 3, 1, 2); v, i = x.sort(); i.zero_(); v.sum().backward()


@program
def softmax_reads_its_result(t):
    x = vec(t); y = x * 1; s = y.softmax(0); y.zero_(); (s * s).sum().backward(); first = x.grad
    s = (x * 1).softmax(0); s += 1
    return first, attempt(lambda: (s * 2).sum().backward())


@program
def detached_in_place_after_use(t):
    x = vec(t); a = x * 2; b = a * a; a.detach_()
    return a.is_leaf, (a * 2).requires_grad, attempt(lambda: b.sum().backward())


@program
def detached_view_refused(t):
    return attempt(lambda: vec(t)[1:].detach_())


@program
def shapes_changed_in_place(t):
    x = mat(t); y = x * 1; y.unsqueeze_(0); y.transpose_(1, 2); y.squeeze_(0); (y * t.ones(3, 2)).sum().backward()
    return y.shape == (3, 2), y._version, x.grad
