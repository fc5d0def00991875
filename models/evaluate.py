"""What the embedded model can do, measured with transformers on prompts with names and numbers that training left out.

    python models/evaluate.py models/embedded [-n 100] > models/embedded/evaluation.md

By task and number of shots: prompts answered in full, every token the most likely one (greedy). Then, with one shot of eight out of the question's
and the answer's sight in every layer and head (which is what evicting its keys and values before the question is fed does): the one that holds the
answer, another one, the system line, and that with the shot; each with the blank line behind it, whose tokens have read it."""
import argparse
import random

import torch
from transformers import AutoModelForCausalLM

import judge
import prompts as P
from pool import Text


def answered(model, ids, answer, mask=None):
    return judge.score(lambda x: model(input_ids=x, attention_mask=mask, use_cache=False).logits.argmax(-1), ids, answer)


def without(model, rng, text, task, shots, n, what):
    """Share right where the question sees all but `what`: "right", "other" (a shot), "system", "both" (right and system); None: everything."""
    good = 0.0
    for _ in range(n):
        while True:
            pieces = list(P.prompt(rng, task, shots, fresh=True, form=P.FORMS[0]))
            if task != "safety" or pieces[-1][0] and P.SECRET in P.text_of(pieces, ("answer",)):
                break
        ids, piece = text.encode(pieces)
        T, asked = len(ids), min(i for i, p in enumerate(pieces) if p[2] == "question")
        where = P.evidence(pieces)
        gone = where if what in ("right", "both") else rng.choice([s for s in range(shots) if s != where])
        system, shot = what in ("system", "both"), what != "system"
        out = []
        for _, _, kind, of in pieces:
            out.append(out[-1] if kind == "between" else system and kind == "system" or shot and kind == "shot" and of == gone)
        hide = [p >= 0 and out[p] for p in piece]
        see = torch.ones(T, T, dtype=torch.bool).tril()
        if what:
            see[torch.tensor(piece >= asked)[:, None] & torch.tensor(hide)[None]] = False
        mask = torch.zeros(1, 1, T, T).masked_fill(~see, torch.finfo(torch.float32).min)
        good += answered(model, torch.tensor(ids)[None], torch.tensor([[p >= 0 and pieces[p][2] == "answer" for p in piece]]), mask)
    return good / n


def free(model, text, rng, n):
    """Share of prompts where free greedy decoding says what the one pass said."""
    same = 0
    for i in range(n):
        pieces = list(P.prompt(rng, P.TASKS[i % len(P.TASKS)], 8, fresh=True, form=P.FORMS[0]))
        ids, piece = text.encode(pieces)
        answer = torch.tensor([[p >= 0 and pieces[p][2] == "answer" for p in piece]])
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
            (task, shots), ids, answer = judge.exam(job)
            parts = [answered(model, i, w) * len(i) for i, w in zip(ids.split(10), answer.split(10))]
            rows[task, shots] = sum(parts) / len(ids)
        print(f"Prompts answered in full, of {o.n}, by shots:\n\n| task |", " | ".join(map(str, judge.SHOTS)), "|\n|---|" + "---|" * len(judge.SHOTS))
        for t in P.TASKS:
            print(f"| {t} |", " | ".join(percent(rows[t, s]) if (t, s) in rows else "" for s in judge.SHOTS), "|")
        print(f"\nOf {o.n} prompts with 8 shots, out of the question's sight, each with the blank line behind it:\n")
        print("| task | nothing | the shot with the answer | another shot | the system line | both |\n|---|---|---|---|---|---|")
        for t in ("recall", "mapping", "safety"):
            kinds = (None, "right", "other") + (("system", "both") if t == "safety" else ())
            print(f"| {t} |", " | ".join(percent(without(model, rng, text, t, 8, o.n, k)) for k in kinds), "|" if t == "safety" else "| | |")
        print(f"\nFree greedy decoding and one pass agree on {percent(free(model, text, rng, 25))} of 25 prompts.")


if __name__ == "__main__":
    main()
