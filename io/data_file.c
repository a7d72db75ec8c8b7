/* data_file.c — one input file as bytes: mapped, unpacked if it is a .gz, digested. */
#include "io/data_parts.h"

#include <string.h>

static uint64_t digest(const unsigned char *bytes, int64_t size) {
    const int64_t whole = (int64_t)256 << 20, block = 64 << 10, blocks = 256;
    if (size <= whole) return XXH3_64bits(bytes, (size_t)size);
    uint64_t d = (uint64_t)size;
    for (int64_t i = 0; i < blocks; i++) {
        int64_t at = (size - block) / (blocks - 1) * i;
        if (i == blocks - 1) at = size - block;
        d = XXH3_64bits_withSeed(bytes + at, (size_t)block, d);
    }
    return d;
}

qn_status qni_file_open(const char *path, const char *relative, const char *cache_dir,
                        qni_file *out) {
    qn_status status = QN_OK;
    qni_file f = {0};
    size_t length = strlen(path);
    f.packed = length > 3 && strcmp(path + length - 3, ".gz") == 0;
    f.path = qn_strdup(path, "path");
    f.relative = f.path ? qn_strdup(relative, "path") : NULL;
    if (!f.relative) {
        status = QN_ERR_OOM;
        goto done;
    }
    length = strlen(f.relative);
    if (f.packed && length > 3) f.relative[length - 3] = '\0';
    QN_TRY_GOTO(qni_view_open(path, &f.view));
    f.device = f.view.device;
    f.inode = f.view.inode;
    f.size = f.view.size;
    if (f.packed) {
        qni_view content;
        QN_TRY_GOTO(qni_gzip_open(path, &f.view, cache_dir, &content, &f.size));
        qni_view_close(&f.view);
        f.view = content;
    }
    if (f.size == 0) {
        status = qn_fail(QN_ERR_DATA, "%s: the file is empty", path);
        goto done;
    }
    f.digest = digest(f.view.bytes, f.size);
    *out = f;
done:
    if (status != QN_OK) qni_file_close(&f);
    return status;
}

void qni_file_close(qni_file *f) {
    qni_view_close(&f->view);
    qn_free(f->own);
    qn_free(f->path);
    qn_free(f->relative);
    *f = (qni_file){0};
}
