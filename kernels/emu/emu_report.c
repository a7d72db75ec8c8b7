/* emu_report.c — findings: kept once each, printed, and the reason for exit status 86. */
#include "kernels/emu/scheduler.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_KEPT = 1000, TEXT_BYTES = 6000, EXIT_FINDINGS = 86 };

typedef struct kept {
    qe_finding kind;
    const qe_site *site, *other;
    char *text;
} kept;

static kept findings[MAX_KEPT];
static int n_findings;
static bool leaves_with_86;

static const char *const names[] = {
#define QE_X(id, text) text,
    QE_FINDING_MAP(QE_X)
#undef QE_X
};

static void at_exit(void) {
    if (n_findings == 0) return;
    fprintf(stderr, "emulator: %d findings, exit status %d\n", n_findings, EXIT_FINDINGS);
    fflush(NULL);
    _exit(EXIT_FINDINGS);
}

static size_t add(char *text, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static size_t add(char *text, size_t at, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text + at, TEXT_BYTES - at, format, args);
    va_end(args);
    if (n < 0) return at;
    at += (size_t)n;
    return at < TEXT_BYTES ? at : TEXT_BYTES - 1;
}

static size_t add_site(char *text, size_t at, const char *word, const qe_site *site) {
    if (!site) return at;
    at = add(text, at, "\n    %s %s:%u", word, site->file, site->line);
    if (site->cu) at = add(text, at, " in %s:%u", site->cu, site->cu_line);
    return add(text, at, ": %s", site->ptx);
}

static bool known(qe_finding kind, const qe_site *site, const qe_site *other, const char *text) {
    for (int i = 0; i < n_findings; i++) {
        const kept *k = &findings[i];
        if (k->kind != kind || k->site != site || k->other != other) continue;
        if (site || strcmp(k->text, text) == 0) return true;
    }
    return false;
}

static void keep(qe_finding kind, const qe_thread *t, const qe_site *site, const qe_site *other,
                 const char *format, va_list args) {
    static char text[TEXT_BYTES];
    size_t at = add(text, 0, "%s: ", names[kind]);
    if (site && known(kind, site, other, "")) return;
    if (qe_launch_now) at = add(text, at, "kernel %s ", qe_launch_now->kernel->name);
    if (t) {
        const uint32_t *b = t->block->ctaid, *i = t->tid;
        at = add(text, at, "block (%u,%u,%u) thread (%u,%u,%u): ", b[0], b[1], b[2], i[0], i[1],
                 i[2]);
    }
    int n = vsnprintf(text + at, TEXT_BYTES - at, format, args);
    if (n > 0) at = at + (size_t)n < TEXT_BYTES ? at + (size_t)n : TEXT_BYTES - 1;
    at = add_site(text, at, "at", site);
    add_site(text, at, "and", other);
    if (n_findings == MAX_KEPT || known(kind, site, other, text)) return;
    if (!leaves_with_86) {
        leaves_with_86 = true;
        atexit(at_exit);
    }
    findings[n_findings++] = (kept){kind, site, other, strdup(text)};
    if (!qe_cfg.quiet) fprintf(stderr, "emulator: %s\n", text);
}

void qe_report(qe_finding kind, const qe_thread *t, const qe_site *site, const qe_site *other,
               const char *format, ...) {
    if (qe_launch_now && qe_launch_now->failed) return; /* the first finding says it */
    va_list args;
    va_start(args, format);
    keep(kind, t, site, other, format, args);
    va_end(args);
}

void qe_fatal(qe_finding kind, qe_thread *t, const qe_site *site, const char *format, ...) {
    va_list args;
    va_start(args, format);
    keep(kind, t, site, NULL, format, args);
    va_end(args);
    if (!qe_launch_now) abort(); /* only a launch can end early */
    qe_launch_abandon();
}

int qe_findings(void) { return n_findings; }

int qe_findings_of(qe_finding kind) {
    int n = 0;
    for (int i = 0; i < n_findings; i++) n += findings[i].kind == kind;
    return n;
}

const char *qe_finding_text(int i) { return i >= 0 && i < n_findings ? findings[i].text : NULL; }

void qe_findings_clear(void) {
    for (int i = 0; i < n_findings; i++) free(findings[i].text);
    n_findings = 0;
}
