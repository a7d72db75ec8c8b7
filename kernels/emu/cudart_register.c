/* cudart_register.c — what nvcc's host objects tell the runtime before main: which kernel and which
 * variable a host address stands for. Names are looked for in the translated files at first use.
 */
#include "kernels/emu/cudart.h"

#include <stdlib.h>
#include <string.h>

typedef struct variable {
    const void *host;
    const char *name;
    size_t bytes;
    struct variable *next;
} variable;

static qe_function *functions;
static variable *variables;

/* Called by the constructors of host objects; declared by no public header. */
void **__cudaRegisterFatBinary(void *binary);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
char __cudaInitModule(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int limit, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *size);
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int ext,
                       size_t bytes, int constant, int global);

void **__cudaRegisterFatBinary(void *binary) {
    void **handle = calloc(1, sizeof *handle);
    if (!handle) abort();
    *handle = binary;
    return handle;
}

void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }
void __cudaUnregisterFatBinary(void **handle) { free(handle); }

char __cudaInitModule(void **handle) {
    (void)handle;
    return 0;
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int limit, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid, int *size) {
    (void)handle, (void)device, (void)limit, (void)tid, (void)bid, (void)block, (void)grid;
    (void)size;
    qe_function *f = calloc(1, sizeof *f);
    if (!f) abort();
    f->host = host;
    f->name = name;
    f->carveout = -1;
    f->next = functions;
    functions = f;
}

void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int ext,
                       size_t bytes, int constant, int global) {
    (void)handle, (void)device, (void)ext, (void)constant, (void)global;
    variable *v = calloc(1, sizeof *v);
    if (!v) abort();
    *v = (variable){host, name, bytes, variables};
    variables = v;
}

/* ---- the translated side --------------------------------------------------------------------- */

/* Files are translated once per architecture they are compiled for; a device runs the newest that
 * is not newer than itself. */
static bool fits(const qe_module *m) { return (int)m->arch <= qe_cfg.device; }

static const qe_kernel *find_kernel(const char *name, bool *twice) {
    const qe_kernel *found = NULL;
    uint32_t arch = 0;
    *twice = false;
    for (const qe_module *m = qe_module_first(); m; m = m->next) {
        if (!fits(m) || m->arch < arch) continue;
        for (uint32_t i = 0; i < m->n_kernels; i++) {
            if (strcmp(m->kernels[i].name, name) != 0) continue;
            *twice = found && m->arch == arch;
            found = &m->kernels[i];
            arch = m->arch;
        }
    }
    return found;
}

qe_function *qe_function_find(const void *host) {
    qe_function *f = functions, **at = &functions;
    while (f && f->host != host) {
        at = &f->next;
        f = f->next;
    }
    if (!f) {
        qe_report(QE_BUG_LAUNCH, NULL, NULL, NULL, "%p is not a kernel", host);
        return NULL;
    }
    *at = f->next; /* to the front: the same kernels are launched again and again */
    f->next = functions;
    functions = f;
    if (f->kernel && f->device == qe_cfg.device) return f;
    bool twice;
    f->kernel = find_kernel(f->name, &twice);
    f->device = qe_cfg.device;
    if (!f->kernel) {
        qe_report(QE_BUG_LAUNCH, NULL, NULL, NULL, "kernel %s is not translated for sm_%d", f->name,
                  qe_cfg.device);
        return NULL;
    }
    if (twice) {
        qe_report(QE_BUG_LAUNCH, NULL, NULL, NULL, "two files have a kernel %s", f->name);
    }
    return f;
}

static const qe_symbol *find_symbol(const char *name) {
    const qe_symbol *found = NULL;
    uint32_t arch = 0;
    for (const qe_module *m = qe_module_first(); m; m = m->next) {
        if (!fits(m) || m->arch < arch) continue;
        for (uint32_t i = 0; i < m->n_symbols; i++) {
            if (strcmp(m->symbols[i].name, name) != 0) continue;
            found = &m->symbols[i];
            arch = m->arch;
        }
    }
    return found;
}

bool qe_symbol_find(const void *host, char **address, size_t *bytes) {
    for (const variable *v = variables; v; v = v->next) {
        if (v->host != host) continue;
        const qe_symbol *s = find_symbol(v->name);
        if (!s) return false;
        *address = s->address;
        *bytes = v->bytes;
        return true;
    }
    return false;
}

bool qe_symbol_contains(const void *p, char **address, size_t *bytes) {
    const char *at = p;
    for (const qe_module *m = qe_module_first(); m; m = m->next) {
        for (uint32_t i = 0; i < m->n_symbols; i++) {
            char *base = m->symbols[i].address;
            if (at < base || at >= base + m->symbols[i].bytes) continue;
            *address = base;
            *bytes = m->symbols[i].bytes;
            return true;
        }
    }
    return false;
}
