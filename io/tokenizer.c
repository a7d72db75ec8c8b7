/* tokenizer.c — the tokenizer object: opening, tokens, roles, and its form as bytes. */
#include "io/tokenizer_parts.h"

#include <string.h>

/* ---- lists ----------------------------------------------------------------------------------- */

qn_status qni_ids_reserve(qn_ids *ids, int64_t more, bool offsets) {
    bool grow = ids->capacity - ids->n < more;
    if (!grow && (!offsets || ids->start)) return QN_OK;
    int64_t capacity = ids->capacity ? ids->capacity : 64;
    while (capacity - ids->n < more) capacity *= 2;
    if (offsets) {
        size_t old = ids->start ? (size_t)ids->capacity * sizeof *ids->start : 0;
        int64_t *start =
            qn_realloc(ids->start, old, (size_t)capacity * sizeof *start, "offsets of tokens");
        if (!start) return QN_ERR_OOM;
        ids->start = start;
    }
    int32_t *id = qn_realloc(ids->id, (size_t)ids->capacity * sizeof *id,
                             (size_t)capacity * sizeof *id, "ids");
    if (!id) return QN_ERR_OOM;
    ids->id = id;
    ids->capacity = capacity;
    return QN_OK;
}

qn_status qn_ids_add(qn_ids *ids, int32_t id, int64_t start) {
    QN_TRY(qni_ids_reserve(ids, 1, ids->start));
    if (ids->start) ids->start[ids->n] = start;
    ids->id[ids->n++] = id;
    return QN_OK;
}

void qn_ids_free(qn_ids *ids) {
    qn_free(ids->id);
    qn_free(ids->start);
    *ids = (qn_ids){0};
}

/* ---- steps ----------------------------------------------------------------------------------- */

static qn_status too_many(const char *what) {
    return qn_fail(QN_ERR_FORMAT, "tokenizer: found more than %d %s", QNI_MAX_STEPS, what);
}

qn_status qni_add_normalizer(qn_tokenizer *t, const qni_normalizer *n) {
    if (!n) return QN_ERR_OOM;
    if (t->n_normalizers == QNI_MAX_STEPS) return too_many("normalizers");
    t->normalizer[t->n_normalizers++] = n;
    return QN_OK;
}

qn_status qni_add_splitter(qn_tokenizer *t, const qni_splitter *s) {
    if (!s) return QN_ERR_OOM;
    if (t->n_splitters == QNI_MAX_STEPS) return too_many("pre-tokenizers");
    t->splitter[t->n_splitters++] = s;
    return QN_OK;
}

qn_status qni_add_decoder(qn_tokenizer *t, const qni_decoder *d) {
    if (!d) return QN_ERR_OOM;
    if (t->n_decoders == QNI_MAX_STEPS) return too_many("decoders");
    t->decoder[t->n_decoders++] = d;
    return QN_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

static qn_status create(qn_tokenizer **out) {
    qn_tokenizer *t = qn_alloc(sizeof *t, "tokenizer");
    if (!t) return QN_ERR_OOM;
    if (qn_setup_create("tokenizer", &t->arena) != QN_OK) {
        qn_free(t);
        return QN_ERR_OOM;
    }
    if (pthread_mutex_init(&t->lock, NULL) != 0) {
        qn_setup_free(t->arena);
        qn_free(t);
        return qn_fail(QN_ERR_INTERNAL, "tokenizer: a lock cannot be made");
    }
    for (int i = 0; i < QN_TOKEN_ROLES; i++) t->role[i] = -1;
    *out = t;
    return QN_OK;
}

void qn_tokenizer_free(qn_tokenizer *t) {
    if (!t) return;
    qni_scratch_free_all(t->idle);
    for (int i = 0; i < t->n_regexes; i++) qni_regex_release(t->regex[i]);
    qn_vocab_free(t->vocab);
    qn_free(t->vocab_json);
    pthread_mutex_destroy(&t->lock);
    qn_setup_free(t->arena);
    qn_free(t);
}

static void set_identity(qn_tokenizer *t) {
    qn_sha256 sha;
    qn_sha256_init(&sha);
    if (t->vocab_json) qn_sha256_update(&sha, t->vocab_json, strlen(t->vocab_json));
    for (int i = 0; i < t->files.n; i++) {
        const qni_bytes *f = &t->files.file[i];
        uint64_t size = (uint64_t)f->size;
        qn_sha256_update(&sha, f->name, strlen(f->name) + 1);
        qn_sha256_update(&sha, &size, sizeof size);
        qn_sha256_update(&sha, f->data, (size_t)f->size);
    }
    qn_sha256_final_hex(&sha, t->identity);
}

/* What every form needs once its parts are there. */
static qn_status finish(qn_tokenizer *t) {
    QN_TRY(qni_make_matchers(t));
    t->mark = qn_setup_alloc(t->arena, (size_t)t->table.size);
    if (!t->mark) return QN_ERR_OOM;
    for (int64_t i = 0; i < t->n_added; i++) {
        const qni_added *a = &t->added[i];
        t->mark[a->id] = (a->special ? QNI_SPECIAL : 0) | (a->shown ? QNI_SHOWN : 0);
    }
    set_identity(t);
    return QN_OK;
}

static qn_status build(qn_tokenizer *t) {
    QN_TRY(qni_read_files(t));
    return finish(t);
}

qn_status qn_tokenizer_open(const char *path, qn_tokenizer **out) {
    qn_tokenizer *t = NULL;
    QN_TRY(create(&t));
    qn_status status = qni_files_read(t->arena, path, &t->files);
    if (status == QN_OK && (status = build(t)) != QN_OK)
        status = qn_fail_prefix(status, "%s", path);
    if (status != QN_OK) {
        qn_tokenizer_free(t);
        return status;
    }
    *out = t;
    return QN_OK;
}

qn_status qni_open_files(const qni_file_set *files, qn_tokenizer **out) {
    qn_tokenizer *t = NULL;
    QN_TRY(create(&t));
    t->files = *files;
    qn_status status = build(t);
    if (status != QN_OK) {
        qn_tokenizer_free(t);
        return status;
    }
    *out = t;
    return QN_OK;
}

qn_status qn_tokenizer_from_vocab(const qn_vocab *v, qn_tokenizer **out) {
    qn_tokenizer *t = NULL;
    QN_TRY(create(&t));
    qn_status status = qn_vocab_copy(v, &t->vocab);
    if (status == QN_OK) status = qn_vocab_save(v, &t->vocab_json);
    if (status == QN_OK) status = qni_table_create(t->arena, qn_vocab_size(v), &t->table);
    for (int64_t i = 0; status == QN_OK && i < qn_vocab_size(v); i++) {
        char text[4];
        int bytes = 0;
        status = qn_vocab_decode(v, (int32_t)i, text, &bytes);
        if (status == QN_OK) status = qni_table_set(&t->table, i, text, bytes);
    }
    if (status != QN_OK) {
        qn_tokenizer_free(t);
        return status;
    }
    set_identity(t);
    *out = t;
    return QN_OK;
}

const qn_vocab *qn_tokenizer_vocab(const qn_tokenizer *t) { return t->vocab; }

/* ---- save and load --------------------------------------------------------------------------- */

qn_status qn_tokenizer_load(const char *json, qn_tokenizer **out) {
    qn_tokenizer *t = NULL;
    bool files = false;
    QN_TRY(create(&t));
    qn_status status = qni_files_unpack(t->arena, json, &t->files, &files);
    if (status == QN_OK && files) status = build(t);
    if (status == QN_OK && files) {
        *out = t;
        return QN_OK;
    }
    qn_tokenizer_free(t);
    if (status != QN_OK) return status;
    qn_vocab *v = NULL;
    QN_TRY(qn_vocab_load(json, &v));
    status = qn_tokenizer_from_vocab(v, out);
    qn_vocab_free(v);
    return status;
}

qn_status qn_tokenizer_save(const qn_tokenizer *t, char **json) {
    if (!t->vocab) return qni_files_pack(&t->files, json);
    *json = qn_strdup(t->vocab_json, "vocabulary");
    return *json ? QN_OK : QN_ERR_OOM;
}

const char *qn_tokenizer_identity(const qn_tokenizer *t) { return t->identity; }

const char *qn_tokenizer_file(const qn_tokenizer *t, int64_t index, const char **bytes,
                              int64_t *size) {
    if (index < 0 || index >= t->files.n) return NULL;
    *bytes = t->files.file[index].data;
    *size = t->files.file[index].size;
    return t->files.file[index].name;
}

const char *qn_tokenizer_file_named(const qn_tokenizer *t, const char *name, int64_t *size) {
    const qni_bytes *f = qni_file_find(&t->files, name);
    if (!f) return NULL;
    *size = f->size;
    return f->data;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

int64_t qn_tokenizer_size(const qn_tokenizer *t) { return t->table.size; }

int32_t qn_tokenizer_id(const qn_tokenizer *t, const char *token, int64_t bytes) {
    return qni_table_find(&t->table, token, bytes);
}

const char *qn_tokenizer_token(const qn_tokenizer *t, int32_t id, int64_t *bytes) {
    if (id < 0 || id >= t->table.size || !t->table.entry[id].text) return NULL;
    *bytes = t->table.entry[id].bytes;
    return t->table.entry[id].text;
}

int32_t qn_tokenizer_role(const qn_tokenizer *t, qn_token_role role) { return t->role[role]; }

bool qn_tokenizer_is_special(const qn_tokenizer *t, int32_t id) {
    return t->mark && id >= 0 && id < t->table.size && t->mark[id] & QNI_SPECIAL;
}
