/* emu_numbers.h — the element types of tensor cores as their definitions have them: sign, exponent
 * and mantissa, by arithmetic.
 */
#ifndef EMU_NUMBERS_H
#define EMU_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/machine.h"

static inline uint32_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float bits_float(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* An integer of low..high, always the same sequence. */
static inline double whole(int low, int high) {
    static uint32_t x = 12345;
    x = x * 1664525u + 1013904223u;
    return (double)(low + (int)((x >> 8) % (uint32_t)(high - low + 1)));
}

static inline int bytes_of_type(qe_mma_type type) {
    return type == QE_MMA_TF32 ? 4 : type == QE_MMA_BF16 || type == QE_MMA_F16 ? 2 : 1;
}

/* infinities: of the top exponent; else that exponent counts numbers, all ones is NaN. */
static inline float decode_bits(uint32_t x, int exponent, int mantissa, int infinities) {
    uint32_t m = x & ((1u << mantissa) - 1u), top = (1u << exponent) - 1u;
    uint32_t e = x >> mantissa & top, sign = x >> (mantissa + exponent) & 1u;
    int bias = (int)(top >> 1);
    double v = e ? ldexp(1.0 + ldexp((double)m, -mantissa), (int)e - bias)
                 : ldexp((double)m, 1 - bias - mantissa);
    if (e == top && infinities) v = m ? (double)NAN : (double)INFINITY;
    if (e == top && !infinities && m == (1u << mantissa) - 1u) v = (double)NAN;
    return (float)(sign ? -v : v);
}

static inline float bits_half(uint16_t x) { return decode_bits(x, 5, 10, 1); }

static inline float decode(qe_mma_type type, uint32_t x) {
    switch (type) {
    case QE_MMA_BF16: return decode_bits(x, 8, 7, 1);
    case QE_MMA_F16: return decode_bits(x, 5, 10, 1);
    case QE_MMA_TF32: return decode_bits(x >> 13, 8, 10, 1);
    case QE_MMA_E4M3: return decode_bits(x, 4, 3, 0);
    case QE_MMA_E5M2: return decode_bits(x, 5, 2, 1);
    case QE_MMA_S8: return (float)(int8_t)x;
    default: return (float)(uint8_t)x;
    }
}

/* The code of a value that the type has as a normal number, or of zero. */
static inline uint32_t encode_bits(double value, int exponent, int mantissa) {
    int e, bias = (1 << (exponent - 1)) - 1;
    uint32_t sign = (value < 0 ? 1u : 0u) << (exponent + mantissa);
    if (value == 0) return 0;
    double fraction = frexp(fabs(value), &e) * 2 - 1;
    return sign | (uint32_t)(e - 1 + bias) << mantissa | (uint32_t)ldexp(fraction, mantissa);
}

static inline uint32_t encode(qe_mma_type type, double value) {
    switch (type) {
    case QE_MMA_BF16: return encode_bits(value, 8, 7);
    case QE_MMA_F16: return encode_bits(value, 5, 10);
    case QE_MMA_TF32: return encode_bits(value, 8, 23);
    case QE_MMA_E4M3: return encode_bits(value, 4, 3);
    case QE_MMA_E5M2: return encode_bits(value, 5, 2);
    default: return (uint32_t)(int32_t)value & 0xffu;
    }
}

#endif
