/* emu_dump.c — what everybody waits for, when nobody can go on. */
#include "kernels/emu/scheduler.h"

#include <stdio.h>
#include <string.h>

enum { MAX_GROUPS = 24, NAMED = 4, TEXT_BYTES = 5000, LINE_BYTES = 300 };

typedef struct group { /* threads of one block that wait at one place for one thing */
    const qe_block *block;
    qe_wait wait;
    const void *object;
    uint64_t detail;
    const qe_site *site;
    uint32_t n, named[NAMED];
} group;

static const char *const verbs[] = {
    "running",         "barrier",      "warp collective",      "mbarrier",
    "cluster barrier", "tensor cores", "an asynchronous copy", "a value (spins)",
    "exited"};

static bool is_waiting(const qe_thread *t) {
    bool started = !(t->warp->fresh >> t->lane & 1);
    return started && t->wait != QE_RUNNABLE && t->wait != QE_EXITED;
}

static void add_to_groups(group *groups, uint32_t *n_groups, const qe_thread *t) {
    uint32_t g = 0;
    for (; g < *n_groups; g++) {
        const group *o = &groups[g];
        if (o->block == t->block && o->wait == t->wait && o->site == t->wait_site &&
            (t->wait == QE_WAIT_SPIN ||
             (o->object == t->wait_object && o->detail == t->wait_detail))) {
            break;
        }
    }
    if (g == MAX_GROUPS) return;
    if (g == *n_groups) {
        groups[(*n_groups)++] =
            (group){t->block, t->wait, t->wait_object, t->wait_detail, t->wait_site, 0, {0}};
    }
    if (groups[g].n < NAMED) groups[g].named[groups[g].n] = t->linear;
    groups[g].n++;
}

/* The thing they wait for, in words. */
static void describe(const group *g, char *out) {
    out[0] = '\0';
    if (g->wait == QE_WAIT_BARRIER) {
        const qe_barrier *bar = g->object;
        snprintf(out, LINE_BYTES, " %u, %u of %u arrived", (unsigned)g->detail, bar->arrived,
                 bar->whole_block ? g->block->live : bar->expected);
    } else if (g->wait == QE_WAIT_WARP) {
        snprintf(out, LINE_BYTES, " %s, mask 0x%x", (const char *)g->object, (unsigned)g->detail);
    } else if (g->wait == QE_WAIT_CLUSTER) {
        const qe_barrier *bar = g->object;
        snprintf(out, LINE_BYTES, ", %u of %u arrived", bar->arrived, g->block->cluster->live);
    } else if (g->wait == QE_WAIT_MBARRIER) {
        qe_mbarrier_describe(g->block, g->object, g->detail, out, LINE_BYTES);
    } else if (g->wait == QE_WAIT_TENSOR) {
        qe_wgmma_describe(g->object, g->detail, out, LINE_BYTES);
    }
}

static void write_groups(const group *groups, uint32_t n, char *text) {
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < n && at < TEXT_BYTES; i++) {
        const group *g = &groups[i];
        char what[LINE_BYTES], who[80];
        size_t w = 0;
        for (uint32_t k = 0; k < g->n && k < NAMED; k++) {
            w += (size_t)snprintf(who + w, sizeof who - w, "%s%u", k ? "," : "", g->named[k]);
        }
        describe(g, what);
        const uint32_t *b = g->block->ctaid;
        int more = snprintf(text + at, TEXT_BYTES - at,
                            "\n    block (%u,%u,%u): %u threads (%s%s) wait for %s%s at %s:%u",
                            b[0], b[1], b[2], g->n, who, g->n > NAMED ? ",.." : "", verbs[g->wait],
                            what, g->site ? g->site->file : "?", g->site ? g->site->line : 0);
        at += more > 0 ? (size_t)more : 0;
    }
}

static uint32_t collect(group *groups, qe_thread **one, bool *masks_differ) {
    uint32_t n = 0;
    *masks_differ = false;
    for (qe_cluster *c = qe_now.clusters; c; c = c->next) {
        for (uint32_t r = 0; r < c->n_blocks; r++) {
            qe_block *b = c->blocks[r];
            for (uint32_t w = 0; w < b->n_warps; w++) {
                if (qe_warp_masks_differ(&b->warps[w])) *masks_differ = true;
            }
            for (uint32_t i = 0; i < b->n_threads; i++) {
                if (!is_waiting(&b->threads[i])) continue;
                add_to_groups(groups, &n, &b->threads[i]);
                if (!*one) *one = &b->threads[i];
            }
        }
    }
    return n;
}

void qe_deadlock(void) {
    static char text[TEXT_BYTES + LINE_BYTES];
    static group groups[MAX_GROUPS];
    qe_thread *one = NULL;
    bool masks_differ;
    uint32_t n = collect(groups, &one, &masks_differ);
    write_groups(groups, n, text);
    qe_fatal(masks_differ ? QE_BUG_WARP : QE_BUG_DEADLOCK, one, one ? one->wait_site : NULL,
             "%s, %llu threads:%s",
             masks_differ ? "lanes of a warp name different masks and nobody can go on"
                          : "nobody can go on",
             (unsigned long long)qe_now.live, text);
}

void qe_livelock(qe_thread *t, const qe_site *site) {
    static char text[TEXT_BYTES + LINE_BYTES];
    static group groups[MAX_GROUPS];
    qe_thread *one = NULL;
    bool masks_differ;
    write_groups(groups, collect(groups, &one, &masks_differ), text);
    qe_fatal(QE_BUG_LIVELOCK, t, site, "%llu looks and nothing has moved:%s",
             (unsigned long long)qe_now.spins, text);
}
