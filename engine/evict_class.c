/* Two classes of heads (DuoAttention, arXiv 2410.10819): some keep everything, the others sinks and the newest tokens. A gate for
 * each kv head says how much it needs the whole context; the share `class` of them with the largest gates gets it. */
#include <stdlib.h>

#include "base/mem.h"
#include "engine/evict_state.h"

struct head {
    float gate;
    int cell;
};

/* The largest gate first; of equal ones the earlier layer's, then the earlier head's. */
static int by_gate(const void *a, const void *b)
{
    const struct head *x = a, *y = b;
    return x->gate != y->gate ? (x->gate < y->gate) - (x->gate > y->gate) : (x->cell > y->cell) - (x->cell < y->cell);
}

/* kvpress streams round(heads x ratio) of them, Python's round: halves to the even number. */
static int streamed(int cells, int class_ppm)
{
    int64_t all = (int64_t)cells * (1000000 - class_ppm), whole = all / 1000000, rest = all % 1000000;
    return (int)(whole + (rest > 500000 || (rest == 500000 && whole % 2)));
}

int kvt_evictor_classes(struct kvt_evictor *e, const float *gate, struct kvt_err *err)
{
    int L = e->env->L, G = e->env->G, cells = L * G, whole = cells - streamed(cells, e->spec.policy.class_ppm);
    struct head *h = kvt_calloc((size_t)cells, sizeof *h);
    if (!h)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the classes of %d heads", cells);
    for (int l = 0; l < L; l++)
        for (int g = 0; g < G; g++) {
            float x = gate[kvt_evict_layer(e->env, l) * G + g];
            h[l * G + g] = (struct head){x < 0 ? 0 : x > 1 ? 1 : x, l * G + g}; /* trained gates leave [0, 1]; both codes clip */
        }
    qsort(h, (size_t)cells, sizeof *h, by_gate);
    e->tied_whole = e->tied = 0;
    for (int i = 0; i < cells; i++) {
        e->whole[h[i].cell] = i < whole;
        bool at_cut = whole > 0 && whole < cells && h[whole - 1].gate == h[whole].gate && h[i].gate == h[whole].gate;
        e->tied += at_cut;
        e->tied_whole += at_cut && i < whole;
    }
    free(h);
    return 0;
}

int kvt_evict_class_tok(const struct kvt_evictor *e, int layer, int g, int n)
{
    int held = e->spec.policy.sinks + e->spec.policy.recent;
    return e->whole[layer * e->env->G + g] || held > n ? n : held;
}
