/* data_gzip.c — .gz inputs: unpacked once into a cache keyed by the digest of the packed bytes.
 *
 * An entry is named by XXH3-128 of the packed file and holds the content followed by a trailer of
 * 48 bytes: magic, packed digest, content size, content digest (XXH3-128). It is written under a
 * temporary name, synced and renamed, so several processes may fill one cache. The whole digest is
 * checked at each opening; a damaged entry is replaced without a word, because nothing is lost.
 */
#include "io/data_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define ZLIB_CONST
#include <zlib.h>

typedef struct trailer {
    char magic[8];
    XXH128_canonical_t packed;
    uint64_t size;
    XXH128_canonical_t content;
} trailer;

_Static_assert(sizeof(trailer) == 48, "the trailer has no padding");

static const char magic[9] = "QNCACHE1";

enum { BUFFER_BYTES = 256 << 10, WINDOW_GZIP = 15 + 16 };

/* ---- the directory --------------------------------------------------------------------------- */

/* mkdir -p; what exists is fine. */
static bool make_directory(char *path) {
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        (void)mkdir(path, 0777); /* the last one tells */
        *p = '/';
    }
    return (mkdir(path, 0700) == 0 || errno == EEXIST) && access(path, W_OK | X_OK) == 0;
}

/* A directory in a place anybody may write to must be ours alone. */
static bool is_ours(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & 022) == 0;
}

qn_status qni_cache_directory(const char *stated, char **out) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"), *tmp = getenv("TMPDIR");
    for (int i = stated ? 3 : 0; i < 4; i++) {
        char *path = NULL;
        if (i == 0 && xdg && xdg[0] == '/')
            path = qn_sprintf("%s/quern", xdg);
        else if (i == 1 && home && home[0] == '/')
            path = qn_sprintf("%s/.cache/quern", home);
        else if (i == 2)
            path = qn_sprintf("%s/quern-cache-%ld", tmp && tmp[0] == '/' ? tmp : "/tmp",
                              (long)geteuid());
        else if (i == 3 && stated)
            path = qn_strdup(stated, "cache directory");
        else
            continue;
        if (!path) return QN_ERR_OOM;
        if (path[0] && make_directory(path) && (i != 2 || is_ours(path))) {
            *out = path;
            return QN_OK;
        }
        qn_free(path);
    }
    return qn_fail(QN_ERR_IO,
                   "cache of prepared data: %s cannot be written to; name a directory "
                   "that can with data.cache_dir",
                   stated ? stated : "none of $XDG_CACHE_HOME, $HOME/.cache and $TMPDIR");
}

/* ---- unpacking ------------------------------------------------------------------------------- */

static void *zlib_alloc(void *self, unsigned n, unsigned size) {
    (void)self;
    return qn_alloc((size_t)n * size, "gzip decoder");
}

static void zlib_free(void *self, void *p) {
    (void)self;
    qn_free(p);
}

static qn_status damaged(const char *path, const char *why) {
    return qn_fail(QN_ERR_FORMAT, "%s: gzip data is damaged: %s", path, why);
}

/* Gives zlib more input in pieces its 32-bit counters can hold. */
static void feed(z_stream *z, const unsigned char **next, int64_t *left) {
    if (z->avail_in > 0 || *left == 0) return;
    int64_t n = *left < 1 << 30 ? *left : 1 << 30;
    z->next_in = *next;
    z->avail_in = (unsigned)n;
    *next += n;
    *left -= n;
}

/* One call of inflate; *ended says that a member ended. */
static qn_status step(z_stream *z, const char *path, bool *ended) {
    int r = inflate(z, Z_NO_FLUSH);
    *ended = r == Z_STREAM_END;
    if (r == Z_OK || r == Z_STREAM_END) return QN_OK;
    if (r == Z_MEM_ERROR) return QN_ERR_OOM;
    if (r == Z_BUF_ERROR) return damaged(path, "it ends too early");
    return damaged(path, z->msg ? z->msg : "unknown error");
}

/* Content to `to`; its size and digest to the trailer's fields. */
static qn_status inflate_all(const char *path, const qni_view *packed, qni_temp *to, trailer *t) {
    qn_status status = QN_OK;
    z_stream z = {.zalloc = zlib_alloc, .zfree = zlib_free};
    const unsigned char *next = packed->bytes;
    int64_t left = packed->size;
    bool open = false, ended = false;
    XXH3_state_t hash;
    XXH3_128bits_reset(&hash);
    unsigned char *buffer = qn_alloc(BUFFER_BYTES, "gzip buffer");
    if (!buffer || inflateInit2(&z, WINDOW_GZIP) != Z_OK) {
        status = QN_ERR_OOM;
        goto done;
    }
    open = true;
    for (;;) {
        feed(&z, &next, &left);
        if (ended && z.avail_in == 0) break;
        if (ended && inflateReset(&z) != Z_OK) {
            status = qn_fail(QN_ERR_INTERNAL, "%s: inflateReset failed", path);
            goto done;
        }
        z.next_out = buffer;
        z.avail_out = BUFFER_BYTES;
        QN_TRY_GOTO(step(&z, path, &ended));
        size_t n = BUFFER_BYTES - z.avail_out;
        XXH3_128bits_update(&hash, buffer, n);
        t->size += n;
        QN_TRY_GOTO(qni_temp_write(to, buffer, n));
    }
    XXH128_canonicalFromHash(&t->content, XXH3_128bits_digest(&hash));
done:
    if (open) inflateEnd(&z);
    qn_free(buffer);
    return status;
}

static qn_status unpack(const char *path, const qni_view *packed, const char *entry, trailer t) {
    qni_temp temp;
    QN_TRY(qni_temp_open(entry, &temp));
    qn_status status = inflate_all(path, packed, &temp, &t);
    if (status == QN_OK) status = qni_temp_write(&temp, &t, sizeof t);
    if (status == QN_OK) status = qni_temp_commit(&temp);
    qni_temp_close(&temp);
    return status;
}

/* ---- entries --------------------------------------------------------------------------------- */

/* Whether the view is a whole entry of that packed digest. */
static bool is_whole(const qni_view *v, const trailer *want) {
    trailer t;
    int64_t size = v->size - (int64_t)sizeof t;
    if (size < 0) return false;
    memcpy(&t, v->bytes + size, sizeof t);
    if (memcmp(t.magic, want->magic, sizeof t.magic) != 0 || t.size != (uint64_t)size ||
        memcmp(&t.packed, &want->packed, sizeof t.packed) != 0)
        return false;
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits(v->bytes, (size_t)size));
    return memcmp(&digest, &t.content, sizeof digest) == 0;
}

/* *found tells whether *out is open. What cannot be opened counts as missing. */
static qn_status try_entry(const char *entry, const trailer *want, qni_view *out, bool *found) {
    struct stat st;
    *found = false;
    if (stat(entry, &st) != 0) return QN_OK;
    qn_status status = qni_view_open(entry, out);
    if (status != QN_OK) return status == QN_ERR_OOM ? status : QN_OK;
    *found = is_whole(out, want);
    if (!*found) qni_view_close(out);
    return QN_OK;
}

qn_status qni_gzip_open(const char *path, const qni_view *packed, const char *cache_dir,
                        qni_view *out, int64_t *size) {
    qn_status status = QN_OK;
    char *dir = NULL, *entry = NULL;
    bool found = false;
    trailer want = {.size = 0};
    if (packed->size < 2 || packed->bytes[0] != 0x1F || packed->bytes[1] != 0x8B)
        return qn_fail(QN_ERR_FORMAT, "%s: found no gzip header, expected one by its name", path);
    XXH128_hash_t key = XXH3_128bits(packed->bytes, (size_t)packed->size);
    memcpy(want.magic, magic, sizeof want.magic);
    XXH128_canonicalFromHash(&want.packed, key);

    QN_TRY_GOTO(qni_cache_directory(cache_dir, &dir));
    entry = qn_sprintf("%s/%016llx%016llx", dir, (unsigned long long)key.high64,
                       (unsigned long long)key.low64);
    if (!entry) {
        status = QN_ERR_OOM;
        goto done;
    }
    QN_TRY_GOTO(try_entry(entry, &want, out, &found));
    if (!found) {
        QN_TRY_GOTO(unpack(path, packed, entry, want));
        QN_TRY_GOTO(try_entry(entry, &want, out, &found));
        if (!found)
            status = qn_fail(QN_ERR_IO, "%s: its unpacked copy %s reads back wrong", path, entry);
    }
    if (found) *size = out->size - (int64_t)sizeof(trailer);
done:
    qn_free(dir);
    qn_free(entry);
    return status;
}
