"""Trains the embedded model on one GPU within a given time: several variants side by side, of which the better ones get the time of the others.

    python3 models/train.py --minutes 5 --out DIR
    python3 models/train.py --minutes 5 --out DIR --variants a --from OLD/a.safetensors --begin 0.4

Needs PyTorch, tokenizers and safetensors; nothing else of the project needs any. Without a GPU the same steps run one by one (--variants u).
DIR gets log.tsv (accuracy by kind of text), exam.tsv (prompts answered in full, by task and shots) and the weights of who is left."""
import argparse
import collections
import concurrent.futures
import gc
import multiprocessing
import os
import time

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # few kernels; the other cores make text

import torch
from safetensors.torch import load_file

import curriculum as C
import judge
import llama
import pool
import prompts as P
from run import Run, choose_code

PRINT = 12.0  # seconds between two lines
EXAM = 0.15   # share of the run between two exams
LAST = 6.0    # seconds for the exam at the end


class Making:
    """Text under way: processes that make rows and exams."""

    def __init__(self, workers, tokens, exam, seed):
        # They are forked, which must come before any use of a GPU.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self.workers = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("fork"))
        self.rows, exams = collections.defaultdict(list), judge.jobs(exam, 1000 + seed)
        for job in pool.jobs(tokens, seed):
            if exams and job[1] > 256:
                self.exams, exams = [self.workers.submit(judge.exam, j) for j in exams], None
            self.rows[job[1]].append(self.workers.submit(pool.make_rows, job))

    def fetch(self, data, wait=False):
        """The next length of rows that is whole goes to the device."""
        for length, parts in self.rows.items():
            if wait or all(f.done() for f in parts):
                data.add(length, [f.result() for f in self.rows.pop(length)])
                return length
        return None

    def exam(self, wait=False):
        return [f.result() for f in self.exams] if wait or all(f.done() for f in self.exams) else None


class Log:
    """log.tsv, exam.tsv and the screen."""

    def __init__(self, folder, began):
        self.began = began
        self.log, self.exams = (open(os.path.join(folder, n), "w", buffering=1) for n in ("log.tsv", "exam.tsv"))
        print("seconds", "p", "variant", "step", "level", "loss", *P.KINDS, "leak", "obey", sep="\t", file=self.log)
        print("seconds", "p", "variant", "task", "shots", "right", sep="\t", file=self.exams)

    def say(self, *what):
        print(f"{time.time() - self.began:4.0f}s", *what, flush=True)

    def state(self, r, p):
        print(f"{time.time() - self.began:.1f}", f"{p:.4f}", r.name, r.steps, r.level, f"{r.loss:.4f}", *(f"{r.can[k]:.4f}" for k in P.KINDS), f"{r.leak:.4f}", f"{r.obey:.4f}", sep="\t", file=self.log)
        self.say(r.name, f"{r.steps:6d} level {r.level} {r.loss:.3f}", *(f"{k[:4]} {r.can[k]:.2f}" for k in P.KINDS), f"leak {r.leak:.2f} obey {r.obey:.2f}")

    def exam(self, r, p, result):
        for (task, shots), x in result.items():
            print(f"{time.time() - self.began:.1f}", f"{p:.4f}", r.name, task, shots, f"{x:.4f}", sep="\t", file=self.exams)
        self.say(r.name, "exam", *(f"{t[:4]} " + "/".join(f"{100 * result[t, s]:.0f}" for s in judge.SHOTS if (t, s) in result) for t in P.TASKS),
                 *(f"{t[:4]}-{h} {100 * result[f'{t} without {h}', 8]:.0f}" for t, h in judge.HIDDEN),
                 *(f"{t} {x:.2f}" for (t, _), x in result.items() if "head" in t))


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def train(o, log, began, making, data, runs, device):
    start, end = time.time(), began + o.minutes * 60 - (LAST if device.type == "cuda" else 0.0)
    alive, exams, printed, examined = list(runs), None, start, 0.0
    cuts = [(float(p), int(n)) for p, n in (c.split(":") for c in o.keep.split(",") if c)]

    def examine(p):
        wait(device)
        for r in alive:
            result = r.sit(exams)
            log.exam(r, p, result)
            if len(alive) <= 2:
                r.save(o.out, result, (time.time() - began) / 60)

    while True:
        now = time.time()
        p = o.begin + (1 - o.begin) * (now - start) / max(1.0, end - start)
        if p >= 1:
            break
        for r in alive:
            r.go(data, p)
        length = making.fetch(data)
        if length:
            log.say(f"rows of {length} tokens are there")
        exams = exams or making.exam()
        if cuts and p >= cuts[0][0]:
            keep = cuts.pop(0)[1]
            wait(device)
            alive.sort(key=lambda r: -r.worth())
            for r in alive[keep:]:
                log.say(f"{r.name} stops at {r.worth():.3f}")
                r.at.clear()
            alive = alive[:keep]
        if now - printed > PRINT:
            printed = now
            for r in alive:
                log.state(r, p)
        if exams and p - examined > EXAM:
            examined = p
            examine(p)
    exams = exams or making.exam(wait=True)
    examine(1.0)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--out", required=True)
    a.add_argument("--minutes", type=float, default=5.0, help="from the start of the program to its end, final exam included")
    a.add_argument("--variants", default="a,b,c,d,f")
    a.add_argument("--keep", default="0.25:4,0.45:2", help="at these shares of the time, so many variants go on")
    a.add_argument("--from", dest="start", help="weights to go on from (variants of the same shape)")
    a.add_argument("--begin", type=float, default=0.0, help="where in the schedule to begin")
    a.add_argument("--rate", type=float, default=1.0, help="times the variants' rates")
    a.add_argument("--tokens", type=int, default=16384, help="in a step")
    a.add_argument("--pool", type=float, default=40, help="million tokens of text")
    a.add_argument("--exam", type=int, default=128, help="prompts of each task and number of shots")
    a.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 3))
    a.add_argument("--seed", type=int, default=1)
    o = a.parse_args()
    began = time.time()
    os.makedirs(o.out, exist_ok=True)
    making = Making(o.workers, int(o.pool * 1e6), o.exam, o.seed)
    text, device, log = pool.Text(), torch.device("cuda" if torch.cuda.is_available() else "cpu"), Log(o.out, began)
    runs = [Run(name, text, o.tokens, device, load_file(o.start) if o.start else None, o.rate) for name in o.variants.split(",")]
    for r in runs:
        r.level = sum(o.begin > at for at in C.LATEST[1:])
        print(f"{r.name}: {r.shape}, {llama.count(r.shape)} weights, {r.v}", flush=True)
    gc.freeze()  # each capture collects garbage; what is here now is none
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        wait(device)  # what the default stream made, the runs' own streams read
        choose_code(runs)
    data = pool.Pool(text, device)
    log.say(f"rows of {making.fetch(data, wait=True)} tokens are there")
    train(o, log, began, making, data, runs, device)
    if device.type == "cuda":
        print(f"GPU memory {torch.cuda.max_memory_allocated() / 2 ** 30:.1f} GiB", flush=True)
    making.workers.shutdown(cancel_futures=True)
    log.say("in all")


if __name__ == "__main__":
    main()
