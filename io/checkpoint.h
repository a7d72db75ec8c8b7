/* checkpoint.h — a training state on disk that can be trusted or is refused.
 *
 * RUN/checkpoints/step-00000040/
 *     model.h5        tensors that predict and generate need
 *     state.h5        what training needs besides: masters, moments, buffers
 *     manifest.json   run id, step, size and SHA-256 of both files, XXH3-128 of every tensor,
 * texts; its last line is the SHA-256 of everything before it
 *
 * A save writes a fresh step-N.tmp, fsyncs files and directory, renames, fsyncs the parent; only
 * then is it announced. A load checks the manifest, the sizes and the SHA-256 before libhdf5 sees a
 * byte, then structure, then every tensor's own digest. A checkpoint is trusted input like a
 * program: the digests find accidents, not an attacker who rewrites all three files.
 *
 * HDF5 is not re-entrant: one thread at a time may be inside save, load, inspect or a writer's
 * save.
 */
#ifndef QN_CHECKPOINT_H
#define QN_CHECKPOINT_H

#include "engine/engine.h"

enum { QN_CHECKPOINT_VERSION = 1, QN_CHECKPOINT_NAME_MAX = 256 };

/* A tensor by its dotted path, unique within its list: 1 to 255 printable ASCII characters without
 * space, '/', '"' and '\', and not ".". Data is contiguous and in host memory. */
typedef struct qn_named {
    const char *name;
    qn_tensor t;
} qn_named;

typedef struct qn_checkpoint_info {
    const char *run_id; /* 32 hexadecimal digits */
    int64_t step;       /* optimizer steps done, 0 .. 10^15 */
    int world_size;     /* ranks of the run that saved */
    /* UTF-8 texts, opaque here; NULL counts as "". */
    const char *state;    /* what besides the tensors determines the next step: in the digest */
    const char *metadata; /* what else the run needs (vocabulary, resolved config): not in it */
    const char *config_digest;
    const char *build_id;
} qn_checkpoint_info;

/* ---- saving (checkpoint_save.c) -------------------------------------------------------------- */

/* Saves and announces: on QN_OK the checkpoint is durable and *path_out (if not NULL) is its
 * directory. On failure nothing of it is left, and what was there is what it was. A checkpoint of
 * the same step is replaced. Also points checkpoints/last at it (a hint for people, never read). */
qn_status qn_checkpoint_save(const char *run_dir, const qn_checkpoint_info *info,
                             const qn_named *model, int n_model, const qn_named *state, int n_state,
                             char *path_out, size_t path_size) QN_CHECKED;

/* Saves the model alone to RUN/final, by the same protocol: what predict, generate and export
 * read. */
qn_status qn_checkpoint_export(const char *run_dir, const qn_checkpoint_info *info,
                               const qn_named *model, int n_model) QN_CHECKED;

/* RUN/checkpoints/step-N */
qn_status qn_checkpoint_path(const char *run_dir, int64_t step, char *path, size_t size) QN_CHECKED;

/* Points checkpoints/best at a step's checkpoint if there is one; otherwise removes the link. */
qn_status qn_checkpoint_mark_best(const char *run_dir, int64_t step) QN_CHECKED;

/* ---- what is there (checkpoint_list.c) ------------------------------------------------------- */

/* Steps of the directories step-N, newest first, good or not; free *steps with qn_free. */
qn_status qn_checkpoint_list(const char *run_dir, int64_t **steps, int *n) QN_CHECKED;

/* Removes all but the newest `keep` (>= 1) and those in `protect`. Removes nothing unless one of
 * the `keep` newest verifies: the newest good checkpoint always stays. */
qn_status qn_checkpoint_retain(const char *run_dir, int keep, const int64_t *protect,
                               int n_protect) QN_CHECKED;

/* Renames checkpoints newer than `step` to step-N.aside, where nothing finds them: after resuming
 * from an older one they belong to a course of training that is no longer this run's. */
qn_status qn_checkpoint_set_aside(const char *run_dir, int64_t step) QN_CHECKED;

/* ---- loading (checkpoint.c) ------------------------------------------------------------------ */

typedef struct qn_checkpoint qn_checkpoint; /* one that verified, its files held open */

typedef enum qn_checkpoint_parts {
    QN_CHECKPOINT_MODEL = 1,
    QN_CHECKPOINT_STATE = 2,
    QN_CHECKPOINT_ALL = 3,
} qn_checkpoint_parts;

/* Opens one directory: manifest, then size and SHA-256 of the files of `parts`. QN_ERR_FORMAT if
 * anything is not as it was written, QN_ERR_IO if it cannot be read. */
qn_status qn_checkpoint_open(const char *path, qn_checkpoint_parts parts,
                             qn_checkpoint **out) QN_CHECKED;
void qn_checkpoint_close(qn_checkpoint *c); /* NULL is legal */

/* Opens the newest good one of steps <= at_most (INT64_MAX = any) written by this run (run_id NULL
 * = any run). Those passed over are named in `warning`, "" if none. No checkpoint at all: QN_OK and
 * *out = NULL. Some, but none good: QN_ERR_FORMAT. */
qn_status qn_checkpoint_find(const char *run_dir, const char *run_id, int64_t at_most,
                             qn_checkpoint_parts parts, char *warning, size_t warning_size,
                             qn_checkpoint **out) QN_CHECKED;

/* Strings live as long as c. */
const qn_checkpoint_info *qn_checkpoint_get_info(const qn_checkpoint *c);
const char *qn_checkpoint_get_path(const qn_checkpoint *c);

/* The tensors of the parts opened, in order of name; data is NULL. */
int qn_checkpoint_count(const qn_checkpoint *c, qn_checkpoint_parts part);
qn_named qn_checkpoint_tensor(const qn_checkpoint *c, qn_checkpoint_parts part, int i);

/* Fills the tensors of one part. Names, dtypes and shapes must be exactly those of the checkpoint:
 * QN_ERR_SHAPE lists every one that is missing, unexpected or different, and nothing is written.
 * After another failure (QN_ERR_FORMAT, QN_ERR_IO) the tensors' contents are undefined. */
qn_status qn_checkpoint_load(qn_checkpoint *c, qn_checkpoint_parts part, const qn_named *tensors,
                             int n) QN_CHECKED;

/* find + load of both parts; a checkpoint that fails while loading is passed over like one that
 * does not verify. QN_ERR_SHAPE is not: it means that the model differs, not the file. */
qn_status qn_checkpoint_resume(const char *run_dir, const char *run_id, const qn_named *model,
                               int n_model, const qn_named *state, int n_state, char *warning,
                               size_t warning_size, qn_checkpoint **out) QN_CHECKED;

/* ---- looking (checkpoint_inspect.c) ---------------------------------------------------------- */

enum { QN_DIGEST_SIZE = 65 };

/* SHA-256 (hexadecimal) of everything that determines the next step: step, state text, and name,
 * dtype, shape and XXH3-128 of every tensor in order of name. Not run id, times, world size,
 * metadata or build. The first form reads the manifest of a checkpoint, the second the live
 * tensors; they agree. */
qn_status qn_checkpoint_digest(const qn_checkpoint *c, char digest[QN_DIGEST_SIZE]) QN_CHECKED;
qn_status qn_state_digest(int64_t step, const char *state_text, const qn_named *model, int n_model,
                          const qn_named *state, int n_state,
                          char digest[QN_DIGEST_SIZE]) QN_CHECKED;

/* Loads every tensor in turn and describes it: dtype, shape, min, max, mean, rms over the finite
 * elements and the number of others. A table for people, or one JSON object. */
qn_status qn_checkpoint_inspect(qn_checkpoint *c, bool json, char **text) QN_CHECKED;

#endif
