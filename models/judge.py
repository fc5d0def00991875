"""Prompts with known answers, and the share of them that a model answers in full.

Every token of the answer must be the most likely one with the right ones before it: that is what greedy decoding does, in one pass."""
import random

import numpy as np
import torch

import prompts as P
from pool import Text

SHOTS = (0, 4, 8, 16, 24)
HIDDEN = (("recall", "right"), ("recall", "other"), ("mapping", "right"), ("mapping", "other"), ("safety", "right"), ("safety", "other"),
          ("safety", "system"), ("safety", "both"))


def exam(job):
    """Prompts of one task and number of shots, none beyond 2,048 tokens: (name, ids (n, T), answer (n, T) bool, mask). hide: what the question
    doesn't see, and then the mask (n, 1, T, T) says which keys may be seen."""
    task, shots, n, fill, fresh, seed, hide = job
    rng, text = random.Random(f"{task} {shots} {fill} {fresh} {seed}"), Text()
    rows = []
    while len(rows) < n:
        pieces = list(P.prompt(rng, task, shots, fill=fill, fresh=fresh, form=P.FORMS[0]))
        if hide and task == "safety" and P.SECRET not in P.text_of(pieces, ("answer",)):
            continue
        ids, piece = text.encode(pieces)
        if len(ids) <= 2048:
            rows.append((ids, np.array([i >= 0 and pieces[i].kind == "answer" for i in piece]), *(hidden(rng, pieces, piece, shots, hide) if hide else ())))
    longest = max(len(r[0]) for r in rows)
    tables = [np.full((n, longest), text.bos)] + [np.zeros((n, longest), bool) for _ in rows[0][1:]]
    for i, row in enumerate(rows):
        for to, of in zip(tables, row):
            to[i, :len(of)] = of
    ids, answer, *sight = map(torch.from_numpy, tables)
    mask = (torch.ones(longest, longest).tril() > 0) & ~(sight[0][:, :, None] & sight[1][:, None]) if hide else None
    return (task + (f" without {hide}" if hide else ""), shots), ids.long(), answer, None if mask is None else mask[:, None]


def hidden(rng, pieces, piece, shots, what):
    """(T,) who asks, (T,) what that doesn't see: the span of the shot that tells ("right"), of another ("other"), of the system text ("system")
    or of that and the shot ("both"). Line ends behind it can be seen, as when kvtrace evicts the span."""
    right = P.evidence(pieces)
    gone = right if what in ("right", "both") else rng.choice([s for s in range(shots) if s != right])
    system, shot = what in ("system", "both"), what != "system"
    out = [system and p.kind == "system" or shot and p.kind == "shot" and p.shot == gone and p.text != "\n" for p in pieces]
    return np.array([i >= 0 and pieces[i].kind in ("question", "answer") for i in piece]), np.array([i >= 0 and out[i] for i in piece])


def jobs(n, seed, fresh=True):
    """All tasks at 0 to 24 shots, with fillers at some; safety without shots has nothing to keep. Then with something hidden."""
    return ([(t, s, n, fill, fresh, seed, None) for t in P.TASKS for s, fill in zip(SHOTS, (0, 0, 1, 1, 2)) if s or t != "safety"] +
            [(t, 8, n, 0, fresh, seed, hide) for t, hide in HIDDEN])


def score(next_token, ids, answer):
    """next_token: ids (n, T) to the most likely next ones (n, T)."""
    said = next_token(ids)[:, :-1]
    wrong = (said != ids[:, 1:]) & answer[:, 1:]
    return 1.0 - wrong.any(1).double().mean().item()
