/* The forward pass: norm, q k v, rotate, append, attend, output, residual, norm, feed-forward, residual. */
#include "engine/forward.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/rope.h"
#include "engine/times.h"

/* Turns an operation's status into err, once. */
static int failed(struct kvt_forward *f, int status, int layer, struct kvt_err *err)
{
    const char *text = kvt_dev_error(f->dev);
    if (layer < 0)
        return kvt_fail(err, status, "%s: %s", f->ops->name, *text ? text : kvt_status_text(status));
    return kvt_fail(err, status, "%s: layer %d: %s", f->ops->name, layer, *text ? text : kvt_status_text(status));
}

/* Products of the same rows with what stands before and behind them, in one go where the machine has one. */
static int products(struct kvt_forward *f, const struct kvt_linears_args *a)
{
    int rc = 0;
    if (f->ops->linears)
        return f->ops->linears(f->dev, a);
    if (a->norm)
        rc = f->ops->norm(f->dev, a->norm);
    for (int i = 0; !rc && i < a->n; i++)
        rc = f->ops->linear(f->dev, &a->a[i]);
    return rc || !a->glu ? rc : f->ops->glu(f->dev, a->glu);
}

/* x += what a block put out, normed and scaled where the family does so. */
static int block_out(struct kvt_forward *f, const struct kvt_mat *mat, const float *bias, const float *in, const float *post_norm,
                     int n, bool exact, float *x)
{
    const struct kvt_shape *s = f->shape;
    const struct kvt_ops *ops = f->ops;
    bool plain = !s->post_norm && s->residual_scale == 1;
    int rc = ops->linear(f->dev, &(struct kvt_linear_args){ .w = *mat, .bias = bias, .in = in, .out = plain ? x : f->h, .T = n,
                                                            .accumulate = plain, .exact = exact, .compute = f->compute });
    if (!rc && s->post_norm)
        rc = ops->norm(f->dev, &(struct kvt_norm_args){ .in = f->h, .weight = post_norm, .out = f->h, .eps = s->rms_eps, .T = n, .E = s->E });
    if (!rc && !plain)
        rc = ops->add(f->dev, &(struct kvt_add_args){ .x = x, .y = f->h, .count = (size_t)n * s->E, .scale = s->residual_scale });
    return rc;
}

/* f->pos for the rotations; the layers of a step have the same, which go over once. */
static int send_positions(struct kvt_forward *f, const int32_t *pos, int n)
{
    size_t bytes = (size_t)n * sizeof *pos;
    if (n == f->n_sent && !memcmp(f->sent, pos, bytes))
        return 0;
    memcpy(f->sent, pos, bytes);
    f->n_sent = n;
    return f->ops->write(f->dev, f->pos, pos, bytes);
}

/* The page to read: one layer over rows [row0, row0 + n). What a family hasn't is NULL or off, and then it isn't done. */
static int layer_run(struct kvt_forward *f, int l, const struct kvt_rows *rows, int row0, int n, float *x,
                     const struct kvt_look *look, struct kvt_err *err)
{
    const struct kvt_shape *s = f->shape;
    const struct kvt_layer_dev *w = &f->layer[l];
    const struct kvt_ops *ops = f->ops;
    const struct kvt_rope *rope = kvt_forward_rope(f, l);
    const int D = s->D, HD = s->H * D, GD = s->G * D;
    const bool exact = rows->exact;
    const float *in = s->pre_norm ? f->h : x;
    struct kvt_dev *dev = f->dev;
    int64_t at = kvt_now_ns();
    int rc;
#define TIMED(part) (at = kvt_times_note(f->times, (part), l, -1, at))
#define DO(call) do { if ((rc = (call))) return failed(f, rc, l, err); } while (0)
#define PRODUCT(mat, b, src, dst) \
    { .w = (mat), .bias = (b), .in = (src), .out = (dst), .T = n, .exact = exact, .compute = f->compute }
#define NORMED(src, w, b, dst, rows, width, mean) \
    (struct kvt_norm_args){ .in = (src), .weight = (w), .bias = (b), .out = (dst), .eps = s->rms_eps, .T = (rows), .E = (width), .centre = (mean) }
#define NORM(src, w, b, dst, rows, width, mean) DO(ops->norm(dev, &NORMED(src, w, b, dst, rows, width, mean)))

    DO(products(f, &(struct kvt_linears_args){ .norm = s->pre_norm ? &NORMED(x, w->attn_norm, w->attn_norm_bias, f->h, n, s->E, s->layer_norm) : NULL, .n = 3,
        .a = (struct kvt_linear_args[]){ PRODUCT(w->q, w->q_bias, in, f->q), PRODUCT(w->k, w->k_bias, in, f->k), PRODUCT(w->v, w->v_bias, in, f->v) } }));
    if (s->qk_norm == KVT_QK_HEAD) {
        NORM(f->q, w->q_norm, NULL, f->q, n * s->H, D, false);
        NORM(f->k, w->k_norm, NULL, f->k, n * s->G, D, false);
    } else if (s->qk_norm == KVT_QK_WIDE) {
        NORM(f->q, w->q_norm, NULL, f->q, n, HD, false);
        NORM(f->k, w->k_norm, NULL, f->k, n, GD, false);
    }
    const float *const qkv[3] = { f->q, f->k, f->v };
    if (look && look->vectors && (rc = look->vectors(look->self, l, row0, n, false, qkv, err)))
        return rc;
    if (rope->rot) {
        DO(send_positions(f, rows->pos + row0, n));
        DO(ops->rotate(dev, &(struct kvt_rotate_args){ .x = f->q, .pos = f->pos, .rope = *rope, .T = n, .heads = s->H, .D = D,
                                                       .scale = f->rope_scale[rope - f->rope], .more = f->k, .more_heads = s->G }));
    }
    if (look && look->vectors && (rc = look->vectors(look->self, l, row0, n, true, qkv, err)))
        return rc;
    DO(ops->cache_append(dev, &(struct kvt_append_args){ .cache = f->cache, .layer = l, .T = n, .k = f->k, .v = f->v,
                                                         .branch = rows->branch + row0, .pos = rows->pos + row0 }));
    TIMED(KVT_PART_QKV);
    int step = look && look->attn_rows ? look->attn_rows : n;
    for (int a = 0; a < n; a += step) {
        int m = n - a < step ? n - a : step, t = row0 + a;
        DO(ops->attn(dev, &(struct kvt_attn_args){
            .cache = f->cache, .layer = l, .T = m, .H = s->H, .q = f->q + (size_t)a * HD, .out = f->att + (size_t)a * HD,
            .branch = rows->branch + t, .pos = rows->pos + t, .renumber = rows->renumber ? rows->renumber + t : NULL,
            .rope = *rope, .scale = s->attn_scale, .cap = s->attn_cap, .window = kvt_layer_window(s, l), .exact = exact,
            .see = look && look->before ? look->before(look->self, l, t, m) : NULL }));
        TIMED(KVT_PART_ATTENTION);
        if (look && look->after && (rc = look->after(look->self, l, t, m, err)))
            return rc;
        if (look && look->after)
            TIMED(KVT_PART_LOOK);
    }
    DO(block_out(f, &w->o, w->o_bias, f->att, w->post_attn_norm, n, exact, x));
    TIMED(KVT_PART_OUTPUT);

    DO(products(f, &(struct kvt_linears_args){ .norm = s->pre_norm ? &NORMED(x, w->ffn_norm, w->ffn_norm_bias, f->h, n, s->E, s->layer_norm) : NULL, .n = 2,
        .a = (struct kvt_linear_args[]){ PRODUCT(w->gate, w->gate_bias, in, f->gate), PRODUCT(w->up, w->up_bias, in, f->up) },
        .glu = &(struct kvt_glu_args){ .gate = f->gate, .up = f->up, .out = f->gate, .T = n, .F = s->F, .act = s->act } }));
    DO(block_out(f, &w->down, w->down_bias, f->gate, w->post_ffn_norm, n, exact, x));
    TIMED(KVT_PART_FFN);
    return 0;
#undef TIMED
#undef PRODUCT
#undef NORM
#undef NORMED
}

int kvt_forward_layer(struct kvt_forward *f, int layer, const struct kvt_rows *rows, float *x,
                      const struct kvt_look *look, struct kvt_err *err)
{
    int rc = 0;
    if (f->times)
        f->times->where.layer = layer;
    for (int r = rows->from; r < rows->T && !rc; r += f->run) {
        if (f->interrupted && __atomic_load_n(f->interrupted, __ATOMIC_RELAXED))
            return kvt_fail(err, KVT_EINTR, "interrupted");
        int n = rows->T - r < f->run ? rows->T - r : f->run;
        rc = layer_run(f, layer, rows, r, n, x + (size_t)r * f->shape->E, look, err);
    }
    if (f->times)
        f->times->where.layer = -1;
    return rc;
}

int kvt_forward_embed(struct kvt_forward *f, const struct kvt_rows *rows, float *x, struct kvt_err *err)
{
    const struct kvt_shape *s = f->shape;
    int rc = f->ops->embed(f->dev, &(struct kvt_embed_args){ .table = f->embed, .token = rows->token, .out = x, .T = rows->T });
    if (!rc && s->embed_scale != 1)
        rc = f->ops->scale(f->dev, &(struct kvt_scale_args){ .x = x, .count = (size_t)rows->T * s->E, .scale = s->embed_scale });
    return rc ? failed(f, rc, -1, err) : 0;
}

int kvt_forward_head(struct kvt_forward *f, const float *x, int n, bool exact, float *logits, struct kvt_err *err)
{
    const struct kvt_shape *s = f->shape;
    assert(n <= f->run);
    int64_t at = kvt_now_ns();
    int rc = products(f, &(struct kvt_linears_args){
        .norm = &(struct kvt_norm_args){ .in = x, .weight = f->out_norm, .bias = f->out_norm_bias, .out = f->h, .eps = s->rms_eps, .T = n, .E = s->E,
                                         .centre = s->layer_norm },
        .a = &(struct kvt_linear_args){ .w = f->output, .in = f->h, .out = logits, .T = n, .exact = exact, .compute = f->compute }, .n = 1 });
    if (!rc && (s->logit_scale != 1 || s->logit_cap > 0))
        rc = f->ops->scale(f->dev, &(struct kvt_scale_args){ .x = logits, .count = (size_t)n * s->V, .scale = s->logit_scale,
                                                             .cap = s->logit_cap });
    kvt_times_note(f->times, KVT_PART_HEAD, -1, -1, at);
    return rc ? failed(f, rc, -1, err) : 0;
}

const struct kvt_rope *kvt_forward_rope(const struct kvt_forward *f, int layer)
{
    int trait = f->shape->layer[layer];
    return &f->rope[trait & KVT_LAYER_NOPE ? KVT_NO_ROPE : trait & KVT_LAYER_LOCAL_ROPE ? 1 : 0];
}

/* ---- open and close ---- */

static void *get(struct kvt_forward *f, size_t count, size_t size)
{
    size_t bytes;
    return kvt_mul_size(count ? count : 1, size, &bytes) ? f->ops->alloc(f->dev, bytes) : NULL;
}

/* A host vector of n floats in backend memory; NULL stays NULL. *rc collects the first failure. */
static float *upload(struct kvt_forward *f, const float *host, int n, int *rc)
{
    if (!host || *rc)
        return NULL;
    float *p = get(f, (size_t)n, sizeof *p);
    *rc = p ? f->ops->write(f->dev, p, host, (size_t)n * sizeof *p) : KVT_ENOMEM;
    return p;
}

static struct kvt_mat resident(struct kvt_forward *f, struct kvt_mat mat, int *rc)
{
    if (!*rc)
        *rc = f->ops->weights(f->dev, &mat);
    return mat;
}

static int open_weights(struct kvt_forward *f, const struct kvt_weights *w)
{
    const struct kvt_shape *s = f->shape;
    int rc = 0;
    f->embed = resident(f, w->embed, &rc);
    f->output = s->tied ? f->embed : resident(f, w->output, &rc);
    f->out_norm = upload(f, w->out_norm, s->E, &rc);
    f->out_norm_bias = upload(f, w->out_norm_bias, s->E, &rc);
    bool wide = s->qk_norm == KVT_QK_WIDE;
    for (int l = 0; l < s->L && !rc; l++) {
        const struct kvt_layer_weights *from = &w->layer[l];
        f->layer[l] = (struct kvt_layer_dev){
            .q = resident(f, from->q, &rc), .k = resident(f, from->k, &rc), .v = resident(f, from->v, &rc),
            .o = resident(f, from->o, &rc), .gate = resident(f, from->gate, &rc), .up = resident(f, from->up, &rc),
            .down = resident(f, from->down, &rc),
            .attn_norm = upload(f, from->attn_norm, s->E, &rc), .ffn_norm = upload(f, from->ffn_norm, s->E, &rc),
            .attn_norm_bias = upload(f, from->attn_norm_bias, s->E, &rc), .ffn_norm_bias = upload(f, from->ffn_norm_bias, s->E, &rc),
            .post_attn_norm = upload(f, from->post_attn_norm, s->E, &rc), .post_ffn_norm = upload(f, from->post_ffn_norm, s->E, &rc),
            .q_norm = upload(f, from->q_norm, wide ? s->H * s->D : s->D, &rc), .k_norm = upload(f, from->k_norm, wide ? s->G * s->D : s->D, &rc),
            .q_bias = upload(f, from->q_bias, s->H * s->D, &rc), .k_bias = upload(f, from->k_bias, s->G * s->D, &rc),
            .v_bias = upload(f, from->v_bias, s->G * s->D, &rc), .o_bias = upload(f, from->o_bias, s->E, &rc),
            .gate_bias = upload(f, from->gate_bias, s->F, &rc), .up_bias = upload(f, from->up_bias, s->F, &rc),
            .down_bias = upload(f, from->down_bias, s->E, &rc) };
    }
    return rc;
}

static bool has_local_rope(const struct kvt_shape *s)
{
    for (int l = 0; l < s->L; l++)
        if (s->layer[l] & KVT_LAYER_LOCAL_ROPE)
            return true;
    return false;
}

/* Tables for the positions of a run of n_tok tokens: 0 .. n_tok, and `ahead` more. */
static int open_rope(struct kvt_forward *f, int n_tok, int ahead)
{
    const struct kvt_shape *s = f->shape;
    int n_pos = n_tok + 1 + ahead, half = s->rope_rot / 2, rc = 0;
    size_t count = (size_t)n_pos * (size_t)half * 2;
    double *freq = kvt_calloc((size_t)half, sizeof *freq);
    float *host = kvt_calloc(count, sizeof *host);
    if (!freq || !host)
        rc = KVT_ENOMEM;
    for (int i = 0; !rc && i < (has_local_rope(s) ? 2 : 1); i++) {
        kvt_rope_frequencies(&s->rope[i], s->rope_rot, n_tok, freq);
        kvt_rope_table(freq, s->rope_rot, n_pos, host);
        f->rope_table[i] = get(f, count, sizeof(float));
        rc = f->rope_table[i] ? f->ops->write(f->dev, f->rope_table[i], host, count * sizeof *host) : KVT_ENOMEM;
        f->rope[i] = (struct kvt_rope){ .table = f->rope_table[i], .n_pos = n_pos, .rot = s->rope_rot, .halves = s->rope_halves };
        f->rope_scale[i] = (float)s->rope[i].attention;
    }
    f->rope[KVT_NO_ROPE] = (struct kvt_rope){ .table = f->rope_table[0], .n_pos = n_pos };
    free(freq);
    free(host);
    return rc;
}

size_t kvt_forward_work_bytes(const struct kvt_shape *s, int run, int n_tok)
{
    size_t row = (size_t)(s->E > s->H * s->D ? s->E : s->H * s->D) + 2 * (size_t)s->H * s->D + 2 * (size_t)s->G * s->D + 2 * (size_t)s->F + 1;
    size_t tables = has_local_rope(s) ? 2 : 1;
    return ((size_t)run * row + tables * ((size_t)n_tok + 1) * s->rope_rot) * sizeof(float);
}

int kvt_forward_open(struct kvt_forward *f, const struct kvt_shape *s, const struct kvt_weights *weights, const struct kvt_ops *ops,
                     struct kvt_dev *dev, struct kvt_cache *cache, enum kvt_compute compute, int run, int n_tok, int ahead, struct kvt_err *err)
{
    int HD = s->H * s->D, GD = s->G * s->D;
    memset(f, 0, sizeof *f);
    f->ops = ops, f->dev = dev, f->shape = s, f->cache = cache, f->compute = compute, f->run = run;
    f->layer = kvt_calloc((size_t)s->L, sizeof *f->layer);
    f->h = get(f, (size_t)run * (s->E > HD ? s->E : HD), sizeof(float));
    f->q = get(f, (size_t)run * HD, sizeof(float));
    f->k = get(f, (size_t)run * GD, sizeof(float));
    f->v = get(f, (size_t)run * GD, sizeof(float));
    f->att = get(f, (size_t)run * HD, sizeof(float));
    f->gate = get(f, (size_t)run * s->F, sizeof(float));
    f->up = get(f, (size_t)run * s->F, sizeof(float));
    f->pos = get(f, (size_t)run, sizeof(int32_t));
    f->sent = kvt_calloc((size_t)run, sizeof *f->sent);
    int rc = f->sent && f->layer && f->h && f->q && f->k && f->v && f->att && f->gate && f->up && f->pos ? 0 : KVT_ENOMEM;
    if (!rc)
        rc = open_weights(f, weights);
    if (!rc)
        rc = open_rope(f, n_tok, ahead);
    if (rc) {
        failed(f, rc, -1, err);
        kvt_forward_close(f);
    }
    return rc;
}

void kvt_forward_close(struct kvt_forward *f)
{
    if (!f->ops)
        return;
    for (int l = 0; f->layer && l < f->shape->L; l++) {
        struct kvt_layer_dev *w = &f->layer[l];
        float *own[] = { w->attn_norm, w->ffn_norm, w->attn_norm_bias, w->ffn_norm_bias, w->post_attn_norm, w->post_ffn_norm, w->q_norm,
                         w->k_norm, w->q_bias, w->k_bias, w->v_bias, w->o_bias, w->gate_bias, w->up_bias, w->down_bias };
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            f->ops->free(f->dev, own[i]);
    }
    void *own[] = { f->out_norm, f->out_norm_bias, f->h, f->q, f->k, f->v, f->att, f->gate, f->up, f->pos, f->rope_table[0],
                    f->rope_table[1] };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        f->ops->free(f->dev, own[i]);
    free(f->sent);
    free(f->layer);
    memset(f, 0, sizeof *f);
}
