/* tensor.c — strided views with run-time dtype, and the scalar conversions REF bodies use. */
#include "engine/engine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
    bool is_float;
} dtypes[QN_DTYPE_COUNT] = {
    [QN_F32] = {"f32", 4, true}, [QN_F64] = {"f64", 8, true},  [QN_BF16] = {"bf16", 2, true},
    [QN_F16] = {"f16", 2, true}, [QN_I32] = {"i32", 4, false}, [QN_I64] = {"i64", 8, false},
    [QN_U8] = {"u8", 1, false},
};

size_t qn_dtype_bytes(qn_dtype dt) { return dtypes[dt].bytes; }
const char *qn_dtype_name(qn_dtype dt) { return dtypes[dt].name; }
bool qn_dtype_is_float(qn_dtype dt) { return dtypes[dt].is_float; }

bool qn_dtype_parse(const char *name, qn_dtype *out) {
    for (int i = 0; i < QN_DTYPE_COUNT; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *out = (qn_dtype)i;
            return true;
        }
    }
    return false;
}

qn_tensor qn_tensor_make(void *data, qn_dtype dt, int ndim, const int64_t *shape) {
    qn_tensor t = {.data = data, .dtype = dt, .ndim = ndim};
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        t.shape[i] = shape[i];
        t.stride[i] = stride;
        stride *= shape[i];
    }
    return t;
}

int64_t qn_tensor_count(const qn_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

size_t qn_tensor_bytes(const qn_tensor *t) {
    return (size_t)qn_tensor_count(t) * dtypes[t->dtype].bytes;
}

bool qn_tensor_is_contiguous(const qn_tensor *t) {
    int64_t stride = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] == 0) return true;
        if (t->shape[i] != 1 && t->stride[i] != stride) return false;
        stride *= t->shape[i];
    }
    return true;
}

bool qn_tensor_same_shape(const qn_tensor *a, const qn_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++) {
        if (a->shape[i] != b->shape[i]) return false;
    }
    return true;
}

const char *qn_tensor_describe(const qn_tensor *t, char *buffer, size_t size) {
    int n = snprintf(buffer, size, "%s[", qn_dtype_name(t->dtype));
    for (int i = 0; i < t->ndim && n > 0 && (size_t)n < size; i++) {
        n += snprintf(buffer + n, size - (size_t)n, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    }
    if (n > 0 && (size_t)n < size) snprintf(buffer + n, size - (size_t)n, "]");
    return buffer;
}

int64_t qn_tensor_offset(const qn_tensor *t, int64_t index) {
    int64_t offset = 0;
    for (int i = t->ndim - 1; i >= 0; i--) {
        offset += index % t->shape[i] * t->stride[i];
        index /= t->shape[i];
    }
    return offset;
}

double qn_nan_plain(double v) { return isnan(v) ? (double)NAN : v; }

double qn_tensor_get(const qn_tensor *t, int64_t index) {
    int64_t o = qn_tensor_offset(t, index);
    switch (t->dtype) {
    case QN_F32: return (double)((const float *)t->data)[o];
    case QN_F64: return ((const double *)t->data)[o];
    case QN_BF16: return (double)qn_bf16_to_f32(((const uint16_t *)t->data)[o]);
    case QN_F16: return (double)qn_f16_to_f32(((const uint16_t *)t->data)[o]);
    case QN_I32: return (double)((const int32_t *)t->data)[o];
    case QN_I64: return (double)((const int64_t *)t->data)[o];
    case QN_U8: return (double)((const uint8_t *)t->data)[o];
    case QN_DTYPE_COUNT: break;
    }
    return NAN;
}

/* Double to bf16 in one rounding: going through float first could round twice. */
static uint16_t f64_to_bf16(double v) {
    float f = (float)v;
    if (isfinite(f) && (double)f != v) { /* make the float sticky: odd in its last bit */
        union {
            float f;
            uint32_t u;
        } b = {f};
        if (!(b.u & 1u)) {
            bool away = fabs((double)f) < fabs(v);
            b.u = away ? b.u | 1u : b.u - 1u;
            if (!away) b.u |= 1u;
            f = b.f;
        }
    }
    return qn_f32_to_bf16(f);
}

void qn_tensor_set(const qn_tensor *t, int64_t index, double v) {
    int64_t o = qn_tensor_offset(t, index);
    switch (t->dtype) {
    case QN_F32: ((float *)t->data)[o] = (float)v; break;
    case QN_F64: ((double *)t->data)[o] = v; break;
    case QN_BF16: ((uint16_t *)t->data)[o] = f64_to_bf16(v); break;
    case QN_F16: ((uint16_t *)t->data)[o] = qn_f32_to_f16((float)v); break;
    case QN_I32: ((int32_t *)t->data)[o] = (int32_t)v; break;
    case QN_I64: ((int64_t *)t->data)[o] = (int64_t)v; break;
    case QN_U8: ((uint8_t *)t->data)[o] = (uint8_t)v; break;
    case QN_DTYPE_COUNT: break;
    }
}

int64_t qn_tensor_get_int(const qn_tensor *t, int64_t index) {
    int64_t o = qn_tensor_offset(t, index);
    switch (t->dtype) {
    case QN_I32: return ((const int32_t *)t->data)[o];
    case QN_I64: return ((const int64_t *)t->data)[o];
    case QN_U8: return ((const uint8_t *)t->data)[o];
    default: return (int64_t)qn_tensor_get(t, index);
    }
}

float qn_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    union {
        uint32_t u;
        float f;
    } v;
    if (exponent == 0) {
        v.f = (float)mantissa * 0x1p-24f;
        v.u |= sign;
    } else if (exponent == 31) {
        v.u = sign | 0x7F800000u | mantissa << 13;
    } else {
        v.u = sign | (exponent + 112) << 23 | mantissa << 13;
    }
    return v.f;
}

uint16_t qn_f32_to_f16(float f) {
    union {
        float f;
        uint32_t u;
    } v = {f};
    uint32_t sign = (v.u >> 16) & 0x8000u, a = v.u & 0x7FFFFFFFu;
    if (a > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (a >> 13 & 0x1FFu));
    if (a >= 0x47800000u) return (uint16_t)(sign | 0x7C00u); /* 65536 and up, inf */
    if (a < 0x38800000u) {                                   /* below 2^-14: subnormal */
        union {
            uint32_t u;
            float f;
        } m = {a};
        m.f *= 0x1p24f; /* exact: units of the smallest f16 subnormal */
        return (uint16_t)(sign | (uint32_t)lrintf(m.f)); /* ties to even */
    }
    uint32_t r = a - 0x38000000u;
    return (uint16_t)(sign | ((r + 0xFFFu + ((r >> 13) & 1u)) >> 13));
}
