/* build_attention.c — what a configuration says about a decoder's attention: how scores are scaled,
 * rotary positions, sliding windows.
 */
#include "io/build_parts.h"

#include <stdio.h>
#include <string.h>

static void rotary(const qn_config *c, qn_rotary *r) {
    static const char *const kinds[] = {"default", "linear", "dynamic", "llama3", "yarn"};
    for (int i = 0; i < 5; i++) {
        if (qn_config_is(c, "model.rope_scaling.rope_type", kinds[i])) r->kind = (qn_rotary_kind)i;
    }
    const struct {
        const char *key;
        double *value;
    } numbers[] = {
        {"model.rope_theta", &r->theta},
        {"model.partial_rotary_factor", &r->partial_rotary_factor},
        {"model.rope_scaling.factor", &r->factor},
        {"model.rope_scaling.low_freq_factor", &r->low_freq_factor},
        {"model.rope_scaling.high_freq_factor", &r->high_freq_factor},
        {"model.rope_scaling.attention_factor", &r->attention_factor},
        {"model.rope_scaling.mscale", &r->mscale},
        {"model.rope_scaling.mscale_all_dim", &r->mscale_all_dim},
        {"model.rope_scaling.beta_fast", &r->beta_fast},
        {"model.rope_scaling.beta_slow", &r->beta_slow},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        *numbers[i].value = qn_config_number(c, numbers[i].key);
    }
    r->untruncated =
        r->kind == QN_ROTARY_YARN && !qn_config_boolean(c, "model.rope_scaling.truncate");
    r->original_max_position_embeddings =
        qn_config_int(c, "model.rope_scaling.original_max_position_embeddings");
}

/* Qwen's configurations state a window also where it is not used. */
static qn_status windows(qn_build *b, const qn_config *c) {
    qn_model_config *m = &b->model_config;
    bool used = qn_config_is(c, "model.type", "mistral") ||
                qn_config_boolean(c, "model.use_sliding_window");
    m->sliding_window = used ? qn_config_int(c, "model.sliding_window") : 0;
    m->max_window_layers = qn_config_int(c, "model.max_window_layers");
    int64_t n = qn_config_count(c, "model.layer_types");
    if (!qn_config_is_set(c, "model.layer_types") || m->sliding_window == 0) return QN_OK;
    b->sliding_layer = qn_alloc((size_t)n * sizeof *b->sliding_layer, "layer types");
    if (!b->sliding_layer) return QN_ERR_OOM;
    for (int64_t i = 0; i < n; i++) {
        char key[64];
        snprintf(key, sizeof key, "model.layer_types.%lld", (long long)i);
        b->sliding_layer[i] = qn_config_is(c, key, "sliding_attention");
    }
    m->sliding_layer = b->sliding_layer;
    return QN_OK;
}

qn_status qni_build_attention(qn_build *b, const qn_config *c) {
    qn_model_config *m = &b->model_config;
    m->scale_by_layer = qn_config_boolean(c, "model.scale_attn_by_inverse_layer_idx");
    m->unscaled_attention =
        qn_config_is(c, "model.type", "gpt2") && !qn_config_boolean(c, "model.scale_attn_weights");
    rotary(c, &m->rotary);
    return windows(b, c);
}
