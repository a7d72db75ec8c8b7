/* safetensors_inspect.c — what is in a safetensors file: a table or JSON. */
#include "io/safetensors_parts.h"

#include <math.h>
#include <stdio.h>

enum { BLOCK = 4096 };

typedef struct summary {
    double min, max, mean;
    int64_t nonfinite;
    bool counted; /* false for a dtype the engine does not have */
} summary;

static qn_status summarise(const qn_safetensor *t, summary *s) {
    double sum = 0;
    *s = (summary){.min = INFINITY, .max = -INFINITY, .counted = t->known};
    for (int64_t first = 0; t->known && first < t->count; first += BLOCK) {
        int64_t block[BLOCK], n = t->count - first < BLOCK ? t->count - first : BLOCK;
        QN_TRY(qn_safetensor_read(t, first, n, t->type, block));
        const qn_tensor all = qn_tensor_make(block, t->type, 1, &n);
        for (int64_t i = 0; i < n; i++) {
            double v = qn_dtype_is_float(t->type) ? qn_tensor_get(&all, i)
                                                  : (double)qn_tensor_get_int(&all, i);
            if (!isfinite(v)) {
                s->nonfinite++;
                continue;
            }
            if (v < s->min) s->min = v;
            if (v > s->max) s->max = v;
            sum += v;
        }
    }
    int64_t finite = t->count - s->nonfinite;
    s->counted = t->known && finite > 0;
    s->mean = s->counted ? sum / (double)finite : 0.0;
    return QN_OK;
}

static void add_json(qn_text *t, const qn_safetensor *x, const summary *s) {
    const struct {
        const char *name;
        double v;
    } number[] = {{"min", s->min}, {"max", s->max}, {"mean", s->mean}};
    qn_text_add(t, "{\"name\": ");
    qn_text_json_string(t, x->name);
    qn_text_printf(t, ", \"dtype\": \"%s\", \"shape\": [", x->dtype);
    for (int64_t i = 0; i < x->ndim; i++)
        qn_text_printf(t, "%s%lld", i ? ", " : "", (long long)x->shape[i]);
    qn_text_add(t, "]");
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        qn_text_printf(t, ", \"%s\": ", number[i].name);
        if (s->counted)
            qn_text_json_number(t, number[i].v);
        else
            qn_text_add(t, "null");
    }
    qn_text_printf(t, ", \"nonfinite\": %lld}", (long long)s->nonfinite);
}

static void add_row(qn_text *t, const qn_safetensor *x, const summary *s) {
    char what[160];
    qn_text_printf(t, "%-56s %-20s", x->name, qn_safetensor_describe(x, what, sizeof what));
    const double column[] = {s->min, s->max, s->mean};
    for (size_t i = 0; i < sizeof column / sizeof *column; i++) {
        char number[40] = "-";
        if (s->counted) snprintf(number, sizeof number, "%.4g", column[i]);
        qn_text_printf(t, " %11s", number);
    }
    if (s->nonfinite) qn_text_printf(t, "  %lld non-finite", (long long)s->nonfinite);
    qn_text_add(t, "\n");
}

static void add_metadata(qn_text *t, const qn_safetensors *s, bool json) {
    bool first = true;
    const cJSON *c;
    qn_text_add(t, json ? "{\"metadata\": {" : "");
    for (int64_t i = 0; i < s->n_files; i++)
        if (s->file[i].metadata) cJSON_ArrayForEach(c, s->file[i].metadata) {
                if (json) {
                    qn_text_add(t, first ? "" : ", ");
                    qn_text_json_string(t, c->string);
                    qn_text_add(t, ": ");
                    qn_text_json_string(t, c->valuestring);
                } else {
                    qn_text_printf(t, "%s: %s\n", c->string, c->valuestring);
                }
                first = false;
            }
    qn_text_add(t, json ? "},\n\"tensors\": [" : "");
}

qn_status qn_safetensors_inspect(const qn_safetensors *s, bool json, char **text) {
    qn_text t = {0};
    int64_t bytes = 0, elements = 0;
    qn_status status = qn_safetensors_intact(s);
    add_metadata(&t, s, json);
    for (int64_t i = 0; i < s->n; i++) {
        bytes += s->item[i].bytes;
        elements += s->item[i].count;
    }
    if (!json)
        qn_text_printf(&t, "%lld tensors, %lld elements, %lld bytes\n%-56s %-20s %11s %11s %11s\n",
                       (long long)s->n, (long long)elements, (long long)bytes, "name", "type",
                       "min", "max", "mean");
    for (int64_t i = 0; i < s->n && status == QN_OK; i++) {
        summary sum;
        status = summarise(&s->item[i], &sum);
        if (status != QN_OK) break;
        if (json) {
            qn_text_add(&t, i ? ",\n" : "\n");
            add_json(&t, &s->item[i], &sum);
        } else {
            add_row(&t, &s->item[i], &sum);
        }
    }
    if (json) qn_text_add(&t, "\n]}\n");
    if (status == QN_OK) return qn_text_take(&t, text);
    qn_text_free(&t);
    return status;
}
