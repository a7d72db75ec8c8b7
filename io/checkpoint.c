/* checkpoint.c — opening, finding and loading checkpoints: nothing is believed before its digest.
 */
#include "io/checkpoint_parts.h"

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct qn_checkpoint {
    qn_setup *memory; /* of the manifest */
    char path[QN_PATH_MAX];
    char file_path[QNI_FILES][QN_PATH_MAX];
    int fd[QNI_FILES]; /* -1 = not opened */
    qni_manifest manifest;
};

static const qn_checkpoint_parts part_of[QNI_FILES] = {QN_CHECKPOINT_MODEL, QN_CHECKPOINT_STATE};

static int file_of(qn_checkpoint_parts part) {
    return part == QN_CHECKPOINT_MODEL ? QNI_MODEL : QNI_STATE;
}

/* ---- opening --------------------------------------------------------------------------------- */

qn_status qni_hash_file(int fd, const char *path, int64_t *bytes, char hex[QN_SHA256_HEX]) {
    enum { BUFFER = 1 << 18 };
    char *buffer = qn_alloc(BUFFER, "reading a checkpoint");
    if (!buffer) return QN_ERR_OOM;
    qn_status status = QN_OK;
    qn_sha256 s;
    qn_sha256_init(&s);
    for (*bytes = 0;;) {
        ssize_t n = pread(fd, buffer, BUFFER, (off_t)*bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = qn_fail_errno(path, "read");
        if (n <= 0) break;
        qn_sha256_update(&s, buffer, (size_t)n);
        *bytes += n;
    }
    qn_sha256_final_hex(&s, hex);
    qn_free(buffer);
    return status;
}

/* The descriptor stays open: what was hashed is what HDF5 reads, and removing the name does no
 * harm. */
static qn_status open_file(qn_checkpoint *c, int f) {
    const char *path = c->file_path[f];
    char found[QN_SHA256_HEX];
    int64_t bytes;
    struct stat s;
    QN_TRY(qn_path_format(c->file_path[f], QN_PATH_MAX, "%s/%s", c->path, qni_file_name[f]));
    c->fd[f] = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (c->fd[f] < 0) return qn_fail_errno(path, "open");
    if (fstat(c->fd[f], &s) != 0) return qn_fail_errno(path, "stat");
    if (!S_ISREG(s.st_mode)) return qn_fail(QN_ERR_FORMAT, "%s: not a regular file", path);
    if (s.st_size != c->manifest.bytes[f]) {
        return qn_fail(QN_ERR_FORMAT, "%s: found %lld bytes, the manifest states %lld", path,
                       (long long)s.st_size, (long long)c->manifest.bytes[f]);
    }
    QN_TRY(qni_hash_file(c->fd[f], path, &bytes, found));
    if (bytes != s.st_size || strcmp(found, c->manifest.sha256[f]) != 0) {
        return qn_fail(QN_ERR_FORMAT, "%s: its SHA-256 is %s, the manifest states %s", path, found,
                       c->manifest.sha256[f]);
    }
    return QN_OK;
}

static qn_status read_manifest(qn_checkpoint *c) {
    char path[QN_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    QN_TRY(qn_path_format(path, sizeof path, "%s/manifest.json", c->path));
    QN_TRY(qn_file_read(path, QNI_MANIFEST_MAX, &text, &bytes));
    qn_status status = qni_manifest_parse(c->memory, path, text, (size_t)bytes, &c->manifest);
    qn_free(text);
    return status;
}

qn_status qn_checkpoint_open(const char *path, qn_checkpoint_parts parts, qn_checkpoint **out) {
    qn_status status = QN_OK;
    qn_checkpoint *c = qn_alloc(sizeof *c, "checkpoint");
    if (!c) return QN_ERR_OOM;
    for (int f = 0; f < QNI_FILES; f++) c->fd[f] = -1;
    QN_TRY_GOTO(qn_setup_create("checkpoint manifest", &c->memory));
    QN_TRY_GOTO(qn_path_format(c->path, sizeof c->path, "%s", path));
    QN_TRY_GOTO(read_manifest(c));
    for (int f = 0; f < QNI_FILES; f++) {
        if (parts & part_of[f]) QN_TRY_GOTO(open_file(c, f));
    }
    *out = c;
    c = NULL;
done:
    qn_checkpoint_close(c);
    return status;
}

void qn_checkpoint_close(qn_checkpoint *c) {
    if (!c) return;
    for (int f = 0; f < QNI_FILES; f++) {
        if (c->fd[f] >= 0) close(c->fd[f]);
    }
    qn_setup_free(c->memory);
    qn_free(c);
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Appends "; text"; cuts what does not fit. */
static void append(char *list, size_t size, const char *format, ...) QN_PRINTF(3, 4);
static void append(char *list, size_t size, const char *format, ...) {
    size_t n = strlen(list);
    if (n + 3 >= size) return;
    if (n) n += (size_t)snprintf(list + n, size - n, "; ");
    va_list args;
    va_start(args, format);
    vsnprintf(list + n, size - n, format, args);
    va_end(args);
}

/* Another run's or another step's files in this place are as bad as damaged ones. */
static qn_status open_step(const char *run_dir, const char *run_id, int64_t step,
                           qn_checkpoint_parts parts, qn_checkpoint **out) {
    char path[QN_PATH_MAX];
    qn_checkpoint *c = NULL;
    QN_TRY(qn_checkpoint_path(run_dir, step, path, sizeof path));
    QN_TRY(qn_checkpoint_open(path, parts, &c));
    const qn_checkpoint_info *info = &c->manifest.info;
    qn_status status = QN_OK;
    if (info->step != step) {
        status = qn_fail(QN_ERR_FORMAT, "%s: holds step %lld", path, (long long)info->step);
    } else if (run_id && strcmp(run_id, info->run_id) != 0) {
        status = qn_fail(QN_ERR_FORMAT, "%s: written by run %s, this is run %s", path, info->run_id,
                         run_id);
    }
    if (status == QN_OK) {
        *out = c;
        return QN_OK;
    }
    qn_checkpoint_close(c);
    return status;
}

qn_status qn_checkpoint_find(const char *run_dir, const char *run_id, int64_t at_most,
                             qn_checkpoint_parts parts, char *warning, size_t warning_size,
                             qn_checkpoint **out) {
    int64_t *steps = NULL;
    int n = 0, bad = 0;
    qn_status status = QN_OK;
    *out = NULL;
    warning[0] = '\0';
    QN_TRY(qn_checkpoint_list(run_dir, &steps, &n));
    for (int i = 0; i < n && !*out; i++) {
        if (steps[i] > at_most) continue;
        status = open_step(run_dir, run_id, steps[i], parts, out);
        if (status == QN_ERR_OOM) break; /* says nothing about the file */
        if (status == QN_OK) break;
        bad++;
        append(warning, warning_size, "checkpoint passed over: %s", qn_error_message());
    }
    qn_free(steps);
    if (*out || status == QN_ERR_OOM || bad == 0) return status;
    return qn_fail(QN_ERR_FORMAT, "%s: none of %d checkpoints can be used: %.700s", run_dir, bad,
                   warning);
}

const qn_checkpoint_info *qn_checkpoint_get_info(const qn_checkpoint *c) {
    return &c->manifest.info;
}
const char *qn_checkpoint_get_path(const qn_checkpoint *c) { return c->path; }
const qni_manifest *qni_checkpoint_manifest(const qn_checkpoint *c) { return &c->manifest; }

int qn_checkpoint_count(const qn_checkpoint *c, qn_checkpoint_parts part) {
    int f = file_of(part);
    return c->manifest.first[f + 1] - c->manifest.first[f];
}

qn_named qn_checkpoint_tensor(const qn_checkpoint *c, qn_checkpoint_parts part, int i) {
    const qni_entry *e = &c->manifest.entry[c->manifest.first[file_of(part)] + i];
    return (qn_named){e->name, e->t};
}

/* ---- loading --------------------------------------------------------------------------------- */

qn_status qni_checkpoint_hdf5(qn_checkpoint *c, int file, qni_hdf5 **out) {
    const qni_manifest *m = &c->manifest;
    if (c->fd[file] < 0) {
        return qn_fail(QN_ERR_INTERNAL, "%s: %s was not opened", c->path, qni_file_name[file]);
    }
    return qni_hdf5_open(c->fd[file], c->file_path[file], m->bytes[file], m->entry + m->first[file],
                         m->first[file + 1] - m->first[file], out);
}

/* Walks both sorted lists at once and lists every difference. */
static qn_status compare(const char *path, const qni_entry *file, int n_file, const qni_entry *want,
                         int n_want) {
    char list[800] = "", a[96], b[96];
    int differences = 0;
    for (int i = 0, j = 0; i < n_file || j < n_want;) {
        int order = i == n_file ? 1 : j == n_want ? -1 : strcmp(file[i].name, want[j].name);
        if (order < 0) {
            differences++;
            append(list, sizeof list, "unexpected %s", file[i++].name);
        } else if (order > 0) {
            differences++;
            append(list, sizeof list, "missing %s", want[j++].name);
        } else {
            const qn_tensor *x = &file[i++].t, *y = &want[j].t;
            if (x->dtype != y->dtype || !qn_tensor_same_shape(x, y)) {
                differences++;
                append(list, sizeof list, "%s is %s, expected %s", want[j].name,
                       qn_tensor_describe(x, a, sizeof a), qn_tensor_describe(y, b, sizeof b));
            }
            j++;
        }
    }
    if (!differences) return QN_OK;
    return qn_fail(QN_ERR_SHAPE, "%s: %d tensors differ from the model's: %s", path, differences,
                   list);
}

qn_status qn_checkpoint_load(qn_checkpoint *c, qn_checkpoint_parts part, const qn_named *tensors,
                             int n) {
    const int f = file_of(part);
    const qni_manifest *m = &c->manifest;
    qn_status status = QN_OK;
    qni_manifest want = {0};
    qni_hdf5 *h = NULL;
    QN_TRY(qni_entries_create(tensors, n, NULL, 0, &want));
    QN_TRY_GOTO(
        compare(c->path, m->entry + m->first[f], qn_checkpoint_count(c, part), want.entry, n));
    QN_TRY_GOTO(qni_checkpoint_hdf5(c, f, &h));
    for (int i = 0; i < n; i++) QN_TRY_GOTO(qni_hdf5_read(h, i, want.entry[i].t.data));
done:
    qni_hdf5_close(h);
    qn_free(want.entry);
    return status;
}

qn_status qn_checkpoint_resume(const char *run_dir, const char *run_id, const qn_named *model,
                               int n_model, const qn_named *state, int n_state, char *warning,
                               size_t warning_size, qn_checkpoint **out) {
    char passed[4 * QN_MESSAGE_MAX];
    warning[0] = '\0';
    for (int64_t at_most = INT64_MAX;;) {
        qn_checkpoint *c = NULL;
        *out = NULL;
        qn_status status = qn_checkpoint_find(run_dir, run_id, at_most, QN_CHECKPOINT_ALL, passed,
                                              sizeof passed, &c);
        if (passed[0]) append(warning, warning_size, "%s", passed);
        if (status != QN_OK) return status;
        if (!c && warning[0]) { /* the last one left failed while loading */
            return qn_fail(QN_ERR_FORMAT, "%s: no checkpoint can be used: %.700s", run_dir,
                           warning);
        }
        if (!c) return QN_OK;
        status = qn_checkpoint_load(c, QN_CHECKPOINT_MODEL, model, n_model);
        if (status == QN_OK) status = qn_checkpoint_load(c, QN_CHECKPOINT_STATE, state, n_state);
        if (status == QN_OK) {
            *out = c;
            return QN_OK;
        }
        at_most = c->manifest.info.step - 1;
        qn_checkpoint_close(c);
        if (status != QN_ERR_FORMAT && status != QN_ERR_IO) return status;
        append(warning, warning_size, "checkpoint passed over: %s", qn_error_message());
    }
}
