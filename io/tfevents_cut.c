/* tfevents_cut.c — cuts event files back to a step, for a run that resumes there. */
#include "io/tfevents.h"

#include "io/file.h"
#include "io/tfevents_record.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

/* Moves the records to keep to the front of the bytes and returns how many bytes they are. */
static size_t keep_records(char *bytes, size_t n, int64_t step) {
    size_t kept = 0, size, payload_bytes;
    const char *payload;
    for (size_t at = 0; (size = qni_record_read(bytes + at, n - at, &payload, &payload_bytes)) > 0;
         at += size) {
        int64_t s;
        if (!qni_event_step(payload, payload_bytes, &s) || s > step) continue;
        memmove(bytes + kept, bytes + at, size);
        kept += size;
    }
    return kept;
}

static qn_status cut_file(const char *path, int64_t step) {
    char *bytes = NULL;
    int64_t n = 0;
    qn_status status;
    QN_TRY_GOTO(qn_file_read(path, INT64_MAX / 2, &bytes, &n));
    size_t kept = keep_records(bytes, (size_t)n, step);
    if (kept < (size_t)n) QN_TRY_GOTO(qn_file_replace(path, bytes, kept));
done:
    qn_free(bytes);
    return status;
}

qn_status qn_tfevents_cut(const char *directory, int64_t step) {
    DIR *d = opendir(directory);
    if (!d) return errno == ENOENT ? QN_OK : qn_fail_errno(directory, "reading the directory");
    qn_status status = QN_OK;
    for (struct dirent *e; status == QN_OK && (e = readdir(d));) {
        char path[QN_PATH_MAX];
        size_t length = strlen(e->d_name);
        if (!strstr(e->d_name, "tfevents")) continue;
        status = qn_path_format(path, sizeof path, "%s/%s", directory, e->d_name);
        if (status != QN_OK) break;
        bool leftover = length > 4 && strcmp(e->d_name + length - 4, ".tmp") == 0;
        status = leftover ? qn_tree_remove(path) : cut_file(path, step);
    }
    closedir(d);
    return status;
}
