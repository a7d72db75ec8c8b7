/* operand.h — what mma.sync and wgmma share: element types and fragments.
 *
 * Fragments, with g = lane / 4, t = lane % 4 and e elements in a register (PTX ISA, "Matrix
 * Fragments for mma"): A register i, element j is row g + 8 (i & 1), column t e + j + 4 e (i / 2);
 * B register i, element j is row t e + j + 4 e i, column g; C and D registers are (g, 2t),
 * (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
 */
#ifndef QE_OPERAND_H
#define QE_OPERAND_H

#include "kernels/emu/machine.h"
#include "kernels/emu/narrow.h"

static inline int qe_operand_bytes(qe_mma_type type) {
    switch (type) {
    case QE_MMA_TF32: return 4;
    case QE_MMA_BF16:
    case QE_MMA_F16: return 2;
    default: return 1;
    }
}

static inline bool qe_operand_is_integer(qe_mma_type type) {
    return type == QE_MMA_S8 || type == QE_MMA_U8;
}

/* n elements; exact. */
static inline void qe_operand_widen(qe_mma_type type, const void *from, float *to, int n) {
    const uint8_t *bytes = from;
    for (int i = 0; i < n; i++) {
        uint16_t half;
        uint32_t word;
        switch (type) {
        case QE_MMA_BF16:
            memcpy(&half, bytes + 2 * i, 2);
            to[i] = qe_from_bf16(half);
            break;
        case QE_MMA_F16:
            memcpy(&half, bytes + 2 * i, 2);
            to[i] = qe_from_f16(half);
            break;
        case QE_MMA_TF32:
            memcpy(&word, bytes + 4 * i, 4);
            to[i] = qe_from_tf32(word);
            break;
        case QE_MMA_E4M3: to[i] = qe_from_e4m3(bytes[i]); break;
        case QE_MMA_E5M2: to[i] = qe_from_e5m2(bytes[i]); break;
        case QE_MMA_S8: to[i] = (float)(int8_t)bytes[i]; break;
        case QE_MMA_U8: to[i] = (float)bytes[i]; break;
        }
    }
}

#endif
