import torch

x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
y = (x ** 3).sum()
g, = torch.autograd.grad(y, x, create_graph=True)
print(g)
h, = torch.autograd.grad(g.sum(), x)
print(h)

x = torch.tensor(0.5, requires_grad=True)
f = torch.sin(x)
for k in range(4):
    f, = torch.autograd.grad(f, x, create_graph=True)
    print(round(f.item(), 4))

w = torch.tensor([0.5, -1.0], requires_grad=True)
loss = (w.tanh() ** 2).sum()
g, = torch.autograd.grad(loss, w, create_graph=True)
penalty = (g ** 2).sum()
(loss + penalty).backward()
print(w.grad)

x = torch.tensor([1.0, 2.0], requires_grad=True)
z = x[0] ** 2 * x[1]
g, = torch.autograd.grad(z, x, create_graph=True)
rows = [torch.autograd.grad(g[i], x, retain_graph=True)[0] for i in range(2)]
print(torch.stack(rows))
x.grad = None
(x ** 2).sum().backward(create_graph=True)
print(x.grad)
