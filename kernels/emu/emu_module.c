/* emu_module.c — the list of translated files. */
#include "kernels/emu/machine.h"

static qe_module *first;

void qe_module_register(qe_module *m) {
    for (uint32_t i = 0; i < m->n_kernels; i++) m->kernels[i].module = m;
    m->next = first;
    first = m;
}

qe_module *qe_module_first(void) { return first; }
