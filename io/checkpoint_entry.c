/* checkpoint_entry.c — tensors as sorted entries, their digests, and the digest of a whole state.
 */
#include "io/checkpoint_parts.h"

#include "io/text_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

const char *const qni_file_name[QNI_FILES] = {"model.h5", "state.h5"};

bool qni_name_is_good(const char *name) {
    size_t n = 0;
    for (; name[n]; n++) {
        unsigned char c = (unsigned char)name[n];
        if (c <= 0x20 || c >= 0x7f || c == '/' || c == '"' || c == '\\') return false;
    }
    return n > 0 && n < QN_CHECKPOINT_NAME_MAX && strcmp(name, ".") != 0;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const qni_entry *)a)->name, ((const qni_entry *)b)->name);
}

/* Fills entry[0, n) from one list, in order of name. */
static qn_status sort_list(int file, const qn_named *list, int n, qni_entry *entry) {
    for (int i = 0; i < n; i++) {
        char what[64];
        if (!qni_name_is_good(list[i].name)) {
            return qn_fail(QN_ERR_INTERNAL, "checkpoint: tensor name \"%.300s\" is not allowed",
                           list[i].name);
        }
        if (!qn_tensor_is_contiguous(&list[i].t)) {
            return qn_fail(QN_ERR_INTERNAL, "checkpoint: %s %s is not contiguous", list[i].name,
                           qn_tensor_describe(&list[i].t, what, sizeof what));
        }
        if (!list[i].t.data && qn_tensor_count(&list[i].t) > 0) {
            return qn_fail(QN_ERR_INTERNAL, "checkpoint: %s has no data", list[i].name);
        }
        entry[i] = (qni_entry){.file = file, .name = list[i].name, .t = list[i].t};
    }
    if (n > 1) qsort(entry, (size_t)n, sizeof *entry, compare_names);
    for (int i = 1; i < n; i++) {
        if (strcmp(entry[i].name, entry[i - 1].name) == 0) {
            return qn_fail(QN_ERR_INTERNAL, "checkpoint: two tensors are named %s", entry[i].name);
        }
    }
    return QN_OK;
}

qn_status qni_entries_create(const qn_named *model, int n_model, const qn_named *state, int n_state,
                             qni_manifest *m) {
    size_t n = (size_t)n_model + (size_t)n_state;
    m->entry = qn_alloc(n * sizeof *m->entry, "checkpoint entries");
    if (!m->entry) return QN_ERR_OOM;
    m->first[QNI_MODEL] = 0;
    m->first[QNI_STATE] = n_model;
    m->first[QNI_FILES] = n_model + n_state;
    qn_status status = sort_list(QNI_MODEL, model, n_model, m->entry);
    if (status == QN_OK) status = sort_list(QNI_STATE, state, n_state, m->entry + n_model);
    if (status != QN_OK) {
        qn_free(m->entry);
        m->entry = NULL;
    }
    return status;
}

void qni_entry_digest(const qni_entry *e, char hex[QNI_XXH3_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(e->t.data, qn_tensor_bytes(&e->t)));
    for (int i = 0; i < 16; i++) {
        hex[2 * i] = digits[c.digest[i] >> 4];
        hex[2 * i + 1] = digits[c.digest[i] & 15];
    }
    hex[32] = '\0';
}

qn_status qni_digest(const qni_manifest *m, char digest[QN_DIGEST_SIZE]) {
    const char *state = m->info.state ? m->info.state : "";
    qn_text t = {0};
    qn_text_printf(&t, "quern state 1\nstep %lld\n", (long long)m->info.step);
    for (int i = 0; i < m->first[QNI_FILES]; i++) {
        const qni_entry *e = &m->entry[i];
        char what[160];
        qn_text_printf(&t, "%s %s %s %s\n", e->file == QNI_MODEL ? "model" : "state", e->name,
                       qn_tensor_describe(&e->t, what, sizeof what), e->xxh3);
    }
    qn_text_printf(&t, "text %zu\n", strlen(state));
    qn_text_add(&t, state);
    size_t bytes = t.length;
    char *text = NULL;
    QN_TRY(qn_text_take(&t, &text));
    qn_sha256_hex(text, bytes, digest);
    qn_free(text);
    return QN_OK;
}

qn_status qn_state_digest(int64_t step, const char *state_text, const qn_named *model, int n_model,
                          const qn_named *state, int n_state, char digest[QN_DIGEST_SIZE]) {
    qni_manifest m = {.info = {.step = step, .state = state_text}};
    QN_TRY(qni_entries_create(model, n_model, state, n_state, &m));
    for (int i = 0; i < m.first[QNI_FILES]; i++) qni_entry_digest(&m.entry[i], m.entry[i].xxh3);
    qn_status status = qni_digest(&m, digest);
    qn_free(m.entry);
    return status;
}
