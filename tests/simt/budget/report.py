#!/usr/bin/env python3
"""What ptxas made of each kernel, read out of a library or an object that nvcc wrote with --no-compress: registers, stack, static shared
memory, bytes of code, a count of the instructions that the budget names, and, where it says how a kernel is launched, occupancy. No tool of the toolkit is needed (there is no cuobjdump in its
Debian packages); the numbers of instructions were learnt from kernels of one instruction.
usage: report.py [--some] FILE [BUDGET.json]     exit 1 when a kernel of the budget is over it, or one that it names isn't there (--some: may be)"""
import collections
import json
import re
import struct
import sys

EM_CUDA = 190
REGCOUNT, FRAME_SIZE = 0x2F, 0x11  # attributes of .nv.info
# Of an SM: threads, blocks, bytes of shared memory (1 KB of it for each block is the system's). All have 65536 registers, given to warps in
# pieces of 256, four warps at a time, and shared memory in pieces of 128 bytes. From the programming guide's table of compute capabilities.
DEVICES = {80: (2048, 32, 164), 86: (1536, 16, 100), 89: (1536, 24, 100), 90: (2048, 32, 228), 100: (2048, 32, 228), 120: (1536, 24, 100)}
OPCODES = {0x23C: 'HMMA', 0x83B: 'LDSM', 0xFAE: 'LDGSTS', 0x983: 'LDL', 0x387: 'STL', 0x22B: 'DFMA', 0x229: 'DADD', 0x228: 'DMUL'}


def text(blob, at):
    return blob[at:blob.index(b'\0', at)].decode()


def cubin(blob, kernels):
    """Kernels of one ELF file for a GPU: {(arch, name): figures}."""
    shoff, flags = struct.unpack_from('<Q', blob, 40)[0], struct.unpack_from('<I', blob, 48)[0]
    count, names_at = struct.unpack_from('<HH', blob, 60)
    arch = flags >> 8 & 0xFF if blob[7] >= 0x41 or blob[8] >= 8 else flags & 0xFF
    sections = [struct.unpack_from('<IIQQQQIIQQ', blob, shoff + 64 * i) for i in range(count)]
    names = [text(blob, sections[names_at][4] + s[0]) for s in sections]
    symbols = sections[names.index('.symtab')]
    strings = sections[symbols[6]]
    symbol = lambda i: text(blob, strings[4] + struct.unpack_from('<I', blob, symbols[4] + 24 * i)[0])
    info = collections.defaultdict(dict)
    for name, s in zip(names, sections):
        data = blob[s[4]:s[4] + s[5]]
        if name == '.nv.info':
            at = 0
            while at < len(data):
                form, attribute, size = struct.unpack_from('<BBH', data, at)
                at += 4
                if form != 4:  # the value is in the place of the size
                    continue
                if attribute in (REGCOUNT, FRAME_SIZE):
                    i, value = struct.unpack_from('<II', data, at)
                    info[symbol(i)]['registers' if attribute == REGCOUNT else 'stack'] = value
                at += size
        elif name.startswith('.nv.shared.') and name[11:] != 'reserved.0':
            info[name[11:]]['shared'] = s[5]
        elif name.startswith('.text.'):
            found = collections.Counter(OPCODES.get(struct.unpack_from('<H', data, i)[0] & 0xFFF) for i in range(0, len(data), 16))
            info[name[6:]].update(bytes=s[5], opcodes=found)
    for name, figures in info.items():
        if 'opcodes' in figures:
            kernels[arch, name] = figures


def occupancy(arch, registers, shared, threads):
    """Warps of an SM that can be resident, in percent, and what keeps more away."""
    most, blocks, kb = DEVICES[arch]
    shared -= 1024 if arch >= 90 and shared >= 1024 else 0 # what the system takes of each block is in the figure there
    warps = -(-threads // 32)
    by = {'blocks': blocks, 'threads': most // (warps * 32), 'shared': (kb << 10) // (1024 + -(-shared // 128) * 128),
          'registers': 65536 // (-(-registers * 32 // 256) * 256) // 4 * 4 // warps}
    limiter = min(by, key=by.get)
    return 100 * by[limiter] * warps * 32 // most, limiter


def main():
    words = [w for w in sys.argv[1:] if w != '--some']
    blob, kernels = open(words[0], 'rb').read(), {}
    budget = json.load(open(words[1])) if len(words) > 1 else {}
    for m in re.finditer(rb'\x7fELF\x02\x01', blob):
        if struct.unpack_from('<H', blob, m.start() + 18)[0] == EM_CUDA:
            cubin(blob[m.start():], kernels)
    over, seen = 0, set()
    print('%-5s %4s %5s %6s %7s  %-64s %s' % ('arch', 'regs', 'stack', 'shared', 'code', 'kernel', 'instructions'))
    for (arch, name), k in sorted(kernels.items()):
        why = []
        for pattern, limit in budget.items():
            if not re.search(pattern, name):
                continue
            seen.add(pattern)
            for what in ('registers', 'stack', 'shared'):
                if k.get(what, 0) > limit.get(what, 1 << 30):
                    why.append('%d %s, allowed %d' % (k.get(what, 0), what, limit[what]))
            if 'block' in limit and arch in DEVICES:
                k['occupancy'] = occupancy(arch, k.get('registers', 0), k.get('shared', 0) + limit.get('dynamic', 0), limit['block'])
                least = limit.get('occupancy', {}).get(str(arch), 0)
                if k['occupancy'][0] < least:
                    why.append('occupancy %d %%, at least %d' % (k['occupancy'][0], least))
            why += ['no ' + op for op in limit.get('need', []) if not k['opcodes'][op]] + ['has ' + op for op in limit.get('deny', []) if k['opcodes'][op]]
        shown = ' '.join('%s:%d' % (op, n) for op, n in sorted(k['opcodes'].items(), key=str) if op)
        if 'occupancy' in k:
            shown = '%d %% by %s ' % k['occupancy'] + shown
        print('sm_%-3d %3d %5d %6d %7d  %-64.64s %s%s' % (arch, k.get('registers', 0), k.get('stack', 0), k.get('shared', 0), k['bytes'], name, shown,
                                                        '   OVER: ' + '; '.join(why) if why else ''))
        over += bool(why)
    missing = [p for p in budget if p not in seen] if len(words) == len(sys.argv) - 1 else []
    print('%d kernels, %d over their budget%s' % (len(kernels), over, ', none of the name ' + ', '.join(missing) if missing else ''))
    return bool(over or missing or not (kernels or '--some' in sys.argv))


sys.exit(main())
