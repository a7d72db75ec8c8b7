/* counters.c — what a launch moves: bytes, sectors, bank conflicts, tensor-core work.
 *
 * The lanes of a warp run one after the other, so each keeps a log of its accesses until the warp
 * meets or ends. Then the k-th execution of each instruction by each lane is one warp access.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/scheduler.h"

enum { WARP = 32, SECTOR = 32, BANKS = 32, WORD = 4, ROW = 16, FIRST_LOG = 64, FIRST_SITES = 64 };

typedef struct access {
    uintptr_t address;
    const qe_site *site;
    uint16_t bytes, flags;
    uint32_t turn; /* which execution of the site by this lane; set when lanes differ */
} access;

struct qe_thread_count {
    access *log;
    uint32_t n, capacity;
    uint32_t launch;
    struct qe_thread_count *next, *next_of_all; /* free; all there are */
};

struct qe_launch_count {
    qe_traffic sum;
    uint64_t instructions;  /* of the module before this launch */
    qe_site_traffic *sites; /* open addressing by site; packed when the launch has ended */
    uint32_t n_sites, capacity;
};

static struct {
    struct qe_thread_count *free, *all;
    struct qe_launch_count *launches;
    int n_launches, capacity;
    struct qe_launch_count now;
    uint32_t launch;
} counters;

static void *widen(void *p, size_t bytes) {
    void *q = realloc(p, bytes);
    if (!q) abort();
    return q;
}

/* ---- launches -------------------------------------------------------------------------------- */

static uint64_t instructions_of(const qe_module *m) {
    uint64_t n = 0;
    for (uint32_t r = 0; m && r < m->n_ranges; r++) n += m->runs[r] * m->ranges[r].n_sites;
    return n;
}

void qe_count_launch_begin(qe_launch *l) {
    counters.launch++;
    counters.free = NULL;
    for (struct qe_thread_count *c = counters.all; c; c = c->next_of_all) {
        c->next = counters.free;
        counters.free = c;
    }
    uint64_t blocks = (uint64_t)l->grid[0] * l->grid[1] * l->grid[2];
    counters.now = (struct qe_launch_count){
        .sum = {.kernel = l->kernel->name,
                .blocks = blocks,
                .threads = blocks * l->block[0] * l->block[1] * l->block[2]},
        .instructions = instructions_of(l->kernel->module),
    };
    l->count = &counters.now;
}

void qe_count_launch_end(qe_launch *l) {
    struct qe_launch_count *c = &counters.now;
    c->sum.instructions = instructions_of(l->kernel->module) - c->instructions;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->capacity; i++)
        if (c->sites[i].site) c->sites[n++] = c->sites[i];
    if (counters.n_launches == counters.capacity) {
        counters.capacity = counters.capacity ? 2 * counters.capacity : 64;
        counters.launches =
            widen(counters.launches, (size_t)counters.capacity * sizeof *counters.launches);
    }
    counters.launches[counters.n_launches++] = *c;
    l->count = NULL;
}

int qe_traffic_count(void) { return counters.n_launches; }

const qe_traffic *qe_traffic_get(int i) {
    return i >= 0 && i < counters.n_launches ? &counters.launches[i].sum : NULL;
}

int qe_traffic_sites(int i, const qe_site_traffic **sites) {
    if (i < 0 || i >= counters.n_launches) return 0;
    *sites = counters.launches[i].sites;
    return (int)counters.launches[i].n_sites;
}

void qe_traffic_clear(void) {
    for (int i = 0; i < counters.n_launches; i++) free(counters.launches[i].sites);
    counters.n_launches = 0;
}

/* ---- instructions ---------------------------------------------------------------------------- */

static qe_site_traffic *place_of(qe_site_traffic *sites, uint32_t capacity, const qe_site *site) {
    uint32_t i = (uint32_t)((uintptr_t)site / 8 * 0x9e3779b1u) & (capacity - 1);
    while (sites[i].site && sites[i].site != site) i = (i + 1) & (capacity - 1);
    return &sites[i];
}

static qe_site_traffic *traffic_of(const qe_site *site) {
    struct qe_launch_count *c = &counters.now;
    if (2 * (c->n_sites + 1) > c->capacity) {
        uint32_t capacity = c->capacity ? 2 * c->capacity : FIRST_SITES;
        qe_site_traffic *sites = calloc(capacity, sizeof *sites);
        if (!sites) abort();
        for (uint32_t i = 0; i < c->capacity; i++)
            if (c->sites[i].site) *place_of(sites, capacity, c->sites[i].site) = c->sites[i];
        free(c->sites);
        c->sites = sites;
        c->capacity = capacity;
    }
    qe_site_traffic *s = place_of(c->sites, c->capacity, site);
    if (!s->site) {
        s->site = site;
        c->n_sites++;
    }
    return s;
}

/* ---- one warp access ------------------------------------------------------------------------- */

/* Different numbers among n; v is spoiled. Neighbours are the common case. */
static uint32_t distinct(uintptr_t *v, uint32_t n) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = kept;
        while (j > 0 && v[j - 1] != v[i]) j--;
        if (j == 0) v[kept++] = v[i];
    }
    return kept;
}

static void count_global(const access *const *a, uint32_t n) {
    uintptr_t sector[2 * WARP];
    uint32_t m = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        uintptr_t first = a[i]->address / SECTOR;
        uintptr_t last = (a[i]->address + a[i]->bytes - 1) / SECTOR;
        sector[m++] = first;
        if (last != first) sector[m++] = last;
        bytes += a[i]->bytes;
    }
    uint64_t sectors = distinct(sector, m);
    qe_traffic *sum = &counters.now.sum;
    if (a[0]->flags & QE_WRITE) {
        sum->global_written += bytes;
        sum->sectors_written += sectors;
    } else {
        sum->global_read += bytes;
        sum->sectors_read += sectors;
    }
    qe_site_traffic *s = traffic_of(a[0]->site);
    s->warps++;
    s->bytes += bytes;
    s->sectors += sectors;
}

/* The most different words of one bank, less the one that is free. */
static uint32_t conflicts(uintptr_t *word, uint32_t n) {
    uint32_t in_bank[BANKS] = {0}, most = 0;
    n = distinct(word, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *bank = &in_bank[word[i] % BANKS];
        if (++*bank > most) most = *bank;
    }
    return most ? most - 1 : 0;
}

static void count_shared(const access *const *a, const uint8_t *lane, uint32_t n) {
    uint32_t bytes = a[0]->bytes, phases = bytes <= WORD ? 1 : bytes / WORD, cycles = 0, more = 0;
    for (uint32_t phase = 0, i = 0; phase < phases; phase++) {
        uintptr_t word[WARP * 2];
        uint32_t m = 0;
        for (; i < n && lane[i] < (phase + 1) * WARP / phases; i++)
            for (uint32_t w = 0; w < (bytes + WORD - 1) / WORD; w++)
                word[m++] = a[i]->address / WORD + w;
        if (m) cycles++;
        more += conflicts(word, m);
    }
    counters.now.sum.shared_cycles += cycles;
    counters.now.sum.shared_conflicts += more;
    qe_site_traffic *s = traffic_of(a[0]->site);
    s->warps++;
    s->cycles += cycles;
    s->conflicts += more;
}

static void count_warp(const access *const *a, const uint8_t *lane, uint32_t n) {
    if (a[0]->flags & QE_ATOMIC) counters.now.sum.atomics += n;
    if (qe_is_shared((const void *)a[0]->address))
        count_shared(a, lane, n);
    else
        count_global(a, n);
}

/* ---- logs ------------------------------------------------------------------------------------ */

static struct qe_thread_count *take_log(void) {
    struct qe_thread_count *c = counters.free;
    if (c) {
        counters.free = c->next;
    } else {
        if (!(c = calloc(1, sizeof *c))) abort();
        c->capacity = FIRST_LOG;
        c->log = widen(NULL, c->capacity * sizeof *c->log);
        c->next_of_all = counters.all;
        counters.all = c;
    }
    c->n = 0;
    c->launch = counters.launch;
    return c;
}

void qe_count_access(qe_thread *t, const void *p, uint32_t bytes, uint32_t flags,
                     const qe_site *site) {
    if (!qe_is_global(p) && !qe_is_shared(p)) return;
    if (!t->count || t->count->launch != counters.launch) t->count = take_log();
    struct qe_thread_count *c = t->count;
    if (c->n == c->capacity) {
        c->capacity *= 2;
        c->log = widen(c->log, c->capacity * sizeof *c->log);
    }
    c->log[c->n++] = (access){(uintptr_t)p, site, (uint16_t)bytes, (uint16_t)flags, 0};
}

/* All lanes that have accesses have the same ones: those at one place belong together. */
static bool are_alike(const qe_warp *w, const struct qe_thread_count **first) {
    *first = NULL;
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        const struct qe_thread_count *c = w->lanes[i].count;
        if (!c || !c->n) continue;
        if (!*first) *first = c;
        if (c->n != (*first)->n) return false;
        for (uint32_t j = 0; j < c->n; j++)
            if (c->log[j].site != (*first)->log[j].site) return false;
    }
    return true;
}

static void merge_alike(const qe_warp *w, uint32_t n) {
    for (uint32_t j = 0; j < n; j++) {
        const access *a[WARP];
        uint8_t lane[WARP];
        uint32_t m = 0;
        for (uint32_t i = 0; i < w->n_lanes; i++) {
            const struct qe_thread_count *c = w->lanes[i].count;
            if (!c || !c->n) continue;
            lane[m] = (uint8_t)i;
            a[m++] = &c->log[j];
        }
        count_warp(a, lane, m);
    }
}

typedef struct entry {
    const access *a;
    uint32_t place; /* in the lane's log */
    uint8_t lane;
} entry;

static int by_lane(const void *x, const void *y) { /* site, lane, order of execution */
    const entry *a = x, *b = y;
    if (a->a->site != b->a->site) return a->a->site < b->a->site ? -1 : 1;
    if (a->lane != b->lane) return a->lane < b->lane ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}
static int by_turn(const void *x, const void *y) { /* site, turn, lane */
    const entry *a = x, *b = y;
    if (a->a->site != b->a->site) return a->a->site < b->a->site ? -1 : 1;
    if (a->a->turn != b->a->turn) return a->a->turn < b->a->turn ? -1 : 1;
    return a->lane < b->lane ? -1 : a->lane > b->lane;
}

static void merge_unlike(const qe_warp *w) {
    uint32_t n = 0, m = 0;
    for (uint32_t i = 0; i < w->n_lanes; i++) n += w->lanes[i].count ? w->lanes[i].count->n : 0;
    entry *e = widen(NULL, n * sizeof *e);
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        struct qe_thread_count *c = w->lanes[i].count;
        for (uint32_t j = 0; c && j < c->n; j++) e[m++] = (entry){&c->log[j], j, (uint8_t)i};
    }
    qsort(e, n, sizeof *e, by_lane);
    for (uint32_t i = 1; i < n; i++) {
        bool again = e[i].a->site == e[i - 1].a->site && e[i].lane == e[i - 1].lane;
        uint32_t turn = again ? e[i - 1].a->turn + 1 : 0;
        w->lanes[e[i].lane].count->log[e[i].place].turn = turn;
    }
    qsort(e, n, sizeof *e, by_turn);
    for (uint32_t i = 0, end; i < n; i = end) {
        const access *a[WARP];
        uint8_t lane[WARP];
        for (end = i; end < n && e[end].a->site == e[i].a->site && e[end].a->turn == e[i].a->turn;
             end++) {
            a[end - i] = e[end].a;
            lane[end - i] = e[end].lane;
        }
        count_warp(a, lane, end - i);
    }
    free(e);
}

void qe_count_meet(qe_warp *w) {
    const struct qe_thread_count *first;
    for (uint32_t i = 0; i < w->n_lanes; i++) { /* of an earlier launch: not ours */
        struct qe_thread_count **c = &w->lanes[i].count;
        if (*c && (*c)->launch != counters.launch) *c = NULL;
    }
    if (!are_alike(w, &first))
        merge_unlike(w);
    else if (first)
        merge_alike(w, first->n);
    for (uint32_t i = 0; i < w->n_lanes; i++) {
        struct qe_thread_count *c = w->lanes[i].count;
        if (!c) continue;
        c->n = 0;
        if (w->live) continue;
        c->next = counters.free;
        counters.free = c;
        w->lanes[i].count = NULL;
    }
}

/* ---- what is counted directly ---------------------------------------------------------------- */

void qe_count_matrix(qe_thread *t, const uint32_t *row_address, int rows, uint32_t flags,
                     const qe_site *site) {
    (void)t;
    (void)flags;
    uint32_t more = 0, matrices = (uint32_t)rows / 8;
    for (uint32_t m = 0; m < matrices; m++) {
        uintptr_t word[8 * ROW / WORD];
        for (uint32_t i = 0; i < 8 * ROW / WORD; i++)
            word[i] = row_address[8 * m + i / (ROW / WORD)] / WORD + i % (ROW / WORD);
        more += conflicts(word, 8 * ROW / WORD);
    }
    counters.now.sum.shared_cycles += matrices;
    counters.now.sum.shared_conflicts += more;
    qe_site_traffic *s = traffic_of(site);
    s->warps++;
    s->cycles += matrices;
    s->conflicts += more;
}

void qe_count_async(qe_thread *t, uint64_t read, uint64_t written) {
    (void)t;
    counters.now.sum.async_read += read;
    counters.now.sum.async_written += written;
}

void qe_count_tensor(qe_thread *t, uint64_t flops) {
    (void)t;
    counters.now.sum.tensor_flops += flops;
}
