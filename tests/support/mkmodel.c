/* A GGUF writer just large enough for tests. Quantised blocks get random quants under a scale that gives the weights
 * the spread of a trained matrix, so no quantiser is needed. */
#include "mkmodel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/rng.h"

#define MAX_VOCAB 4096
#define MAX_WORDS 4095 /* bytes of text to learn from */

/* ---- a growing buffer; after a failed allocation it stays empty and `failed` ---- */

struct buf {
    unsigned char *p;
    size_t n, cap;
    bool failed;
    uint64_t n_keys;
};

static unsigned char *room(struct buf *b, size_t n)
{
    if (!b->failed && b->cap - b->n < n) {
        size_t cap = 2 * b->cap + n + 4096;
        unsigned char *p = realloc(b->p, cap);
        if (p) {
            b->p = p;
            b->cap = cap;
        } else {
            b->failed = true;
        }
    }
    if (b->failed)
        return NULL;
    b->n += n;
    return b->p + b->n - n;
}

static void put(struct buf *b, const void *src, size_t n)
{
    unsigned char *p = room(b, n);
    if (p && n)
        memcpy(p, src, n);
}

static void put32(struct buf *b, uint32_t v) { put(b, &v, 4); }
static void put64(struct buf *b, uint64_t v) { put(b, &v, 8); }

static void put_str(struct buf *b, const char *s, size_t n)
{
    put64(b, n);
    put(b, s, n);
}

static void put_key(struct buf *b, const char *prefix, const char *key, uint32_t type)
{
    char full[96];
    int n = snprintf(full, sizeof full, "%s%s", prefix, key);
    put_str(b, full, (size_t)n);
    put32(b, type);
    b->n_keys++;
}

static void key_u32(struct buf *b, const char *prefix, const char *key, uint32_t v)
{
    put_key(b, prefix, key, 4);
    put32(b, v);
}

static void key_f32(struct buf *b, const char *prefix, const char *key, float v)
{
    put_key(b, prefix, key, 6);
    put(b, &v, 4);
}

static void key_str(struct buf *b, const char *prefix, const char *key, const char *v)
{
    put_key(b, prefix, key, 8);
    put_str(b, v, strlen(v));
}

static void key_bool(struct buf *b, const char *prefix, const char *key, bool v)
{
    put_key(b, prefix, key, 7);
    put(b, &(unsigned char){v}, 1);
}

/* ---- random numbers ---- */

/* Mean 0, deviation 1, exactly the same on every machine: a sum of four uniform numbers. */
static float gauss(struct kvt_rng *r)
{
    double sum = -2;
    for (int i = 0; i < 4; i++)
        sum += kvt_rng_unit(r);
    return (float)(sum * 1.7320508075688772);
}

static uint64_t name_seed(uint64_t seed, const char *name) /* a tensor doesn't depend on the order of the others */
{
    uint64_t h = seed ^ 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

/* ---- vocabulary ---- */

struct vocab {
    int n;
    uint8_t len[MAX_VOCAB];
    char text[MAX_VOCAB][40];   /* bytes of the token; special ones spell themselves */
    int n_marks;                /* the last tokens */
    int n_merges;
    int left[MAX_VOCAB], right[MAX_VOCAB];
};

static const char paragraph[] =
    "Question: There are 15 trees in the grove. The workers will plant trees in the grove today. After they are done, there "
    "will be 21 trees. How many trees did the workers plant today?\nAnswer: We start with 15 trees. Later we have 21 trees. "
    "The difference must be the number of trees they planted. So, they must have planted 21 - 15 = 6 trees.\n#### 6\n\n"
    "Question: If there are 3 cars in the parking lot and 2 more cars arrive, how many cars are in the parking lot?\nAnswer: "
    "There are 3 cars in the parking lot already. 2 more arrive. Now there are 3 + 2 = 5 cars.\n#### 5\n\nQuestion: Leah had "
    "32 chocolates and her sister had 42. If they ate 35, how many pieces do they have left in total?\nAnswer: Leah had 32 "
    "chocolates and her sister had 42. That means there were originally 32 + 42 = 74 chocolates. 35 have been eaten. So in "
    "total they still have 74 - 35 = 39 chocolates.\n#### 39\n\nQuestion: Michael had 58 golf balls. On tuesday, he lost 23 "
    "golf balls. On wednesday, he lost 2 more. How many golf balls did he have at the end of wednesday?\n";

static bool is_letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

static bool has_token(const struct vocab *v, int a, int b) /* one with the bytes of a and b */
{
    for (int t = 0; t < v->n; t++)
        if (v->len[t] == v->len[a] + v->len[b] && memcmp(v->text[t], v->text[a], v->len[a]) == 0 &&
            memcmp(v->text[t] + v->len[a], v->text[b], v->len[b]) == 0)
            return true;
    return false;
}

/* Learns merges by counting: the commonest pair of neighbours inside words becomes a token, again and again. */
static void learn(struct vocab *v, int n_merges, const char *text)
{
    int id[MAX_WORDS], word[MAX_WORDS], n = 0;
    for (int w = 0; text[n] && n < MAX_WORDS; n++) {
        w += !(is_letter(text[n]) && n && (is_letter(text[n - 1]) || text[n - 1] == ' ')); /* letters, one space in front */
        id[n] = 3 + (unsigned char)text[n];
        word[n] = w;
    }
    while (v->n_merges < n_merges && v->n < MAX_VOCAB) {
        int best = 0, best_i = -1;
        for (int i = 0; i + 1 < n; i++) {
            int count = 0;
            if (word[i] != word[i + 1] || v->len[id[i]] + v->len[id[i + 1]] > 23)
                continue;
            for (int j = i; j + 1 < n; j++)
                count += word[j] == word[j + 1] && id[j] == id[i] && id[j + 1] == id[i + 1];
            if (count > best && !has_token(v, id[i], id[i + 1])) {
                best = count;
                best_i = i;
            }
        }
        if (best_i < 0)
            break; /* every word is one token */
        int a = id[best_i], b = id[best_i + 1], t = v->n++;
        memcpy(v->text[t], v->text[a], v->len[a]);
        memcpy(v->text[t] + v->len[a], v->text[b], v->len[b]);
        v->len[t] = (uint8_t)(v->len[a] + v->len[b]);
        v->left[v->n_merges] = a;
        v->right[v->n_merges++] = b;
        int k = 0;
        for (int i = 0; i < n; i++, k++) {
            bool join = i + 1 < n && word[i] == word[i + 1] && id[i] == a && id[i + 1] == b;
            word[k] = word[i];
            id[k] = join ? t : id[i];
            i += join;
        }
        n = k;
    }
}

static void make_vocab(struct vocab *v, const struct kvt_mkmodel_opts *o)
{
    static const char *const special[3] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    for (; v->n < 3; v->n++) {
        v->len[v->n] = (uint8_t)strlen(special[v->n]);
        memcpy(v->text[v->n], special[v->n], v->len[v->n]);
    }
    for (int b = 0; b < 256; b++, v->n++) {
        v->len[v->n] = 1;
        v->text[v->n][0] = (char)b;
    }
    learn(v, o->n_merges, o->words ? o->words : paragraph);
    for (; o->marks && o->marks[v->n_marks] && v->n < MAX_VOCAB; v->n++, v->n_marks++) {
        size_t n = strlen(o->marks[v->n_marks]);
        v->len[v->n] = (uint8_t)(n < 39 ? n : 39);
        memcpy(v->text[v->n], o->marks[v->n_marks], v->len[v->n]);
    }
}

/* Bytes in GPT-2's alphabet. */
static size_t spell(const char *s, size_t n, char *out)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        int b = (unsigned char)s[i], c = b;
        if (b <= 0x20)
            c = 0x100 + b;
        else if (b >= 0x7f && b <= 0xa0)
            c = 0x121 + b - 0x7f;
        else if (b == 0xad)
            c = 0x143;
        if (c < 0x80) {
            out[k++] = (char)c;
        } else {
            out[k++] = (char)(0xc0 | c >> 6);
            out[k++] = (char)(0x80 | (c & 63));
        }
    }
    return k;
}

static void put_vocab(struct buf *b, const struct vocab *v, const struct kvt_mkmodel_opts *o)
{
    static const char t[] = "tokenizer.ggml.";
    char s[128];
    key_str(b, t, "model", "gpt2");
    key_str(b, t, "pre", o->pre ? o->pre : "smollm");
    put_key(b, t, "tokens", 9);
    put32(b, 8);
    put64(b, (uint64_t)v->n);
    for (int i = 0; i < v->n; i++) {
        size_t n = v->len[i];
        if (i < 3 || i >= v->n - v->n_marks)
            memcpy(s, v->text[i], n);
        else
            n = spell(v->text[i], n, s);
        put_str(b, s, n);
    }
    put_key(b, t, "token_type", 9);
    put32(b, 5);
    put64(b, (uint64_t)v->n);
    for (int i = 0; i < v->n; i++)
        put32(b, i < 3 || i >= v->n - v->n_marks ? 3 : 1);
    put_key(b, t, "merges", 9);
    put32(b, 8);
    put64(b, (uint64_t)v->n_merges);
    for (int i = 0; i < v->n_merges; i++) {
        size_t n = spell(v->text[v->left[i]], v->len[v->left[i]], s);
        s[n++] = ' ';
        n += spell(v->text[v->right[i]], v->len[v->right[i]], s + n);
        put_str(b, s, n);
    }
    key_u32(b, t, "bos_token_id", (uint32_t)(v->n_marks ? v->n - v->n_marks : 1));
    key_u32(b, t, "eos_token_id", 2);
    key_bool(b, t, "add_bos_token", o->add_bos);
    key_str(b, "tokenizer.", "chat_template", o->chat_template ? o->chat_template :
            "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
}

/* ---- tensors ---- */

struct file {
    const struct kvt_mkmodel_opts *o;
    struct buf info, data;
    int n_tensors;
    bool bad_block;
};

static uint32_t ggml_type(enum kvt_dtype t)
{
    static const uint8_t number[KVT_N_DTYPE] = {
        [KVT_F32] = 0, [KVT_F16] = 1, [KVT_BF16] = 30, [KVT_Q4_0] = 2, [KVT_Q4_1] = 3, [KVT_Q5_0] = 6, [KVT_Q5_1] = 7,
        [KVT_Q8_0] = 8, [KVT_Q4_K] = 12, [KVT_Q5_K] = 13, [KVT_Q6_K] = 14, [KVT_Q2_K] = 10, [KVT_Q3_K] = 11,
        [KVT_IQ4_NL] = 20, [KVT_IQ4_XS] = 23, [KVT_MXFP4] = 39,
    };
    return number[t];
}

static void put_f16(unsigned char *p, double v)
{
    uint16_t h = kvt_f16_from_f32((float)v);
    memcpy(p, &h, 2);
}

/* One block of a type with random quants; the scales make the deviation of its values about s. */
static void fill_block(unsigned char *p, enum kvt_dtype t, double s, struct kvt_rng *rng)
{
    for (int i = 0; i < kvt_dtypes[t].block_bytes; i++)
        p[i] = (unsigned char)kvt_rng_u64(rng);
    s *= 0.75 + 0.5 * kvt_rng_unit(rng); /* blocks differ */
    switch (t) {
    case KVT_Q8_0: put_f16(p, s / 74); break;               /* 74: deviation of a uniform int8; likewise below */
    case KVT_Q4_0: put_f16(p, s / 4.6); break;
    case KVT_Q5_0: put_f16(p, s / 9.2); break;
    case KVT_Q4_1: put_f16(p, s / 4.6); put_f16(p + 2, -7.5 * s / 4.6); break;
    case KVT_Q5_1: put_f16(p, s / 9.2); put_f16(p + 2, -15.5 * s / 9.2); break;
    case KVT_Q4_K: put_f16(p, s / 260); put_f16(p + 2, 7.5 * s / 260); break;
    case KVT_Q5_K: put_f16(p, s / 530); put_f16(p + 2, 15.5 * s / 530); break;
    case KVT_Q6_K: put_f16(p + 208, s / 1330); break;
    case KVT_Q2_K: put_f16(p + 80, s / 13.9); put_f16(p + 82, 1.5 * s / 13.9); break;
    case KVT_Q3_K: put_f16(p + 108, s / 43); break;
    case KVT_IQ4_NL: put_f16(p, s / 67); break;
    case KVT_IQ4_XS: put_f16(p, s / 1250); break;
    case KVT_MXFP4: p[0] = (unsigned char)(128 + lround(log2(s / 5.9))); break;
    default: break;
    }
}

/* n rows of k values with mean `mean` and deviation `dev`. */
static void tensor(struct file *f, const char *name, enum kvt_dtype t, int n, int k, double mean, double dev)
{
    const struct kvt_dtype_info *d = &kvt_dtypes[t];
    if (k % d->block_values) {
        f->bad_block = true;
        return;
    }
    while (f->data.n % 32)
        put(&f->data, "", 1);
    put_str(&f->info, name, strlen(name));
    put32(&f->info, n > 0 ? 2 : 1);
    put64(&f->info, (uint64_t)k);
    if (n > 0)
        put64(&f->info, (uint64_t)n);
    put32(&f->info, ggml_type(t));
    put64(&f->info, f->data.n);
    f->n_tensors++;
    struct kvt_rng rng;
    kvt_rng_seed(&rng, name_seed(f->o->seed, name));
    size_t blocks = (size_t)(n > 0 ? n : 1) * (size_t)(k / d->block_values);
    unsigned char *p = room(&f->data, blocks * (size_t)d->block_bytes);
    if (f->o->fill && t == KVT_F32 && p) {
        float *by_hand = calloc(blocks, sizeof *by_hand);
        f->data.failed |= !by_hand;
        if (by_hand) {
            f->o->fill(name, n, k, by_hand);
            memcpy(p, by_hand, blocks * sizeof *by_hand);
        }
        free(by_hand);
        return;
    }
    for (size_t i = 0; p && i < blocks; i++, p += d->block_bytes) {
        float v = t <= KVT_BF16 ? (float)(mean + dev * (double)gauss(&rng)) : 0;
        uint16_t h = t == KVT_F16 ? kvt_f16_from_f32(v) : kvt_bf16_from_f32(v);
        if (t == KVT_F32)
            memcpy(p, &v, 4);
        else if (t == KVT_F16 || t == KVT_BF16)
            memcpy(p, &h, 2);
        else
            fill_block(p, t, dev, &rng);
    }
}

static void put_tensors(struct file *f, const struct kvt_mkmodel_opts *o, int n_vocab)
{
    enum kvt_dtype w = o->type, v = o->norm_type;
    enum kvt_dtype embed = o->embed_f32 || w == KVT_F32 ? KVT_F32 : w <= KVT_BF16 ? w : KVT_Q8_0;
    double e = 1 / sqrt(o->E), a = 1 / sqrt(o->H * o->D), ff = 1 / sqrt(o->F);
    char name[64];
    /* the output is the embedding where tied: 1.5/sqrt(E) gives logits with a deviation of about 1.5 */
    tensor(f, "token_embd.weight", embed, n_vocab, o->E, 0, 1.5 * e);
    for (int l = 0; l < o->L; l++) {
#define NAME(s) (snprintf(name, sizeof name, "blk.%d." s, l), name)
        tensor(f, NAME("attn_norm.weight"), v, 0, o->E, 1, 0.1);
        /* sharper than training starts: attention must have something to show */
        tensor(f, NAME("attn_q.weight"), w, o->H * o->D, o->E, 0, 1.4 * e);
        tensor(f, NAME("attn_k.weight"), w, o->G * o->D, o->E, 0, 1.4 * e);
        tensor(f, NAME("attn_v.weight"), w, o->G * o->D, o->E, 0, e);
        tensor(f, NAME("attn_output.weight"), w, o->E, o->H * o->D, 0, a);
        if (o->qwen2) {
            tensor(f, NAME("attn_q.bias"), v, 0, o->H * o->D, 0, 0.3);
            tensor(f, NAME("attn_k.bias"), v, 0, o->G * o->D, 0, 0.3);
            tensor(f, NAME("attn_v.bias"), v, 0, o->G * o->D, 0, 0.1);
        }
        tensor(f, NAME("ffn_norm.weight"), v, 0, o->E, 1, 0.1);
        tensor(f, NAME("ffn_gate.weight"), w, o->F, o->E, 0, e);
        tensor(f, NAME("ffn_up.weight"), w, o->F, o->E, 0, e);
        tensor(f, NAME("ffn_down.weight"), w, o->E, o->F, 0, ff);
#undef NAME
    }
    tensor(f, "output_norm.weight", v, 0, o->E, 1, 0.1);
    if (o->rope_freqs)
        tensor(f, "rope_freqs.weight", KVT_F32, 0, o->D / 2, 1, 0);
    if (o->untied)
        tensor(f, "output.weight", embed, n_vocab, o->E, 0, 1.5 * e);
}

static void put_shape(struct buf *b, const struct kvt_mkmodel_opts *o, int n_vocab)
{
    const char *p = o->qwen2 ? "qwen2." : "llama.";
    key_str(b, "general.", "architecture", o->qwen2 ? "qwen2" : "llama");
    key_str(b, "general.", "name", "tiny random model");
    key_u32(b, p, "block_count", (uint32_t)o->L);
    key_u32(b, p, "context_length", (uint32_t)o->context_tok);
    key_u32(b, p, "embedding_length", (uint32_t)o->E);
    key_u32(b, p, "feed_forward_length", (uint32_t)o->F);
    key_u32(b, p, "attention.head_count", (uint32_t)o->H);
    key_u32(b, p, "attention.head_count_kv", (uint32_t)o->G);
    key_u32(b, p, "attention.key_length", (uint32_t)o->D);
    key_u32(b, p, "attention.value_length", (uint32_t)o->D);
    key_u32(b, p, "rope.dimension_count", (uint32_t)o->D);
    key_u32(b, p, "vocab_size", (uint32_t)n_vocab);
    key_f32(b, p, "rope.freq_base", 10000);
    key_f32(b, p, "attention.layer_norm_rms_epsilon", 1e-5f);
    if (o->rope_scaling) {
        key_str(b, p, "rope.scaling.type", o->rope_scaling);
        key_f32(b, p, "rope.scaling.factor", o->rope_factor);
    }
    if (o->experts)
        key_u32(b, p, "expert_count", (uint32_t)o->experts);
    if (o->sliding_window)
        key_u32(b, p, "attention.sliding_window", (uint32_t)o->sliding_window);
}

static void use(int *v, int otherwise)
{
    if (*v <= 0)
        *v = otherwise;
}

int kvt_mkmodel_bytes(unsigned char **out, size_t *bytes, const struct kvt_mkmodel_opts *opts, struct kvt_err *err)
{
    struct kvt_mkmodel_opts o = *opts;
    use(&o.L, 3);
    use(&o.H, 6);
    use(&o.G, 2);
    use(&o.D, 16);
    use(&o.E, 96);
    use(&o.F, 128);
    use(&o.context_tok, 2048);
    use(&o.n_merges, 141);
    struct vocab *v = calloc(1, sizeof *v);
    struct file f = {.o = &o};
    struct buf head = {0};
    int rc = 0;
    if (!v) {
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for a vocabulary");
        goto done;
    }
    make_vocab(v, &o);
    put_tensors(&f, &o, v->n);
    if (f.bad_block) {
        rc = kvt_fail(err, KVT_EUSAGE, "%s needs rows that are a multiple of %d", kvt_dtypes[o.type].name,
                      kvt_dtypes[o.type].block_values);
        goto done;
    }
    struct buf kv = {0};
    put_shape(&kv, &o, v->n);
    put_vocab(&kv, v, &o);
    put(&head, "GGUF", 4);
    put32(&head, 3);
    put64(&head, (uint64_t)f.n_tensors);
    put64(&head, kv.n_keys);
    put(&head, kv.p, kv.n);
    put(&head, f.info.p, f.info.n);
    while (head.n % 32)
        put(&head, "", 1);
    put(&head, f.data.p, f.data.n);
    if (head.failed || kv.failed || f.info.failed || f.data.failed)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for a tiny model");
    free(kv.p);
done:
    free(v);
    free(f.info.p);
    free(f.data.p);
    if (rc)
        free(head.p);
    *out = rc ? NULL : head.p;
    *bytes = rc ? 0 : head.n;
    return rc;
}

int kvt_mkmodel(const char *path, const struct kvt_mkmodel_opts *o, struct kvt_err *err)
{
    unsigned char *p;
    size_t n;
    int rc = kvt_mkmodel_bytes(&p, &n, o, err);
    if (rc)
        return rc;
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(p, 1, n, file) == n;
    if (file && fclose(file) != 0)
        ok = false;
    free(p);
    return ok ? 0 : kvt_fail(err, KVT_EIO, "%s: cannot write the model", path);
}
