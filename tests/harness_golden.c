/* harness_golden.c — reader of golden files; the format is told in tests/golden/golden_file.py. */
#include "tests/harness_golden.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct entry {
    char *name;
    qn_tensor t;
} entry;

struct qn_golden {
    unsigned char *bytes;
    size_t size;
    int n;
    entry *items;
};

/* Copies `size` bytes at *at and moves on; false at the end of the index. */
static bool take(const qn_golden *g, size_t end, size_t *at, void *to, size_t size) {
    if (size > end - *at) return false;
    memcpy(to, g->bytes + *at, size);
    *at += size;
    return true;
}

static bool read_entry(qn_golden *g, size_t end, size_t *at, entry *e) {
    uint16_t length;
    uint8_t dtype, ndim;
    int64_t shape[QN_MAX_DIMS], count = 1;
    uint64_t place;
    if (!take(g, end, at, &length, 2) || !take(g, end, at, &dtype, 1) ||
        !take(g, end, at, &ndim, 1)) {
        return false;
    }
    if (dtype >= QN_DTYPE_COUNT || ndim > QN_MAX_DIMS) return false;
    if (!take(g, end, at, shape, ndim * sizeof *shape) || !take(g, end, at, &place, 8))
        return false;
    for (int i = 0; i < ndim; i++) {
        if (!qn_mul_i64(count, shape[i], &count)) return false;
    }
    int64_t bytes;
    if (!qn_mul_i64(count, (int64_t)qn_dtype_bytes((qn_dtype)dtype), &bytes) || place % 8 ||
        place > g->size || (uint64_t)bytes > g->size - place) {
        return false;
    }
    e->name = qn_alloc((size_t)length + 1, "a golden file");
    if (!e->name || !take(g, end, at, e->name, length)) return false;
    e->t = qn_tensor_make(g->bytes + place, (qn_dtype)dtype, ndim, shape);
    return true;
}

static qn_status parse(qn_golden *g) {
    uint32_t head[2];
    size_t at = 8;
    if (g->size < 16 || memcmp(g->bytes, "QNGOLD1", 8) != 0 || !take(g, g->size, &at, head, 8)) {
        return qn_fail(QN_ERR_FORMAT, "not a golden file");
    }
    if (head[1] > g->size - 16 || head[0] > head[1] / 12) {
        return qn_fail(QN_ERR_FORMAT, "%u tensors in an index of %u bytes", head[0], head[1]);
    }
    g->items = qn_alloc(head[0] * sizeof *g->items, "a golden file");
    if (!g->items) return QN_ERR_OOM;
    for (uint32_t i = 0; i < head[0]; i++) {
        g->n++;
        if (!read_entry(g, 16 + head[1], &at, &g->items[i])) {
            return qn_fail(QN_ERR_FORMAT, "entry %u of %u is damaged", i, head[0]);
        }
    }
    return QN_OK;
}

static qn_status read_all(const char *path, qn_golden *g) {
    FILE *f = fopen(path, "rb");
    if (!f) return qn_fail(QN_ERR_IO, "cannot be opened");
    long size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    rewind(f);
    g->bytes = size >= 0 ? qn_alloc((size_t)size, "a golden file") : NULL;
    g->size = size > 0 ? (size_t)size : 0;
    bool read = g->bytes && fread(g->bytes, 1, g->size, f) == g->size;
    fclose(f);
    return read ? QN_OK : qn_fail(QN_ERR_IO, "cannot be read");
}

qn_status qn_golden_open(const char *path, qn_golden **out) {
    qn_golden *g = qn_alloc(sizeof *g, "a golden file");
    if (!g) return QN_ERR_OOM;
    qn_status s = read_all(path, g);
    if (s == QN_OK) s = parse(g);
    if (s != QN_OK) {
        qn_golden_close(g);
        return qn_fail_prefix(s, "%s", path);
    }
    *out = g;
    return QN_OK;
}

void qn_golden_close(qn_golden *g) {
    if (!g) return;
    for (int i = 0; i < g->n; i++) qn_free(g->items[i].name);
    qn_free(g->items);
    qn_free(g->bytes);
    qn_free(g);
}

int qn_golden_count(const qn_golden *g) { return g->n; }
const char *qn_golden_name(const qn_golden *g, int i) { return g->items[i].name; }

bool qn_golden_find(const qn_golden *g, const char *name, qn_tensor *out) {
    for (int i = 0; i < g->n; i++) {
        if (strcmp(g->items[i].name, name) == 0) {
            *out = g->items[i].t;
            return true;
        }
    }
    return false;
}

qn_status qn_golden_get(const qn_golden *g, qn_tensor *out, const char *format, ...) {
    char name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    if (qn_golden_find(g, name, out)) return QN_OK;
    return qn_fail(QN_ERR_DATA, "the golden file has no tensor \"%s\"", name);
}
