/* wgmma.c — warpgroup products: descriptors, groups, fences; and setmaxnreg.
 *
 * A product is computed when its 128 threads have issued it, because translated code moves
 * accumulators about before wait_group; each thread sleeps until then. For the checker its reads
 * of shared memory stay under way until every thread has waited for its group.
 *
 * Operands in shared memory, as bytes from the descriptor's start, with W = 128, 64 or 32 the
 * bytes of a swizzled row (element sizes: rows of K-major operands are 32 bytes of k a product):
 *
 *   K-major, no swizzle    (mn / 8) SBO + (kb / 16) LBO + (mn % 8) 16 + kb % 16, kb bytes along k
 *   K-major, swizzled      (mn / 8) SBO + (mn % 8) W + kb
 *   MN-major, no swizzle   (mn / 8) SBO + (k / 8) LBO + (k % 8) 16 + 2 (mn % 8)
 *   MN-major, swizzled     (2 mn / W) LBO + (k / 8) SBO + (k % 8) W + 2 mn % W
 *
 * and the swizzle moves 16-byte pieces by bits of the address itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/async.h"
#include "kernels/emu/operand.h"
#include "kernels/emu/wgmma_math.h"

enum { K_BYTES = 32, CHUNK = 16, REGISTER_FILE = 65536 };

/* Products committed together, or issued and not committed yet. */
typedef struct wg_group {
    uint32_t index; /* the committed groups of a thread that issues into it */
    uint32_t known; /* threads that have waited */
    qe_agent agent;
    struct wg_group *next;
} wg_group;

typedef struct qe_warpgroup {
    uint32_t arrived;
    qe_wgmma kind;
    uint64_t desc_a, desc_b;
    bool scale_d;
    uint32_t group;
    const qe_site *site;
    qe_thread *thread[QE_WG_THREADS];
    float *d[QE_WG_THREADS];
    uint32_t a[QE_WG_THREADS][4];
    wg_group *groups;
} qe_warpgroup;

static qe_wg_operands operands;

static qe_warpgroup *warpgroup_of(qe_thread *t, const qe_site *site) {
    qe_block *b = t->block;
    qe_block_async *async = qe_async_of_block(b);
    uint32_t n = (b->n_threads + QE_WG_THREADS - 1) / QE_WG_THREADS, i = t->linear / QE_WG_THREADS;
    if ((i + 1) * QE_WG_THREADS > b->n_threads)
        qe_fatal(QE_BUG_TENSOR, t, site, "wgmma: threads from %u on are not a whole warpgroup",
                 i * QE_WG_THREADS);
    if (!async->warpgroups) async->warpgroups = calloc(n, sizeof *async->warpgroups);
    if (!async->warpgroups) qe_fatal(QE_BUG_MEMORY, t, site, "the host has no memory");
    return &async->warpgroups[i];
}

void qe_warpgroups_end(qe_block *b) {
    qe_warpgroup *wg = b->async->warpgroups;
    if (!wg) return;
    for (uint32_t i = 0; i < (b->n_threads + QE_WG_THREADS - 1) / QE_WG_THREADS; i++) {
        while (wg[i].groups) {
            wg_group *g = wg[i].groups;
            wg[i].groups = g->next;
            qe_agent_end(&g->agent);
            free(g);
        }
    }
    free(wg);
    b->async->warpgroups = NULL;
}

static wg_group *group_of(qe_warpgroup *wg, uint32_t index) {
    wg_group *g = wg->groups;
    while (g && g->index != index) g = g->next;
    return g;
}

/* ---- operands -------------------------------------------------------------------------------- */

typedef struct operand {
    qe_thread *t;
    qe_agent *agent;
    const qe_site *site;
    uint32_t start, lbo, sbo;
    int swizzle; /* 0 none, 1 32, 2 64, 3 128 bytes */
    bool mn_major;
    qe_mma_type type;
} operand;

static operand decode(qe_thread *t, qe_agent *agent, uint64_t desc, bool mn_major, qe_mma_type type,
                      const qe_site *site) {
    if (desc >> 49 & 7u)
        qe_report(QE_BUG_TENSOR, t, site, NULL,
                  "wgmma: found a base offset of %u in descriptor 0x%llx, expected 0 and a tile "
                  "aligned to its swizzle pattern",
                  (unsigned)(desc >> 49 & 7u), (unsigned long long)desc);
    unsigned mode = (unsigned)(desc >> 62);
    return (operand){.t = t,
                     .agent = agent,
                     .site = site,
                     .start = (uint32_t)(desc & 0x3fffu) << 4,
                     .lbo = (uint32_t)(desc >> 16 & 0x3fffu) << 4,
                     .sbo = (uint32_t)(desc >> 32 & 0x3fffu) << 4,
                     .swizzle = mode == 0 ? 0 : (int)(4 - mode), /* 1 is 128, 3 is 32 bytes */
                     .mn_major = mn_major,
                     .type = type};
}

/* Chunk of 16 bytes: K-major, bytes 16 c .. of row mn; MN-major, elements mn .. mn + 7 of k = c. */
static const char *chunk(const operand *x, uint32_t mn, uint32_t c) {
    uint32_t at, w = 16u << x->swizzle;
    if (!x->mn_major)
        at = mn / 8 * x->sbo + mn % 8 * w + c * (x->swizzle ? CHUNK : x->lbo);
    else if (x->swizzle == 0)
        at = mn / 8 * x->sbo + c / 8 * x->lbo + c % 8 * CHUNK;
    else
        at = 2 * mn / w * x->lbo + c / 8 * x->sbo + c % 8 * w + 2 * mn % w;
    at = qe_swizzle(x->start + at, x->swizzle);
    const char *p = qe_shared(x->t, at, CHUNK, x->site);
    if (x->agent->id)
        qe_agent_access(x->agent, x->t->block, p, CHUNK, QE_READ | QE_BY_ASYNC, x->site);
    return p;
}

/* Row mn of the operand as k elements, or with MN-major eight rows at a time. */
static void put_a(float value, uint32_t row, int k) {
    float *at = operands.a[row / 16 * 8 + row % 8][k] + 2 * (row / 8 % 2);
    for (int i = 0; i < 16; i += 4) at[i] = at[i + 1] = value;
}

static void put_b(float value, uint32_t column, int k) {
    float *at = operands.b[column % 8 / 2][k] + column / 8 * 4 + column % 2;
    at[0] = at[2] = value;
}

typedef void put(float value, uint32_t mn, int k);

static inline __attribute__((always_inline)) void load(const operand *x, uint32_t n, float sign,
                                                       put *put_element) {
    float wide[16];
    int per_chunk = CHUNK / qe_operand_bytes(x->type);
    if (!x->mn_major) {
        for (uint32_t mn = 0; mn < n; mn++)
            for (int c = 0; c < K_BYTES / CHUNK; c++) {
                qe_operand_widen(x->type, chunk(x, mn, (uint32_t)c), wide, per_chunk);
                for (int i = 0; i < per_chunk; i++)
                    put_element(sign * wide[i], mn, c * per_chunk + i);
            }
        return;
    }
    for (uint32_t mn = 0; mn < n; mn += 8)
        for (int k = 0; k < 16; k++) {
            qe_operand_widen(x->type, chunk(x, mn, (uint32_t)k), wide, 8);
            for (uint32_t i = 0; i < 8; i++) put_element(sign * wide[i], mn + i, k);
        }
}

static void load_a_registers(const qe_warpgroup *wg, float sign) {
    int e = 4 / qe_operand_bytes(wg->kind.a);
    for (uint32_t l = 0; l < QE_WG_THREADS; l++) {
        float wide[16];
        uint32_t row = l / 32 * 16 + l % 32 / 4, t = l % 4;
        qe_operand_widen(wg->kind.a, wg->a[l], wide, 4 * e);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < e; j++)
                put_a(sign * wide[i * e + j], row + 8u * (i & 1),
                      (int)t * e + j + 4 * e * (i >> 1));
    }
}

static void multiply(qe_warpgroup *wg, qe_thread *t, wg_group *group) {
    const qe_wgmma *kind = &wg->kind;
    operands.n = kind->n;
    operands.k = K_BYTES / qe_operand_bytes(kind->a);
    float sign_a = kind->negate_a < 0 ? -1.0f : 1.0f, sign_b = kind->negate_b < 0 ? -1.0f : 1.0f;
    if (kind->a_in_registers) {
        load_a_registers(wg, sign_a);
    } else {
        operand a = decode(t, &group->agent, wg->desc_a, kind->trans_a, kind->a, wg->site);
        load(&a, QE_WG_ROWS, sign_a, put_a);
    }
    operand b = decode(t, &group->agent, wg->desc_b, kind->trans_b, kind->b, wg->site);
    load(&b, (uint32_t)kind->n, sign_b, put_b);
    if (!wg->scale_d)
        for (int l = 0; l < QE_WG_THREADS; l++)
            memset(wg->d[l], 0, sizeof(float) * (size_t)kind->n / 2);
    qe_wg_multiply(&operands, wg->d);
    qe_count_tensor(t, 2ull * QE_WG_ROWS * (unsigned)kind->n * (unsigned)operands.k);
}

/* ---- the instructions ------------------------------------------------------------------------ */

static void check_kind(qe_thread *t, const qe_wgmma *kind, const qe_site *site) {
    int bytes = qe_operand_bytes(kind->a);
    bool transposed = kind->trans_a || kind->trans_b;
    if (kind->n < 8 || kind->n > QE_WG_MAX_N || kind->n % 8 || qe_operand_is_integer(kind->a) ||
        qe_operand_is_integer(kind->b) || bytes != qe_operand_bytes(kind->b) ||
        (transposed && bytes != 2))
        qe_fatal(QE_BUG_TENSOR, t, site, "wgmma m64n%d of these types is not modelled", kind->n);
}

static bool agrees(const qe_warpgroup *wg, const qe_wgmma *kind, uint64_t desc_a, uint64_t desc_b,
                   bool scale_d, uint32_t group, const qe_site *site) {
    const qe_wgmma *o = &wg->kind;
    return o->n == kind->n && o->a == kind->a && o->b == kind->b &&
           o->a_in_registers == kind->a_in_registers && o->negate_a == kind->negate_a &&
           o->negate_b == kind->negate_b && o->trans_a == kind->trans_a &&
           o->trans_b == kind->trans_b && (kind->a_in_registers || wg->desc_a == desc_a) &&
           wg->desc_b == desc_b && wg->scale_d == scale_d && wg->group == group && wg->site == site;
}

static wg_group *join_group(qe_warpgroup *wg, qe_thread *t, const qe_site *site) {
    wg_group *g = group_of(wg, wg->group);
    if (g) {
        if (t->watch & QE_CHECK) qe_agent_join(&g->agent, t);
        return g;
    }
    g = calloc(1, sizeof *g);
    if (!g) qe_fatal(QE_BUG_MEMORY, t, site, "the host has no memory");
    g->index = wg->group;
    g->next = wg->groups;
    wg->groups = g;
    qe_agent_start(&g->agent, t, false);
    return g;
}

void qe_wgmma_async(qe_thread *t, const qe_wgmma *kind, float *d, const uint32_t *a,
                    uint64_t desc_a, uint64_t desc_b, bool scale_d, const qe_site *site) {
    qe_warpgroup *wg = warpgroup_of(t, site);
    qe_thread_async *mine = qe_async_of_thread(t);
    uint32_t l = t->linear % QE_WG_THREADS;
    if (!mine->fenced) {
        mine->fenced = true; /* once is enough */
        qe_report(QE_BUG_TENSOR, t, site, NULL, "wgmma: expected wgmma.fence since the last wait");
    }
    if (wg->arrived == 0) {
        check_kind(t, kind, site);
        wg->kind = *kind;
        wg->desc_a = desc_a;
        wg->desc_b = desc_b;
        wg->scale_d = scale_d;
        wg->group = mine->committed;
        wg->site = site;
    } else if (!agrees(wg, kind, desc_a, desc_b, scale_d, mine->committed, site)) {
        qe_fatal(QE_BUG_TENSOR, t, site,
                 "wgmma: threads of the warpgroup disagree: descriptors 0x%llx 0x%llx here, "
                 "0x%llx 0x%llx at %s:%u",
                 (unsigned long long)desc_a, (unsigned long long)desc_b,
                 (unsigned long long)wg->desc_a, (unsigned long long)wg->desc_b, wg->site->file,
                 wg->site->line);
    }
    wg_group *group = join_group(wg, t, site);
    mine->open = site;
    wg->thread[l] = t;
    wg->d[l] = d;
    if (a) memcpy(wg->a[l], a, sizeof wg->a[l]);
    if (++wg->arrived < QE_WG_THREADS) {
        qe_suspend(t, QE_WAIT_TENSOR, wg, 0, site);
        return;
    }
    multiply(wg, t, group);
    wg->arrived = 0;
    for (int i = 0; i < QE_WG_THREADS; i++)
        if (wg->thread[i] != t) qe_wake(wg->thread[i]);
    qe_progress();
}

void qe_wgmma_fence(qe_thread *t, const qe_site *site) {
    (void)site;
    qe_async_of_thread(t)->fenced = true;
}

void qe_wgmma_commit(qe_thread *t, const qe_site *site) {
    (void)site;
    qe_thread_async *mine = qe_async_of_thread(t);
    mine->committed++;
    mine->open = NULL;
}

void qe_wgmma_wait(qe_thread *t, uint32_t pending, const qe_site *site) {
    qe_warpgroup *wg = warpgroup_of(t, site);
    qe_thread_async *mine = qe_async_of_thread(t);
    uint32_t limit = mine->committed > pending ? mine->committed - pending : 0;
    mine->fenced = false;
    for (wg_group **at = &wg->groups; *at;) {
        wg_group *g = *at;
        bool new = g->index >= mine->waited && g->index < limit;
        if (new) qe_agent_waited(&g->agent, t);
        if (new && ++g->known == QE_WG_THREADS) {
            *at = g->next;
            qe_agent_end(&g->agent);
            free(g);
        } else {
            at = &g->next;
        }
    }
    if (mine->waited < limit) mine->waited = limit;
    qe_give_way(t);
}

/* ---- setmaxnreg ------------------------------------------------------------------------------ */

/* Registers of a thread at launch, as the launch bounds make the compiler choose them. */
static uint32_t registers_at_launch(const qe_kernel *k) {
    uint32_t threads = (k->max_threads + 31) / 32 * 32, blocks = k->min_blocks ? k->min_blocks : 1;
    uint32_t n = REGISTER_FILE / (threads * blocks) / 8 * 8;
    return n > 255 ? 255 : n;
}

void qe_setmaxnreg(qe_thread *t, uint32_t registers, bool increase, const qe_site *site) {
    const qe_kernel *k = t->block->cluster->launch->kernel;
    qe_block_async *async = qe_async_of_block(t->block);
    qe_thread_async *mine = qe_async_of_thread(t);
    if (k->max_threads == 0)
        qe_fatal(QE_BUG_TENSOR, t, site, "setmaxnreg: the kernel states no __launch_bounds__");
    if (mine->registers == 0) mine->registers = registers_at_launch(k);
    if (registers < 24 || registers > 256 || registers % 8 ||
        (increase ? registers < mine->registers : registers > mine->registers))
        qe_fatal(QE_BUG_TENSOR, t, site, "setmaxnreg.%s: found %u registers, the thread has %u",
                 increase ? "inc" : "dec", registers, mine->registers);
    int64_t more = (int64_t)registers - mine->registers;
    while (more > async->free_registers) {
        t->next = async->register_waiters;
        async->register_waiters = t;
        qe_suspend(t, QE_WAIT_TENSOR, async, (uint64_t)more, site);
    }
    async->free_registers -= more;
    mine->registers = registers;
    qe_thread *waiting = more < 0 ? async->register_waiters : NULL;
    if (waiting) async->register_waiters = NULL;
    while (waiting) {
        qe_thread *next = waiting->next;
        qe_wake(waiting);
        waiting = next;
    }
}

void qe_wgmma_describe(const void *object, uint64_t detail, char *text, size_t bytes) {
    if (detail) {
        const qe_block_async *async = object;
        snprintf(text, bytes, ": setmaxnreg needs %u more registers a thread, %lld are free",
                 (unsigned)detail, (long long)async->free_registers);
    } else {
        const qe_warpgroup *wg = object;
        snprintf(text, bytes, ": wgmma, %u of %d threads have issued it", wg->arrived,
                 QE_WG_THREADS);
    }
}
