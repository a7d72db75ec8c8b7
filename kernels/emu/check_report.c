/* check_report.c — the checker's findings in words: who did what to which place, after whom. */
#include <stdio.h>
#include <string.h>

#include "kernels/emu/checker.h"

enum { MOST = 100, TEXT = 160 };

/* A race in a loop is met again and again, and unrolling makes many instructions of one line: two
 * lines are told of once, and after MOST findings a launch has said enough. */
static struct {
    qe_finding kind;
    const qe_site *site, *other;
} told[MOST];
static uint32_t n_told;

void qe_report_begin(void) { n_told = 0; }

static bool is_same_line(const qe_site *a, const qe_site *b) {
    return a == b || (a && b && a->line == b->line && a->cu_line == b->cu_line &&
                      strcmp(a->file, b->file) == 0);
}

static bool is_news(qe_finding kind, const qe_site *site, const qe_site *other) {
    for (uint32_t i = 0; i < n_told; i++)
        if (told[i].kind == kind && is_same_line(told[i].site, site) &&
            is_same_line(told[i].other, other))
            return false;
    if (n_told == MOST) return false;
    told[n_told].kind = kind;
    told[n_told].site = site;
    told[n_told++].other = other;
    return true;
}

/* ---- sites ----------------------------------------------------------------------------------- */

const char qe_site_origin[8] __attribute__((aligned(8))) = "";

static const qe_site *site_of(int32_t code) {
    return (const qe_site *)((intptr_t)qe_site_origin + (intptr_t)code * 8);
}

/* ---- words ----------------------------------------------------------------------------------- */

static void describe_place(const qe_actor *a, const char *p, char *text) {
    char *base;
    size_t bytes;
    if (!qe_is_shared(p)) {
        if (qe_shadow_near(p, &base, &bytes))
            snprintf(text, TEXT, "byte %td of an allocation of %zu", p - base, bytes);
        else
            snprintf(text, TEXT, "address %p, near no allocation", (const void *)p);
        return;
    }
    const qe_block *b = qe_block_of_shared(a->thread, p);
    if (!b)
        snprintf(text, TEXT, "the shared memory of no block");
    else
        snprintf(text, TEXT, "byte %td of %s's %u bytes of shared memory",
                 p - b->window - b->shared_low, b == a->block ? "the block" : "another block",
                 b->shared_bytes);
}

static void describe_agent(const qe_actor *a, uint32_t agent, char *text) {
    const qe_launch *l = a->block->cluster->launch;
    const uint32_t *c = l->cluster, *n = l->block;
    uint32_t number = qe_agent_block(agent), index = qe_agent_index(agent);
    uint32_t blocks = c[0] * c[1] * c[2], cluster = number / blocks, rank = number % blocks;
    uint32_t across = l->grid[0] / c[0], down = l->grid[1] / c[1];
    uint32_t x = cluster % across * c[0] + rank % c[0];
    uint32_t y = cluster / across % down * c[1] + rank / c[0] % c[1];
    uint32_t z = cluster / across / down * c[2] + rank / c[0] / c[1];
    if (index >= QE_FIRST_POOL) {
        snprintf(text, TEXT, "an asynchronous operation of block (%u,%u,%u)", x, y, z);
        return;
    }
    uint32_t t = index % QE_FIRST_COPIES;
    snprintf(text, TEXT, "%sthread (%u,%u,%u) of block (%u,%u,%u)",
             index < QE_FIRST_COPIES ? "" : "cp.async of ", t % n[0], t / n[0] % n[1],
             t / n[0] / n[1], x, y, z);
}

static const char *deed(int32_t kind) {
    bool wrote = kind & QE_SLOT_WROTE;
    if (kind & QE_SLOT_ATOMIC) return wrote ? "an atomic write" : "an atomic read";
    if (kind & QE_SLOT_ASYNC) return wrote ? "an asynchronous write" : "an asynchronous read";
    return wrote ? "a write" : "a read";
}

void qe_report_race(const qe_actor *a, const char *p, qe_finding kind, const qe_grain *g,
                    unsigned slot) {
    const qe_site *earlier = site_of(g->site[slot]);
    if (!is_news(kind, a->site, earlier)) return;
    char place[TEXT], other[TEXT];
    describe_place(a, p, place);
    describe_agent(a, (uint32_t)g->agent[slot], other);
    qe_report(kind, a->thread, a->site, earlier, "%s of %s, %s %s by %s", deed(a->kind), place,
              kind == QE_BUG_PROXY_RACE ? "without fence.proxy.async after" : "not ordered after",
              deed(g->kind[slot]), other);
}

void qe_report_state(const qe_actor *a, const char *p, uint32_t bytes, qe_finding kind) {
    if (!is_news(kind, a->site, NULL)) return;
    char place[TEXT];
    describe_place(a, p, place);
    bool outside = kind == QE_BUG_OOB_SHARED || kind == QE_BUG_OOB_GLOBAL;
    qe_report(kind, a->thread, a->site, NULL, "%s of %u bytes, %s at %s", deed(a->kind), bytes,
              outside ? "out of bounds" : "never written,", place);
}
