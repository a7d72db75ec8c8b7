/* config_hf.c — the config.json of a pretrained model as the lowest layer of a configuration.
 *
 * Its keys become model.* keys where the user's files and --set say nothing. Both generations of
 * transformers are read: rope_theta and rope_scaling (4.x) or rope_parameters (5.x). A key that is
 * absent has its class's default; null leaves the matter to Quern's own. What changes a model's
 * arithmetic and is not supported is an error; everything else in the file is somebody else's
 * business.
 */
#include "io/config_hf.h"
#include "io/file.h"

#include <stdio.h>
#include <string.h>

typedef struct reading {
    qn_config *c;
    const char *family; /* its model_type */
} reading;

/* ---- values ---------------------------------------------------------------------------------- */

/* The row of a key that exists and has a meaning for this model; -1 if there is none. */
static int row_of(const reading *r, const char *key) {
    int row = qni_key_find(key);
    return row >= 0 && qni_keys[row].type != QNI_SECTION &&
                   qni_config_when(r->c, qni_keys[row].only) == QNI_YES
               ? row
               : -1;
}

/* Puts a value where the user has said nothing. */
static qn_status put(const reading *r, int row, cJSON *value) {
    if (r->c->slot[row] || r->c->bad[row] || cJSON_IsNull(value)) return QN_OK;
    return qni_check_key(r->c, row, qni_keys[row].name, value, "/");
}

/* A value that config.json does not spell out; it has no place. */
static qn_status put_text(const reading *r, const char *key, const char *json) {
    int row = row_of(r, key);
    if (row < 0 || r->c->slot[row] || r->c->bad[row]) return QN_OK;
    return qni_put_json(r->c, row, json);
}

static bool equals(const cJSON *value, const char *json) {
    qn_text t = {0};
    qn_json_write(&t, value, -1);
    bool equal = t.data && strcmp(t.data, json) == 0;
    qn_text_free(&t);
    return equal;
}

static void refuse(const reading *r, const cJSON *value, const char *hint) {
    qni_report(r->c, value, true, NULL, hint, "\"%s\" has a value this version does not support",
               value->string);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static qn_status apply(const reading *r, const qni_hf_key *m, const cJSON *root) {
    cJSON *value = qni_hf_member(root, m->hf);
    int row = row_of(r, m->key);
    if (!value) return m->absent ? put_text(r, m->key, m->absent) : QN_OK;
    if (row < 0) {
        if (m->neutral && !cJSON_IsNull(value) && !equals(value, m->neutral))
            refuse(r, value, m->neutral);
        return QN_OK;
    }
    if (strcmp(m->key, "model.activation") == 0 && cJSON_IsString(value)) {
        value->valuestring = qn_setup_strdup(r->c->arena, qni_hf_activation(value->valuestring));
        if (!value->valuestring) return QN_ERR_OOM;
    }
    return put(r, row, value);
}

/* One member of rope_scaling or rope_parameters. `type` is the older name of rope_type. */
static qn_status apply_rope_member(const reading *r, const cJSON *object, cJSON *m) {
    char key[160];
    bool top = qni_hf_is_one_of(m->string, "rope_theta|partial_rotary_factor");
    bool type = strcmp(m->string, "type") == 0;
    if (cJSON_IsNull(m) || (type && qn_json_get(object, "rope_type"))) return QN_OK;
    snprintf(key, sizeof key, "model.%s%.100s", top ? "" : "rope_scaling.",
             type ? "rope_type" : m->string);
    int row = row_of(r, key);
    if (row >= 0) return put(r, row, m);
    if (!equals(m, "\"default\"") && !(top && m->valuedouble == 1.0)) refuse(r, m, NULL);
    return QN_OK;
}

static qn_status apply_rope(const reading *r, const cJSON *root) {
    static const char *const objects[] = {"rope_scaling", "rope_parameters"};
    cJSON *theta = qni_hf_member(root, "rope_theta"),
          *part = qni_hf_member(root, "partial_rotary_factor");
    if (!qni_hf_is_one_of(r->family, QNI_HF_DECODERS)) return QN_OK;
    for (int i = 0; i < 2; i++) {
        cJSON *object = qni_hf_member(root, objects[i]);
        if (!object || cJSON_IsNull(object)) continue;
        if (!cJSON_IsObject(object)) {
            refuse(r, object, "expected an object or null");
            continue;
        }
        cJSON *kind = qni_hf_member(object, "rope_type|type"); /* others have a meaning under it */
        if (kind) QN_TRY(apply_rope_member(r, object, kind));
        for (cJSON *m = object->child; m; m = m->next)
            if (m != kind) QN_TRY(apply_rope_member(r, object, m));
    }
    if (theta) QN_TRY(apply_rope_member(r, root, theta));
    return part ? apply_rope_member(r, root, part) : QN_OK;
}

/* ---- heads ----------------------------------------------------------------------------------- */

/* The names of the labels, in order of their numbers, which must be 0 .. n-1. */
static qn_status apply_labels(const reading *r, const cJSON *root) {
    const cJSON *labels = qn_json_get(root, "id2label"), *number = qn_json_get(root, "num_labels");
    char digits[32];
    qn_text t = {0};
    char *text;
    int n = 0;
    if (number && cJSON_IsNumber(number) && !labels) {
        snprintf(digits, sizeof digits, "%d", number->valueint);
        return put_text(r, "model.num_labels", digits);
    }
    qn_text_add(&t, "[");
    for (;; n++) {
        snprintf(digits, sizeof digits, "%d", n);
        const cJSON *label = qn_json_get(labels, digits);
        if (!cJSON_IsString(label)) break;
        qn_text_add(&t, n ? ", " : "");
        qn_text_json_string(&t, label->valuestring);
    }
    qn_text_add(&t, "]");
    QN_TRY(qn_text_take(&t, &text));
    snprintf(digits, sizeof digits, "%d", n ? n : 2); /* transformers: two unless stated */
    qn_status status = put_text(r, "model.num_labels", digits);
    if (status == QN_OK && n) status = put_text(r, "model.id2label", text);
    qn_free(text);
    return status;
}

/* What is learnt from the labels, where config.json says it. */
static qn_status apply_problem(const reading *r, const cJSON *root) {
    static const struct {
        const char *hf, *ours;
    } problems[] = {{"single_label_classification", "\"classify\""},
                    {"multi_label_classification", "\"multi_label\""},
                    {"regression", "\"regress\""}};
    const cJSON *value = qn_json_get(root, "problem_type");
    for (int i = 0; cJSON_IsString(value) && i < 3; i++)
        if (strcmp(value->valuestring, problems[i].hf) == 0)
            return put_text(r, "objective", problems[i].ours);
    return QN_OK;
}

static qn_status apply_head(const reading *r, const cJSON *root) {
    const cJSON *list = qn_json_get(root, "architectures");
    const cJSON *name = cJSON_IsArray(list) ? list->child : NULL;
    const char *stated_head = cJSON_IsString(name) ? qni_hf_head(name->valuestring) : NULL;
    if (stated_head) {
        char json[64];
        snprintf(json, sizeof json, "\"%s\"", stated_head);
        QN_TRY(put_text(r, "model.head", json));
    }
    const char *head = qn_config_string(r->c, "model.head");
    if (!strstr(head, "classification")) return QN_OK;
    QN_TRY(apply_problem(r, root));
    return apply_labels(r, root);
}

/* ---- the file -------------------------------------------------------------------------------- */

/* The model_type; reports and returns NULL if there is none, or it is not the user's model.type. */
static const char *find_family(qn_config *c, const char *path, cJSON *root) {
    cJSON *type = qni_hf_member(root, "model_type");
    if (!cJSON_IsString(type)) {
        bool adapter = qni_hf_member(root, "peft_type") != NULL;
        qni_report(c, root, false, NULL, adapter ? "this is an adapter, not a model" : NULL,
                   "no \"model_type\", expected the name of a family");
        return NULL;
    }
    int row = qni_key_find("model.type");
    const char *family = type->valuestring, *stated = qn_config_string(c, "model.type");
    if (!qni_hf_is_one_of(family, qni_keys[row].choices) || strcmp(family, "mlp") == 0) {
        qni_report(c, type, false, NULL, NULL,
                   "model_type \"%.60s\" is not supported, expected one of %s", family,
                   strchr(qni_keys[row].choices, '|') + 1);
        return NULL;
    }
    if (*stated && strcmp(stated, family) != 0) {
        qni_report(c, c->slot[row], false, "model.type", NULL,
                   "expected \"%s\" or nothing, as %s says, found \"%s\"", family, path, stated);
        return NULL;
    }
    return family;
}

static qn_status apply_file(qn_config *c, const char *path, cJSON *root) {
    reading r = {.c = c, .family = find_family(c, path, root)};
    if (!r.family) {
        c->broken = true; /* what is missing may be what could not be read */
        return QN_OK;
    }
    int row = qni_key_find("model.type");
    if (!c->slot[row])
        QN_TRY(qni_check_key(c, row, "model.type", qni_hf_member(root, "model_type"), "/"));
    cJSON *quantised = qni_hf_member(root, "quantization_config");
    if (quantised && !cJSON_IsNull(quantised))
        refuse(&r, quantised, "its weights are quantised; use the model they were made from");
    for (int i = 0; i < qni_hf_key_count; i++)
        if (qni_hf_is_one_of(r.family, qni_hf_keys[i].families))
            QN_TRY(apply(&r, &qni_hf_keys[i], root));
    QN_TRY(apply_rope(&r, root));
    return apply_head(&r, root);
}

qn_status qni_config_pretrained(qn_config *c) {
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    cJSON *root;
    const char *dir = qn_config_string(c, "model.pretrained");
    if (!*dir) return QN_OK;
    const cJSON *node = qni_config_get(c, "model.pretrained");
    QN_TRY(qn_path_format(path, sizeof path, "%s/config.json", dir));
    qn_status status = qn_file_read(path, QN_JSON_MAX_BYTES, &text, &bytes);
    if (status == QN_ERR_OOM) return status;
    if (status != QN_OK) {
        qni_report(c, node, false, "model.pretrained",
                   "expected a directory as transformers' save_pretrained writes it", "%s",
                   qn_error_message());
        c->broken = true;
        return QN_OK;
    }
    qn_json_error error;
    const qn_json_options o = {.name = path, .error = &error};
    status = qn_json_parse(c->arena, text, (size_t)bytes, &o, &root);
    if (status == QN_ERR_FORMAT) {
        qn_json_source s = {path, text, (size_t)bytes};
        qni_report_at(c, &s, error.offset, 1, NULL, NULL, "%s", error.text);
        c->broken = true;
        status = QN_OK;
    } else if (status == QN_OK) {
        status = apply_file(c, path, root);
    }
    qn_free(text);
    return status;
}
