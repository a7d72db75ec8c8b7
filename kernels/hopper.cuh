/* hopper.cuh — the instructions of sm_90a: mbarriers, tensor copies (TMA), clusters, wgmma.
 *
 * One wrapper per instruction; shared memory is addressed by its 32-bit window (shared_address).
 * Only for code under __CUDA_ARCH_FEAT_SM90_ALL.
 *
 * mbarrier: wait(bar, parity) returns once the phase of that parity is over: after init, parity 1
 * passes at once and parity 0 waits. A phase is over when all arrivals have come and as many bytes
 * as were announced.
 * wgmma accumulators: thread l of 128, register j: row 16 (l / 32) + l % 32 / 4 + 8 (j / 2 % 2),
 * column 8 (j / 4) + 2 (l % 4) + j % 2.
 */
#ifndef QN_HOPPER_CUH
#define QN_HOPPER_CUH

#include <cuda.h>

#include "kernels/ptx.cuh"

/* ---- mbarrier -------------------------------------------------------------------------------- */

QN_DEV void mbarrier_init(uint32_t bar, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
/* Makes initialised barriers visible to the cluster and to tensor copies; a barrier follows. */
QN_DEV void fence_mbarrier_init(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/* One arrival, and `bytes` to come by tensor copies. */
QN_DEV void mbarrier_arrive_expect(uint32_t bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                 : "memory");
}
/* One arrival at the barrier of the same place in block `rank` of the cluster. */
QN_DEV void mbarrier_arrive_at(uint32_t bar, int rank) {
    asm volatile("{\n.reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}" ::"r"(bar),
                 "r"(rank)
                 : "memory");
}
QN_DEV void mbarrier_wait(uint32_t bar, int parity) {
    uint32_t over;
    do {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(over)
                     : "r"(bar), "r"(parity)
                     : "memory");
    } while (!over);
}

/* ---- tensor copies --------------------------------------------------------------------------- */

QN_DEV void prefetch_map(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
/* The box at (x, y) to shared memory; its bytes (those out of bounds, zeros, included) count on
 * `bar`. */
QN_DEV void tensor_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
                 "l"(map), "r"(bar), "r"(x), "r"(y)
                 : "memory");
}
/* The same to the same place, and counted on the same barrier, in every block of the mask. */
QN_DEV void tensor_load_multicast(uint32_t to, const CUtensorMap *map, uint32_t bar, int x, int y,
                                  uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
                 "l"(map), "r"(bar), "r"(x), "r"(y), "h"(blocks)
                 : "memory");
}
/* Shared memory to the box at (x, y, z); elements out of bounds are not written. */
QN_DEV void tensor_store(const CUtensorMap *map, uint32_t from, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group "
                 "[%0, {%2, %3, %4}], [%1];" ::"l"(map),
                 "r"(from), "r"(x), "r"(y), "r"(z)
                 : "memory");
}
QN_DEV void tensor_store_commit(void) { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/* Until at most N groups of this thread's stores still read shared memory. */
template <int N> QN_DEV void tensor_store_wait_read(void) {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}
/* This thread's writes to shared memory become visible to tensor copies and wgmma. */
QN_DEV void fence_async(void) { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---- blocks and clusters --------------------------------------------------------------------- */

QN_DEV void named_barrier(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
QN_DEV void cluster_barrier(void) {
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}
QN_DEV int cluster_rank(void) {
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return (int)r;
}
template <int N> QN_DEV void registers_less(void) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> QN_DEV void registers_more(void) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

/* ---- wgmma ----------------------------------------------------------------------------------- */

QN_DEV void wgmma_fence(void) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
QN_DEV void wgmma_commit(void) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> QN_DEV void wgmma_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* An operand in shared memory, rows of 128 bytes in the 128-byte swizzle, 1024-byte aligned. Along
 * k: a row is 64 k of one m (n); 8 rows every 1024 bytes. Along m (n): a row is 64 m of one k, 8
 * rows every 1024 bytes, the next 64 m every 8192 bytes (64 k). */
QN_DEV uint64_t wgmma_operand(uint32_t at) {
    return (uint64_t)((at & 0x3FFFFu) >> 4) | (uint64_t)(8192 >> 4) << 16 |
           (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

#define QNI_FOUR(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define QNI_SIXTEEN(d, i)                                                                          \
    QNI_FOUR(d, i), QNI_FOUR(d, i + 4), QNI_FOUR(d, i + 8), QNI_FOUR(d, i + 12)

/* d = a b, or d += a b where `add`: 64 x 128 x 16. A_TRANS, B_TRANS: it lies along m, n. */
template <bool A_TRANS, bool B_TRANS>
QN_DEV void wgmma(float (&d)[64], uint64_t a, uint64_t b, int add) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
                 "%64, %65, p, 1, 1, %67, %68;\n}"
                 : QNI_SIXTEEN(d, 0), QNI_SIXTEEN(d, 16), QNI_SIXTEEN(d, 32), QNI_SIXTEEN(d, 48)
                 : "l"(a), "l"(b), "r"(add), "n"((int)A_TRANS), "n"((int)B_TRANS));
}
/* d = a b, or d += a b where `add`: 64 x 256 x 16. A_TRANS, B_TRANS: it lies along m, n. */
template <bool A_TRANS, bool B_TRANS>
QN_DEV void wgmma(float (&d)[128], uint64_t a, uint64_t b, int add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
        "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
        "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
        "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
        "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
        "%128, %129, p, 1, 1, %131, %132;\n}"
        : QNI_SIXTEEN(d, 0), QNI_SIXTEEN(d, 16), QNI_SIXTEEN(d, 32), QNI_SIXTEEN(d, 48),
          QNI_SIXTEEN(d, 64), QNI_SIXTEEN(d, 80), QNI_SIXTEEN(d, 96), QNI_SIXTEEN(d, 112)
        : "l"(a), "l"(b), "r"(add), "n"((int)A_TRANS), "n"((int)B_TRANS));
}

#undef QNI_FOUR
#undef QNI_SIXTEEN

#endif
