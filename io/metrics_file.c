/* metrics_file.c — append-only rows: one write each, cut back when they do not fit. */
#include "io/metrics_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool qni_write_all(int fd, const void *bytes, size_t n) {
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR) continue;
        if (done == 0) errno = ENOSPC;
        if (done <= 0) return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

/* Offset after the last newline before `end`; -1 if the file cannot be read. */
static int64_t last_line_end(int fd, int64_t end) {
    char block[4096];
    while (end > 0) {
        size_t n = end < (int64_t)sizeof block ? (size_t)end : sizeof block;
        if (pread(fd, block, n, end - (int64_t)n) != (ssize_t)n) return -1;
        const char *newline = memrchr(block, '\n', n);
        if (newline) return end - (int64_t)n + (newline - block) + 1;
        end -= (int64_t)n;
    }
    return 0;
}

qn_status qni_rows_open(const char *path, bool lines, const qn_sink *notices, qni_rows *out) {
    qni_rows f = {.fd = -1, .notices = notices};
    qn_status status = QN_ERR_OOM;
    struct stat info;
    if (!(f.path = qn_strdup(path, "a log path"))) goto fail;
    f.fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (f.fd < 0 || fstat(f.fd, &info) != 0) goto unusable;
    if (S_ISREG(info.st_mode)) {
        f.end = lines ? last_line_end(f.fd, info.st_size) : info.st_size;
        if (f.end < 0 || (f.end < info.st_size && ftruncate(f.fd, f.end) != 0)) goto unusable;
    }
    *out = f;
    return QN_OK;
unusable:
    status = qn_fail(QN_ERR_IO, "%s: cannot be opened for writing: %s", path, strerror(errno));
fail:
    if (f.fd >= 0) close(f.fd);
    qn_free(f.path);
    return status;
}

static void dropped(qni_rows *f, int64_t step, int reason) {
    if (f->lost++ > 0 || !f->notices) return;
    char text[512];
    snprintf(text, sizeof text, "%.300s: %s; rows are being dropped, training goes on", f->path,
             strerror(reason));
    qn_record record = {.step = step};
    f->notices->emit(f->notices->self, QN_EVENT_NOTE, &record, text);
}

void qni_rows_write(qni_rows *f, const qn_text *row, int64_t step) {
    if (row->status != QN_OK) {
        dropped(f, step, ENOMEM);
        return;
    }
    if (f->torn && ftruncate(f->fd, f->end) != 0) {
        f->lost++;
        return;
    }
    f->torn = false;
    if (qni_write_all(f->fd, row->data, row->length)) {
        f->end += (int64_t)row->length;
        return;
    }
    int reason = errno;
    f->torn = ftruncate(f->fd, f->end) != 0;
    dropped(f, step, reason);
}

void qni_rows_close(qni_rows *f) {
    if (f->fd >= 0) close(f->fd);
    qn_free(f->path);
    *f = (qni_rows){.fd = -1};
}
