""".data, views, and memory that is shared with NumPy."""

import numpy as np

from .frame import attempt, mat, program, vec


# ---------------------------------------------------------------- .data
@program
def result_changed_through_data(t):
    x = vec(t); y = x.exp(); y.data.mul_(2); y.sum().backward()
    return x.grad, y, y._version


@program
def input_changed_through_data(t):
    x = vec(t); y = x * 1; z = (y * y).sum(); y.data.add_(1); z.backward()
    return x.grad, z


@program
def leaf_scaled_through_data(t):
    x = vec(t); y = (x ** 2).sum(); x.data *= 100; y.backward()
    return x.grad, x, x.is_leaf, y


@program
def leaf_data_replaced(t):
    x = vec(t); y = (x ** 2).sum(); x.data = t.tensor([10.0, 20.0, 30.0]); y.backward()
    return x.grad, x


@program
def data_changed_and_tensor_dropped(t):
    x = vec(t); y = x.tanh(); y.data.mul_(0.5); s = y.sum(); del y; s.backward()
    return x.grad


@program
def data_of_a_view(t):
    x = vec(t); y = x * 2; v = y[:2]; v.data.fill_(1.0); (y * y).sum().backward()
    return x.grad, y, v._version, y._version


@program
def data_then_version(t):
    x = vec(t); y = x.exp(); y.data.mul_(3); y.add_(0); y.sum().backward()


@program
def data_has_no_history(t):
    x = vec(t); d = (x * 2).data
    return d.requires_grad, d.is_leaf, d.grad_fn, d


# ---------------------------------------------------------------- views
@program
def base_written_then_view_used(t):
    x = vec(t); y = x * 2; v = y[1:]; y.mul_(5); v.sum().backward()
    return x.grad, v, v.grad_fn, y.grad_fn


@program
def view_written_then_base_used(t):
    x = vec(t); y = x * 2; v = y[1:]; v.mul_(5); (y * y).sum().backward()
    return x.grad, y, v.grad_fn, y.grad_fn


@program
def chain_of_views_written(t):
    x = mat(t); y = x * 2; v = y.t(); w = v[1:]; w.sin_(); y.sum().backward()
    return x.grad, y, v.grad_fn, w.grad_fn, y.grad_fn


@program
def reshaped_view_written(t):
    x = mat(t); y = x * 2; v = y.reshape(3, 2); w = v[1:].reshape(4); w[0] = 9.0; w.mul_(x.reshape(6)[:4])
    (y * y).sum().backward()
    return x.grad, y, w


@program
def overlapping_views_written(t):
    x = vec(t, 1, 2, 3, 4); y = x * 1; a, b = y[:3], y[1:]; a.mul_(2); b.mul_(3); a.add_(b.clone()); y.sum().backward()
    return x.grad, y, a, b, y._version


@program
def sibling_views(t):
    x = vec(t); y = x * 1; a, b = y[:2], y[1:]; a.exp_(); b.mul_(a.clone()); (y * 2).sum().backward()
    return x.grad, y


@program
def number_assigned(t):
    x = vec(t); y = x * 2; y[1] = 5.0; (y * y).sum().backward()
    return x.grad, y, y.grad_fn, y._version


@program
def tensor_assigned(t):
    x, z = vec(t), t.tensor(4.0, requires_grad=True); y = x * 2; y[0] = z; y[1:] *= z; y.sum().backward()
    return x.grad, z.grad, y


@program
def assigned_into_constant(t):
    x = vec(t); b = t.zeros(2, 3); b[1] = x; b[0, :2] = x[1:] * 2; (b * b).sum().backward()
    return x.grad, b, b.is_leaf, b.grad_fn


@program
def constant_base_gets_history(t):
    b = t.zeros(4); v, w = b[1:3], b[:1]; x = vec(t, 2, 3); v.add_(x); b.sum().backward()
    return x.grad, v.requires_grad, w.requires_grad, v.grad_fn, w.grad_fn, v.is_leaf, b


@program
def view_function_then_view_changed(t):
    x = vec(t); y = x * 1; v = y[1:]; v.exp_(); v.add_(1); y.sum().backward()


@program
def view_function_then_base_changed_elsewhere(t):
    x = vec(t); y = x * 1; v = y[1:]; v.exp_(); y[0] = 3.0; y.sum().backward()


@program
def read_before_and_after_write(t):
    x = vec(t); y = x * 2; z = y + 0; y[0] = 9.0; w = y + z; w.sum().backward()
    return x.grad, z, w


@program
def reads_between_writes_without_history(t):
    a = t.ones(4); v = a[1:3]; v += 1; b = a * 2; a[2] = 7.0; c = v * 1
    return a, b, c, v


@program
def view_of_leaf_written(t):
    x = vec(t); x[1:].mul_(2)


@program
def leaf_assigned_to(t):
    x = vec(t); x[0] = 1.0


@program
def blind_view_written(t):
    x = vec(t); y = x * 2
    with t.no_grad(): v = y[1:]
    v.mul_(2)


@program
def blind_view_of_leaf(t):
    x = vec(t)
    with t.no_grad(): v = x[1:]; v.mul_(2)
    return x, v.requires_grad, x._version, x.is_leaf


@program
def blind_view_used_later(t):
    x = vec(t)
    with t.no_grad(): v = x[1:]
    y = (v * 2).sum(); flags = v.requires_grad, v.grad_fn, v.is_leaf, y.requires_grad; y.backward()
    return flags, x.grad, v.grad


@program
def blind_view_stale(t):
    x = vec(t); y = x * 2
    with t.no_grad(): v = y[1:]; v.mul_(2)
    return v.requires_grad, attempt(lambda: v.grad_fn), attempt(lambda: v * 2), y


@program
def recorded_view_written_without_recording(t):
    x = vec(t); y = x * 2; v = y[1:]
    with t.no_grad(): v.mul_(5)
    v.sum().backward()
    return x.grad, v, v.grad_fn, y.grad_fn


@program
def stale_view_of_leaf(t):
    x = vec(t); v = x[1:]
    with t.no_grad(): x.mul_(2)
    (v * v).sum().backward()
    return x.grad, v.grad_fn, v


@program
def detached_view_written(t):
    x = vec(t); y = x * 2; d = y[1:].detach(); d.mul_(3); (y * 1).sum().backward()
    return y, x.grad, d._version, y.grad_fn, d.requires_grad


@program
def write_to_detached_base_seen_by_view(t):
    x = vec(t); y = x * 2; v = y[1:]; y.detach()[2] = 100.0; v.sum().backward()
    return v, x.grad, v.grad_fn


@program
def expanded_view_follows_base(t):
    x = vec(t); a = x * 1; b = a.expand(2, 3); a.mul_(2); (b * b).sum().backward()
    return x.grad, b


@program
def reshape_copies_when_it_must(t):
    x = mat(t); y = x * 1; v = y.t().reshape(6); v.mul_(2); (y + 0).sum().backward()
    return x.grad, y, v.grad_fn, v._is_view()


@program
def memory_order_decides_reshape(t):
    x = mat(t, grad=False); e = x.t().exp(); e.reshape(6).zero_(); f = x.t().contiguous(); f.reshape(6).zero_()
    return e, f, e.stride(), f.stride(), (x.t() + t.ones(3, 2)).stride(), x.t().clone().stride()


@program
def view_refuses_strides(t):
    x = mat(t); return attempt(lambda: x.t().view(6)), x.view(3, 2), x.t().view(3, 2, 1).stride()


@program
def strided_write(t):
    x = vec(t, 1, 2, 3, 4, 5); y = x * x; y[::2] *= y[::2].clone(); y.sum().backward()
    return x.grad, y


@program
def rows_built_in_a_loop(t):
    x = vec(t); y = t.zeros(4, 3); y[0] = x
    for i in range(1, 4): y[i] = y[i - 1].clone() * x
    y[3].sum().backward()
    return x.grad, y


@program
def rows_built_without_clone(t):
    x = vec(t); y = t.zeros(4, 3); y[0] = x
    for i in range(1, 4): y[i] = y[i - 1] * x
    y[3].sum().backward()


@program
def views_of_several(t):
    y = mat(t) * 1; a, b = y.unbind(0); c = y.split(1, dim=1)
    return (attempt(lambda: a.add_(1)), attempt(lambda: c[1].mul_(2)), a.grad_fn, c[0].grad_fn,
            attempt(lambda: [r.zero_() for r in y][0]))


@program
def unbound_rows_used(t):
    x = mat(t); a, b = x.unbind(0); p, q = x.chunk(2, dim=0); ((a * b).sum() + (p * 3 - q).sum()).backward()
    return x.grad


@program
def diagonal_written(t):
    x = t.ones(3, 3, requires_grad=True); y = x * 2; y.diagonal().mul_(5); y.diagonal(1).zero_(); (y * y).sum().backward()
    return x.grad, y, y.diagonal(1).stride()


@program
def steps_and_none_and_ellipsis(t):
    x = t.arange(24.0).reshape(2, 3, 4).requires_grad_(); y = x * 1; y[..., ::2][:, 1:] = -1.0; y[0, None, 2] *= 3
    (y * y).sum().backward()
    return x.grad, y[None, ..., 1].shape == (1, 2, 3)


@program
def index_out_of_range(t):
    x = vec(t); r = attempt(lambda: x[3]), attempt(lambda: x[t.tensor([0, 7])]), attempt(lambda: x[0, 0])
    (x * 2).sum().backward()
    return r, x.grad


@program
def gathered_twice(t):
    x = vec(t); y = x[t.tensor([0, 2, 0])]; (y * t.tensor([1.0, 10.0, 100.0])).sum().backward()
    return y, x.grad, y.grad_fn


@program
def masks_read_and_write(t):
    x = vec(t); y = x * 2; y[y > 2] = 0.5; z = x[x > 1]; (y.sum() + (z * z).sum()).backward()
    return x.grad, y, z, y.grad_fn


@program
def index_assigned(t):
    x, v = vec(t), vec(t, 7, 8); y = x * 1; y[t.tensor([2, 0])] = v; (y * t.tensor([1.0, 2.0, 3.0])).sum().backward()
    return x.grad, v.grad, y


# ---------------------------------------------------------------- NumPy memory
@program
def array_changed_while_pending(t):
    a = np.ones(3, np.float32); x = t.from_numpy(a); y = x * 2; a[0] = 50
    return y, x, x * 1


@program
def array_changed_before_backward(t):
    a = np.ones(3, np.float32); x = t.from_numpy(a).requires_grad_(); y = (x * x).sum(); a[:] = 7; y.backward()
    return y, x.grad


@program
def array_sees_writes(t):
    a = np.ones(3, np.float32); x = t.from_numpy(a); x.add_(1); r = a.copy(); x[1] = 9.0; v = x[2:]; v *= 4
    return r, a, x._version


@program
def exported_memory_changed(t):
    y = t.ones(3) * 3; n = y.numpy(); n[0] = 8; z = y * 2; n[1] = 9
    return z, y, n


@program
def export_of_what_is_still_read(t):
    x = t.ones(3) + 0; y = x * 3; n = x.numpy(); n[:] = 9
    return y, x


@program
def export_of_a_view(t):
    x = t.zeros(2, 3) + 0; n = x.t()[1:].numpy(); n[0, 0] = 5; x[0, 2] = 7.0
    return x, n


@program
def export_of_a_parameter(t):
    w = vec(t); n = w.detach().numpy(); (w * w).sum().backward()
    with t.no_grad(): w -= 0.5 * w.grad
    n[0] = 3
    return w, n, (w * 2).sum()


@program
def two_tensors_over_one_array(t):
    a = np.zeros(3, np.float32); x, y = t.from_numpy(a), t.from_numpy(a); z = y + 1; x.add_(5)
    return y, z, y + 1, a


@program
def array_dropped(t):
    x = t.from_numpy(np.arange(3, dtype=np.float32)); y = x * 2; x.add_(1)
    return x, y


@program
def part_of_an_array(t):
    a = np.arange(6, dtype=np.float32); x = t.from_numpy(a[2:5]); y = x + 0; a[3] = 100; x[0] = -1.0
    return x, y, a


@program
def transposed_array(t):
    a = np.arange(6, dtype=np.float32).reshape(2, 3); x = t.from_numpy(a.T); x[0, 1] = 50; y = x * 2
    return a, y, x.stride()


@program
def export_of_a_gradient(t):
    x = vec(t); (x * x).sum().backward(); n = x.grad.numpy(); (x * x).sum().backward()
    return n, x.grad


@program
def as_tensor_shares_and_tensor_copies(t):
    a = np.ones(2, np.float32); s, c = t.as_tensor(a), t.tensor(a); a[0] = 5
    return s, c, t.as_tensor(s) is s


@program
def numpy_refuses_what_wants_grad(t):
    x = vec(t)
    return attempt(lambda: x.numpy()), attempt(lambda: np.asarray(x)), x.detach().numpy()
