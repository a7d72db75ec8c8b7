/* check_report.c — the checker's findings in words: who did what to which place, after whom. */
#include <stdio.h>
#include <string.h>

#include "kernels/emu/checker.h"

enum { SEEN = 64, TEXT = 160 };

/* A race in a loop is met again and again: only the first time is worth a text. */
static struct {
    qe_finding kind;
    int32_t site, other;
} seen[SEEN];

void qe_report_begin(void) { memset(seen, 0, sizeof seen); }

static bool is_news(qe_finding kind, const qe_actor *a, int32_t other) {
    int32_t site = qe_site_code(a->site);
    uint32_t slot = ((uint32_t)site * 31 + (uint32_t)other * 17 + (uint32_t)kind) % SEEN;
    if (seen[slot].site == site && seen[slot].other == other && seen[slot].kind == kind)
        return false;
    seen[slot].kind = kind;
    seen[slot].site = site;
    seen[slot].other = other;
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
    if (kind & QE_SLOT_ATOMIC) return kind & QE_SLOT_WROTE ? "atomic write" : "atomic read";
    if (kind & QE_SLOT_ASYNC)
        return kind & QE_SLOT_WROTE ? "asynchronous write" : "asynchronous read";
    return kind & QE_SLOT_WROTE ? "write" : "read";
}

void qe_report_race(const qe_actor *a, const char *p, qe_finding kind, const qe_grain *g,
                    unsigned slot) {
    if (!is_news(kind, a, g->site[slot])) return;
    char place[TEXT], other[TEXT];
    describe_place(a, p, place);
    describe_agent(a, (uint32_t)g->agent[slot], other);
    qe_report(kind, a->thread, a->site, site_of(g->site[slot]), "%s of %s, %s a %s by %s",
              deed(a->kind), place,
              kind == QE_BUG_PROXY_RACE ? "without fence.proxy.async after" : "not ordered after",
              deed(g->kind[slot]), other);
}

void qe_report_state(const qe_actor *a, const char *p, uint32_t bytes, qe_finding kind) {
    if (!is_news(kind, a, 0)) return;
    char place[TEXT];
    describe_place(a, p, place);
    bool outside = kind == QE_BUG_OOB_SHARED || kind == QE_BUG_OOB_GLOBAL;
    qe_report(kind, a->thread, a->site, NULL, "%s of %u bytes, %s at %s", deed(a->kind), bytes,
              outside ? "out of bounds" : "never written,", place);
}
