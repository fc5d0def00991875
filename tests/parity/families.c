/* Every family on a tiny model with all of its traits on, from both formats, against transformers (f32, eager attention).
 *
 * usage: families [-b BACKEND] [--markdown] MODELS_DIR VECTORS_DIR [NAME...]
 *
 * Log-probabilities of all tokens at every position: the prompt in one call, in calls of 17 rows, and its second half row by
 * row; the attention mass of every head; the greedy text through a session. Then each trait that the model has is left
 * out, in a copy of the shape or of the weights, and the difference must show: so it is proved anew with every run that the
 * vectors would catch it. With --markdown the table of docs/models.md comes out.
 *
 * Allowances: the 1e-4 for natural log-probabilities (f32 sums in another order over up to 7 layers give some
 * 1e-6); for attention mass 1e-4 of a head's largest; a trait left out must move something by 10 times as much. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/forward.h"
#include "kvt/session.h"
#include "vectors.h"

enum { CHUNK = 17 };
#define MAX_LOGPROB 1e-4
#define MAX_MASS 1e-4
#define TRAIT_SHOWS 1e-3

static const char *const names[] = {
    "llama", "llama-linear", "llama-yarn", "llama-dynamic", "mistral", "qwen2", "qwen2-window", "qwen3", "gemma", "gemma2",
    "gemma3", "phi3", "smollm3", "smollm3-window", "olmo2", "granite", "stablelm",
};
enum { N_NAMES = sizeof names / sizeof *names };

/* ---- a model whose traits can be left out ---- */

struct copy {
    struct kvt_shape s;
    struct kvt_weights w;
    struct kvt_layer_weights *layer;
    float *out_norm;
};

static bool copy_open(struct copy *c, const struct kvt_model *m)
{
    c->s = *kvt_model_shape(m);
    c->w = *kvt_model_weights(m);
    c->layer = malloc((size_t)c->s.L * sizeof *c->layer);
    c->out_norm = malloc((size_t)c->s.E * sizeof *c->out_norm);
    if (!c->layer || !c->out_norm)
        return false;
    memcpy(c->layer, c->w.layer, (size_t)c->s.L * sizeof *c->layer);
    c->w.layer = c->layer;
    return true;
}

static void copy_close(struct copy *c)
{
    free(c->layer);
    free(c->out_norm);
}

static bool clear_layers(struct copy *c, int bit)
{
    bool had = false;
    for (int l = 0; l < c->s.L; l++) {
        had |= (c->s.layer[l] & bit) != 0;
        c->s.layer[l] &= (uint8_t)~bit;
    }
    return had;
}

static bool set_float(float *x, float to)
{
    bool had = fabsf(*x - to) > 1e-6f * fabsf(to);
    *x = to;
    return had;
}

/* Each leaves one trait out; false: the model hasn't got it. */
static bool no_window(struct copy *c) { return clear_layers(c, KVT_LAYER_WINDOW); }
static bool all_windows(struct copy *c)
{
    bool full = false;
    for (int l = 0; l < c->s.L && c->s.window; l++) {
        full |= !(c->s.layer[l] & KVT_LAYER_WINDOW);
        c->s.layer[l] |= KVT_LAYER_WINDOW;
    }
    return full;
}
static bool no_nope(struct copy *c) { return clear_layers(c, KVT_LAYER_NOPE); }
static bool no_local(struct copy *c) { return clear_layers(c, KVT_LAYER_LOCAL_ROPE); }
static bool no_scaling(struct copy *c)
{
    bool had = c->s.rope[0].scaling != KVT_ROPE_PLAIN;
    c->s.rope[0].scaling = KVT_ROPE_PLAIN;
    return had;
}
static bool no_stretch(struct copy *c)
{
    bool had = c->s.rope[0].attention != 1;
    c->s.rope[0].attention = 1;
    return had;
}
static bool other_base(struct copy *c)
{
    c->s.rope[0].base *= 2;
    return true;
}
static bool other_pairs(struct copy *c)
{
    c->s.rope_halves = !c->s.rope_halves;
    return true;
}
static bool whole_rotation(struct copy *c)
{
    bool had = c->s.rope_rot != c->s.D && c->s.rope[0].scaling < KVT_ROPE_FACTORS;
    c->s.rope_rot = c->s.D;
    return had;
}
static bool fewer_rotated(struct copy *c) /* longrope's factors end with the pairs that there are */
{
    bool had = c->s.rope_rot != c->s.D && c->s.rope[0].scaling >= KVT_ROPE_FACTORS;
    c->s.rope_rot -= 2;
    return had;
}
static bool no_attn_cap(struct copy *c) { return set_float(&c->s.attn_cap, 0); }
static bool no_logit_cap(struct copy *c) { return set_float(&c->s.logit_cap, 0); }
static bool no_embed_scale(struct copy *c) { return set_float(&c->s.embed_scale, 1); }
static bool no_residual_scale(struct copy *c) { return set_float(&c->s.residual_scale, 1); }
static bool no_logit_scale(struct copy *c) { return set_float(&c->s.logit_scale, 1); }
static bool no_attn_scale(struct copy *c) { return set_float(&c->s.attn_scale, 1 / sqrtf((float)c->s.D)); }
static bool other_act(struct copy *c)
{
    c->s.act = c->s.act == KVT_ACT_SILU ? KVT_ACT_GELU_TANH : KVT_ACT_SILU;
    return true;
}
static bool no_qk_norm(struct copy *c)
{
    bool had = c->s.qk_norm != KVT_QK_NONE;
    c->s.qk_norm = KVT_QK_NONE;
    return had;
}
static bool no_post_norm(struct copy *c)
{
    bool had = c->s.post_norm;
    c->s.post_norm = false;
    return had;
}
static bool no_plus_one(struct copy *c)
{
    bool had = c->s.norm_plus_one || c->s.embed_scale == sqrtf((float)c->s.E); /* GGUF has added it, for the same families */
    for (int i = 0; i < c->s.E; i++)
        c->out_norm[i] = c->w.out_norm[i] - 1;
    c->w.out_norm = c->out_norm;
    return had;
}
static bool no_layer_norm(struct copy *c)
{
    bool had = c->s.layer_norm;
    c->s.layer_norm = false;
    return had;
}
static bool no_norm_bias(struct copy *c)
{
    bool had = c->w.out_norm_bias != NULL;
    for (int l = 0; l < c->s.L; l++)
        c->layer[l].attn_norm_bias = c->layer[l].ffn_norm_bias = NULL;
    c->w.out_norm_bias = NULL;
    return had;
}
static bool no_qkv_bias(struct copy *c)
{
    bool had = c->layer[0].q_bias != NULL;
    for (int l = 0; l < c->s.L; l++)
        c->layer[l].q_bias = c->layer[l].k_bias = c->layer[l].v_bias = NULL;
    return had;
}
static bool no_o_bias(struct copy *c)
{
    bool had = c->layer[0].o_bias != NULL;
    for (int l = 0; l < c->s.L; l++)
        c->layer[l].o_bias = NULL;
    return had;
}
static bool no_mlp_bias(struct copy *c)
{
    bool had = c->layer[0].gate_bias != NULL;
    for (int l = 0; l < c->s.L; l++)
        c->layer[l].gate_bias = c->layer[l].up_bias = c->layer[l].down_bias = NULL;
    return had;
}
static bool other_halves(struct copy *c) /* of the fused matrix: up's rows before gate's */
{
    for (int l = 0; l < c->s.L && c->s.fused_gate_up; l++) {
        struct kvt_mat gate = c->layer[l].gate;
        c->layer[l].gate = c->layer[l].up;
        c->layer[l].up = gate;
    }
    return c->s.fused_gate_up;
}

static const struct trait {
    const char *name;
    bool (*leave_out)(struct copy *c);
} traits[] = {
    {"sliding window", no_window}, {"full layers among windows", all_windows}, {"layers without rope", no_nope},
    {"second rope base", no_local}, {"rope scaling", no_scaling}, {"rope attention factor", no_stretch}, {"rope base", other_base},
    {"rotary pairs", other_pairs}, {"partial rotation", whole_rotation}, {"partial rotation", fewer_rotated},
    {"attention cap", no_attn_cap}, {"logit cap", no_logit_cap},
    {"embedding scale", no_embed_scale}, {"residual scale", no_residual_scale}, {"logit scale", no_logit_scale},
    {"query scale", no_attn_scale}, {"activation", other_act}, {"q/k norm", no_qk_norm}, {"post-norms", no_post_norm},
    {"norm weight + 1", no_plus_one}, {"LayerNorm", no_layer_norm}, {"norm biases", no_norm_bias}, {"q, k, v biases", no_qkv_bias},
    {"o bias", no_o_bias}, {"feed-forward biases", no_mlp_bias}, {"fused matrices", other_halves},
};
enum { N_TRAITS = sizeof traits / sizeof *traits };

/* ---- one run of the forward pass ---- */

struct seen {                   /* attention mass of the layers as they come by */
    struct kvt_see see;
    float *mass;                /* (L, H, n) backend memory */
    size_t layer_values;
};

static const struct kvt_see *before(void *self, int layer, int row0, int n)
{
    struct seen *k = self;
    (void)row0, (void)n;
    k->see.mass = k->mass + (size_t)layer * k->layer_values;
    return &k->see;
}

struct machine {
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    struct kvt_err err;
};

/* Log-probabilities (n, V) of a prompt that is fed in calls of `first` rows, then of `step`. mass: (L, H, n) or NULL. */
static int run(struct machine *m, const struct kvt_shape *s, const struct kvt_weights *w, const struct family_vector *v, int first,
               int step, float *logits, float *mass)
{
    const struct kvt_ops *ops = m->ops;
    int n = v->n, rc;
    size_t E = (size_t)s->E, V = (size_t)s->V;
    struct kvt_forward f = { 0 };
    struct kvt_cache *cache = NULL;
    size_t mass_bytes = (size_t)s->L * (size_t)s->H * (size_t)n * sizeof *mass;
    struct seen seen = { .see = { .ld = n, .n_rows = n }, .mass = ops->alloc(m->dev, mass_bytes), .layer_values = (size_t)s->H * (size_t)n };
    struct kvt_look look = { .self = &seen, .before = before };
    int32_t *zero = calloc((size_t)n, sizeof *zero), *pos = calloc((size_t)n, sizeof *pos);
    float *x = ops->alloc(m->dev, (size_t)n * E * sizeof *x), *out = ops->alloc(m->dev, (size_t)n * V * sizeof *out);
    struct kvt_cache_opts o = { .L = s->L, .G = s->G, .D = s->D, .max_branch = 1, .max_slots = n, .type = KVT_F32 };
    rc = zero && pos && x && out && seen.mass ? ops->cache_open(m->dev, &cache, &o, &m->err) : KVT_ENOMEM;
    if (!rc)
        rc = kvt_forward_open(&f, s, w, ops, m->dev, cache, KVT_COMPUTE_F32, n, n + v->n_greedy, 0, &m->err);
    for (int t = 0; pos && t < n; t++)
        pos[t] = t;
    for (int t = 0, rows = first; !rc && t < n; t += rows, rows = step) {
        rows = n - t < rows ? n - t : rows;
        struct kvt_rows r = { .T = rows, .token = v->id + t, .branch = zero, .pos = pos + t, .exact = rows == 1 };
        rc = kvt_forward_embed(&f, &r, x + (size_t)t * E, &m->err);
        for (int l = 0; !rc && l < s->L; l++)
            rc = kvt_forward_layer(&f, l, &r, x + (size_t)t * E, mass ? &look : NULL, &m->err);
        if (!rc)
            rc = kvt_forward_head(&f, x + (size_t)t * E, rows, r.exact, out + (size_t)t * V, &m->err);
    }
    if (!rc)
        rc = ops->read(m->dev, logits, out, (size_t)n * V * sizeof *out);
    if (!rc && mass)
        rc = ops->read(m->dev, mass, seen.mass, mass_bytes);
    for (int t = 0; !rc && t < n; t++) {
        float *row = logits + (size_t)t * V;
        double top = -INFINITY, sum = 0;
        for (size_t i = 0; i < V; i++)
            top = fmax(top, row[i]);
        for (size_t i = 0; i < V; i++)
            sum += exp(row[i] - top);
        for (size_t i = 0; i < V; i++)
            row[i] = (float)(row[i] - top - log(sum));
    }
    kvt_forward_close(&f);
    ops->cache_close(m->dev, &cache);
    ops->free(m->dev, x);
    ops->free(m->dev, out);
    ops->free(m->dev, seen.mass);
    free(zero);
    free(pos);
    return rc;
}

static double largest(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        worst = isfinite(d) ? fmax(worst, d) : INFINITY;
    }
    return worst;
}

static double mass_error(const float *mass, const struct family_vector *v)
{
    double worst = 0;
    for (int r = 0; r < v->L * v->H; r++) {
        const float *a = mass + (size_t)r * (size_t)v->n, *b = v->mass + (size_t)r * (size_t)v->n;
        double top = 0;
        for (int j = 0; j < v->n; j++)
            top = fmax(top, (double)b[j]);
        worst = fmax(worst, largest(a, b, (size_t)v->n) / top);
    }
    return worst;
}

static int greedy(struct machine *m, const struct kvt_model *model, const struct family_vector *v, int *same)
{
    struct kvt_session_opts o = { .ops = m->ops, .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32, .protocol = KVT_PROTOCOL_LITERATURE,
                                  .decode = KVT_DECODE_FREE, .token = v->id, .n_prompt = v->n, .question_start = -1, .window = 8,
                                  .n_new = v->n_greedy };
    struct kvt_session *s = NULL;
    struct kvt_branch_result full = { 0 };
    int rc = kvt_session_open(&s, model, &o, &m->err);
    if (!rc)
        rc = kvt_session_prefill(s, &m->err);
    if (!rc)
        rc = kvt_session_decode(s, &m->err);
    if (!rc)
        rc = kvt_session_result(s, 0, &full);
    for (*same = 0; !rc && *same < v->n_greedy && *same < full.n_free && full.free[*same] == v->greedy[*same];)
        ++*same;
    kvt_session_close(&s);
    return rc;
}

/* ---- windows and compression ---- */

/* Slots that snapkv at half of the context leaves in each cell: in layers with a window all of them, unless asked to act
 * there too; where all have one, there is nothing left to compress, and the session says so. */
static bool windows_hold(struct machine *m, const struct kvt_model *model, const struct family_vector *v, bool compress)
{
    const struct kvt_shape *s = kvt_model_shape(model);
    int32_t list[KVT_MAX_LAYERS], pos[4096];
    struct kvt_branch_opts branch = { .name = "snapkv 50%", .budget = { .kind = KVT_BUDGET_KEEP, .keep_ppm = 500000 } };
    struct kvt_session_opts o = { .ops = m->ops, .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32, .protocol = KVT_PROTOCOL_VISIBLE,
                                  .decode = KVT_DECODE_FORCED, .token = v->id, .n_prompt = v->n, .question_start = -1, .window = 8,
                                  .n_new = 3, .compress_windows = compress, .branch = &branch, .n_branches = 1 };
    const char *text = "snapkv[w=8]";
    struct kvt_session *session = NULL;
    bool ok = !kvt_spec_parse(&branch.spec, text, strlen(text), &m->err);
    int acted = kvt_session_layers(model, &o, list), rc = kvt_session_open(&session, model, &o, &m->err), context = v->n - 8;
    if (!acted)
        return rc && strstr(m->err.text, "--compress-windows");
    if (!rc)
        rc = kvt_session_prefill(session, &m->err);
    for (int l = 0; ok && !rc && l < s->L; l++)
        for (int g = 0; g < s->G; g++) {
            bool alone = !compress && s->layer[l] & KVT_LAYER_WINDOW;
            int held = kvt_session_positions(session, 1, l, g, pos, 4096, &m->err), want = (alone ? context : context / 2) + 8;
            if (held != want)
                ok = (printf("  layer %d holds %d slots, not %d\n", l, held, want), false);
        }
    if (!rc)
        rc = kvt_session_decode(session, &m->err);
    kvt_session_close(&session);
    return ok && !rc;
}

static bool check_windows(struct machine *m, const struct kvt_model *model, const struct family_vector *v, const char *name, const char *format)
{
    if (!kvt_model_shape(model)->window)
        return true;
    bool alone = windows_hold(m, model, v, false), too = windows_hold(m, model, v, true);
    if (!alone || !too)
        printf("%-16s %-4s FAILED: windows and compression (%s): %s\n", name, format, alone ? "compressed" : "left alone", m->err.text);
    return alone && too;
}

/* ---- a model in one format ---- */

struct shown {                  /* what the table of docs/models.md says of a model in one format */
    const char *family, *model, *format;
    double worst;               /* log-probabilities, of all ways of feeding and all prompts */
    bool has[N_TRAITS];
    double moved[N_TRAITS];     /* by how much without the trait */
};
static struct shown shown[2 * N_NAMES];
static int n_shown, n_left_out;

static bool check_vector(struct machine *m, const struct kvt_model *model, const struct family_vector *v, const char *label, const char *format,
                         struct shown *show)
{
    const struct kvt_shape *s = kvt_model_shape(model);
    const struct kvt_weights *w = kvt_model_weights(model);
    size_t values = (size_t)v->n * (size_t)v->V;
    if (v->L != s->L || v->H != s->H || v->V != s->V)
        return printf("%-16s %-4s FAILED: the vectors are of another model\n", label, format), false;
    float *lp = malloc(values * sizeof *lp), *mass = calloc((size_t)(s->L * s->H * v->n), sizeof *mass);
    double worst[3] = { INFINITY, INFINITY, INFINITY }, mass_worst = INFINITY;
    int same = 0, rc = lp && mass ? 0 : KVT_ENOMEM;
    const int first[3] = { v->n, CHUNK, v->n / 2 }, step[3] = { v->n, CHUNK, 1 };
    for (int i = 0; i < 3 && !rc; i++) {
        rc = run(m, s, w, v, first[i], step[i], lp, i < 2 ? mass : NULL);
        worst[i] = largest(lp, v->logprob, values);
        if (i < 2)
            mass_worst = i ? fmax(mass_worst, mass_error(mass, v)) : mass_error(mass, v);
    }
    if (!rc)
        rc = greedy(m, model, v, &same);
    bool ok = !rc && worst[0] <= MAX_LOGPROB && worst[1] <= MAX_LOGPROB && worst[2] <= MAX_LOGPROB && mass_worst <= MAX_MASS && same == v->n_greedy;
    for (int i = 0; i < 3; i++)
        show->worst = fmax(show->worst, worst[i]);
    if (rc)
        printf("%-16s %-4s FAILED: %s\n", label, format, m->err.text);
    else
        printf("%-16s %-4s %6d %9.1e %9.1e %9.1e %9.1e %4d/%-3d %s\n", label, format, v->n, worst[0], worst[1], worst[2], mass_worst, same,
               v->n_greedy, ok ? "ok" : "FAILED");
    free(lp);
    free(mass);
    return ok;
}

static bool check_traits(struct machine *m, const struct kvt_model *model, const struct family_vector *v, struct shown *show)
{
    size_t values = (size_t)v->n * (size_t)v->V;
    float *lp = malloc(values * sizeof *lp);
    bool ok = lp != NULL;
    for (int i = 0; ok && i < N_TRAITS; i++) {
        struct copy c = { 0 };
        ok = copy_open(&c, model);
        if (ok && traits[i].leave_out(&c)) {
            int rc = run(m, &c.s, &c.w, v, v->n, v->n, lp, NULL);
            double moved = rc ? 0 : largest(lp, v->logprob, values);
            bool shows = moved > TRAIT_SHOWS;
            if (!shows)
                printf("%-16s %-4s FAILED: without '%s' the log-probabilities move by %.1e only%s%s\n", show->model, show->format, traits[i].name, moved,
                       rc ? ": " : "", rc ? m->err.text : "");
            show->has[i] = true;
            show->moved[i] = moved;
            n_left_out++;
            ok = shows;
        }
        copy_close(&c);
    }
    free(lp);
    return ok;
}

static bool exists(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f)
        fclose(f);
    return f != NULL;
}

static bool check_model(struct machine *m, const char *models, const char *vectors, const char *name, bool gguf)
{
    const char *format = gguf ? "GGUF" : "HF";
    char path[1024];
    snprintf(path, sizeof path, gguf ? "%s/%s.gguf" : "%s/%s/config.json", models, name);
    if (!exists(path))
        return true; /* GGUF doesn't know it */
    if (!gguf)
        snprintf(path, sizeof path, "%s/%s", models, name);
    struct kvt_model *model = NULL;
    if (kvt_model_open(&model, path, &m->err))
        return printf("%-16s %-4s FAILED: %s\n", name, format, m->err.text), false;
    struct shown *show = &shown[n_shown++];
    *show = (struct shown){ .family = kvt_model_shape(model)->family, .model = name, .format = format };
    bool ok = true;
    for (int i = 0; i < 2; i++) {
        struct family_vector v;
        char file[1024], label[64];
        snprintf(file, sizeof file, "%s/family-%s%s.bin", vectors, name, i ? "-short" : "");
        snprintf(label, sizeof label, "%s%s", name, i ? " short" : "");
        if (i && !exists(file))
            continue;
        if (!family_vector_read(&v, file)) {
            ok = false;
            continue;
        }
        ok = check_vector(m, model, &v, label, format, show) && ok;
        if (!i)
            ok = check_traits(m, model, &v, show) && check_windows(m, model, &v, name, format) && ok;
        free(v.file);
    }
    kvt_model_close(&model);
    return ok;
}

static void markdown(void)
{
    printf("\n| family | tiny model | format | largest difference | traits, and by how much log-probabilities move without them |\n"
           "|---|---|---|---|---|\n");
    for (int i = 0; i < n_shown; i++) {
        const struct shown *a = &shown[i];
        printf("| %s | `%s` | %s | %.0e |", a->family, a->model, a->format, a->worst);
        const char *between = " ";
        for (int t = 0; t < N_TRAITS; t++)
            if (a->has[t]) {
                printf("%s%s %.2g", between, traits[t].name, a->moved[t]);
                between = ", ";
            }
        printf(" |\n");
    }
}

int main(int argc, char **argv)
{
    struct machine m = { .ops = kvt_ops_find("cpu") };
    bool table = false, gguf = true, hf = true;
    int at = 1, failed = 0;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (!strcmp(argv[at], "-b") && at + 1 < argc)
            m.ops = kvt_ops_find(argv[++at]);
        else if (!strcmp(argv[at], "--markdown"))
            table = true;
        else if (!strcmp(argv[at], "--gguf"))
            hf = false;
        else if (!strcmp(argv[at], "--hf"))
            gguf = false;
        else
            break;
    }
    if (argc - at < 2 || argv[at][0] == '-' || !m.ops || m.ops->open(&m.dev, &(struct kvt_dev_opts){ .threads = 1 }, &m.err)) {
        fprintf(stderr, "usage: families [-b ref|cpu] [--gguf|--hf] [--markdown] MODELS_DIR VECTORS_DIR [NAME...]\n");
        return 2;
    }
    printf("largest differences from transformers: log-probabilities (prefill, calls of %d rows, row by row), attention mass\n"
           "%-16s %-4s %6s %9s %9s %9s %9s %8s\n", CHUNK, "model", "", "tokens", "prefill", "chunks", "decode", "mass", "greedy");
    for (size_t i = 0; i < N_NAMES; i++) {
        bool asked = argc - at == 2;
        for (int j = at + 2; j < argc; j++)
            asked |= !strcmp(argv[j], names[i]);
        if (asked && gguf)
            failed += !check_model(&m, argv[at], argv[at + 1], names[i], true);
        if (asked && hf)
            failed += !check_model(&m, argv[at], argv[at + 1], names[i], false);
        fflush(stdout);
    }
    printf("%-16s %-4s %6s %9.0e %9.0e %9.0e %9.0e %8s\n", "allowed", "", "", MAX_LOGPROB, MAX_LOGPROB, MAX_LOGPROB, MAX_MASS, "all");
    printf("%d traits were left out one by one, and each showed (by %.0e at least)\n", n_left_out, TRAIT_SHOWS);
    if (table)
        markdown();
    m.ops->close(&m.dev);
    return failed ? 1 : 0;
}
