/* svg.c — line charts: ranges, ticks, thinning, and the elements that draw them. */
#include "io/svg.h"

#include "io/metrics_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 1000, MAX_DOTS = 200, MAX_VISIBLE_DOTS = 40, X_TICKS = 6, Y_TICKS = 5 };

typedef struct frame { /* what the axes show */
    double x_low, x_high, y_low, y_high;
    int64_t cut; /* points above the top */
    int64_t gaps;
} frame;

/* ---- ranges and ticks ------------------------------------------------------------------------ */

double qn_svg_tick(double range, int most) {
    double least = range / most, power = pow(10, floor(log10(least)));
    for (int i = 0; i < 3; i++) {
        static const double steps[] = {1, 2, 5};
        if (steps[i] * power >= least * (1 - 1e-9)) return steps[i] * power;
    }
    return 10 * power;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The top of the axis: the highest value, unless one in a hundred points or fewer lie so far above
 * the rest that they would flatten it. Without memory for the sorting, the highest value. */
static double choose_top(const qn_svg_chart *c, int64_t n, double low, double high) {
    double *sorted = n >= 100 ? qn_alloc((size_t)n * sizeof *sorted, "a chart") : NULL;
    if (!sorted) return high;
    int64_t k = 0;
    for (int i = 0; i < c->n_lines; i++) {
        for (int64_t j = 0; j < c->line[i].n; j++) {
            if (isfinite(c->line[i].value[j])) sorted[k++] = c->line[i].value[j];
        }
    }
    qsort(sorted, (size_t)k, sizeof *sorted, by_value);
    double usual = sorted[k - 1 - k / 100];
    qn_free(sorted);
    return high - usual > 2 * (usual - low) && usual > low ? usual + 0.1 * (usual - low) : high;
}

/* The line after a faint one says the same again: its points are not counted. */
static bool is_retold(const qn_svg_chart *c, int i) { return i > 0 && c->line[i - 1].faint; }

static frame measure(const qn_svg_chart *c) {
    frame f = {.x_low = 0, .x_high = 1, .y_low = (double)INFINITY, .y_high = (double)-INFINITY};
    int64_t n = 0;
    for (int i = 0; i < c->n_lines; i++) {
        const qn_svg_line *l = &c->line[i];
        if (l->n > 0 && (double)l->step[l->n - 1] > f.x_high) f.x_high = (double)l->step[l->n - 1];
        for (int64_t j = 0; j < l->n; j++) {
            if (!isfinite(l->value[j])) {
                f.gaps += !is_retold(c, i);
                continue;
            }
            n++;
            if (l->value[j] < f.y_low) f.y_low = l->value[j];
            if (l->value[j] > f.y_high) f.y_high = l->value[j];
        }
    }
    if (n == 0) f.y_low = f.y_high = 0;
    if (c->from_zero && f.y_low > 0) f.y_low = 0;
    double top = choose_top(c, n, f.y_low, f.y_high);
    for (int i = 0; top < f.y_high && i < c->n_lines; i++) {
        const qn_svg_line *l = &c->line[i];
        for (int64_t j = 0; j < l->n; j++) f.cut += l->value[j] > top && !is_retold(c, i);
    }
    f.y_high = top;
    double room = (f.y_high - f.y_low) * 0.05;
    if (!(room > 0))
        room = f.y_high != 0 ? fabs(f.y_high) * 0.1 : 0.5; /* a flat line: mid-height */
    if (!c->from_zero || f.y_low < 0) f.y_low -= room;
    f.y_high += room;
    return f;
}

/* A tick's label, with as many digits as tell neighbours apart. */
static void add_tick_label(qn_text *t, double v, double step, double largest) {
    char text[40];
    if (fabs(v) < step / 2) v = 0;
    if (v == 0) {
        qn_text_add(t, "0");
    } else if (largest >= 1e10 || largest < 1e-2) {
        qni_print(text, sizeof text, "%.1e", v); /* "5.0e-04" becomes "5e-4" */
        char *exponent = strchr(text, 'e'), *digits = exponent + 2;
        while (digits[0] == '0' && digits[1]) memmove(digits, digits + 1, strlen(digits));
        if (exponent[-1] == '0') memmove(exponent - 2, exponent, strlen(exponent) + 1);
        qn_text_add(t, text);
    } else if (largest >= 1e4) {
        bool millions = largest >= 1e7;
        qni_text_printf(t, "%.6g%s", v / (millions ? 1e6 : 1e3), millions ? "M" : "k");
    } else {
        int decimals = (int)ceil(-log10(step) - 1e-9);
        qni_text_printf(t, "%.*f", decimals > 0 ? decimals : 0, v);
    }
}

/* ---- thinning -------------------------------------------------------------------------------- */

int64_t qn_svg_thin(int64_t n, const double *value, int64_t bins, int64_t *kept) {
    int64_t k = 0;
    for (int64_t b = 0; b < bins; b++) {
        int64_t from = (int64_t)((double)n * (double)b / (double)bins);
        int64_t to = (int64_t)((double)n * (double)(b + 1) / (double)bins), low = -1, high = -1;
        for (int64_t i = from; i < to; i++) {
            if (!isfinite(value[i])) continue;
            if (low < 0 || value[i] < value[low]) low = i;
            if (high < 0 || value[i] > value[high]) high = i;
        }
        if (low < 0 && from < to) low = high = from; /* nothing finite: keep the gap */
        if (low < 0) continue;
        kept[k++] = low < high ? low : high;
        if (low != high) kept[k++] = low < high ? high : low;
    }
    return k;
}

/* ---- elements -------------------------------------------------------------------------------- */

static double x_share(const frame *f, double step) {
    return (step - f->x_low) / (f->x_high - f->x_low);
}

static double y_share(const frame *f, double v) { return (f->y_high - v) / (f->y_high - f->y_low); }

static void add_axes(qn_text *t, const frame *f) {
    double step = qn_svg_tick(f->y_high - f->y_low, Y_TICKS);
    double largest = fmax(fabs(f->y_low), fabs(f->y_high));
    for (double v = ceil(f->y_low / step) * step; v <= f->y_high; v += step) {
        double y = 100 * y_share(f, v);
        qni_text_printf(t, "<line class=\"grid\" x2=\"100%%\" y1=\"%.2f%%\" y2=\"%.2f%%\"/>", y, y);
        qni_text_printf(t, "<text class=\"axis y\" x=\"-8\" y=\"%.2f%%\" dy=\".32em\">", y);
        add_tick_label(t, v, step, largest);
        qn_text_add(t, "</text>\n");
    }
    step = fmax(1, qn_svg_tick(f->x_high - f->x_low, X_TICKS));
    for (double v = ceil(f->x_low / step) * step; v <= f->x_high; v += step) {
        double x = 100 * x_share(f, v);
        qni_text_printf(t, "<line class=\"tick\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"100%%\"", x, x);
        qni_text_printf(t, " y2=\"100%%\"/><text class=\"axis x%s\" x=\"%.2f%%\" y=\"100%%\"",
                        x > 97 ? " last" : "", x);
        qn_text_add(t, " dy=\"1.6em\">");
        add_tick_label(t, v, step, f->x_high);
        qn_text_add(t, "</text>\n");
    }
}

static void add_curve(qn_text *t, const frame *f, const qn_svg_line *l) {
    int64_t kept[2 * BINS];
    bool thin = l->n > 2 * BINS, open = false;
    int64_t n = thin ? qn_svg_thin(l->n, l->value, BINS, kept) : l->n;
    qn_text_printf(t, "<path class=\"curve %s%s\" d=\"", l->css, l->faint ? " faint" : "");
    for (int64_t i = 0; i < n; i++) {
        int64_t j = thin ? kept[i] : i;
        if (!isfinite(l->value[j])) {
            open = false;
            continue;
        }
        double x = 1000 * x_share(f, (double)l->step[j]), y = 1000 * y_share(f, l->value[j]);
        qni_text_printf(t, open ? "L%.1f %.1f" : "M%.1f %.1fh0", x, y); /* h0: a lone point shows */
        open = true;
    }
    qn_text_add(t, "\"/>\n");
}

static void add_dots(qn_text *t, const frame *f, const qn_svg_line *l) {
    const char *css = l->n > MAX_VISIBLE_DOTS ? "dot quiet" : "dot";
    for (int64_t j = 0; j < l->n; j++) {
        if (!isfinite(l->value[j]) || l->value[j] > f->y_high) continue;
        qni_text_printf(t, "<circle class=\"%s %s\" cx=\"%.2f%%\" cy=\"%.2f%%\" r=\"2.5\">", css,
                        l->css, 100 * x_share(f, (double)l->step[j]),
                        100 * y_share(f, l->value[j]));
        qni_text_printf(t, "<title>step %lld: %.5g</title></circle>\n", (long long)l->step[j],
                        l->value[j]);
    }
}

static void add_mark(qn_text *t, const frame *f, const qn_svg_chart *c) {
    double x = 100 * x_share(f, (double)c->mark_step), y = 100 * y_share(f, c->mark_value);
    bool left = x > 60; /* the text goes to the side with room */
    qni_text_printf(t, "<line class=\"mark\" x1=\"%.2f%%\" x2=\"%.2f%%\" y2=\"100%%\"/>", x, x);
    if (y >= 0 && y <= 100) {
        qni_text_printf(t, "<circle class=\"mark\" cx=\"%.2f%%\" cy=\"%.2f%%\" r=\"4.5\"/>", x, y);
    }
    qni_text_printf(t, "<text class=\"mark%s\" x=\"%.2f%%\" dx=\"%d\" y=\"12\">",
                    left ? " left" : "", x, left ? -7 : 7);
    qni_text_html(t, c->mark);
    qn_text_add(t, "</text>\n");
}

static void add_caption(qn_text *t, const frame *f, const qn_svg_chart *c) {
    qn_text_add(t, "<figcaption><h3>");
    qni_text_html(t, c->title);
    qn_text_add(t, "</h3><ul class=\"legend\">");
    for (int i = 0; i < c->n_lines; i++) {
        if (!c->line[i].label) continue;
        qn_text_printf(t, "<li class=\"%s\">", c->line[i].css);
        qni_text_html(t, c->line[i].label);
        qn_text_add(t, "</li>");
    }
    qn_text_add(t, "</ul>");
    if (f->cut) qn_text_printf(t, "<p>outliers cut off at the top: %lld</p>", (long long)f->cut);
    if (f->gaps) qn_text_printf(t, "<p>non-finite values left out: %lld</p>", (long long)f->gaps);
    qn_text_add(t, "</figcaption>\n");
}

void qn_svg_chart_write(qn_text *t, const qn_svg_chart *c) {
    frame f = measure(c);
    qn_text_printf(t, "<figure class=\"chart\" id=\"%s\">", c->id);
    add_caption(t, &f, c);
    qn_text_printf(t, "<div class=\"plot\"><svg role=\"img\" aria-labelledby=\"%s-t %s-d\">", c->id,
                   c->id);
    qn_text_printf(t, "<title id=\"%s-t\">", c->id);
    qni_text_html(t, c->title);
    qn_text_printf(t, "</title><desc id=\"%s-d\">", c->id);
    qni_text_html(t, c->description);
    qn_text_add(t, "</desc>\n");
    add_axes(t, &f);
    qn_text_add(t, "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\">\n");
    for (int i = 0; i < c->n_lines; i++) add_curve(t, &f, &c->line[i]);
    qn_text_add(t, "</svg>\n");
    for (int i = 0; i < c->n_lines; i++) {
        if (c->line[i].dots && c->line[i].n <= MAX_DOTS) add_dots(t, &f, &c->line[i]);
    }
    if (c->mark) add_mark(t, &f, c);
    qn_text_add(t, "</svg></div></figure>\n");
}
