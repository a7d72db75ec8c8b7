/* async_copy.c — cp.async, bulk copies, their groups and when they happen. */
#include "kernels/emu/machine.h"

void qe_cp_async_mbarrier_arrive(qe_thread *t, uint32_t address, bool noinc, const qe_site *site) {
    (void)t;
    (void)address;
    (void)noinc;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_cp_async_mbarrier_arrive: not in this build");
}
void qe_cp_async(qe_thread *t, uint32_t dst, const void *src, uint32_t bytes, uint32_t src_bytes,
                 const qe_site *site) {
    (void)t;
    (void)dst;
    (void)src;
    (void)bytes;
    (void)src_bytes;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_cp_async: not in this build");
}
void qe_cp_async_commit(qe_thread *t, const qe_site *site) {
    (void)t;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_cp_async_commit: not in this build");
}
void qe_cp_async_wait(qe_thread *t, uint32_t pending, const qe_site *site) {
    (void)t;
    (void)pending;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_cp_async_wait: not in this build");
}
void qe_cp_async_wait_all(qe_thread *t, const qe_site *site) {
    (void)t;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_cp_async_wait_all: not in this build");
}
void qe_bulk_load(qe_thread *t, uint32_t dst, const void *src, uint32_t bytes, uint32_t mbarrier,
                  uint32_t multicast, const qe_site *site) {
    (void)t;
    (void)dst;
    (void)src;
    (void)bytes;
    (void)mbarrier;
    (void)multicast;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_bulk_load: not in this build");
}
void qe_bulk_shared(qe_thread *t, uint32_t dst, uint32_t src, uint32_t bytes, uint32_t mbarrier,
                    const qe_site *site) {
    (void)t;
    (void)dst;
    (void)src;
    (void)bytes;
    (void)mbarrier;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_bulk_shared: not in this build");
}
void qe_bulk_store(qe_thread *t, void *dst, uint32_t src, uint32_t bytes, qe_reduce_op op,
                   qe_element type, const qe_site *site) {
    (void)t;
    (void)dst;
    (void)src;
    (void)bytes;
    (void)op;
    (void)type;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_bulk_store: not in this build");
}
void qe_bulk_commit(qe_thread *t, const qe_site *site) {
    (void)t;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_bulk_commit: not in this build");
}
void qe_bulk_wait(qe_thread *t, uint32_t pending, bool read, const qe_site *site) {
    (void)t;
    (void)pending;
    (void)read;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_bulk_wait: not in this build");
}
void qe_fence_proxy_async(qe_thread *t, const qe_site *site) {
    (void)t;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_fence_proxy_async: not in this build");
}
bool qe_async_step(void) { return false; }
void qe_async_maybe(void) {}
void qe_async_thread_end(qe_thread *t) { (void)t; }
void qe_async_block_end(qe_block *b) { (void)b; }
void qe_async_describe(const qe_thread *t, char *text, size_t bytes) {
    (void)t;
    (void)text;
    (void)bytes;
}
