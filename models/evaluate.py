"""What the embedded model can do, measured with transformers on prompts with names and numbers that training left out.

    python models/evaluate.py models/embedded [-n 100] > models/embedded/evaluation.md

By task and number of shots: prompts answered in full, every token the most likely one (greedy). Then, with a span out of the question's and the
answer's sight in every layer and head (which is what evicting its keys and values before the question is fed does): the shot that holds the
answer, another one, the system line, and that with the shot. What stands behind a span and has read it stays, as it does when kvtrace evicts."""
import argparse
import random

import torch
from transformers import AutoModelForCausalLM

import judge
import prompts as P
from pool import Text


def answered(model, ids, answer, mask=None):
    if mask is not None:
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    return judge.score(lambda x: model(input_ids=x, attention_mask=mask, use_cache=False).logits.argmax(-1), ids, answer)


def free(model, text, rng, n):
    """Share of prompts where free greedy decoding says what the one pass said."""
    same = 0
    for i in range(n):
        pieces = list(P.prompt(rng, P.TASKS[i % len(P.TASKS)], 8, fresh=True, form=P.FORMS[0]))
        ids, piece = text.encode(pieces)
        answer = torch.tensor([[p >= 0 and pieces[p].kind == "answer" for p in piece]])
        k = int(answer.sum())
        before = torch.tensor(ids[:-k])[None]
        out = model.generate(before, attention_mask=torch.ones_like(before), max_new_tokens=k, do_sample=False, pad_token_id=0)
        said = out[0, len(ids) - k:].tolist() == ids[-k:].tolist()
        same += said == (answered(model, torch.tensor(ids)[None], answer) == 1.0)
    return same / n


def main():
    a = argparse.ArgumentParser()
    a.add_argument("model")
    a.add_argument("-n", type=int, default=100)
    a.add_argument("--seed", type=int, default=77)
    o = a.parse_args()
    model, text, rng = AutoModelForCausalLM.from_pretrained(o.model, dtype=torch.float32).eval(), Text(o.model), random.Random(o.seed)
    percent = lambda x: f"{100 * x:.0f} %"
    with torch.no_grad():
        rows = {}
        for job in judge.jobs(o.n, o.seed):
            (task, shots), ids, answer, mask = judge.exam(job)
            masks = [None] * len(ids) if mask is None else mask.split(10)
            parts = [answered(model, i, w, m) * len(i) for i, w, m in zip(ids.split(10), answer.split(10), masks)]
            rows[task, shots] = sum(parts) / len(ids)
        print(f"Prompts answered in full, of {o.n}, by shots:\n\n| task |", " | ".join(map(str, judge.SHOTS)), "|\n|---|" + "---|" * len(judge.SHOTS))
        for t in P.TASKS:
            print(f"| {t} |", " | ".join(percent(rows[t, s]) if (t, s) in rows else "" for s in judge.SHOTS), "|")
        print(f"\nOf {o.n} prompts with 8 shots, out of the question's sight:\n")
        print("| task | the shot with the answer | another shot | the system line | both |\n|---|---|---|---|---|")
        for t in ("recall", "mapping", "safety"):
            print(f"| {t} |", " | ".join(percent(rows[f"{t} without {h}", 8]) if (t, h) in judge.HIDDEN else "" for h in ("right", "other", "system", "both")), "|")
        print(f"\nFree greedy decoding and one pass agree on {percent(free(model, text, rng, 25))} of 25 prompts.")


if __name__ == "__main__":
    main()
