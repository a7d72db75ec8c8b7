/* self_attention.c — projections, norms of heads, rotary positions, cache, attention. */
#include "layers/layers.h"

#include <math.h>
#include <stdio.h>

typedef struct heads {
    qn_value *q, *k, *v; /* (B,T,H,D), (B,T,G,D) */
} heads;

/* A slice of the last axis of x (B,T,n), seen as (B,T,count,D). */
static qn_value *split_heads(qn_tape *t, qn_value *x, int64_t first, int64_t count, int64_t d) {
    if (!x) return NULL;
    int64_t row = x->t.stride[1];
    int64_t shape[] = {x->t.shape[0], x->t.shape[1], count, d};
    int64_t stride[] = {x->t.shape[1] * row, row, d, 1};
    return qn_tape_view(t, x, 4, shape, stride, first);
}

static heads project(qn_graph *g, const qn_block *b, const char *path, qn_value *x) {
    const qn_model_config *c = b->c;
    int64_t d = c->head_dim, q = c->num_attention_heads, kv = c->num_key_value_heads;
    char name[3][80];
    heads h;
    if (b->fused_qkv) {
        snprintf(name[0], sizeof name[0], "%s.qkv", path);
        qn_value *all = qn_dense(g, name[0], x, QN_ACT_NONE, NULL);
        h.q = split_heads(g->tape, all, 0, q, d);
        h.k = split_heads(g->tape, all, q * d, kv, d);
        h.v = split_heads(g->tape, all, (q + kv) * d, kv, d);
        return h;
    }
    for (int i = 0; i < 3; i++) snprintf(name[i], sizeof name[i], "%s.%c", path, "qkv"[i]);
    qn_value *part[3];
    qn_dense_group(g, 3, (const char *const[]){name[0], name[1], name[2]}, x, part);
    h.q = split_heads(g->tape, part[0], 0, q, d);
    h.k = split_heads(g->tape, part[1], 0, kv, d);
    h.v = split_heads(g->tape, part[2], 0, kv, d);
    return h;
}

/* RMSNorm over each head, where the model has one. */
static qn_value *head_norm(qn_graph *g, const qn_block *b, const char *path, const char *norm,
                           qn_value *x) {
    char name[80], weight[96];
    snprintf(name, sizeof name, "%s.%s", path, norm);
    snprintf(weight, sizeof weight, "%s.weight", name);
    if (!qn_params_find(g->params, weight)) return x;
    return qn_norm(g, name, QN_RMS_NORM, b->c->norm_eps, x, NULL, NULL);
}

/* 0 = 1 / sqrt(head_dim), the op's own. */
static double score_scale(const qn_model_config *c, int layer) {
    if (!c->unscaled_attention && !c->scale_by_layer) return 0.0;
    double scale = c->unscaled_attention ? 1.0 : 1.0 / sqrt((double)c->head_dim);
    return c->scale_by_layer ? scale / (layer + 1) : scale;
}

static int64_t window_of(const qn_model_config *c, int layer) {
    bool slides = c->sliding_layer ? c->sliding_layer[layer] : layer >= c->max_window_layers;
    return slides ? c->sliding_window : 0;
}

qn_value *qn_self_attention(qn_graph *g, const qn_block *b, int layer, qn_value *x,
                            const qn_forward *in) {
    const qn_model_config *c = b->c;
    char path[64];
    snprintf(path, sizeof path, "blocks.%d.attn", layer);
    heads h = project(g, b, path, x);
    h.q = head_norm(g, b, path, "q_norm", h.q);
    h.k = head_norm(g, b, path, "k_norm", h.k);
    if (b->rotary) {
        qn_value *at = qn_forward_field(in, "positions");
        h.q = qn_rope(g->tape, h.q, at, in->start, b->rotary);
        h.k = qn_rope(g->tape, h.k, at, in->start, b->rotary);
    }
    qn_value *start = NULL;
    if (in->cache) {
        h.k = qn_cache_write(g->tape, in->cache[layer].k, h.k, in->start);
        h.v = qn_cache_write(g->tape, in->cache[layer].v, h.v, in->start);
        start = in->start;
    }
    bool training = qn_tape_get_options(g->tape)->training;
    qn_attention_attrs attrs = {.causal = !b->bidirectional,
                                .scale = score_scale(c, layer),
                                .dropout = training ? c->attention_dropout : 0.0,
                                .window = window_of(c, layer)};
    qn_value *o = qn_attention(g->tape, h.q, h.k, h.v, qn_forward_field(in, "documents"), start,
                               attrs.dropout > 0 ? g->rng : NULL, &attrs);
    if (!o) return NULL;
    int64_t flat[] = {o->t.shape[0], o->t.shape[1], c->num_attention_heads * c->head_dim};
    return qn_reshape(g->tape, o, 3, flat);
}
