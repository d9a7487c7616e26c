import torch

x = torch.tensor(3.0, requires_grad=True)
y = x * x
z = y * 2
y.retain_grad()
z.backward()
print(x.grad, y.grad, z.is_leaf, x.is_leaf, y.is_leaf)
z = (x * x).exp()
print(z.grad_fn, z.grad_fn.next_functions[0][0], type(z.grad_fn.next_functions[0][0].next_functions[0][0]).__name__)

x = torch.tensor(2.0, requires_grad=True)
for _ in range(3):
    (x ** 2).backward()
    print(x.grad)
x.grad.zero_()
(x ** 3).backward()
print(x.grad)
x.grad = None
loss = x ** 2 * 5
loss.backward(retain_graph=True)
loss.backward()
print(x.grad)

w = torch.tensor([1.0, 2.0], requires_grad=True)
h = w.register_hook(lambda g: g * 10)
(w * w).sum().backward()
print(w.grad)
h.remove()
w.grad = None
(w * w).sum().backward()
print(w.grad)
frozen = torch.tensor([1.0, 2.0])
(w * frozen).sum().backward()
print(frozen.grad, w.grad)
u = torch.tensor([1.0], requires_grad=True)
unused = torch.tensor([1.0], requires_grad=True)
print(torch.autograd.grad((u * 2).sum(), [u, unused], allow_unused=True))
