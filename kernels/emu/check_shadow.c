/* check_shadow.c — shadow memory: bounds, initialisation, and who touched what last. */
#include "kernels/emu/machine.h"

void qe_check_host_write(const void *p, size_t bytes) { (void)p, (void)bytes; }
void qe_check_alloc(const void *p, size_t bytes) { (void)p, (void)bytes; }
void qe_check_free(const void *p, size_t bytes) { (void)p, (void)bytes; }
void qe_agent_access(qe_agent *a, qe_block *b, const void *p, uint32_t bytes, uint32_t flags,
                     const qe_site *site) {
    (void)a, (void)b, (void)p, (void)bytes, (void)flags, (void)site;
}
void qe_check_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags,
                     const qe_site *site) {
    (void)t, (void)p, (void)bytes, (void)flags, (void)site;
}
void qe_watched(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags, const qe_site *site) {
    if (t->watch & QE_CHECK) qe_check_access(t, p, bytes, flags, site);
    if (t->watch & QE_COUNT) qe_count_access(t, p, bytes, flags, site);
}
_Noreturn void qe_misaligned(qe_thread *t, const void *p, uint32_t bytes, const qe_site *site) {
    qe_fatal(QE_BUG_MISALIGNED, t, site, "access of %u bytes at %p", bytes, p);
}
