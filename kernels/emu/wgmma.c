/* wgmma.c — warpgroup products and setmaxnreg. */
#include "kernels/emu/machine.h"

void qe_wgmma_async(qe_thread *t, const qe_wgmma *kind, float *d, const uint32_t *a,
                    uint64_t desc_a, uint64_t desc_b, bool scale_d, const qe_site *site) {
    (void)t;
    (void)kind;
    (void)d;
    (void)a;
    (void)desc_a;
    (void)desc_b;
    (void)scale_d;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_wgmma_async: not in this build");
}
void qe_wgmma_fence(qe_thread *t, const qe_site *site) {
    (void)t;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_wgmma_fence: not in this build");
}
void qe_wgmma_commit(qe_thread *t, const qe_site *site) {
    (void)t;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_wgmma_commit: not in this build");
}
void qe_wgmma_wait(qe_thread *t, uint32_t pending, const qe_site *site) {
    (void)t;
    (void)pending;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_wgmma_wait: not in this build");
}
void qe_setmaxnreg(qe_thread *t, uint32_t registers, bool increase, const qe_site *site) {
    (void)t;
    (void)registers;
    (void)increase;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_setmaxnreg: not in this build");
}
