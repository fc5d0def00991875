/* divide: budgets of rows that share a total.
 *
 * Every slot of a set is one number of 64 bits that ascends in the order in which slots win: the score's key, then slot x per + row. Six
 * passes (three digits of the key, three of the place) find the last winner of each set. In a pass a block reads 8192 slots of a row,
 * counts those that begin as the number found so far, and adds its histogram to the set's; the next pass begins with each block finding the
 * digit for itself, which saves a launch. A set whose last bin is taken whole is done: its later passes read nothing.
 *
 * PAGES ask the same of the reversed order: with c slots of a row up to some number, its pages are free whose `must` is no more than c. So
 * a pass keeps a histogram for each row, turns its running counts into pages bin by bin, and adds those to the set's: no row is sorted. */
#include "kernels/cuda/select.h"

enum { BITS = 11, BINS = 1 << BITS, PASSES = 6, CHUNK = 8192, THREADS = 256, MILLION = 1000000 };

struct row_part {
    u64 own;                 /* a row's own best, up to this, don't compete */
    int32_t n_own, others;   /* how many they are; unprotected slots */
};

struct bound {               /* before a pass: the last winner's number as far as it is known */
    u64 upto;
    unsigned need;           /* winners among those that begin so; 0: nobody wins */
    int done;                /* all up to upto win */
};

struct divide_mem {          /* scratch; what is before `part` begins as 0 */
    unsigned *hist;          /* (sets, PASSES, BINS) */
    unsigned *row_hist;      /* (R, BINS), only for PAGES */
    unsigned *before;        /* (R) slots of a row before those that a pass counts, only for PAGES */
    int32_t *win;            /* (R) */
    struct row_part *part;   /* (R) */
    struct bound *bound;     /* (sets, PASSES) */
    int64_t *room;           /* (sets) */
};

static __device__ __forceinline__ int pass_bits(int pass) { return pass % 3 == 2 ? 10 : 11; }
static __device__ __forceinline__ int pass_shift(int pass) { return (pass < 3 ? 32 : 0) + (pass % 3 == 0 ? 21 : pass % 3 == 1 ? 10 : 0); }

/* Pages of a row of n slots that are free when c of them have left. */
static __device__ __forceinline__ int pages_free(int n, int c)
{
    int hang = (n - 1) % KVT_PAGE_SLOTS + 1; /* slots in its last page */
    return n == 0 || c < hang ? 0 : (c - hang) / KVT_PAGE_SLOTS + 1;
}

/* ---- before the passes ---- */

/* A block for each row: its own best (RANK), and how many slots aren't protected. */
template <int DIGIT, int BLOCK>
static __global__ void __launch_bounds__(BLOCK, 1024 / BLOCK) own_kernel(struct kvt_divide_args a, struct divide_mem d)
{
    __shared__ unsigned hist[1 << DIGIT];
    __shared__ struct block_mem mem;
    int r = (int)blockIdx.x, n = a.n[r], i = r % a.per;
    size_t row = (size_t)r * (size_t)a.ld;
    int64_t safe = 0;
    if (a.how == KVT_DIVIDE_RANK && a.alpha_ppm) {
        safe = (int64_t)a.total[r / a.per] / a.per * a.alpha_ppm / MILLION;
        safe = safe < 1 ? 1 : safe;
    }
    struct last_kept last = select_row<DIGIT>(a.score + row, a.protect ? a.protect + row : NULL, NULL, n, (int)safe, true, hist, &mem);
    if (threadIdx.x)
        return;
    int64_t own = safe - (n - (int)last.others);
    own = own < 0 ? 0 : own < last.others ? own : last.others;
    unsigned place = last.place == 0xffffffffu ? last.place : last.place * (unsigned)a.per + (unsigned)i;
    d.part[r] = (struct row_part){(u64)last.key << 32 | place, (int32_t)own, (int32_t)last.others};
    a.budget[r] = n - (int)last.others + (int)own;
}

/* A block for each set: how many win. */
static __global__ void __launch_bounds__(THREADS) room_kernel(struct kvt_divide_args a, struct divide_mem d)
{
    __shared__ struct block_mem mem;
    int set = (int)blockIdx.x;
    bool pages = a.how == KVT_DIVIDE_PAGES;
    long long taken = 0, rest = 0;
    for (int i = (int)threadIdx.x; i < a.per; i += THREADS) {
        int r = set * a.per + i, n = a.n[r];
        struct row_part part = d.part[r];
        taken += pages ? (n + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS : n - part.others + part.n_own;
        rest += pages ? pages_free(n, part.others) : part.others - part.n_own;
    }
    taken = block_sum(taken, &mem);
    rest = block_sum(rest, &mem);
    if (threadIdx.x)
        return;
    long long room = pages ? taken - a.total[set] : a.total[set] - taken;
    room = room < 0 ? 0 : room;
    d.room[set] = room;
    d.bound[(size_t)set * PASSES] = (struct bound){room < rest ? 0 : ~(u64)0, (unsigned)(room < rest ? room : rest), room == 0 || room >= rest};
}

/* ---- the passes ---- */

/* What is known after a pass. */
static __device__ struct bound narrow(const struct divide_mem *d, int set, int pass, struct block_mem *mem)
{
    const unsigned *hist = d->hist + ((size_t)set * PASSES + (size_t)pass) * BINS;
    struct bound b = d->bound[(size_t)set * PASSES + (size_t)pass];
    if (b.done)
        return b;
    unsigned total, before = block_scan(own_bins(hist, BINS), mem, &total);
    find_bin(hist, BINS, b.need, before, mem);
    __syncthreads();
    b.upto |= (u64)mem->found[0] << pass_shift(pass);
    b.need = mem->found[1];
    b.done = b.need == mem->found[2] || pass == PASSES - 1;
    if (b.done)
        b.upto |= ((u64)1 << pass_shift(pass)) - 1;
    __syncthreads();
    return b;
}

/* The number of slot j of row r; false where it doesn't compete. */
static __device__ __forceinline__ bool cell(const struct kvt_divide_args &a, const struct row_part &part, int r, int j, u64 *x)
{
    size_t at = (size_t)r * (size_t)a.ld + (size_t)j;
    u64 number = (u64)score_key(a.score[at]) << 32 | ((unsigned)j * (unsigned)a.per + (unsigned)(r % a.per));
    *x = a.how == KVT_DIVIDE_PAGES ? ~number : number;
    return !(a.protect && a.protect[at]) && !(part.n_own && number <= part.own);
}

/* A block for each CHUNK slots of each row. */
static __global__ void __launch_bounds__(THREADS) pass_kernel(struct kvt_divide_args a, struct divide_mem d, int pass, int chunks)
{
    __shared__ unsigned hist[BINS];
    __shared__ struct block_mem mem;
    int r = (int)(blockIdx.x / (unsigned)chunks), chunk = (int)(blockIdx.x % (unsigned)chunks), set = r / a.per;
    struct bound b = pass ? narrow(&d, set, pass - 1, &mem) : d.bound[(size_t)set * PASSES];
    if (pass && r % a.per == 0 && chunk == 0 && threadIdx.x == 0)
        d.bound[(size_t)set * PASSES + (size_t)pass] = b;
    int from = chunk * CHUNK, to = a.n[r] - from < CHUNK ? a.n[r] : from + CHUNK;
    if (b.done || from >= to)
        return;
    for (int i = (int)threadIdx.x; i < BINS; i += THREADS)
        hist[i] = 0;
    __syncthreads();
    struct row_part part = d.part[r];
    int shift = pass_shift(pass), top = shift + pass_bits(pass);
    unsigned ahead = 0, mask = (1u << pass_bits(pass)) - 1;
    u64 known = pass ? b.upto >> top : 0;
    struct run_count run = {0, 0};
    for (int at = from + (int)threadIdx.x; at < to; at += 4 * THREADS) {
        u64 x[4];
        bool in[4];
#pragma unroll
        for (int u = 0; u < 4; u++) {
            x[u] = 0;
            in[u] = at + u * THREADS < to && cell(a, part, r, at + u * THREADS, &x[u]);
        }
#pragma unroll
        for (int u = 0; u < 4; u++) {
            u64 begins = pass ? x[u] >> top : 0;
            ahead += in[u] && begins < known;
            if (in[u] && begins == known)
                count_digit(hist, &run, (unsigned)(x[u] >> shift) & mask);
        }
    }
    count_last(hist, &run);
    __syncthreads();
    bool pages = a.how == KVT_DIVIDE_PAGES;
    unsigned *to_hist = pages ? d.row_hist + (size_t)r * BINS : d.hist + ((size_t)set * PASSES + (size_t)pass) * BINS;
    for (int i = (int)threadIdx.x; i < BINS; i += THREADS)
        if (hist[i])
            atomicAdd(&to_hist[i], hist[i]);
    if (!pages)
        return;
    ahead = __reduce_add_sync(0xffffffffu, ahead);
    if (threadIdx.x % 32 == 0 && ahead)
        atomicAdd(&d.before[r], ahead);
}

/* PAGES, a block for each row: its histogram of slots becomes one of pages, and is cleared for the next pass. */
static __global__ void __launch_bounds__(THREADS) pages_kernel(struct kvt_divide_args a, struct divide_mem d, int pass)
{
    __shared__ struct block_mem mem;
    int r = (int)blockIdx.x, set = r / a.per, n = a.n[r];
    if (d.bound[(size_t)set * PASSES + (size_t)pass].done)
        return;
    unsigned *hist = d.row_hist + (size_t)r * BINS, *sum = d.hist + ((size_t)set * PASSES + (size_t)pass) * BINS, total;
    unsigned count = d.before[r] + block_scan(own_bins(hist, BINS), &mem, &total);
    for (int i = 0; i < BINS / THREADS; i++) {
        int bin = (int)threadIdx.x * (BINS / THREADS) + i;
        unsigned next = count + hist[bin];
        int more = pages_free(n, (int)next) - pages_free(n, (int)count);
        if (more)
            atomicAdd(&sum[bin], (unsigned)more);
        hist[bin] = 0;
        count = next;
    }
    if (threadIdx.x == 0)
        d.before[r] = 0; /* all have read it: block_scan has barriers */
}

static __global__ void __launch_bounds__(THREADS) win_kernel(struct kvt_divide_args a, struct divide_mem d, int chunks)
{
    __shared__ struct block_mem mem;
    int r = (int)(blockIdx.x / (unsigned)chunks), chunk = (int)(blockIdx.x % (unsigned)chunks);
    struct bound b = narrow(&d, r / a.per, PASSES - 1, &mem);
    int from = chunk * CHUNK, to = a.n[r] - from < CHUNK ? a.n[r] : from + CHUNK, wins = 0;
    if (!b.need || from >= to)
        return;
    struct row_part part = d.part[r];
    for (int j = from + (int)threadIdx.x; j < to; j += THREADS) {
        u64 x;
        wins += cell(a, part, r, j, &x) && x <= b.upto;
    }
    wins = __reduce_add_sync(0xffffffffu, wins);
    if (threadIdx.x % 32 == 0 && wins)
        atomicAdd(&d.win[r], wins);
}

/* ---- from wins to budgets ---- */

struct blend {               /* a row's part is millionths of slots */
    int64_t floor_part, alpha;
};
static __device__ __forceinline__ int64_t part_of(struct blend b, int win) { return b.floor_part + win * (MILLION - b.alpha); }
static __device__ __forceinline__ int32_t whole_of(int64_t part, int32_t most) { return part / MILLION < most ? (int32_t)(part / MILLION) : most; }

/* Whole numbers by largest remainders: each row gets its whole part; of what is left, one each in order of the remainder (the earlier
 * row first), round after round, up to what a row has. `rounds` of them are given at once, the last one by rank. */
static __device__ void share_out(const struct divide_mem *d, struct blend b, int r0, int per, int ld, int64_t total, int32_t *budget,
                                 struct block_mem *mem)
{
    long long given = 0;
    for (int i = (int)threadIdx.x; i < per; i += THREADS)
        given += whole_of(part_of(b, d->win[r0 + i]), d->part[r0 + i].others);
    int64_t rest = total - block_sum(given, mem);
    int rounds = 0, high = rest > 0 ? ld : 0; /* no row takes more than ld */
    while (rounds < high) {
        int middle = rounds + (high - rounds + 1) / 2;
        long long sum = 0;
        for (int i = (int)threadIdx.x; i < per; i += THREADS) {
            int32_t most = d->part[r0 + i].others, more = most - whole_of(part_of(b, d->win[r0 + i]), most);
            sum += more < middle ? more : middle;
        }
        if (block_sum(sum, mem) <= rest)
            rounds = middle;
        else
            high = middle - 1;
    }
    long long sum = 0;
    for (int i = (int)threadIdx.x; i < per; i += THREADS) {
        int32_t most = d->part[r0 + i].others, more = most - whole_of(part_of(b, d->win[r0 + i]), most);
        sum += more < rounds ? more : rounds;
    }
    rest = rest > 0 ? rest - block_sum(sum, mem) : 0;
    for (int i = (int)threadIdx.x; i < per; i += THREADS) {
        int64_t part = part_of(b, d->win[r0 + i]), ahead = 0;
        int32_t most = d->part[r0 + i].others, whole = whole_of(part, most), more = most - whole;
        for (int o = 0; rest > 0 && more > rounds && o < per; o++) { /* rows that want more and come first */
            int64_t other = part_of(b, d->win[r0 + o]);
            int32_t has = d->part[r0 + o].others;
            if (has - whole_of(other, has) > rounds)
                ahead += other % MILLION > part % MILLION || (other % MILLION == part % MILLION && o < i);
        }
        budget[r0 + i] += whole + (more < rounds ? more : rounds) + (more > rounds && ahead < rest);
    }
}

/* A block for each set. */
static __global__ void __launch_bounds__(THREADS) share_kernel(struct kvt_divide_args a, struct divide_mem d)
{
    __shared__ struct block_mem mem;
    int r0 = (int)blockIdx.x * a.per;
    int64_t room = d.room[blockIdx.x];
    struct blend b = {room / a.per * a.alpha_ppm / MILLION * MILLION, a.alpha_ppm};
    if (a.how == KVT_DIVIDE_BLEND) {
        share_out(&d, b, r0, a.per, a.ld, room, a.budget, &mem);
        return;
    }
    for (int r = r0 + (int)threadIdx.x; r < r0 + a.per; r += THREADS) {
        int win = d.win[r];
        if (a.how == KVT_DIVIDE_PAGES) {
            int n = a.n[r], gone = pages_free(n, win);
            a.budget[r] = n - (gone ? (n - 1) % KVT_PAGE_SLOTS + 1 + KVT_PAGE_SLOTS * (gone - 1) : 0);
        } else if (a.how == KVT_DIVIDE_ROUND) { /* half to even */
            int64_t whole = part_of(b, win) / MILLION, left = part_of(b, win) % MILLION;
            whole += left > MILLION / 2 || (left == MILLION / 2 && whole % 2);
            int32_t most = d.part[r].others;
            a.budget[r] += whole < most ? (int32_t)whole : most;
        } else {
            a.budget[r] += win;
        }
    }
}

int kvt_cuda_divide(struct kvt_dev *dev, const struct kvt_divide_args *a)
{
    if (a->R <= 0)
        return 0;
    size_t R = (size_t)a->R, sets = R / (size_t)a->per, at = 0;
    bool pages = a->how == KVT_DIVIDE_PAGES;
    size_t hist = set_aside(&at, sets * PASSES * BINS * sizeof(unsigned)), row_hist = set_aside(&at, pages ? R * BINS * sizeof(unsigned) : 0);
    size_t before = set_aside(&at, R * sizeof(unsigned)), win = set_aside(&at, R * sizeof(int32_t)), zeros = at;
    size_t part = set_aside(&at, R * sizeof(struct row_part)), bound = set_aside(&at, sets * PASSES * sizeof(struct bound));
    size_t room = set_aside(&at, sets * sizeof(int64_t));
    unsigned char *mem = (unsigned char *)kvt_cuda_scratch(dev, at);
    if (!mem)
        return KVT_ENOMEM;
    int rc = kvt_cuda_zero(dev, mem, zeros);
    if (rc)
        return rc;
    struct divide_mem d = {(unsigned *)(mem + hist), (unsigned *)(mem + row_hist), (unsigned *)(mem + before), (int32_t *)(mem + win),
                           (struct row_part *)(mem + part), (struct bound *)(mem + bound), (int64_t *)(mem + room)};
    int chunks = (int)kvt_blocks((size_t)(a->ld > 0 ? a->ld : 1), CHUNK);
    unsigned blocks = (unsigned)(R * (size_t)chunks);
    if (a->ld <= SHORT_ROW)
        GPU_LAUNCH((own_kernel<8, 256>), (unsigned)R, 256, 0, dev->stream, *a, d);
    else
        GPU_LAUNCH((own_kernel<11, 1024>), (unsigned)R, 1024, 0, dev->stream, *a, d);
    GPU_LAUNCH(room_kernel, (unsigned)sets, THREADS, 0, dev->stream, *a, d);
    for (int pass = 0; pass < PASSES; pass++) {
        GPU_LAUNCH(pass_kernel, blocks, THREADS, 0, dev->stream, *a, d, pass, chunks);
        if (pages)
            GPU_LAUNCH(pages_kernel, (unsigned)R, THREADS, 0, dev->stream, *a, d, pass);
    }
    GPU_LAUNCH(win_kernel, blocks, THREADS, 0, dev->stream, *a, d, chunks);
    GPU_LAUNCH(share_kernel, (unsigned)sets, THREADS, 0, dev->stream, *a, d);
    return kvt_cuda_launched(dev, "divide");
}
