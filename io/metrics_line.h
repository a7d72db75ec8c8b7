/* metrics_line.h — the wording of a run's lines, shared by the console and train.log. */
#ifndef QN_METRICS_LINE_H
#define QN_METRICS_LINE_H

#include "io/metrics.h"
#include "io/metrics_text.h"

/* What the lines say about progress: the last value seen of each figure, and the pace so far. */
typedef struct qni_pace {
    qn_log_options o;
    bool started;
    int64_t first_step, step;
    double first_time, epoch;
    double train_loss, eval_loss, rate, grad_norm, speed; /* NaN = none yet */
    const char *speed_unit;                               /* "tok/s", "samples/s" */
    bool has_train_loss, has_grad_norm;
} qni_pace;

/* In the order of the line. */
typedef enum qni_part {
    QNI_PART_EPOCH,
    QNI_PART_STEP,
    QNI_PART_BAR,
    QNI_PART_PERCENT,
    QNI_PART_LOSS,
    QNI_PART_VAL,
    QNI_PART_RATE,
    QNI_PART_NORM,
    QNI_PART_SPEED,
    QNI_PART_ETA,
    QNI_PART_COUNT
} qni_part;

double qni_wall_clock(void); /* the system's seconds since 1970 */

void qni_pace_init(qni_pace *p, const qn_log_options *o);
void qni_pace_update(qni_pace *p, const qn_record *r);
double qni_pace_seconds_left(const qni_pace *p); /* NaN when it cannot be told */

/* Adds one part, without separators; adds nothing when there is nothing to say. */
void qni_line_part(qn_text *t, const qni_pace *p, qni_part part);
/* Adds the words of an event, without time and newline; `text` may be NULL. */
void qni_line_event(qn_text *t, const qni_pace *p, qn_event event, const qn_record *r,
                    const char *text);
/* A full plain line: UTC time, the event's words, newline. */
void qni_line_plain(qn_text *t, const qni_pace *p, qn_event event, const qn_record *r,
                    const char *text);

void qni_line_duration(qn_text *t, double seconds); /* "12:31", "1:02:03", "2d 03:04:05" */
void qni_line_count(qn_text *t, double n);          /* "950", "38.2k", "1.20M" */
void qni_line_number(qn_text *t, double v);         /* "1.8423"; "1.8e-04" when it is small */

#endif
