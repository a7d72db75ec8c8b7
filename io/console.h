/* console.h — what a person watching a run sees: one live bar on a terminal, plain lines elsewhere.
 */
#ifndef QN_CONSOLE_H
#define QN_CONSOLE_H

#include "io/metrics.h"

typedef enum qn_console_mode {
    QN_CONSOLE_AUTO, /* the bar if fd is a terminal that can move its cursor, else plain */
    QN_CONSOLE_BAR,
    QN_CONSOLE_PLAIN, /* one line for each event, UTC time first, no control characters */
    QN_CONSOLE_NONE   /* notes and the end only, as plain lines */
} qn_console_mode;

typedef struct qn_console_options {
    int fd; /* written to, never closed */
    qn_console_mode mode;
    bool no_color; /* a non-empty NO_COLOR in the environment does the same */
    qn_log_options log;
} qn_console_options;

/* The bar is redrawn at most ten times a second, in the width the terminal has at that moment; a
 * narrow terminal loses fields from the right. Evaluations, checkpoints, notes and the end are
 * permanent lines above it. Failed writes are ignored: a closed terminal does not stop a run (the
 * program must ignore SIGPIPE). */
qn_status qn_sink_console(const qn_console_options *o, qn_sink *out) QN_CHECKED;

#endif
