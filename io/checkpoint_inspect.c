/* checkpoint_inspect.c — what is in a checkpoint: a table or JSON, and the digest of its state. */
#include "io/checkpoint_parts.h"

#include "io/text_buffer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct summary {
    double min, max, mean, rms; /* over the finite elements; NAN if there are none */
    int64_t nonfinite;
} summary;

qn_status qn_checkpoint_digest(const qn_checkpoint *c, char digest[QN_DIGEST_SIZE]) {
    return qni_digest(qni_checkpoint_manifest(c), digest);
}

static summary summarise(const qn_tensor *t) {
    summary s = {.min = INFINITY, .max = -INFINITY};
    double sum = 0, squares = 0;
    int64_t n = qn_tensor_count(t), finite = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = qn_tensor_get(t, i);
        if (!isfinite(v)) continue;
        finite++;
        sum += v;
        squares += v * v;
        if (v < s.min) s.min = v;
        if (v > s.max) s.max = v;
    }
    s.nonfinite = n - finite;
    if (!finite) s.min = s.max = NAN;
    s.mean = sum / (double)finite;
    s.rms = sqrt(squares / (double)finite);
    return s;
}

static void add_shape(qn_text *t, const qn_tensor *tensor) {
    qn_text_add(t, "[");
    for (int d = 0; d < tensor->ndim; d++) {
        qn_text_printf(t, "%s%lld", d ? ", " : "", (long long)tensor->shape[d]);
    }
    qn_text_add(t, "]");
}

static void add_number(qn_text *t, const char *key, double v) {
    qn_text_printf(t, ", \"%s\": ", key);
    if (isfinite(v)) {
        qn_text_json_number(t, v);
    } else {
        qn_text_add(t, "null");
    }
}

static void add_json(qn_text *t, const qni_entry *e, const summary *s) {
    qn_text_printf(t, "{\"file\": \"%s\", \"name\": \"%s\", \"dtype\": \"%s\", \"shape\": ",
                   qni_file_name[e->file], e->name, qn_dtype_name(e->t.dtype));
    add_shape(t, &e->t);
    add_number(t, "min", s->min);
    add_number(t, "max", s->max);
    add_number(t, "mean", s->mean);
    add_number(t, "rms", s->rms);
    qn_text_printf(t, ", \"nonfinite\": %lld, \"xxh3_128\": \"%s\"}", (long long)s->nonfinite,
                   e->xxh3);
}

static void add_row(qn_text *t, const qni_entry *e, const summary *s) {
    char what[160];
    qn_text_printf(t, "%-40s %-16s", e->name, qn_tensor_describe(&e->t, what, sizeof what));
    const double column[] = {s->min, s->max, s->mean, s->rms};
    for (size_t i = 0; i < sizeof column / sizeof column[0]; i++) {
        char number[40] = "-";
        if (isfinite(column[i])) snprintf(number, sizeof number, "%.4g", column[i]);
        qn_text_printf(t, " %11s", number);
    }
    if (s->nonfinite) qn_text_printf(t, "  %lld non-finite", (long long)s->nonfinite);
    qn_text_add(t, "\n");
}

static void add_head(qn_text *t, const qn_checkpoint *c, bool json, const char *digest) {
    const qn_checkpoint_info *info = qn_checkpoint_get_info(c);
    if (!json) {
        qn_text_printf(t, "step %lld  run %s  world size %d\ndigest %s\nbuild %s  config %s\n",
                       (long long)info->step, info->run_id, info->world_size, digest,
                       info->build_id, info->config_digest);
        return;
    }
    qn_text_printf(t, "{\"step\": %lld, \"run_id\": \"%s\", \"world_size\": %d, \"digest\": \"%s\"",
                   (long long)info->step, info->run_id, info->world_size, digest);
    qn_text_add(t, ", \"build_id\": ");
    qn_text_json_string(t, info->build_id);
    qn_text_add(t, ", \"config_digest\": ");
    qn_text_json_string(t, info->config_digest);
    qn_text_add(t, ",\n\"tensors\": [");
}

static void add_file_head(qn_text *t, int file, int n, int64_t bytes) {
    qn_text_printf(t, "\n%s: %d tensors, %lld bytes\n%-40s %-16s %11s %11s %11s %11s\n",
                   qni_file_name[file], n, (long long)bytes, "name", "type", "min", "max", "mean",
                   "rms");
}

/* Reads and describes one file's tensors. */
static qn_status add_file(qn_text *t, qn_checkpoint *c, int file, bool json) {
    const qni_manifest *m = qni_checkpoint_manifest(c);
    const qni_entry *entry = m->entry + m->first[file];
    const int n = m->first[file + 1] - m->first[file];
    qn_status status = QN_OK;
    qni_hdf5 *h = NULL;
    QN_TRY(qni_checkpoint_hdf5(c, file, &h));
    if (!json) add_file_head(t, file, n, m->bytes[file]);
    for (int i = 0; i < n; i++) {
        qn_tensor tensor = entry[i].t;
        tensor.data = qn_alloc(qn_tensor_bytes(&tensor), entry[i].name);
        if (!tensor.data) QN_TRY_GOTO(QN_ERR_OOM);
        status = qni_hdf5_read(h, i, tensor.data);
        summary s = {0};
        if (status == QN_OK) s = summarise(&tensor);
        qn_free(tensor.data);
        if (status != QN_OK) goto done;
        if (json) {
            qn_text_add(t, m->first[file] + i ? ",\n" : "\n");
            add_json(t, &entry[i], &s);
        } else {
            add_row(t, &entry[i], &s);
        }
    }
done:
    qni_hdf5_close(h);
    return status;
}

qn_status qn_checkpoint_inspect(qn_checkpoint *c, bool json, char **text) {
    qn_text t = {0};
    char digest[QN_DIGEST_SIZE];
    QN_TRY(qn_checkpoint_digest(c, digest));
    add_head(&t, c, json, digest);
    for (int f = 0; f < QNI_FILES; f++) {
        qn_status status = add_file(&t, c, f, json);
        if (status != QN_OK) {
            qn_text_free(&t);
            return status;
        }
    }
    if (json) qn_text_add(&t, "\n]}\n");
    return qn_text_take(&t, text);
}
