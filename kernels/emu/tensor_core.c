/* tensor_core.c — ldmatrix, stmatrix and mma.sync. */
#include "kernels/emu/machine.h"

void qe_ldmatrix(qe_thread *t, uint32_t address, int n, bool trans, uint32_t *r,
                 const qe_site *site) {
    (void)t;
    (void)address;
    (void)n;
    (void)trans;
    (void)r;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_ldmatrix: not in this build");
}
void qe_stmatrix(qe_thread *t, uint32_t address, int n, bool trans, const uint32_t *r,
                 const qe_site *site) {
    (void)t;
    (void)address;
    (void)n;
    (void)trans;
    (void)r;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_stmatrix: not in this build");
}
void qe_mma_sync(qe_thread *t, const qe_mma *kind, uint32_t *d, const uint32_t *a,
                 const uint32_t *b, const uint32_t *c, const qe_site *site) {
    (void)t;
    (void)kind;
    (void)d;
    (void)a;
    (void)b;
    (void)c;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mma_sync: not in this build");
}
