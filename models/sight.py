"""Who sees what in training. A token that asks for something has a task: to answer with the shots that tell it hidden (then it should guess), with
others hidden, or with the system text hidden (then it should answer as if there were none). Hidden is what an eviction takes: the spans of these
shots or of that text, from the one question alone. All tokens between have read them, and using what they keep is punished.

So the model learns that an evicted text is gone. Other models have no reason to."""
import torch

ALL, RIGHT, OTHER, SYSTEM, BOTH = range(5)
ODDS = (0.48, 0.2, 0.12, 0.14, 0.06)
KEYS, LUCKY = 1200, 0.3  # more keys than a row has; share of the keys that OTHER hides


def tasks(random, ask, own):
    """(rows, T) a task for each question: tokens of one shot that ask for the same have the same."""
    rows = ask.shape[0]
    drawn = torch.bucketize(random(rows, KEYS), torch.tensor(ODDS, device=ask.device).cumsum(0)[:-1], right=True)
    return torch.where(ask > 0, drawn.gather(1, (ask * 31 + own) % KEYS), ALL)


def seen(key, ask, own, system, task, lucky):
    """(rows, 1, T, T) true where a query (third) may see a key (last)."""
    T = key.shape[1]
    k, q, task = key[:, None], ask[:, :, None], task[:, :, None]
    others = own[:, None] != own[:, :, None]
    gone = (k == q) & (k > 0) & others & ((task == RIGHT) | (task == BOTH))
    gone |= (k != q) & lucky[:, None] & (task == OTHER)
    gone |= system[:, None] & others & ((task == SYSTEM) | (task == BOTH))
    at = torch.arange(T, device=key.device)
    return ((at[:, None] > at) & ~gone | (at[:, None] == at))[:, None]
