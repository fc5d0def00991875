#!/usr/bin/env python3
"""What ptxas made of each kernel, read out of a library or an object that nvcc wrote with --no-compress: registers, stack, static shared
memory, bytes of code, and a count of the instructions that the budget names. No tool of the toolkit is needed (there is no cuobjdump in its
Debian packages); the numbers of instructions were learnt from kernels of one instruction.
usage: report.py FILE [BUDGET.json]     exit 1 when a kernel of the budget is over it, or one that it names isn't there"""
import collections
import json
import re
import struct
import sys

EM_CUDA = 190
REGCOUNT, FRAME_SIZE = 0x2F, 0x11  # attributes of .nv.info
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


def main():
    blob, kernels = open(sys.argv[1], 'rb').read(), {}
    budget = json.load(open(sys.argv[2])) if len(sys.argv) > 2 else {}
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
            why += ['no ' + op for op in limit.get('need', []) if not k['opcodes'][op]] + ['has ' + op for op in limit.get('deny', []) if k['opcodes'][op]]
        shown = ' '.join('%s:%d' % (op, n) for op, n in sorted(k['opcodes'].items(), key=str) if op)
        print('sm_%-3d %3d %5d %6d %7d  %-64.64s %s%s' % (arch, k.get('registers', 0), k.get('stack', 0), k.get('shared', 0), k['bytes'], name, shown,
                                                        '   OVER: ' + '; '.join(why) if why else ''))
        over += bool(why)
    missing = [p for p in budget if p not in seen]
    print('%d kernels, %d over their budget%s' % (len(kernels), over, ', none of the name ' + ', '.join(missing) if missing else ''))
    return bool(over or missing or not kernels)


sys.exit(main())
