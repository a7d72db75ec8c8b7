/* harness_emu_round.c — rounding as the standard defines it: the neighbours of a number, found by
 * search among all numbers of a format, and a choice between them. */
#include "tests/harness_emu_ops.h"

#include <math.h>

const emu_format emu_f16 = {5, 10, 0x7fff, false}, emu_bf16 = {8, 7, 0x7fff, false},
                 emu_tf32 = {8, 10, 0x3ffff, false}, emu_e4m3 = {4, 3, 0x7f, true},
                 emu_e5m2 = {5, 2, 0x7f, false}, emu_f32 = {8, 23, 0x7fffffff, false},
                 emu_f64 = {11, 52, 0x7ff8000000000000, false};

/* A code without sign as a number; the codes of infinity and beyond go on as if they were ones. */
static __float128 number(const emu_format *f, uint64_t code) {
    int bias = (1 << (f->exponent_bits - 1)) - 1, exponent = (int)(code >> f->mantissa_bits);
    uint64_t fraction = code & ((1ull << f->mantissa_bits) - 1);
    __float128 m = (__float128)fraction;
    if (exponent) m += (__float128)(1ull << f->mantissa_bits);
    return m * (__float128)ldexp(1.0, (exponent ? exponent : 1) - bias - f->mantissa_bits);
}

static uint64_t largest(const emu_format *f) {
    uint64_t infinity = ((1ull << f->exponent_bits) - 1) << f->mantissa_bits;
    return f->finite_only ? f->nan - 1 : infinity - 1;
}
static uint64_t sign_bit(const emu_format *f) {
    return 1ull << (f->exponent_bits + f->mantissa_bits);
}

__float128 emu_decode(const emu_format *f, uint64_t code) {
    uint64_t u = code & (sign_bit(f) - 1);
    __float128 x = u <= largest(f) ? number(f, u) : (__float128)NAN;
    if (!f->finite_only && u == largest(f) + 1) x = (__float128)INFINITY;
    return code & sign_bit(f) ? -x : x;
}

/* Sign of x + y - v. */
static int order(__float128 x, __float128 y, __float128 v) {
    if (x != v) return x < v ? -1 : 1;
    return y < 0 ? -1 : y > 0 ? 1 : 0;
}

uint64_t emu_encode(const emu_format *f, __float128 x, __float128 y, emu_direction d,
                    bool saturate) {
    bool minus = x < 0 || (x == 0 && signbit((double)x));
    uint64_t sign = minus ? sign_bit(f) : 0, low = 0, end = largest(f) + 1;
    if (x != x) return f->nan;
    if (minus) x = -x, y = -y;
    if (x > (__float128)0x1p1023 * 2) return sign | (saturate ? largest(f) : end);
    while (low + 1 < end) { /* number(low) <= x + y, and less than number(end) if that is finite */
        uint64_t middle = low + (end - low) / 2;
        if (order(x, y, number(f, middle)) >= 0)
            low = middle;
        else
            end = middle;
    }
    __float128 below = number(f, low);
    if (order(x, y, below) == 0) return sign | low;
    int middle = order(x, y, below + (number(f, low + 1) - below) / 2);
    bool up = middle > 0 || (middle == 0 && (d == EMU_RNA || (low & 1)));
    if (d == EMU_RZ) up = false;
    if (d == EMU_RM) up = minus;
    if (d == EMU_RP) up = !minus;
    if (up) low++;
    return sign | (low > largest(f) && saturate ? largest(f) : low);
}
