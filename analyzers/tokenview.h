/* The prompt itself, each token marked by how many methods keep it: in colour on a terminal, else with a line of
 * counts under each line of text. */
#ifndef KVT_ANALYZERS_TOKENVIEW_H
#define KVT_ANALYZERS_TOKENVIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/colour.h"
#include "kvt/trace.h"

struct kvt_tokenview {
    const struct kvt_trace_info *info;
    int n_methods;
    const char *const *name;   /* (n_methods) */
    const char *letter;        /* (n_methods), see kvt_tokenview_letters */
    const uint8_t *keeps;      /* (n_methods, n_context) 1 = the method keeps the token */
    enum kvt_colour colour;
    int width;                 /* columns to use */
    bool tracks;               /* under each line, a row for each method that keeps something there */
};

/* A letter of its own for each name: its first free one, else a digit. out (n). */
void kvt_tokenview_letters(const char *const *name, int n, char *out);
int kvt_tokenview_print(const struct kvt_tokenview *v, FILE *out, struct kvt_err *err);

#endif
