/* large_file.c — files mapped to be read, and files streamed to a temporary name and renamed. */
#include "io/large_file.h"

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { COPY_BYTES = 64 << 10 }; /* smaller files are copied: no mapping each for a source tree */

/* ---- views ----------------------------------------------------------------------------------- */

static qn_status read_all(int fd, unsigned char *to, int64_t size, const char *path) {
    for (int64_t at = 0; at < size;) {
        ssize_t n = pread(fd, to + at, (size_t)(size - at), (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return qn_fail(QN_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
        if (n == 0) return qn_fail(QN_ERR_DATA, "%s: became shorter while it was read", path);
        at += n;
    }
    return QN_OK;
}

qn_status qni_view_open(const char *path, qni_view *out) {
    qn_status status = QN_OK;
    qni_view v = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return qn_fail(errno == ENOENT ? QN_ERR_DATA : QN_ERR_IO, "%s: cannot be opened: %s", path,
                       strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = qn_fail(QN_ERR_DATA, "%s: found something that is not a regular file", path);
        goto done;
    }
    v.size = st.st_size;
    v.device = (uint64_t)st.st_dev;
    v.inode = (uint64_t)st.st_ino;
    v.path = qn_strdup(path, "path");
    if (!v.path) {
        status = QN_ERR_OOM;
        goto done;
    }
    if (v.size <= COPY_BYTES) {
        unsigned char *copy = qn_alloc((size_t)v.size, path);
        v.bytes = copy;
        QN_TRY_GOTO(copy ? read_all(fd, copy, v.size, path) : QN_ERR_OOM);
    } else {
        void *p = mmap(NULL, (size_t)v.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            status = qn_fail(QN_ERR_IO, "%s: cannot be mapped: %s", path, strerror(errno));
            goto done;
        }
        v.bytes = p;
        v.mapped = true;
    }
    *out = v;
done:
    close(fd);
    if (status != QN_OK) qni_view_close(&v);
    return status;
}

void qni_view_close(qni_view *v) {
    if (v->mapped)
        munmap((void *)(uintptr_t)v->bytes, (size_t)v->size);
    else
        qn_free((void *)(uintptr_t)v->bytes);
    qn_free(v->path);
    *v = (qni_view){0};
}

qn_status qni_view_intact(const qni_view *v) {
    struct stat st;
    /* A file replaced under the same name leaves the mapped one whole. */
    if (!v->mapped || stat(v->path, &st) != 0 || (uint64_t)st.st_ino != v->inode ||
        (uint64_t)st.st_dev != v->device || st.st_size >= v->size)
        return QN_OK;
    return qn_fail(QN_ERR_DATA,
                   "%s: found %lld bytes, expected %lld: it became shorter during the run", v->path,
                   (long long)st.st_size, (long long)v->size);
}

/* ---- written files --------------------------------------------------------------------------- */

qn_status qni_temp_open(const char *path, qni_temp *out) {
    qni_temp t = {.fd = -1};
    t.path = qn_strdup(path, "path");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t.temporary = t.path ? qn_sprintf("%s.%ld-%09ld.tmp", path, (long)getpid(), now.tv_nsec) : NULL;
    qn_status status = t.temporary ? QN_OK : QN_ERR_OOM;
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    if (status == QN_OK && (t.fd = open(t.temporary, flags, 0666)) < 0) {
        status = qn_fail(QN_ERR_IO, "%s: cannot be created: %s", t.temporary, strerror(errno));
        qn_free(t.temporary);
        t.temporary = NULL;
    }
    *out = t;
    if (status != QN_OK) qni_temp_close(out);
    return status;
}

qn_status qni_temp_write(qni_temp *t, const void *bytes, size_t n) {
    return qn_file_write(t->fd, bytes, n, t->temporary);
}

static qn_status sync_directory(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? qn_sprintf("%.*s", (int)(slash - path) + 1, path) : qn_strdup(".", "path");
    qn_status status = dir ? qn_dir_sync(dir) : QN_ERR_OOM;
    qn_free(dir);
    return status;
}

qn_status qni_temp_commit(qni_temp *t) {
    int closed = -1;
    if (fsync(t->fd) == 0) {
        closed = close(t->fd);
        t->fd = -1;
    }
    if (closed != 0 || rename(t->temporary, t->path) != 0)
        return qn_fail(QN_ERR_IO, "%s: cannot be written: %s", t->path, strerror(errno));
    qn_free(t->temporary);
    t->temporary = NULL;
    return sync_directory(t->path);
}

void qni_temp_close(qni_temp *t) {
    if (t->temporary) {
        if (t->fd >= 0) close(t->fd);
        unlink(t->temporary);
    }
    qn_free(t->temporary);
    qn_free(t->path);
    *t = (qni_temp){.fd = -1};
}
