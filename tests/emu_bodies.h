/* emu_bodies.h — running a hand-written kernel body on the emulated machine: what translated code
 * would do, call for call.
 */
#ifndef EMU_BODIES_H
#define EMU_BODIES_H

#include <stdbool.h>
#include <string.h>

#include "kernels/emu/machine.h"

typedef struct emu_shape {
    uint32_t grid, cluster, threads, shared;
} emu_shape;

/* A launch as the emulator sees it; params points to whatever the body expects. */
static inline bool emu_run(qe_body *body, emu_shape s, void *params) {
    qe_kernel k = {.name = "body", .body = body, .max_threads = s.threads};
    return qe_run(&k, (qe_shape){s.grid, 1, 1}, (qe_shape){s.threads, 1, 1},
                  (qe_shape){s.cluster, 1, 1}, s.shared, params);
}

/* The findings kept so far, as one text; forgets them. */
static inline const char *emu_findings(void) {
    static char text[8192];
    size_t at = 0;
    text[0] = '\0';
    for (int i = 0; i < qe_findings(); i++) {
        size_t n = strlen(qe_finding_text(i));
        if (at + n + 2 > sizeof text) break;
        memcpy(text + at, qe_finding_text(i), n);
        at += n;
        text[at++] = '\n';
        text[at] = '\0';
    }
    qe_findings_clear();
    return text;
}

/* Plain accesses of a body to shared memory, checked as generated code checks them. */
static inline void emu_put(qe_thread *t, uint32_t address, const void *from, uint32_t bytes,
                           const qe_site *site) {
    char *p = qe_shared(t, address, bytes, site);
    qe_access(t, p, bytes, QE_WRITE, site);
    memcpy(p, from, bytes);
}
static inline void emu_get(qe_thread *t, uint32_t address, void *to, uint32_t bytes,
                           const qe_site *site) {
    const char *p = qe_shared(t, address, bytes, site);
    qe_access(t, p, bytes, QE_READ, site);
    memcpy(to, p, bytes);
}

#endif
