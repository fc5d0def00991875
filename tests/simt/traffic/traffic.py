#!/usr/bin/env python3
"""What each kernel asks of the memory, counted while nvcc's PTX runs on the CPU (../src/simt_count.cpp), against limits.json (1.1; where a
kernel is above that, what it is now, so that it can't get worse); and what a model of 8 billion parameters would take at least on an A100 and an H100, from the same counts. These are facts about addresses and
instructions; times are bounds (every byte at full bandwidth, every product at full rate, nothing waits), never measurements.
usage: traffic.py BIN [--lines] [--model]     BIN: the folder of `traffic` and libkvt_simtptx80.so; --lines: also each line of source
exit 1: a kernel is over its limit"""
import collections, json, os, re, subprocess, sys, tempfile

here = os.path.dirname(os.path.abspath(__file__))
RUNS = [('decode', 512), ('decode', 1024), ('prefill', 128), ('prefill', 256), ('scores', 128), ('scores', 256), ('linear BF16', 1), ('linear BF16', 8), ('linear BF16', 32),
        ('linear Q4_K', 1), ('linear Q4_K', 32), ('elem', 0), ('cache', 0), ('choose', 0), ('score', 0), ('step', 0), ('lost', 0)]
Kernel = collections.namedtuple('Kernel', 'launches blocks threads shared mma instructions footprint')
Access = collections.namedtuple('Access', 'file line space what bytes requests lanes got ideal')
HOT = 0.1 # of a kernel's sectors or wavefronts: a line that asks for so much is one of its hot loops


def run(bin, case, n):
    with tempfile.NamedTemporaryFile() as f:
        words = [bin + '/traffic', 'simtptx80'] + case.split() + ([str(n)] if n else [])
        p = subprocess.run(words, env=dict(os.environ, SIMT_COUNT=f.name, SIMT_ORDER='forward'), capture_output=True, text=True)
        if p.returncode:
            sys.exit('%s: %s' % (' '.join(words), p.stderr))
        floor = re.search(r'^floor\t(\d+)', p.stdout, re.M)
        other = re.search(r'were not:(.*)', p.stderr)
        kernels, access = {}, collections.defaultdict(lambda: collections.defaultdict(lambda: [0] * 4))
        for line in open(f.name):
            w = line.rstrip('\n').split('\t')
            name = re.sub(r'[() ]|<.*>', '', w[1])
            if w[0] == 'kernel':
                kernels[name] = Kernel(*map(int, w[2:]))
            else:
                a = access[name][w[2], int(w[3]), w[4], w[5], int(w[6])]
                for i in range(4):
                    a[i] += int(w[7 + i])
        return kernels, {k: [Access(*key, *v) for key, v in a.items()] for k, a in access.items()}, int(floor.group(1)) if floor else 0, other.group(1) if other else ''


def total(accesses, space):
    return sum(a.got for a in accesses if a.space == space), sum(a.ideal for a in accesses if a.space == space)


def worst(accesses, space):
    """The hot line that is farthest from its ideal."""
    got = total(accesses, space)[0]
    lines = collections.defaultdict(lambda: [0, 0])
    for a in accesses:
        if a.space == space:
            lines[a.file, a.line][0] += a.got
            lines[a.file, a.line][1] += a.ideal
    hot = [(v[0] / v[1], k) for k, v in lines.items() if v[0] >= HOT * got and v[1]]
    return max(hot) if hot else (1.0, ('', 0))


def judge(results):
    limits = json.load(open(here + '/limits.json'))
    over = 0
    print('%-12s %-21s %9s %6s %9s %6s  %s' % ('case', 'kernel', 'sectors', 'ratio', 'wavefr.', 'ratio', 'worst hot line'))
    for (case, n), (kernels, access, _, others) in results.items():
        for name in kernels:
            a = access.get(name)
            if not a:
                print('%-12s %-21s not counted: this instance was not translated' % (case, name))
                over += 1
                continue
            limit = dict(global_=1.1, shared=1.1)
            limit.update(limits.get(name, {}))
            why, line = [], (1.0, ('', 0))
            for space in ('global', 'shared'):
                got, ideal = total(a, space)
                if got > ideal * limit[space.replace('global', 'global_')]:
                    why.append('%s %.2f, allowed %.2f' % (space, got / ideal, limit[space.replace('global', 'global_')]))
                line = max(line, worst(a, space))
            (g, gi), (s, si) = total(a, 'global'), total(a, 'shared')
            print('%-12s %-21s %9d %6.2f %9d %6.2f  %s%s' % ('%s %d' % (case.replace('linear ', ''), n) if n else case, name, g, g / gi if gi else 1, s, s / si if si else 1,
                                                          '%s:%d %.2f' % (*line[1], line[0]) if line[0] > 1.005 else '', '   OVER: ' + '; '.join(why) if why else ''))
            over += bool(why)
    return over


def lines(results):
    for (case, n), (_, access, _, _) in results.items():
        for name, a in access.items():
            for x in sorted(a, key=lambda x: -x.got)[:12]:
                print('%-12s %-20s %-18s %-6s %-5s %3d %8d requests %5.1f lanes %9d %9d %5.2f' %
                      (case, name, '%s:%d' % (x.file, x.line), x.space, x.what, x.bytes, x.requests, x.lanes / x.requests, x.got, x.ideal, x.got / max(x.ideal, 1)))


def moved(results, run):
    """Bytes that memory must give or take at least: of each kernel the sectors that it touches, once; and all that it asks for, from L2 too."""
    names = ('rows_kernel', 'join_kernel')
    return 32 * sum(k.footprint for name, k in results[run][0].items() if name in names), 32 * sum(total(a, 'global')[0] for name, a in results[run][1].items() if name in names)


def attention(results):
    """The issue's figures for attention: bytes of a step, flops and reads of a prefill."""
    bad = 0
    d, d2 = ('decode', 512), ('decode', 1024)
    for r in (d, d2):
        x, asked = (y / results[r][2] for y in moved(results, r))
        print('decode, %d slots a branch: %.3f x (live K + V + q + out), allowed 1.10; asked of L2: %.3f x' % (r[1], x, asked))
        bad += x > 1.1
    x = moved(results, d2)[0] / moved(results, d)[0]
    print('twice the slots: %.3f x the bytes, allowed 1.90 to 2.05' % x)
    bad += not 1.9 <= x <= 2.05
    for n in (128, 256):
        p, s = results['prefill', n], results['scores', n]
        base, all_ = sum(k.mma for k in p[0].values()), sum(k.mma for k in s[0].values())
        print('prefill, %d tokens, all scores: %.3f x the products of attention without, allowed 1.60' % (n, all_ / base))
        bad += all_ > 1.6 * base
        tiles, seen = -(-n // 64), 0
        for t in range(tiles):
            seen += min(n, (t + 1) * 64)
        each = seen * 8 * 128 * 2 # what 64 rows of a head see of K, over all of them: read once by each
        loads = {k: 32 * sum(x.got for x in a if x.space == 'global' and x.what == 'load' and x.file == 'attn_tiles.h' and x.bytes == 16) for k, a in s[1].items()}
        print('   tiles of K and V read: %.2f x K seen by prefill_kernel (K and V once: 2), %.2f x by sweep_kernel (K once: 1)' %
              (loads.get('prefill_kernel', 0) / each, loads.get('sweep_kernel', 0) / each))
        bad += loads.get('prefill_kernel', 0) > 2.1 * each or loads.get('sweep_kernel', 0) > 1.1 * each
    return bad


GPUS = { # memory and L2 in bytes a second; bf16 products with f32 sums; instructions of warps a second (SMs x 4 x clock). NVIDIA's data sheets (SXM, 80 GB); L2: A100's white paper, 5120 bytes a clock; H100's isn't published: taken as the same a clock
    'A100': dict(memory=2.039e12, l2=5120 * 1.41e9, tensor=312e12, issue=108 * 4 * 1.41e9),
    'H100': dict(memory=3.35e12, l2=5120 * 1.755e9, tensor=989e12, issue=132 * 4 * 1.755e9)}
L, H, G, D, E, F, V = 32, 32, 8, 128, 4096, 14336, 128256 # Llama-3.1-8B
WEIGHTS = L * (E * H * D * 2 + 2 * E * G * D + 3 * E * F) + E * V


def bound(gpu, memory, l2=0, mma=0, instructions=0):
    parts = dict(memory=memory / gpu['memory'], l2=l2 / gpu['l2'], tensor=mma * 4096 / gpu['tensor'], issue=instructions / 32 / gpu['issue'])
    limiter = max(parts, key=parts.get)
    return parts[limiter], limiter, parts


def model(results):
    branches, slots = 32, 4096
    kernels, access, _, _ = results['linear BF16', 32]
    scale = WEIGHTS / (256 * 2048)
    k = kernels['linear_kernel']
    linear = dict(memory=32 * k.footprint * scale, l2=32 * total(access['linear_kernel'], 'global')[0] * scale, mma=k.mma * scale, instructions=k.instructions * scale)
    kernels, access, _, _ = results['decode', 1024]
    scale = branches / 2 * slots / 1024 * G / 2 * L
    names = [n for n in ('rows_kernel', 'join_kernel') if n in kernels]
    attn = dict(memory=moved(results, ('decode', 1024))[0] * scale, l2=moved(results, ('decode', 1024))[1] * scale, instructions=sum(kernels[n].instructions for n in names) * scale)
    floor = 2 * WEIGHTS + branches * slots * L * G * D * 2 * 2
    print('\nBounds, not measurements: Llama-3.1-8B in bf16, a step of %d branches at %d tokens (weights %.2f GB, K and V %.2f GB)' %
          (branches, slots, 2e-9 * WEIGHTS, 1e-9 * (floor - 2 * WEIGHTS)))
    bad = 0
    for name, gpu in GPUS.items():
        a, b = bound(gpu, **linear), bound(gpu, **attn)
        least = floor / gpu['memory']
        print('%s: products %.2f ms (%s), attention %.2f ms (%s): %.2f ms; weights and K, V from memory alone %.2f ms: %.3f x, allowed 1.30' %
              (name, 1e3 * a[0], a[1], 1e3 * b[0], b[1], 1e3 * (a[0] + b[0]), 1e3 * least, (a[0] + b[0]) / least))
        print('      ' + '; '.join('%s %s' % (w, ', '.join('%s %.2f' % (p, 1e3 * v) for p, v in x[2].items())) for w, x in (('products', a), ('attention', b))))
        bad += a[0] + b[0] > 1.3 * least
    # A prompt: quadratic in its length, a n^2 + b n from two counts, for heads and layers of the model.
    def grown(case, what, n):
        y1, y2 = (sum(getattr(k, what) for name, k in results[case, m][0].items() if name not in ('room_kernel', 'write_kernel', 'unroll_kernel')) for m in (128, 256))
        a = (y2 - 2 * y1) / (256 ** 2 - 2 * 128 ** 2)
        return (a * n * n + (y1 / 128 - a * 128) * n) * H / 8 * L
    flops = 2 * WEIGHTS * slots
    print('A prompt of %d tokens (products by the library at their full rate):' % slots)
    for name, gpu in GPUS.items():
        products = flops / gpu['tensor']
        t = {c: max((grown(c, 'mma', slots) * 4096 / gpu['tensor'], 'tensor'), (grown(c, 'instructions', slots) / 32 / gpu['issue'], 'issue')) for c in ('prefill', 'scores')}
        over = (t['scores'][0] - t['prefill'][0]) / (products + t['prefill'][0])
        print('%s: products %.0f ms, attention %.1f ms (%s), with all scores %.1f ms (%s): scores add %.1f %%, allowed 15 %%' %
              (name, 1e3 * products, 1e3 * t['prefill'][0], t['prefill'][1], 1e3 * t['scores'][0], t['scores'][1], 100 * over))
        bad += over > 0.15
    return bad


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    results = {}
    for r in RUNS:
        results[r] = run(sys.argv[1], *r)
        print('counted: %s %d' % r, file=sys.stderr, flush=True)
    bad = judge(results) + attention(results)
    if '--lines' in sys.argv:
        lines(results)
    if '--model' in sys.argv:
        bad += model(results)
    print('%d over their limits' % bad)
    return bad > 0


sys.exit(main())
