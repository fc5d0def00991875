/* attn: mistakes that its checks must catch. */
#include <stdlib.h>

#include "tests/kerncheck/kerncheck.h"

static int wrong_causal(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    struct kvt_attn_args b = *a;
    int32_t *pos = malloc((size_t)a->T * sizeof *pos);
    for (int t = 0; t < a->T; t++)
        pos[t] = a->pos[t] ? a->pos[t] - 1 : 0;
    b.pos = a->see && a->see->row ? pos : a->pos; /* decode rows miss their newest slot */
    int rc = kvt_ops_cpu.attn(dev, &b);
    free(pos);
    return rc;
}

static int wrong_renumber(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    struct kvt_attn_args b = *a;
    b.renumber = NULL;
    return kvt_ops_cpu.attn(dev, &b);
}

static int wrong_see(struct kvt_dev *dev, const struct kvt_attn_args *a, int window, int sink)
{
    struct kvt_attn_args b = *a;
    struct kvt_see see = *a->see;
    see.window[1] += window;
    see.n_sink += sink;
    b.see = &see;
    return kvt_ops_cpu.attn(dev, &b);
}
static int wrong_window(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_see(dev, a, 1, 0); }
static int wrong_sink(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_see(dev, a, 0, 1); }

static int wrong_distance(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    struct kvt_attn_args b = *a;
    struct kvt_see see = *a->see;
    see.square[3].distance++;
    b.see = &see;
    return kvt_ops_cpu.attn(dev, &b);
}
/* Each row as often as it has tokens before it, its own among them: one more than FINCH counts. */
static int wrong_by_pos(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    int rc = kvt_ops_cpu.attn(dev, a);
    if (rc || !a->see || a->see->n_squares < 5)
        return rc;
    struct kvt_see see = {.ld = a->see->ld, .n_rows = a->see->n_rows, .n_windows = 1, .window = {a->see->square[4].window}, .wmass = {a->see->sqmass[4]}};
    struct kvt_attn_args again = *a;
    again.see = &see;
    return kvt_ops_cpu.attn(dev, &again);
}
static int wrong_max(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    struct kvt_attn_args b = *a;
    struct kvt_see see = *a->see;
    see.max_from += see.max_from > 0;
    b.see = &see;
    return kvt_ops_cpu.attn(dev, &b);
}
static int wrong_later(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    struct kvt_attn_args b = *a;
    struct kvt_see see = *a->see;
    see.unit += see.n_units > 1 ? 2 : 0;
    see.n_units -= see.n_units > 1;
    b.see = &see;
    return kvt_ops_cpu.attn(dev, &b);
}

static int wrong_alone(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    int rc = kvt_ops_cpu.attn(dev, a);
    if (a->T > 1)
        a->out[0] *= 1 + 0x1p-22f; /* a last bit that depends on the company */
    return rc;
}

static int wrong_pool(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    int rc = kvt_ops_cpu.attn(dev, a);
    if (a->see->pool_mean)
        a->see->pool_mean[0] += 0.01f;
    return rc;
}

static int wrong_cap(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    struct kvt_attn_args b = *a;
    b.cap = 0;
    return kvt_ops_cpu.attn(dev, &b);
}

static int wrong_sight(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    struct kvt_attn_args b = *a;
    b.window += b.window > 0;
    return kvt_ops_cpu.attn(dev, &b);
}

enum { LOCAL, FAR, OFFSET, SPANS, TOP, HALF, KEYS, MAP };
static int wrong_new(struct kvt_dev *dev, const struct kvt_attn_args *a, int what)
{
    struct kvt_attn_args b = *a;
    struct kvt_see see = *a->see;
    int32_t offset[8], segment[1024];
    see.n_local += what == LOCAL;
    see.far_from += what == FAR;
    for (int i = 0; what == OFFSET && i < see.n_offsets; i++)
        offset[i] = see.offset_at[i] + 1;
    for (int i = 0; what == SPANS && see.spans && i <= see.n_segments; i++)
        segment[i] = see.segment[i] + (i == see.n_segments - 1 && i && see.segment[i] + 1 < see.segment[i + 1]);
    if (what == OFFSET)
        see.offset_at = offset;
    if (what == SPANS && see.spans)
        see.segment = segment;
    b.see = &see;
    int rc = kvt_ops_cpu.attn(dev, &b);
    if (what == TOP && see.top && see.top_k > 1)
        see.top_at[1] = see.top_at[0];
    if (what == HALF && see.half)
        see.half[0] ^= 1;
    if (what == MAP && see.weight && a->pos[a->T - 1] == see.n_rows - 1)
        see.map_mean[0] += 64; /* a sixteenth */
    if (what == KEYS && see.keys)
        see.keys[0] += 0.01f;
    return rc;
}
static int wrong_local(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_new(dev, a, LOCAL); }
static int wrong_far(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_new(dev, a, FAR); }
static int wrong_offset(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_new(dev, a, OFFSET); }
static int wrong_spans(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_new(dev, a, SPANS); }
static int wrong_top(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_new(dev, a, TOP); }
static int wrong_half(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_new(dev, a, HALF); }
static int wrong_keys(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_new(dev, a, KEYS); }
static int wrong_map(struct kvt_dev *dev, const struct kvt_attn_args *a) { return wrong_new(dev, a, MAP); }

const char *kc_attn_sabotage(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->attn = wrong_causal; return "attn: a row misses its own slot";
    case 1: ops->attn = wrong_renumber; return "attn: renumbered rows aren't";
    case 2: ops->attn = wrong_window; return "attn: a window of one row more";
    case 3: ops->attn = wrong_sink; return "attn: a sink of one position more";
    case 4: ops->attn = wrong_alone; return "attn: a last bit depends on the number of rows";
    case 5: ops->attn = wrong_pool; return "attn: one bin of the pooled map";
    case 6: ops->attn = wrong_cap; return "attn: scores aren't capped";
    case 7: ops->attn = wrong_sight; return "attn: a sliding window of one position more";
    case 8: ops->attn = wrong_distance; return "attn: squares from one row later";
    case 9: ops->attn = wrong_max; return "attn: a maximum of one row less";
    case 10: ops->attn = wrong_later; return "attn: a unit's later rows forgotten";
    case 11: ops->attn = wrong_local; return "attn: local mass of one distance more";
    case 12: ops->attn = wrong_far; return "attn: distances of one row less";
    case 13: ops->attn = wrong_offset; return "attn: offsets by one";
    case 14: ops->attn = wrong_spans; return "attn: a segment's first row is the one before's";
    case 15: ops->attn = wrong_top; return "attn: a column among the largest twice";
    case 16: ops->attn = wrong_half; return "attn: an f16 value rounded the wrong way";
    case 17: ops->attn = wrong_keys; return "attn: one effective number of keys";
    case 18: ops->attn = wrong_by_pos; return "attn: rows weighed by one token more";
    case 19: ops->attn = wrong_map; return "attn: one bin of a finished map";
    default: return NULL;
    }
}
