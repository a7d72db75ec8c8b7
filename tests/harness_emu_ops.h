/* harness_emu_ops.h — instructions of hand-written PTX against a definition each.
 *
 * A kernel of tests/emu/X.ptx has the parameters (in, out, n, stride). Thread i reads four 64-bit
 * operands at in + 32 i and stores one result after another at [%out+8k], where %out is its own
 * part of out. The instruction before a store is the one tested (those that use %sel only bring a
 * predicate to the store); a definition is found by its opcode; one that is missing fails the test.
 */
#ifndef QN_HARNESS_EMU_OPS_H
#define QN_HARNESS_EMU_OPS_H

#include <stdbool.h>
#include <stdint.h>

/* The operands as they lie in memory, the result in its low bits. */
typedef uint64_t emu_define(const uint64_t *v);

typedef struct emu_definition {
    const char *opcode; /* "add.s32" */
    emu_define *define;
    double relative; /* error allowed in an f32 or half result, relative; 0 = the very bits */
} emu_definition;

typedef struct emu_operands {
    const uint64_t *edges; /* every tuple of these, */
    int n_edges, operands; /* for so many operands (1-4; the others get the first edge) */
    int random;            /* and so many random tuples, */
    uint64_t mask;         /* of these bits */
} emu_operands;

/* Runs the kernel on all operands; `definitions` end with a row without opcode. */
void emu_check_ops(const char *kernel, const emu_operands *operands,
                   const emu_definition *definitions);

/* ---- rounding, by search --------------------------------------------------------------------- */

typedef struct emu_format { /* a floating-point format of at most 64 bits */
    int exponent_bits, mantissa_bits;
    uint64_t nan;
    bool finite_only; /* all exponents are numbers, but for one NaN (e4m3) */
} emu_format;
typedef enum emu_direction { EMU_RN, EMU_RZ, EMU_RM, EMU_RP, EMU_RNA } emu_direction;
extern const emu_format emu_f16, emu_bf16, emu_tf32, emu_e4m3, emu_e5m2, emu_f32, emu_f64;

/* The number of a code; infinities and NaN are those of double. */
__float128 emu_decode(const emu_format *f, uint64_t code);
/* The code of the number nearest to x + y (y at most half a unit in the last place of x) in that
 * direction, found among the numbers of the format. saturate: the largest instead of infinity. */
uint64_t emu_encode(const emu_format *f, __float128 x, __float128 y, emu_direction d,
                    bool saturate);

#endif
