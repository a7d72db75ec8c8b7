/* data_idx.c — the IDX format (MNIST): bytes 0, 0, type, axes; a big-endian u32 for each axis; the
 * elements in row-major order, big-endian. */
#include "io/data.h"

#include <string.h>

static uint32_t load_u32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int width_of(int type) {
    switch (type) {
    case 0x08:
    case 0x09: return 1;
    case 0x0B: return 2;
    case 0x0C:
    case 0x0D: return 4;
    case 0x0E: return 8;
    default: return 0;
    }
}

qn_status qn_idx_parse(const void *bytes, int64_t size, qn_idx *out) {
    const unsigned char *p = bytes;
    qn_idx x = {0};
    if (size < 4 || p[0] != 0 || p[1] != 0 || (x.width = width_of(p[2])) == 0)
        return qn_fail(QN_ERR_FORMAT, "IDX file: found no IDX header (two zero bytes, type, axes)");
    x.type = p[2];
    x.ndim = p[3];
    if (x.ndim < 1 || x.ndim > QN_MAX_DIMS)
        return qn_fail(QN_ERR_FORMAT, "IDX file: found %d axes, expected 1 to %d", x.ndim,
                       QN_MAX_DIMS);
    int64_t header = 4 + 4 * x.ndim, elements = 1, data = 0;
    if (size < header)
        return qn_fail(QN_ERR_FORMAT, "IDX file: found %lld bytes, expected a header of %lld",
                       (long long)size, (long long)header);
    for (int i = 0; i < x.ndim; i++) {
        x.shape[i] = load_u32(p + 4 + 4 * i);
        if (x.shape[i] == 0) return qn_fail(QN_ERR_FORMAT, "IDX file: found axis %d of size 0", i);
        if (!qn_mul_i64(elements, x.shape[i], &elements))
            return qn_fail(QN_ERR_FORMAT,
                           "IDX file: found axes with more elements than can be counted");
    }
    if (!qn_mul_i64(elements, x.width, &data) || data != size - header)
        return qn_fail(
            QN_ERR_FORMAT,
            "IDX file: found %lld bytes after the header, expected %lld elements of %d bytes: "
            "it is truncated or not what it says",
            (long long)(size - header), (long long)elements, x.width);
    x.items = x.shape[0];
    x.per_item = elements / x.items;
    x.data = p + header;
    *out = x;
    return QN_OK;
}

bool qn_idx_is_float(const qn_idx *x) { return x->type == 0x0D || x->type == 0x0E; }

double qn_idx_get(const qn_idx *x, int64_t element) {
    const unsigned char *p = x->data + element * x->width;
    switch (x->type) {
    case 0x08: return p[0];
    case 0x09: return (signed char)p[0];
    case 0x0B: return (int16_t)(p[0] << 8 | p[1]);
    case 0x0C: return (int32_t)load_u32(p);
    case 0x0D: {
        uint32_t bits = load_u32(p);
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    default: {
        uint64_t bits = (uint64_t)load_u32(p) << 32 | load_u32(p + 4);
        double d;
        memcpy(&d, &bits, sizeof d);
        return d;
    }
    }
}
