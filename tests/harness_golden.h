/* harness_golden.h — golden files: named tensors written by tests/golden/golden_file.py. */
#ifndef QN_HARNESS_GOLDEN_H
#define QN_HARNESS_GOLDEN_H

#include "engine/engine.h"

typedef struct qn_golden qn_golden;

/* Reads the whole file. A file that is not exactly in the format is QN_ERR_FORMAT. */
qn_status qn_golden_open(const char *path, qn_golden **out) QN_CHECKED;
void qn_golden_close(qn_golden *g); /* NULL is legal */

/* Tensors point into the file's bytes and live until qn_golden_close. */
int qn_golden_count(const qn_golden *g);
const char *qn_golden_name(const qn_golden *g, int i);
bool qn_golden_find(const qn_golden *g, const char *name, qn_tensor *out);
/* As qn_golden_find with a formatted name; a missing tensor is QN_ERR_DATA. */
qn_status qn_golden_get(const qn_golden *g, qn_tensor *out, const char *format, ...) QN_CHECKED
    QN_PRINTF(3, 4);

#endif
