/* counters.c — what a launch moves: bytes, sectors, bank conflicts, tensor-core work. */
#include "kernels/emu/machine.h"

void qe_count_launch_begin(qe_launch *l) { (void)l; }
void qe_count_launch_end(qe_launch *l) { (void)l; }
void qe_count_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags,
                     const qe_site *site) {
    (void)t, (void)p, (void)bytes, (void)flags, (void)site;
}
void qe_count_matrix(qe_thread *t, const uint32_t *row_address, int rows, uint32_t flags,
                     const qe_site *site) {
    (void)t, (void)row_address, (void)rows, (void)flags, (void)site;
}
void qe_count_async(qe_thread *t, uint64_t read, uint64_t written) {
    (void)t, (void)read, (void)written;
}
void qe_count_tensor(qe_thread *t, uint64_t flops) { (void)t, (void)flops; }
void qe_count_meet(qe_warp *w) { (void)w; }
int qe_traffic_count(void) { return 0; }
const qe_traffic *qe_traffic_get(int i) {
    (void)i;
    return NULL;
}
void qe_traffic_clear(void) {}
void qe_coverage(qe_instruction *each, void *context) {
    for (const qe_module *m = qe_module_first(); m; m = m->next)
        for (uint32_t r = 0; r < m->n_ranges; r++)
            for (uint32_t i = 0; i < m->ranges[r].n_sites; i++)
                each(context, m, m->sites + m->ranges[r].first_site + i, m->runs[r]);
}
void qe_coverage_clear(void) {
    for (qe_module *m = qe_module_first(); m; m = m->next)
        for (uint32_t r = 0; r < m->n_ranges; r++) m->runs[r] = 0;
}
