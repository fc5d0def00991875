"""Rows of tokens to train on: text from prompts.py, made once by many processes, then used again and again on the training device with
the words of every class exchanged at random. An exchange keeps what makes the answer right (which word stands beside which), so a pool of
some ten million tokens doesn't run out; what an exchange would break (digits in sums and in sorted lists) stays as it is. Beside its token a place has marks, by which draw() hides
shots from those who ask for them (sight.py)."""
import collections
import os
import random

import numpy as np
import torch
from tokenizers import Tokenizer

import prompts as P
import sight
import words as W

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTHS = (64, 128, 256, 512, 1024, 2048)
COUNTS, CONTENT, VALUE, SYSTEM = 1, 2, 4, 8  # marks; SYSTEM: the system text, and shots that obey it
ANY = 0.3  # of the rows of repeated words, the share in which words become any tokens at all

# (rows, T) each. key, ask, own: numbers of what a token tells of, of what it asks for (0: nothing), and of its shot. plain: the token, or what would
# be said without the system text.
Rows = collections.namedtuple("Rows", "ids mark key ask own plain")
Batch = collections.namedtuple("Batch", "ids mark key ask own plain task lucky kind how")


class Text:
    """Pieces to tokens."""

    def __init__(self, folder=os.path.join(HERE, "embedded")):
        self.tok = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.bos = self.tok.token_to_id("<|endoftext|>")
        self.vocab = (self.tok.get_vocab_size() + 63) // 64 * 64
        # Words and digits: what an answer is about. Line ends and the words around it are easy.
        self.content = np.zeros(self.vocab, bool)
        self.content[[self.tok.token_to_id(t) for t in ["Ġ" + w for w in W.ALL + [P.SECRET]] + list("0123456789")]] = True

    def encode(self, pieces):
        """Ids with BOS in front, and for each the number of its piece (-1: BOS). A token belongs to the piece of its last byte: a word
        brings the space before it along."""
        enc = self.tok.encode("".join(p.text for p in pieces), add_special_tokens=False)
        ends = np.cumsum([len(p.text) for p in pieces])
        piece = np.searchsorted(ends, np.array([e for _, e in enc.offsets]), side="left")
        return np.concatenate(([self.bos], enc.ids)), np.concatenate(([-1], piece))

    def row(self, pieces, length):
        """Rows of one, cut or filled up with BOS."""
        ids, piece = self.encode(pieces)
        n = min(length, len(ids))
        obeys = {p.shot for p in pieces if p.plain}
        number = lambda x: 0 if x is None else x + 1
        marks = np.array([int(p.weight > 0) * COUNTS + p.value * VALUE + (p.kind == "system" or p.key is not None and p.shot in obeys) * SYSTEM for p in pieces] + [0])
        plain = np.array([self.tok.encode(" " + p.plain, add_special_tokens=False).ids[0] if p.plain else -1 for p in pieces] + [-1])[piece[:n]]
        out = Rows(*(np.zeros(length, np.int16) for _ in Rows._fields))
        out.ids[:] = out.plain[:] = self.bos
        out.ids[:n], out.mark[:n] = ids[:n], marks[piece[:n]] | CONTENT * self.content[ids[:n]]
        out.plain[:n] = np.where(plain < 0, ids[:n], plain)
        for to, of in ((out.key, [number(p.key) for p in pieces]), (out.ask, [number(p.ask) for p in pieces]), (out.own, [number(p.shot) for p in pieces])):
            to[:n] = np.array(of + [0])[piece[:n]]
        return out

    def classes(self, held_out=False):
        """(kinds + 1, vocabulary) numbers: tokens with the same number may change places in a row of that kind; a number of its own: never. The last
        line is for any tokens. held_out: with the words that stand in no shot."""
        alone = np.arange(self.vocab) + 100
        ids = {w: self.tok.token_to_id("Ġ" + w) for w in W.ALL}
        digits = [self.tok.token_to_id(str(d)) for d in range(10)]
        table = np.stack([alone] * (len(P.KINDS) + 1))
        table[-1, [t for t in range(self.tok.get_vocab_size()) if t != self.bos]] = 0
        for k, kind in enumerate(P.KINDS):
            for c, members in enumerate(W.CLASSES):
                for w in members if held_out or kind in ("copy", "pairs") else W.known(members):
                    table[k, ids[w]] = 0 if kind in ("copy", "pairs") else c
            if kind not in ("rule", "arithmetic"):
                table[k, digits] = 50
        return table

    def guesses(self):
        """What can be said of a value that nobody has told: (kinds + 1, vocabulary) number of a token's class or -1, (classes, vocabulary) the mean over it.
        Held-out words are as good a guess as others: without them the model learns never to say them."""
        table = self.classes(held_out=True)
        which, means = np.full(table.shape, -1), []
        for k, c in sorted({(k, c) for k in range(len(table)) for c in table[k] if c < 100}):
            which[k, table[k] == c] = len(means)
            means.append((table[k] == c) / (table[k] == c).sum())
        return torch.from_numpy(which), torch.from_numpy(np.array(means)).float()


def make_rows(job):
    """Rows of one kind and length: (kind, length, Rows of (n, length))."""
    kind, length, n, seed = job
    rng, text = random.Random(f"{kind} {length} {seed}"), Text()
    rows = [text.row(P.training(rng, kind, length), length) for _ in range(n)]
    return kind, length, Rows(*map(np.stack, zip(*rows)))


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
    """The rows on a device, by length: Rows, and where each kind's rows lie (kinds, 2: first, number)."""

    def __init__(self, text, device):
        self.device, self.at = device, {}
        classes = torch.from_numpy(text.classes()).to(device)
        # Tokens ordered by class: an exchange maps the j-th of that order to the j-th of one with noise inside the classes.
        self.classes, self.base = classes.float(), torch.sort(classes, dim=1, stable=True)[1]

    def add(self, length, parts):
        """parts: what make_rows made of that length."""
        parts = sorted(parts, key=lambda p: P.KINDS.index(p[0]))
        rows = [sum(len(p[2].ids) for p in parts if p[0] == k) for k in P.KINDS]
        span = [(sum(rows[:i]), n) for i, n in enumerate(rows)]
        whole = Rows(*(torch.from_numpy(np.concatenate(column)).to(self.device) for column in zip(*(p[2] for p in parts))))
        self.at[length] = whole, torch.tensor(span, device=self.device)

    def draw(self, length, rows, shares, generator, hide=True):
        """A Batch of rows of kinds drawn by their shares (kinds,), with tasks (sight.py) drawn for whoever asks; without `hide` all see all."""
        whole, span = self.at[length]
        random = lambda *shape: torch.rand(shape, device=self.device, generator=generator)
        u, at = torch.rand(2, rows, device=self.device, generator=generator, dtype=torch.float64)
        kind = torch.searchsorted(shares.double().cumsum(0) / shares.sum(), at, right=True).clamp(max=len(P.KINDS) - 1)
        pick = span[kind, 0] + (u * span[kind, 1]).long()
        how = torch.where((kind == P.KINDS.index("copy")) & (random(rows) < ANY), len(P.KINDS), kind)
        shuffled = torch.argsort(self.classes[how] + random(rows, self.classes.shape[1]) * 0.9, 1)
        exchange = torch.empty_like(shuffled).scatter_(1, self.base[how], shuffled)
        ids, mark, key, ask, own, plain = (t[pick].long() for t in whole)
        lucky = (random(rows, sight.KEYS) < sight.LUCKY).gather(1, key) & (key > 0)
        return Batch(exchange.gather(1, ids), mark, key, ask, own, exchange.gather(1, plain), sight.tasks(random, ask, own) * hide, lucky, kind, how)
