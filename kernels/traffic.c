/* Bytes by shapes. */
#include "kernels/traffic.h"

static int64_t floats(int64_t count) { return count * (int64_t)sizeof(float); }

static int64_t mat_bytes(const struct kvt_mat *m) { return (int64_t)kvt_row_bytes(m->type, (size_t)m->k) * m->n; }

int64_t kvt_traffic_embed(const struct kvt_embed_args *a)
{
    return a->T * (int64_t)kvt_row_bytes(a->table.type, (size_t)a->table.k) + floats((int64_t)a->T * a->table.k);
}

int64_t kvt_traffic_norm(const struct kvt_norm_args *a) { return floats(2 * (int64_t)a->T * a->E + (a->bias ? 2 : 1) * (int64_t)a->E); }

/* Of a head only the rotated channels; two factors for each pair and row. */
int64_t kvt_traffic_rotate(const struct kvt_rotate_args *a)
{
    return floats(2 * (int64_t)a->T * a->heads * a->rope.rot + (int64_t)a->T * a->rope.rot) + (int64_t)a->T * (int64_t)sizeof *a->pos;
}

int64_t kvt_traffic_linear(const struct kvt_linear_args *a)
{
    return mat_bytes(&a->w) + floats((int64_t)a->T * a->w.k + (a->accumulate ? 2 : 1) * (int64_t)a->T * a->w.n + (a->bias ? a->w.n : 0));
}

int64_t kvt_traffic_linears(const struct kvt_linears_args *a)
{
    int64_t T = a->a[0].T, bytes = floats(T * a->a[0].w.k);
    if (a->norm)
        bytes += floats((a->norm->bias ? 2 : 1) * (int64_t)a->norm->E);
    for (int i = 0; i < a->n; i++) {
        const struct kvt_linear_args *l = &a->a[i];
        bytes += mat_bytes(&l->w) + floats(l->bias ? l->w.n : 0) + (a->glu ? 0 : floats((l->accumulate ? 2 : 1) * T * l->w.n));
    }
    return bytes + (a->glu ? floats(T * a->glu->F) : 0);
}

int64_t kvt_traffic_logit_stats(const struct kvt_logit_stats_args *a) { return floats((int64_t)a->T * a->V); }

static int64_t slot_bytes(const struct kvt_cache_opts *o) { return (int64_t)kvt_row_bytes(o->type, (size_t)o->D); }

int64_t kvt_traffic_append(const struct kvt_append_args *a, const struct kvt_cache_opts *o)
{
    int64_t heads = (int64_t)a->T * o->G;
    return heads * (2 * floats(o->D) + 2 * slot_bytes(o) + (int64_t)sizeof *a->pos);
}

/* What observation writes: arrays that are added to are read too. */
static int64_t seen_bytes(const struct kvt_attn_args *a)
{
    const struct kvt_see *s = a->see;
    if (!s)
        return 0;
    int64_t H = a->H, T = a->T, columns = H * s->ld, count = 0;
    count += 2 * columns * (!!s->mass + !!s->max + !!s->later + s->n_windows + s->n_squares) + columns * !!s->last;
    count += H * T * (!!s->entropy + !!s->keys + !!s->sink + !!s->local + (s->top ? 2 * s->top_k : 0));
    count += s->distance ? 2 * H * kvt_distance_bins(s->n_rows) : 0;
    count += (s->offset ? 2 * H * s->n_offsets : 0) + (s->spans ? 2 * H * s->n_segments * s->n_segments : 0);
    count += 2 * H * s->R * s->C * (!!s->pool_mean + !!s->pool_max);
    for (int h = 0; h < 64; h++)
        if (s->row_heads >> h & 1)
            count += T * s->ld * (s->rows ? 2 : s->half ? 1 : 0) / 2;
    for (int t = 0; s->row_at && t < a->T; t++)
        count += s->row_at[t] >= 0 ? H * s->row_ld : 0;
    return floats(count);
}

int64_t kvt_traffic_attn(const struct kvt_attn_args *a, const struct kvt_cache_opts *o, int (*live)(const void *self, int branch, int layer), const void *self)
{
    int64_t slots = 0;
    for (int t = 0; t < a->T;) {
        int end = t + 1;
        while (end < a->T && a->branch[end] == a->branch[t])
            end++;
        int64_t n = live(self, a->branch[t], a->layer), reach = a->window ? (int64_t)a->window + end - t - 1 : n;
        slots += n < reach ? n : reach;
        t = end;
    }
    return slots * o->G * 2 * slot_bytes(o) + floats(2 * (int64_t)a->T * a->H * o->D) + seen_bytes(a);
}

int64_t kvt_traffic_slots(const struct kvt_slots *at, const struct kvt_cache_opts *o, int arrays)
{
    return (int64_t)at->n * o->G * (arrays * slot_bytes(o) + (int64_t)sizeof(float));
}
