/* safetensors_write.c — files in the order of the format's reference, byte for byte; shards and
 * their index. */
#include "io/file.h"
#include "io/safetensors_parts.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 4 << 20 };

/* Items of one file: places in o->item, in the order of the file. */
typedef struct layout {
    const qn_safetensors_output *o;
    int64_t *order;
    int64_t n;
} layout;

/* ---- order ----------------------------------------------------------------------------------- */

static int rank(qn_dtype dt) {
    for (int i = 0; i < qni_safetensors_dtype_count; i++)
        if (qni_safetensors_dtypes[i].known && qni_safetensors_dtypes[i].type == dt) return i;
    return -1;
}

static int by_dtype_and_name(const void *a, const void *b, void *items) {
    const qn_safetensors_item *x = (const qn_safetensors_item *)items + *(const int64_t *)a,
                              *y = (const qn_safetensors_item *)items + *(const int64_t *)b;
    int order = rank(y->t.dtype) - rank(x->t.dtype);
    return order ? order : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b, void *items) {
    const qn_safetensors_item *x = (const qn_safetensors_item *)items + *(const int64_t *)a,
                              *y = (const qn_safetensors_item *)items + *(const int64_t *)b;
    return strcmp(x->name, y->name);
}

static void sort(const layout *l, int (*order)(const void *, const void *, void *)) {
    qsort_r(l->order, (size_t)l->n, sizeof *l->order, order, (void *)(uintptr_t)l->o->item);
}

/* ---- one file -------------------------------------------------------------------------------- */

static void add_metadata(qn_text *t, const qn_safetensors_output *o) {
    static const char *const standard[] = {"format", "pt", NULL};
    const char *const *pair = o->metadata ? o->metadata : standard;
    if (!*pair) return;
    qn_text_add(t, "\"__metadata__\":{");
    for (int i = 0; pair[i]; i += 2) {
        if (i) qn_text_add(t, ",");
        qn_text_json_string(t, pair[i]);
        qn_text_add(t, ":");
        qn_text_json_string(t, pair[i + 1]);
    }
    qn_text_add(t, "}");
}

static qn_status make_header(const layout *l, char **text, size_t *bytes) {
    qn_text t = {0};
    uint64_t at = 0;
    qn_text_add(&t, "{");
    add_metadata(&t, l->o);
    for (int64_t i = 0; i < l->n; i++) {
        const qn_safetensors_item *item = &l->o->item[l->order[i]];
        if (t.length > 1) qn_text_add(&t, ",");
        qn_text_json_string(&t, item->name);
        qn_text_printf(&t, ":{\"dtype\":\"%s\",\"shape\":[",
                       qni_safetensors_dtypes[rank(item->t.dtype)].name);
        for (int k = 0; k < item->t.ndim; k++)
            qn_text_printf(&t, "%s%lld", k ? "," : "", (long long)item->t.shape[k]);
        uint64_t end = at + qn_tensor_bytes(&item->t);
        qn_text_printf(&t, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                       (unsigned long long)end);
        at = end;
    }
    qn_text_add(&t, "}");
    qn_text_pad(&t, (8 - t.length % 8) % 8, ' ');
    *bytes = t.length;
    return qn_text_take(&t, text);
}

static qn_status write_item(qni_temp *f, const qn_safetensors_output *o, int64_t i, void *block) {
    const qn_tensor *t = &o->item[i].t;
    if (!o->read) return qni_temp_write(f, t->data, qn_tensor_bytes(t));
    int64_t n = qn_tensor_count(t), most = BLOCK_BYTES / (int64_t)qn_dtype_bytes(t->dtype);
    for (int64_t first = 0; first < n; first += most) {
        int64_t count = n - first < most ? n - first : most;
        QN_TRY(o->read(o->self, i, first, count, block));
        QN_TRY(qni_temp_write(f, block, (size_t)count * qn_dtype_bytes(t->dtype)));
    }
    return QN_OK;
}

static qn_status write_file(const char *path, const layout *l) {
    qni_temp f = {.fd = -1};
    char *header = NULL;
    void *block = NULL;
    size_t bytes;
    unsigned char length[8];
    qn_status status = QN_OK;
    sort(l, by_name);
    for (int64_t i = 1; i < l->n; i++) {
        const char *name = l->o->item[l->order[i]].name;
        if (strcmp(name, l->o->item[l->order[i - 1]].name) == 0)
            return qn_fail(QN_ERR_INTERNAL, "%s: two tensors \"%s\"", path, name);
    }
    sort(l, by_dtype_and_name);
    QN_TRY_GOTO(make_header(l, &header, &bytes));
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)bytes >> 8 * i);
    block = qn_alloc(BLOCK_BYTES, "a block of a tensor");
    if (!block) QN_TRY_GOTO(QN_ERR_OOM);
    QN_TRY_GOTO(qni_temp_open(path, &f));
    QN_TRY_GOTO(qni_temp_write(&f, length, sizeof length));
    QN_TRY_GOTO(qni_temp_write(&f, header, bytes));
    for (int64_t i = 0; i < l->n; i++) QN_TRY_GOTO(write_item(&f, l->o, l->order[i], block));
    status = qni_temp_commit(&f);
done:
    qni_temp_close(&f);
    qn_free(header);
    qn_free(block);
    return status;
}

static qn_status check_items(const qn_safetensors_output *o, const char *path) {
    for (int64_t i = 0; i < o->n; i++) {
        const qn_safetensors_item *item = &o->item[i];
        if (rank(item->t.dtype) < 0 || !qn_tensor_is_contiguous(&item->t) ||
            strcmp(item->name, "__metadata__") == 0)
            return qn_fail(QN_ERR_INTERNAL, "%s: tensor \"%s\" cannot be written", path,
                           item->name);
    }
    return QN_OK;
}

qn_status qn_safetensors_write(const char *path, const qn_safetensors_output *o) {
    QN_TRY(check_items(o, path));
    layout l = {.o = o, .n = o->n};
    l.order = qn_alloc(((size_t)o->n + 1) * sizeof *l.order, "order of tensors");
    if (!l.order) return QN_ERR_OOM;
    for (int64_t i = 0; i < o->n; i++) l.order[i] = i;
    qn_status status = write_file(path, &l);
    qn_free(l.order);
    return status;
}

/* ---- shards ---------------------------------------------------------------------------------- */

static int64_t item_bytes(const qn_safetensors_output *o, int64_t i) {
    return (int64_t)qn_tensor_bytes(&o->item[i].t);
}

/* shard[i] of each item, in the order given; their number. */
static int64_t divide(const qn_safetensors_output *o, int64_t max_bytes, int64_t *shard) {
    int64_t current = 0, filled = 0;
    for (int64_t i = 0; i < o->n; i++) {
        if (filled > 0 && filled > max_bytes - item_bytes(o, i)) {
            current++;
            filled = 0;
        }
        shard[i] = current;
        filled += item_bytes(o, i);
    }
    return current + 1;
}

static qn_status shard_name(char *name, size_t size, const char *dir, int64_t k, int64_t n) {
    const char *slash = *dir ? "/" : "";
    if (n == 1) return qn_path_format(name, size, "%s%smodel.safetensors", dir, slash);
    return qn_path_format(name, size, "%s%smodel-%05lld-of-%05lld.safetensors", dir, slash,
                          (long long)k + 1, (long long)n);
}

static qn_status write_index(const char *dir, const layout *all, const int64_t *shard, int64_t n) {
    char path[QN_PATH_MAX], name[QN_PATH_MAX], *text;
    const qn_safetensors_output *o = all->o;
    qn_text t = {0};
    int64_t total = 0;
    for (int64_t i = 0; i < o->n; i++) total += item_bytes(o, i);
    qn_text_printf(&t, "{\n  \"metadata\": {\n    \"total_size\": %lld\n  },\n", (long long)total);
    qn_text_add(&t, "  \"weight_map\": {\n");
    sort(all, by_name);
    for (int64_t i = 0; i < o->n; i++) {
        int64_t k = all->order[i];
        qn_text_add(&t, "    ");
        qn_text_json_string(&t, o->item[k].name);
        if (shard_name(name, sizeof name, "", shard[k], n) != QN_OK) break; /* cannot happen */
        qn_text_printf(&t, ": \"%s\"%s\n", name, i + 1 < o->n ? "," : "");
    }
    qn_text_add(&t, "  }\n}\n");
    size_t bytes = t.length;
    qn_status status = qn_text_take(&t, &text);
    if (status != QN_OK) return status;
    status = qn_path_format(path, sizeof path, "%s/model.safetensors.index.json", dir);
    if (status == QN_OK) status = qn_file_replace(path, text, bytes);
    qn_free(text);
    return status;
}

qn_status qn_safetensors_write_model(const char *dir, const qn_safetensors_output *o,
                                     int64_t max_bytes) {
    char path[QN_PATH_MAX];
    qn_status status = QN_OK;
    QN_TRY(check_items(o, dir));
    layout l = {.o = o};
    l.order = qn_alloc(((size_t)o->n + 1) * sizeof *l.order, "order of tensors");
    int64_t *shard = qn_alloc(((size_t)o->n + 1) * sizeof *shard, "shards of tensors");
    if (!l.order || !shard) QN_TRY_GOTO(QN_ERR_OOM);
    int64_t n = divide(o, max_bytes, shard);
    for (int64_t k = 0; k < n; k++) {
        l.n = 0;
        for (int64_t i = 0; i < o->n; i++)
            if (shard[i] == k) l.order[l.n++] = i;
        QN_TRY_GOTO(shard_name(path, sizeof path, dir, k, n));
        QN_TRY_GOTO(write_file(path, &l));
    }
    if (n > 1) {
        l.n = o->n;
        for (int64_t i = 0; i < o->n; i++) l.order[i] = i;
        status = write_index(dir, &l, shard, n);
    }
done:
    qn_free(l.order);
    qn_free(shard);
    return status;
}
