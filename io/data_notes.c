/* data_notes.c — notes of a file of examples, and the cache of its tokens.
 *
 * KEY.notes: the line of each example, i32; the notes as JSON, {"format", "layout", "records",
 * "notes": [{"kind", "count", "places": [text, ...]}, ...]}; a trailer of 64 bytes: magic, number
 * of lines, size of the JSON, XXH3-128 of KEY.tokens, XXH3-128 of lines and JSON, zeros. Integers
 * are those of the machine.
 */
#include "io/data_notes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LEAST_BYTES = 256 << 10 };

typedef struct trailer {
    char magic[8];
    int64_t lines, json;
    XXH128_canonical_t tokens, notes;
    char zero[8];
} trailer;

_Static_assert(sizeof(trailer) == 64, "the trailer has no padding");

static const char magic[9] = "QNNOTES1";

/* ---- notes ----------------------------------------------------------------------------------- */

qn_status qni_notes_add(qni_notes *t, qni_note kind, const char *place) {
    int64_t n = t->count[kind]++;
    if (n >= QNI_TOLD) return QN_OK;
    t->place[kind][n] = qn_strdup(place, "a note");
    return t->place[kind][n] ? QN_OK : QN_ERR_OOM;
}

qn_status qni_notes_add_line(qni_notes *t, int64_t line) {
    if (t->n == t->room) {
        int64_t room = t->room ? 2 * t->room : 1024;
        int32_t *more = qn_realloc(t->line, (size_t)t->room * sizeof *more,
                                   (size_t)room * sizeof *more, "line numbers");
        if (!more) return QN_ERR_OOM;
        t->line = more;
        t->room = room;
    }
    t->line[t->n++] = line > INT32_MAX ? INT32_MAX : (int32_t)line;
    return QN_OK;
}

void qni_notes_free(qni_notes *t) {
    for (int k = 0; k < QNI_NOTES; k++)
        for (int i = 0; i < QNI_TOLD; i++) qn_free(t->place[k][i]);
    qn_free(t->line);
    *t = (qni_notes){0};
}

/* ---- where ----------------------------------------------------------------------------------- */

static void add_key(qn_text *t, const char *name, const char *value) {
    qn_text_printf(t, "%s=%zu:", name, value ? strlen(value) : 0);
    qn_text_add(t, value ? value : "-");
    qn_text_add(t, "\n");
}

/* Everything that decides what becomes of the file's bytes. */
static qn_status describe_reading(const qn_data_options *o, const qni_file *f, const char *form,
                                  qn_text *t) {
    const char *dot = strrchr(f->relative, '.');
    XXH128_canonical_t content;
    XXH128_canonicalFromHash(&content, XXH3_128bits(f->view.bytes, (size_t)f->size));
    qn_text_printf(t, "Quern " QUERN_VERSION " examples %" PRId64 " ", f->size);
    for (size_t i = 0; i < sizeof content.digest; i++) qn_text_printf(t, "%02x", content.digest[i]);
    qn_text_printf(t, "\nblock %" PRId64 " layout %d learn %d cut %d skip %d\n", o->block_size,
                   (int)o->format, (int)o->train_on, (int)o->truncate, (int)o->skip_broken);
    add_key(t, "ending", dot);
    add_key(t, "tokenizer", qn_tokenizer_identity(o->tokenizer));
    add_key(t, "messages", o->keys.messages);
    add_key(t, "prompt", o->keys.prompt);
    add_key(t, "completion", o->keys.completion);
    add_key(t, "input", o->keys.input);
    add_key(t, "system", o->keys.system);
    add_key(t, "tools", o->keys.tools);
    add_key(t, "text", o->keys.text);
    add_key(t, "template", form);
    return t->status;
}

qn_status qni_kept_find(const qn_data_options *o, const qni_file *f, qni_kept *out) {
    *out = (qni_kept){0};
    if (o->type != QN_DATA_CONVERSATIONS || f->size < LEAST_BYTES) return QN_OK;
    char *form = NULL, *directory = NULL;
    qn_text t = {0};
    qn_status status = QN_OK;
    if (o->chat) QN_TRY_GOTO(qn_chat_template_identity(o->chat, &form));
    if (form && strstr(form, "strftime_now")) goto done;
    status = qni_cache_directory(o->cache_dir, &directory);
    if (status == QN_ERR_IO) {
        out->why = qn_strdup(qn_error_message(), "an error");
        status = out->why ? QN_OK : QN_ERR_OOM;
        goto done;
    }
    if (status != QN_OK) goto done;
    QN_TRY_GOTO(describe_reading(o, f, form, &t));
    XXH128_hash_t key = XXH3_128bits(t.data, t.length);
    out->path = qn_sprintf("%s/%016" PRIx64 "%016" PRIx64, directory, (uint64_t)key.high64,
                           (uint64_t)key.low64);
    if (!out->path) status = QN_ERR_OOM;
done:
    qn_text_free(&t);
    qn_free(form);
    qn_free(directory);
    return status;
}

void qni_kept_free(qni_kept *k) {
    qn_free(k->path);
    qn_free(k->why);
    *k = (qni_kept){0};
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct entry {
    qni_view tokens_view, notes_view;
    qn_tokens tokens;
    const unsigned char *lines;
    const char *json;
    int64_t n, json_bytes;
} entry;

/* *found false for what is not there or cannot be opened. */
static qn_status open_part(const char *path, const char *ending, qni_view *out, bool *found) {
    struct stat st;
    char *name = qn_sprintf("%s%s", path, ending);
    if (!name) return QN_ERR_OOM;
    qn_status status = QN_OK;
    *found = false;
    if (stat(name, &st) == 0) {
        status = qni_view_open(name, out);
        *found = status == QN_OK;
        if (status != QN_ERR_OOM) status = QN_OK;
    }
    qn_free(name);
    return status;
}

static bool is_digest(const XXH128_canonical_t *want, const void *bytes, int64_t size) {
    XXH128_canonical_t found;
    XXH128_canonicalFromHash(&found, XXH3_128bits(bytes, (size_t)size));
    return memcmp(&found, want, sizeof found) == 0;
}

/* Whether the two views are a whole entry; the entry's parts then point into them. */
static bool is_whole(entry *e) {
    trailer t;
    const qni_view *v = &e->notes_view;
    int64_t size = v->size - (int64_t)sizeof t;
    if (size < 0) return false;
    memcpy(&t, v->bytes + size, sizeof t);
    if (memcmp(t.magic, magic, sizeof t.magic) != 0 || t.lines < 1 || t.json < 0 ||
        t.lines > size / 4 || t.json != size - 4 * t.lines)
        return false;
    if (!is_digest(&t.notes, v->bytes, size) ||
        !is_digest(&t.tokens, e->tokens_view.bytes, e->tokens_view.size))
        return false;
    e->n = t.lines;
    e->lines = v->bytes;
    e->json = (const char *)v->bytes + 4 * t.lines;
    e->json_bytes = t.json;
    return qn_tokens_parse(e->tokens_view.bytes, e->tokens_view.size, QN_RAW_NONE, 0, &e->tokens) ==
               QN_OK &&
           e->tokens.n_documents == e->n && e->tokens.mask;
}

static qn_status read_kind(const cJSON *item, qni_notes *t) {
    int64_t kind, count, n = 0;
    const cJSON *places = qn_json_get(item, "places");
    if (!qn_json_int64(qn_json_get(item, "kind"), &kind) || kind < 0 || kind >= QNI_NOTES ||
        !qn_json_int64(qn_json_get(item, "count"), &count) || !cJSON_IsArray(places))
        return QN_ERR_FORMAT;
    for (const cJSON *p = places->child; p; p = p->next, n++) {
        if (!cJSON_IsString(p) || n == QNI_TOLD) return QN_ERR_FORMAT;
        QN_TRY(qni_notes_add(t, (qni_note)kind, p->valuestring));
    }
    if (count < n) return QN_ERR_FORMAT;
    t->count[kind] = count;
    return QN_OK;
}

static qn_status read_notes(const entry *e, qni_notes *t) {
    qn_setup *arena;
    cJSON *root;
    int64_t format, layout;
    const qn_json_options o = {.name = "notes"};
    QN_TRY(qn_setup_create("notes", &arena));
    qn_status status = qn_json_parse(arena, e->json, (size_t)e->json_bytes, &o, &root);
    if (status == QN_OK &&
        (!qn_json_int64(qn_json_get(root, "format"), &format) ||
         !qn_json_int64(qn_json_get(root, "layout"), &layout) ||
         !qn_json_int64(qn_json_get(root, "records"), &t->records) || format < 0 ||
         format >= QN_RECORDS_FORMATS || layout < 0 || layout >= QN_EXAMPLES_FORMATS))
        status = QN_ERR_FORMAT;
    if (status == QN_OK) {
        t->format = (qn_record_format)format;
        t->layout = (qn_example_format)layout;
        const cJSON *notes = qn_json_get(root, "notes");
        for (const cJSON *i = notes ? notes->child : NULL; i && status == QN_OK; i = i->next)
            status = read_kind(i, t);
    }
    for (int64_t i = 0; i < e->n && status == QN_OK; i++) {
        int32_t line;
        memcpy(&line, e->lines + 4 * i, sizeof line);
        status = qni_notes_add_line(t, line);
    }
    qn_setup_free(arena);
    return status;
}

static qn_status read_samples(const entry *e, const qn_data_options *o, qni_samples *s) {
    int64_t vocabulary = qn_tokenizer_size(o->tokenizer);
    size_t block = (size_t)o->block_size;
    int32_t *id = qn_alloc(block * sizeof *id, "an example");
    unsigned char *target = qn_alloc(block, "an example");
    qn_status status = id && target ? QN_OK : QN_ERR_OOM;
    for (int64_t d = 0; d < e->n && status == QN_OK; d++) {
        int64_t at = qn_tokens_document(&e->tokens, d),
                end = d + 1 < e->n ? qn_tokens_document(&e->tokens, d + 1) : e->tokens.count;
        bool fits = end - at <= o->block_size;
        for (int64_t i = at; i < end && fits; i++) {
            int64_t token = qn_tokens_get(&e->tokens, i);
            fits = token < vocabulary;
            id[i - at] = (int32_t)token;
            target[i - at] = qn_tokens_counts(&e->tokens, i);
        }
        status = fits ? qni_samples_add(s, id, target, NULL, end - at, 0) : QN_ERR_FORMAT;
    }
    qn_free(id);
    qn_free(target);
    return status;
}

qn_status qni_kept_read(const qni_kept *k, const qn_data_options *o, qni_samples *s, qni_notes *t,
                        bool *found) {
    entry e = {.n = 0};
    bool tokens = false, notes = false;
    int64_t before = s->n;
    *found = false;
    if (!k->path) return QN_OK;
    qn_status status = open_part(k->path, ".tokens", &e.tokens_view, &tokens);
    if (status == QN_OK) status = open_part(k->path, ".notes", &e.notes_view, &notes);
    if (status == QN_OK && tokens && notes && is_whole(&e)) {
        status = read_notes(&e, t);
        if (status == QN_OK) status = read_samples(&e, o, s);
        *found = status == QN_OK;
        if (!*found) s->n = before;
        if (status == QN_ERR_FORMAT) status = QN_OK;
    }
    if (!*found) qni_notes_free(t);
    if (tokens) qni_view_close(&e.tokens_view);
    if (notes) qni_view_close(&e.notes_view);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static qn_status write_tokens(const char *name, const qn_data_options *o, const qni_samples *s,
                              int64_t first, XXH128_canonical_t *digest) {
    int64_t n = s->n - first, begin = s->first[first];
    int64_t *documents = qn_alloc((size_t)n * sizeof *documents, "an index");
    if (!documents) return QN_ERR_OOM;
    for (int64_t i = 0; i < n; i++) documents[i] = s->first[first + i] - begin;
    const qn_tokens_content c = {.ids = s->id + begin,
                                 .count = s->first[s->n] - begin,
                                 .vocab_size = qn_tokenizer_size(o->tokenizer),
                                 .tokenizer =
                                     XXH3_64bits(qn_tokenizer_identity(o->tokenizer),
                                                 strlen(qn_tokenizer_identity(o->tokenizer))),
                                 .documents = documents,
                                 .n_documents = n,
                                 .mask = s->target + begin};
    qn_status status = qn_tokens_write(name, &c);
    qn_free(documents);
    QN_TRY(status);
    qni_view v;
    QN_TRY(qni_view_open(name, &v));
    XXH128_canonicalFromHash(digest, XXH3_128bits(v.bytes, (size_t)v.size));
    qni_view_close(&v);
    return QN_OK;
}

static void write_json(const qni_notes *t, qn_text *out) {
    qn_text_printf(out, "{\"format\":%d,\"layout\":%d,\"records\":%" PRId64 ",\"notes\":[",
                   (int)t->format, (int)t->layout, t->records);
    const char *between = "";
    for (int k = 0; k < QNI_NOTES; k++) {
        if (t->count[k] == 0) continue;
        qn_text_printf(out, "%s{\"kind\":%d,\"count\":%" PRId64 ",\"places\":[", between, k,
                       t->count[k]);
        for (int i = 0; i < QNI_TOLD && t->place[k][i]; i++) {
            if (i) qn_text_add(out, ",");
            qn_text_json_string(out, t->place[k][i]);
        }
        qn_text_add(out, "]}");
        between = ",";
    }
    qn_text_add(out, "]}");
}

static qn_status write_notes(const char *name, const qni_notes *t, trailer end) {
    qn_text body = {0};
    qni_temp temp;
    qn_text_add_bytes(&body, (const char *)t->line, (size_t)t->n * sizeof *t->line);
    write_json(t, &body);
    end.lines = t->n;
    end.json = (int64_t)body.length - 4 * t->n;
    qn_status status = body.status;
    if (status == QN_OK) {
        XXH128_canonicalFromHash(&end.notes, XXH3_128bits(body.data, body.length));
        status = qni_temp_open(name, &temp);
    }
    if (status == QN_OK) {
        status = qni_temp_write(&temp, body.data, body.length);
        if (status == QN_OK) status = qni_temp_write(&temp, &end, sizeof end);
        if (status == QN_OK) status = qni_temp_commit(&temp);
        qni_temp_close(&temp);
    }
    qn_text_free(&body);
    return status;
}

qn_status qni_kept_write(const qni_kept *k, const qn_data_options *o, const qni_samples *s,
                         int64_t first, const qni_notes *t) {
    trailer end = {.lines = 0};
    memcpy(end.magic, magic, sizeof end.magic);
    if (!k->path || s->n == first) return QN_OK;
    char *tokens = qn_sprintf("%s.tokens", k->path), *notes = qn_sprintf("%s.notes", k->path);
    qn_status status = tokens && notes ? QN_OK : QN_ERR_OOM;
    if (status == QN_OK) status = write_tokens(tokens, o, s, first, &end.tokens);
    if (status == QN_OK) status = write_notes(notes, t, end);
    qn_free(tokens);
    qn_free(notes);
    return status;
}
