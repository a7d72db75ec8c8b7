/* tfevents.h — TensorBoard event files: scalars, the configuration as text, hyper-parameters.
 *
 * A file is a sequence of records {length u64, masked CRC-32C of it u32, payload, masked CRC-32C of
 * the payload u32}, little endian; a payload is a protobuf message Event. Each record is one
 * write(2), so a killed run leaves at most a torn last record, which readers ignore.
 */
#ifndef QN_TFEVENTS_H
#define QN_TFEVENTS_H

#include "engine/train.h"

typedef struct qn_tfevents_options {
    const char *directory; /* RUN/tb; created if absent */
    const char
        *config_json;       /* resolved configuration: text summary and hyper-parameters; or NULL */
    const qn_sink *notices; /* told when output is dropped; or NULL. Must outlive the sink */
    double (*wall)(void);   /* seconds since 1970; NULL = the system's time */
    const char *host;       /* NULL = this machine's name */
    int64_t pid;            /* 0 = this process */
} qn_tfevents_options;

/* A new file events.out.tfevents.TIME.HOST.PID.N, N being the first that is free. Metrics keep
 * their keys as tags; notes are text under "notes". The end of a run closes the session of the
 * hyper-parameters; its metrics (summary/...) are scalars like any other. */
qn_status qn_sink_tfevents(const qn_tfevents_options *o, qn_sink *out) QN_CHECKED;

/* Cuts every event file of the directory back to the events of step <= `step`, for a run that
 * resumes there; a damaged tail goes too. A file that needs no change is not touched; others are
 * replaced atomically. An absent directory is no error. */
qn_status qn_tfevents_cut(const char *directory, int64_t step) QN_CHECKED;

/* CRC-32C (Castagnoli) of the bytes, and the masked form records carry. */
uint32_t qn_crc32c(const void *bytes, size_t n);
uint32_t qn_crc32c_masked(const void *bytes, size_t n);

#endif
