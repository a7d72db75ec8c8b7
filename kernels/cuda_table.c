/* cuda_table.c — the list of CUDA bodies, family by family. */
#include "kernels/cuda.h"

#include <string.h>

#ifdef QUERN_CUDA
extern const qn_cuda_body qn_cuda_elementwise[], qn_cuda_shape[], qn_cuda_activation[],
    qn_cuda_dropout[], qn_cuda_norm[], qn_cuda_softmax[], qn_cuda_loss[], qn_cuda_lookup[],
    qn_cuda_rope[], qn_cuda_reduce[], qn_cuda_update[], qn_cuda_attention[], qn_cuda_matmul[],
    qn_cuda_linear_loss[], qn_cuda_pool_tokens[], qn_cuda_adapter[];
#endif

static const qn_cuda_body *const tables[] = {
#ifdef QUERN_CUDA
    qn_cuda_elementwise,
    qn_cuda_shape,
    qn_cuda_activation,
    qn_cuda_dropout,
    qn_cuda_norm,
    qn_cuda_softmax,
    qn_cuda_loss,
    qn_cuda_lookup,
    qn_cuda_rope,
    qn_cuda_reduce,
    qn_cuda_update,
    qn_cuda_attention,
    qn_cuda_matmul,
    qn_cuda_linear_loss,
    qn_cuda_pool_tokens,
    qn_cuda_adapter,
#endif
    NULL,
};

const qn_cuda_body *qn_cuda_find(const char *op) {
    for (const qn_cuda_body *const *table = tables; *table; table++) {
        for (const qn_cuda_body *body = *table; body->op; body++) {
            if (strcmp(body->op, op) == 0) return body;
        }
    }
    return NULL;
}
