/* run_dir.h — the directory of one run: made, claimed by one process, known by its run id.
 *
 * Inside: run.id (identity of the run), lock (held while a process works there), the configuration,
 * logs and checkpoints/. Everything ending in ".tmp" is a leftover of a process that died and is
 * removed when the directory is opened.
 */
#ifndef QN_RUN_DIR_H
#define QN_RUN_DIR_H

#include "engine/engine.h"

enum { QN_RUN_ID_SIZE = 33, QN_RUN_IDENTITY_MAX = 128 }; /* both count the final NUL */

typedef enum qn_run_mode {
    QN_RUN_FRESH,     /* the directory must be absent or empty */
    QN_RUN_RESUME,    /* goes on with the run that is there; absent or empty begins one */
    QN_RUN_OVERWRITE, /* removes the files of the run that is there, nothing else */
} qn_run_mode;

typedef struct qn_run_dir_options {
    const char *out;      /* the directory; NULL = parent/NAME-YYYYmmdd-HHMMSS (UTC), always new */
    const char *parent;   /* used without `out`; created if absent */
    const char *name;     /* letters, digits, '.', '_' and '-' */
    const char *identity; /* digest of what a resume must agree on (model, tokenizer, data); one
                             word of printable characters, "" if unknown; kept in run.id */
    qn_run_mode mode;
} qn_run_dir_options;

typedef struct qn_run_dir qn_run_dir;

/* Makes or enters the directory, takes its lock, sweeps leftovers, reads or draws the run id.
 * QN_ERR_USAGE if it is not empty and mode is FRESH, if it is no run directory, or if another
 * process holds it (the message names its pid and host). The lock goes with the process, so that of
 * a killed process is free at once. */
qn_status qn_run_dir_open(const qn_run_dir_options *o, qn_run_dir **out) QN_CHECKED;
void qn_run_dir_close(qn_run_dir *r); /* releases the lock; NULL is legal */

const char *qn_run_dir_path(const qn_run_dir *r);
const char *qn_run_dir_id(const qn_run_dir *r);       /* 32 hexadecimal digits */
const char *qn_run_dir_identity(const qn_run_dir *r); /* as given when the run began */
bool qn_run_dir_is_new(const qn_run_dir *r);          /* the run began with this open */

/* The run id and identity of a directory, without claiming it: for commands that only read. */
qn_status qn_run_id_read(const char *run_dir, char id[QN_RUN_ID_SIZE],
                         char identity[QN_RUN_IDENTITY_MAX]) QN_CHECKED;

/* The newest directory parent/NAME-YYYYmmdd-HHMMSS[-n] whose run has this identity; path becomes ""
 * if there is none. */
qn_status qn_run_find_newest(const char *parent, const char *name, const char *identity, char *path,
                             size_t size) QN_CHECKED;

/* Cuts a JSON Lines log back to `step`: drops rows whose top-level "step" is larger (and rows
 * without one that follow such a row) and everything after the last complete row. Atomic; an absent
 * file is no error. */
qn_status qn_jsonl_truncate(const char *path, int64_t step) QN_CHECKED;

#endif
