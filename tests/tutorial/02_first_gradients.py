import torch

x = torch.ones(2, 2, requires_grad=True)
print(x)
y = x + 2
print(y)
print(y.grad_fn)
z = y * y * 3
out = z.mean()
print(z, out)

a = torch.tensor([[0.5, -1.0], [2.0, 1.5]])
a = (a * 3) / (a - 1)
print(a.requires_grad)
a.requires_grad_(True)
print(a.requires_grad)
b = (a * a).sum()
print(b.grad_fn)

out.backward()
print(x.grad)
print(x.is_leaf, y.is_leaf, x.grad_fn, out.requires_grad)

x = torch.tensor([2.0, 3.0], requires_grad=True)
w = torch.tensor([6.0, 4.0], requires_grad=True)
q = 3 * x ** 3 - w ** 2
print(q)
q.backward(gradient=torch.tensor([1.0, 1.0]))
print(9 * x ** 2 == x.grad)
print(-2 * w == w.grad)
print(x.grad, w.grad)

x = torch.ones(5)
y = torch.zeros(3)
w = torch.tensor([[0.1, 0.2, 0.3]] * 5, requires_grad=True)
b = torch.tensor([0.5, -0.5, 0.25], requires_grad=True)
z = torch.matmul(x, w) + b
loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
print(f"Gradient function for z = {z.grad_fn}")
print(f"Gradient function for loss = {loss.grad_fn}")
loss.backward()
print(w.grad)
print(b.grad)
