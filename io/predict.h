/* predict.h — what the files behind `quern predict` share. */
#ifndef QN_PREDICT_H
#define QN_PREDICT_H

#include "engine/infer.h"
#include "io/run_load.h"
#include "io/text_buffer.h"

typedef struct qni_prediction {
    qn_loaded model;
    char *input; /* the file's bytes */
    int64_t bytes;
    qn_text out; /* what is written when all has gone well */
    bool csv;    /* else JSON lines */
} qni_prediction;

qn_infer_options qni_predict_options(const qni_prediction *p);

/* predict_texts.c. Heads that give numbers for a text or for each of its tokens. The input `file`
 * is a text, one item a line, or records (.json, .jsonl, .csv, .tsv) with the keys of
 * data.columns.text and text_pair. A text longer than data.block_size is cut as data.truncate says;
 * where that is "error" or "drop", it is one. */
qn_status qni_predict_texts(qni_prediction *p, const char *file) QN_CHECKED;

#endif
