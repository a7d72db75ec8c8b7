/* warp.c — collectives: the lanes named by a mask meet, and the last one does the work of all.
 *
 * Operands stay on the lanes' own stacks. Lanes that have exited are not waited for.
 */
#include "kernels/emu/scheduler.h"

#include <stdlib.h>
#include <string.h>

struct qe_meeting {
    uint32_t mask, arrived;
    const char *kind;
    const qe_site *site;
    qe_finish *finish;
    void *context;
    void *data[32];
    qe_thread *lane[32];
    qe_meeting *next;
};

static qe_meeting *idle;

static qe_meeting *open_meeting(qe_warp *w, uint32_t mask, const char *kind, const qe_site *site) {
    qe_meeting *m = idle;
    if (m) {
        idle = m->next;
    } else {
        m = malloc(sizeof *m);
        if (!m) abort();
    }
    m->mask = mask;
    m->arrived = 0;
    m->kind = kind;
    m->site = site;
    m->next = w->meetings;
    w->meetings = m;
    return m;
}

static void close_meeting(qe_warp *w, qe_meeting *m) {
    qe_meeting **at = &w->meetings;
    while (*at != m) at = &(*at)->next;
    *at = m->next;
    m->next = idle;
    idle = m;
}

/* All are here: does the work and wakes everyone but `last`. */
static void hold(qe_warp *w, qe_meeting *m, qe_thread *last) {
    for (uint32_t absent = ~m->arrived; absent; absent &= absent - 1) {
        int i = __builtin_ctz(absent);
        m->data[i] = NULL;
        m->lane[i] = NULL;
    }
    if (m->finish) m->finish(m->context, m->data, m->lane);
    if (w->block->cluster->launch->watch & QE_COUNT) qe_count_meet(w);
    for (uint32_t rest = m->arrived; rest; rest &= rest - 1) {
        qe_thread *t = m->lane[__builtin_ctz(rest)];
        if (t != last) qe_wake(t);
    }
    close_meeting(w, m);
}

static bool is_complete(const qe_warp *w, const qe_meeting *m) {
    return (m->mask & w->live & ~m->arrived) == 0;
}

/* The open meeting of this mask; lanes that came for something else are a finding. */
static qe_meeting *join(qe_thread *t, uint32_t mask, const char *kind, const qe_site *site) {
    qe_meeting *m = t->warp->meetings;
    while (m && m->mask != mask) m = m->next;
    if (!m) return open_meeting(t->warp, mask, kind, site);
    if (m->kind != kind && strcmp(m->kind, kind) != 0) {
        qe_fatal(QE_BUG_WARP, t, site, "lanes of mask 0x%x meet for %s here and for %s at %s:%u",
                 mask, kind, m->kind, m->site->file, m->site->line);
    }
    if (m->site != site && strcmp(kind, "syncwarp") != 0) {
        qe_report(QE_BUG_WARP, t, site, m->site,
                  "lanes of mask 0x%x meet for %s from different places", mask, kind);
    }
    return m;
}

void qe_warp_meet(qe_thread *t, uint32_t mask, const char *kind, void *data, size_t bytes,
                  qe_finish *finish, void *context, const qe_site *site) {
    (void)bytes;
    uint32_t bit = UINT32_C(1) << t->lane;
    if (!(mask & bit)) {
        qe_fatal(QE_BUG_WARP, t, site, "lane %u calls %s with mask 0x%x, which does not name it",
                 t->lane, kind, mask);
    }
    qe_meeting *m = join(t, mask, kind, site);
    m->data[t->lane] = data;
    m->lane[t->lane] = t;
    m->arrived |= bit;
    m->finish = finish;
    m->context = context;
    if (is_complete(t->warp, m)) {
        hold(t->warp, m, t);
        qe_give_way(t);
    } else {
        qe_suspend(t, QE_WAIT_WARP, kind, mask, site);
    }
}

void qe_warp_exit(qe_warp *w) {
    for (qe_meeting *m = w->meetings, *next; m; m = next) {
        next = m->next;
        if (m->arrived && is_complete(w, m)) hold(w, m, NULL);
    }
}

void qe_warp_block_end(qe_block *b) {
    for (uint32_t i = 0; i < b->n_warps; i++) {
        while (b->warps[i].meetings) close_meeting(&b->warps[i], b->warps[i].meetings);
    }
}

bool qe_warp_masks_differ(const qe_warp *w) {
    for (const qe_meeting *m = w->meetings; m; m = m->next) {
        for (const qe_meeting *o = m->next; o; o = o->next) {
            if (m->mask & o->mask) return true;
        }
    }
    return false;
}

/* ---- collectives ----------------------------------------------------------------------------- */

static void finish_sync(void *context, void *const *data, qe_thread *const *lane) {
    (void)context;
    (void)data;
    qe_thread *there[32];
    uint32_t n = 0;
    for (int i = 0; i < 32; i++) {
        if (lane[i]) there[n++] = lane[i];
    }
    if (there[0]->watch & QE_CHECK) qe_sync_meet(there, n);
}

void qe_warp_sync(qe_thread *t, uint32_t mask, const qe_site *site) {
    qe_warp_meet(t, mask, "syncwarp", NULL, 0, finish_sync, NULL, site);
}

typedef struct shuffle {
    uint32_t value, b, c, result;
    bool in_range;
    const qe_site *site;
} shuffle;

static void finish_shuffle(void *context, void *const *data, qe_thread *const *lane) {
    qe_shfl_mode mode = *(qe_shfl_mode *)context;
    for (int32_t i = 0; i < 32; i++) {
        shuffle *s = data[i];
        if (!s) continue;
        int32_t segment = (int32_t)(s->c >> 8 & 31), clamp = (int32_t)(s->c & 31);
        int32_t b = (int32_t)(s->b & 31), j = i;
        int32_t highest = (i & segment) | (clamp & ~segment), lowest = i & segment;
        switch (mode) {
        case QE_SHFL_UP: j = i - b; break;
        case QE_SHFL_DOWN: j = i + b; break;
        case QE_SHFL_BFLY: j = i ^ b; break;
        case QE_SHFL_IDX: j = lowest | (b & ~segment); break;
        }
        s->in_range = mode == QE_SHFL_UP ? j >= highest : j <= highest;
        if (!s->in_range) j = i;
        const shuffle *from = data[j & 31];
        if (from) {
            s->result = from->value;
        } else {
            s->result = UINT32_MAX;
            qe_report(QE_BUG_WARP, lane[i], s->site, NULL,
                      "lane %d reads lane %d, which takes no part in the shuffle", i, j);
        }
    }
}

uint32_t qe_shfl(qe_thread *t, qe_shfl_mode mode, uint32_t mask, uint32_t value, uint32_t b,
                 uint32_t c, bool *in_range, const qe_site *site) {
    static const char *const kinds[] = {"shfl.idx", "shfl.up", "shfl.down", "shfl.bfly"};
    shuffle s = {.value = value, .b = b, .c = c, .site = site};
    qe_warp_meet(t, mask, kinds[mode], &s, sizeof s, finish_shuffle, &mode, site);
    if (in_range) *in_range = s.in_range;
    return s.result;
}

typedef struct word {
    uint64_t value;
    uint32_t result;
    bool flag;
} word;

static void finish_vote(void *context, void *const *data, qe_thread *const *lane) {
    (void)lane;
    uint32_t yes = 0, there = 0, result = 0;
    for (int i = 0; i < 32; i++) {
        const word *w = data[i];
        if (!w) continue;
        there |= UINT32_C(1) << i;
        yes |= (uint32_t)w->value << i;
    }
    switch (*(qe_vote_mode *)context) {
    case QE_VOTE_ALL: result = yes == there; break;
    case QE_VOTE_ANY: result = yes != 0; break;
    case QE_VOTE_UNI: result = yes == there || yes == 0; break;
    case QE_VOTE_BALLOT: result = yes; break;
    }
    for (uint32_t rest = there; rest; rest &= rest - 1) {
        ((word *)data[__builtin_ctz(rest)])->result = result;
    }
}

uint32_t qe_vote(qe_thread *t, qe_vote_mode mode, uint32_t mask, bool pred, const qe_site *site) {
    static const char *const kinds[] = {"vote.all", "vote.any", "vote.uni", "vote.ballot"};
    word w = {.value = pred};
    qe_warp_meet(t, mask, kinds[mode], &w, sizeof w, finish_vote, &mode, site);
    return w.result;
}

/* Each lane learns which lanes have its value. */
static void finish_match(void *context, void *const *data, qe_thread *const *lane) {
    (void)context;
    (void)lane;
    uint32_t there = 0;
    for (int i = 0; i < 32; i++) there |= data[i] ? UINT32_C(1) << i : 0;
    for (int i = 0; i < 32; i++) {
        word *w = data[i];
        if (!w) continue;
        uint32_t same = 0;
        for (uint32_t rest = there; rest; rest &= rest - 1) {
            int j = __builtin_ctz(rest);
            if (((const word *)data[j])->value == w->value) same |= UINT32_C(1) << j;
        }
        w->result = same;
        w->flag = same == there;
    }
}

uint32_t qe_match_any(qe_thread *t, uint32_t mask, uint64_t value, const qe_site *site) {
    word w = {.value = value};
    qe_warp_meet(t, mask, "match.any", &w, sizeof w, finish_match, NULL, site);
    return w.result;
}

uint32_t qe_match_all(qe_thread *t, uint32_t mask, uint64_t value, bool *all, const qe_site *site) {
    word w = {.value = value};
    qe_warp_meet(t, mask, "match.all", &w, sizeof w, finish_match, NULL, site);
    if (all) *all = w.flag;
    return w.flag ? w.result : 0;
}

static uint32_t combine(qe_redux_op op, uint32_t a, uint32_t b) {
    switch (op) {
    case QE_REDUX_ADD: return a + b;
    case QE_REDUX_MIN_S: return (int32_t)a < (int32_t)b ? a : b;
    case QE_REDUX_MIN_U: return a < b ? a : b;
    case QE_REDUX_MAX_S: return (int32_t)a > (int32_t)b ? a : b;
    case QE_REDUX_MAX_U: return a > b ? a : b;
    case QE_REDUX_AND: return a & b;
    case QE_REDUX_OR: return a | b;
    case QE_REDUX_XOR: return a ^ b;
    }
    return 0;
}

static void finish_redux(void *context, void *const *data, qe_thread *const *lane) {
    (void)lane;
    uint32_t result = 0;
    bool first = true;
    for (int i = 0; i < 32; i++) {
        const word *w = data[i];
        if (!w) continue;
        uint32_t value = (uint32_t)w->value;
        result = first ? value : combine(*(qe_redux_op *)context, result, value);
        first = false;
    }
    for (int i = 0; i < 32; i++) {
        if (data[i]) ((word *)data[i])->result = result;
    }
}

uint32_t qe_redux(qe_thread *t, qe_redux_op op, uint32_t mask, uint32_t value,
                  const qe_site *site) {
    static const char *const kinds[] = {"redux.add",   "redux.min.s", "redux.min.u", "redux.max.s",
                                        "redux.max.u", "redux.and",   "redux.or",    "redux.xor"};
    word w = {.value = value};
    qe_warp_meet(t, mask, kinds[op], &w, sizeof w, finish_redux, &op, site);
    return w.result;
}

static void finish_elect(void *context, void *const *data, qe_thread *const *lane) {
    (void)context;
    (void)lane;
    int leader = 0;
    while (!data[leader]) leader++;
    for (int i = 0; i < 32; i++) {
        word *w = data[i];
        if (!w) continue;
        w->result = (uint32_t)leader;
        w->flag = i == leader;
    }
}

uint32_t qe_elect(qe_thread *t, uint32_t mask, bool *elected, const qe_site *site) {
    word w = {0};
    qe_warp_meet(t, mask, "elect", &w, sizeof w, finish_elect, NULL, site);
    if (elected) *elected = w.flag;
    return w.result;
}

/* Lanes run apart here: the caller alone is certainly active. */
uint32_t qe_activemask(qe_thread *t) { return UINT32_C(1) << t->lane; }
