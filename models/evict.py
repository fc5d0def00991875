"""One shot evicted by kvtrace itself, in every layer and head, and what the embedded model answers then.

    python models/evict.py build/bin/kvtrace models/embedded [-n 50]

For each prompt of eight shots: nothing, the shot with the answer, that with the blank line behind it, another shot, and (safety) the system line, alone and
with its blank line, are evicted, by a file of scores in which they rank last. Needs h5py and numpy, and the tokenizer for the text alone."""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

import h5py
import numpy as np

import prompts as P

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import kvtrace


def parts(pieces):
    """System text or None, shots and the question as (question, answer) by the default template, and the shot with the answer."""
    text = lambda keep: "".join(p.text for p in pieces if keep(p))
    system = text(lambda p: p.kind == "system")
    shots = [text(lambda p: p.kind == "shot" and p.shot == i) for i in sorted({p.shot for p in pieces if p.kind == "shot"})]
    shots = [s.removeprefix("Question: ").strip("\n").split("\nAnswer: ") for s in shots]
    question = text(lambda p: p.kind == "question").removeprefix("Question: ").removesuffix("\nAnswer:")
    return system or None, shots, question, text(lambda p: p.kind == "answer").strip(), P.evidence(pieces)


class Tool:
    def __init__(self, program, model, folder):
        self.program, self.model, self.folder = program, model, folder
        self.trace, self.scores = (os.path.join(folder, n) for n in ("run.h5", "scores.h5"))

    def run(self, system, shots, question, method, tokens):
        path = os.path.join(self.folder, "shots.jsonl")
        with open(path, "w") as f:
            for q, a in shots:
                print(json.dumps({"question": q, "answer": a}), file=f)
        command = [self.program, "-m", self.model, "--shots", path, "--question", question, "-n", "24"]
        command += ["--method", method, "--tokens", str(tokens), "--decode", "both", "-o", self.trace, "--force"]
        command += (["--system", system] if system else [])
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"evict.py: {command}: {done.stderr}")
        return kvtrace.Trace(self.trace)

    def said(self, system, shots, question, spans, more=0):
        """The full branch's line, or that without the spans and `more` tokens behind them."""
        with self.run(system, shots, question, "random", 8) as t:
            L, G, n, full = t.L, t.G, t.n_context, b"".join(t["steps/text"][:, 0]).decode()
            if not spans:
                return full.split("\n")[0].strip()
            gone = np.zeros(n, bool)
            for s in t.spans:
                if s.name in spans:
                    gone[s.start:s.end + more] = True
        scores = np.ones((L, G, n), np.float32)
        scores[:, :, gone] = 0
        with h5py.File(self.scores, "w") as f:
            f["scores"] = scores
        with self.run(system, shots, question, f"file[{self.scores}]", n - int(gone.sum())) as t:
            assert (t.kept(1)[:, :, :n] == ~gone).all()
            return b"".join(t["free/text"][:, 1]).decode().split("\n")[0].strip()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("program")
    a.add_argument("model")
    a.add_argument("-n", type=int, default=50)
    a.add_argument("--seed", type=int, default=5)
    o = a.parse_args()
    rng = random.Random(o.seed)
    print("task", "nothing", "the shot with the answer", "and the blank line behind it", "another shot", "the system line", "and the blank line behind it", sep="\t")
    with tempfile.TemporaryDirectory() as folder:
        tool = Tool(o.program, o.model, folder)
        for task in ("recall", "mapping", "safety"):
            good = {}
            for _ in range(o.n):
                while True:
                    pieces = list(P.prompt(rng, task, 8, fresh=True, form=P.FORMS[0]))
                    if task != "safety" or P.SECRET in P.text_of(pieces, ("answer",)):
                        break
                system, shots, question, answer, right = parts(pieces)
                other = rng.choice([i for i in range(8) if i != right])
                shot = f"shot {right + 1}"
                for what, spans, more in (("nothing", (), 0), ("right", (shot,), 0), ("line", (shot,), 2), ("other", (f"shot {other + 1}",), 0),
                                          ("system", ("system",), 0), ("system, line", ("system",), 2)):
                    if "system" not in what or task == "safety":
                        good[what] = good.get(what, 0) + (tool.said(system, shots, question, spans, more) == answer)
            print(task, *(f"{100 * g / o.n:.0f} %" for g in good.values()), sep="\t", flush=True)


if __name__ == "__main__":
    main()
