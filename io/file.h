/* file.h — files that are written whole or not at all, and read with a bound.
 *
 * Errors name the path, the action and the system's reason. A failed fsync is never repeated on the
 * same file: the kernel may have dropped the pages, and a second fsync would report success.
 */
#ifndef QN_FILE_H
#define QN_FILE_H

#include "engine/engine.h"

enum { QN_PATH_MAX = 4096 };

/* "path: action: reason" from errno; QN_ERR_OOM for ENOMEM, else QN_ERR_IO. */
qn_status qn_fail_errno(const char *path, const char *action) QN_CHECKED;

/* Writes a path into buffer; an error, never a cut, if it does not fit. */
qn_status qn_path_format(char *buffer, size_t size, const char *format, ...)
    QN_PRINTF(3, 4) QN_CHECKED;

bool qn_path_exists(const char *path); /* a dangling link exists */

/* Reads a regular file of at most `most` bytes; anything else (a directory, FIFO or device) is an
 * error and does not block. *data is qn_alloc'ed with a NUL after its *bytes bytes. */
qn_status qn_file_read(const char *path, int64_t most, char **data, int64_t *bytes) QN_CHECKED;

/* Writes all bytes at the descriptor's position; short writes and EINTR are continued. */
qn_status qn_file_write(int fd, const void *data, size_t bytes, const char *path) QN_CHECKED;

/* Closes *fd and sets it to -1; *fd < 0 is legal. The error matters only for files written to. */
qn_status qn_file_close(int *fd, const char *path) QN_CHECKED;

/* Creates `path` exclusively, writes, fsyncs and closes it; on failure it is unlinked. */
qn_status qn_file_create(const char *path, const void *data, size_t bytes) QN_CHECKED;

/* Puts the bytes in place of `path` atomically and durably: path.tmp, fsync, rename, fsync of the
 * directory. After a failure `path` is what it was. */
qn_status qn_file_replace(const char *path, const void *data, size_t bytes) QN_CHECKED;

/* Makes `link` a symbolic link to `target`, replacing a link that is there, atomically. */
qn_status qn_link_replace(const char *target, const char *link) QN_CHECKED;

/* Creates a directory and the parents it lacks, durably. An existing directory is no error. */
qn_status qn_dir_create(const char *path) QN_CHECKED;
qn_status qn_dir_sync(const char *path) QN_CHECKED; /* makes the names in it durable */

/* Removes a file or a directory with everything in it, following no link and entering no other file
 * system. Absent is no error. */
qn_status qn_tree_remove(const char *path) QN_CHECKED;

#endif
