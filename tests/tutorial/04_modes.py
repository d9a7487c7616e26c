import torch

x = torch.tensor([1.0, 2.0], requires_grad=True)
print((x ** 2).requires_grad)
with torch.no_grad():
    print((x ** 2).requires_grad)
    with torch.enable_grad():
        print((x ** 2).requires_grad)
print((x ** 2).requires_grad)

y = x.detach()
print(y.requires_grad, x.eq(y).all())
z = (x * 3).detach()
print(z, z.grad_fn)


@torch.no_grad()
def double(t):
    return t * 2


def halve(t):
    return t / 2


print(double(x).requires_grad, torch.no_grad()(halve)(x).requires_grad, halve(x).requires_grad)
torch.set_grad_enabled(False)
print((x * 2).requires_grad, torch.is_grad_enabled())
torch.set_grad_enabled(True)
with torch.inference_mode():
    i = x * 2
print(i.requires_grad, (x * 2).requires_grad)

x = torch.ones(1)
print(x.requires_grad)
x = torch.tensor([1.0, 2.0], requires_grad=True)
y = 2 * x
x.data *= 100
y.backward(torch.ones(2))
print(x)
print(x.grad)
print(x.data, x.data.requires_grad)

x.requires_grad_(False)
print((x * 2).requires_grad)
for bad in (lambda: torch.tensor([1, 2], requires_grad=True), lambda: setattr(torch.ones(1, requires_grad=True) * 2, "requires_grad", False),
            lambda: torch.ones(2, requires_grad=True).numpy(), lambda: torch.ones(2).sum().backward()):
    try:
        bad()
    except RuntimeError as e:
        print(e)
