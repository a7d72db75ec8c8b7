/* metrics_file.h — an append-only output file that a full disk cannot tear and that never stops a
 * run.
 *
 * Each row is one write(2). If a row does not fit, what landed of it is cut off again, so the rows
 * before stay whole; the row is dropped, and the first drop is told once through `notices`. Later
 * rows are tried again, so output goes on when there is room.
 */
#ifndef QN_METRICS_FILE_H
#define QN_METRICS_FILE_H

#include "engine/train.h"
#include "io/text_buffer.h"

typedef struct qni_rows {
    int fd;
    int64_t end;            /* bytes of whole rows */
    bool torn;              /* bytes of a dropped row still lie past `end` */
    int64_t lost;           /* rows dropped */
    const qn_sink *notices; /* told of the first drop; may be NULL */
    char *path;
} qni_rows;

/* Opens `path` for appending, creating it if absent. With `lines`, a last line without its newline
 * (a killed writer's) is cut off first. `notices` must outlive the file. */
qn_status qni_rows_open(const char *path, bool lines, const qn_sink *notices,
                        qni_rows *out) QN_CHECKED;
/* A text that could not be built for want of memory is dropped like one that finds no room. */
void qni_rows_write(qni_rows *f, const qn_text *row, int64_t step);
void qni_rows_close(qni_rows *f);

/* Writes all bytes, going on after interrupts and short writes. False, with errno, when it
 * cannot. */
bool qni_write_all(int fd, const void *bytes, size_t n);

#endif
