import torch

x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
y = x * 2
count = 0
while y.data.norm() < 1000:
    y = y * 2
    count += 1
print(count, y)
v = torch.tensor([0.1, 1.0, 0.0001])
y.backward(v)
print(x.grad)

inp = torch.eye(4, 5, requires_grad=True)
out = (inp + 1).pow(2).t()
out.backward(torch.ones_like(out), retain_graph=True)
print(f"First call\n{inp.grad}")
out.backward(torch.ones_like(out), retain_graph=True)
print(f"\nSecond call\n{inp.grad}")
inp.grad.zero_()
out.backward(torch.ones_like(out), retain_graph=True)
print(f"\nCall after zeroing gradients\n{inp.grad}")

try:
    (x * x).backward()
except RuntimeError as e:
    print(e)
try:
    (x * x).backward(torch.ones(2))
except RuntimeError as e:
    print(e)
s = (x * x).sum()
s.backward()
try:
    s.backward()
except RuntimeError as e:
    print(e)
