/* svg.h — a line chart over training steps as a piece of HTML.
 *
 * The drawing scales with the page and its text does not: curves live in a stretched inner <svg>,
 * axis labels are placed by percentages around it. Colours and sizes come from the page's style
 * sheet, by the classes written here (chart, plot, grid, axis, curve, dot, mark, and each line's
 * own class).
 */
#ifndef QN_SVG_H
#define QN_SVG_H

#include "io/text_buffer.h"

typedef struct qn_svg_line { /* steps strictly increase; a non-finite value is a gap */
    const char *label;       /* NULL = not in the legend */
    const char *css;         /* class name, for the colour */
    int64_t n;
    const int64_t *step;
    const double *value;
    bool dots;  /* each point tells its numbers when pointed at (up to 200 points) */
    bool faint; /* drawn under another line that tells the same more calmly */
} qn_svg_line;

typedef struct qn_svg_chart {
    const char *id; /* unique in the page */
    const char *title;
    const char *description; /* for readers that do not see the chart */
    const qn_svg_line *line;
    int n_lines;
    bool from_zero;   /* the vertical axis starts at 0 */
    const char *mark; /* text of a marked step; NULL = none */
    int64_t mark_step;
    double mark_value;
} qn_svg_chart;

/* Appends the chart. A line of more than 2000 points is thinned to the lowest and highest point of
 * each of 1000 stretches, so that no extreme is lost. Rare outliers far above everything else are
 * cut off at the top, which the caption then says. */
void qn_svg_chart_write(qn_text *out, const qn_svg_chart *c);

/* The distance between ticks, 1, 2 or 5 times a power of ten, that divides a range into at most
 * `most` parts. */
double qn_svg_tick(double range, int most);
/* The thinning: fills kept[0..2*bins) with rising indices of points to draw and returns how
 * many. */
int64_t qn_svg_thin(int64_t n, const double *value, int64_t bins, int64_t *kept);

#endif
