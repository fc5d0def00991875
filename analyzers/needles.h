/* The needle probe's texts: what is hidden, what it is hidden in, how it is asked for. */
#ifndef KVT_ANALYZERS_NEEDLES_H
#define KVT_ANALYZERS_NEEDLES_H

/* "begin" and "rest" are the needle; the question's answer is begun with `begin`, so that `rest` is what a model has to bring. */
struct kvt_needle { const char *begin, *rest, *question; };

enum { KVT_N_NEEDLES = 3, KVT_N_DEPTHS = 5, KVT_N_HAY = 32 };

extern const struct kvt_needle kvt_needle[KVT_N_NEEDLES];
extern const char *const kvt_hay[KVT_N_HAY];

#endif
