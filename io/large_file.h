/* large_file.h — files too large to read whole: mapped views, and files written piece by piece. */
#ifndef QN_LARGE_FILE_H
#define QN_LARGE_FILE_H

#include "engine/engine.h"

/* A read-only view of a regular file: mapped, or copied when it is small. */
typedef struct qni_view {
    char *path; /* of what is mapped: the file itself, or its unpacked copy in the cache */
    const unsigned char *bytes;
    int64_t size;
    bool mapped;
    uint64_t device, inode;
} qni_view;

/* Refuses what is not a regular file; never waits for a FIFO's writer. */
qn_status qni_view_open(const char *path, qni_view *out) QN_CHECKED;
void qni_view_close(qni_view *v);
/* QN_ERR_DATA if the file under a mapping has become shorter: touching the bytes would be
 * SIGBUS. */
qn_status qni_view_intact(const qni_view *v) QN_CHECKED;

/* A file written beside its final name: bytes go to a temporary name, commit syncs and renames. */
typedef struct qni_temp {
    char *path, *temporary;
    int fd;
} qni_temp;

qn_status qni_temp_open(const char *path, qni_temp *out) QN_CHECKED;
qn_status qni_temp_write(qni_temp *t, const void *bytes, size_t n) QN_CHECKED;
qn_status qni_temp_commit(qni_temp *t) QN_CHECKED; /* also the directory is synced */
void qni_temp_close(qni_temp *t); /* removes what was not committed; zeroed t is legal */

#endif
