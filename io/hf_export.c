/* hf_export.c — writes config.json, weights and the tokenizer's files of a model. */
#include "io/hf_export.h"

#include "io/config_hf.h"
#include "io/file.h"
#include "io/safetensors.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { BASE_FILE_MAX = 256 << 20 };

/* ---- weights --------------------------------------------------------------------------------- */

typedef struct weights {
    const qn_params *p;
    qn_safetensors_item *item;
    int *param;   /* of each item */
    int64_t held; /* item whose weights are in `host`; -1 = none */
    char *host;   /* room for the largest, where the device is separate; NULL = weights are read */
} weights;

/* The weights of an item where the host can read them. */
static qn_status hold(weights *w, int64_t i, qn_tensor *out) {
    *out = qn_param_tensor(w->p, w->param[i], &w->p->weights);
    if (!w->host) return QN_OK;
    if (w->held != i)
        QN_TRY(qn_device_copy(w->p->device, w->host, out->data, qn_tensor_bytes(out)));
    w->held = i;
    out->data = w->host;
    return QN_OK;
}

static qn_status read_weights(void *self, int64_t i, int64_t first, int64_t count, void *out) {
    weights *w = self;
    const qn_param *q = &w->p->item[w->param[i]];
    const qn_tensor to = qn_tensor_make(out, w->item[i].t.dtype, 1, &count);
    qn_tensor from;
    QN_TRY(hold(w, i, &from));
    size_t width = qn_dtype_bytes(from.dtype);
    if (!q->hf_transposed && from.dtype == to.dtype) {
        memcpy(out, (const char *)from.data + (size_t)first * width, (size_t)count * width);
        return QN_OK;
    }
    int64_t rows = q->hf_transposed ? q->shape[0] : 1, columns = q->hf_transposed ? q->shape[1] : 1;
    for (int64_t k = 0; k < count; k++) {
        int64_t e = first + k;
        if (q->hf_transposed) e = e % rows * columns + e / rows;
        qn_tensor_set(&to, k, qn_tensor_get(&from, e));
    }
    return QN_OK;
}

static qn_status list_weights(weights *w, const qn_hf_export_options *o, int64_t *n) {
    const qn_params *p = o->params;
    size_t largest = 0;
    *w = (weights){.p = p, .held = -1};
    w->item = qn_alloc(((size_t)p->n + 1) * sizeof *w->item, "exported tensors");
    w->param = qn_alloc(((size_t)p->n + 1) * sizeof *w->param, "exported tensors");
    if (!w->item || !w->param) return QN_ERR_OOM;
    *n = 0;
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        int64_t shape[QN_MAX_DIMS];
        if (q->role == QN_ROLE_ADAPTER) continue;
        for (int k = 0; k < q->ndim; k++)
            shape[k] = q->shape[q->hf_transposed ? q->ndim - 1 - k : k];
        w->item[*n] =
            (qn_safetensors_item){q->hf_name, qn_tensor_make(NULL, o->dtype, q->ndim, shape)};
        w->param[(*n)++] = i;
        size_t bytes = (size_t)q->count * qn_dtype_bytes(p->weights.dtype);
        if (bytes > largest) largest = bytes;
    }
    if (!qn_device_get(p->device)->separate) return QN_OK;
    w->host = qn_alloc(largest, "the largest tensor");
    return w->host ? QN_OK : QN_ERR_OOM;
}

static qn_status write_weights(const qn_hf_export_options *o, const char *dir) {
    weights w;
    int64_t n;
    qn_status status = list_weights(&w, o, &n);
    if (status == QN_OK) {
        const qn_safetensors_output out = {
            .item = w.item, .n = n, .read = read_weights, .self = &w};
        status = qn_safetensors_write_model(dir, &out, o->shard_bytes);
    }
    qn_free(w.item);
    qn_free(w.param);
    qn_free(w.host);
    return status;
}

/* ---- the small files ------------------------------------------------------------------------- */

/* A JSON object of the base model; *root is NULL if there is no such file. */
static qn_status read_base(qn_setup *setup, const char *base, const char *name, cJSON **root) {
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    *root = NULL;
    if (!*base) return QN_OK;
    QN_TRY(qn_path_format(path, sizeof path, "%s/%s", base, name));
    if (!qn_path_exists(path)) return QN_OK;
    QN_TRY(qn_file_read(path, QN_JSON_MAX_BYTES, &text, &bytes));
    const qn_json_options o = {.name = path};
    qn_status status = qn_json_parse(setup, text, (size_t)bytes, &o, root);
    qn_free(text);
    return status;
}

static qn_status put_text(const char *dir, const char *name, qn_text *t) {
    char path[QN_PATH_MAX], *text;
    size_t n = t->length;
    QN_TRY(qn_text_take(t, &text));
    qn_status status = qn_path_format(path, sizeof path, "%s/%s", dir, name);
    if (status == QN_OK) status = qn_file_create(path, text, n);
    qn_free(text);
    return status;
}

static const char *stored_as(qn_dtype dt) {
    return dt == QN_BF16 ? "bfloat16" : dt == QN_F16 ? "float16" : "float32";
}

static qn_status write_config(const qn_hf_export_options *o, const char *base, const char *dir) {
    qn_setup *setup;
    cJSON *config, *generation;
    qn_text t = {0};
    QN_TRY(qn_setup_create("export", &setup));
    const qn_param *table = qn_params_find(o->params, "embed.token.weight"),
                   *head = qn_params_find(o->params, "head.weight");
    qn_status status = read_base(setup, base, "config.json", &config);
    if (status == QN_OK) status = read_base(setup, base, "generation_config.json", &generation);
    if (status == QN_OK)
        status = qni_hf_config_write(o->config, config, table ? table->shape[0] : 0,
                                     head ? head->shape[0] : 0, stored_as(o->dtype), &t);
    if (status == QN_OK) status = put_text(dir, "config.json", &t);
    if (status == QN_OK) {
        if (generation) {
            qn_json_write(&t, generation, 0);
        } else { /* what config.json says of generation */
            static const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
            qn_text_add(&t, "{\n  \"_from_model_config\": true");
            for (int i = 0; i < 3; i++) {
                const cJSON *id = qn_json_get(config, keys[i]);
                if (!id || cJSON_IsNull(id)) continue;
                qn_text_printf(&t, ",\n  \"%s\": ", keys[i]);
                qn_json_write(&t, id, 1);
            }
            qn_text_add(&t, "\n}");
        }
        qn_text_add(&t, "\n");
        status = put_text(dir, "generation_config.json", &t);
    }
    qn_text_free(&t);
    qn_setup_free(setup);
    return status;
}

/* Copies a file if it is there. */
static qn_status copy(const char *from, const char *dir, const char *name, int *copied) {
    char path[QN_PATH_MAX], *bytes;
    int64_t n;
    if (!qn_path_exists(from)) return QN_OK;
    QN_TRY(qn_path_format(path, sizeof path, "%s/%s", dir, name));
    QN_TRY(qn_file_read(from, BASE_FILE_MAX, &bytes, &n));
    qn_status status = qn_file_create(path, bytes, (size_t)n);
    qn_free(bytes);
    (*copied)++;
    return status;
}

static qn_status copy_tokenizer(const char *tokenizer, const char *dir, int *copied) {
    static const char *const files[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "vocab.txt",
                                        "tokenizer.model",
                                        "spiece.model",
                                        "chat_template.jinja"};
    struct stat s;
    char path[QN_PATH_MAX];
    *copied = 0;
    if (!*tokenizer || stat(tokenizer, &s) != 0) return QN_OK;
    if (!S_ISDIR(s.st_mode)) {
        const char *slash = strrchr(tokenizer, '/');
        return copy(tokenizer, dir, slash ? slash + 1 : tokenizer, copied);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        QN_TRY(qn_path_format(path, sizeof path, "%s/%s", tokenizer, files[i]));
        QN_TRY(copy(path, dir, files[i], copied));
    }
    return QN_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static qn_status fill(const qn_hf_export_options *o, const char *dir, qn_text *notes) {
    const char *base = qn_config_string(o->config, "model.pretrained"),
               *tokenizer = qn_config_string(o->config, "data.tokenizer");
    int copied;
    if (*base && !qn_path_exists(base)) {
        qn_text_printf(notes, "%s is gone: members of its config.json are not kept\n", base);
        base = "";
    }
    QN_TRY(write_config(o, base, dir));
    QN_TRY(copy_tokenizer(*tokenizer ? tokenizer : base, dir, &copied));
    if (copied == 0)
        qn_text_add(notes, "no tokenizer files: the model was trained without one of Hugging "
                           "Face's kind\n");
    QN_TRY(write_weights(o, dir));
    return qn_dir_sync(dir);
}

qn_status qn_hf_export(const qn_hf_export_options *o, char **notes) {
    char aside[QN_PATH_MAX];
    qn_text t = {0};
    size_t n = strlen(o->dir);
    while (n > 1 && o->dir[n - 1] == '/') n--;
    if (qn_path_exists(o->dir))
        return qn_fail(QN_ERR_USAGE, "%s exists; an export never replaces anything", o->dir);
    QN_TRY(qn_path_format(aside, sizeof aside, "%.*s.tmp", (int)n, o->dir));
    QN_TRY(qn_tree_remove(aside));
    QN_TRY(qn_dir_create(aside));
    qn_status status = fill(o, aside, &t);
    if (status == QN_OK && rename(aside, o->dir) != 0) status = qn_fail_errno(o->dir, "rename");
    if (status == QN_OK) {
        char up[QN_PATH_MAX];
        status = qn_path_format(up, sizeof up, "%.*s/..", (int)n, o->dir);
        if (status == QN_OK) status = qn_dir_sync(up);
        if (status == QN_OK) return qn_text_take(&t, notes);
    }
    qn_error error;
    qn_error_get(status, &error);
    (void)!qn_tree_remove(aside);
    qn_text_free(&t);
    return qn_error_raise(&error);
}
