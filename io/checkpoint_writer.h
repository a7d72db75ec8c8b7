/* checkpoint_writer.h — checkpoints saved by a thread of their own while training goes on.
 *
 * submit copies the tensors into the caller's snapshot buffer and returns; the thread saves from
 * it, then tidies up old checkpoints. At most one save is in flight: a second submit waits for it.
 * Without a snapshot buffer, or with `foreground`, the writer is synchronous and has no thread:
 * submit saves before it returns.
 */
#ifndef QN_CHECKPOINT_WRITER_H
#define QN_CHECKPOINT_WRITER_H

#include "io/checkpoint.h"
#include "io/file.h"

typedef struct qn_writer qn_writer;

typedef struct qn_writer_options {
    const char *run_dir;
    int keep;              /* newest checkpoints that stay, >= 1; 0 = all */
    const qn_named *model; /* the live tensors; their addresses stay valid until finish */
    int n_model;
    const qn_named *state;
    int n_state;
    qn_device device;      /* that the tensors are on; a separate one needs the snapshot */
    void *snapshot;        /* on the host; NULL = synchronous */
    size_t snapshot_bytes; /* >= qn_writer_snapshot_bytes */
    bool foreground;
} qn_writer_options;

typedef struct qn_saved {
    int64_t step;
    bool announced;         /* it is on disk; error may still tell that tidying up failed */
    char path[QN_PATH_MAX]; /* its directory, when announced */
    qn_error error;
} qn_saved;

/* What a snapshot of these tensors needs (a class of the plan). */
size_t qn_writer_snapshot_bytes(const qn_named *model, int n_model, const qn_named *state,
                                int n_state);
/* The tensors' copies in a snapshot, one after the other; returns what is behind them. */
void *qn_writer_copies(const qn_named *live, int n, void *snapshot, qn_named *copies);

qn_status qn_writer_create(const qn_writer_options *o, qn_writer **out) QN_CHECKED;

/* Takes the snapshot and starts the save; info is copied. best_step (-1 = none) is protected from
 * tidying and linked as checkpoints/best. A failure of the save before, whose result nobody took,
 * is raised here instead, and nothing is started. */
qn_status qn_writer_submit(qn_writer *w, const qn_checkpoint_info *info,
                           int64_t best_step) QN_CHECKED;

/* Takes the result of the last finished save; false if there is none. wait: first lets a save in
 * flight end. Before anything else calls HDF5, wait. */
bool qn_writer_result(qn_writer *w, bool wait, qn_saved *out);

/* Lets a save in flight end, joins the thread and frees the writer. Raises the error of a save
 * whose result nobody took. NULL is legal. */
qn_status qn_writer_finish(qn_writer *w) QN_CHECKED;

#endif
