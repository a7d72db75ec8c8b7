/* harness_emu_ops.c — runs kernels of single instructions and compares every result. */
#include "tests/harness_emu_ops.h"

#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/emu/machine.h"

enum { SLOTS = 4, MAX_STORES = 256 };

typedef struct store {
    const char *text; /* of the instruction tested */
    const emu_definition *definition;
    int bits;
} store;

static const qe_kernel *find_kernel(const char *name, int *index) {
    for (const qe_module *m = qe_module_first(); m; m = m->next)
        for (uint32_t i = 0; i < m->n_kernels; i++)
            if (strcmp(m->kernels[i].name, name) == 0) {
                *index = (int)i;
                return &m->kernels[i];
            }
    fail_msg("no kernel %s", name);
    return NULL;
}

/* The kernel's first site: kernels stand in order, and each ends with the only `ret` it has. */
static const qe_site *first_site(const qe_module *m, int index) {
    uint32_t i = 0;
    for (; index > 0 && i < m->n_sites; i++) index -= strcmp(m->sites[i].ptx, "ret") == 0;
    return &m->sites[i];
}

static const emu_definition *find_definition(const char *text, const emu_definition *d) {
    size_t n = strcspn(text, " ");
    for (; d->opcode; d++)
        if (strlen(d->opcode) == n && strncmp(d->opcode, text, n) == 0) return d;
    return NULL;
}

static int find_stores(const char *kernel, const emu_definition *definitions, store *stores) {
    int index, n = 0;
    const qe_kernel *k = find_kernel(kernel, &index);
    const char *tested = NULL;
    for (const qe_site *s = first_site(k->module, index); strcmp(s->ptx, "ret") != 0; s++) {
        const char *at = strstr(s->ptx, "[%out+");
        if (at) {
            assert_non_null(tested);
            assert_int_equal(strtol(at + 6, NULL, 10), 8 * n);
            assert_true(n < MAX_STORES);
            const char *blank = strchr(s->ptx, ' '); /* st.global.b32 [.. */
            stores[n].bits = (int)strtol(blank - 2, NULL, 10);
            stores[n].text = tested;
            stores[n].definition = find_definition(tested, definitions);
            if (!stores[n].definition) fail_msg("%s: no definition of %s", kernel, tested);
            n++;
        } else if (!strstr(s->ptx, "%sel")) {
            tested = s->ptx;
        }
    }
    assert_true(n > 0);
    return n;
}

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static int fill_operands(const emu_operands *o, uint64_t *v) {
    int tuples = 1, n = 0;
    uint64_t state = 1;
    for (int i = 0; i < o->operands; i++) tuples *= o->n_edges;
    for (; n < tuples; n++)
        for (int i = 0, rest = n; i < SLOTS; i++, rest /= o->n_edges)
            v[SLOTS * n + i] = o->edges[i < o->operands ? rest % o->n_edges : 0];
    for (; n < tuples + o->random; n++)
        for (int i = 0; i < SLOTS; i++) v[SLOTS * n + i] = next_random(&state) & o->mask;
    return n;
}

static bool near(const store *s, uint64_t got, uint64_t want) {
    double relative = s->definition->relative, x, y;
    if (got == want) return true;
    if (relative == 0) return false;
    if (s->bits == 64) {
        memcpy(&x, &got, sizeof x);
        memcpy(&y, &want, sizeof y);
    } else {
        uint32_t a = (uint32_t)got, b = (uint32_t)want;
        float f, g;
        memcpy(&f, &a, sizeof f);
        memcpy(&g, &b, sizeof g);
        x = (double)f, y = (double)g;
    }
    return fabs(x - y) <= relative * fabs(y);
}

static void compare(const char *kernel, const store *stores, int n, const uint64_t *v,
                    const uint64_t *out, int tuples) {
    for (int i = 0; i < tuples; i++)
        for (int k = 0; k < n; k++) {
            const uint64_t *x = &v[SLOTS * i];
            uint64_t mask = stores[k].bits == 64 ? ~0ull : (1ull << stores[k].bits) - 1;
            uint64_t got = out[(size_t)i * (size_t)n + (size_t)k];
            uint64_t want = stores[k].definition->define(x) & mask;
            if (!near(&stores[k], got, want))
                fail_msg("%s: %s of %llx %llx %llx %llx: found %llx, expected %llx", kernel,
                         stores[k].text, (unsigned long long)x[0], (unsigned long long)x[1],
                         (unsigned long long)x[2], (unsigned long long)x[3],
                         (unsigned long long)got, (unsigned long long)want);
        }
}

void emu_check_ops(const char *kernel, const emu_operands *operands,
                   const emu_definition *definitions) {
    enum { THREADS = 128 };
    static store stores[MAX_STORES];
    int index, tuples = operands->random, edges = 1;
    const qe_kernel *k = find_kernel(kernel, &index);
    int n = find_stores(kernel, definitions, stores);
    for (int i = 0; i < operands->operands; i++) edges *= operands->n_edges;
    tuples += edges;
    uint64_t *v = qe_memory_alloc((size_t)tuples * SLOTS * sizeof *v);
    uint64_t *out = qe_memory_alloc((size_t)tuples * (size_t)n * sizeof *out);
    assert_non_null(v);
    assert_non_null(out);
    assert_int_equal(fill_operands(operands, v), tuples);
    memset(out, 0, (size_t)tuples * (size_t)n * sizeof *out);
    struct {
        uint64_t *in, *out;
        uint32_t n, stride;
    } params = {v, out, (uint32_t)tuples, 8 * (uint32_t)n};
    qe_shape grid = {((uint32_t)tuples + THREADS - 1) / THREADS, 1, 1}, block = {THREADS, 1, 1};
    assert_true(qe_run(k, grid, block, (qe_shape){1, 1, 1}, 0, (const char *)&params));
    compare(kernel, stores, n, v, out, tuples);
    qe_memory_free(v);
    qe_memory_free(out);
}
