import math
import torch

dtype = torch.float32
x = torch.linspace(-math.pi, math.pi, 200, dtype=dtype)
y = torch.sin(x)
a, b, c, d = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in (0.1, -0.2, 0.3, 0.05)]
rate = 5e-6
for t in range(400):
    y_pred = a + b * x + c * x ** 2 + d * x ** 3
    loss = (y_pred - y).pow(2).sum()
    if t % 100 == 99:
        print(t, round(loss.item(), 3))
    loss.backward()
    with torch.no_grad():
        a -= rate * a.grad
        b -= rate * b.grad
        c -= rate * c.grad
        d -= rate * d.grad
        a.grad = None
        b.grad = None
        c.grad = None
        d.grad = None
print(f"Result: y = {a.item():.4f} + {b.item():.4f} x + {c.item():.4f} x^2 + {d.item():.4f} x^3")

# two layers, in hand-made numbers so that every library draws the same
xs = torch.arange(32.0).reshape(8, 4) / 32 - 0.5
ys = torch.stack([xs.sum(1), xs.prod(1)], dim=1)
w1 = (torch.arange(20.0).reshape(4, 5) / 20 - 0.4).requires_grad_()
w2 = (torch.arange(10.0).reshape(5, 2) / 10 - 0.3).requires_grad_()
for t in range(60):
    h = xs.mm(w1).clamp(min=0)
    loss = (h.mm(w2) - ys).pow(2).sum()
    if t % 20 == 19:
        print(t, round(loss.item(), 4))
    loss.backward()
    with torch.no_grad():
        w1 -= 0.02 * w1.grad
        w2 -= 0.02 * w2.grad
        w1.grad.zero_()
        w2.grad.zero_()
print(w1)
print(w2.sum(dim=0), w1._version)

w = torch.tensor([[0.5], [-0.5]], requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1, momentum=0.9)
data = torch.tensor([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]])
goal = torch.tensor([[1.0], [2.0], [0.0]])
for t in range(30):
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(data @ w, goal)
    loss.backward()
    opt.step()
print(loss, w)
