/* peft_write.c — adapters written as PEFT writes them. */
#include "io/file.h"
#include "io/peft.h"
#include "io/safetensors.h"
#include "io/text_buffer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME = 512 };

/* ---- names ----------------------------------------------------------------------------------- */

/* Hugging Face's path of an adapter's linear. */
static void module_of(const qn_params *p, const qn_adapter *a, char module[NAME]) {
    char name[NAME];
    snprintf(name, sizeof name, "%s.weight", a->path);
    const qn_param *q = qn_params_find(p, name);
    const char *dot = q ? strrchr(q->hf_name, '.') : NULL;
    snprintf(module, NAME, "%.*s", dot ? (int)(dot - q->hf_name) : 0, dot ? q->hf_name : "");
}

static const char *last_word(const char *module) {
    const char *dot = strrchr(module, '.');
    return dot ? dot + 1 : module;
}

static bool ends_with_word(const char *path, const char *word) {
    size_t n = strlen(path), m = strlen(word);
    return n >= m && strcmp(path + n - m, word) == 0 && (n == m || path[n - m - 1] == '.');
}

/* Whether every linear whose path ends with the word has an adapter: the word names them all. */
static bool names_adapted_only(const qn_params *p, const char *word) {
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        char ours[NAME], theirs[NAME];
        const char *dot = strrchr(q->name, '.'), *hf_dot = strrchr(q->hf_name, '.');
        if (q->role == QN_ROLE_ADAPTER || !dot || !hf_dot) continue;
        snprintf(ours, sizeof ours, "%.*s", (int)(dot - q->name), q->name);
        snprintf(theirs, sizeof theirs, "%.*s", (int)(hf_dot - q->hf_name), q->hf_name);
        if (ends_with_word(theirs, word) && !qn_params_adapter(p, ours)) return false;
    }
    return true;
}

static int64_t rank_of(const qn_params *p, const qn_adapter *a) {
    char name[NAME];
    snprintf(name, sizeof name, "%s.lora_A.weight", a->path);
    const qn_param *q = qn_params_find(p, name);
    return q ? q->shape[0] : 0;
}

/* ---- adapter_config.json --------------------------------------------------------------------- */

typedef struct list { /* names in the order they came, each once */
    qn_text text;
    int n;
} list;

static void add_once(list *l, const char *name) {
    qn_text one = {0};
    qn_text_json_string(&one, name);
    if (one.status != QN_OK) l->text.status = one.status;
    if (one.data && !(l->text.data && strstr(l->text.data, one.data))) {
        qn_text_printf(&l->text, "%s\n    %s", l->n++ ? "," : "", one.data);
    }
    qn_text_free(&one);
}

static void add_list(qn_text *t, const char *key, list *l) {
    if (l->n == 0) {
        qn_text_printf(t, "  \"%s\": null,\n", key);
    } else {
        qn_text_printf(t, "  \"%s\": [%s\n  ],\n", key, l->text.data ? l->text.data : "");
    }
    if (l->text.status != QN_OK) t->status = l->text.status;
    qn_text_free(&l->text);
}

static void add_targets(qn_text *t, const qn_params *p) {
    list l = {.n = 0};
    for (int i = 0; i < p->n_adapters; i++) {
        char module[NAME];
        module_of(p, &p->adapter[i], module);
        const char *word = last_word(module);
        add_once(&l, names_adapted_only(p, word) ? word : module);
    }
    add_list(t, "target_modules", &l);
}

/* Modules with parameters of the model that were trained; biases have a key of their own. */
static void add_saved(qn_text *t, const qn_params *p, bool biases) {
    list l = {.n = 0};
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        char module[NAME];
        const char *dot = strrchr(q->hf_name, '.');
        bool bias = dot && strcmp(dot, ".bias") == 0;
        if (q->role == QN_ROLE_ADAPTER || q->frozen || !dot || (bias && biases)) continue;
        snprintf(module, sizeof module, "%.*s", (int)(dot - q->hf_name), q->hf_name);
        add_once(&l, module);
    }
    add_list(t, "modules_to_save", &l);
}

static void add_patterns(qn_text *t, const qn_params *p, const char *key, bool ranks, double most) {
    int n = 0;
    qn_text_printf(t, "  \"%s\": {", key);
    for (int i = 0; i < p->n_adapters; i++) {
        const qn_adapter *a = &p->adapter[i];
        double v = ranks ? (double)rank_of(p, a) : a->alpha;
        char module[NAME];
        if (v == most) continue;
        module_of(p, a, module);
        qn_text_add(t, n++ ? ",\n    " : "\n    ");
        qn_text_json_string(t, module);
        qn_text_add(t, ": ");
        qn_text_json_number(t, v);
    }
    qn_text_add(t, n ? "\n  },\n" : "},\n");
}

static const char *task_of(const qn_config *c) {
    static const char *const tasks[][2] = {{"lm", "\"CAUSAL_LM\""},
                                           {"sequence_classification", "\"SEQ_CLS\""},
                                           {"token_classification", "\"TOKEN_CLS\""},
                                           {"embedding", "\"FEATURE_EXTRACTION\""}};
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        if (strcmp(qn_config_string(c, "model.head"), tasks[i][0]) == 0) return tasks[i][1];
    }
    return "null";
}

static const char *word(bool v) { return v ? "true" : "false"; }

static qn_status write_config(const char *dir, const qn_config *c, const qn_params *p) {
    qn_text t = {0};
    const char *base = qn_config_string(c, "model.pretrained"),
               *bias = qn_config_string(c, "adapter.bias");
    double rank = (double)qn_config_int(c, "adapter.r"),
           alpha = qn_config_number(c, "adapter.alpha");
    bool turned = false;
    for (int i = 0; i < p->n; i++) {
        turned = turned || (p->item[i].role == QN_ROLE_LINEAR && p->item[i].hf_transposed);
    }
    qn_text_add(&t, "{\n");
    add_patterns(&t, p, "alpha_pattern", false, alpha);
    qn_text_add(&t, "  \"base_model_name_or_path\": ");
    if (*base) {
        qn_text_json_string(&t, base);
    } else {
        qn_text_add(&t, "null");
    }
    qn_text_printf(&t, ",\n  \"bias\": \"%s\",\n  \"fan_in_fan_out\": %s,\n", bias, word(turned));
    qn_text_add(&t, "  \"inference_mode\": true,\n  \"init_lora_weights\": true,\n");
    qn_text_add(&t, "  \"layers_pattern\": null,\n  \"layers_to_transform\": null,\n");
    qn_text_add(&t, "  \"lora_alpha\": ");
    qn_text_json_number(&t, alpha);
    qn_text_add(&t, ",\n  \"lora_bias\": false,\n  \"lora_dropout\": ");
    qn_text_json_number(&t, qn_config_number(c, "adapter.dropout"));
    qn_text_add(&t, ",\n");
    add_saved(&t, p, strcmp(bias, "none") != 0);
    qn_text_printf(&t, "  \"peft_type\": \"LORA\",\n  \"r\": %lld,\n", (long long)rank);
    add_patterns(&t, p, "rank_pattern", true, rank);
    qn_text_add(&t, "  \"revision\": null,\n");
    add_targets(&t, p);
    qn_text_printf(&t, "  \"task_type\": %s,\n  \"use_dora\": %s,\n  \"use_rslora\": %s\n}\n",
                   task_of(c), word(qn_config_boolean(c, "adapter.use_dora")),
                   word(qn_config_boolean(c, "adapter.use_rslora")));
    char path[QN_PATH_MAX], *text;
    size_t length = t.length;
    QN_TRY(qn_text_take(&t, &text));
    qn_status s = qn_path_format(path, sizeof path, "%s/adapter_config.json", dir);
    if (s == QN_OK) s = qn_file_replace(path, text, length);
    qn_free(text);
    return s;
}

/* ---- adapter_model.safetensors --------------------------------------------------------------- */

typedef struct tensors {
    const qn_params *p;
    qn_safetensors_item *item;
    int *param; /* of each item */
    int n;
} tensors;

/* The value from the master where there is one: it is what was trained. */
static qn_status read_values(void *self, int64_t i, int64_t first, int64_t count, void *out) {
    const tensors *x = self;
    const qn_param *q = &x->p->item[x->param[i]];
    bool mastered = x->p->master.data && !q->frozen;
    const qn_tensor from =
        qn_param_tensor(x->p, x->param[i], mastered ? &x->p->master : &x->p->weights);
    char *copy = NULL;
    if (qn_device_get(x->p->device)->separate) {
        copy = qn_alloc(qn_tensor_bytes(&from) + 1, q->name);
        if (!copy) return QN_ERR_OOM;
    }
    qn_tensor here = from;
    here.data = copy ? copy : from.data;
    qn_status s = qn_device_copy(x->p->device, here.data, from.data, qn_tensor_bytes(&from));
    int64_t rows = q->shape[0], columns = q->ndim == 2 ? q->shape[1] : 1;
    for (int64_t k = first; s == QN_OK && k < first + count; k++) {
        int64_t at = q->hf_transposed ? k % rows * columns + k / rows : k;
        ((float *)out)[k - first] = (float)qn_tensor_get(&here, at);
    }
    qn_free(copy);
    return s;
}

static qn_status list_tensors(tensors *x, qn_setup *arena) {
    const qn_params *p = x->p;
    x->item = qn_setup_alloc(arena, ((size_t)p->n + 1) * sizeof *x->item);
    x->param = qn_setup_alloc(arena, ((size_t)p->n + 1) * sizeof *x->param);
    if (!x->item || !x->param) return QN_ERR_OOM;
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        int64_t shape[QN_MAX_DIMS];
        char key[NAME];
        if (q->role != QN_ROLE_ADAPTER && q->frozen) continue;
        for (int k = 0; k < q->ndim; k++) {
            shape[k] = q->shape[q->hf_transposed ? q->ndim - 1 - k : k];
        }
        qn_peft_key(p, i, key, sizeof key);
        const char *name = qn_setup_strdup(arena, key);
        if (!name) return QN_ERR_OOM;
        x->item[x->n] = (qn_safetensors_item){name, qn_tensor_make(NULL, QN_F32, q->ndim, shape)};
        x->param[x->n++] = i;
    }
    return QN_OK;
}

static qn_status write_tensors(const char *dir, const qn_params *p) {
    char path[QN_PATH_MAX];
    tensors x = {.p = p};
    qn_setup *arena;
    QN_TRY(qn_path_format(path, sizeof path, "%s/adapter_model.safetensors", dir));
    QN_TRY(qn_setup_create("an adapter's tensors", &arena));
    qn_status s = list_tensors(&x, arena);
    qn_safetensors_output o = {.item = x.item, .n = x.n, .read = read_values, .self = &x};
    if (s == QN_OK) s = qn_safetensors_write(path, &o);
    qn_setup_free(arena);
    return s;
}

/* ---- the directory --------------------------------------------------------------------------- */

qn_status qn_peft_write(const char *dir, const qn_config *c, const qn_params *p) {
    char aside[QN_PATH_MAX], up[QN_PATH_MAX];
    int n = (int)strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    if (qn_path_exists(dir)) {
        return qn_fail(QN_ERR_USAGE, "%s exists; an export never replaces anything", dir);
    }
    QN_TRY(qn_path_format(aside, sizeof aside, "%.*s.tmp", n, dir));
    QN_TRY(qn_path_format(up, sizeof up, "%.*s/..", n, dir));
    QN_TRY(qn_tree_remove(aside));
    QN_TRY(qn_dir_create(aside));
    qn_status status = write_config(aside, c, p);
    if (status == QN_OK) status = write_tensors(aside, p);
    if (status == QN_OK) status = qn_dir_sync(aside);
    if (status == QN_OK && rename(aside, dir) != 0) status = qn_fail_errno(dir, "rename");
    if (status == QN_OK) return qn_dir_sync(up);
    qn_error error;
    qn_error_get(status, &error);
    (void)!qn_tree_remove(aside);
    return qn_error_raise(&error);
}
