"""One variant in training: its weights and optimizer, its steps (on a GPU as CUDA graphs, one for each length of rows, on a stream of its own), and
what it can do."""
import collections
import contextlib
import json
import os
import random
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import curriculum as C
import judge
import llama
import prompts as P
from optimizer import Optimizer

Variant = collections.namedtuple("Variant", "shape muon rate seed look")  # muon: its rate, 0 without; look: how far heads look back at the start
SHAPES = {"wide": dict(layers=4, width=256, ff=512), "deep": dict(layers=5, width=256, ff=384, tied=True), "slim": dict(layers=6, width=192, ff=512, tied=True),
          "small": dict(layers=4, width=128, head=32, ff=256), "tiny": dict(layers=3, width=64, heads=2, kv=1, head=32, ff=128)}
VARIANTS = {"a": Variant("wide", 0.02, 2e-3, 1, (1, 2)), "b": Variant("deep", 0.02, 2e-3, 2, (1, 2, 3, 4)), "c": Variant("slim", 0.03, 3e-3, 3, (1, 2, 3, 4)),
            "d": Variant("deep", 0, 1.5e-3, 4, (1, 2, 3, 4)), "e": Variant("deep", 0.04, 3e-3, 5, (1, 2)), "f": Variant("wide", 0.03, 3e-3, 6, (1, 2, 3, 4)),
            "t": Variant("tiny", 0.02, 2e-3, 7, (1, 2)), "u": Variant("small", 0.02, 2e-3, 8, (1, 2, 3, 4))}  # t and u for a CPU
PLAIN = (llama.before, llama.after)
STEPS = 16  # steps between two looks at the clock
DECAY = 0.1


class Run:
    """One variant: weights, optimizer, graphs, and what it can do."""

    def __init__(self, name, text, tokens, device, weights=None, rate=1.0):
        v = VARIANTS[name]
        self.name, self.v, self.device, self.tokens, self.top = name, v, device, tokens, rate
        self.shape = llama.Shape(text.vocab, **SHAPES[v.shape])
        self.content = text.content().to(device)
        self.gpu = device.type == "cuda"
        self.stream = torch.cuda.Stream() if self.gpu else None
        self.around = PLAIN
        weights = {n: w.to(device) for n, w in weights.items()} if weights else llama.first_weights(self.shape, v.seed, device, v.look)
        self.opt = Optimizer(weights, torch.bfloat16 if self.gpu else torch.float32, v.muon > 0, DECAY)
        self.generator = torch.Generator(device).manual_seed(v.seed)
        self.rng = random.Random(v.seed)
        self.stat = torch.zeros(len(P.KINDS), 3, device=device)  # of words and digits that can be known: number, right ones, sum of losses
        self.can = dict.fromkeys(P.KINDS, 0.0)
        self.steps, self.loss, self.marks, self.memory, self.at, self.level = 0, float("nan"), [], None, {}, 0

    def step(self, ids, weight, kind, cos, sin):
        """One step on ids and weight (rows, T), kind (rows,). Of all positions only those whose next token counts reach the output matrix:
        at most half, moved to the front without asking the host how many there are."""
        rows, T = ids.shape
        N, K = ids.numel(), ids.numel() // 2
        target, w = ids.roll(-1, 1), weight.roll(-1, 1)
        w[:, -1] = 0
        w = w * (0.1 + 0.9 * self.content[target].float())
        target = target.reshape(-1)
        value = (w * w.sum(1, keepdim=True).clamp(min=1).rsqrt()).reshape(-1)  # a row with many answers doesn't drown one with few
        counts = value > 0
        place = ((counts.cumsum(0) - 1) * counts + ~counts * K).clamp(max=K)
        pos = torch.zeros(K + 1, dtype=torch.long, device=self.device).scatter_(0, place, torch.arange(N, device=self.device))[:K]
        there = torch.arange(K, device=self.device) < counts.sum()
        work = self.opt.work
        h = llama.hidden(self.shape, work, ids, cos, sin, None, *self.around)
        out = llama.logits(self.shape, work, h.index_select(0, pos)).float()
        want = target[pos]
        cross = F.cross_entropy(out, want, reduction="none")
        v = value[pos] * there
        loss = (cross * v).sum() / v.sum().clamp(min=1e-6)
        grads = torch.autograd.grad(loss, [work[n] for n in self.opt.names])
        with torch.no_grad():
            right = out.argmax(-1) == want
            of, asked = kind[:, None].expand(-1, T).reshape(-1)[pos], there & self.content[want]
            self.stat.index_add_(0, of, torch.stack((asked.float(), (asked & right).float(), asked * cross.detach()), 1))
        self.opt.step(dict(zip(self.opt.names, grads)))

    def prepare(self, T):
        """Static inputs for rows of T tokens and, on a GPU, a graph of the step. What the steps before the capture did is taken back."""
        rows = self.tokens // T
        made = {"ids": torch.zeros(rows, T, dtype=torch.long, device=self.device), "weight": torch.ones(rows, T, device=self.device),
                "kind": torch.zeros(rows, dtype=torch.long, device=self.device), "rope": llama.rope(self.shape, rows, T, self.device)}
        made["step"] = lambda: self.step(made["ids"], made["weight"], made["kind"], *made["rope"])
        if self.gpu:
            try:
                made["step"] = self.captured(made["step"])
            except Exception as e:  # whatever the compiler or the capture lacks on this machine: plain steps train too, more slowly
                print(f"{self.name}, {T} tokens: no {'graph' if self.around == PLAIN else 'compiled code'}:", str(e).strip().split("\n")[-1][:200], flush=True)
                if self.around != PLAIN:
                    self.around = PLAIN
                    return self.prepare(T)
        self.at[T] = made

    def captured(self, step):
        """A step as a graph; called on the run's stream."""
        kept = [t.clone() for t in self.opt.state() + [self.stat]]
        self.opt.rate.zero_()
        self.opt.muon_rate.zero_()
        try:
            for _ in range(2):
                step()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            self.memory = self.memory or torch.cuda.graph_pool_handle()
            with torch.cuda.graph(graph, pool=self.memory, stream=self.stream):
                step()
        finally:
            for t, k in zip(self.opt.state() + [self.stat], kept):
                t.copy_(k)
            torch.cuda.synchronize()
        return graph.replay

    def there(self, numbers):
        """Numbers on the device, without waiting for what is under way there."""
        t = torch.tensor(numbers)
        return t.pin_memory().to(self.device, non_blocking=True) if self.gpu else t

    def go(self, data, p):
        """STEPS steps on rows of one length."""
        with torch.cuda.stream(self.stream) if self.gpu else contextlib.nullcontext():
            self.steps_at(data, p)

    def steps_at(self, data, p):
        odds = {t: o for t, o in C.LEVELS[self.level].items() if t in data.at and t <= self.tokens} or {min(data.at): 1.0}
        T = self.rng.choices(list(odds), list(odds.values()))[0]
        if T not in self.at:
            self.prepare(T)
        made, rows = self.at[T], self.tokens // T
        ids, weight, kind = data.draw(T, STEPS * rows, self.there(C.shares(self.can, p)), self.generator)
        share = self.top * C.rate(p, self.steps)
        self.opt.rate.fill_(self.v.rate * share)
        self.opt.muon_rate.fill_(self.v.muon * share)
        for i in range(0, STEPS * rows, rows):
            for name, source in (("ids", ids), ("weight", weight), ("kind", kind)):
                made[name].copy_(source[i:i + rows])
            made["step"]()
        self.steps += STEPS
        if self.steps % (STEPS * 4) == 0:
            self.look()
            self.level = C.level(self.level, self.can, p)
        if self.gpu:  # the host stays at most two calls ahead
            self.marks.append(torch.cuda.Event())
            self.marks[-1].record()
            if len(self.marks) > 2:
                self.marks.pop(0).synchronize()

    def look(self):
        n, right, loss = self.stat.cpu().double().unbind(1)
        self.stat.zero_()
        for k, kind in enumerate(P.KINDS):
            if n[k] > 0:
                self.can[kind] += 0.5 * (float(right[k] / n[k]) - self.can[kind])
        self.loss = float(loss.sum() / n.sum().clamp(min=1))

    def worth(self):
        return sum(self.can.values()) / len(self.can)

    @torch.no_grad()
    def sit(self, exams):
        """Share of prompts answered in full, by task and shots."""
        def said(ids):
            out = []
            for part in ids.split(64):
                rope = llama.rope(self.shape, *part.shape, self.device)
                h = llama.hidden(self.shape, self.opt.work, part, *rope)
                out.append(llama.logits(self.shape, self.opt.work, h).argmax(-1).view(part.shape))
            return torch.cat(out)
        return {name: judge.score(said, ids.to(self.device), answer.to(self.device)) for name, ids, answer in exams}

    def save(self, folder, exam, minutes):
        meta = {"variant": self.name, "steps": str(self.steps), "tokens": str(self.steps * self.tokens), "minutes": f"{minutes:.2f}",
                "shape": json.dumps(vars(self.shape)), "rate": str(self.v.rate), "muon": str(self.v.muon), "seed": str(self.v.seed), "exam": json.dumps({f"{t} {s}": round(x, 4) for (t, s), x in exam.items()})}
        path = os.path.join(folder, self.name + ".safetensors")
        save_file(self.opt.masters(), path + ".new", meta)
        os.replace(path + ".new", path)


def choose_code(runs, T=256, replays=20):
    """Plain or compiled: whichever gives the same loss and is faster."""
    run = runs[0]

    def timed(around):
        run.around = around
        with torch.cuda.stream(run.stream):
            run.prepare(T)
            kept = [t.clone() for t in run.opt.state()]
            run.stat.zero_()
            run.at[T]["ids"].random_(1, run.shape.vocab, generator=run.generator.manual_seed(run.v.seed))
            for i in range(replays + 3):  # at a rate of nothing
                if i == 3:
                    torch.cuda.synchronize()
                    began = time.time()
                run.at[T]["step"]()
            torch.cuda.synchronize()
            took, loss = (time.time() - began) / replays, float(run.stat[0, 2] / run.stat[0, 0])
            run.stat.zero_()
            for t, k in zip(run.opt.state(), kept):
                t.copy_(k)
        torch.cuda.synchronize()
        return took, loss

    torch._dynamo.config.recompile_limit = 64
    code = tuple(torch.compile(f, dynamic=False, fullgraph=True) for f in PLAIN)
    plain, loss = timed(PLAIN)
    fast, same = timed(code)
    good = run.around == code and fast < plain and abs(same - loss) < 0.02 * abs(loss)
    print(f"plain {plain * 1e3:.2f} ms a step, loss {loss:.4f}; compiled {fast * 1e3:.2f} ms, loss {same:.4f}: {'compiled' if good else 'plain'}", flush=True)
    for r in runs:
        r.around = code if good else PLAIN
        r.at.clear()
