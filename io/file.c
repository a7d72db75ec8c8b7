/* file.c — checked file operations. */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

qn_status qn_fail_errno(const char *path, const char *action) {
    int error = errno;
    const char *reason = strerrordesc_np(error);
    return qn_fail(error == ENOMEM ? QN_ERR_OOM : QN_ERR_IO, "%s: %s: %s", path, action,
                   reason ? reason : "unknown error");
}

qn_status qn_path_format(char *buffer, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(buffer, size, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < size) return QN_OK;
    return qn_fail(QN_ERR_IO, "path longer than %zu bytes: %.100s...", size - 1, buffer);
}

bool qn_path_exists(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0;
}

qn_status qn_file_read(const char *path, int64_t most, char **data, int64_t *bytes) {
    qn_status status = QN_OK;
    char *buffer = NULL;
    int64_t n = 0;
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return qn_fail_errno(path, "open");
    if (fstat(fd, &s) != 0) QN_TRY_GOTO(qn_fail_errno(path, "stat"));
    if (!S_ISREG(s.st_mode)) QN_TRY_GOTO(qn_fail(QN_ERR_IO, "%s: not a regular file", path));
    if (s.st_size > most) {
        QN_TRY_GOTO(qn_fail(QN_ERR_FORMAT, "%s: found %lld bytes, expected at most %lld", path,
                            (long long)s.st_size, (long long)most));
    }
    buffer = qn_alloc((size_t)s.st_size + 1, path);
    if (!buffer) QN_TRY_GOTO(QN_ERR_OOM);
    while (n < s.st_size) {
        ssize_t got = read(fd, buffer + n, (size_t)(s.st_size - n));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) QN_TRY_GOTO(qn_fail_errno(path, "read"));
        if (got == 0) break; /* it shrank meanwhile: what is there is what was read */
        n += got;
    }
    buffer[n] = '\0';
    *data = buffer;
    *bytes = n;
    buffer = NULL;
done:
    qn_free(buffer);
    close(fd);
    return status;
}

qn_status qn_file_write(int fd, const void *data, size_t bytes, const char *path) {
    for (const char *p = data; bytes;) {
        ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return qn_fail_errno(path, "write");
        p += n;
        bytes -= (size_t)n;
    }
    return QN_OK;
}

qn_status qn_file_close(int *fd, const char *path) {
    int old = *fd;
    *fd = -1;
    if (old >= 0 && close(old) != 0 && errno != EINTR) return qn_fail_errno(path, "close");
    return QN_OK;
}

/* Like create, but an old file of that name is overwritten: for names that are ours to lose. */
static qn_status write_synced(const char *path, int flags, const void *data, size_t bytes) {
    qn_status status = QN_OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0666);
    if (fd < 0) return qn_fail_errno(path, "create");
    QN_TRY_GOTO(qn_file_write(fd, data, bytes, path));
    if (fsync(fd) != 0) QN_TRY_GOTO(qn_fail_errno(path, "fsync"));
    status = qn_file_close(&fd, path);
done:
    if (fd >= 0) close(fd);
    if (status != QN_OK) unlink(path);
    return status;
}

qn_status qn_file_create(const char *path, const void *data, size_t bytes) {
    return write_synced(path, O_EXCL, data, bytes);
}

/* The directory part of path: "." without a slash, "/" for the root. No trailing slash is
 * expected. */
static qn_status parent_of(const char *path, char *parent, size_t size) {
    const char *slash = strrchr(path, '/');
    if (!slash) return qn_path_format(parent, size, ".");
    return qn_path_format(parent, size, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

qn_status qn_file_replace(const char *path, const void *data, size_t bytes) {
    char temporary[QN_PATH_MAX], parent[QN_PATH_MAX];
    QN_TRY(qn_path_format(temporary, sizeof temporary, "%s.tmp", path));
    QN_TRY(parent_of(path, parent, sizeof parent));
    QN_TRY(write_synced(temporary, O_TRUNC, data, bytes));
    if (rename(temporary, path) != 0) {
        qn_status status = qn_fail_errno(path, "rename");
        unlink(temporary);
        return status;
    }
    return qn_dir_sync(parent);
}

qn_status qn_link_replace(const char *target, const char *link) {
    char temporary[QN_PATH_MAX];
    QN_TRY(qn_path_format(temporary, sizeof temporary, "%s.tmp", link));
    if (unlink(temporary) != 0 && errno != ENOENT) return qn_fail_errno(temporary, "unlink");
    if (symlink(target, temporary) != 0) return qn_fail_errno(temporary, "symlink");
    if (rename(temporary, link) != 0) {
        qn_status status = qn_fail_errno(link, "rename");
        unlink(temporary);
        return status;
    }
    return QN_OK;
}

static qn_status create_one(const char *path) {
    struct stat s;
    char parent[QN_PATH_MAX];
    if (mkdir(path, 0777) == 0) {
        QN_TRY(parent_of(path, parent, sizeof parent));
        return qn_dir_sync(parent);
    }
    if (errno != EEXIST) return qn_fail_errno(path, "create directory");
    if (stat(path, &s) != 0) return qn_fail_errno(path, "stat");
    if (!S_ISDIR(s.st_mode)) return qn_fail(QN_ERR_IO, "%s: not a directory", path);
    return QN_OK;
}

qn_status qn_dir_create(const char *path) {
    char part[QN_PATH_MAX];
    QN_TRY(qn_path_format(part, sizeof part, "%s", path));
    for (char *slash = strchr(part + (part[0] == '/'), '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        QN_TRY(create_one(part));
        *slash = '/';
    }
    return create_one(part);
}

qn_status qn_dir_sync(const char *path) {
    qn_status status = QN_OK;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return qn_fail_errno(path, "open");
    if (fsync(fd) != 0) status = qn_fail_errno(path, "fsync");
    close(fd);
    return status;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *where) {
    (void)s;
    (void)where;
    return kind == FTW_DP ? rmdir(path) : unlink(path);
}

qn_status qn_tree_remove(const char *path) {
    if (nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && errno != ENOENT) {
        return qn_fail_errno(path, "remove");
    }
    return QN_OK;
}
