"""AdamW, and Muon for the matrices inside the layers, over few flat tensors: a step is some dozens of kernels, all of which a CUDA graph can hold.

Masters and states are f32. The model reads copies (`work`): matrices in bf16 on a GPU, norms in f32. Rates are tensors on the device, so that a
captured step follows a schedule. Muon (K. Jordan and others, 2024): momentum, made orthogonal by five Newton-Schulz iterations."""
import math

import torch


def orthogonal(g):
    """(n, r, c) with r <= c: singular values to about 1, by the quintic iteration of Muon's authors."""
    x = g / (g.float().square().sum((1, 2), keepdim=True).sqrt() + 1e-7).to(g.dtype)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x


class Optimizer:
    def __init__(self, weights, half, muon, decay, betas=(0.9, 0.98)):
        """weights: name to f32 tensor. half: the type of the matrices that the model reads. muon: share them between Muon and AdamW."""
        device = next(iter(weights.values())).device
        self.decay, self.betas = decay, betas
        inner = [n for n, w in weights.items() if muon and w.dim() == 2 and "layers" in n]
        shapes = sorted({tuple(weights[n].shape) for n in inner})
        self.groups = [[n for n in inner if tuple(weights[n].shape) == s] for s in shapes]
        self.stacks = [torch.stack([weights[n] for n in g]) for g in self.groups]
        self.speed = [torch.zeros_like(s) for s in self.stacks]
        self.flat_names = [n for n in weights if n not in inner]
        self.flat = torch.cat([weights[n].reshape(-1) for n in self.flat_names])
        self.m, self.v = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        # Weights of norms and embeddings aren't pulled to zero.
        self.pull = torch.cat([torch.full((weights[n].numel(),), float(weights[n].dim() == 2 and "layers" in n), device=device) for n in self.flat_names])
        self.step_no = torch.zeros((), device=device)
        self.rate, self.muon_rate = torch.zeros((), device=device), torch.zeros((), device=device)
        self.views = dict(zip(self.flat_names, (p.view(weights[n].shape) for n, p in
                                                zip(self.flat_names, self.flat.split([weights[n].numel() for n in self.flat_names])))))
        for names, stack in zip(self.groups, self.stacks):
            self.views.update(zip(names, stack.unbind(0)))
        self.names = list(weights)
        self.work = {n: self.views[n].to(half if weights[n].dim() == 2 else torch.float32).clone().requires_grad_() for n in self.names}

    def masters(self):
        return {n: self.views[n].detach().cpu().clone() for n in self.names}

    def state(self):
        return [self.flat, self.m, self.v, self.step_no] + self.stacks + self.speed

    @torch.no_grad()
    def step(self, grads):
        """grads: name to gradient of `work`."""
        b1, b2 = self.betas
        self.step_no += 1
        g = torch.cat([grads[n].reshape(-1).float() for n in self.flat_names])
        g *= (1.0 / (g.norm() + 1e-6)).clamp(max=1.0)
        self.m.lerp_(g, 1 - b1)
        self.v.lerp_(g * g, 1 - b2)
        first, second = (1 - torch.exp(self.step_no * math.log(b)) for b in self.betas)
        update = (self.m / first) / ((self.v / second).sqrt() + 1e-9)
        self.flat -= self.rate * (update + self.decay * self.pull * self.flat)
        for names, stack, speed in zip(self.groups, self.stacks, self.speed):
            g = torch.stack([grads[n] for n in names]).float()
            speed.lerp_(g, 0.05)
            g = g.lerp(speed, 0.95).to(self.work[names[0]].dtype)
            tall = g.shape[1] > g.shape[2]
            o = orthogonal(g.transpose(1, 2) if tall else g)
            o = (o.transpose(1, 2) if tall else o).float() * max(1.0, stack.shape[1] / stack.shape[2]) ** 0.5
            stack -= self.muon_rate * (o + self.decay * stack)
        torch._foreach_copy_([self.work[n] for n in self.names], [self.views[n] for n in self.names])
