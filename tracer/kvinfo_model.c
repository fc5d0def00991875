/* kvinfo -m: family, sizes, types, memory, tokenizer, chat form, and what the tools can't do with a model. All from its
 * metadata and the list of its tensors: weights aren't read. */
#include "tracer/kvinfo_model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kvt/model.h"
#include "kvt/prompt.h"

/* Lines of name and value: rows for programs (t), text for people (t NULL). */
struct lines { struct kvt_table *t; };

static void __attribute__((format(printf, 4, 5))) line(const struct lines *to, const char *name, const char *title, const char *fmt, ...)
{
    char value[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(value, sizeof value, fmt, ap);
    va_end(ap);
    if (!to->t) {
        printf("%-16s %s\n", title, value);
        return;
    }
    kvt_put_text(to->t, name);
    kvt_put_text(to->t, value);
}

/* A number of bytes: exact for programs; for people with what is added behind it. */
static void bytes(const struct lines *to, const char *name, const char *title, uint64_t n, const char *more)
{
    char text[32];
    if (to->t)
        line(to, name, title, "%llu", (unsigned long long)n);
    else
        line(to, name, title, "%s%s", kvt_bytes_text(n, text, sizeof text), more);
}

static void show_sizes(const struct lines *to, const struct kvt_shape *s, const struct kvt_model *m)
{
    uint64_t parameters = 0;
    for (int i = 0; i < KVT_N_DTYPE; i++)
        parameters += (uint64_t)kvt_model_type_bytes(m)[i] / (uint64_t)kvt_dtypes[i].block_bytes * (uint64_t)kvt_dtypes[i].block_values;
    line(to, "family", "family", to->t ? "%s" : "%s (%s)", s->family, s->arch);
    line(to, "name", "name", "%s", s->name);
    line(to, "parameters", "parameters", to->t ? "%.0f" : "%.1f million", to->t ? (double)parameters : (double)parameters / 1e6);
    if (!to->t) {
        line(to, "", "layers", "%d of width %d, feed-forward %d", s->L, s->E, s->F);
        line(to, "", "heads", "%d query over %d kv heads of %d", s->H, s->G, s->D);
        line(to, "", "vocabulary", "%d tokens%s", s->V, s->tied ? "; output and embedding are one matrix" : "");
        line(to, "", "context", "%d tokens", s->context_tok);
        return;
    }
    const struct { const char *name; int value; } number[] = {
        { "layers", s->L }, { "width", s->E }, { "feed_forward", s->F }, { "heads", s->H }, { "kv_heads", s->G }, { "head_dim", s->D },
        { "vocabulary", s->V }, { "tied", s->tied }, { "context_tok", s->context_tok } };
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        line(to, number[i].name, "", "%d", number[i].value);
}

/* Layers with a trait as "26 of 30"; how many. */
static int count(const struct kvt_shape *s, unsigned trait)
{
    int n = 0;
    for (int l = 0; l < s->L; l++)
        n += (s->layer[l] & trait) != 0;
    return n;
}

static void show_positions(const struct lines *to, const struct kvt_shape *s)
{
    static const char *const scaling[] = {
        [KVT_ROPE_PLAIN] = "", [KVT_ROPE_LINEAR] = "linear", [KVT_ROPE_DYNAMIC] = "dynamic", [KVT_ROPE_LLAMA3] = "llama3",
        [KVT_ROPE_YARN] = "yarn", [KVT_ROPE_FACTORS] = "factors", [KVT_ROPE_LONG] = "longrope" };
    const struct kvt_rope_spec *r = &s->rope[0];
    const char *how = scaling[r->scaling];
    int windows = count(s, KVT_LAYER_WINDOW), plain = count(s, KVT_LAYER_NOPE), local = count(s, KVT_LAYER_LOCAL_ROPE);
    if (to->t) {
        line(to, "rope_base", "", "%g", r->base);
        line(to, "rope_dims", "", "%d", s->rope_rot);
        line(to, "rope_scaling", "", "%s", *how ? how : "none");
        line(to, "rope_factor", "", "%g", r->factor);
        line(to, "window_tok", "", "%d", windows ? s->window : 0);
        line(to, "window_layers", "", "%d", windows);
        line(to, "norope_layers", "", "%d", plain);
        return;
    }
    char scaled[64] = "", second[64] = "";
    if (*how && r->factor > 1)
        snprintf(scaled, sizeof scaled, ", scaled %s by %g", how, r->factor);
    else if (*how)
        snprintf(scaled, sizeof scaled, ", scaled %s", how);
    if (local)
        snprintf(second, sizeof second, "; base %g in %d layers", s->rope[1].base, local);
    line(to, "", "rope", "base %g, %d of %d dimensions%s%s", r->base, s->rope_rot, s->D, scaled, second);
    if (windows)
        line(to, "", "window", "%d of %d layers see the last %d tokens", windows, s->L, s->window);
    if (plain)
        line(to, "", "no rope", "%d of %d layers", plain, s->L);
}

/* Keys and values of n tokens, whole, in one branch: pages of 16 slots in every cell. */
static uint64_t kv_bytes(const struct kvt_shape *s, enum kvt_dtype type, int n)
{
    uint64_t slots = ((uint64_t)n + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS * KVT_PAGE_SLOTS;
    return 2 * (uint64_t)s->L * (uint64_t)s->G * (uint64_t)s->D * slots * (uint64_t)kvt_dtypes[type].block_bytes;
}

static void show_memory(const struct lines *to, const struct kvt_model *m, int n)
{
    static const struct { enum kvt_dtype type; const char *name, *title; } kv[] = {
        { KVT_F32, "kv_f32_bytes", "KV, f32" }, { KVT_F16, "kv_f16_bytes", "KV, f16" }, { KVT_BF16, "kv_bf16_bytes", "KV, bf16" } };
    const struct kvt_shape *s = kvt_model_shape(m);
    char name[48], more[64];
    snprintf(more, sizeof more, " in %d file%s, mapped", kvt_model_files(m), kvt_model_files(m) == 1 ? "" : "s");
    bytes(to, "file_bytes", "weights", kvt_model_bytes(m), more);
    for (int i = 0; i < KVT_N_DTYPE; i++) {
        if (!kvt_model_type_bytes(m)[i])
            continue;
        snprintf(name, sizeof name, to->t ? "weights_%s_bytes" : "  %s", kvt_dtypes[i].name);
        bytes(to, name, name, kvt_model_type_bytes(m)[i], "");
    }
    if (to->t)
        line(to, "length_tok", "", "%d", n);
    for (size_t i = 0; i < sizeof kv / sizeof *kv; i++) {
        snprintf(more, sizeof more, " for %d tokens, nothing evicted", n);
        bytes(to, kv[i].name, kv[i].title, kv_bytes(s, kv[i].type, n), more);
    }
}

static void show_text(const struct lines *to, const struct kvt_model *m)
{
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(m);
    const struct kvt_shape *s = kvt_model_shape(m);
    struct kvt_chat_info chat;
    struct kvt_err why = {0};
    bool known = !kvt_chat_describe(&chat, tok, &why);
    line(to, "tokenizer", "tokenizer", "%s", kvt_tokenizer_kind(tok));
    if (to->t) {
        line(to, "chat", "", "%s", known ? chat.form : "");
        line(to, "chat_system", "", "%s", known ? chat.system : "");
        line(to, "chat_takes_system", "", "%d", known && chat.takes_system);
        line(to, "chat_thinking", "", "%s", !known ? "" : chat.can_switch ? "switch" : chat.thinks ? "always" : "none");
    } else if (known) {
        line(to, "", "chat form", "%s%s%s", chat.form, chat.can_switch ? ", thinking can be switched" : chat.thinks ? ", thinks first" : "",
             chat.takes_system ? "" : ", no system text");
        if (*chat.system)
            line(to, "", "system text", "%s", chat.system);
    }
    /* what a user would run into */
    if (!known)
        line(to, "cannot", "can't", "--chat: %s", why.text);
    else if (chat.needs_system)
        line(to, "cannot", "can't", "--chat without --system: the template's own text isn't known here");
    if (count(s, KVT_LAYER_WINDOW) == s->L)
        line(to, "cannot", "can't", "compress runs of more than %d tokens without --compress-windows: every layer has a window, and methods leave those alone",
             s->window);
    if (s->H > 64)
        line(to, "cannot", "can't", "--maps full: %d query heads, full maps are recorded for models of up to 64", s->H);
}

int kvinfo_model(const char *path, int length, enum kvt_format format, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "name", .kind = KVT_COL_TEXT}, {.name = "value", .kind = KVT_COL_TEXT}};
    struct lines to = {.t = format == KVT_FORMAT_TABLE ? NULL : kvt_table_new(col, 2)};
    struct kvt_model *m = NULL;
    int rc = kvt_model_open(&m, path, err);
    if (!rc && format != KVT_FORMAT_TABLE && !to.t)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory");
    if (!rc) {
        const struct kvt_shape *s = kvt_model_shape(m);
        int n = length ? length : s->context_tok;
        line(&to, "model", "model", "%s", path);
        show_sizes(&to, s, m);
        show_positions(&to, s);
        show_memory(&to, m, n);
        show_text(&to, m);
        if (n > s->context_tok)
            line(&to, "cannot", "can't", "run %d tokens: the model's context is %d", n, s->context_tok);
    }
    if (!rc && to.t)
        rc = kvt_table_write(to.t, stdout, format, err);
    kvt_table_free(&to.t);
    kvt_model_close(&m);
    return rc;
}
