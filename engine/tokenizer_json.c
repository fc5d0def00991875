/* The tokenizer of a Hugging Face folder. tokenizer.json says everything about ids; tokenizer_config.json and
 * generation_config.json say which token begins and which end a text, chat_template.jinja how a chat is written. What the
 * file asks for and we don't do is refused by its name. */
#include "engine/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/json.h"

enum { MOST_TOKENS = 1 << 24 };

struct reader {
    struct kvt_tokenizer *t;
    const struct kvt_folder *f;
    char *where;                /* path of tokenizer.json */
    cJSON *json, *config, *generation, *model_config;
    struct kvt_bytes *text;     /* (cap) by id; p NULL: no token has it */
    uint8_t *type, *word;       /* (cap) */
    int n, cap, entries;        /* entries: of vocabulary and added tokens together, so no id is as high */
    struct kvt_err *err;
};

static const cJSON *get(const cJSON *j, const char *name) { return cJSON_GetObjectItemCaseSensitive(j, name); }
static const char *text_of(const cJSON *j) { return cJSON_GetStringValue(j); }

static int no_memory(struct reader *r) { return kvt_fail(r->err, KVT_ENOMEM, "%s: no memory for the tokenizer", r->where); }

/* An id, or -1 where it isn't a whole number in range. */
static int32_t id_of(const cJSON *v)
{
    double d = cJSON_IsNumber(v) ? v->valuedouble : -1;
    return d >= 0 && d < MOST_TOKENS && floor(d) == d ? (int32_t)d : -1;
}

/* ---- the vocabulary ---- */

static int put_token(struct reader *r, int32_t id, const char *text, enum kvt_token_type type, bool word)
{
    if (id < 0)
        return kvt_fail(r->err, KVT_EFORMAT, "%s: the id of token '%.40s' is not a whole number below %d", r->where, text, MOST_TOKENS);
    if (id >= r->entries)
        return kvt_fail(r->err, KVT_EFORMAT, "%s: token '%.40s' has the id %d, but there are only %d tokens", r->where, text, id,
                        r->entries);
    if (id >= r->cap) {
        int cap = id < 4096 ? 8192 : 2 * id;
        struct kvt_bytes *t = realloc(r->text, (size_t)cap * sizeof *t);
        r->text = t ? t : r->text;
        uint8_t *ty = realloc(r->type, (size_t)cap);
        r->type = ty ? ty : r->type;
        uint8_t *w = realloc(r->word, (size_t)cap);
        r->word = w ? w : r->word;
        if (!t || !ty || !w)
            return no_memory(r);
        memset(r->text + r->cap, 0, (size_t)(cap - r->cap) * sizeof *t);
        memset(r->word + r->cap, 0, (size_t)(cap - r->cap));
        r->cap = cap;
    }
    struct kvt_bytes s = {text, strlen(text)}, *old = &r->text[id];
    if (old->p && (word || !kvt_bytes_equal(*old, text)))
        return kvt_fail(r->err, KVT_EFORMAT, "%s: tokens '%.*s' and '%.40s' have the same id %d", r->where, kvt_bytes_shown(*old),
                        old->p, text, id);
    *old = s;
    r->type[id] = (uint8_t)type;
    r->word[id] |= word;
    r->n = id >= r->n ? id + 1 : r->n;
    return 0;
}

static enum kvt_token_type type_of(const struct reader *r, const char *text)
{
    bool byte = r->t->byte_fallback && strlen(text) == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>';
    return byte ? KVT_TOKEN_BYTE : KVT_TOKEN_NORMAL;
}

static int read_added(struct reader *r)
{
    const cJSON *list = get(r->json, "added_tokens"), *each;
    int rc = 0;
    cJSON_ArrayForEach(each, list) {
        const char *text = text_of(get(each, "content"));
        if (!text)
            return kvt_fail(r->err, KVT_EFORMAT, "%s: an added token without content", r->where);
        rc = put_token(r, id_of(get(each, "id")), text, cJSON_IsTrue(get(each, "special")) ? KVT_TOKEN_CONTROL : KVT_TOKEN_USER, false);
        if (rc)
            return rc;
    }
    return 0;
}

/* After the normaliser is there: what is looked for in the text. */
static int index_added(struct reader *r)
{
    struct kvt_tokenizer *t = r->t;
    const cJSON *each;
    struct kvt_normed normed = {0};
    int rc = 0;
    cJSON_ArrayForEach(each, get(r->json, "added_tokens")) {
        const char *text = text_of(get(each, "content"));
        struct kvt_view v = {.p = text, .n = strlen(text)};
        unsigned flags = 0;
        flags |= cJSON_IsTrue(get(each, "lstrip")) ? KVT_ADDED_LSTRIP : 0u;
        flags |= cJSON_IsTrue(get(each, "rstrip")) ? KVT_ADDED_RSTRIP : 0u;
        flags |= cJSON_IsTrue(get(each, "single_word")) ? KVT_ADDED_SINGLE_WORD : 0u;
        flags |= cJSON_IsTrue(get(each, "special")) ? KVT_ADDED_SPECIAL : 0u;
        bool in_normed = cJSON_IsTrue(get(each, "normalized"));
        if (in_normed && t->norm) {
            if ((rc = kvt_normalise(t->norm, v, &normed, r->err)))
                break;
            v = kvt_normed_view(&normed);
        }
        rc = kvt_added_put(in_normed ? &t->added_normed : &t->added, v.p, v.n, id_of(get(each, "id")), flags, r->where, r->err);
        if (rc)
            break;
    }
    kvt_normed_free(&normed);
    kvt_added_seal(&t->added);
    kvt_added_seal(&t->added_normed);
    return rc;
}

static int fill(struct reader *r)
{
    for (int i = 0; i < r->n; i++)
        if (!r->text[i].p)
            return kvt_fail(r->err, KVT_EFORMAT, "%s: no token has the id %d, though there are higher ones", r->where, i);
    return kvt_tokenizer_fill(r->t, &(struct kvt_vocab){.n = r->n, .text = r->text, .type = r->type, .word = r->word, .unique = true},
                              r->where, r->err);
}

/* ---- models ---- */

static bool empty(const cJSON *v) { return !v || cJSON_IsNull(v) || (cJSON_IsString(v) && !*v->valuestring); }

static int read_merges(struct reader *r, const cJSON *list)
{
    const cJSON *each;
    int32_t rank = 0;
    if (!cJSON_IsArray(list))
        return kvt_fail(r->err, KVT_EFORMAT, "%s: a BPE model without merges", r->where);
    int rc = kvt_tokenizer_merges(r->t, (size_t)cJSON_GetArraySize(list), r->where, r->err);
    cJSON_ArrayForEach(each, list) {
        struct kvt_bytes left = {0}, right = {0};
        if (rc)
            return rc;
        if (cJSON_IsString(each)) {
            const char *s = each->valuestring, *gap = strchr(s, ' ');
            if (gap && !strchr(gap + 1, ' ')) {
                left = (struct kvt_bytes){s, (size_t)(gap - s)};
                right = (struct kvt_bytes){gap + 1, strlen(gap + 1)};
            }
        } else if (cJSON_IsArray(each) && cJSON_GetArraySize(each) == 2 && cJSON_IsString(each->child) &&
                   cJSON_IsString(each->child->next)) {
            left = (struct kvt_bytes){each->child->valuestring, strlen(each->child->valuestring)};
            right = (struct kvt_bytes){each->child->next->valuestring, strlen(each->child->next->valuestring)};
        }
        rc = kvt_tokenizer_put_merge(r->t, rank++, left, right, r->where, r->err);
    }
    return rc;
}

static int read_bpe(struct reader *r, const cJSON *model)
{
    static const char *const absent[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    struct kvt_tokenizer *t = r->t;
    const cJSON *vocab = get(model, "vocab"), *each, *dropout = get(model, "dropout"), *unknown = get(model, "unk_token");
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        if (!empty(get(model, absent[i])))
            return kvt_fail(r->err, KVT_EUNSUP, "%s: BPE with %s is not supported", r->where, absent[i]);
    if (cJSON_IsNumber(dropout) && dropout->valuedouble != 0)
        return kvt_fail(r->err, KVT_EUNSUP, "%s: BPE with dropout is not supported", r->where);
    if (!cJSON_IsObject(vocab))
        return kvt_fail(r->err, KVT_EFORMAT, "%s: a BPE model without a vocabulary", r->where);
    t->vocab = kvt_pretokenizer_bytes(t->pre) ? KVT_VOCAB_BYTES : KVT_VOCAB_CHARS;
    t->fuse_unknown = cJSON_IsTrue(get(model, "fuse_unk"));
    t->byte_fallback = cJSON_IsTrue(get(model, "byte_fallback")) && t->vocab == KVT_VOCAB_CHARS;
    t->whole_first = cJSON_IsTrue(get(model, "ignore_merges"));
    snprintf(t->kind, sizeof t->kind, t->vocab == KVT_VOCAB_BYTES ? "bpe-bytes" : "bpe-chars");
    int rc = 0;
    cJSON_ArrayForEach(each, vocab) {
        if ((rc = put_token(r, id_of(each), each->string, type_of(r, each->string), true)))
            return rc;
    }
    if (!(rc = read_added(r)) && !(rc = fill(r)))
        rc = read_merges(r, get(model, "merges"));
    if (rc || empty(unknown))
        return rc;
    for (int i = 0; i < r->n; i++)
        if (cJSON_IsString(unknown) && r->word[i] && kvt_bytes_equal(r->text[i], unknown->valuestring))
            t->unknown = i;
    return t->unknown >= 0 ? 0 : kvt_fail(r->err, KVT_EFORMAT, "%s: the unknown token is not in the vocabulary", r->where);
}

/* The score as the `tokenizers` library reads it: digits as a whole number, then one division by a power of ten, which can
 * be one bit off the nearest number. Where two paths' sums are equal but for rounding, that bit decides. */
static double as_read(double score)
{
    char s[40];
    for (int digits = 15; digits <= 17; digits++) { /* the shortest that is this number: what files hold */
        snprintf(s, sizeof s, "%.*e", digits - 1, score);
        if (strtod(s, NULL) == score)
            break;
    }
    char *e = strchr(s, 'e');
    if (!e || !isfinite(score))
        return score;
    long exponent = strtol(e + 1, NULL, 10);
    uint64_t whole = 0;
    int zeros = 0; /* at the end: not written in a file */
    bool point = false;
    for (const char *p = s; p < e; p++) {
        if (*p == '.')
            point = true;
        if (*p < '0' || *p > '9')
            continue;
        exponent -= point;
        zeros = *p == '0' ? zeros + 1 : 0;
        whole = 10 * whole + (uint64_t)(*p - '0');
    }
    for (; zeros > 0 && exponent < 0; zeros--, exponent++)
        whole /= 10;
    double v = (double)whole, power = 1;
    for (long i = labs(exponent); i > 0 && i < 23; i--)
        power *= 10; /* exact up to 10^22 */
    if (labs(exponent) > 22)
        return score;
    v = exponent < 0 ? v / power : v * power;
    return score < 0 ? -v : v;
}

static int read_unigram(struct reader *r, const cJSON *model)
{
    struct kvt_tokenizer *t = r->t;
    const cJSON *vocab = get(model, "vocab"), *each, *unknown = get(model, "unk_id");
    int rc = 0, n = 0;
    if (!cJSON_IsArray(vocab))
        return kvt_fail(r->err, KVT_EFORMAT, "%s: a Unigram model without a vocabulary", r->where);
    if (kvt_pretokenizer_bytes(t->pre))
        return kvt_fail(r->err, KVT_EUNSUP, "%s: a Unigram model over bytes is not supported", r->where);
    t->vocab = KVT_VOCAB_UNIGRAM;
    t->fuse_unknown = true;
    t->byte_fallback = cJSON_IsTrue(get(model, "byte_fallback"));
    snprintf(t->kind, sizeof t->kind, "unigram");
    cJSON_ArrayForEach(each, vocab) {
        if (!cJSON_IsArray(each) || !cJSON_IsString(each->child) || !cJSON_IsNumber(each->child->next))
            return kvt_fail(r->err, KVT_EFORMAT, "%s: entry %d of the vocabulary is not a text and its score", r->where, n);
        if ((rc = put_token(r, n < MOST_TOKENS ? n : -1, each->child->valuestring, type_of(r, each->child->valuestring), true)))
            return rc;
        n++;
    }
    int own = r->n;
    if (!empty(unknown) && ((t->unknown = id_of(unknown)) < 0 || t->unknown >= own))
        return kvt_fail(r->err, KVT_EFORMAT, "%s: the unknown token is not in the vocabulary", r->where);
    if ((rc = read_added(r)) || (rc = fill(r)))
        return rc;
    t->score = kvt_calloc((size_t)t->n, sizeof *t->score);
    if (!t->score)
        return no_memory(r);
    n = 0;
    cJSON_ArrayForEach(each, vocab)
        t->score[n++] = as_read(each->child->next->valuedouble);
    for (; n && n < t->n; n++)
        t->score[n] = t->score[0]; /* added tokens are no part of the model */
    rc = kvt_tokenizer_rank(t, r->where, r->err);
    return rc ? rc : kvt_unigram_build(t, r->where, r->err);
}

static int read_model(struct reader *r)
{
    const cJSON *model = get(r->json, "model");
    const char *type = text_of(get(model, "type"));
    if (!cJSON_IsObject(model))
        return kvt_fail(r->err, KVT_EFORMAT, "%s: no model", r->where);
    r->entries = cJSON_GetArraySize(get(model, "vocab")) + cJSON_GetArraySize(get(r->json, "added_tokens"));
    if (!type)
        type = get(model, "merges") ? "BPE" : "without a type";
    if (strcmp(type, "BPE") == 0)
        return read_bpe(r, model);
    if (strcmp(type, "Unigram") == 0)
        return read_unigram(r, model);
    return kvt_fail(r->err, KVT_EUNSUP, "%s: tokenizer model '%.32s' is not supported (BPE and Unigram are)", r->where, type);
}

/* Tokens are turned into text by the spelling of their vocabulary; a decoder that does something else is refused. */
static int check_decoder(struct reader *r, const cJSON *j)
{
    static const char *const known[] = {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "Sequence"};
    const char *type = text_of(get(j, "type"));
    const cJSON *each;
    bool fine = empty(j);
    for (size_t i = 0; type && i < sizeof known / sizeof *known; i++)
        fine |= strcmp(type, known[i]) == 0;
    if (!fine)
        return kvt_fail(r->err, KVT_EUNSUP, "%s: decoder '%.32s' is not supported", r->where, type ? type : "without a type");
    cJSON_ArrayForEach(each, get(j, "decoders")) {
        int rc = check_decoder(r, each);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- BOS, ends, chat ---- */

/* The token with this text, an added one first; -1. */
static int32_t find(const struct reader *r, const char *text)
{
    int32_t id = kvt_tokenizer_named(r->t, text);
    for (int i = 0; i < r->n && id < 0; i++)
        if (kvt_bytes_equal(r->text[i], text))
            id = i;
    return id;
}

/* "bos_token": "<s>" or {"content": "<s>"} */
static int32_t named(const struct reader *r, const char *key)
{
    const cJSON *v = get(r->config, key);
    const char *text = text_of(cJSON_IsObject(v) ? get(v, "content") : v);
    return text ? find(r, text) : -1;
}

/* What a post-processor puts in front: the one token that may be, or -1. */
static int read_post(struct reader *r, const cJSON *j, int32_t *bos)
{
    const char *type = text_of(get(j, "type"));
    const cJSON *each;
    int rc = 0;
    if (empty(j))
        return 0;
    if (type && strcmp(type, "Sequence") == 0) {
        cJSON_ArrayForEach(each, get(j, "processors")) {
            if ((rc = read_post(r, each, bos)))
                return rc;
        }
        return 0;
    }
    if (type && strcmp(type, "ByteLevel") == 0)
        return 0; /* changes offsets alone */
    if (type && (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)) {
        const cJSON *cls = get(j, "cls");
        *bos = cJSON_IsArray(cls) && cls->child ? id_of(cls->child->next) : -1;
        return 0;
    }
    if (!type || strcmp(type, "TemplateProcessing") != 0)
        return kvt_fail(r->err, KVT_EUNSUP, "%s: post-processor '%.32s' is not supported", r->where, type ? type : "without a type");
    int in_front = 0;
    cJSON_ArrayForEach(each, get(j, "single")) {
        const char *id = text_of(get(get(each, "SpecialToken"), "id"));
        if (get(each, "Sequence"))
            break;
        const cJSON *ids = get(get(get(j, "special_tokens"), id ? id : ""), "ids");
        if (++in_front > 1 || cJSON_GetArraySize(ids) != 1)
            return kvt_fail(r->err, KVT_EUNSUP, "%s: a post-processor that puts several tokens in front is not supported", r->where);
        *bos = id_of(ids->child);
    }
    return 0;
}

static void add_end(struct kvt_tokenizer *t, int32_t id)
{
    if (id < 0 || id >= t->n || t->n_ends == (int)(sizeof t->end / sizeof *t->end))
        return;
    t->end[t->n_ends++] = id;
}

static int read_ends(struct reader *r)
{
    struct kvt_tokenizer *t = r->t;
    const cJSON *source = r->generation && get(r->generation, "eos_token_id") ? r->generation : r->model_config, *each;
    const cJSON *ends = get(source, "eos_token_id"), *bos = get(source, "bos_token_id"), *flag = get(r->config, "add_bos_token");
    int32_t in_front = -1;
    int rc = read_post(r, get(r->json, "post_processor"), &in_front);
    if (rc)
        return rc;
    t->bos = named(r, "bos_token");
    t->eos = named(r, "eos_token");
    if (cJSON_IsArray(ends))
        cJSON_ArrayForEach(each, ends)
            add_end(t, id_of(each));
    else
        add_end(t, id_of(ends));
    if (t->eos < 0 && t->n_ends)
        t->eos = t->end[0];
    if (t->bos < 0)
        t->bos = id_of(bos);
    if (in_front >= 0)
        t->bos = in_front;
    t->add_bos = cJSON_IsBool(flag) ? cJSON_IsTrue(flag) : in_front >= 0;
    if (t->bos >= t->n)
        return kvt_fail(r->err, KVT_EFORMAT, "%s: the BOS token has the id %d, but there are %d tokens", r->where, t->bos, t->n);
    return 0;
}

static int read_chat(struct reader *r)
{
    struct kvt_tokenizer *t = r->t;
    const cJSON *v = get(r->config, "chat_template"), *each;
    const char *text = text_of(v);
    if (!cJSON_IsArray(v))
        v = NULL;
    cJSON_ArrayForEach(each, v) {
        const char *name = text_of(get(each, "name"));
        if (!text || (name && strcmp(name, "default") == 0))
            text = text_of(get(each, "template"));
    }
    struct kvt_map m = {0};
    size_t n = text ? strlen(text) : 0;
    if (kvt_folder_has(r->f, "chat_template.jinja")) { /* newer folders keep it apart */
        int rc = kvt_folder_map(&m, r->f, "chat_template.jinja", "chat template", r->err);
        if (rc)
            return rc;
        text = (const char *)m.base;
        n = m.bytes;
    }
    if (text && n) {
        t->own_template = malloc(n);
        if (t->own_template)
            memcpy(t->own_template, text, n);
        t->chat_template = (struct kvt_bytes){t->own_template, n};
    }
    bool fine = !text || !n || t->own_template;
    kvt_map_close(&m);
    return fine ? 0 : no_memory(r);
}

static int read_optional(struct reader *r, cJSON **out, const char *name)
{
    return kvt_folder_has(r->f, name) ? kvt_json_read(out, r->f, name, 64u << 20, r->err) : 0;
}

static int build(struct reader *r)
{
    struct kvt_tokenizer *t = r->t;
    t->bos = t->eos = t->eot = t->unknown = -1;
    t->drop_unknown = true;
    if (!kvt_folder_has(r->f, "tokenizer.json"))
        return kvt_fail(r->err, KVT_EINPUT, "%s: holds no tokenizer.json; save the tokenizer with transformers' save_pretrained "
                        "to get one", r->f->path);
    int rc = kvt_json_read(&r->json, r->f, "tokenizer.json", 256u << 20, r->err);
    if (rc || (rc = read_optional(r, &r->config, "tokenizer_config.json")) ||
        (rc = read_optional(r, &r->generation, "generation_config.json")) ||
        (rc = read_optional(r, &r->model_config, "config.json")) ||
        (rc = kvt_normaliser_open(&t->norm, get(r->json, "normalizer"), r->where, r->err)) ||
        (rc = kvt_pretokenizer_json(&t->pre, get(r->json, "pre_tokenizer"), r->where, r->err)) ||
        (rc = check_decoder(r, get(r->json, "decoder"))) || (rc = read_model(r)) || (rc = index_added(r)) || (rc = read_ends(r)))
        return rc;
    return read_chat(r);
}

int kvt_tokenizer_open_hf(struct kvt_tokenizer **out, const struct kvt_folder *f, struct kvt_err *err)
{
    *out = NULL;
    struct reader r = {.f = f, .err = err, .where = kvt_folder_join(f, "tokenizer.json")};
    r.t = kvt_calloc(1, sizeof *r.t);
    int rc = r.t && r.where ? build(&r) : kvt_fail(err, KVT_ENOMEM, "no memory for the tokenizer");
    cJSON_Delete(r.json);
    cJSON_Delete(r.config);
    cJSON_Delete(r.generation);
    cJSON_Delete(r.model_config);
    free(r.text);
    free(r.type);
    free(r.word);
    free(r.where);
    if (rc && r.t)
        kvt_tokenizer_close(&r.t);
    *out = r.t;
    return rc;
}
