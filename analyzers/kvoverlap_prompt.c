/* kvoverlap's view of the prompt: which tokens the methods keep, one by one and in sets. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "analyzers/kvoverlap.h"
#include "analyzers/tokenview.h"
#include "base/mem.h"

enum { MAX_VIEWED = 24 };

struct viewed {
    int n, branch[MAX_VIEWED];
    const char *name[MAX_VIEWED];
    char letter[MAX_VIEWED];
    double *share;             /* (n, n_context) share of cells that hold the token */
    uint8_t *keeps;            /* (n, n_context) more than half of them do */
};

static int view_of(struct kvoverlap *r, const struct kvt_held *held, struct viewed *v, struct kvt_err *err)
{
    int *pick = kvt_calloc((size_t)r->n_branches + 1, sizeof *pick), count = r->n_branches;
    size_t n = (size_t)r->info->n_context;
    *v = (struct viewed){0};
    if (!pick)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", count);
    memcpy(pick, r->branch, (size_t)count * sizeof *pick);
    int rc = r->o.branches && !r->o.keep ? 0 : kvt_pick_budget(r->info, r->o.keep, pick, &count, err);
    v->n = count < MAX_VIEWED ? count : MAX_VIEWED;
    v->share = kvt_calloc((size_t)v->n * n, sizeof *v->share);
    v->keeps = kvt_calloc((size_t)v->n * n, 1);
    if (!rc && (!v->share || !v->keeps))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory to show %d methods", v->n);
    for (int i = 0; !rc && i < v->n; i++) {
        double *share = v->share + (size_t)i * n;
        kvt_held_share(&held[pick[i]], share);
        for (size_t j = 0; j < n; j++)
            v->keeps[(size_t)i * n + j] = share[j] > 0.5;
        v->branch[i] = pick[i];
        v->name[i] = kvt_short_name(r->info, pick, v->n, i);
    }
    kvt_tokenview_letters(v->name, v->n, v->letter);
    free(pick);
    return rc;
}

static int token_table(const struct kvoverlap *r, const struct viewed *v, struct kvt_err *err)
{
    struct kvt_col col[6 + MAX_VIEWED] = {
        {.name = "position", .kind = KVT_COL_INT}, {.name = "id", .kind = KVT_COL_INT},
        {.name = "text", .kind = KVT_COL_TEXT}, {.name = "span", .kind = KVT_COL_TEXT},
        {.name = "methods", .kind = KVT_COL_INT}, {.name = "kept_by", .kind = KVT_COL_TEXT},
    };
    for (int i = 0; i < v->n; i++)
        col[6 + i] = (struct kvt_col){.name = v->name[i], .kind = KVT_COL_SHARE};
    struct kvt_table *t = kvt_table_new(col, 6 + v->n);
    const struct kvt_trace_info *info = r->info;
    for (int j = 0; j < info->n_context; j++) {
        const char *span = NULL;
        for (int s = 0; s < info->n_spans; s++)
            if (info->span[s].start <= j && j < info->span[s].end && kvt_is_section(&info->span[s]))
                span = info->span[s].name;
        char who[MAX_VIEWED + 1] = "";
        int count = 0;
        for (int i = 0; i < v->n; i++)
            if (v->keeps[(size_t)i * (size_t)info->n_context + (size_t)j])
                who[count++] = v->letter[i];
        kvt_put_int(t, j);
        kvt_put_int(t, info->token_id[j]);
        kvt_put_text(t, info->token_text[j]);
        kvt_put_text(t, span);
        kvt_put_int(t, count);
        kvt_put_text(t, who);
        for (int i = 0; i < v->n; i++)
            kvt_put_real(t, v->share[(size_t)i * (size_t)info->n_context + (size_t)j]);
    }
    return kvoverlap_write(r, 0, &t, err);
}

static int terminal_width(int asked)
{
    struct winsize w;
    if (asked > 0)
        return asked;
    if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col >= 40)
        return w.ws_col < 120 ? w.ws_col : 120;
    return 80;
}

int kvoverlap_show_prompt(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err)
{
    struct viewed v;
    int rc = view_of(r, held, &v, err);
    if (!rc && r->o.format != KVT_FORMAT_TABLE) {
        rc = token_table(r, &v, err);
    } else if (!rc) {
        char buf[32];
        printf("The prompt at %s%s: a method keeps a token that more than half of its %d x %d cells hold.\n",
               r->o.branches && !r->o.keep ? "the budgets named" : kvt_budget_text(&r->info->branch[v.branch[0]], buf, sizeof buf),
               r->o.at ? ", later in decoding" : "", r->n_layers, r->info->G);
        struct kvt_tokenview view = {
            .info = r->info, .n_methods = v.n, .name = v.name, .letter = v.letter, .keeps = v.keeps,
            .colour = kvt_colour_choose(isatty(STDOUT_FILENO), getenv("NO_COLOR"), getenv("TERM")),
            .width = terminal_width(r->o.width), .tracks = r->o.letters,
        };
        rc = kvt_tokenview_print(&view, stdout, err);
        if (!rc && (fflush(stdout) || ferror(stdout)))
            rc = kvt_fail(err, KVT_EIO, "output: writing failed");
    }
    free(v.share);
    free(v.keeps);
    return rc;
}


/* ---- sets ---- */

static void put_set(struct kvt_table *t, const char *who, int64_t slots, int64_t all)
{
    kvt_put_text(t, who);
    kvt_put_int(t, slots);
    kvt_put_real(t, all ? (double)slots / (double)all : NAN);
}

int kvoverlap_sets(struct kvoverlap *r, const struct kvt_held *held, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "set", .kind = KVT_COL_TEXT}, {.name = "slots", .kind = KVT_COL_INT}, {.name = "share", .kind = KVT_COL_SHARE},
    };
    const struct kvt_held *h = &held[r->branch[0]];
    size_t all = (size_t)h->L * (size_t)h->G * (size_t)h->n;
    int64_t *only = kvt_calloc((size_t)r->n_branches, sizeof *only), by_all = 0, by_none = 0, in = 0;
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = only ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", r->n_branches);
    for (size_t i = 0; !rc && i < all; i++) {
        int count = 0, last = 0, guarded = 0;
        for (int k = 0; k < r->n_branches; k++) {
            const struct kvt_held *one = &held[r->branch[k]];
            guarded |= one->guarded[i];
            if (one->kept[i])
                count++, last = k;
        }
        if (guarded)
            continue;
        in++;
        by_all += count == r->n_branches;
        by_none += !count;
        if (count == 1)
            only[last]++;
    }
    put_set(t, "kept by all", by_all, in);
    put_set(t, "kept by none", by_none, in);
    for (int k = 0; !rc && k < r->n_branches; k++) {
        char who[160];
        snprintf(who, sizeof who, "only %s", kvoverlap_name(r, r->branch[k]));
        put_set(t, who, only[k], in);
    }
    free(only);
    return kvoverlap_write(r, rc, &t, err);
}
