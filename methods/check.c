/* Which choices go together, and which mean something beside which. A composition that makes no sense, or of which a part would be
 * passed over, is refused when it is read, before anything runs. */
#include <string.h>

#include "methods/methods.h"

struct rule {
    bool broken;
    const char *says;
};

/* Scores that can be told of every slot while tokens come. */
static bool goes_on(enum kvt_score score, enum kvt_schedule schedule)
{
    if (schedule == KVT_SCHEDULE_STEP && score == KVT_SCORE_LAGKV)
        return true;
    if (schedule == KVT_SCHEDULE_EVERY && (score == KVT_SCORE_WMASS || score == KVT_SCORE_SQWMASS || score == KVT_SCORE_KEYDIFF))
        return true;
    return score == KVT_SCORE_RANDOM || score == KVT_SCORE_RECENCY || score == KVT_SCORE_MASS || score == KVT_SCORE_SQMASS ||
           score == KVT_SCORE_LAST || score == KVT_SCORE_KNORM || score == KVT_SCORE_ORACLE;
}

int kvt_policy_check(const struct kvt_policy *p, const char *name, struct kvt_err *err)
{
    bool every = p->schedule == KVT_SCHEDULE_EVERY, step = p->schedule == KVT_SCHEDULE_STEP, units = p->unit != KVT_UNIT_TOKEN && p->unit != KVT_UNIT_PAGE;
    bool of_heads = p->alloc == KVT_ALLOC_HEAD || p->alloc == KVT_ALLOC_PYRAMID_HEAD;
    bool chunks = p->prefill_chunk > 0;
    bool pooled = p->pool != KVT_POOL_NONE && p->pool_width > 1;
    const struct rule rules[] = {
        {p->visible_mean && p->score != KVT_SCORE_MASS,
         "norm=visible is about the rows that could see a token; it needs the mass of all rows (rows=all, score=mass)"},
        {pooled && (p->score == KVT_SCORE_RANDOM || p->score == KVT_SCORE_RECENCY),
         "pooling chance or age says nothing; use pool=none"},
        {p->score == KVT_SCORE_LATER && p->unit != KVT_UNIT_SHOT,
         "rows after a unit's end are told for shots; use unit=shot, or score=mass"},
        {p->heads == KVT_HEADS_SHARED && of_heads, "heads that share one set have no budgets of their own; use heads=each, or alloc=uniform"},
        {p->heads == KVT_HEADS_SHARED && p->unit == KVT_UNIT_PAGE, "a page is one head's; unit=page needs heads=each"},
        {p->scope == KVT_SCOPE_ALL_LAYERS && (p->alloc == KVT_ALLOC_GLOBAL || p->reuse > 1),
         "one choice for all layers leaves nothing to share among them; use scope=per_layer, or alloc=uniform and reuse=1"},
        {p->reuse > 1 && p->alloc != KVT_ALLOC_UNIFORM, "layers that reuse a choice have the same budget; use alloc=uniform, or reuse=1"},
        {p->reuse > 1 && p->skip, "layers that keep everything have no choice to reuse; use skip=0, or reuse=1"},
        {p->unit == KVT_UNIT_CHUNK && p->chunk_count == KVT_COUNT_KVPRESS && (of_heads || p->alloc == KVT_ALLOC_GLOBAL),
         "count=kvpress counts the chunks of a head; with a shared budget use count=paper"},
        {p->overflow == KVT_OVERFLOW_KNAPSACK && p->unit != KVT_UNIT_SHOT && p->unit != KVT_UNIT_SENTENCE,
         "a knapsack is filled with shots or sentences; use unit=shot, or overflow=stop"},
        {p->overflow == KVT_OVERFLOW_KNAPSACK && (of_heads || p->alloc == KVT_ALLOC_GLOBAL),
         "a knapsack is filled for each head; use alloc=uniform, or overflow=skip"},
        {p->critical_ppm && p->unit != KVT_UNIT_TOKEN, "the second stage (critical=) chooses single tokens; use unit=token"},
        {p->within && (p->unit != KVT_UNIT_TOKEN || of_heads || p->alloc == KVT_ALLOC_GLOBAL || p->critical_ppm || step || every ||
                       p->leaver == KVT_LEAVES_CONTEST),
         "a share in each stretch (within=) is kept of single tokens, in each head alike, at prefill's end; leave it out, or use unit=token, "
         "alloc=uniform, critical=0 and schedule=prefill"},
        {p->skip && units && p->alloc == KVT_ALLOC_GLOBAL, "units of all layers compete; with skip= use unit=token or page"},
        {p->keep_window && p->window < 1 && p->window != KVT_WINDOW_QUESTION, "there is no window to keep; set w=, or don't protect it"},
        {step && !goes_on(p->score, p->schedule),
         "in each step slots are ranked by what goes on while tokens come: random, recency, mass, sqmass, last or knorm; use one of them, or "
         "schedule=prefill"},
        {p->score == KVT_SCORE_FINCH && p->distance, "rows of a window all count; use v=0"},
        {p->leaver == KVT_LEAVES_CONTEST && (of_heads || p->alloc == KVT_ALLOC_GLOBAL || p->critical_ppm),
         "in a contest neighbours of one cell compare; use alloc=uniform and critical=0, or leaves=worst"},
        {step && p->unit != KVT_UNIT_TOKEN && !(p->unit == KVT_UNIT_CHUNK && p->leaver == KVT_LEAVES_CONTEST), "in each step single tokens leave; use unit=token, or schedule=prefill"},
        {p->leaver == KVT_LEAVES_CONTEST && p->unit != KVT_UNIT_TOKEN && p->unit != KVT_UNIT_CHUNK,
         "in a contest tokens or chunks compare; use unit=token or chunk, or leaves=worst"},
        {(step || every) && (p->score == KVT_SCORE_SQMASS || p->score == KVT_SCORE_SQWMASS) && p->distance,
         "while tokens come every row counts at once; use v=0, or schedule=prefill"},
        {p->score == KVT_SCORE_KVZIP && p->repeat < 1, "the context is repeated a number of tokens at a time, and this method has no repeat=; use kvzip or my"},
        {p->score == KVT_SCORE_LAGKV && p->lag < 1, "partitions have a length, and this method has no lag=; use lagkv or my"},
        {p->score == KVT_SCORE_EXPECTED && p->ahead < 1, "expected attention looks at the next positions; use ahead=1 or more"},
        {p->score == KVT_SCORE_LAGKV && (of_heads || p->alloc == KVT_ALLOC_GLOBAL),
         "ranks of a partition are the same numbers in all heads: there is nothing to share; use alloc=uniform or pyramid"},
        {pooled && p->score == KVT_SCORE_LAGKV, "ranks of a partition aren't pooled; use pool=none"},
        {p->alloc == KVT_ALLOC_CLASS && (p->recent < 1 || p->keep_window || p->spans || p->unit != KVT_UNIT_TOKEN || p->heads == KVT_HEADS_SHARED ||
                                         p->score == KVT_SCORE_FILE || p->critical_ppm || p->within || p->skip || p->reuse > 1 ||
                                         p->scope == KVT_SCOPE_ALL_LAYERS || p->decode_share_set || p->leaver != KVT_LEAVES_WORST || pooled),
         "heads of two classes keep everything, or sinks and a number of newest tokens; give recent=N and path=, and leave units, windows, pooling and other shares out"},
        {step && ((p->alloc != KVT_ALLOC_UNIFORM && p->alloc != KVT_ALLOC_CLASS) || p->skip || p->reuse > 1 || p->scope == KVT_SCOPE_ALL_LAYERS),
         "in each step all cells have the same budget; use alloc=uniform, skip=0, reuse=1 and scope=per_layer, or schedule=prefill"},
        {step && (pooled || p->spans || p->keep_window || p->critical_ppm),
         "in each step sinks and recent tokens are protected and nothing is pooled or staged; use protect=sinkN+recentN and pool=none, or schedule=prefill"},
        {step && p->score == KVT_SCORE_LAST && p->heads == KVT_HEADS_SHARED && p->group == KVT_GROUP_MAX,
         "in each step heads that share one set rank by the newest row's sum over all query heads; use group=mean, heads=each or schedule=prefill"},
        {p->score == KVT_SCORE_LAGKV && step && (p->recent || p->heads == KVT_HEADS_SHARED || p->within),
         "LagKV in steps keeps its last partition whole and cuts each by itself; use heads=each, and leave recent= and within= out"},
        {every && p->every < 1, "every how many tokens? this method has no every=; use my[score=...,schedule=every,every=N], or schedule=step"},
        {every && !goes_on(p->score, p->schedule),
         "every N tokens slots are ranked by what goes on while tokens come: random, recency, mass, wmass, sqmass, sqwmass, last, knorm or keydiff; "
         "use one of them, or schedule=prefill"},
        {every && (units || p->leaver != KVT_LEAVES_WORST),
         "every N tokens kv heads choose single tokens or pages; use unit=token or page and leaves=worst, or schedule=prefill"},
        {(every || chunks) && p->heads == KVT_HEADS_SHARED && p->alloc == KVT_ALLOC_GLOBAL,
         "while tokens come, heads that share one set have the same budget in all layers; use heads=each, or alloc=uniform"},
        {every && (p->alloc == KVT_ALLOC_PYRAMID || p->alloc == KVT_ALLOC_PYRAMID_HEAD || p->alloc == KVT_ALLOC_CLASS || p->skip || p->reuse > 1 ||
                   p->scope == KVT_SCOPE_ALL_LAYERS),
         "every N tokens cells have the same budget, share a layer's or share all; use alloc=uniform, head or global, skip=0, reuse=1 and "
         "scope=per_layer, or schedule=prefill"},
        {every && (p->spans || p->critical_ppm), "every N tokens sinks and recent tokens are protected and nothing is staged; use protect=sinkN+recentN, or "
                                                 "schedule=prefill"},
        {chunks && p->score != KVT_SCORE_NONE && (!goes_on(p->score, KVT_SCHEDULE_EVERY) || p->score == KVT_SCORE_ORACLE),
         "after each chunk of a prefill slots are ranked by what is known by then: random, recency, mass, wmass, sqmass, sqwmass, last, knorm or "
         "keydiff; use one of them, or prefill_chunk=0"},
        {chunks && (units || p->leaver != KVT_LEAVES_WORST),
         "after each chunk of a prefill kv heads choose single tokens or pages; use unit=token or page and leaves=worst, or "
         "prefill_chunk=0"},
        {chunks && (p->alloc == KVT_ALLOC_PYRAMID || p->alloc == KVT_ALLOC_PYRAMID_HEAD || p->alloc == KVT_ALLOC_CLASS || p->skip || p->reuse > 1 ||
                    p->scope == KVT_SCOPE_ALL_LAYERS),
         "after each chunk of a prefill cells have the same budget, share a layer's or share all; use alloc=uniform, head or global, skip=0, "
         "reuse=1 and scope=per_layer, or prefill_chunk=0"},
        {chunks && (p->spans || p->critical_ppm || p->within || p->distance || p->renumber),
         "after each chunk of a prefill sinks, recent tokens and the window are protected, nothing is staged, every row counts and positions stay; "
         "use protect=sinkN+recentN+window, critical=0, v=0 and renumber=0, or prefill_chunk=0"},
        {chunks && (p->decode_share_set || p->prefill_share > 0), "prefill= and decode= are shares beside one choice at prefill's end; use prefill_chunk=0"},
        {chunks && (p->score == KVT_SCORE_WMASS || p->score == KVT_SCORE_SQWMASS || p->keep_window) && p->window > p->prefill_chunk,
         "the window's rows are those of the last chunk; use w= of prefill_chunk or less"},
        {p->alloc == KVT_ALLOC_CLASS && (p->score != KVT_SCORE_RECENCY || p->prefill_share > 0),
         "two classes of heads are told by their gates, and nothing is ranked; use score=recency, and leave prefill= out"},
        {p->score == KVT_SCORE_RECENCY && (p->heads == KVT_HEADS_SHARED || p->scope == KVT_SCOPE_ALL_LAYERS || p->reuse > 1 || of_heads ||
                                           p->alloc == KVT_ALLOC_GLOBAL),
         "age is the same for all heads and in every layer: there is nothing to share; use heads=each, scope=per_layer, reuse=1 and alloc=uniform "
         "or pyramid"},
        {(p->score == KVT_SCORE_RECENCY || p->score == KVT_SCORE_RANDOM) && p->unit == KVT_UNIT_CHUNK && p->chunk_count == KVT_COUNT_KVPRESS &&
             p->keep_window,
         "kvpress's window stays by its attention, and chance and age have none; use count=paper, or protect=recentN"},
        {p->score == KVT_SCORE_LAGKV && step && p->prefill_share > 0, "LagKV in steps cuts each partition to the budget's share; leave prefill= out"},
        {(step || every) && p->decode_share_set, "decode= is the share of generated tokens beside a choice at prefill's end; use schedule=prefill"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].broken)
            return kvt_fail(err, KVT_EUSAGE, "%s: %s", name, rules[i].says);
    return 0;
}

/* ---- what means nothing ---- */

static bool of_heads_rows(enum kvt_score score) /* attention: one score for each query head */
{
    return score == KVT_SCORE_MASS || score == KVT_SCORE_WMASS || score == KVT_SCORE_LAST || score == KVT_SCORE_SQMASS || score == KVT_SCORE_SQWMASS ||
           score == KVT_SCORE_FINCH || score == KVT_SCORE_MAX || score == KVT_SCORE_LATER;
}

const char *kvt_policy_idle(const struct kvt_policy *p, const char *option)
{
    bool host = p->score == KVT_SCORE_HOST; /* its own loop may look at any of them */
    bool squares = p->score == KVT_SCORE_SQMASS || p->score == KVT_SCORE_SQWMASS, by_head = of_heads_rows(p->score) || host;
    bool chunk = p->unit == KVT_UNIT_CHUNK, text = p->unit == KVT_UNIT_SHOT || p->unit == KVT_UNIT_SENTENCE;
    bool line = p->alloc == KVT_ALLOC_PYRAMID || p->alloc == KVT_ALLOC_PYRAMID_HEAD, heads = p->alloc == KVT_ALLOC_HEAD || p->alloc == KVT_ALLOC_PYRAMID_HEAD;
    bool together = heads || p->alloc == KVT_ALLOC_GLOBAL;
    const struct {
        const char *option;
        bool used;
        const char *with;
    } means[] = {
        {"w", p->score == KVT_SCORE_WMASS || p->score == KVT_SCORE_SQWMASS || p->score == KVT_SCORE_FINCH || p->keep_window || (line && p->rule == KVT_RULE_KVPRESS) || host,
         "score=wmass or sqwmass (rows=window), or protect=window"},
        {"group", by_head, "a score of attention, which query heads have by themselves"},
        {"order", by_head && p->pool != KVT_POOL_NONE && p->pool_width > 1 && !p->prefill_chunk, "pool=, a score of attention and prefill_chunk=0"},
        {"v", squares, "score=sqmass or sqwmass"},
        {"lag", p->score == KVT_SCORE_LAGKV || host, "score=lagkv"},
        {"ahead", p->score == KVT_SCORE_EXPECTED || p->score == KVT_SCORE_ORACLE || host, "score=expected or oracle"},
        {"nosinks", p->score == KVT_SCORE_ORACLE || host, "score=oracle"},
        {"vnorm", p->score == KVT_SCORE_EXPECTED || host, "score=expected"},
        {"repeat", p->score == KVT_SCORE_KVZIP || host, "score=kvzip"},
        {"path", p->score == KVT_SCORE_FILE || p->alloc == KVT_ALLOC_CLASS || host, "score=file, or alloc=class"},
        {"seed", p->score == KVT_SCORE_RANDOM || host, "score=random"},
        {"reduce", chunk || text, "unit=chunk, shot or sentence"},
        {"chunk", chunk, "unit=chunk"},
        {"count", chunk, "unit=chunk"},
        {"overflow", text || (chunk && together), "unit=shot or sentence, or chunks that share a budget"},
        {"force", text || (chunk && together), "unit=shot or sentence, or chunks that share a budget"},
        {"beta", line, "alloc=pyramid or pyramid+head"},
        {"rule", line, "alloc=pyramid or pyramid+head"},
        {"head_rule", heads && p->unit == KVT_UNIT_TOKEN, "alloc=head or pyramid+head, and unit=token"},
        {"alpha", heads && p->unit == KVT_UNIT_TOKEN, "alloc=head or pyramid+head, and unit=token"},
        {"class", p->alloc == KVT_ALLOC_CLASS, "alloc=class"},
        {"every", p->schedule == KVT_SCHEDULE_EVERY, "schedule=every"},
        {"decode_floor", p->decode_share_set, "decode="},
        {"decode_recent", p->decode_share_set, "decode="},
    };
    for (size_t i = 0; i < sizeof means / sizeof *means; i++)
        if (!strcmp(means[i].option, option))
            return means[i].used ? NULL : means[i].with;
    return NULL;
}
