"""What the scripts of the golden kept sets share: tensors that C and Python make alike, ties, and a case's text.

A case holds a seed and a shape in place of tensors, and what an author's code kept of them:

    case ORACLE: NAME
    tensors KIND SEED L H G D n T        T tokens come after the n of the prompt; KIND: normal | coarse
    shots A B C D ...                    ranges of tokens; or no such line
    method SPEC
    budget tokens N | keep PPM
    at S                                 kept after step S (0: the prefill's end); L x G lines follow, layer by layer:
    KEPT [TIED]                          bitmaps of positions in hex, lowest position first, four to a digit, lowest bit
                                         first. TIED: slots whose score is the cut's within TIE; of these, equally many
                                         must stay, whichever they are
    end

Tensor t of layer l, value i: four 16-bit parts of a splitmix64 word added up, less their mean, times 2^-15: nearly
normal, deviation 1.15, exact in f32. tests/unit/golden_rig.h makes the same.
"""
import math

import numpy as np
import torch

TIE = 1e-5      # relative: softmax in f32 of logits up to 20 differs by some 2e-6 between two orders of summation
Q, K, V, WO = 0, 1, 2, 3


def words(seed, tensor, layer, count):
    with np.errstate(over="ignore"):
        i = np.arange(count, dtype=np.uint64)
        x = (np.uint64(seed) << np.uint64(48) | np.uint64(tensor) << np.uint64(44) | np.uint64(layer) << np.uint64(36) | i)
        x = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def values(seed, tensor, layer, *shape):
    w = words(seed, tensor, layer, int(np.prod(shape)))
    s = sum(((w >> np.uint64(16 * p)) & np.uint64(0xFFFF)).astype(np.int64) for p in range(4)) - 131070
    return (s.astype(np.float32) * np.float32(2.0**-15)).reshape(shape)


class Tensors:
    """q (H, N, D), k and v (G, N, D) of each layer, N = n + steps; keys of the first two positions are sinks. coarse:
    keys have nine values, so that many scores are equal."""

    def __init__(self, seed, L, H, G, D, n, steps=0, kind="normal"):
        self.seed, self.L, self.H, self.G, self.D, self.n, self.steps, self.kind = seed, L, H, G, D, n, steps, kind
        N = n + steps
        self.q, self.k, self.v = [], [], []
        for l in range(L):
            q = values(seed, Q, l, H, N, D) * np.float32(2) + np.float32(1)
            k = values(seed, K, l, G, N, D)
            if kind == "coarse":
                k = np.trunc(k)
                k[..., 2:] = 0
            k[:, :2] += np.float32(1)
            self.q.append(torch.from_numpy(q))
            self.k.append(torch.from_numpy(k))
            self.v.append(torch.from_numpy(values(seed, V, l, G, N, D)))

    def line(self):
        return f"tensors {self.kind} {self.seed} {self.L} {self.H} {self.G} {self.D} {self.n} {self.steps}"

    def attention(self, l):
        """Softmax of the prompt's rows, f32: (H, n, n)."""
        n = self.n
        k = self.k[l][:, :n].repeat_interleave(self.H // self.G, 0)
        a = self.q[l][:, :n] @ k.transpose(1, 2) / math.sqrt(self.D)
        return torch.softmax(a.masked_fill(torch.triu(torch.ones(n, n, dtype=torch.bool), 1), -math.inf), -1)

    def row(self, l, pos, held):
        """What the query at pos sees of the positions held[g] of each kv head, f32: a list of H rows."""
        g = self.H // self.G
        return [torch.softmax(self.k[l][h // g, held[h // g]] @ self.q[l][h, pos] / math.sqrt(self.D), -1)
                for h in range(self.H)]


def positions(k, v, of_k, of_v):
    """Positions of rows (m, D) among those of (n, D), by keys and values together (equal tokens have equal values in a
    model's first layer, coarse tensors equal keys): how a kept set is read off a cache."""
    rows = lambda *x: [r.tobytes() for r in torch.cat(x, -1).numpy()]
    index = {r: i for i, r in enumerate(rows(of_k, of_v))}
    assert len(index) == of_k.shape[0]
    return [index[r] for r in rows(k, v)]


def tied(scores, k):
    """Slots of a 1-d tensor whose score can't be told from that of the k-th best, where the cut goes through them."""
    s = scores.double()
    if not 0 < k < s.numel():
        return []
    cut = float(s.sort(descending=True).values[k - 1])
    near = (s - cut).abs() <= TIE * abs(cut)
    return [int(i) for i in near.nonzero().flatten()] if int(((s > cut) | near).sum()) > k else []


def bitmap(pos, n):
    bits = [0] * -(-n // 4)
    for p in pos:
        bits[p // 4] |= 1 << p % 4
    return "".join("%x" % b for b in bits)


class Writer:
    def __init__(self, out, header):
        self.out, self.cases = out, 0
        print("#", header, file=out)

    def case(self, name, tensors, method, budget, kept, tie=None, shots=()):
        """kept: {step: cells} or the cells of the prefill's end, a list of L x G lists of positions; tie alike."""
        at = kept if isinstance(kept, dict) else {0: kept}
        ties = {} if tie is None else tie if isinstance(tie, dict) else {0: tie}
        print(f"case {name}\n{tensors.line()}" + ("\nshots " + " ".join(f"{a} {b}" for a, b in shots) if shots else "") +
              f"\nmethod {method}\nbudget {budget}", file=self.out)
        for step, cells in at.items():
            assert len(cells) == tensors.L * tensors.G, (name, len(cells))
            print("at", step, file=self.out)
            for c, cell in enumerate(cells):
                n = tensors.n + step
                assert len(set(cell)) == len(cell) and all(0 <= p < n for p in cell), name
                t = ties.get(step, [[]] * len(cells))[c]
                print(bitmap(cell, n) + (" " + bitmap(t, n) if t else ""), file=self.out)
        print("end", file=self.out)
        self.cases += 1
