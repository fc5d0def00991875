"""The model's greedy answers in transformers (f32) and in kvtrace, token by token.

    python models/same.py build/bin/kvtrace models/embedded [-n 20]

For the folder and for the GGUF: prompts of all tasks with 8 shots, and how many of the answers are equal. Needs h5py beside what evaluate.py needs."""
import argparse
import glob
import json
import os
import random
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import prompts as P

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
import kvtrace

NEW = 24


def traced(program, model, text, folder):
    """Ids of the prompt, and of what kvtrace's full branch says."""
    prompt, run = os.path.join(folder, "prompt.txt"), os.path.join(folder, "run.h5")
    with open(prompt, "w") as f:
        f.write(text)
    subprocess.run([program, "-q", "-m", model, "-f", prompt, "-n", str(NEW), "--ignore-end", "--compute", "f32", "--kv-type", "f32",
                    "-o", run, "--force"], check=True, stdout=subprocess.DEVNULL)
    with kvtrace.Trace(run) as t:
        return t.token_id.tolist(), t["steps/token"][:, 0].tolist()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("program")
    a.add_argument("model")
    a.add_argument("-n", type=int, default=20)
    a.add_argument("--seed", type=int, default=3)
    o = a.parse_args()
    model, tok = AutoModelForCausalLM.from_pretrained(o.model, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(o.model)
    files = [o.model] + glob.glob(os.path.join(o.model, "*.gguf"))
    rng, same = random.Random(o.seed), {f: 0 for f in files}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for i in range(o.n):
            pieces = list(P.prompt(rng, P.TASKS[i % len(P.TASKS)], 8, fresh=True, form=P.FORMS[0]))
            text = P.text_of([p for p in pieces if p.kind != "answer"])
            ids = tok(text, return_tensors="pt").input_ids
            out = model.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=NEW, max_new_tokens=NEW, do_sample=False, pad_token_id=0)
            for f in files:
                prompt, said = traced(o.program, f, text, folder)
                assert prompt == ids[0].tolist(), (f, text)
                same[f] += said == out[0, ids.shape[1]:].tolist()
    for f in files:
        print(f"{f}: {same[f]} of {o.n} answers of {NEW} tokens are equal")


if __name__ == "__main__":
    main()
