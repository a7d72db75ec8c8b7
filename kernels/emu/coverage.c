/* coverage.c — which instructions ran: in this process, and in others of the same build.
 *
 * A process with QUERN_EMU_COVERAGE=FOLDER leaves FOLDER/coverage.PID at its end, a line per module
 * of which a kernel was launched: source, architecture, number of ranges, and a bit for each range
 * that ran, in hexadecimal digits of four. Files of several processes add up.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/emu/scheduler.h"

static const qe_kernel *kernel_of(const qe_module *m, uint32_t range) {
    for (uint32_t i = 0; i < m->n_kernels; i++)
        if (range - m->kernels[i].first_range < m->kernels[i].n_ranges) return &m->kernels[i];
    return NULL;
}

void qe_coverage(qe_instruction *each, void *context) {
    for (const qe_module *m = qe_module_first(); m; m = m->next)
        for (uint32_t r = 0; r < m->n_ranges; r++) {
            const qe_site *first = &m->sites[m->ranges[r].first_site];
            const qe_kernel *k = kernel_of(m, r);
            for (uint32_t i = 0; i < m->ranges[r].n_sites; i++)
                each(context, m, k, &first[i], m->runs[r]);
        }
}

void qe_coverage_clear(void) {
    for (qe_module *m = qe_module_first(); m; m = m->next)
        for (uint32_t r = 0; r < m->n_ranges; r++) m->runs[r] = 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

static const char digits[] = "0123456789abcdef";

static unsigned digit_at(const qe_module *m, uint32_t range) {
    unsigned v = 0;
    for (uint32_t i = 0; i < 4 && range + i < m->n_ranges; i++)
        v |= (unsigned)(m->runs[range + i] != 0) << i;
    return v;
}

static void write_module(FILE *f, const qe_module *m) {
    uint32_t ran = 0;
    while (ran < m->n_ranges && !m->runs[ran]) ran++;
    if (ran == m->n_ranges) return;
    fprintf(f, "%s %u %u ", m->file, m->arch, m->n_ranges);
    for (uint32_t r = 0; r < m->n_ranges; r += 4) fputc(digits[digit_at(m, r)], f);
    fputc('\n', f);
}

static void write_at_exit(void) {
    char path[4096];
    const char *folder = getenv("QUERN_EMU_COVERAGE");
    int n = snprintf(path, sizeof path, "%s/coverage.%ld", folder ? folder : ".", (long)getpid());
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "w") : NULL;
    bool written = f != NULL;
    for (const qe_module *m = qe_module_first(); f && m; m = m->next) write_module(f, m);
    if (f) {
        written = !ferror(f);
        written = fclose(f) == 0 && written;
    }
    if (!written) fprintf(stderr, "emulator: QUERN_EMU_COVERAGE: %s: %s\n", path, strerror(errno));
}

void qe_coverage_keep(void) {
    if (getenv("QUERN_EMU_COVERAGE")) atexit(write_at_exit);
}

/* file, arch and number of ranges say which module a line is about. */
static qe_module *module_of(const char *file, unsigned arch, unsigned n_ranges) {
    for (qe_module *m = qe_module_first(); m; m = m->next)
        if (m->arch == arch && m->n_ranges == n_ranges && strcmp(m->file, file) == 0) return m;
    return NULL;
}

/* The bits of one line; false: they are not digits, or too few. */
static bool read_bits(FILE *f, qe_module *m, unsigned n_ranges) {
    for (uint32_t r = 0; r < n_ranges; r += 4) {
        int c = fgetc(f);
        const char *at = c > 0 ? strchr(digits, c) : NULL;
        if (!at) return false;
        for (uint32_t i = 0; i < 4 && m && r + i < n_ranges; i++)
            m->runs[r + i] += (uint64_t)((at - digits) >> i & 1);
    }
    return fgetc(f) == '\n';
}

bool qe_coverage_read(const char *path) {
    char file[512];
    unsigned arch, n_ranges;
    FILE *f = fopen(path, "r");
    if (!f) return false;
    bool good = true;
    int fields = 3;
    while (good && (fields = fscanf(f, "%511s %u %u", file, &arch, &n_ranges)) == 3)
        good = fgetc(f) == ' ' && read_bits(f, module_of(file, arch, n_ranges), n_ranges);
    good = good && fields == EOF && !ferror(f);
    fclose(f);
    return good;
}
