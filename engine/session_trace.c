/* session_trace.c — which kernel each matrix product of a session's programs runs on, and why. */
#include "engine/tape.h"
#include "engine/train.h"

#ifdef QUERN_CUDA

#include "kernels/matmul_tune.h"

#include <stdlib.h>
#include <string.h>

typedef struct texts { /* those told so far */
    char **text;
    int n, capacity;
} texts;

static void texts_free(texts *t) {
    for (int i = 0; i < t->n; i++) qn_free(t->text[i]);
    qn_free(t->text);
}

/* *is_new: `text` has not been told. */
static qn_status remember(texts *t, const char *text, bool *is_new) {
    size_t bytes = strlen(text) + 1;
    *is_new = false;
    for (int i = 0; i < t->n; i++) {
        if (strcmp(t->text[i], text) == 0) return QN_OK;
    }
    if (t->n == t->capacity) {
        int capacity = t->capacity ? 2 * t->capacity : 32;
        char **more = qn_realloc(t->text, (size_t)t->capacity * sizeof *more,
                                 (size_t)capacity * sizeof *more, "a trace");
        if (!more) return QN_ERR_OOM;
        t->text = more;
        t->capacity = capacity;
    }
    char *copy = qn_alloc(bytes, "a trace");
    if (!copy) return QN_ERR_OOM;
    memcpy(copy, text, bytes);
    t->text[t->n++] = copy;
    *is_new = true;
    return QN_OK;
}

static qn_status trace_program(const qn_program *p, const qn_gpu *gpu, texts *told,
                               qn_trace_taker *take, void *ctx) {
    for (int i = 0; i < qn_program_call_count(p); i++) {
        char text[2048];
        bool is_new;
        qn_product product;
        qn_status s = qn_cuda_product_of(&qn_program_node(p, i)->call, &product);
        if (s == QN_ERR_UNSUPPORTED) continue; /* another op */
        if (s != QN_OK) return s;
        qn_product_explain(&product, gpu, text, sizeof text);
        QN_TRY(remember(told, text, &is_new));
        if (is_new) take(ctx, text);
    }
    return QN_OK;
}

qn_status qn_session_trace(const qn_session *s, qn_trace_taker *take, void *ctx) {
    texts told = {0};
    qn_gpu gpu;
    if (s->o.device != QN_CUDA || s->o.plan_only) return QN_OK;
    QN_TRY(qn_cuda_gpu(&gpu));
    qn_status status = QN_OK;
    for (int k = 0; k < QN_PROGRAM_COUNT && status == QN_OK; k++) {
        if (s->program[k]) status = trace_program(s->program[k], &gpu, &told, take, ctx);
    }
    texts_free(&told);
    return status;
}

#else

qn_status qn_session_trace(const qn_session *s, qn_trace_taker *take, void *ctx) {
    (void)s, (void)take, (void)ctx;
    return QN_OK;
}

#endif
