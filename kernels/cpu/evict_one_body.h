/* evict_one at one vector level: this text is included behind attn_body.h. A page of 16 slots at a time, in vectors of 16 lanes that a
 * compiler cuts into what the level has (which it does before it inlines: so each function carries the level's attribute). */

typedef float pf __attribute__((vector_size(KVT_PAGE_SLOTS * 4)));   /* a page wide */
typedef int32_t pi __attribute__((vector_size(KVT_PAGE_SLOTS * 4)));

/* `live` of the 16 values at p; the others are 0. */
INLINE void load_some(const float *p, int live, pf *v)
{
    float some[SLOTS] = {0};
    if (live == SLOTS) {
        memcpy(v, p, sizeof *v);
        return;
    }
    memcpy(some, p, (size_t)live * sizeof *p);
    memcpy(v, some, sizeof *v);
}

/* What the row gives `live` slots from slot j of cell g on. */
INLINE void given(const struct kvt_evict_one_args *a, int g, int j, int live, pf *out)
{
    int m = a->H / a->cache->o.G;
    const float *row = a->row + (size_t)(g * m) * (size_t)a->row_ld + (size_t)j;
    pf x = {0}, y;
    for (int h = 0; h < m; h++, row += a->row_ld) {
        load_some(row, live, &y);
        y = a->square ? y * y : y;
        if (a->how != KVT_GROUP_MAX || !h) {
            x = h ? x + y : y;
        } else {
            pi more = x > y;
            x = (pf)((more & (pi)x) | (~more & (pi)y));
        }
    }
    *out = a->how == KVT_GROUP_MEAN && m > 1 ? x / (float)m : x;
}

/* What cells [g, last) give or have given `live` of their n slots from slot j on; `add`: the row goes to their sums first. */
INLINE void received(const struct kvt_evict_one_args *a, int g, int last, int j, int n, int live, bool add, pf *out)
{
    pf all = {0};
    for (int first = g; g < last; g++) {
        float *sum = a->state ? a->state + (size_t)g * (size_t)a->ld + (size_t)j : NULL;
        pf x, before = {0};
        if (sum)
            load_some(sum, live, &before);
        if (add || !sum)
            given(a, g, j, live, &x);
        if (sum && add) {
            if (j + SLOTS > n - a->added) /* new slots start at 0 */
                for (int l = 0; l < SLOTS; l++)
                    before[l] = j + l < n - a->added ? before[l] : 0;
            x = before + x;
            memcpy(sum, &x, (size_t)live * sizeof *sum);
        } else if (sum) {
            x = before;
        }
        all = g == first ? x : all + x;
    }
    *out = all;
}

/* An integer that rises with the worth, NaN before all. */
INLINE void order(const pf *worth, pi *out)
{
    pf x = *worth + 0.0f; /* -0 to 0: they tie */
    pi bits = (pi)x, nan = x != x;
    bits ^= (bits >> 31) & 0x7fffffff;
    *out = (nan & INT32_MIN) | (~nan & bits);
}

/* One pass over cells [g, last): the row is added to their sums; with `choose`, the position that leaves, -1: none may. at: (n to a
 * whole page) out: positions, INT32_MAX behind the last. */
INLINE int32_t pass(const struct kvt_evict_one_args *a, int n, const struct kvt_cell *cell, int g, int last, bool choose, int32_t *at)
{
    pi best = {0}, where = {0};
    best = best + INT32_MAX;
    where = where - 1;
    for (int j = 0; j < n; j += SLOTS) {
        int live = n - j < SLOTS ? n - j : SLOTS;
        memcpy(at + j, kvt_page_pos(a->cache, cell->page[j / SLOTS]), SLOTS * sizeof *at);
        for (int l = live; l < SLOTS; l++)
            at[j + l] = INT32_MAX;
        pi pos, key;
        pf x;
        memcpy(&pos, at + j, sizeof pos);
        if (a->row && live == SLOTS)
            received(a, g, last, j, n, SLOTS, a->state, &x);
        else if (a->row)
            received(a, g, last, j, n, live, a->state, &x);
        if (!choose)
            continue;
        if (!a->row)
            x = __builtin_convertvector(pos, pf);
        if (a->visible_mean)
            x = x / __builtin_convertvector(a->pos + 1 - pos, pf);
        order(&x, &key);
        pi may = (pos >= a->sinks) & (pos <= a->pos - a->recent[g]);
        pi first = may & ((key < best) | ((key == best) & (pos > where)));
        best = (first & key) | (~first & best);
        where = (first & pos) | (~first & where);
    }
    int32_t key = INT32_MAX, out = -1;
    for (int l = 0; l < SLOTS; l++)
        if (where[l] >= 0 && (best[l] < key || (best[l] == key && where[l] > out))) {
            key = best[l];
            out = where[l];
        }
    return out;
}

/* How many of n positions lie in [lo, hi]. */
INLINE int count_in(const int32_t *at, int n, int32_t lo, int32_t hi)
{
    pi lane = {0}, pos;
    int count = 0;
    for (int j = 0; j < n; j += SLOTS) {
        memcpy(&pos, at + j, sizeof pos);
        lane -= (pos >= lo) & (pos <= hi);
    }
    for (int l = 0; l < SLOTS; l++)
        count += lane[l];
    return count;
}

/* The rank-th (from 0) position in [lo, hi], where there are more: by halves, a pass each. */
INLINE int32_t position_of(const int32_t *at, int n, int32_t lo, int32_t hi, int rank)
{
    for (int32_t from = lo; from < hi;) {
        int32_t mid = from + (hi - from) / 2;
        if (count_in(at, n, lo, mid) > rank)
            hi = mid;
        else
            from = mid + 1;
    }
    return hi;
}

/* The slot at a position that is held. */
INLINE int slot_of(const int32_t *at, int n, int32_t position)
{
    pi slot, found = {0}, pos;
    int out = 0;
    for (int l = 0; l < SLOTS; l++)
        slot[l] = l;
    for (int j = 0; j < n; j += SLOTS, slot += SLOTS) {
        memcpy(&pos, at + j, sizeof pos);
        found |= (pos == position) & slot;
    }
    for (int l = 0; l < SLOTS; l++)
        out |= found[l];
    return out;
}

INLINE float worth_of(const struct kvt_evict_one_args *a, int g, int last, int n, int slot, int32_t at)
{
    pf x = {(float)at};
    if (a->row)
        received(a, g, last, slot, n, 1, false, &x);
    return a->visible_mean ? x[0] / (float)(a->pos + 1 - at) : x[0];
}

INLINE bool higher(float x, float y) { return !isnan(x) && (isnan(y) || x > y); }

/* The slot that leaves cells [g, last), which hold the same; -1: none. at: (n to a whole page) */
TARGET static int leaver(const struct kvt_evict_one_args *a, int g, int last, int32_t *at)
{
    const struct kvt_cell *cell = kvt_cell_at(a->cache, a->branch, a->layer, g);
    int n = cell->n;
    bool over = n > a->budget[g];
    assert(n <= a->budget[g] + 1);
    if (!over && !a->state)
        return -1;
    if (over && !a->turn) {
        int32_t out = pass(a, n, cell, g, last, true, at);
        return out < 0 ? -1 : slot_of(at, n, out);
    }
    pass(a, n, cell, g, last, false, at);
    int32_t lo = a->sinks, hi = a->pos - a->recent[g], two[2];
    int room = over ? count_in(at, n, lo, hi) - 1 : -1, slot[2];
    if (room < 1)
        return room < 0 ? -1 : slot_of(at, n, position_of(at, n, lo, hi, 0));
    int turn = a->turn[g] < room ? a->turn[g] : 0;
    float x[2];
    for (int i = 0; i < 2; i++) {
        two[i] = position_of(at, n, i ? two[0] + 1 : lo, hi, i ? 0 : turn);
        slot[i] = slot_of(at, n, two[i]);
        x[i] = worth_of(a, g, last, n, slot[i], two[i]);
    }
    a->turn[g] = (turn + 1) % room;
    return higher(x[0], x[1]) ? slot[1] : slot[0];
}
