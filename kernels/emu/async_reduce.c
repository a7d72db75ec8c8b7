/* async_reduce.c — the arithmetic of reducing copies: elements in memory become old OP new.
 *
 * f16 and bf16 are computed in f32 and rounded once. min and max take the number where the other
 * is NaN.
 */
#include <math.h>
#include <string.h>

#include "kernels/emu/async.h"
#include "kernels/emu/narrow.h"

static uint32_t bytes_of(qe_element type) {
    switch (type) {
    case QE_B8: return 1;
    case QE_F16:
    case QE_BF16: return 2;
    case QE_F64:
    case QE_U64:
    case QE_S64: return 8;
    default: return 4;
    }
}

bool qe_reduce_exists(qe_reduce_op op, qe_element type) {
    bool half = type == QE_F16 || type == QE_BF16;
    bool word = type == QE_U32 || type == QE_S32, wide = type == QE_U64 || type == QE_S64;
    switch (op) {
    case QE_COPY: return true;
    case QE_ADD: return type != QE_B8;
    case QE_MIN:
    case QE_MAX: return half || word || wide;
    case QE_INC:
    case QE_DEC: return type == QE_U32;
    default: return word || wide;
    }
}

static float reduce_float(qe_reduce_op op, float old, float x) {
    return op == QE_ADD ? old + x : op == QE_MIN ? fminf(old, x) : fmaxf(old, x);
}

static uint64_t reduce_integer(qe_reduce_op op, bool is_signed, uint64_t old, uint64_t x) {
    bool less = is_signed ? (int64_t)x < (int64_t)old : x < old;
    switch (op) {
    case QE_ADD: return old + x;
    case QE_MIN: return less ? x : old;
    case QE_MAX: return less ? old : x;
    case QE_INC: return old >= x ? 0 : old + 1;
    case QE_DEC: return old == 0 || old > x ? x : old - 1;
    case QE_AND: return old & x;
    case QE_OR: return old | x;
    case QE_XOR: return old ^ x;
    default: return x;
    }
}

static void reduce_16(qe_reduce_op op, qe_element type, char *to, const char *from) {
    uint16_t old, x;
    memcpy(&old, to, 2);
    memcpy(&x, from, 2);
    if (type == QE_F16)
        old = qe_to_f16(reduce_float(op, qe_from_f16(old), qe_from_f16(x)));
    else
        old = qe_to_bf16(reduce_float(op, qe_from_bf16(old), qe_from_bf16(x)));
    memcpy(to, &old, 2);
}

static void reduce_32(qe_reduce_op op, qe_element type, char *to, const char *from) {
    uint32_t old, x;
    memcpy(&old, to, 4);
    memcpy(&x, from, 4);
    if (type == QE_F32)
        old = qe_bits_of(reduce_float(op, qe_float_of(old), qe_float_of(x)));
    else if (type == QE_S32)
        old = (uint32_t)reduce_integer(op, true, (uint64_t)(int64_t)(int32_t)old,
                                       (uint64_t)(int64_t)(int32_t)x);
    else
        old = (uint32_t)reduce_integer(op, false, old, x);
    memcpy(to, &old, 4);
}

static void reduce_64(qe_reduce_op op, qe_element type, char *to, const char *from) {
    if (type == QE_F64) {
        double old, x;
        memcpy(&old, to, 8);
        memcpy(&x, from, 8);
        old += x;
        memcpy(to, &old, 8);
        return;
    }
    uint64_t old, x;
    memcpy(&old, to, 8);
    memcpy(&x, from, 8);
    old = reduce_integer(op, type == QE_S64, old, x);
    memcpy(to, &old, 8);
}

void qe_reduce(qe_reduce_op op, qe_element type, char *to, const char *from, uint32_t bytes) {
    if (op == QE_COPY) {
        memmove(to, from, bytes);
        return;
    }
    uint32_t size = bytes_of(type);
    for (uint32_t i = 0; i < bytes; i += size) {
        if (size == 2)
            reduce_16(op, type, to + i, from + i);
        else if (size == 4)
            reduce_32(op, type, to + i, from + i);
        else
            reduce_64(op, type, to + i, from + i);
    }
}
