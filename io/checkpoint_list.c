/* checkpoint_list.c — which checkpoints a run has, and which of them stay. */
#include "io/checkpoint.h"

#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "step-00000040" and nothing else: names are compared with what a save would call it. */
static bool parse_step(const char *name, int64_t *step) {
    char again[64];
    if (strncmp(name, "step-", 5) != 0 || strlen(name) > 25) return false;
    *step = strtoll(name + 5, NULL, 10);
    snprintf(again, sizeof again, "step-%08lld", (long long)*step);
    return *step >= 0 && strcmp(name, again) == 0;
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

qn_status qn_checkpoint_list(const char *run_dir, int64_t **steps, int *n) {
    qn_status status = QN_OK;
    char parent[QN_PATH_MAX];
    size_t count = 0, capacity = 0;
    int64_t *list = NULL, step;
    *steps = NULL;
    *n = 0;
    QN_TRY(qn_path_format(parent, sizeof parent, "%s/checkpoints", run_dir));
    DIR *d = opendir(parent);
    if (!d) return errno == ENOENT ? QN_OK : qn_fail_errno(parent, "open");
    for (struct dirent *e; (e = readdir(d));) {
        if (!parse_step(e->d_name, &step)) continue;
        if (count == capacity) {
            size_t more = capacity ? 2 * capacity : 16;
            int64_t *grown = qn_realloc(list, capacity * sizeof *list, more * sizeof *list,
                                        "list of checkpoints");
            if (!grown) QN_TRY_GOTO(QN_ERR_OOM);
            list = grown;
            capacity = more;
        }
        list[count++] = step;
    }
    if (count > 1) qsort(list, count, sizeof *list, newest_first);
    *steps = list;
    *n = (int)count;
    list = NULL;
done:
    qn_free(list);
    closedir(d);
    return status;
}

static bool contains(const int64_t *list, int n, int64_t step) {
    for (int i = 0; i < n; i++) {
        if (list[i] == step) return true;
    }
    return false;
}

/* Out of sight in one step, so that a kill while files go away leaves no half checkpoint behind. */
static qn_status remove_checkpoint(const char *run_dir, int64_t step) {
    char path[QN_PATH_MAX], gone[QN_PATH_MAX];
    QN_TRY(qn_checkpoint_path(run_dir, step, path, sizeof path));
    QN_TRY(qn_path_format(gone, sizeof gone, "%s.gone.tmp", path));
    QN_TRY(qn_tree_remove(gone));
    if (rename(path, gone) != 0) return qn_fail_errno(path, "rename");
    return qn_tree_remove(gone);
}

static qn_status verify(const char *run_dir, int64_t step) {
    char path[QN_PATH_MAX];
    qn_checkpoint *c = NULL;
    QN_TRY(qn_checkpoint_path(run_dir, step, path, sizeof path));
    QN_TRY(qn_checkpoint_open(path, QN_CHECKPOINT_ALL, &c));
    qn_checkpoint_close(c);
    return QN_OK;
}

qn_status qn_checkpoint_retain(const char *run_dir, int keep, const int64_t *protect,
                               int n_protect) {
    int64_t *steps = NULL;
    int n = 0;
    if (keep < 1) return qn_fail(QN_ERR_INTERNAL, "checkpoint: keep is %d, expected >= 1", keep);
    QN_TRY(qn_checkpoint_list(run_dir, &steps, &n));
    qn_status status = n > keep ? QN_ERR_FORMAT : QN_OK;
    for (int i = 0; i < keep && status == QN_ERR_FORMAT; i++) status = verify(run_dir, steps[i]);
    if (status != QN_OK) status = qn_fail_prefix(status, "no old checkpoint is removed");
    for (int i = keep; i < n && status == QN_OK; i++) {
        if (contains(protect, n_protect, steps[i])) continue;
        status = remove_checkpoint(run_dir, steps[i]);
    }
    qn_free(steps);
    return status;
}

qn_status qn_checkpoint_set_aside(const char *run_dir, int64_t step) {
    int64_t *steps = NULL;
    int n = 0;
    QN_TRY(qn_checkpoint_list(run_dir, &steps, &n));
    qn_status status = QN_OK;
    for (int i = 0; i < n && steps[i] > step && status == QN_OK; i++) {
        char path[QN_PATH_MAX], aside[QN_PATH_MAX];
        status = qn_checkpoint_path(run_dir, steps[i], path, sizeof path);
        if (status == QN_OK) status = qn_path_format(aside, sizeof aside, "%s.aside", path);
        if (status == QN_OK) status = qn_tree_remove(aside);
        if (status == QN_OK && rename(path, aside) != 0) status = qn_fail_errno(path, "rename");
    }
    qn_free(steps);
    return status;
}
