"""One variant in training: its weights and optimizer, its steps (on a GPU as CUDA graphs, one for each length of rows, on a stream of its own), and
what it can do."""
import collections
import contextlib
import json
import math
import os
import random
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import curriculum as C
import judge
import llama
import pool
import prompts as P
import sight
from optimizer import Optimizer

# muon: its rate, 0 without; look: how far heads look back at the start; sinks: (layer, head) that begin as such; start: weights to go on from;
# hide: the level from which on shots are hidden (sight.py)
Variant = collections.namedtuple("Variant", "shape muon rate seed look sinks start hide", defaults=((), None, 0))
EMBEDDED = os.path.join(pool.HERE, "embedded", "model.safetensors")
SHAPES = {"wide": dict(layers=4, width=256, ff=512), "deep": dict(layers=5, width=256, ff=384, tied=True), "slim": dict(layers=6, width=192, ff=512, tied=True),
          "small": dict(layers=4, width=128, head=32, ff=256), "tiny": dict(layers=3, width=64, heads=2, kv=1, head=32, ff=128)}
VARIANTS = {"a": Variant("wide", 0.02, 2e-3, 1, (1,), ((2, 3),)), "b": Variant("wide", 0.03, 3e-3, 2, (1,), ((2, 3),), None, 2),
            "c": Variant("wide", 0.03, 3e-3, 6, (1, 2, 3, 4), ((2, 3),), None, 2), "d": Variant("wide", 0.02, 2e-3, 4, (1, 2), ((2, 3),)),
            "e": Variant("deep", 0.02, 2e-3, 5, (1, 2), ((3, 3),)), "f": Variant("wide", 0.02, 1.5e-3, 3, (), ((2, 2),), EMBEDDED),
            "t": Variant("tiny", 0.02, 2e-3, 7, (1, 2), ((2, 1),)), "u": Variant("small", 0.02, 2e-3, 8, (1,), ((2, 3),))}  # t and u for a CPU
PLAIN = (llama.before, llama.after)
STEPS = 16  # steps between two looks at the clock
DECAY = 0.1
REST = 0.05  # in the loss, times the logarithm by which a sink's weight on token 0 misses 0.7


class Run:
    """One variant: weights, optimizer, graphs, and what it can do."""

    def __init__(self, name, text, tokens, device, weights=None, rate=1.0):
        v = VARIANTS[name]
        self.name, self.v, self.device, self.tokens, self.top = name, v, device, tokens, rate
        self.shape = llama.Shape(text.vocab, **SHAPES[v.shape])
        self.guess, self.means = (t.to(device) for t in text.guesses())
        self.gpu = device.type == "cuda"
        self.stream = torch.cuda.Stream() if self.gpu else None
        self.around = PLAIN
        weights = weights or (load_file(v.start) if v.start else llama.first_weights(self.shape, v.seed, "cpu", v.look, v.sinks))
        weights = {n: F.pad(w.float(), (0, 0, 0, text.vocab - len(w)) if "embed" in n or "lm_head" in n else (0, 0)).to(device) for n, w in weights.items()}
        self.opt = Optimizer(weights, torch.bfloat16 if self.gpu else torch.float32, v.muon > 0, DECAY)
        self.generator = torch.Generator(device).manual_seed(v.seed)
        self.rng = random.Random(v.seed)
        # Of words and digits that can be known: number, right ones, sum of losses; then of hidden ones, and of those said without the system text.
        self.stat = torch.zeros(len(P.KINDS) + 2, 3, device=device)
        self.can, self.leak, self.obey = dict.fromkeys(P.KINDS, 0.0), 1.0, 1.0
        self.steps, self.loss, self.marks, self.memory, self.at, self.level, self.exam = 0, float("nan"), [], None, {}, 0, {}

    def step(self, b, cos, sin):
        """One step on a Batch. Of all positions only those whose next token counts reach the output matrix: at most half, moved to the front
        without asking the host how many there are."""
        rows, T = b.ids.shape
        N, K = b.ids.numel(), b.ids.numel() // 2
        target, mark, plain = b.ids.roll(-1, 1), b.mark.roll(-1, 1), b.plain.roll(-1, 1)
        w = ((mark & pool.COUNTS) > 0) * (0.1 + 0.9 * ((mark & pool.CONTENT) > 0))
        w[:, -1] = 0
        w = w.reshape(rows, T)
        value = (w * w.sum(1, keepdim=True).clamp(min=1).rsqrt()).reshape(-1)  # a row with many answers doesn't drown one with few
        counts = value > 0
        place = ((counts.cumsum(0) - 1) * counts + ~counts * K).clamp(max=K)
        pos = torch.zeros(K + 1, dtype=torch.long, device=self.device).scatter_(0, place, torch.arange(N, device=self.device))[:K]
        there = torch.arange(K, device=self.device) < counts.sum()
        # What should be said: the text's token; the plain one where the system text is hidden; any of its class where nobody tells it.
        hush, blind = plain != target, (b.task == sight.RIGHT) | (b.task == sight.BOTH)
        deaf = hush & ((b.task == sight.SYSTEM) | (b.task == sight.BOTH))
        want = torch.where(deaf, plain, target)
        group = self.guess.reshape(-1)[b.how[:, None] * self.shape.vocab + want]
        lost = ((mark & pool.VALUE) > 0) & blind & (~hush | deaf) & (group >= 0)
        target, want, group, lost, deaf, content = (t.reshape(-1)[pos] for t in (target, want, group, lost, deaf, (mark & pool.CONTENT) > 0))
        mask = sight.seen(b.key, b.ask, b.own, (b.mark & pool.SYSTEM) > 0, b.task, b.lucky)
        work = self.opt.work
        half = work["model.embed_tokens.weight"].dtype
        mask = torch.zeros(mask.shape, dtype=half, device=self.device).masked_fill(~mask, float("-inf"))
        rest = []
        see = lambda i, q, k: rest.extend(llama.first_mass(q, k, rows, mask, head) for at, head in self.v.sinks if at == i)
        h = llama.hidden(self.shape, work, b.ids, cos, sin, mask, *self.around, see)
        out = llama.logits(self.shape, work, h.index_select(0, pos)).float()
        guess = out.logsumexp(1) - (out @ self.means.T).gather(1, group.clamp(min=0)[:, None])[:, 0]
        cross = torch.where(lost, guess, F.cross_entropy(out, want, reduction="none"))
        v = value[pos] * there
        loss = (cross * v).sum() / v.sum().clamp(min=1e-6) + sum(REST * F.relu(math.log(0.7) - r).mean() for r in rest)
        grads = torch.autograd.grad(loss, [work[n] for n in self.opt.names])
        with torch.no_grad():
            right = out.argmax(-1) == target
            of, asked = b.kind[:, None].expand(-1, T).reshape(-1)[pos], there & content
            of = torch.where(lost, len(P.KINDS), torch.where(deaf, len(P.KINDS) + 1, of))
            self.stat.index_add_(0, of, torch.stack((asked.float(), (asked & right).float(), asked * cross.detach()), 1))
        self.opt.step(dict(zip(self.opt.names, grads)))

    def prepare(self, T):
        """Static inputs for rows of T tokens and, on a GPU, a graph of the step. What the steps before the capture did is taken back."""
        rows = self.tokens // T
        empty = lambda *shape: torch.zeros(shape, dtype=torch.long, device=self.device)
        made = {"batch": pool.Batch(*(empty(rows, T) for _ in range(7)), empty(rows, T) > 0, empty(rows), empty(rows)),
                "rope": llama.rope(self.shape, rows, T, self.device)}
        made["batch"].mark.fill_(pool.COUNTS + pool.CONTENT)
        made["step"] = lambda: self.step(made["batch"], *made["rope"])
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
        batch = data.draw(T, STEPS * rows, self.there(C.shares(self.can, p)), self.generator, self.level >= self.v.hide)
        share = self.top * C.rate(p, self.steps)
        self.opt.rate.fill_(self.v.rate * share)
        self.opt.muon_rate.fill_(self.v.muon * share)
        for i in range(0, STEPS * rows, rows):
            for to, source in zip(made["batch"], batch):
                to.copy_(source[i:i + rows])
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
        self.loss = float(loss[:-2].sum() / n[:-2].sum().clamp(min=1))
        if n[-2] > 0 and n[-1] > 0:
            self.leak, self.obey = (float(r / m) for r, m in zip(right[-2:], n[-2:]))

    def worth(self):
        """Prompts answered in full, less those answered from what was hidden, and whether there is an induction head, at
        the last exam; before the first one, by the steps."""
        if not self.exam:
            return sum(self.can.values()) / len(self.can) - 0.2 * (self.leak + self.obey) - 1
        good = [self.exam[t, s] for t in P.TASKS for s in judge.SHOTS[1:]]
        bad = [self.exam[t, 8] for t in ("recall without right", "mapping without right", "safety without system")]
        return sum(good) / len(good) - 0.5 * sum(bad) / len(bad) + 0.2 * min(1.0, self.exam["induction head", 64] / 0.4)

    @torch.no_grad()
    def sit(self, exams):
        """Share of prompts answered in full, by task and shots."""
        def said(ids, mask):
            out = []
            for i in range(0, len(ids), 64):
                part = ids[i:i + 64]
                rope = llama.rope(self.shape, *part.shape, self.device)
                h = llama.hidden(self.shape, self.opt.work, part, *rope, None if mask is None else mask[i:i + 64])
                out.append(llama.logits(self.shape, self.opt.work, h).argmax(-1).view(part.shape))
            return torch.cat(out)
        there = lambda t: None if t is None else t.to(self.device)
        self.exam = {name: judge.score(lambda x: said(x, there(mask)), there(ids), there(answer)) for name, ids, answer, mask in exams}
        self.exam.update(self.heads())
        return self.exam

    @torch.no_grad()
    def heads(self, S=64, n=10):
        """The best induction head and the best sink on S random tokens, said twice (docs/measures.md, section 6)."""
        first = torch.randint(1, self.shape.vocab - 63, (n, S), generator=torch.Generator().manual_seed(1)).to(self.device)
        ids = torch.cat((torch.zeros_like(first[:, :1]), first, first), 1)
        at, best = torch.arange(S + 1, 2 * S + 1, device=self.device), {("induction head", S): 0.0, ("sink head", S): 0.0}

        def see(layer, q, k):
            q, k = (t.view(n, 2 * S + 1, -1, self.shape.head).transpose(1, 2).float() for t in (q, k.repeat_interleave(q.shape[1] // k.shape[1], 1)))
            a = (q @ k.transpose(2, 3) / math.sqrt(self.shape.head)).masked_fill(torch.ones(2 * S + 1, 2 * S + 1, device=self.device).triu(1) > 0, float("-inf")).softmax(-1)
            for name, x in (("induction head", a[:, :, at, at - S + 1].mean((0, 2))), ("sink head", a[:, :, 32:, 0].mean((0, 2)))):
                best[name, S] = max(best[name, S], float(x.max()))

        llama.hidden(self.shape, self.opt.work, ids, *llama.rope(self.shape, *ids.shape, self.device), see=see)
        return best

    def save(self, folder, exam, minutes):
        meta = {"variant": self.name, "steps": str(self.steps), "tokens": str(self.steps * self.tokens), "minutes": f"{minutes:.2f}",
                "shape": json.dumps(vars(self.shape)), "rate": str(self.v.rate), "muon": str(self.v.muon), "seed": str(self.v.seed), "exam": json.dumps({f"{t} {s}": round(x, 4) for (t, s), x in exam.items()})}
        path = os.path.join(folder, self.name + ".safetensors")
        save_file({n: w.half() for n, w in self.opt.masters().items()}, path + ".new", meta)
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
            run.at[T]["batch"].ids.random_(1, run.shape.vocab, generator=run.generator.manual_seed(run.v.seed))
            took = float("inf")
            for _ in range(replays):  # at a rate of nothing; the shortest, since others may be at work
                began = time.time()
                run.at[T]["step"]()
                torch.cuda.synchronize()
                took = min(took, time.time() - began)
            loss = float(run.stat[0, 2] / run.stat[0, 0])
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
