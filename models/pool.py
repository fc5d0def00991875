"""Rows of tokens to train on: text from prompts.py, made once by many processes, then used again and again on the training device with
the words of every class exchanged at random. An exchange keeps what makes the answer right (which word stands beside which), so a pool of
some ten million tokens doesn't run out; what an exchange would break (digits in sums and in sorted lists) stays as it is."""
import os
import random

import numpy as np
import torch
from tokenizers import Tokenizer

import prompts as P
import words as W

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTHS = (64, 128, 256, 512, 1024, 2048)


class Text:
    """Pieces to tokens."""

    def __init__(self, folder=os.path.join(HERE, "embedded")):
        self.tok = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.bos = self.tok.token_to_id("<|endoftext|>")
        self.vocab = (self.tok.get_vocab_size() + 63) // 64 * 64

    def encode(self, pieces):
        """Ids with BOS in front, and for each the number of its piece (-1: BOS). A token belongs to the piece of its last byte: a word
        brings the space before it along."""
        enc = self.tok.encode("".join(p[0] for p in pieces), add_special_tokens=False)
        ends = np.cumsum([len(p[0]) for p in pieces])
        piece = np.searchsorted(ends, np.array([e for _, e in enc.offsets]), side="left")
        return np.concatenate(([self.bos], enc.ids)), np.concatenate(([-1], piece))

    def row(self, pieces, length):
        """(length,) ids and weights, cut or filled up with BOS."""
        ids, piece = self.encode(pieces)
        weight = np.concatenate(([0.0], np.array([p[1] for p in pieces])))[piece + 1]
        out, w = np.full(length, self.bos, np.int16), np.zeros(length, np.uint8)
        n = min(length, len(ids))
        out[:n], w[:n] = ids[:n], weight[:n]
        return out, w

    def content(self):
        """(vocabulary) true for words and digits: what an answer is about. Line ends and the words around it are easy."""
        out = torch.zeros(self.vocab, dtype=torch.bool)
        out[[self.tok.token_to_id(t) for t in ["Ġ" + w for w in W.ALL + [P.SECRET]] + list("0123456789")]] = True
        return out

    def classes(self):
        """(kinds, vocabulary) numbers: tokens with the same number may change places in a row of that kind; a number of its own: never."""
        alone = np.arange(self.vocab) + 100
        ids = {w: self.tok.token_to_id("Ġ" + w) for w in W.ALL}
        digits = [self.tok.token_to_id(str(d)) for d in range(10)]
        table = np.stack([alone] * len(P.KINDS))
        for k, kind in enumerate(P.KINDS):
            for c, members in enumerate(W.CLASSES):
                for w in members if kind in ("copy", "pairs") else W.known(members):
                    table[k, ids[w]] = 0 if kind in ("copy", "pairs") else c
            if kind not in ("rule", "arithmetic"):
                table[k, digits] = 50
        return table


def make_rows(job):
    """Rows of one kind and length: (kind, length, ids (n, length), weights)."""
    kind, length, n, seed = job
    rng, text = random.Random(f"{kind} {length} {seed}"), Text()
    rows = [text.row(P.training(rng, kind, length), length) for _ in range(n)]
    return kind, length, np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])


def jobs(tokens, seed, part=64):
    """Jobs for make_rows that bring about `tokens` tokens in all, short rows first, so that training can start on them."""
    out = []
    share = tokens // (len(LENGTHS) * len(P.KINDS))
    for length in LENGTHS:
        for kind in P.KINDS:
            rows = max(16, share // length)
            for i, first in enumerate(range(0, rows, part * 512 // length + 1)):
                out.append((kind, length, min(part * 512 // length + 1, rows - first), seed * 1000 + i))
    return out


class Pool:
    """The rows on a device, by length: ids (rows, length), weights, where each kind's rows lie (kinds, 2: first, number)."""

    def __init__(self, text, device):
        self.device, self.at = device, {}
        classes = torch.from_numpy(text.classes()).to(device)
        # Tokens ordered by class: an exchange maps the j-th of that order to the j-th of one with noise inside the classes.
        self.classes, self.base = classes.float(), torch.sort(classes, dim=1, stable=True)[1]

    def add(self, length, parts):
        """parts: what make_rows made of that length."""
        parts = sorted(parts, key=lambda p: P.KINDS.index(p[0]))
        rows = [sum(len(p[2]) for p in parts if p[0] == k) for k in P.KINDS]
        span = [(sum(rows[:i]), n) for i, n in enumerate(rows)]
        self.at[length] = (torch.from_numpy(np.concatenate([p[2] for p in parts])).to(self.device),
                           torch.from_numpy(np.concatenate([p[3] for p in parts])).to(self.device), torch.tensor(span, device=self.device))

    def draw(self, length, rows, shares, generator):
        """rows of kinds drawn by their shares (kinds,): ids (rows, length) int64, weights f32, kind (rows,)."""
        ids, weight, span = self.at[length]
        u, at = torch.rand(2, rows, device=self.device, generator=generator, dtype=torch.float64)
        kind = torch.searchsorted(shares.double().cumsum(0) / shares.sum(), at, right=True).clamp(max=len(P.KINDS) - 1)
        pick = span[kind, 0] + (u * span[kind, 1]).long()
        shuffled = torch.argsort(self.classes[kind] + torch.rand(rows, self.classes.shape[1], device=self.device, generator=generator) * 0.9, 1)
        exchange = torch.empty_like(shuffled).scatter_(1, self.base[kind], shuffled)
        return exchange.gather(1, ids[pick].long()), weight[pick].float(), kind
