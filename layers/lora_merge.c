/* lora_merge.c — adapters folded into the weights they lie beside. */
#include "layers/layers.h"

#include <math.h>
#include <stdio.h>

typedef struct merging {  /* of one adapter */
    qn_tensor w, a, b, m; /* m.data NULL without magnitudes */
    double scale;
    qn_dtype stored;
} merging;

static double rounded(double v, qn_dtype dt) {
    switch (dt) {
    case QN_BF16: return (double)qn_bf16_to_f32(qn_f32_to_bf16((float)v));
    case QN_F16: return (double)qn_f16_to_f32(qn_f32_to_f16((float)v));
    case QN_F32: return (double)(float)v;
    default: return v;
    }
}

/* One row of w + scale b a, in f64; with magnitudes brought to its own length m. */
static void merge_row(void *ctx, int64_t row) {
    const merging *x = ctx;
    int64_t in = x->w.shape[1], rank = x->a.shape[0];
    double factor = 1.0;
    for (int pass = x->m.data ? 0 : 1; pass < 2; pass++) { /* first the length, then the row */
        double square = 0.0;
        for (int64_t k = 0; k < in; k++) {
            double v = qn_tensor_get(&x->w, row * in + k), sum = 0.0;
            for (int64_t j = 0; j < rank; j++) {
                sum += qn_tensor_get(&x->b, row * rank + j) * qn_tensor_get(&x->a, j * in + k);
            }
            v += x->scale * sum;
            square += v * v;
            if (pass == 1) qn_tensor_set(&x->w, row * in + k, rounded(factor * v, x->stored));
        }
        if (pass == 0) factor = qn_tensor_get(&x->m, row) / sqrt(square);
    }
}

static qn_tensor tensor_of(const qn_params *p, const char *path, const char *kind) {
    char name[320];
    snprintf(name, sizeof name, "%s.%s", path, kind);
    const qn_param *q = qn_params_find(p, name);
    return q ? qn_param_tensor(p, (int)(q - p->item), &p->weights) : (qn_tensor){0};
}

qn_status qn_lora_merge(qn_params *p, qn_dtype stored, int threads) {
    if (qn_device_get(p->device)->separate) {
        return qn_fail(QN_ERR_UNSUPPORTED, "adapters are merged on the host");
    }
    for (int i = 0; i < p->n_adapters; i++) {
        const qn_adapter *a = &p->adapter[i];
        merging x = {.w = tensor_of(p, a->path, "weight"),
                     .a = tensor_of(p, a->path, "lora_A.weight"),
                     .b = tensor_of(p, a->path, "lora_B.weight"),
                     .m = tensor_of(p, a->path, "lora_magnitude_vector.weight"),
                     .scale = a->scale,
                     .stored = stored};
        qn_parallel_for(threads, x.w.shape[0], merge_row, &x);
    }
    p->n_adapters = 0;
    return QN_OK;
}
