/* config_hf_write.c — a trained model's config.json, as transformers reads it. */
#include "io/config_hf.h"

#include <stdio.h>
#include <string.h>

typedef struct writing {
    const qn_config *c;
    const char *family;
    qn_text *out;
} writing;

static void add_key(const writing *w, const char *key) {
    qn_text_add(w->out, w->out->length > 1 ? ",\n  " : "\n  ");
    qn_text_json_string(w->out, key);
    qn_text_add(w->out, ": ");
}

/* A number that is no integer by its nature keeps a point: readers tell the two apart. */
static void add_number(const writing *w, const cJSON *value) {
    size_t before = w->out->length;
    qn_json_write(w->out, value, 1);
    if (w->out->data && !strpbrk(w->out->data + before, ".e")) qn_text_add(w->out, ".0");
}

static void add_value(const writing *w, const char *key, const cJSON *value) {
    add_key(w, key);
    qn_json_write(w->out, value, 1);
}

static void add_string(const writing *w, const char *key, const char *value) {
    add_key(w, key);
    qn_text_json_string(w->out, value);
}

static bool applies(const writing *w, const qni_hf_key *m) {
    return qni_hf_is_one_of(w->family, m->families) && qni_key_find(m->key) >= 0;
}

static void add_mapped(const writing *w, const qni_hf_key *m, int64_t vocab) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(m->hf, "|"), m->hf);
    const cJSON *value = qni_config_get(w->c, m->key);
    if (strcmp(m->key, "model.vocab_size") == 0) {
        add_key(w, name);
        qn_text_printf(w->out, "%lld", (long long)vocab);
    } else if (strcmp(m->key, "model.activation") == 0 && cJSON_IsString(value)) {
        add_string(w, name, qni_hf_activation_name(value->valuestring, w->family));
    } else if (value) {
        add_key(w, name);
        if (qni_keys[qni_key_find(m->key)].type == QNI_NUMBER)
            add_number(w, value);
        else
            qn_json_write(w->out, value, 1);
    } else if (m->absent) { /* absent means something else to the reader */
        add_key(w, name);
        qn_text_add(w->out, "null");
    }
}

/* The form of transformers 4, which 5 reads too. */
static void add_rope(const writing *w) {
    static const char prefix[] = "model.rope_scaling.";
    if (!qni_hf_is_one_of(w->family, QNI_HF_DECODERS)) return;
    const cJSON *part = qni_config_get(w->c, "model.partial_rotary_factor");
    add_key(w, "rope_theta");
    add_number(w, qni_config_get(w->c, "model.rope_theta"));
    if (part && part->valuedouble != 1.0) add_value(w, "partial_rotary_factor", part);
    add_key(w, "rope_scaling");
    const char *type = qn_config_string(w->c, "model.rope_scaling.rope_type");
    if (!*type || strcmp(type, "default") == 0) {
        qn_text_add(w->out, "null");
        return;
    }
    const char *comma = "{";
    for (int i = 0; i < qni_key_count; i++) {
        const cJSON *value = w->c->slot[i];
        if (!value || strncmp(qni_keys[i].name, prefix, strlen(prefix)) != 0) continue;
        qn_text_printf(w->out, "%s\n    \"%s\": ", comma, qni_key_leaf(&qni_keys[i]));
        if (qni_keys[i].type == QNI_NUMBER)
            add_number(w, value);
        else
            qn_json_write(w->out, value, 2);
        comma = ",";
    }
    qn_text_add(w->out, "\n  }");
}

/* With names, their numbers both ways; else only how many there are. */
static void add_labels(const writing *w, int64_t labels) {
    int64_t n = qn_config_count(w->c, "model.id2label");
    if (n == 0) {
        add_key(w, "num_labels");
        qn_text_printf(w->out, "%lld", (long long)labels);
        return;
    }
    for (int way = 0; way < 2; way++) {
        add_key(w, way ? "label2id" : "id2label");
        for (int64_t i = 0; i < n; i++) {
            char key[48];
            snprintf(key, sizeof key, "model.id2label.%lld", (long long)i);
            const char *label = qn_config_string(w->c, key);
            qn_text_add(w->out, i ? ",\n    " : "{\n    ");
            if (way)
                qn_text_json_string(w->out, label);
            else
                qn_text_printf(w->out, "\"%lld\"", (long long)i);
            qn_text_add(w->out, ": ");
            if (way)
                qn_text_printf(w->out, "%lld", (long long)i);
            else
                qn_text_json_string(w->out, label);
        }
        qn_text_add(w->out, "\n  }");
    }
}

/* A decoder's classifier looks for the last token that is not padding, so it must have a number;
 * the end of a text serves where the base model has none. */
static void add_padding(const writing *w, const cJSON *base) {
    const cJSON *id = qn_json_get(base, "pad_token_id");
    if (!id || cJSON_IsNull(id)) id = qn_json_get(base, "eos_token_id");
    if (cJSON_IsArray(id)) id = id->child;
    add_key(w, "pad_token_id");
    if (id)
        qn_json_write(w->out, id, 1);
    else
        qn_text_add(w->out, "null");
}

/* Whether a member of the old config.json is written from the configuration, or is about the file
 * it came with. */
static bool is_replaced(const writing *w, const char *name, bool labelled, bool padded) {
    if (qni_hf_is_one_of(name, "architectures|model_type|dtype|torch_dtype|_name_or_path|"
                               "transformers_version|quantization_config|rope_theta|rope_scaling|"
                               "rope_parameters|partial_rotary_factor"))
        return true;
    if (labelled && qni_hf_is_one_of(name, "id2label|label2id|num_labels|problem_type"))
        return true;
    if (padded && strcmp(name, "pad_token_id") == 0) return true;
    for (int i = 0; i < qni_hf_key_count; i++)
        if (applies(w, &qni_hf_keys[i]) && qni_hf_is_one_of(name, qni_hf_keys[i].hf)) return true;
    return false;
}

qn_status qni_hf_config_write(const qn_config *c, const cJSON *base, int64_t vocab, int64_t labels,
                              const char *dtype, qn_text *out) {
    const writing w = {.c = c, .family = qn_config_string(c, "model.type"), .out = out};
    const char *head = qn_config_is_set(c, "model.head") ? qn_config_string(c, "model.head") : "lm";
    char architecture[64];
    if (!qni_hf_architecture(w.family, head, architecture))
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "Hugging Face's transformers has no model for model.type \"%s\" with head "
                       "\"%s\"",
                       w.family, head);
    if (strcmp(w.family, "gpt2") == 0 && !qn_config_boolean(c, "model.bias"))
        return qn_fail(QN_ERR_UNSUPPORTED, "model.bias: GPT-2 in transformers always has biases");
    bool labelled = strstr(head, "classification") != NULL,
         padded = strcmp(head, "sequence_classification") == 0 &&
                  !qni_hf_is_one_of(w.family, QNI_HF_ENCODERS);
    qn_text_add(out, "{");
    add_key(&w, "architectures");
    qn_text_printf(out, "[\"%s\"]", architecture);
    add_string(&w, "model_type", w.family);
    for (int i = 0; i < qni_hf_key_count; i++)
        if (applies(&w, &qni_hf_keys[i])) add_mapped(&w, &qni_hf_keys[i], vocab);
    add_rope(&w);
    if (labelled) add_labels(&w, labels);
    if (strcmp(head, "sequence_classification") == 0) {
        const char *objective = qn_config_string(c, "objective");
        add_string(&w, "problem_type",
                   strcmp(objective, "regress") == 0       ? "regression"
                   : strcmp(objective, "multi_label") == 0 ? "multi_label_classification"
                                                           : "single_label_classification");
    }
    if (padded) add_padding(&w, base);
    add_string(&w, "dtype", dtype);
    add_string(&w, "torch_dtype", dtype);
    if (base) {
        const cJSON *m;
        cJSON_ArrayForEach(m, base) {
            if (!is_replaced(&w, m->string, labelled, padded)) add_value(&w, m->string, m);
        }
    } else { /* otherwise the class's, which this vocabulary may not have */
        static const char *const tokens[] = {"bos_token_id", "eos_token_id"};
        for (int i = 0; i < 2; i++) {
            add_key(&w, tokens[i]);
            qn_text_add(out, "null");
        }
    }
    qn_text_add(out, "\n}\n");
    return out->status;
}
