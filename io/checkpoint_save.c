/* checkpoint_save.c — the save protocol: write aside, fsync, rename, fsync, announce. */
#include "io/checkpoint_parts.h"

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static qn_status check_info(const qn_checkpoint_info *info) {
    const char *id = info->run_id ? info->run_id : "";
    if (strlen(id) != 32 || strspn(id, "0123456789abcdef") != 32) {
        return qn_fail(QN_ERR_INTERNAL,
                       "checkpoint: run id: expected 32 hexadecimal digits, found \"%.40s\"", id);
    }
    if (info->step < 0 || info->step > QNI_STEP_MAX || info->world_size < 1) {
        return qn_fail(QN_ERR_INTERNAL, "checkpoint: step %lld of world size %d is impossible",
                       (long long)info->step, info->world_size);
    }
    return QN_OK;
}

qn_status qn_checkpoint_path(const char *run_dir, int64_t step, char *path, size_t size) {
    return qn_path_format(path, size, "%s/checkpoints/step-%08lld", run_dir, (long long)step);
}

/* The descriptor is open before HDF5 writes and until the fsync, so that the fsync reports every
 * failed write-back of the file. */
static qn_status write_tensors(const char *dir, int file, qni_manifest *m) {
    qn_status status = QN_OK;
    char path[QN_PATH_MAX];
    QN_TRY(qn_path_format(path, sizeof path, "%s/%s", dir, qni_file_name[file]));
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return qn_fail_errno(path, "create");
    int first = m->first[file];
    QN_TRY_GOTO(qni_hdf5_write(fd, path, m->entry + first, m->first[file + 1] - first));
    QN_TRY_GOTO(qni_hash_file(fd, path, &m->bytes[file], m->sha256[file]));
    if (fsync(fd) != 0) QN_TRY_GOTO(qn_fail_errno(path, "fsync"));
    status = qn_file_close(&fd, path);
done:
    if (fd >= 0) close(fd);
    return status;
}

static qn_status write_manifest(const char *dir, const qni_manifest *m) {
    char path[QN_PATH_MAX], *text = NULL;
    size_t bytes = 0;
    QN_TRY(qn_path_format(path, sizeof path, "%s/manifest.json", dir));
    QN_TRY(qni_manifest_write(m, &text, &bytes));
    qn_status status = QN_OK;
    if (bytes > QNI_MANIFEST_MAX) {
        status = qn_fail(QN_ERR_UNSUPPORTED, "%s: found %zu bytes, expected at most %d", path,
                         bytes, QNI_MANIFEST_MAX);
    }
    if (status == QN_OK) status = qn_file_create(path, text, bytes);
    qn_free(text);
    return status;
}

static qn_status write_all(const char *dir, qni_manifest *m) {
    if (mkdir(dir, 0777) != 0) return qn_fail_errno(dir, "create directory");
    for (int f = 0; f < QNI_FILES; f++) QN_TRY(write_tensors(dir, f, m));
    QN_TRY(write_manifest(dir, m));
    return qn_dir_sync(dir);
}

/* Exchanges two directories: atomically where the file system can, else so that `b` is missing only
 * between two renames. */
static qn_status exchange(const char *a, const char *b) {
    char between[QN_PATH_MAX];
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0) return QN_OK;
    if (errno != EINVAL && errno != ENOSYS) return qn_fail_errno(b, "rename");
    QN_TRY(qn_path_format(between, sizeof between, "%s.old.tmp", b));
    QN_TRY(qn_tree_remove(between));
    if (rename(b, between) != 0) return qn_fail_errno(b, "rename");
    if (rename(a, b) != 0) {
        qn_status status = qn_fail_errno(b, "rename");
        (void)rename(between, b);
        return status;
    }
    return rename(between, a) == 0 ? QN_OK : qn_fail_errno(a, "rename");
}

/* From here on the checkpoint exists. If its name cannot be made durable it is taken back. */
static qn_status publish(const char *temporary, const char *final, const char *parent) {
    bool replaces = false;
    if (rename(temporary, final) != 0) {
        if (errno != ENOTEMPTY && errno != EEXIST) return qn_fail_errno(final, "rename");
        QN_TRY(exchange(temporary, final));
        replaces = true;
    }
    qn_status status = qn_dir_sync(parent);
    if (status != QN_OK) {
        qn_error error;
        qn_error_get(status, &error);
        if (replaces ? exchange(temporary, final) != QN_OK : rename(final, temporary) != 0) {
            return qn_fail_prefix(qn_error_raise(&error), "%s: left in place, but not durable",
                                  final);
        }
        return qn_error_raise(&error);
    }
    return QN_OK;
}

static void point_last_at(const char *parent, const char *final) {
    char link[QN_PATH_MAX];
    qn_status hint = qn_path_format(link, sizeof link, "%s/last", parent);
    if (hint == QN_OK) hint = qn_link_replace(strrchr(final, '/') + 1, link);
    (void)hint; /* nothing reads it */
}

/* The whole protocol for one directory, whose parent exists. */
static qn_status save_as(const char *final, const char *parent, const qn_checkpoint_info *info,
                         const qn_named *model, int n_model, const qn_named *state, int n_state) {
    qn_status status = QN_OK;
    char temporary[QN_PATH_MAX];
    qni_manifest m = {.info = *info};
    QN_TRY(check_info(info));
    QN_TRY(qn_path_format(temporary, sizeof temporary, "%s.tmp", final));
    QN_TRY(qni_entries_create(model, n_model, state, n_state, &m));
    QN_TRY_GOTO(qn_tree_remove(temporary));
    QN_TRY_GOTO(write_all(temporary, &m));
    QN_TRY_GOTO(publish(temporary, final, parent));
done:;
    /* What a failed save wrote, or the checkpoint that this one replaced. */
    qn_error error;
    qn_error_get(status, &error);
    qn_status swept = qn_tree_remove(temporary);
    (void)swept; /* else the next open of the run directory does it */
    qn_free(m.entry);
    return qn_error_raise(&error);
}

qn_status qn_checkpoint_save(const char *run_dir, const qn_checkpoint_info *info,
                             const qn_named *model, int n_model, const qn_named *state, int n_state,
                             char *path_out, size_t path_size) {
    char parent[QN_PATH_MAX], final[QN_PATH_MAX];
    QN_TRY(qn_path_format(parent, sizeof parent, "%s/checkpoints", run_dir));
    QN_TRY(qn_checkpoint_path(run_dir, info->step, final, sizeof final));
    if (path_out) QN_TRY(qn_path_format(path_out, path_size, "%s", final));
    QN_TRY(qn_dir_create(parent));
    QN_TRY(save_as(final, parent, info, model, n_model, state, n_state));
    point_last_at(parent, final);
    return QN_OK;
}

qn_status qn_checkpoint_export(const char *run_dir, const qn_checkpoint_info *info,
                               const qn_named *model, int n_model) {
    char final[QN_PATH_MAX];
    QN_TRY(qn_path_format(final, sizeof final, "%s/final", run_dir));
    return save_as(final, run_dir, info, model, n_model, NULL, 0);
}

qn_status qn_checkpoint_mark_best(const char *run_dir, int64_t step) {
    char path[QN_PATH_MAX], link[QN_PATH_MAX];
    QN_TRY(qn_checkpoint_path(run_dir, step, path, sizeof path));
    QN_TRY(qn_path_format(link, sizeof link, "%s/checkpoints/best", run_dir));
    if (qn_path_exists(path)) return qn_link_replace(strrchr(path, '/') + 1, link);
    if (unlink(link) != 0 && errno != ENOENT) return qn_fail_errno(link, "unlink");
    return QN_OK;
}
