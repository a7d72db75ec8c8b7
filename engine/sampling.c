/* sampling.c — the next token from its logits: penalties, temperature, the cuts, the draw. */
#include "engine/infer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct qn_sampler {
    qn_sampling o;
    int64_t n;
    double *weight; /* per token: its logit, then its unnormalised probability */
    int32_t *order; /* a heap of tokens; the taken ones gather behind it */
    unsigned char *penalised;
};

qn_status qn_sampler_create(const qn_sampling *o, int64_t vocabulary, qn_sampler **out) {
    if (vocabulary < 1 || vocabulary > INT32_MAX)
        return qn_fail(QN_ERR_USAGE, "sampler: a vocabulary of %lld tokens", (long long)vocabulary);
    qn_sampler *s = qn_alloc(sizeof *s, "a sampler");
    if (!s) return QN_ERR_OOM;
    *s = (qn_sampler){.o = *o, .n = vocabulary};
    s->weight = qn_alloc((size_t)vocabulary * sizeof *s->weight, "sampling");
    s->order = qn_alloc((size_t)vocabulary * sizeof *s->order, "sampling");
    s->penalised = qn_alloc((size_t)vocabulary, "sampling");
    if (!s->weight || !s->order || !s->penalised) {
        qn_sampler_free(s);
        return QN_ERR_OOM;
    }
    *out = s;
    return QN_OK;
}

void qn_sampler_free(qn_sampler *s) {
    if (!s) return;
    qn_free(s->weight);
    qn_free(s->order);
    qn_free(s->penalised);
    qn_free(s);
}

static void penalise(qn_sampler *s, const int32_t *seen, int64_t n_seen) {
    double p = s->o.repetition_penalty;
    if (p == 0 || p == 1) return;
    memset(s->penalised, 0, (size_t)s->n);
    for (int64_t i = 0; i < n_seen; i++) {
        int32_t id = seen[i];
        if (id < 0 || id >= s->n || s->penalised[id]) continue;
        s->penalised[id] = 1;
        s->weight[id] = s->weight[id] > 0 ? s->weight[id] / p : s->weight[id] * p;
    }
}

/* Moves i down its heap; equal weights keep the smaller token first. */
static void sift(const double *w, int32_t *heap, int64_t n, int64_t i) {
    for (;;) {
        int64_t top = i, left = 2 * i + 1, right = left + 1;
        for (int64_t c = left; c <= right && c < n; c++) {
            if (w[heap[c]] > w[heap[top]] || (w[heap[c]] == w[heap[top]] && heap[c] < heap[top]))
                top = c;
        }
        if (top == i) return;
        int32_t swap = heap[i];
        heap[i] = heap[top];
        heap[top] = swap;
        i = top;
    }
}

/* Brings the `most` heaviest tokens, or as many as hold `share`, to the end of `order`, the
 * heaviest last. Returns their number; *gathered receives their weight. */
static int64_t take(qn_sampler *s, int64_t most, double share, double *gathered) {
    int64_t taken = 0;
    *gathered = 0;
    while (taken < most && (taken == 0 || *gathered < share)) {
        int64_t last = s->n - 1 - taken;
        int32_t heaviest = s->order[0];
        s->order[0] = s->order[last];
        s->order[last] = heaviest;
        *gathered += s->weight[heaviest];
        taken++;
        sift(s->weight, s->order, last, 0);
    }
    return taken;
}

static int64_t cut(qn_sampler *s, double total, double *gathered) {
    const qn_sampling *o = &s->o;
    bool nucleus = o->top_p > 0 && o->top_p < 1;
    int64_t most = o->top_k > 0 && o->top_k < s->n ? o->top_k : s->n;
    for (int64_t i = s->n / 2 - 1; i >= 0; i--) sift(s->weight, s->order, s->n, i);
    int64_t taken =
        take(s, most, nucleus && most == s->n ? o->top_p * total : (double)INFINITY, gathered);
    double share = nucleus && most < s->n ? o->top_p * *gathered : (double)INFINITY;
    double least = o->min_p * s->weight[s->order[s->n - 1]];
    int64_t kept = 0;
    double sum = 0;
    while (kept < taken) { /* the heaviest always stays */
        double w = s->weight[s->order[s->n - 1 - kept]];
        if (kept > 0 && (sum >= share || w < least)) break;
        sum += w;
        kept++;
    }
    *gathered = sum;
    return kept;
}

int32_t qn_sampler_draw(qn_sampler *s, const qn_tensor *logits, int64_t row, int64_t draw,
                        const int32_t *seen, int64_t n_seen) {
    for (int64_t i = 0; i < s->n; i++) s->weight[i] = qn_tensor_get(logits, i);
    penalise(s, seen, n_seen);
    double top = -INFINITY;
    int32_t best = 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->weight[i] > top) {
            top = s->weight[i];
            best = (int32_t)i;
        }
    }
    if (s->o.temperature <= 0 || !isfinite(top)) return best;
    double total = 0, gathered;
    for (int64_t i = 0; i < s->n; i++) {
        double w = exp((s->weight[i] - top) / s->o.temperature);
        s->weight[i] = isnan(w) ? 0.0 : w;
        s->order[i] = (int32_t)i;
        total += s->weight[i];
    }
    int64_t kept = cut(s, total, &gathered);
    char scope[32] = "generate";
    if (row > 0) snprintf(scope, sizeof scope, "generate.%lld", (long long)row);
    double target =
        gathered * qn_rng_uniform(qn_rng_key(s->o.seed, scope, "sample"), (uint64_t)draw, 0);
    for (int64_t i = 0; i < kept; i++) {
        int32_t token = s->order[s->n - 1 - i];
        target -= s->weight[token];
        if (target < 0) return token;
    }
    return best; /* rounding left nothing to draw from */
}
