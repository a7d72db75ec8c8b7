/* checkpoint_manifest.c — manifest.json: written in one form, read strictly.
 *
 * A JSON object for any tool to read. Its last line is the SHA-256 of the bytes before that line,
 * which is checked before anything is parsed. Building with QN_FUZZ leaves the comparison out, so
 * that a fuzzer reaches the parser behind it.
 */
#include "io/checkpoint_parts.h"

#include "io/json.h"
#include "io/text_buffer.h"

#include <string.h>

static const char format_name[] = "quern checkpoint";

#ifdef QN_FUZZ
enum { digest_gate = 0 };
#else
enum { digest_gate = 1 };
#endif

/* `"sha256": "<64 digits>"\n}\n` ends every manifest. */
static const char tail_head[] = "\"sha256\": \"", tail_end[] = "\"\n}\n";
enum {
    TAIL_HEAD = sizeof tail_head - 1,
    TAIL_END = sizeof tail_end - 1,
    TAIL = TAIL_HEAD + (QN_SHA256_HEX - 1) + TAIL_END
};

/* ---- writing --------------------------------------------------------------------------------- */

static void add_text(qn_text *t, const char *key, const char *value) {
    qn_text_printf(t, "\"%s\": ", key);
    qn_text_json_string(t, value ? value : "");
    qn_text_add(t, ",\n");
}

qn_status qni_manifest_write(const qni_manifest *m, char **text, size_t *bytes) {
    qn_text t = {0};
    char digest[QN_SHA256_HEX];
    qn_text_add(&t, "{\n");
    add_text(&t, "format", format_name);
    qn_text_printf(&t, "\"version\": %d,\n", QN_CHECKPOINT_VERSION);
    add_text(&t, "run_id", m->info.run_id);
    qn_text_printf(&t, "\"step\": %lld,\n\"world_size\": %d,\n", (long long)m->info.step,
                   m->info.world_size);
    add_text(&t, "build_id", m->info.build_id);
    add_text(&t, "config_digest", m->info.config_digest);
    add_text(&t, "state", m->info.state);
    add_text(&t, "metadata", m->info.metadata);
    qn_text_add(&t, "\"files\": [\n");
    for (int f = 0; f < QNI_FILES; f++) {
        qn_text_printf(&t, "{\"name\": \"%s\", \"bytes\": %lld, \"sha256\": \"%s\"}%s\n",
                       qni_file_name[f], (long long)m->bytes[f], m->sha256[f],
                       f + 1 < QNI_FILES ? "," : "");
    }
    qn_text_add(&t, "],\n\"tensors\": [\n");
    for (int i = 0, n = m->first[QNI_FILES]; i < n; i++) {
        const qni_entry *e = &m->entry[i];
        qn_text_printf(&t, "{\"file\": \"%s\", \"name\": \"%s\", \"dtype\": \"%s\", \"shape\": [",
                       qni_file_name[e->file], e->name, qn_dtype_name(e->t.dtype));
        for (int d = 0; d < e->t.ndim; d++) {
            qn_text_printf(&t, "%s%lld", d ? ", " : "", (long long)e->t.shape[d]);
        }
        qn_text_printf(&t, "], \"xxh3_128\": \"%s\"}%s\n", e->xxh3, i + 1 < n ? "," : "");
    }
    qn_text_add(&t, "],\n");
    if (t.status == QN_OK) qn_sha256_hex(t.data, t.length, digest);
    qn_text_printf(&t, "%s%s%s", tail_head, t.status == QN_OK ? digest : "", tail_end);
    *bytes = t.length;
    return qn_text_take(&t, text);
}

/* ---- reading --------------------------------------------------------------------------------- */

static qn_status check_tail(const char *name, const char *text, size_t bytes) {
    char digest[QN_SHA256_HEX];
    const char *tail = text + (bytes >= TAIL ? bytes - TAIL : 0);
    if (bytes < TAIL || memcmp(tail, tail_head, TAIL_HEAD) != 0 ||
        memcmp(tail + TAIL - TAIL_END, tail_end, TAIL_END) != 0) {
        return qn_fail(QN_ERR_FORMAT, "%s: does not end as a manifest does: it is cut or changed",
                       name);
    }
    qn_sha256_hex(text, bytes - TAIL, digest);
    if (digest_gate && memcmp(tail + TAIL_HEAD, digest, QN_SHA256_HEX - 1) != 0) {
        return qn_fail(QN_ERR_FORMAT, "%s: SHA-256 of its text is %s, not what its last line says",
                       name, digest);
    }
    return QN_OK;
}

static qn_status wrong(const char *field, const char *expected) {
    return qn_fail(QN_ERR_FORMAT, "\"%s\": expected %s", field, expected);
}

/* Each reader finds an object's member and checks its kind. */
static qn_status get_text(const cJSON *o, const char *key, const char **out) {
    const cJSON *v = qn_json_get(o, key);
    if (!cJSON_IsString(v)) return wrong(key, "a text");
    *out = v->valuestring;
    return QN_OK;
}

static qn_status get_word(const cJSON *o, const char *key, const char *value) {
    const char *text = "";
    QN_TRY(get_text(o, key, &text));
    return strcmp(text, value) == 0 ? QN_OK : wrong(key, value);
}

static qn_status get_hex(const cJSON *o, const char *key, size_t digits, const char **out) {
    QN_TRY(get_text(o, key, out));
    if (strlen(*out) != digits || strspn(*out, "0123456789abcdef") != digits) {
        return wrong(key, "a fixed number of lower-case hexadecimal digits");
    }
    return QN_OK;
}

static qn_status get_integer(const cJSON *o, const char *key, int64_t low, int64_t high,
                             int64_t *out) {
    if (!qn_json_int64(qn_json_get(o, key), out) || *out < low || *out > high) {
        return wrong(key, "an integer in its range");
    }
    return QN_OK;
}

static qn_status get_array(const cJSON *o, const char *key, int most, const cJSON **out, int *n) {
    const cJSON *v = qn_json_get(o, key);
    if (!cJSON_IsArray(v)) return wrong(key, "a list");
    *n = cJSON_GetArraySize(v);
    if (*n > most) return wrong(key, "a shorter list");
    *out = v->child;
    return QN_OK;
}

static qn_status read_info(const cJSON *root, qn_checkpoint_info *info) {
    int64_t version, world;
    QN_TRY(get_word(root, "format", format_name));
    QN_TRY(get_integer(root, "version", 1, INT64_MAX, &version));
    if (version != QN_CHECKPOINT_VERSION) {
        return qn_fail(QN_ERR_FORMAT, "\"version\": found %lld, this Quern reads %d",
                       (long long)version, QN_CHECKPOINT_VERSION);
    }
    QN_TRY(get_hex(root, "run_id", 32, &info->run_id));
    QN_TRY(get_integer(root, "step", 0, QNI_STEP_MAX, &info->step));
    QN_TRY(get_integer(root, "world_size", 1, 1 << 20, &world));
    info->world_size = (int)world;
    QN_TRY(get_text(root, "build_id", &info->build_id));
    QN_TRY(get_text(root, "config_digest", &info->config_digest));
    QN_TRY(get_text(root, "state", &info->state));
    return get_text(root, "metadata", &info->metadata);
}

static qn_status read_files(const cJSON *root, qni_manifest *m) {
    const cJSON *item = NULL;
    int n = 0;
    QN_TRY(get_array(root, "files", QNI_FILES, &item, &n));
    if (n != QNI_FILES) return wrong("files", "model.h5 and state.h5");
    for (int f = 0; f < QNI_FILES; f++, item = item->next) {
        const char *hex;
        QN_TRY(get_word(item, "name", qni_file_name[f]));
        QN_TRY(get_integer(item, "bytes", 0, INT64_MAX, &m->bytes[f]));
        QN_TRY(get_hex(item, "sha256", QN_SHA256_HEX - 1, &hex));
        memcpy(m->sha256[f], hex, QN_SHA256_HEX);
    }
    return QN_OK;
}

/* A tensor is never larger than its file: nothing is compressed. */
static qn_status read_shape(const cJSON *item, int64_t file_bytes, qni_entry *e) {
    const cJSON *dim = NULL;
    const char *dtype = "";
    int64_t shape[QN_MAX_DIMS], extent;
    bool empty = false;
    int ndim = 0;
    QN_TRY(get_text(item, "dtype", &dtype));
    if (!qn_dtype_parse(dtype, &e->t.dtype)) return wrong("dtype", "one of Quern's");
    extent = (int64_t)qn_dtype_bytes(e->t.dtype);
    QN_TRY(get_array(item, "shape", QN_MAX_DIMS, &dim, &ndim));
    for (int d = 0; d < ndim; d++, dim = dim->next) {
        if (!qn_json_int64(dim, &shape[d]) ||
            !qn_mul_i64(extent, shape[d] ? shape[d] : 1, &extent)) {
            return wrong("shape", "sizes whose product is possible");
        }
        empty = empty || shape[d] == 0;
    }
    if (!empty && extent > file_bytes) return wrong("shape", "a tensor that fits its file");
    e->t = qn_tensor_make(NULL, e->t.dtype, ndim, shape);
    return QN_OK;
}

static qn_status read_entry(const cJSON *item, qni_manifest *m, int i) {
    qni_entry *e = &m->entry[i];
    const char *file = "", *hex;
    QN_TRY(get_text(item, "file", &file));
    e->file = strcmp(file, qni_file_name[QNI_MODEL]) == 0 ? QNI_MODEL : QNI_STATE;
    if (strcmp(file, qni_file_name[e->file]) != 0) return wrong("file", "model.h5 or state.h5");
    QN_TRY(get_text(item, "name", &e->name));
    if (!qni_name_is_good(e->name)) return wrong("name", "a tensor's name");
    if (i > 0) {
        const qni_entry *before = e - 1;
        if (before->file > e->file ||
            (before->file == e->file && strcmp(before->name, e->name) >= 0)) {
            return wrong("name", "tensors in order of file and name");
        }
    }
    QN_TRY(get_hex(item, "xxh3_128", QNI_XXH3_SIZE - 1, &hex));
    memcpy(e->xxh3, hex, QNI_XXH3_SIZE);
    return read_shape(item, m->bytes[e->file], e);
}

static qn_status read_tensors(qn_setup *arena, const cJSON *root, qni_manifest *m) {
    const cJSON *item = NULL;
    int n = 0;
    QN_TRY(get_array(root, "tensors", 1 << 24, &item, &n));
    m->entry = qn_setup_alloc(arena, (size_t)n * sizeof *m->entry);
    if (!m->entry) return QN_ERR_OOM;
    m->first[QNI_FILES] = n;
    for (int i = 0; i < n; i++, item = item->next) {
        qn_status status = read_entry(item, m, i);
        if (status != QN_OK) return qn_fail_prefix(status, "tensor %d", i);
        if (m->entry[i].file == QNI_MODEL) m->first[QNI_STATE] = i + 1;
    }
    return QN_OK;
}

qn_status qni_manifest_parse(qn_setup *arena, const char *name, const char *text, size_t bytes,
                             qni_manifest *m) {
    const qn_json_options options = {.name = name, .max_bytes = QNI_MANIFEST_MAX, .max_depth = 8};
    cJSON *root = NULL;
    QN_TRY(check_tail(name, text, bytes));
    QN_TRY(qn_json_parse(arena, text, bytes, &options, &root));
    *m = (qni_manifest){0};
    qn_status status = read_info(root, &m->info);
    if (status == QN_OK) status = read_files(root, m);
    if (status == QN_OK) status = read_tensors(arena, root, m);
    return status == QN_OK ? QN_OK : qn_fail_prefix(status, "%s", name);
}
