/* The forward pass: norm, q k v, rotate, append, attend, output, residual, norm, feed-forward, residual. */
#include "engine/forward.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Turns an operation's status into err, once. */
static int failed(struct kvt_forward *f, int status, int layer, struct kvt_err *err)
{
    const char *text = kvt_dev_error(f->dev);
    if (layer < 0)
        return kvt_fail(err, status, "%s: %s", f->ops->name, *text ? text : kvt_status_text(status));
    return kvt_fail(err, status, "%s: layer %d: %s", f->ops->name, layer, *text ? text : kvt_status_text(status));
}

/* The page to read: one layer over rows [row0, row0 + n). */
static int layer_run(struct kvt_forward *f, int l, const struct kvt_rows *rows, int row0, int n, float *x,
                     const struct kvt_look *look, struct kvt_err *err)
{
    const struct kvt_shape *s = f->shape;
    const struct kvt_layer_dev *w = &f->layer[l];
    const struct kvt_ops *ops = f->ops;
    const int HD = s->H * s->D;
    const bool exact = rows->exact;
    struct kvt_dev *dev = f->dev;
    int rc;
#define DO(call) do { if ((rc = (call))) return failed(f, rc, l, err); } while (0)
#define LINEAR(mat, b, src, dst, add) \
    DO(ops->linear(dev, &(struct kvt_linear_args){ .w = (mat), .bias = (b), .in = (src), .out = (dst), .T = n, \
                                                   .accumulate = (add), .exact = exact, .compute = f->compute }))

    DO(ops->rmsnorm(dev, &(struct kvt_rmsnorm_args){ .in = x, .weight = w->attn_norm, .out = f->h, .eps = s->rms_eps, .T = n, .E = s->E }));
    LINEAR(w->q, w->q_bias, f->h, f->q, false);
    LINEAR(w->k, w->k_bias, f->h, f->k, false);
    LINEAR(w->v, w->v_bias, f->h, f->v, false);
    DO(ops->write(dev, f->pos, rows->pos + row0, (size_t)n * sizeof *f->pos));
    DO(ops->rotate(dev, &(struct kvt_rotate_args){ .x = f->q, .pos = f->pos, .rope = f->rope, .T = n, .heads = s->H, .D = s->D }));
    DO(ops->rotate(dev, &(struct kvt_rotate_args){ .x = f->k, .pos = f->pos, .rope = f->rope, .T = n, .heads = s->G, .D = s->D }));
    DO(ops->cache_append(dev, &(struct kvt_append_args){ .cache = f->cache, .layer = l, .T = n, .k = f->k, .v = f->v,
                                                         .branch = rows->branch + row0, .pos = rows->pos + row0 }));
    int step = look && look->attn_rows ? look->attn_rows : n;
    for (int a = 0; a < n; a += step) {
        int m = n - a < step ? n - a : step, t = row0 + a;
        DO(ops->attn(dev, &(struct kvt_attn_args){
            .cache = f->cache, .layer = l, .T = m, .H = s->H, .q = f->q + (size_t)a * HD, .out = f->att + (size_t)a * HD,
            .branch = rows->branch + t, .pos = rows->pos + t, .renumber = rows->renumber ? rows->renumber + t : NULL,
            .rope = f->rope, .scale = s->attn_scale, .exact = exact,
            .see = look && look->before ? look->before(look->self, l, t, m) : NULL }));
        if (look && look->after && (rc = look->after(look->self, l, t, m, err)))
            return rc;
    }
    LINEAR(w->o, NULL, f->att, x, true);
    DO(ops->rmsnorm(dev, &(struct kvt_rmsnorm_args){ .in = x, .weight = w->ffn_norm, .out = f->h, .eps = s->rms_eps, .T = n, .E = s->E }));
    LINEAR(w->gate, NULL, f->h, f->gate, false);
    LINEAR(w->up, NULL, f->h, f->up, false);
    DO(ops->swiglu(dev, &(struct kvt_swiglu_args){ .gate = f->gate, .up = f->up, .out = f->gate, .T = n, .F = s->F }));
    LINEAR(w->down, NULL, f->gate, x, true);
    return 0;
#undef LINEAR
}

int kvt_forward_layer(struct kvt_forward *f, int layer, const struct kvt_rows *rows, float *x,
                      const struct kvt_look *look, struct kvt_err *err)
{
    for (int r = 0; r < rows->T; r += f->run) {
        if (f->interrupted && *f->interrupted)
            return kvt_fail(err, KVT_EINTR, "interrupted");
        int n = rows->T - r < f->run ? rows->T - r : f->run;
        int rc = layer_run(f, layer, rows, r, n, x + (size_t)r * f->shape->E, look, err);
        if (rc)
            return rc;
    }
    return 0;
}

int kvt_forward_embed(struct kvt_forward *f, const struct kvt_rows *rows, float *x, struct kvt_err *err)
{
    int rc = f->ops->embed(f->dev, &(struct kvt_embed_args){ .table = f->embed, .token = rows->token, .out = x, .T = rows->T });
    return rc ? failed(f, rc, -1, err) : 0;
}

int kvt_forward_head(struct kvt_forward *f, const float *x, int n, bool exact, float *logits, struct kvt_err *err)
{
    const struct kvt_shape *s = f->shape;
    assert(n <= f->run);
    int rc = f->ops->rmsnorm(f->dev, &(struct kvt_rmsnorm_args){ .in = x, .weight = f->out_norm, .out = f->h, .eps = s->rms_eps, .T = n, .E = s->E });
    if (!rc)
        rc = f->ops->linear(f->dev, &(struct kvt_linear_args){ .w = f->output, .in = f->h, .out = logits, .T = n,
                                                               .exact = exact, .compute = f->compute });
    return rc ? failed(f, rc, -1, err) : 0;
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
    for (int l = 0; l < s->L && !rc; l++) {
        const struct kvt_layer_weights *from = &w->layer[l];
        f->layer[l] = (struct kvt_layer_dev){
            .q = resident(f, from->q, &rc), .k = resident(f, from->k, &rc), .v = resident(f, from->v, &rc),
            .o = resident(f, from->o, &rc), .gate = resident(f, from->gate, &rc), .up = resident(f, from->up, &rc),
            .down = resident(f, from->down, &rc),
            .attn_norm = upload(f, from->attn_norm, s->E, &rc), .ffn_norm = upload(f, from->ffn_norm, s->E, &rc),
            .q_bias = upload(f, from->q_bias, s->H * s->D, &rc), .k_bias = upload(f, from->k_bias, s->G * s->D, &rc),
            .v_bias = upload(f, from->v_bias, s->G * s->D, &rc) };
    }
    return rc;
}

/* Angles in double: pos x base^(-2i / rot). */
static int open_rope(struct kvt_forward *f, int n_pos)
{
    const struct kvt_shape *s = f->shape;
    int half = s->rope_rot / 2;
    f->rope = (struct kvt_rope){ .n_pos = n_pos, .rot = s->rope_rot, .halves = s->rope_halves };
    float *host = kvt_calloc((size_t)n_pos * (size_t)(half ? half : 1), 2 * sizeof *host);
    f->rope_table = get(f, (size_t)n_pos * (size_t)half * 2, sizeof(float));
    int rc = host && f->rope_table ? 0 : KVT_ENOMEM;
    for (int i = 0; i < half && !rc; i++) {
        double freq = pow(s->rope[0].base, -2.0 * i / s->rope_rot);
        for (int p = 0; p < n_pos; p++) {
            host[((size_t)p * half + i) * 2] = (float)cos(p * freq);
            host[((size_t)p * half + i) * 2 + 1] = (float)sin(p * freq);
        }
    }
    if (!rc)
        rc = f->ops->write(f->dev, f->rope_table, host, (size_t)n_pos * half * 2 * sizeof *host);
    free(host);
    f->rope.table = f->rope_table;
    return rc;
}

size_t kvt_forward_work_bytes(const struct kvt_shape *s, int run, int n_pos)
{
    size_t row = (size_t)(s->E > s->H * s->D ? s->E : s->H * s->D) + 2 * (size_t)s->H * s->D + 2 * (size_t)s->G * s->D + 2 * (size_t)s->F + 1;
    return ((size_t)run * row + (size_t)n_pos * s->rope_rot) * sizeof(float);
}

int kvt_forward_open(struct kvt_forward *f, const struct kvt_model *m, const struct kvt_ops *ops, struct kvt_dev *dev,
                     struct kvt_cache *cache, enum kvt_compute compute, int run, int n_pos, struct kvt_err *err)
{
    const struct kvt_shape *s = kvt_model_shape(m);
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
    int rc = f->layer && f->h && f->q && f->k && f->v && f->att && f->gate && f->up && f->pos ? 0 : KVT_ENOMEM;
    if (!rc)
        rc = open_weights(f, kvt_model_weights(m));
    if (!rc)
        rc = open_rope(f, n_pos);
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
        float *own[] = { f->layer[l].attn_norm, f->layer[l].ffn_norm, f->layer[l].q_bias, f->layer[l].k_bias, f->layer[l].v_bias };
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            f->ops->free(f->dev, own[i]);
    }
    void *own[] = { f->out_norm, f->h, f->q, f->k, f->v, f->att, f->gate, f->up, f->pos, f->rope_table };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        f->ops->free(f->dev, own[i]);
    free(f->layer);
    memset(f, 0, sizeof *f);
}
