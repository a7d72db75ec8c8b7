/* dropout.cu — dropout whose mask is a function of (key, step, element) and is never stored.
 *
 * Strategy, traffic and limits: walk.cuh. One Philox block gives the words of four consecutive
 * elements; a thread with 4 or 8 aligned elements computes one or two (10 rounds of two 32 x 32
 * multiplications each, about 25 instructions an element: below the time of the bytes in f32).
 * Word for word the mask of the CPU.
 */
#include "kernels/walk.cuh"

struct dropout_map {
    uint64_t key;
    const int64_t *rng; /* step, sample offset */
    int64_t per_sample;
    uint32_t threshold;
    float scale;
    template <int V>
    QN_DEV_MEMBER void map(float (&y)[1][V], const float (&x)[1][V], int64_t index) const {
        uint64_t step = (uint64_t)rng[0], first = (uint64_t)(rng[1] * per_sample + index);
        if (V % 4 == 0 && (first & 3u) == 0) {
#pragma unroll
            for (int g = 0; g < V / 4; g++) {
                qn_u32x4 words = qn_philox(key, (first >> 2) + g, step);
#pragma unroll
                for (int e = 0; e < 4; e++) keep(y[0][4 * g + e], x[0][4 * g + e], words.v[e]);
            }
        } else { /* begins inside a block: indices known, so that words stay registers */
            constexpr int BLOCKS = (V + 6) / 4;
            const uint32_t shift = (uint32_t)first & 3u;
            uint32_t word[4 * BLOCKS];
#pragma unroll
            for (int g = 0; g < BLOCKS; g++) {
                qn_u32x4 block = {{0, 0, 0, 0}};
                if (g == 0 || 4 * g < (int)shift + V)
                    block = qn_philox(key, (first >> 2) + g, step);
#pragma unroll
                for (int e = 0; e < 4; e++) word[4 * g + e] = block.v[e];
            }
#pragma unroll
            for (int e = 0; e < V; e++) {
                uint32_t low = shift & 1u ? word[e + 1] : word[e];
                uint32_t high = shift & 1u ? word[e + 3] : word[e + 2];
                keep(y[0][e], x[0][e], shift & 2u ? high : low);
            }
        }
    }
    QN_DEV_MEMBER void keep(float &y, float x, uint32_t word) const {
        y = word >= threshold ? x * scale : 0.0f;
    }
};

static qn_status run_dropout(const qn_call *c) {
    const qn_tensor *x = c->in[0], *t[] = {x, c->out[0]};
    double p = ((const qn_dropout_attrs *)c->attrs)->p;
    dropout_map f = {c->rng_key, (const int64_t *)c->in[1]->data, 1, (uint32_t)(p * 0x1p32),
                     (float)(1.0 / (1.0 - p))};
    for (int i = 1; i < x->ndim; i++) f.per_sample *= x->shape[i];
    return walk_dispatch<1, 1>(c, x, t, f);
}

extern "C" const qn_cuda_body qn_cuda_dropout[] = {
    {"dropout", QN_REAL_DTYPES, run_dropout},
    {NULL},
};
