/* mbarrier.c — mbarriers: phases, transaction counts, waiting, misuse. */
#include "kernels/emu/machine.h"

void qe_mbarrier_init(qe_thread *t, uint32_t address, uint32_t count, const qe_site *site) {
    (void)t;
    (void)address;
    (void)count;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mbarrier_init: not in this build");
}
void qe_mbarrier_inval(qe_thread *t, uint32_t address, const qe_site *site) {
    (void)t;
    (void)address;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mbarrier_inval: not in this build");
}
void qe_mbarrier_expect_tx(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site) {
    (void)t;
    (void)address;
    (void)bytes;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mbarrier_expect_tx: not in this build");
}
void qe_mbarrier_complete_tx(qe_thread *t, uint32_t address, uint32_t bytes, const qe_site *site) {
    (void)t;
    (void)address;
    (void)bytes;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mbarrier_complete_tx: not in this build");
}
uint64_t qe_mbarrier_arrive(qe_thread *t, uint32_t address, uint32_t count, bool drop,
                            const qe_site *site) {
    (void)t;
    (void)address;
    (void)count;
    (void)drop;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mbarrier_arrive: not in this build");
}
uint64_t qe_mbarrier_arrive_no_complete(qe_thread *t, uint32_t address, uint32_t count, bool drop,
                                        const qe_site *site) {
    (void)t;
    (void)address;
    (void)count;
    (void)drop;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mbarrier_arrive_no_complete: not in this build");
}
uint32_t qe_mbarrier_pending_count(uint64_t state) {
    (void)state;
    return 0;
}
bool qe_mbarrier_wait_parity(qe_thread *t, uint32_t address, uint32_t parity, bool blocking,
                             const qe_site *site) {
    (void)t;
    (void)address;
    (void)parity;
    (void)blocking;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mbarrier_wait_parity: not in this build");
}
bool qe_mbarrier_wait_state(qe_thread *t, uint32_t address, uint64_t state, bool blocking,
                            const qe_site *site) {
    (void)t;
    (void)address;
    (void)state;
    (void)blocking;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_mbarrier_wait_state: not in this build");
}
void qe_fence_mbarrier_init(qe_thread *t, const qe_site *site) {
    (void)t;
    (void)site;
    qe_fatal(QE_BUG_TRAP, t, site, "qe_fence_mbarrier_init: not in this build");
}

void qe_mbarrier_describe(const qe_block *b, const void *object, uint64_t detail, char *text,
                          size_t bytes) {
    (void)b;
    (void)object;
    (void)detail;
    if (bytes > 0) text[0] = '\0';
}
