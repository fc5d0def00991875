"""Prompts with known answers, and the share of them that a model answers in full.

Every token of the answer must be the most likely one with the right ones before it: that is what greedy decoding does, in one pass."""
import random

import numpy as np
import torch

import prompts as P
from pool import Text

SHOTS = (0, 4, 8, 16, 24)


def exam(job):
    """Prompts of one task and number of shots: (name, ids (n, T), answer (n, T) bool), longest first cut to no more than 2,048 tokens."""
    task, shots, n, fill, fresh, seed = job
    rng, text = random.Random(f"{task} {shots} {fill} {fresh} {seed}"), Text()
    rows = []
    while len(rows) < n:
        pieces = list(P.prompt(rng, task, shots, fill=fill, fresh=fresh, form=P.FORMS[0]))
        ids, piece = text.encode(pieces)
        if len(ids) <= 2048:
            rows.append((ids, np.array([i >= 0 and pieces[i][2] == "answer" for i in piece])))
    longest = max(len(r[0]) for r in rows)
    ids, answer = np.full((n, longest), text.bos), np.zeros((n, longest), bool)
    for i, (row, a) in enumerate(rows):
        ids[i, :len(row)], answer[i, :len(row)] = row, a
    return (task, shots), torch.from_numpy(ids).long(), torch.from_numpy(answer)


def jobs(n, seed, fresh=True):
    """All tasks at 0 to 24 shots, with fillers at some; safety without shots has nothing to keep."""
    return [(t, s, n, fill, fresh, seed) for t in P.TASKS for s, fill in zip(SHOTS, (0, 0, 1, 1, 2)) if s or t != "safety"]


def score(next_token, ids, answer):
    """next_token: ids (n, T) to the most likely next ones (n, T)."""
    said = next_token(ids)[:, :-1]
    wrong = (said != ids[:, 1:]) & answer[:, 1:]
    return 1.0 - wrong.any(1).double().mean().item()
