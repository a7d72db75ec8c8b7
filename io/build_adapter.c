/* build_adapter.c — reads `adapter.*` and puts the adapters beside a model that is declared. */
#include "io/build.h"
#include "io/peft.h"
#include "io/text_buffer.h"

#include <stdio.h>
#include <string.h>

enum { KEY_SIZE = 64 };

/* What PEFT trains whole in every classification model: the modules its heads are made of. */
static const char *const heads[] = {"classifier", "score"};
enum { N_HEADS = sizeof heads / sizeof *heads };

static const char *element(char out[KEY_SIZE], const char *list, int i, const char *member) {
    snprintf(out, KEY_SIZE, "%s.%d%s%s", list, i, *member ? "." : "", member);
    return out;
}

/* A list of strings, with room for `extra` more. */
static qn_status list_of(const qn_config *c, const char *key, qn_setup *setup, int extra,
                         const char ***items, int *n) {
    char name[KEY_SIZE];
    *n = (int)qn_config_count(c, key);
    *items = qn_setup_alloc(setup, (size_t)(*n + extra + 1) * sizeof **items);
    if (!*items) return QN_ERR_OOM;
    for (int i = 0; i < *n; i++) (*items)[i] = qn_config_string(c, element(name, key, i, ""));
    return QN_OK;
}

static bool has_module(const qn_params *p, const char *module) {
    size_t length = strlen(module);
    for (int i = 0; i < p->n; i++) {
        const char *hf = p->item[i].hf_name;
        if (strncmp(hf, module, length) == 0 && hf[length] == '.') return true;
    }
    return false;
}

static qn_status patterns_of(const qn_config *c, qn_setup *setup, qn_lora_config *o) {
    static const char list[] = "adapter.patterns";
    int n = (int)qn_config_count(c, list);
    qn_lora_pattern *all = qn_setup_alloc(setup, (size_t)(n + 1) * sizeof *all);
    if (!all) return QN_ERR_OOM;
    for (int i = 0; i < n; i++) {
        char match[KEY_SIZE], r[KEY_SIZE], alpha[KEY_SIZE];
        element(match, list, i, "match");
        element(r, list, i, "r");
        element(alpha, list, i, "alpha");
        all[i] =
            (qn_lora_pattern){.match = qn_config_string(c, match),
                              .rank = qn_config_is_set(c, r) ? qn_config_int(c, r) : 0,
                              .alpha = qn_config_is_set(c, alpha) ? qn_config_number(c, alpha) : 0};
    }
    o->patterns = all;
    o->n_patterns = n;
    return QN_OK;
}

qn_status qn_build_adapter(const qn_build *b, qn_params *p) {
    const qn_config *c = b->config;
    if (!qn_config_is(c, "adapter.type", "lora")) return QN_OK;
    qn_lora_config o = {.rank = qn_config_int(c, "adapter.r"),
                        .alpha = qn_config_number(c, "adapter.alpha"),
                        .dropout = qn_config_number(c, "adapter.dropout"),
                        .rslora = qn_config_boolean(c, "adapter.use_rslora"),
                        .dora = qn_config_boolean(c, "adapter.use_dora"),
                        .gaussian = qn_config_is(c, "adapter.init", "gaussian"),
                        .lr_ratio = qn_config_number(c, "adapter.loraplus_lr_ratio"),
                        .bias = qn_config_is(c, "adapter.bias", "all") ? QN_LORA_BIAS_ALL
                                : qn_config_is(c, "adapter.bias", "lora_only")
                                    ? QN_LORA_BIAS_ADAPTED
                                    : QN_LORA_BIAS_NONE};
    const char **modules, **targets;
    QN_TRY(list_of(c, "adapter.targets", p->setup, 0, &targets, &o.n_targets));
    QN_TRY(
        list_of(c, "adapter.modules_to_save", p->setup, N_HEADS, &modules, &o.n_modules_to_save));
    for (int i = 0; i < N_HEADS; i++) {
        if (has_module(p, heads[i])) modules[o.n_modules_to_save++] = heads[i];
    }
    o.targets = targets;
    o.modules_to_save = modules;
    QN_TRY(patterns_of(c, p->setup, &o));
    return qn_lora_declare(&o, p);
}

static qn_status add_notes(qn_build *b, const char *lines) {
    qn_text t = {0};
    qn_text_add(&t, b->notes ? b->notes : "");
    qn_text_add(&t, lines);
    qn_free(b->notes);
    b->notes = NULL;
    return qn_text_take(&t, &b->notes);
}

/* A device without the fused op computes the same, with more traffic. */
static qn_status tell_parts(qn_build *b, const qn_params *p) {
    if (p->n_adapters == 0 ||
        qn_device_kernel(b->device, &qn_op_linear_adapted, p->weights.dtype)) {
        return QN_OK;
    }
    return add_notes(b, "adapters: this device has no kernel that adds them inside their layer's "
                        "product; each is added by a product of its own\n");
}

qn_status qn_build_adapter_weights(qn_build *b) {
    qn_params *p = b->session->params;
    QN_TRY(tell_parts(b, p));
    if (!qn_config_is_set(b->config, "adapter.init_from")) return qn_lora_init_magnitudes(p);
    qn_peft *a;
    qn_status s = qn_peft_open(qn_config_string(b->config, "adapter.init_from"), &a);
    if (s == QN_OK) {
        s = qn_peft_load(a, p);
        if (s == QN_OK) s = add_notes(b, qn_peft_notes(a));
        qn_peft_close(a);
    }
    return s == QN_OK ? QN_OK : qn_fail_prefix(s, "adapter.init_from");
}
