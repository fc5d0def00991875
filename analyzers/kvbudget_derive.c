/* kvbudget --show derive, curve, layers: ShotKV's budgets from traces, derived on some prompts and checked on others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvbudget.h"
#include "base/mem.h"

/* Everything that a derivation works on. */
struct work {
    const struct kvbudget_run *r;
    struct kvt_derive *prompt; /* (n) those to derive on, then those to check on */
    struct kvt_shot **shot;    /* (n) */
    int n, n_derive, room;
    bool checked;              /* on prompts of their own */
    int L, G, H, slot_bytes;
    uint8_t *layer;            /* (all layers) 1 = chosen */
    char model[64];
    struct kvt_derive_ask ask;
    struct kvt_derive_pair *pair;
    int n_pairs, best, equal;
};

static void close_work(struct work *w)
{
    for (int i = 0; i < w->n; i++) {
        kvt_derive_close(&w->prompt[i]);
        free(w->shot[i]);
    }
    free(w->prompt);
    free(w->shot);
    free(w->layer);
    free(w->pair);
}

/* ---- traces ---- */

/* Layers that methods leave alone hold everything whatever the shares are. */
static int check_trace(struct work *w, const struct kvt_trace_info *in, const char *path, struct kvt_err *err)
{
    const struct kvbudget_options *o = &w->r->o;
    size_t model = strlen(in->model_name) < sizeof w->model ? strlen(in->model_name) : sizeof w->model - 1;
    if (!in->has_rows)
        return kvt_fail(err, KVT_EINPUT, "%s holds no rows of the steps; trace again with --see scores,rows -n %d or more", path, o->horizon);
    if (!in->has_scores)
        return kvt_fail(err, KVT_EINPUT, "%s holds no raw scores, which ShotKV ranks shots by; trace again with --see scores,rows", path);
    if (in->n_steps < o->horizon)
        return kvt_fail(err, KVT_EINPUT, "%s has %d steps, and the horizon is %d; trace more by -n %d --ignore-end, or look ahead less", path, in->n_steps,
                        o->horizon, o->horizon);
    if (strstr(in->windows, "left alone") && !o->layers)
        return kvt_fail(err, KVT_EINPUT, "%s: methods leave the layers with a sliding window alone (%s); choose the others by --layers", path, in->windows);
    if (!w->n) {
        w->L = in->L, w->G = in->G, w->H = in->H, w->slot_bytes = 2 * in->D * (strcmp(in->kv_type, "f32") ? 2 : 4);
        memcpy(w->model, in->model_name, model);
        w->layer = kvt_calloc((size_t)in->L, 1);
        return w->layer ? kvt_parse_mask(o->layers ? o->layers : "all", in->L, w->layer, "--layers", err) : kvt_fail(err, KVT_ENOMEM, "no memory");
    }
    if (in->L != w->L || in->G != w->G || in->H != w->H || strncmp(in->model_name, w->model, sizeof w->model - 1))
        return kvt_fail(err, KVT_EINPUT, "%s is of another model than the first trace: %s, %d layers of %d heads, not %s, %d of %d", path, in->model_name,
                        in->L, in->H, w->model, w->L, w->H);
    return 0;
}

static int add_prompt(const struct kvbudget_run *r, void *self, struct kvt_trace *t, const char *path, struct kvt_err *err)
{
    struct work *w = self;
    const struct kvt_trace_info *in = kvt_trace_info(t);
    int rc = check_trace(w, in, path, err), chosen = 0;
    if (rc)
        return rc;
    if (w->n == w->room) {
        size_t room = (size_t)w->room * 2 + 8;
        struct kvt_derive *p = realloc(w->prompt, room * sizeof *p);
        w->prompt = p ? p : w->prompt;
        struct kvt_shot **s = p ? realloc(w->shot, room * sizeof *s) : NULL;
        w->shot = s ? s : w->shot;
        if (!s)
            return kvt_fail(err, KVT_ENOMEM, "no memory for %zu prompts", room);
        w->room = (int)room;
    }
    struct kvt_shot *shot = NULL;
    int S = 0;
    rc = kvt_shots(in, &shot, &S, err);
    if (!rc && S < 2)
        rc = kvt_fail(err, KVT_EINPUT, "%s: prompt %s has %d shots in its context; ShotKV chooses among them, so trace one with --shots", path, in->prompt_id, S);
    for (int l = 0; l < w->L; l++)
        chosen += w->layer[l];
    const struct kvt_derive_shape shape = {.L = chosen, .H = in->H, .N = r->o.horizon, .n_prompt = in->n_prompt, .n_context = in->n_context,
                                           .n_sink = r->o.sinks, .n_recent = r->o.recent, .keep_sinks = r->o.keep_sinks, .shot = shot, .S = S};
    if (!rc)
        rc = kvt_derive_trace(&w->prompt[w->n], t, w->layer, &shape, err);
    if (rc) {
        free(shot);
        return rc;
    }
    w->shot[w->n++] = shot;
    return 0;
}

static int open_work(struct work *w, struct kvt_err *err)
{
    const struct kvbudget_run *r = w->r;
    char **more = NULL;
    int n_more = 0, rc = r->o.check ? kvt_split(r->o.check, &more, &n_more, "--check", err) : 0;
    for (int i = 0; !rc && i < r->n_paths; i++)
        rc = kvbudget_each_prompt(r, r->path[i], add_prompt, w, err);
    w->n_derive = w->n;
    for (int i = 0; !rc && i < n_more; i++)
        rc = kvbudget_each_prompt(r, more[i], add_prompt, w, err);
    free(more);
    if (rc)
        return rc;
    if (!n_more && r->o.split) {
        if (r->o.split >= w->n)
            return kvt_fail(err, KVT_EUSAGE, "--split %d: there are %d prompts, and at least one is checked on", r->o.split, w->n);
        w->n_derive = r->o.split;
    } else if (!n_more && w->n > 1) {
        w->n_derive = (w->n + 1) / 2;
    }
    w->checked = w->n > w->n_derive;
    return 0;
}

static struct kvt_derive_set derive_set(const struct work *w) { return (struct kvt_derive_set){w->prompt, w->n_derive}; }
static struct kvt_derive_set check_set(const struct work *w) { return (struct kvt_derive_set){w->prompt + w->n_derive, w->n - w->n_derive}; }

/* ---- what is printed ---- */

/* Bytes of K and V of all chosen layers, of so many tokens in each cell. */
static int64_t bytes_of(const struct work *w, double tokens)
{
    return llround(tokens * w->prompt[0].is.L * w->G * w->slot_bytes);
}

static const char *share_text(int64_t ppm, char *buf, size_t cap)
{
    snprintf(buf, cap, "%.4f", (double)ppm / 1e4);
    size_t n = strlen(buf);
    while (buf[n - 1] == '0')
        buf[--n] = '\0';
    snprintf(buf + n - (buf[n - 1] == '.'), cap - n, "%%");
    return buf;
}

#define LOSS_COLUMNS(few)                                                                                   \
    {.name = "prefill_share", .title = "prefill", .kind = KVT_COL_SHARE, .digits = 1},                      \
    {.name = "decode_share", .title = "decode", .kind = KVT_COL_SHARE, .digits = 1},                        \
    {.name = "counted_tok", .unit = "tokens", .kind = KVT_COL_REAL, .programs_only = true},                 \
    {.name = "shots", .kind = KVT_COL_REAL, .digits = 1},                                                   \
    {.name = "context_tok", .title = "ctx", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1, .programs_only = (few)}, \
    {.name = "generated_tok", .title = "own", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1, .programs_only = (few)}, \
    {.name = "kv_bytes", .title = "KV", .unit = "bytes", .kind = KVT_COL_BYTES},                            \
    {.name = "lost_context", .title = "lost", .kind = KVT_COL_SHARE, .digits = 2 - !(few)},                  \
    {.name = "lost_generated", .title = "+ own", .kind = KVT_COL_SHARE, .digits = 2 - !(few)},               \
    {.name = "lost", .title = "= all", .kind = KVT_COL_SHARE, .digits = 2 - !(few)}

static void put_pair(struct kvt_table *t, const struct work *w, const struct kvt_derive_pair *p)
{
    kvt_put_real(t, (double)p->prefill_ppm / KVT_PPM);
    kvt_put_real(t, (double)p->decode_ppm / KVT_PPM);
    kvt_put_real(t, p->tokens > 0 ? p->tokens : NAN);
    kvt_put_real(t, p->loss.shots);
    kvt_put_real(t, p->loss.held_context);
    kvt_put_real(t, p->loss.held_generated);
    kvt_put_int(t, bytes_of(w, p->loss.held_context + p->loss.held_generated));
    kvt_put_real(t, p->loss.context);
    kvt_put_real(t, p->loss.generated);
    kvt_put_real(t, kvt_derive_lost(&p->loss));
}

static int put_set(struct kvt_table *t, const struct work *w, const char *what, const char *on, const struct kvt_derive_set *set,
                   const int64_t *prefill, struct kvt_derive_pair p, struct kvt_err *err)
{
    int rc = kvt_derive_measure(set, prefill, &p, err);
    kvt_put_text(t, what);
    kvt_put_text(t, on);
    put_pair(t, w, &p);
    return rc;
}

/* The pair, equal shares, and single layers' shares, on the prompts that they were derived on and on others. */
static int result_table(const struct work *w, const struct kvt_derive_pair matched[2], const int64_t *prefill, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "shares", .kind = KVT_COL_TEXT}, {.name = "on", .kind = KVT_COL_TEXT}, LOSS_COLUMNS(true)};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    const struct kvt_derive_pair *best = &w->pair[w->best];
    int rc = 0;
    for (int k = 0; !rc && k < 1 + w->checked; k++) {
        const struct kvt_derive_set set = k ? check_set(w) : derive_set(w);
        const char *on = k ? "check" : w->checked ? "derived" : "in-sample";
        rc = put_set(t, w, "derived", on, &set, NULL, *best, err);
        if (!rc && prefill)
            rc = put_set(t, w, "by layer", on, &set, prefill, *best, err);
        if (!rc && w->equal >= 0)
            rc = put_set(t, w, "equal", on, &set, NULL, w->pair[w->equal], err);
        if (!rc)
            rc = put_set(t, w, "equal, KV", on, &set, NULL, matched[k], err);
    }
    return kvbudget_end_table(w->r, rc, &t, err);
}

/* Along the budget's line: what each pair loses, and what a step up it gains and costs. */
static int curve_table(const struct work *w, struct kvt_err *err)
{
    static const struct kvt_col col[] = {LOSS_COLUMNS(false), {.name = "gain", .title = "gain", .kind = KVT_COL_REAL, .digits = 2},
                                         {.name = "price", .kind = KVT_COL_REAL, .digits = 2}, {.name = "best", .kind = KVT_COL_BOOL}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    bool people = w->r->o.format == KVT_FORMAT_TABLE;
    int every = people && w->n_pairs > 24 ? (w->n_pairs + 23) / 24 : 1, last = -1;
    const struct kvt_derive *d = &w->prompt[0];
    const struct kvt_derive_set first = {d, 1};
    double all = kvt_derive_budget(&first, &w->ask);
    for (int i = 0; i < w->n_pairs; i++) {
        const struct kvt_derive_pair *p = &w->pair[i], *before = last < 0 ? NULL : &w->pair[last];
        bool beside = w->ask.held && i == w->equal && i != w->best; /* not on the line */
        if (beside || (i % every && i != w->best && i != w->equal))
            continue;
        double moved = before ? (double)(p->prefill_ppm - before->prefill_ppm) * d->is.n_context / KVT_PPM / all * 100 : NAN;
        put_pair(t, w, p);
        kvt_put_real(t, moved > 0 ? 100 * (before->loss.context - p->loss.context) / moved : NAN);
        kvt_put_real(t, moved > 0 ? 100 * (p->loss.generated - before->loss.generated) / moved : NAN);
        kvt_put_bool(t, i == w->best);
        last = i;
    }
    return kvbudget_end_table(w->r, 0, &t, err);
}

/* Each layer's shots under one share and under its own. */
static int layer_table(const struct work *w, const int64_t *prefill, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "layer", .kind = KVT_COL_INT},
        {.name = "shots", .kind = KVT_COL_REAL, .digits = 1}, {.name = "context_tok", .title = "tokens", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "own_share", .title = "own share", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "own_shots", .title = "shots", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "own_tok", .title = "tokens", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int l = 0, own = 0; l < w->L; l++) {
        if (!w->layer[l])
            continue;
        double held[2] = {0}, shots[2] = {0};
        for (int i = 0; i < w->n_derive; i++)
            for (int k = 0, s; k < 2; k++) {
                held[k] += (double)kvt_derive_context(&w->prompt[i], own, k ? prefill[own] : w->pair[w->best].prefill_ppm, &s) / w->n_derive;
                shots[k] += (double)s / w->n_derive;
            }
        kvt_put_int(t, l);
        kvt_put_real(t, shots[0]);
        kvt_put_real(t, held[0]);
        kvt_put_real(t, (double)prefill[own] / KVT_PPM);
        kvt_put_real(t, shots[1]);
        kvt_put_real(t, held[1]);
        own++;
    }
    return kvbudget_end_table(w->r, 0, &t, err);
}

static int write_layers(const struct work *w, const int64_t *prefill, struct kvt_err *err)
{
    char name[48];
    FILE *f = NULL;
    int rc;
    if (w->r->o.as)
        snprintf(name, sizeof name, "%s", w->r->o.as);
    else
        snprintf(name, sizeof name, "shotkv %g%%", (double)w->ask.keep_ppm / 1e4);
    if (w->r->o.as && (strlen(w->r->o.as) >= sizeof name || strpbrk(w->r->o.as, "\t\n\r") || *w->r->o.as == '#' || !*w->r->o.as))
        return kvt_fail(err, KVT_EUSAGE, "--as '%.40s' can't name budgets: 1 to %zu bytes, no tab or line end, no # in front", w->r->o.as, sizeof name - 1);
    struct kvt_trace *t = NULL;
    rc = kvt_trace_open(&t, w->r->path[0], w->r->o.prompt, err);
    if (!rc)
        rc = kvbudget_write_begin(&f, w->r->o.out, kvt_trace_info(t), err);
    for (int l = 0, own = 0; !rc && l < w->L; l++)
        kvbudget_write_line(f, name, l, -1, w->layer[l] ? prefill[own++] : KVT_PPM);
    rc = kvbudget_write_end(&f, w->r->o.out, rc, err);
    kvt_trace_close(&t);
    return rc;
}

/* Budgets of the derived pair and of equal shares with as many bytes, for one run that shows which is better. */
static void print_commands(const struct work *w, const struct kvt_derive_pair *matched)
{
    char p[24], d[24], m[24], sinks[24] = "";
    const struct kvt_derive_pair *best = &w->pair[w->best];
    share_text(best->prefill_ppm, p, sizeof p), share_text(best->decode_ppm, d, sizeof d), share_text(matched->prefill_ppm, m, sizeof m);
    if (w->r->o.keep_sinks)
        snprintf(sinks, sizeof sinks, ",sinks=%d", w->r->o.keep_sinks);
    printf("\nUse:      kvtrace ... --method 'shotkv[prefill=%s,decode=%s%s]'\n"
           "Confirm:  kvtrace ... -n %d --fidelity lost -o live.h5 --method \\\n"
           "            'shotkv[prefill=%s,decode=%s%s]',\\\n"
           "            'shotkv[prefill=%s,decode=%s%s]'\n"
           "          kvbudget --show confirm live.h5\n", p, d, sinks, w->r->o.horizon, p, d, sinks, m, m, sinks);
    if (w->r->o.out)
        printf("Layers:   kvtrace ... --method 'shotkv[decode=%s%s]' --budget-file %s\n", d, sinks, w->r->o.out);
}

static void say_what(const struct work *w)
{
    const struct kvbudget_options *o = &w->r->o;
    const struct kvt_derive_set set = derive_set(w);
    char bytes[32];
    kvt_bytes_text((uint64_t)bytes_of(w, kvt_derive_budget(&set, &w->ask)), bytes, sizeof bytes);
    printf("ShotKV's shares for %.4g%% of what the full branch holds, %s,\n%s%s, %d steps ahead; %d prompt%s, %s",
           (double)w->ask.keep_ppm / 1e4, bytes, w->ask.peak ? "at the last step" : "mean over the steps", w->ask.held ? ", as really held" : "", o->horizon, w->n_derive,
           w->n_derive > 1 ? "s" : "", w->checked ? "checked on" : "in-sample: checked on no other.");
    if (w->checked)
        printf(" %d other%s.", w->n - w->n_derive, w->n - w->n_derive > 1 ? "s" : "");
    printf("\nLost: of the mass of the full branch's rows without %d sinks, the row's own token\nand the %d before it, the share on what left: of the context, of the generated\n"
           "tokens (own), of both. Tokens of a cell, and bytes: means of layers and steps.\n", o->sinks, o->recent);
    if (o->show == KVBUDGET_DERIVE)
        puts("equal: both shares alike; equal, KV: alike, with the derived pair's bytes or\nmore; by layer: each layer its own prefill share, holding no more.");
    if (o->show == KVBUDGET_CURVE)
        puts("gain, price: points of lost context (ctx) saved, and of lost generated tokens\nadded, by moving 1% of the budget from the row above to this one.");
    if (o->show == KVBUDGET_LAYERS)
        puts("Left: one share for all layers; right: shares of their own, that hold no more.");
    putchar('\n');
    if (o->horizon <= o->recent + 1)
        fprintf(stderr, "kvbudget: note: within %d steps no generated token is older than the newest %d, so the decode share can't be judged; take a longer --horizon\n",
                o->horizon, o->recent);
}

int kvbudget_derive(const struct kvbudget_run *r, struct kvt_err *err)
{
    struct work w = {.r = r, .ask = {.peak = r->o.peak, .held = r->o.held, .grid_ppm = 5000}, .best = -1, .equal = -1};
    struct kvt_derive_pair matched[2] = {{0}}; /* to the bytes on the prompts derived on, and on those checked on */
    int64_t *prefill = NULL;
    double share = 0;
    const char *keep = r->o.keep ? r->o.keep : "25%";
    char *end;
    share = strtod(keep, &end);
    share = *end == '%' ? share / 100 : share;
    if (end == keep || (*end == '%' ? end[1] : *end) || !(share >= 1e-4 && share <= 1))
        return kvt_fail(err, KVT_EUSAGE, "--keep: '%.24s' is not a share like 25%%", keep);
    w.ask.keep_ppm = llround(share * KVT_PPM);
    int rc = open_work(&w, err);
    const struct kvt_derive_set set = derive_set(&w);
    if (!rc)
        rc = kvt_derive_search(&set, &w.ask, &w.pair, &w.n_pairs, &w.best, &w.equal, err);
    for (int k = 0; !rc && k < 1 + w.checked; k++) {
        const struct kvt_derive_set on = k ? check_set(&w) : set;
        struct kvt_derive_pair best = w.pair[w.best];
        rc = kvt_derive_measure(&on, NULL, &best, err);
        rc = rc ? rc : kvt_derive_matched(&on, best.loss.held_context + best.loss.held_generated, &matched[k], err);
    }
    if (!rc && (r->o.out || r->o.show == KVBUDGET_LAYERS || r->o.per_layer)) {
        prefill = kvt_calloc((size_t)w.prompt[0].is.L, sizeof *prefill);
        rc = prefill ? kvt_derive_layers(&set, w.pair[w.best].prefill_ppm, prefill, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", w.L);
    }
    bool people = r->o.format == KVT_FORMAT_TABLE;
    if (!rc && people)
        say_what(&w);
    if (!rc)
        rc = r->o.show == KVBUDGET_CURVE ? curve_table(&w, err) : r->o.show == KVBUDGET_LAYERS ? layer_table(&w, prefill, err)
           : result_table(&w, matched, prefill, err);
    if (!rc && r->o.out)
        rc = write_layers(&w, prefill, err);
    if (!rc && people && r->o.show == KVBUDGET_DERIVE)
        print_commands(&w, &matched[w.checked]);
    free(prefill);
    close_work(&w);
    return rc;
}
