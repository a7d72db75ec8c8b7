/* tensor_copy.c — tensor maps and the copies that use them. */
#include "kernels/emu/machine.h"

void qe_tensor_load(qe_thread *t, uint32_t dst, const void *map, int rank, const int32_t *at,
                    uint32_t mbarrier, uint32_t multicast, const qe_site *site) {
    (void)t;
    (void)dst;
    (void)map;
    (void)rank;
    (void)at;
    (void)mbarrier;
    (void)multicast;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_tensor_load: not in this build");
}
void qe_tensor_store(qe_thread *t, const void *map, int rank, const int32_t *at, uint32_t src,
                     qe_reduce_op op, const qe_site *site) {
    (void)t;
    (void)map;
    (void)rank;
    (void)at;
    (void)src;
    (void)op;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_tensor_store: not in this build");
}
int qe_tensor_map_encode(void *map, int data_type, uint32_t rank, void *base, const uint64_t *dims,
                         const uint64_t *strides, const uint32_t *box, const uint32_t *steps,
                         int interleave, int swizzle, int promotion, int fill) {
    (void)map;
    (void)data_type;
    (void)rank;
    (void)base;
    (void)dims;
    (void)strides;
    (void)box;
    (void)steps;
    (void)interleave;
    (void)swizzle;
    (void)promotion;
    (void)fill;
    return 0;
}
