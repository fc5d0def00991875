/* Tasks that are made, not read: a needle in a text, a value among pairs, a chain of variables, the commonest words (after RULER, arXiv
 * 2404.06654); made_shots.c has those of the embedded model. Everything follows from the seed; lengths are in the model's own tokens. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "compare/item.h"
#include "engine/textbuf.h"

#include <cjson/cJSON.h>

static const char *const words[] = {
    "river", "stone", "market", "winter", "garden", "letter", "mountain", "silver", "window", "teacher", "harbour", "candle", "bridge", "meadow", "station",
    "orange", "doctor", "forest", "engine", "castle", "pencil", "island", "thunder", "kitchen", "village", "mirror", "blanket", "captain", "feather", "lantern",
    "ladder", "basket", "desert", "violin", "summer", "planet", "button", "cotton", "dragon", "anchor", "saddle", "temple", "copper", "pillow", "rocket", "velvet",
    "walnut", "tunnel", "magnet", "hammer", "canvas", "pepper", "salmon", "falcon", "marble", "ribbon", "shadow", "timber", "valley", "wagon" };
static const char *const who[] = { "The old man", "A young clerk", "My neighbour", "The captain", "A tired farmer", "The doctor", "Her brother", "The singer", "A stranger", "The miller" };
static const char *const did[] = { "walked past the", "wrote about the", "remembered the", "painted a", "looked for the", "sold a", "dreamed of a", "repaired the", "spoke of the", "carried a" };
static const char *const when[] = { "before the rain came", "on a quiet morning", "while the others slept", "as if nothing had happened", "near the end of the year", "without a word", "for the second time",
                                    "and went home", "until the bells rang", "because nobody asked" };
enum { N_WORDS = sizeof words / sizeof *words };

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for a made question"); }

static int count(const struct kvt_tokenizer *tok, const char *text, int *n, struct kvt_err *err)
{
    struct kvt_tokens t = { 0 };
    int rc = kvt_tokenize(tok, text, strlen(text), 0, &t, err);
    *n = t.n;
    kvt_tokens_free(&t);
    return rc;
}

/* The i-th word of a deal without repeats; order (N_WORDS) begins as 0, 1, 2 ... */
static int deal(struct kvt_rng *r, int *order, int i)
{
    int swap = i + (int)kvt_rng_below(r, (uint32_t)(N_WORDS - i)), w = order[swap];
    order[swap] = order[i], order[i] = w;
    return w;
}

/* A paragraph of three sentences. */
static void paragraph(struct kvt_rng *r, char *out, size_t cap)
{
    size_t used = 0;
    for (int i = 0; i < 3; i++) {
        const char *w = words[kvt_rng_below(r, N_WORDS)], *v = words[kvt_rng_below(r, N_WORDS)];
        used += (size_t)snprintf(out + used, cap - used, "%s%s %s %s by the %s %s.", i ? " " : "", who[kvt_rng_below(r, 10)], did[kvt_rng_below(r, 10)], w, v, when[kvt_rng_below(r, 10)]);
    }
}

/* Units of text up to so many tokens: each is measured by itself, and what lies between two costs one more at most. */
struct pile { char **v; int *tok, n, room, total; };

static void free_pile(struct pile *p)
{
    for (int i = 0; i < p->n; i++)
        free(p->v[i]);
    free(p->v);
    free(p->tok);
}

static int pile_add(struct pile *p, const struct kvt_tokenizer *tok, const char *text, struct kvt_err *err)
{
    if (p->n == p->room) {
        int room = p->room ? 2 * p->room : 64;
        char **v = realloc(p->v, (size_t)room * sizeof *v);
        p->v = v ? v : p->v;
        int *t = v ? realloc(p->tok, (size_t)room * sizeof *t) : NULL;
        if (!t)
            return no_memory(err);
        p->tok = t;
        p->room = room;
    }
    int rc = count(tok, text, &p->tok[p->n], err);
    if (rc)
        return rc;
    if (!(p->v[p->n] = strdup(text)))
        return no_memory(err);
    p->total += p->tok[p->n++] + 1;
    return 0;
}

/* text goes between units, at the place nearest to depth percent of the tokens. */
static int place_of(const struct pile *p, int depth)
{
    long want = (long)p->total * depth, at = 0, best = 0, off = want;
    for (int i = 0; i <= p->n; i++) {
        long d = labs(100 * at - want);
        if (d < off || !i)
            off = d, best = i;
        at += i < p->n ? p->tok[i] + 1 : 0;
    }
    return (int)best;
}

static int seven_digits(struct kvt_rng *r) { return 1000000 + (int)kvt_rng_below(r, 9000000); }

int kvt_item_gold(struct kvt_item *item, const char *text, struct kvt_err *err)
{
    char **v = realloc(item->gold, (size_t)(item->n_gold + 1) * sizeof *v);
    if (!v)
        return no_memory(err);
    item->gold = v;
    if (!(v[item->n_gold] = strdup(text)))
        return no_memory(err);
    item->n_gold++;
    return 0;
}

static int ask(struct kvt_item *item, const char *question, struct kvt_err *err)
{
    cJSON *o = cJSON_CreateObject();
    char *line = o && cJSON_AddStringToObject(o, "question", question) ? cJSON_PrintUnformatted(o) : NULL;
    item->question = line ? strdup(line) : NULL;
    cJSON_free(line);
    cJSON_Delete(o);
    return item->question ? 0 : no_memory(err);
}

/* Filler in front of what is looked for, then joined. extra (n): texts and the units before which they go, ascending. */
static int join(struct kvt_item *item, const struct pile *p, char *const *extra, const int *before, int n, const char *sep, struct kvt_err *err)
{
    struct kvt_textbuf b = { 0 };
    for (int i = 0, e = 0; i <= p->n; i++) {
        for (; e < n && before[e] == i; e++) {
            kvt_textbuf_str(&b, b.n ? sep : "");
            kvt_textbuf_str(&b, extra[e]);
        }
        if (i < p->n) {
            kvt_textbuf_str(&b, b.n ? sep : "");
            kvt_textbuf_str(&b, p->v[i]);
        }
    }
    if (b.failed) {
        kvt_textbuf_free(&b);
        return no_memory(err);
    }
    item->context = b.p;
    return 0;
}

static int filler(struct pile *p, struct kvt_rng *r, const struct kvt_tokenizer *tok, int length, struct kvt_err *err)
{
    char text[1024];
    int rc = 0;
    while (!rc && (!p->n || p->total < length)) {
        paragraph(r, text, sizeof text);
        rc = pile_add(p, tok, text, err);
    }
    if (!rc && p->total > length && p->n > 1) { /* up to the length, not beyond it */
        p->total -= p->tok[--p->n] + 1;
        free(p->v[p->n]);
    }
    return rc;
}

/* `count` needles of different words; the first is asked for and lies at the depth, the others anywhere. */
static int needle(struct kvt_item *item, const struct kvt_task *t, struct kvt_rng *r, const struct kvt_tokenizer *tok, int length, int depth, struct kvt_err *err)
{
    enum { MOST = 32 };
    int k = t->count < MOST ? t->count : MOST, before[MOST], order[N_WORDS];
    char *line[MOST] = { 0 }, text[400], digits[16];
    struct pile p = { 0 };
    int rc = filler(&p, r, tok, length - 60 - 25 * (k - 1), err);
    for (int i = 0; i < N_WORDS; i++)
        order[i] = i;
    for (int i = 0; i < k && !rc; i++) {
        int w = deal(r, order, i);
        snprintf(digits, sizeof digits, "%d", seven_digits(r));
        snprintf(text, sizeof text, "The special magic number for %s is %s.", words[w], digits);
        int at = i ? (int)kvt_rng_below(r, (uint32_t)p.n + 1) : place_of(&p, depth), e = i;
        for (; e > 0 && before[e - 1] > at; e--)
            before[e] = before[e - 1], line[e] = line[e - 1];
        before[e] = at;
        if (!(line[e] = strdup(text)))
            rc = no_memory(err);
        if (!rc && !i) {
            rc = kvt_item_gold(item, digits, err);
            snprintf(text, sizeof text, "What is the special magic number for %s mentioned in the text? The special magic number for %s mentioned in the text is", words[w], words[w]);
            rc = rc ? rc : ask(item, text, err);
        }
    }
    if (!rc)
        rc = join(item, &p, line, before, k, "\n\n", err);
    for (int i = 0; i < k; i++)
        free(line[i]);
    free_pile(&p);
    return rc;
}

/* A JSON object of random pairs; one, at the depth, is asked for. */
static int keys(struct kvt_item *item, struct kvt_rng *r, const struct kvt_tokenizer *tok, int length, int depth, struct kvt_err *err)
{
    char text[200], value[16];
    struct pile p = { 0 };
    int rc = pile_add(&p, tok, "Extract the value of the given key from the JSON object below.\n\n{", err);
    while (!rc && p.total < length - 40) {
        snprintf(text, sizeof text, "\"%08x\": \"%08x\",", (unsigned)kvt_rng_u64(r), (unsigned)kvt_rng_u64(r));
        rc = pile_add(&p, tok, text, err);
    }
    int pairs = p.n - 1, at = pairs > 0 ? 1 + (int)((long)(pairs - 1) * depth / 100) : 0;
    if (!rc && pairs < 1)
        rc = kvt_fail(err, KVT_EINPUT, "a length of %d tokens leaves no room for a pair", length);
    if (!rc) {
        p.v[p.n - 1][strlen(p.v[p.n - 1]) - 1] = '}'; /* instead of the last comma */
        snprintf(value, sizeof value, "%.8s", p.v[at] + 13);
        rc = kvt_item_gold(item, value, err);
    }
    if (!rc) {
        snprintf(text, sizeof text, "Key: \"%.8s\"\nValue: \"", p.v[at] + 1);
        rc = ask(item, text, err);
    }
    if (!rc)
        rc = join(item, &p, NULL, NULL, 0, "\n", err);
    free_pile(&p);
    return rc;
}

/* A chain of assignments spread over the text: all its names hold the first one's number. */
static int variables(struct kvt_item *item, const struct kvt_task *t, struct kvt_rng *r, const struct kvt_tokenizer *tok, int length, struct kvt_err *err)
{
    enum { MOST = 32 };
    int k = t->count < MOST ? t->count : MOST, before[MOST], number = 10000 + (int)kvt_rng_below(r, 90000);
    char *line[MOST] = { 0 }, name[MOST][8], text[400];
    struct pile p = { 0 };
    int rc = filler(&p, r, tok, length - 60 - 12 * k, err);
    for (int i = 0; i < k && !rc; i++) {
        bool again = true;
        while (again) {
            for (int c = 0; c < 5; c++)
                name[i][c] = (char)('A' + kvt_rng_below(r, 26));
            name[i][5] = 0;
            again = false;
            for (int j = 0; j < i; j++)
                again |= !strcmp(name[j], name[i]);
        }
        before[i] = (int)kvt_rng_below(r, (uint32_t)p.n + 1);
        for (int e = i; e > 0 && before[e - 1] > before[e]; e--) { /* places ascend; the chain follows them */
            int b = before[e];
            before[e] = before[e - 1], before[e - 1] = b;
        }
    }
    for (int i = 0; i < k && !rc; i++) {
        if (i)
            snprintf(text, sizeof text, "VAR %s = VAR %s.", name[i], name[i - 1]);
        else
            snprintf(text, sizeof text, "VAR %s = %d.", name[i], number);
        line[i] = strdup(text);
        rc = line[i] ? kvt_item_gold(item, name[i], err) : no_memory(err);
    }
    snprintf(text, sizeof text, "Find all variables that are assigned the value %d in the text above. Answer: according to the chain of assignments, the variables that are assigned the value %d are:", number, number);
    if (!rc)
        rc = ask(item, text, err);
    if (!rc)
        rc = join(item, &p, line, before, k, "\n\n", err);
    for (int i = 0; i < k; i++)
        free(line[i]);
    free_pile(&p);
    return rc;
}

/* A numbered list in which `count` words stand three times as often as the others. */
static int common_words(struct kvt_item *item, const struct kvt_task *t, struct kvt_rng *r, const struct kvt_tokenizer *tok, int length, struct kvt_err *err)
{
    int k = t->count < N_WORDS / 2 ? t->count : N_WORDS / 2, order[N_WORDS], bag[8 * N_WORDS], n = 0, left = 0, rc = 0;
    char text[300];
    struct pile p = { 0 };
    for (int i = 0; i < N_WORDS; i++)
        order[i] = i;
    for (int i = 0; i < k && !rc; i++)
        rc = kvt_item_gold(item, words[deal(r, order, i)], err);
    while (!rc && p.total < length - 40) {
        if (!left) { /* a bag: the common ones three times, the others once */
            for (int i = 0; i < N_WORDS; i++)
                for (int c = 0; c < (i < k ? 3 : 1); c++)
                    bag[left++] = order[i];
            for (int i = left - 1; i > 0; i--) {
                int j = (int)kvt_rng_below(r, (uint32_t)i + 1), b = bag[i];
                bag[i] = bag[j], bag[j] = b;
            }
        }
        snprintf(text, sizeof text, "%d. %s", ++n, words[bag[--left]]);
        rc = pile_add(&p, tok, text, err);
    }
    snprintf(text, sizeof text, "Question: What are the %d most common words in the above list? Answer: The %d words that appear most often are:", k, k);
    if (!rc)
        rc = ask(item, text, err);
    if (!rc)
        rc = join(item, &p, NULL, NULL, 0, " ", err);
    free_pile(&p);
    return rc;
}

/* Those of made_shots.c: as many questions as the task has seeds. */
static int make_shots(struct kvt_items *out, const struct kvt_task *t, const struct kvt_items_opts *o, struct kvt_err *err)
{
    int n = o->n_shots >= 0 ? o->n_shots : t->n_shots, seeds = o->limit && o->limit < t->seeds ? o->limit : t->seeds, rc = 0;
    for (int s = 0; s < seeds && !rc; s++) {
        struct kvt_rng r;
        struct kvt_item *item = kvt_items_add(out);
        if (!item)
            return no_memory(err);
        kvt_rng_seed(&r, o->seed * 1000003u + (uint64_t)s * 7919u + (uint64_t)n * 101u + (uint64_t)t->made);
        snprintf(item->id, sizeof item->id, "%.30s/%d/%d", t->name, n, s);
        rc = kvt_item_make_shots(item, t, &r, n, err);
    }
    return rc;
}

int kvt_items_make(struct kvt_items *out, const struct kvt_task *t, const struct kvt_items_opts *o, const struct kvt_tokenizer *tok, struct kvt_err *err)
{
    static const int middle = 50;
    bool deep = t->made == KVT_MADE_NEEDLE || t->made == KVT_MADE_KEYS;
    const int *depths = t->depths.n && deep ? t->depths.v : &middle;
    int n_depths = t->depths.n && deep ? t->depths.n : 1, rc = 0, seeds = o->limit && o->limit < t->seeds ? o->limit : t->seeds;
    if (KVT_MADE_IS_SHOTS(t->made))
        return make_shots(out, t, o, err);
    for (int l = 0; l < t->lengths.n; l++)
        for (int d = 0; d < n_depths; d++)
            for (int s = 0; s < seeds && !rc; s++) {
                struct kvt_rng r;
                int length = t->lengths.v[l], depth = depths[d];
                struct kvt_item *item = kvt_items_add(out);
                if (!item)
                    return no_memory(err);
                /* a seed names a prompt, whatever else is asked beside it */
                kvt_rng_seed(&r, o->seed * 1000003u + (uint64_t)s * 7919u + (uint64_t)length * 101u + (uint64_t)depth);
                int at = snprintf(item->group, sizeof item->group, "%d tokens", length);
                if (deep)
                    snprintf(item->group + at, sizeof item->group - (size_t)at, ", %d%%", depth);
                snprintf(item->id, sizeof item->id, "%.30s/%d/%d/%d", t->name, length, depth, s);
                rc = t->made == KVT_MADE_NEEDLE ? needle(item, t, &r, tok, length, depth, err) : t->made == KVT_MADE_KEYS ? keys(item, &r, tok, length, depth, err)
                   : t->made == KVT_MADE_VARIABLES ? variables(item, t, &r, tok, length, err) : common_words(item, t, &r, tok, length, err);
            }
    return rc;
}
