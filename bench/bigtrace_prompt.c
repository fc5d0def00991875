/* The text of the synthetic trace: shots of uneven length with questions, rationales, numbers, operators and answers. */
#include "bigtrace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *const words[] = {" the", " box", " has", " more", " than", " Tom", " and", " Ana", " buys", " some", " red", " pens", " for",
                                    " her", " class", " then", " gives", " away", " half", " of", " them", " to", " José", " 小明", " every", " day",
                                    " so", " we", " add", " what", " is", " left"};
enum { N_WORDS = sizeof words / sizeof *words, SENTENCE = 16, ASKED = 160, SYSTEM = 60, ANSWER = 9, LEAST_SHOT = 48 };

double big_noise(uint32_t a, uint32_t b, uint32_t c)
{
    uint64_t x = ((uint64_t)a << 40) ^ ((uint64_t)b << 20) ^ c ^ 0x9e3779b97f4a7c15u;
    for (int i = 0; i < 2; i++) { /* splitmix64's finish */
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        x ^= x >> 31;
    }
    return (double)(x >> 11) * 0x1p-53;
}

static void add_token(struct big_prompt *p, const char *text, enum big_token kind, int shot)
{
    int at = p->n++;
    size_t len = strlen(text);
    snprintf(p->token[at], sizeof p->token[at], "%s", text);
    p->token_text[at] = p->token[at];
    memcpy(p->text + p->bytes, text, len);
    p->start[at] = (int32_t)p->bytes;
    p->bytes += len;
    p->end[at] = (int32_t)p->bytes;
    p->id[at] = (int32_t)(big_noise((uint32_t)len, (unsigned char)text[0], (unsigned char)text[len / 2]) * 32000);
    p->kind[at] = (uint8_t)kind;
    p->shot[at] = shot;
}

static int add_span(struct big_prompt *p, const char *name, const char *kind, int parent, int start, int end)
{
    char *copy = strdup(name);
    if (!copy || p->n_spans == p->cap_spans) {
        free(copy);
        return -1;
    }
    p->span[p->n_spans] = (struct kvt_plan_span){copy, kind, parent, start, end, p->start[start], p->end[end - 1]};
    return p->n_spans++;
}

/* `count` tokens in sentences with numbers and operators. */
static void add_sentences(struct big_prompt *p, int count, int shot)
{
    while (count > 0) {
        int len = count < 2 * SENTENCE ? count : SENTENCE;
        for (int i = 0; i < len; i++) {
            char number[16];
            uint32_t at = (uint32_t)p->n;
            snprintf(number, sizeof number, " %d", 2 + (int)(big_noise(at, 1, 2) * 97));
            if (i == len - 1)
                add_token(p, ".", BIG_WORD, shot);
            else if (i % SENTENCE == 5 || i % SENTENCE == 7 || i % SENTENCE == 9)
                add_token(p, number, BIG_NUMBER, shot);
            else if (i % SENTENCE == 6 || i % SENTENCE == 8)
                add_token(p, i % SENTENCE == 6 ? (big_noise(at, 3, 4) < 0.5 ? " +" : " *") : " =", BIG_OPERATOR, shot);
            else
                add_token(p, words[(int)(big_noise(at, 5, 6) * N_WORDS)], BIG_WORD, shot);
        }
        count -= len;
    }
}

static void add_section(struct big_prompt *p, int span)
{
    p->section[2 * p->n_sections] = p->span[span].start;
    p->section[2 * p->n_sections + 1] = p->span[span].end;
    p->section_span[p->n_sections++] = span;
}

static void add_shot(struct big_prompt *p, int i, int len)
{
    char name[24];
    int from = p->n, question = len / 4, answer;
    static const char *const ends[ANSWER] = {"\n", "So", " the", " answer", " is", ":", " 42", ".", "\n\n"};
    snprintf(name, sizeof name, "shot %d", i + 1);
    add_token(p, "Question", BIG_WORD, i);
    add_token(p, ":", BIG_WORD, i);
    add_sentences(p, question - 2, i);
    answer = from + len - ANSWER;
    add_sentences(p, answer - p->n, i);
    for (int k = 0; k < ANSWER; k++)
        add_token(p, ends[k], k == 6 ? BIG_NUMBER : BIG_WORD, i);
    int shot = add_span(p, name, "shot", -1, from, p->n);
    add_section(p, shot);
    add_span(p, "question", "question", shot, from, from + question);
    add_span(p, "rationale", "rationale", shot, from + question, answer);
    add_span(p, "answer", "answer", shot, answer, p->n - 1);
    add_span(p, "delimiter", "delimiter", shot, p->n - 1, p->n);
    for (int at = from; at < answer; at += SENTENCE)
        add_span(p, "sentence", "sentence", shot, at, at + SENTENCE < answer ? at + SENTENCE : answer);
    for (int t = from; t < p->n; t++)
        if (p->kind[t] != BIG_WORD)
            add_span(p, p->kind[t] == BIG_NUMBER ? "number" : "operator", p->kind[t] == BIG_NUMBER ? "number" : "operator", shot, t, t + 1);
}

int big_prompt_make(struct big_prompt *p, const struct big_shape *s, struct kvt_err *err)
{
    size_t n = (size_t)s->tok, sections = (size_t)s->shots + 2;
    *p = (struct big_prompt){.cap_spans = s->tok + 8 * s->shots + 16};
    int left = s->tok - SYSTEM - ASKED;
    if (left < s->shots * 2 * LEAST_SHOT)
        return kvt_fail(err, KVT_EUSAGE, "%d shots need %d tokens or more", s->shots, s->shots * 2 * LEAST_SHOT + SYSTEM + ASKED);
    p->text = kvt_calloc(n, sizeof *p->token);
    p->token = kvt_calloc(n, sizeof *p->token);
    p->token_text = kvt_calloc(n, sizeof *p->token_text);
    p->id = kvt_calloc(n, sizeof *p->id);
    p->start = kvt_calloc(n, sizeof *p->start);
    p->end = kvt_calloc(n, sizeof *p->end);
    p->kind = kvt_calloc(n, 1);
    p->shot = kvt_calloc(n, sizeof *p->shot);
    p->span = kvt_calloc((size_t)p->cap_spans, sizeof *p->span);
    p->section = kvt_calloc(2 * sections, sizeof *p->section);
    p->section_span = kvt_calloc(sections, sizeof *p->section_span);
    if (!p->text || !p->token || !p->token_text || !p->id || !p->start || !p->end || !p->kind || !p->shot || !p->span || !p->section || !p->section_span)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a prompt of %zu tokens", n);
    add_sentences(p, SYSTEM, -1);
    add_section(p, add_span(p, "system", "system", -1, 0, SYSTEM));
    for (int i = 0; i < s->shots; i++) { /* uneven: between 0.6 and 1.4 of what the rest allows */
        int rest = s->shots - i, mean = left / rest, len = rest == 1 ? left : (int)(mean * (0.6 + 0.8 * big_noise((uint32_t)i, 7, 8)));
        add_shot(p, i, len);
        left -= len;
    }
    p->n_context = p->n;
    add_sentences(p, ASKED, -1);
    add_section(p, add_span(p, "question", "prompt", -1, p->n_context, p->n));
    return KVT_OK;
}

void big_prompt_free(struct big_prompt *p)
{
    for (int i = 0; i < p->n_spans; i++)
        free((char *)(uintptr_t)p->span[i].name);
    void *all[] = {p->text, p->token, p->token_text, p->id, p->start, p->end, p->kind, p->shot, p->span, p->section, p->section_span};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}
