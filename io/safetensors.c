/* safetensors.c — the header of a safetensors file, checked, and the elements behind it. */
#include "io/safetensors_parts.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 100000000, LENGTH_BYTES = 8, HEADER_DEPTH = 4 };

/* clang-format off */
const qni_safetensors_dtype qni_safetensors_dtypes[] = {
    {"BOOL", 8, false, QN_U8},         {"F4", 4, false, QN_U8},
    {"F6_E2M3", 6, false, QN_U8},      {"F6_E3M2", 6, false, QN_U8},
    {"U8", 8, true, QN_U8},            {"I8", 8, false, QN_U8},
    {"F8_E5M2", 8, false, QN_U8},      {"F8_E4M3", 8, false, QN_U8},
    {"F8_E8M0", 8, false, QN_U8},      {"F8_E4M3FNUZ", 8, false, QN_U8},
    {"F8_E5M2FNUZ", 8, false, QN_U8},  {"I16", 16, false, QN_U8},
    {"U16", 16, false, QN_U8},         {"F16", 16, true, QN_F16},
    {"BF16", 16, true, QN_BF16},       {"I32", 32, true, QN_I32},
    {"U32", 32, false, QN_U8},         {"F32", 32, true, QN_F32},
    {"C64", 64, false, QN_U8},         {"F64", 64, true, QN_F64},
    {"I64", 64, true, QN_I64},         {"U64", 64, false, QN_U8},
};
/* clang-format on */
const int qni_safetensors_dtype_count =
    (int)(sizeof qni_safetensors_dtypes / sizeof qni_safetensors_dtypes[0]);

static const qni_safetensors_dtype *find_dtype(const cJSON *value) {
    for (int i = 0; cJSON_IsString(value) && i < qni_safetensors_dtype_count; i++) {
        if (strcmp(value->valuestring, qni_safetensors_dtypes[i].name) == 0)
            return &qni_safetensors_dtypes[i];
    }
    return NULL;
}

/* ---- one entry ------------------------------------------------------------------------------- */

static qn_status refuse(const qn_safetensor *t, const char *what) {
    return qn_fail(QN_ERR_FORMAT, "%s: tensor \"%.200s\": %s", t->file, t->name, what);
}

/* The non-negative integers of an array, *n of them. */
static qn_status read_sizes(qn_setup *setup, const cJSON *array, const qn_safetensor *t,
                            const char *what, const int64_t **out, int64_t *n) {
    int64_t count = 0;
    const cJSON *c;
    if (!cJSON_IsArray(array)) return refuse(t, what);
    cJSON_ArrayForEach(c, array) count++;
    int64_t *sizes = qn_setup_alloc(setup, ((size_t)count + 1) * sizeof *sizes);
    if (!sizes) return QN_ERR_OOM;
    *n = 0;
    cJSON_ArrayForEach(c, array) {
        const qn_json_node *node = qn_json_node_of(c);
        if (!cJSON_IsNumber(c) || node->exact != QN_JSON_INT64 || node->integer < 0)
            return refuse(t, what);
        sizes[(*n)++] = node->integer;
    }
    *out = sizes;
    return QN_OK;
}

/* One member of the header; its data is at `buffer`, of `room` bytes. *begin and *end are not
 * compared with other tensors' yet. */
static qn_status read_entry(qn_setup *setup, const cJSON *entry, const unsigned char *buffer,
                            int64_t room, qn_safetensor *t) {
    if (!cJSON_IsObject(entry))
        return refuse(t, "found no object, expected dtype, shape and data_offsets");
    const qni_safetensors_dtype *d = find_dtype(qn_json_get(entry, "dtype"));
    if (!d) return refuse(t, "\"dtype\" is missing or not one of the format");
    t->dtype = d->name;
    t->known = d->known;
    t->type = d->type;
    QN_TRY(read_sizes(setup, qn_json_get(entry, "shape"), t,
                      "\"shape\" is not a list of non-negative integers", &t->shape, &t->ndim));
    const int64_t *offsets;
    int64_t n, bits;
    const char *what = "\"data_offsets\" are not two non-negative integers";
    QN_TRY(read_sizes(setup, qn_json_get(entry, "data_offsets"), t, what, &offsets, &n));
    if (n != 2) return refuse(t, what);
    t->count = 1;
    for (int64_t i = 0; i < t->ndim; i++) {
        if (!qn_mul_i64(t->count, t->shape[i], &t->count))
            return refuse(t, "the product of its shape overflows 64 bits");
    }
    if (!qn_mul_i64(t->count, d->bits, &bits))
        return refuse(t, "the product of its shape overflows 64 bits");
    if (bits % 8) return refuse(t, "its elements do not fill whole bytes");
    if (offsets[0] > offsets[1] || offsets[1] > room)
        return refuse(t, "its data_offsets are not inside the file");
    t->bytes = bits / 8;
    if (offsets[1] - offsets[0] != t->bytes)
        return refuse(t, "its data_offsets and its shape give different sizes");
    t->data = buffer + offsets[0];
    return QN_OK;
}

/* ---- a header -------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b) {
    const qn_safetensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors, sorted, must cover the buffer without gap or overlap. */
static qn_status check_tiling(const qn_safetensor *item, int64_t n, const unsigned char *buffer,
                              int64_t room, const char *path) {
    const unsigned char *at = buffer;
    for (int64_t i = 0; i < n; i++) {
        if (item[i].data != at)
            return refuse(&item[i], item[i].data > at ? "there is a gap before its data"
                                                      : "its data overlaps another tensor's");
        at += item[i].bytes;
    }
    if (at - buffer == room) return QN_OK;
    return qn_fail(QN_ERR_FORMAT, "%s: %lld bytes follow the last tensor, expected none", path,
                   (long long)(room - (at - buffer)));
}

static qn_status check_metadata(const cJSON *metadata, const char *path) {
    const cJSON *c;
    bool good = cJSON_IsObject(metadata);
    if (good) cJSON_ArrayForEach(c, metadata) good = good && cJSON_IsString(c);
    return good ? QN_OK
                : qn_fail(QN_ERR_FORMAT, "%s: \"__metadata__\" is not an object of strings", path);
}

static qn_status grow(qn_safetensors *s, int64_t more) {
    if (s->n + more <= s->capacity) return QN_OK;
    int64_t capacity = s->n + more + s->capacity;
    qn_safetensor *item = qn_realloc(s->item, (size_t)s->n * sizeof *item,
                                     (size_t)capacity * sizeof *item, "tensors of a file");
    if (!item) return QN_ERR_OOM;
    s->item = item;
    s->capacity = capacity;
    return QN_OK;
}

qn_status qni_safetensors_header(qn_safetensors *s, qni_safetensors_file *file,
                                 const unsigned char *bytes, int64_t size) {
    const char *path = file->path;
    uint64_t length = 0;
    if (size < LENGTH_BYTES)
        return qn_fail(QN_ERR_FORMAT,
                       "%s: found %lld bytes, expected a safetensors file of at least 8", path,
                       (long long)size);
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) length = length << 8 | bytes[i];
    if (length > HEADER_MAX)
        return qn_fail(QN_ERR_FORMAT,
                       "%s: found a header of %llu bytes, expected at most %d (is it a safetensors "
                       "file?)",
                       path, (unsigned long long)length, HEADER_MAX);
    if ((int64_t)length > size - LENGTH_BYTES)
        return qn_fail(QN_ERR_FORMAT, "%s: found %lld bytes, expected a header of %llu: cut short?",
                       path, (long long)size, (unsigned long long)length);
    const unsigned char *buffer = bytes + LENGTH_BYTES + length;
    int64_t room = size - LENGTH_BYTES - (int64_t)length, count = 0, first = s->n;
    const qn_json_options o = {.name = path, .max_bytes = HEADER_MAX, .max_depth = HEADER_DEPTH};
    cJSON *root;
    const cJSON *c;
    QN_TRY(qn_json_parse(s->setup, (const char *)bytes + LENGTH_BYTES, (size_t)length, &o, &root));
    if (!cJSON_IsObject(root))
        return qn_fail(QN_ERR_FORMAT, "%s: the header is no JSON object", path);
    cJSON_ArrayForEach(c, root) count++;
    QN_TRY(grow(s, count));
    cJSON_ArrayForEach(c, root) {
        if (strcmp(c->string, "__metadata__") == 0) {
            QN_TRY(check_metadata(c, path));
            file->metadata = c;
            continue;
        }
        qn_safetensor *t = &s->item[s->n];
        *t = (qn_safetensor){.name = c->string, .file = path};
        QN_TRY(read_entry(s->setup, c, buffer, room, t));
        s->n++;
    }
    if (s->n == first) return check_tiling(NULL, 0, buffer, room, path);
    qsort(s->item + first, (size_t)(s->n - first), sizeof *s->item, by_place);
    return check_tiling(s->item + first, s->n - first, buffer, room, path);
}

/* ---- elements -------------------------------------------------------------------------------- */

static double get(const unsigned char *p, qn_dtype dt) {
    uint16_t h;
    float f;
    double d;
    switch (dt) {
    case QN_F64: memcpy(&d, p, sizeof d); return d;
    case QN_F32: memcpy(&f, p, sizeof f); return (double)f;
    case QN_BF16: memcpy(&h, p, sizeof h); return (double)qn_bf16_to_f32(h);
    default: memcpy(&h, p, sizeof h); return (double)qn_f16_to_f32(h);
    }
}

/* Conversions that whole models go through, as loops that vectorise; false for any other. */
static bool convert_common(const unsigned char *p, qn_dtype from, int64_t count, qn_dtype to,
                           void *out) {
    float *f32 = out;
    uint16_t *bf16 = out;
    if (from == QN_BF16 && to == QN_F32) {
        for (int64_t i = 0; i < count; i++) {
            uint16_t h;
            memcpy(&h, p + 2 * i, sizeof h);
            f32[i] = qn_bf16_to_f32(h);
        }
    } else if (from == QN_F32 && to == QN_BF16) {
        for (int64_t i = 0; i < count; i++) {
            float f;
            memcpy(&f, p + 4 * i, sizeof f);
            bf16[i] = qn_f32_to_bf16(f);
        }
    } else if (from == QN_F16 && to == QN_F32) {
        for (int64_t i = 0; i < count; i++) {
            uint16_t h;
            memcpy(&h, p + 2 * i, sizeof h);
            f32[i] = qn_f16_to_f32(h);
        }
    } else {
        return false;
    }
    return true;
}

qn_status qn_safetensor_read(const qn_safetensor *t, int64_t first, int64_t count, qn_dtype to,
                             void *out) {
    char text[160];
    if (first < 0 || count < 0 || first > t->count - count)
        return qn_fail(QN_ERR_INTERNAL, "%s: elements %lld+%lld of %lld", t->name, (long long)first,
                       (long long)count, (long long)t->count);
    size_t width = t->known ? qn_dtype_bytes(t->type) : 0;
    if (t->known && t->type == to) {
        if (count) memcpy(out, t->data + (size_t)first * width, (size_t)count * width);
        return QN_OK;
    }
    if (!t->known || !qn_dtype_is_float(t->type) || !qn_dtype_is_float(to))
        return qn_fail(QN_ERR_DTYPE, "%s: tensor \"%.200s\": found %s, expected %s", t->file,
                       t->name, qn_safetensor_describe(t, text, sizeof text), qn_dtype_name(to));
    const unsigned char *p = t->data + (size_t)first * width;
    if (convert_common(p, t->type, count, to, out)) return QN_OK;
    const qn_tensor all = qn_tensor_make(out, to, 1, &count);
    for (int64_t i = 0; i < count; i++) qn_tensor_set(&all, i, get(p + (size_t)i * width, t->type));
    return QN_OK;
}

const char *qn_safetensor_describe(const qn_safetensor *t, char *text, size_t size) {
    qn_text shape = {0};
    qn_text_printf(&shape, "%s[", t->dtype);
    for (int64_t i = 0; i < t->ndim && i < 16; i++)
        qn_text_printf(&shape, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    qn_text_add(&shape, t->ndim > 16 ? ",...]" : "]");
    size_t n = shape.data ? strnlen(shape.data, size - 1) : 0;
    if (n) memcpy(text, shape.data, n);
    text[n] = '\0';
    qn_text_free(&shape);
    return text;
}
