/* The future mass of every slot: summed on the host in double while the full branch decodes. Its cost is the oracle's own:
 * without an oracle no row is read. */
#include "engine/oracle.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/run.h"

static const struct kvt_policy *policy_of(const struct kvt_session *s, int b) { return &s->o.branch[b - 1].spec.policy; }

static struct kvt_future *future_of(struct kvt_session *s, const struct kvt_policy *p)
{
    for (int i = 0; i < s->oracle.n; i++)
        if (s->oracle.future[i].horizon == p->ahead && s->oracle.future[i].sinkless == p->sinkless)
            return &s->oracle.future[i];
    return NULL;
}

int kvt_oracle_open(struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_oracle *o = &s->oracle;
    size_t cells = (size_t)s->shape->L * (size_t)s->shape->G;
    if (s->n_early == s->n)
        return 0;
    o->future = kvt_calloc((size_t)(s->n - s->n_early), sizeof *o->future);
    o->row = kvt_calloc((size_t)s->shape->H * (size_t)s->max_slots, sizeof *o->row);
    bool ok = o->future && o->row;
    for (int b = s->n_early; ok && b < s->n; b++) {
        const struct kvt_policy *p = policy_of(s, b);
        if (future_of(s, p))
            continue;
        struct kvt_future *f = &o->future[o->n++];
        f->horizon = p->ahead, f->sinkless = p->sinkless;
        f->sum = kvt_calloc(cells * (size_t)s->max_slots, sizeof *f->sum);
        f->left = kvt_calloc(cells * (size_t)s->max_slots, sizeof *f->left);
        ok = f->sum && f->left;
    }
    return ok ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the future mass of %d slots", s->n_context);
}

void kvt_oracle_close(struct kvt_session *s)
{
    struct kvt_oracle *o = &s->oracle;
    for (int i = 0; i < o->n; i++) {
        free(o->future[i].sum);
        free(o->future[i].left);
    }
    free(o->future);
    free(o->row);
    memset(o, 0, sizeof *o);
}

void kvt_future_add(struct kvt_future *f, const struct kvt_future_row *r, int by)
{
    size_t H = (size_t)r->H, G = (size_t)r->G, per = H / G, ld = (size_t)r->ld, slots = (size_t)r->slots;
    for (size_t h = 0; h < H; h++) {
        const float *row = r->row + h * ld;
        size_t at = ((size_t)r->layer * G + h / per) * ld, from = f->sinkless ? (size_t)r->n_sink : 0;
        double all = 1;
        if (f->sinkless) {
            all = 0;
            for (size_t j = from; j < slots; j++)
                all += row[j];
        }
        for (size_t j = from; j < slots && all > 0; j++) {
            double share = row[j] / all / (double)per;
            if (by > 0)
                f->sum[at + j] += share;
            else
                f->left[at + j] -= (float)share;
        }
    }
}

int kvt_oracle_look(struct kvt_session *s, int layer, struct kvt_err *err)
{
    struct kvt_oracle *o = &s->oracle;
    size_t block = (size_t)s->shape->H * (size_t)s->max_slots;
    if (!o->n)
        return 0;
    int rc = s->ops->read(s->dev, o->row, s->row + (size_t)s->n_blocks * block, block * sizeof *o->row);
    if (rc)
        return kvt_fail(err, rc, "oracle: layer %d: %s", layer, kvt_dev_error(s->dev));
    for (int i = 0; i < o->n; i++)
        if (!o->future[i].horizon || s->step <= o->future[i].horizon)
            kvt_future_add(&o->future[i], &(struct kvt_future_row){ .row = o->row, .H = s->shape->H, .G = s->shape->G, .ld = s->max_slots,
                .n_sink = s->n_sink, .layer = layer, .slots = s->o.n_prompt + s->step }, s->lo > 1 ? -1 : 1);
    return 0;
}

void kvt_oracle_begin(struct kvt_session *s)
{
    size_t all = (size_t)s->shape->L * (size_t)s->shape->G * (size_t)s->max_slots;
    for (int i = 0; i < s->oracle.n; i++)
        for (size_t j = 0; j < all; j++)
            s->oracle.future[i].left[j] = (float)s->oracle.future[i].sum[j];
}

const float *kvt_oracle_left(void *self, int branch, int layer)
{
    struct kvt_session *s = self;
    int b = branch < s->n ? branch : branch - s->n + 1; /* a free-running stream's cell: its branch */
    return future_of(s, policy_of(s, b))->left + (size_t)layer * (size_t)s->shape->G * (size_t)s->max_slots;
}

void kvt_oracle_given(struct kvt_session *s, int b)
{
    const struct kvt_future *f = future_of(s, policy_of(s, b));
    size_t cells = (size_t)s->shape->L * (size_t)s->shape->G, n = (size_t)s->n_context, ld = (size_t)s->n_prefill;
    for (size_t c = 0; c < cells; c++)
        for (size_t j = 0; j < n; j++)
            s->given_host[c * ld + j] = (float)f->sum[c * (size_t)s->max_slots + j];
}
