/* Parts of shots, and ranks of shots. */
#include "analyzers/damage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stats.h"

static int held_in(const uint8_t *kept, int start, int end)
{
    int m = 0;
    for (int j = start; j < end; j++)
        m += kept[j];
    return m;
}

static void add_part(struct kvt_parts *p, int held, int length)
{
    p->parts++;
    p->lost += !held;
    p->cut += held && held < length;
}

static bool inside(const struct kvt_trace_span *s, const struct kvt_shot *shot, int S)
{
    for (int i = 0; i < S; i++)
        if (s->start >= shot[i].start && s->end <= shot[i].end)
            return s->end > s->start;
    return false;
}

static bool part_kept(const uint8_t *kept, const struct kvt_trace_span *s, double share)
{
    return held_in(kept, s->start, s->end) >= share * (s->end - s->start);
}

/* Spans of the kinds that count, once for all cells. */
struct part { enum { NUMBER, OPERATOR, SENTENCE } kind; int start, end; };

static void add_cell(const uint8_t *kept, const struct part *part, int n_parts, const struct kvt_trace_info *info, const struct kvt_shot *shot,
                     int S, double share, struct kvt_damage *out)
{
    for (int i = 0; i < S; i++) {
        out->tokens += shot[i].end - shot[i].start;
        out->held += held_in(kept, shot[i].start, shot[i].end);
        if (shot[i].question < 0 || shot[i].answer < 0)
            continue;
        out->shots++;
        out->answer_lost += part_kept(kept, &info->span[shot[i].question], share) && !part_kept(kept, &info->span[shot[i].answer], share);
    }
    for (int i = 0; i < n_parts; i++) {
        int length = part[i].end - part[i].start, held = held_in(kept, part[i].start, part[i].end);
        switch (part[i].kind) {
        case NUMBER: add_part(&out->number, held, length), out->number_tokens += length, out->number_held += held; break;
        case OPERATOR: add_part(&out->operator_mark, held, length), out->operator_tokens += length, out->operator_held += held; break;
        case SENTENCE: add_part(&out->sentence, held, length); break;
        }
    }
}

int kvt_damage_of(const struct kvt_held *h, const struct kvt_trace_info *info, const struct kvt_shot *shot, int S, double part_share,
                  struct kvt_damage *out, struct kvt_err *err)
{
    static const char *const kinds[] = {"number", "operator", "sentence"};
    struct part *part = kvt_calloc((size_t)info->n_spans + 1, sizeof *part);
    int n = 0;
    *out = (struct kvt_damage){0};
    if (!part)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", info->n_spans);
    for (int i = 0; i < info->n_spans; i++)
        for (int k = 0; k < 3; k++)
            if (!strcmp(info->span[i].kind, kinds[k]) && inside(&info->span[i], shot, S)) {
                part[n].kind = k;
                part[n].start = info->span[i].start;
                part[n++].end = info->span[i].end;
            }
    for (int l = 0; l < h->L; l++)
        for (int g = 0; g < (h->shared[l] ? 1 : h->G); g++)
            add_cell(h->kept + ((size_t)l * (size_t)h->G + (size_t)g) * (size_t)h->n, part, n, info, shot, S, part_share, out);
    free(part);
    return 0;
}

/* ---- agreement of layers ---- */

static void ranks(const double *v, int n, double *out)
{
    for (int i = 0; i < n; i++) {
        int below = 0, equal = 0;
        for (int j = 0; j < n; j++) {
            below += v[j] < v[i];
            equal += v[j] == v[i];
        }
        out[i] = below + (equal + 1) / 2.0;
    }
}

double kvt_spearman(const double *a, const double *b, int n, double *rank)
{
    double mean = (n + 1) / 2.0, xy = 0, xx = 0, yy = 0, *x = rank, *y = rank + n;
    ranks(a, n, x);
    ranks(b, n, y);
    for (int i = 0; i < n; i++) {
        xy += (x[i] - mean) * (y[i] - mean);
        xx += (x[i] - mean) * (x[i] - mean);
        yy += (y[i] - mean) * (y[i] - mean);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

int kvt_agreement_of(const struct kvt_held *h, const struct kvt_shot *shot, int S, struct kvt_agreement *out, struct kvt_err *err)
{
    double *share = kvt_calloc((size_t)h->L * (size_t)S, sizeof *share), *rank = kvt_calloc(2 * (size_t)S, sizeof *rank);
    struct kvt_running next = {0}, all = {0};
    *out = (struct kvt_agreement){.next = NAN, .all = NAN};
    if (!share || !rank) {
        free(share);
        free(rank);
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d shots of %d layers", S, h->L);
    }
    for (int l = 0; l < h->L; l++)
        for (int g = 0; g < h->G; g++)
            for (int i = 0; i < S; i++) /* tokens held over all heads: the same order as shares, and exact */
                share[l * S + i] += (double)held_in(h->kept + ((size_t)l * (size_t)h->G + (size_t)g) * (size_t)h->n, shot[i].start, shot[i].end);
    for (int l = 0; l < h->L; l++)
        for (int i = 0; i < S; i++)
            share[l * S + i] /= (shot[i].end - shot[i].start) * (double)h->G;
    for (int l = 0; l < h->L; l++)
        for (int m = l + 1; m < h->L; m++) {
            double r = kvt_spearman(share + l * S, share + m * S, S, rank);
            out->pairs++;
            out->undefined += isnan(r);
            kvt_running_add(&all, r);
            if (m == l + 1)
                kvt_running_add(&next, r);
        }
    out->next = kvt_running_mean(&next);
    out->all = kvt_running_mean(&all);
    free(share);
    free(rank);
    return 0;
}
