/* attention_cpu.h — what op_attention.c (the meaning) and attention_cpu.c (the tiles) share. */
#ifndef QN_ATTENTION_CPU_H
#define QN_ATTENTION_CPU_H

#include "engine/op_shared.h"

/* Slots: attention and attention_bwd begin alike, so that one reader serves both. */
enum {
    QNI_ATTN_Q,
    QNI_ATTN_K,
    QNI_ATTN_V,
    QNI_ATTN_DOCUMENTS,
    QNI_ATTN_START,
    QNI_ATTN_RNG,
    QNI_ATTN_O, /* backward only, from here on */
    QNI_ATTN_LSE,
    QNI_ATTN_DO
};
enum { QNI_ATTN_OUT_O, QNI_ATTN_OUT_LSE };
enum { QNI_ATTN_DQ, QNI_ATTN_DK, QNI_ATTN_DV };

/* One call, read once per run. */
typedef struct qni_attention {
    const qn_call *call;
    int64_t b, t, s, h, g, d;
    double scale;
    bool causal;
    int64_t window;       /* newest keys a query sees; 0 = all */
    const int32_t *start; /* position of query 0 of each sample; NULL = s - t */
    int64_t start_stride; /* 0 = one for all */
    bool dropout;
    uint32_t threshold; /* drop where the draw is below it */
    double keep_scale;  /* 1 / (1 - p) */
    uint64_t key, step, sample;
} qni_attention;

/* The sizes alone, for infer and cost. */
void qni_attention_sizes(const qn_call *c, qni_attention *a);
/* The sizes and what lies in start and rng. */
void qni_attention_read(const qn_call *c, qni_attention *a);

/* As far as position goes, query i of sample b sees keys [first, limit). */
static inline int64_t qni_attention_limit(const qni_attention *a, int64_t b, int64_t i) {
    if (!a->causal) return a->s;
    int64_t n = (a->start ? a->start[b * a->start_stride] : a->s - a->t) + i + 1;
    return n < 0 ? 0 : n > a->s ? a->s : n;
}
static inline int64_t qni_attention_first(const qni_attention *a, int64_t b, int64_t i) {
    if (a->window == 0) return 0;
    int64_t n = (a->start ? a->start[b * a->start_stride] : a->s - a->t) + i + 1 - a->window;
    return n < 0 ? 0 : n > a->s ? a->s : n;
}

static inline int32_t qni_attention_document(const qni_attention *a, int64_t b, int64_t i) {
    const qn_tensor *t = a->call->in[QNI_ATTN_DOCUMENTS];
    return ((const int32_t *)t->data)[b * t->stride[0] + i * t->stride[1]];
}

/* Global element of weight (b, h, i, 0); the dropout draw of key j is element + j. */
static inline uint64_t qni_attention_element(const qni_attention *a, int64_t b, int64_t h,
                                             int64_t i) {
    uint64_t row = (a->sample + (uint64_t)b) * (uint64_t)a->h + (uint64_t)h;
    return (row * (uint64_t)a->t + (uint64_t)i) * (uint64_t)a->s;
}

size_t qni_attention_forward_scratch(const qni_attention *a, int threads);
size_t qni_attention_backward_scratch(const qni_attention *a, int threads);
qn_status qni_attention_forward_cpu(const qn_call *c) QN_CHECKED;
qn_status qni_attention_backward_cpu(const qn_call *c) QN_CHECKED;

#endif
