/* ptx.cuh — the instructions CUDA C has no name for: asynchronous copies, ldmatrix, mma.sync.
 *
 * One wrapper per instruction, named after it; shared memory is addressed by its 32-bit window
 * (shared_address). Register layouts of a fragment, with g = lane / 4 and t = lane % 4:
 *   A (16 x 16): a[0] = (g, 2t..), a[1] = (g+8, 2t..), a[2] = (g, 2t+8..), a[3] = (g+8, 2t+8..)
 *   B (16 x 8):  b[0] = (k 2t.., n g), b[1] = (k 2t+8.., n g)
 *   C (16 x 8):  c[0], c[1] = (g, 2t..), c[2], c[3] = (g+8, 2t..)
 */
#ifndef QN_PTX_CUH
#define QN_PTX_CUH

#include "kernels/common.cuh"

QN_DEV uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* ---- copies: cp.async, and stores of a stated width ------------------------------------------ */

/* 16 bytes, of which the first `bytes` are read and the rest become zero; past L1. */
QN_DEV void cp_async_16(uint32_t to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
}
QN_DEV void cp_async_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Until at most N groups of this thread are under way. */
template <int N> QN_DEV void cp_async_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

QN_DEV void store_shared_16(uint32_t to, const uint32_t (&v)[4]) {
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]),
                 "r"(v[3])
                 : "memory");
}

QN_DEV void store_shared_8(uint32_t to, float x, float y) {
    asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(to), "f"(x), "f"(y) : "memory");
}

/* ---- fragments ------------------------------------------------------------------------------- */

/* Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. */
QN_DEV void ldmatrix_x4(uint32_t (&r)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
QN_DEV void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/* ---- tensor cores ---------------------------------------------------------------------------- */

/* c += a b, bf16 in, f32 sums. */
QN_DEV void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
