/* Values of options: text to a field of the policy, and back. */
#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "kvt/prompt.h"
#include "methods/option.h"

#define AT(field) offsetof(struct kvt_policy, field)

/* A whole number of plain digits, at most max; false if it's anything else. */
static bool whole(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return false;
        unsigned d = (unsigned)(*text - '0');
        if (v > (max - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *out = v;
    return true;
}

static bool set_pool(struct kvt_policy *p, const char *v, bool *even)
{
    uint64_t width = 0;
    if (!strcmp(v, "none")) {
        p->pool = KVT_POOL_NONE;
        p->pool_width = 0;
        return true;
    }
    if ((strncmp(v, "max", 3) && strncmp(v, "avg", 3)) || !whole(v + 3, 9999, &width) || !width)
        return false;
    *even = width % 2 == 0;
    p->pool = v[0] == 'm' ? KVT_POOL_MAX : KVT_POOL_AVG;
    p->pool_width = (int)width;
    return !*even;
}

/* "0", "0.2", "20%", "1": millionths from 0 to 1. */
static bool set_ppm(const char *v, int *out)
{
    struct kvt_budget b;
    bool zero = *v && strspn(v, "0.%") == strlen(v) && strchr(v, '0');
    if (!zero && kvt_budget_parse(&b, v, false, NULL))
        return false;
    *out = zero ? 0 : (int)b.keep_ppm;
    return true;
}

/* Kinds of text by the name that `protect` gives them. */
static const struct {
    const char *name;
    enum kvt_span_kind kind;
} spans[] = {
    {"question", KVT_SPAN_PROMPT}, {"system", KVT_SPAN_SYSTEM}, {"questions", KVT_SPAN_QUESTION},
    {"rationales", KVT_SPAN_RATIONALE}, {"answers", KVT_SPAN_ANSWER}, {"numbers", KVT_SPAN_NUMBER},
    {"operators", KVT_SPAN_OPERATOR}, {"delimiters", KVT_SPAN_DELIMITER},
};
enum { N_SPANS = sizeof spans / sizeof *spans };

static bool set_span(struct kvt_policy *p, const char *name)
{
    for (int i = 0; i < N_SPANS; i++)
        if (!strcmp(spans[i].name, name)) {
            p->spans |= 1 << spans[i].kind;
            return true;
        }
    return false;
}

/* "sink4+recent32+window": what isn't named isn't protected. */
static bool set_protect(struct kvt_policy *p, const char *v)
{
    uint64_t u;
    p->sinks = p->recent = p->spans = 0;
    p->keep_window = false;
    if (!strcmp(v, "none"))
        return true;
    for (const char *next; v; v = next ? next + 1 : NULL) {
        char term[KVT_OPTION_TEXT];
        next = strchr(v, '+');
        snprintf(term, sizeof term, "%.*s", next ? (int)(next - v) : (int)strlen(v), v);
        if (!strcmp(term, "window"))
            p->keep_window = true;
        else if (!strcmp(term, "recenthalf"))
            p->recent = -1;
        else if (!strncmp(term, "sink", 4) && whole(term + 4, KVT_MOST_TOK, &u))
            p->sinks = (int)u;
        else if (!strncmp(term, "recent", 6) && whole(term + 6, KVT_MOST_TOK, &u))
            p->recent = (int)u;
        else if (!set_span(p, term))
            return false;
    }
    return true;
}

static void print_protect(const struct kvt_policy *p, char *out, size_t len)
{
    size_t n = 0;
    out[0] = 0;
    if (p->sinks)
        n += (size_t)snprintf(out + n, len - n, "+sink%d", p->sinks);
    if (p->recent < 0)
        n += (size_t)snprintf(out + n, len - n, "+recenthalf");
    else if (p->recent)
        n += (size_t)snprintf(out + n, len - n, "+recent%d", p->recent);
    if (p->keep_window)
        n += (size_t)snprintf(out + n, len - n, "+window");
    for (int i = 0; i < N_SPANS; i++)
        if (p->spans & 1 << spans[i].kind)
            n += (size_t)snprintf(out + n, len - n, "+%s", spans[i].name);
    if (n)
        memmove(out, out + 1, n);
    else
        snprintf(out, len, "none");
}

bool kvt_option_set(struct kvt_policy *p, const struct kvt_option *o, const char *v, bool *even)
{
    char *at = (char *)p + o->at;
    uint64_t u;
    switch (o->kind) {
    case KIND_HALF:
        if (!strcmp(v, "half")) {
            memcpy(at, &(int){-1}, sizeof(int));
            return true;
        } /* fall through */
    case KIND_WINDOW:
        if (o->kind == KIND_WINDOW && !strcmp(v, "question")) {
            memcpy(at, &(int){KVT_WINDOW_QUESTION}, sizeof(int));
            return true;
        } /* fall through */
    case KIND_INT:
        if (!whole(v, (uint64_t)o->max, &u) || u < (uint64_t)o->min)
            return false;
        memcpy(at, &(int){(int)u}, sizeof(int));
        return true;
    case KIND_SEED:
        if (!whole(v, UINT64_MAX, &u))
            return false;
        memcpy(at, &u, sizeof u);
        return true;
    case KIND_BOOL: {
        bool on = !strcmp(v, "1") || !strcmp(v, "yes") || !strcmp(v, "true") || !strcmp(v, "on");
        if (!on && strcmp(v, "0") && strcmp(v, "no") && strcmp(v, "false") && strcmp(v, "off"))
            return false;
        memcpy(at, &on, sizeof on);
        return true;
    }
    case KIND_CHOICE:
        for (int i = 0; i < KVT_MOST_CHOICES && o->choice[i].name; i++)
            if (!strcmp(v, o->choice[i].name)) {
                if (o->at == AT(visible_mean) || o->at == AT(group_first))
                    memcpy(at, &(bool){o->choice[i].value != 0}, sizeof(bool));
                else
                    memcpy(at, &o->choice[i].value, sizeof(int));
                return true;
            }
        return false;
    case KIND_POOL:
        return set_pool(p, v, even);
    case KIND_SHARE: {
        struct kvt_budget b;
        double share = -1;
        bool own = o->at == AT(decode_share);
        if (own)
            p->decode_share_set = strcmp(v, "none") != 0;
        if (strcmp(v, "same") && !(own && !strcmp(v, "none"))) {
            if (kvt_budget_parse(&b, v, false, NULL))
                return false;
            share = (double)b.keep_ppm / 1e6;
        }
        memcpy(at, &share, sizeof share);
        return true;
    }
    case KIND_PPM: {
        int ppm;
        if (!set_ppm(v, &ppm))
            return false;
        memcpy(at, &ppm, sizeof ppm);
        return true;
    }
    case KIND_PATH:
        if (strlen(v) >= sizeof p->path)
            return false;
        memcpy(p->path, v, strlen(v) + 1);
        return true;
    case KIND_PROTECT:
        return set_protect(p, v);
    }
    return false;
}

/* Millionths as a decimal that set_ppm reads: 0.00001, where %g would write 1e-05. */
static void print_ppm(int64_t ppm, char *out, size_t len)
{
    int n = snprintf(out, len, "%d.%06d", (int)(ppm / 1000000), (int)(ppm % 1000000));
    while (n > 0 && out[n - 1] == '0')
        out[--n] = 0;
    if (n > 0 && out[n - 1] == '.')
        out[n - 1] = 0;
}

void kvt_option_print(const struct kvt_policy *p, const struct kvt_option *o, char *out, size_t len)
{
    const char *at = (const char *)p + o->at;
    int i = 0;
    bool b = false;
    if (o->kind == KIND_BOOL || o->at == AT(visible_mean) || o->at == AT(group_first)) {
        memcpy(&b, at, sizeof b);
        i = b;
    } else if (o->kind == KIND_INT || o->kind == KIND_HALF || o->kind == KIND_WINDOW || o->kind == KIND_CHOICE || o->kind == KIND_PPM) {
        memcpy(&i, at, sizeof i);
    }
    switch (o->kind) {
    case KIND_BOOL:
    case KIND_INT:
        snprintf(out, len, "%d", i);
        break;
    case KIND_HALF:
    case KIND_WINDOW:
        if (i < 0)
            snprintf(out, len, o->kind == KIND_HALF ? "half" : "question");
        else
            snprintf(out, len, "%d", i);
        break;
    case KIND_SEED: {
        uint64_t u;
        memcpy(&u, at, sizeof u);
        snprintf(out, len, "%llu", (unsigned long long)u);
        break;
    }
    case KIND_CHOICE:
        for (int k = 0; k < KVT_MOST_CHOICES && o->choice[k].name; k++)
            if (o->choice[k].value == i)
                snprintf(out, len, "%s", o->choice[k].name);
        break;
    case KIND_POOL:
        if (p->pool == KVT_POOL_NONE)
            snprintf(out, len, "none");
        else
            snprintf(out, len, "%s%d", p->pool == KVT_POOL_MAX ? "max" : "avg", p->pool_width);
        break;
    case KIND_SHARE: {
        double share;
        memcpy(&share, at, sizeof share);
        if (o->at == AT(decode_share) && !p->decode_share_set)
            snprintf(out, len, "none");
        else if (share <= 0)
            snprintf(out, len, "same");
        else
            print_ppm(llround(share * 1e6), out, len);
        break;
    }
    case KIND_PPM:
        print_ppm(i, out, len);
        break;
    case KIND_PATH:
        snprintf(out, len, "%s", p->path);
        break;
    case KIND_PROTECT:
        print_protect(p, out, len);
        break;
    }
}
