/* check_clock.c — vector clocks: what happened before what, and what the async proxy can see. */
#include "kernels/emu/machine.h"

void qe_check_launch_begin(qe_launch *l) { (void)l; }
void qe_check_launch_end(qe_launch *l) { (void)l; }
void qe_check_cluster_begin(qe_cluster *c) { (void)c; }
void qe_check_cluster_end(qe_cluster *c) { (void)c; }
void qe_sync_release(qe_sync *s, qe_thread *t) { (void)s, (void)t; }
void qe_sync_acquire(qe_sync *s, qe_thread *t) { (void)s, (void)t; }
void qe_sync_meet(qe_thread *const *t, uint32_t n) { (void)t, (void)n; }
void qe_sync_forget(qe_sync *s) { s->clock = NULL; }
void qe_agent_start(qe_agent *a, qe_thread *t, bool generic) {
    (void)t, (void)generic;
    *a = (qe_agent){0};
}
void qe_agent_join(qe_agent *a, qe_thread *t) { (void)a, (void)t; }
void qe_agent_complete(qe_agent *a, qe_sync *s) { (void)a, (void)s; }
void qe_agent_waited(qe_agent *a, qe_thread *t) { (void)a, (void)t; }
void qe_agent_end(qe_agent *a) { *a = (qe_agent){0}; }
void qe_check_fence_proxy(qe_thread *t) { (void)t; }
qe_stamp qe_check_stamp(const qe_thread *t) {
    (void)t;
    return (qe_stamp){0};
}
bool qe_check_knows(const qe_thread *t, qe_stamp s) {
    (void)t, (void)s;
    return true;
}
void qe_atomic_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags, qe_order order,
                      const qe_site *site) {
    (void)order;
    qe_access(t, p, bytes, flags, site);
    qe_give_way(t);
}
void qe_fence(qe_thread *t, qe_scope scope, const qe_site *site) {
    (void)t, (void)scope, (void)site;
}
