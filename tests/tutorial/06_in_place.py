import torch


def shown(f):
    try:
        print(f())
    except RuntimeError as e:
        print(f"RuntimeError: {e}")


x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
shown(lambda: x.add_(1))


def exponential():
    y = x.exp()
    y += 1
    y.sum().backward()


def quotient():
    y = x / 2
    y += 1
    y.sum().backward()
    return x.grad


shown(exponential)
shown(quotient)


def product():
    h = x * 1
    y = h * h
    h.zero_()
    y.sum().backward()


shown(product)
y = x * 2
v = y[1:]
v.mul_(10)
print(y, v, y._version, v._version)
y.sum().backward()
print(x.grad)
y = x * 1
y[0] = 5.0
print(y, y.grad_fn)
with torch.no_grad():
    x += 1
    x[0] = 0.0
print(x, x._version, x.is_leaf)
shown(lambda: x[1:].mul_(2))
a, b = (x * 2).unbind()[:2]
shown(lambda: a.add_(1))
shown(lambda: torch.ones(3).expand(2, 3).add_(1))
shown(lambda: torch.ones(3).add_(torch.ones(4)))
z = torch.zeros(3)
z.copy_(x)
z.clamp_(max=2.5).mul_(2)
print(z, z.requires_grad)
