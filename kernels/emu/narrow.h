/* narrow.h — the small number types of tensor cores and tensor copies, to and from f32.
 *
 * Widening is exact. Narrowing rounds to nearest, ties to even; NaN becomes the canonical 0x7fff.
 */
#ifndef QE_NARROW_H
#define QE_NARROW_H

#include <stdint.h>
#include <string.h>

static inline float qe_float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t qe_bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float qe_from_bf16(uint16_t x) { return qe_float_of((uint32_t)x << 16); }

static inline uint16_t qe_to_bf16(float f) {
    uint32_t u = qe_bits_of(f);
    if (f != f) return 0x7fff;
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* The exponent is moved by a product with 2^112, which also normalises subnormal numbers. */
static inline float qe_from_f16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000u) << 16, rest = (uint32_t)(x & 0x7fffu) << 13;
    if (rest >= 0x0f800000u) return qe_float_of(sign | 0x7f800000u | rest); /* infinity, NaN */
    return qe_float_of(sign | qe_bits_of(qe_float_of(rest) * 0x1p112f));
}

static inline uint16_t qe_to_f16(float f) {
    uint32_t u = qe_bits_of(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return 0x7fff;
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and up */
    if (a < 0x38800000u) /* below 2^-14: adding 1/2 leaves the rounded multiple of 2^-24 */
        return (uint16_t)(sign | (qe_bits_of(qe_float_of(a) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13));
}

/* Tensor cores read the upper 19 bits. */
static inline float qe_from_tf32(uint32_t x) { return qe_float_of(x & 0xffffe000u); }

static inline float qe_from_e5m2(uint8_t x) { return qe_from_f16((uint16_t)(x << 8)); }

/* No infinity; 0x7f and 0xff are NaN. */
static inline float qe_from_e4m3(uint8_t x) {
    uint32_t sign = (uint32_t)(x & 0x80u) << 24, rest = x & 0x7fu;
    if (rest == 0x7f) return qe_float_of(sign | 0x7fffffffu);
    return qe_float_of(sign | qe_bits_of(qe_float_of(rest << 20) * 0x1p120f));
}

#endif
