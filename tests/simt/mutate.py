#!/usr/bin/env python3
"""Deletes each barrier and each wait of kernels/cuda/ in turn and looks whether a check notices: kerncheck on simtcheck, which judges every
access, in random order, with threads that are interrupted. Nothing is compiled for it: the emulation leaves out what SIMT_DELETE=FILE:LINE names.
What nobody notices must stand in harmless.tsv with the reason, and what stands there must still be unnoticed.
usage: mutate.py BIN [--sample N] [--seed N] [--only TEXT]     BIN: the folder of kerncheck and libkvt_simtcheck.so
exit 1: something was missed, or the list is wrong"""
import argparse, glob, os, random, re, subprocess, sys, time

here = os.path.dirname(os.path.abspath(__file__))
kernels = os.path.join(here, '../../kernels/cuda')
WAIT = re.compile(r'__syncthreads(?:_\w+)?\(|__syncwarp\(|__threadfence\(|gpu_cp_async_wait<')
FUNCTION = re.compile(r'(\w+)\((?!.*;\s*$)')
SUBJECTS = {'attn': ['attn'], 'linear': ['linear'], 'elem': ['elem'], 'logits': ['elem'], 'cache': ['cache', 'step'], 'topk': ['cache', 'step'],
            'divide': ['cache'], 'units': ['cache'], 'select': ['cache', 'step'], 'score': ['score'], 'step': ['step'], 'evict': ['step'], 'lost': ['lost'],
            'choose': ['cache'], 'blocks': ['score', 'cache']}
ROUNDS = [['--quick', '--quick', '--seed', '5'], ['--quick', '--seed', '7'], ['--seed', '9']]


def places():
    """(file, line, name): name = FILE FUNCTION N, the N-th wait of that function; it outlives changes elsewhere."""
    out = []
    for path in sorted(glob.glob(kernels + '/*.cu') + glob.glob(kernels + '/*.h')):
        file, function, count = os.path.basename(path), '', {}
        if file == 'gpu.h':
            continue
        for n, line in enumerate(open(path), 1):
            code = line.split('/*')[0]
            if re.match(r'(?:template|static|KVT_DEVICE|struct \w+ \*?\w+\(|void|int|bool|__global__)', line) and '(' in code and not code.rstrip().endswith(';'):
                names = re.findall(r'(\w+)\(', re.sub(r'__launch_bounds__\([^)]*\)+|template <[^>]*>', '', code))
                function = names[0] if names else function
            for _ in WAIT.finditer(code):
                count[function] = count.get(function, 0) + 1
                out.append((file, n, '%s %s %d' % (file, function, count[function])))
    return out


def noticed(bin, file, line):
    """How a deletion is noticed, or None; and the seconds that it took."""
    start = time.time()
    subjects = next(s for prefix, s in SUBJECTS.items() if file.startswith(prefix))
    env = dict(os.environ, SIMT_DELETE='%s:%d' % (file, line), SIMT_ORDER='random', SIMT_ABORT='1')
    for i, extra in enumerate(ROUNDS):
        for subject in subjects:
            env.update(SIMT_SEED=str(5 + i), SIMT_PREEMPT='20' if i else '0')
            try:
                p = subprocess.run([bin + '/kerncheck', '--backend', 'simtcheck', '--only', subject] + extra, env=env, capture_output=True, text=True, timeout=900)
            except subprocess.TimeoutExpired:
                return 'hangs', time.time() - start
            if p.returncode:
                said = re.search(r'simt: ([a-z-]+): ', p.stderr)
                return said.group(1) if said else 'wrong numbers', time.time() - start
    return None, time.time() - start


def main():
    a = argparse.ArgumentParser(usage=__doc__)
    a.add_argument('bin')
    a.add_argument('--sample', type=int)
    a.add_argument('--seed', type=int, default=1)
    a.add_argument('--only', default='')
    a = a.parse_args()
    harmless = dict(l.rstrip('\n').split('\t', 1) for l in open(here + '/harmless.tsv') if l.strip() and l[0] != '#')
    every = places()
    chosen = [p for p in every if a.only in p[2]]
    if a.sample:
        chosen = sorted(random.Random(a.seed).sample([p for p in chosen if p[2] not in harmless], a.sample))
    bad = ['%s: no such wait' % name for name in harmless if name not in {p[2] for p in every}]
    seen = 0
    for file, line, name in chosen:
        how, seconds = noticed(a.bin, file, line)
        ok = bool(how) != (name in harmless)
        seen += bool(how)
        print('%-44s line %4d  %-14s %5.1f s%s' % (name, line, how or 'not noticed', seconds, '' if ok else '   WRONG' if how else '   MISSED'), flush=True)
        if not ok:
            bad.append(name + (': noticed, but listed as harmless' if how else ': missed'))
    for b in bad:
        print(b)
    print('%d of %d barriers and waits deleted: %d noticed, %d harmless, %d wrong' % (len(chosen), len(every), seen, len(chosen) - seen, len(bad)))
    return bool(bad)


sys.exit(main())
