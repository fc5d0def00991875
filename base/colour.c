/* Colours on a terminal. */
#include "base/colour.h"

#include <stdio.h>
#include <string.h>

enum kvt_colour kvt_colour_choose(bool is_tty, const char *no_color, const char *term)
{
    if (!is_tty || (no_color && no_color[0]) || !term || !strcmp(term, "dumb"))
        return KVT_COLOUR_NONE;
    return strstr(term, "256") || strstr(term, "kitty") || strstr(term, "direct") ? KVT_COLOUR_256 : KVT_COLOUR_BASIC;
}

const char *kvt_colour_step(enum kvt_colour colour, int at, int steps, char *buf, size_t cap)
{
    /* Along viridis in the 6 x 6 x 6 cube: purple, blue, teal, green, yellow. */
    static const unsigned char ramp[] = {54, 60, 61, 67, 31, 37, 36, 72, 71, 77, 113, 149, 185, 226};
    /* Basic terminals have eight: blue, magenta, cyan, green, yellow rise in lightness on common palettes. */
    static const unsigned char basic[] = {44, 45, 46, 42, 43};
    buf[0] = 0;
    if (colour == KVT_COLOUR_NONE)
        return buf;
    if (at <= 0) {
        snprintf(buf, cap, colour == KVT_COLOUR_256 ? "\033[38;5;245m" : "\033[2m");
        return buf;
    }
    double x = steps > 1 ? (double)(at - 1) / (steps - 1) : 1;
    if (colour == KVT_COLOUR_256) {
        int i = (int)(x * (sizeof ramp - 1) + 0.5);
        snprintf(buf, cap, "\033[48;5;%d;38;5;%dm", ramp[i], i < 4 ? 231 : 16);
    } else {
        int i = (int)(x * (sizeof basic - 1) + 0.5);
        snprintf(buf, cap, "\033[%d;%dm", basic[i], i < 2 ? 97 : 30);
    }
    return buf;
}

const char *kvt_colour_reset(enum kvt_colour colour) { return colour ? "\033[0m" : ""; }
const char *kvt_colour_bold(enum kvt_colour colour) { return colour ? "\033[1m" : ""; }
const char *kvt_colour_dim(enum kvt_colour colour) { return colour ? "\033[2m" : ""; }
