/* data_examples.c — sources over fine-tuning examples: files of records, read once, encoded,
 * divided and packed. What looks wrong without being an error is told in the description, with its
 * line. */
#include "io/data_encode.h"
#include "io/data_notes.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const note_text[QNI_NOTES] = {
    "the tokens of an earlier example again",
    "cut to data.block_size tokens",
    "left out, longer than data.block_size tokens",
    "left out",
    "an empty answer",
    "roles out of order, expected user and assistant in turn",
};

typedef struct reading {
    const qn_data_options *o;
    qni_files files;
    qni_head head;
    qni_samples home[QN_SPLIT_COUNT]; /* by the files' split, before division */
    qni_encoded encoded;
    qn_example_format format; /* of the present file */
    qni_notes notes;          /* of the present file */
    int64_t count[QNI_NOTES]; /* of all files */
    char *places[QNI_NOTES];  /* the first ones, as lines */
    uint64_t *seen;           /* hash table of examples, 0 = free */
    int64_t n_seen, room;
    int64_t largest; /* class */
    bool pairs;
} reading;

/* ---- notes ----------------------------------------------------------------------------------- */

/* message: of an error, which begins with the file's path; NULL = the line is all there is. */
static qn_status note(reading *x, qni_note kind, const qni_file *f, int64_t line,
                      const char *message) {
    char place[256];
    size_t path = strlen(f->path);
    if (message && strncmp(message, f->path, path) == 0 && message[path] == ':')
        snprintf(place, sizeof place, "%s", message + path);
    else
        snprintf(place, sizeof place, ":%" PRId64 "%s%s", line, message ? ": " : "",
                 message ? message : "");
    size_t n = strlen(place);
    while (!qn_utf8_valid(place, n)) place[--n] = '\0'; /* cut within a character */
    return qni_notes_add(&x->notes, kind, place);
}

/* Notes of the present file, or of a duplicate, go to those of all. */
static qn_status tell(reading *x, qni_note kind, const qni_file *f, int64_t count,
                      char *const *place, int64_t places) {
    qn_text t = {0};
    if (x->places[kind]) qn_text_add(&t, x->places[kind]);
    for (int64_t i = 0; i < places && x->count[kind] + i < QNI_TOLD; i++)
        qn_text_printf(&t, "  %s%s\n", f->path, place[i]);
    x->count[kind] += count;
    qn_free(x->places[kind]);
    return qn_text_take(&t, &x->places[kind]);
}

static bool insert(uint64_t *table, int64_t room, uint64_t hash) {
    for (int64_t i = (int64_t)(hash & (uint64_t)(room - 1));; i = (i + 1) & (room - 1)) {
        if (table[i] == hash) return false;
        if (table[i] != 0) continue;
        table[i] = hash;
        return true;
    }
}

static qn_status look_for_duplicate(reading *x, const int32_t *id, int64_t n, bool *duplicate) {
    if (2 * (x->n_seen + 1) > x->room) {
        int64_t room = x->room ? 2 * x->room : 1024;
        uint64_t *table = qn_alloc((size_t)room * sizeof *table, "duplicates");
        if (!table) return QN_ERR_OOM;
        memset(table, 0, (size_t)room * sizeof *table);
        for (int64_t i = 0; i < x->room; i++)
            if (x->seen[i]) insert(table, room, x->seen[i]);
        qn_free(x->seen);
        x->seen = table;
        x->room = room;
    }
    uint64_t hash = XXH3_64bits(id, (size_t)n * sizeof *id);
    *duplicate = !insert(x->seen, x->room, hash ? hash : 1);
    x->n_seen += !*duplicate;
    return QN_OK;
}

/* What the present file's notes and its samples, from number `first` on, say goes to all files'. */
static qn_status take_notes(reading *x, const qni_file *f, int64_t first) {
    const qni_samples *s = &x->home[f->home];
    const qni_notes *t = &x->notes;
    for (int k = 0; k < QNI_NOTES; k++) {
        int64_t places = t->count[k] < QNI_TOLD ? t->count[k] : QNI_TOLD;
        if (places > 0) QN_TRY(tell(x, (qni_note)k, f, t->count[k], t->place[k], places));
    }
    for (int64_t i = first; i < s->n; i++) {
        bool duplicate;
        char place[32], *at = place;
        QN_TRY(
            look_for_duplicate(x, s->id + s->first[i], s->first[i + 1] - s->first[i], &duplicate));
        if (!duplicate) continue;
        snprintf(place, sizeof place, ":%" PRId32, t->line[i - first]);
        QN_TRY(tell(x, QNI_NOTE_DUPLICATE, f, 1, &at, 1));
    }
    return QN_OK;
}

static qn_status look_at_turns(reading *x, const qn_example *e, const qni_file *f, int64_t line) {
    const char *before = "";
    bool ordered = true, empty = false;
    for (const cJSON *m = e->messages ? e->messages->child : NULL; m; m = m->next) {
        const char *role = qn_json_get(m, "role")->valuestring;
        bool assistant = strcmp(role, "assistant") == 0, user = strcmp(role, "user") == 0;
        if (user && strcmp(before, "user") == 0) ordered = false;
        if (assistant &&
            (!*before || strcmp(before, "system") == 0 || strcmp(before, "assistant") == 0))
            ordered = false;
        if (assistant && !*qn_json_get(m, "content")->valuestring && !qn_json_get(m, "tool_calls"))
            empty = true;
        before = role;
    }
    if (!ordered) QN_TRY(note(x, QNI_NOTE_TURN_ORDER, f, line, NULL));
    return empty ? note(x, QNI_NOTE_EMPTY_ANSWER, f, line, NULL) : QN_OK;
}

/* ---- labels ---------------------------------------------------------------------------------- */

static qn_status class_of(reading *x, const char *text, int64_t *out) {
    const qn_data_options *o = x->o;
    char *end;
    for (int64_t i = 0; i < o->label_names.n; i++) {
        if (strcmp(o->label_names.item[i], text) != 0) continue;
        *out = i;
        return QN_OK;
    }
    long long number = strtoll(text, &end, 10);
    bool integer = *text && !*end && number >= 0 && number <= INT32_MAX;
    int64_t most = o->label_names.n ? o->label_names.n : o->classes;
    if (most == 0 && o->multi_label) most = QN_MOST_LABELS;
    if (integer && (most == 0 || number < most)) {
        *out = number;
        if (number > x->largest) x->largest = number;
        return QN_OK;
    }
    if (integer)
        return qn_fail(QN_ERR_DATA, "found label %lld, expected 0 to %lld", number,
                       (long long)most - 1);
    return qn_fail(QN_ERR_DATA,
                   "found label \"%.60s\", expected a class number or one of model.id2label%s",
                   text, o->label_names.n ? "" : ", which is not stated");
}

/* The classes of a text as the bits of a whole number; "" has none. */
static qn_status classes_of(reading *x, const char *text, double *out) {
    int64_t bits = 0;
    while (*text) {
        char name[256];
        size_t n = strcspn(text, "\n");
        int64_t class;
        if (n >= sizeof name)
            return qn_fail(QN_ERR_DATA, "found label \"%.60s...\", expected a shorter one", text);
        memcpy(name, text, n);
        name[n] = '\0';
        QN_TRY(class_of(x, name, &class));
        bits |= INT64_C(1) << class;
        text += n + (text[n] != '\0');
    }
    *out = (double)bits;
    return QN_OK;
}

/* Gives the first token of each word the word's class. A token that begins at the space before a
 * word is the word's. */
static qn_status label_words(reading *x, const qn_example *e, qni_encoded *c) {
    const char *label = e->label;
    int64_t token = 0;
    size_t begin = 0;
    memset(c->target, 0, (size_t)c->ids.n);
    for (int64_t w = 0; w < e->words; w++) {
        char name[256];
        int64_t class;
        size_t end = begin + strcspn(e->text + begin, " "), n = strcspn(label, "\n");
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), label);
        QN_TRY(class_of(x, name, &class));
        if (class > 254)
            return qn_fail(QN_ERR_DATA, "found label %lld of a word, expected at most 254",
                           (long long)class);
        for (; token < c->ids.n; token++) {
            size_t at = (size_t)c->ids.start[token];
            bool special = qn_tokenizer_is_special(x->o->tokenizer, c->ids.id[token]);
            if (!special && at >= end) break;
            if (special || at + 1 < begin) continue;
            c->target[token++] = (unsigned char)(class + 1);
            break;
        }
        label += n + (label[n] != '\0');
        begin = end + 1;
    }
    return QN_OK;
}

static qn_status label_of(reading *x, const char *text, double *out) {
    char *end;
    int64_t class;
    if (x->o->multi_label) return classes_of(x, text, out);
    if (!x->o->regress) {
        QN_TRY(class_of(x, text, &class));
        *out = (double)class;
        return QN_OK;
    }
    *out = strtod(text, &end);
    if (*end || end == text || !isfinite(*out))
        return qn_fail(QN_ERR_DATA, "found label \"%.60s\", expected a finite number", text);
    return QN_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static qn_status add_example(reading *x, const qni_file *f, int64_t line, const qn_example *e) {
    double label = 0;
    qni_encoded *c = &x->encoded;
    bool words = e->label && x->o->token_labels;
    if (e->label && !words) QN_TRY(label_of(x, e->label, &label));
    if (words && e->words == 0)
        return qn_fail(QN_ERR_DATA, "found a text, expected an array of words with a label each");
    QN_TRY(qni_encode_example(x->o, e, c));
    if (words) QN_TRY(label_words(x, e, c));
    QN_TRY(look_at_turns(x, e, f, line));
    if (c->dropped) return note(x, QNI_NOTE_DROPPED, f, line, NULL);
    if (c->cut) QN_TRY(note(x, QNI_NOTE_CUT, f, line, NULL));
    if (e->text_pair) x->pairs = true;
    QN_TRY(qni_notes_add_line(&x->notes, line));
    return qni_samples_add(&x->home[f->home], c->ids.id, c->target, c->type, c->ids.n, label);
}

static qn_status read_record(reading *x, const qni_file *f, qn_records *r, const cJSON *record,
                             int64_t line) {
    qn_setup *arena;
    qn_example e;
    if (x->format == QN_EXAMPLES_AUTO)
        QN_TRY(qn_example_detect(r, record, &x->o->keys, &x->format));
    QN_TRY(qn_setup_create("an example", &arena));
    qn_status s = qn_example_read(r, record, x->format, &x->o->keys, arena, &e);
    if (s == QN_OK && (s = add_example(x, f, line, &e)) == QN_ERR_DATA)
        s = qn_fail_prefix(s, "%s:%" PRId64, f->path, line);
    qn_setup_free(arena);
    return s;
}

static qn_record_format format_of(const qn_data_options *o, const qni_file *f) {
    if (o->type != QN_DATA_LABELLED_TEXT) return QN_RECORDS_AUTO;
    const char *dot = strrchr(f->relative, '.'); /* without .gz */
    for (int i = QN_RECORDS_JSON; dot && i <= QN_RECORDS_TSV; i++) {
        if (strcmp(dot + 1, qn_record_format_name((qn_record_format)i)) == 0)
            return QN_RECORDS_AUTO;
    }
    return QN_RECORDS_LABELS;
}

static qn_status read_records(reading *x, const qni_file *f) {
    qn_records *r = NULL;
    const cJSON *record;
    int64_t line;
    qn_status status;
    QN_TRY_GOTO(
        qn_records_open(f->path, (const char *)f->view.bytes, f->size, format_of(x->o, f), &r));
    x->format = x->o->format;
    for (;;) {
        status = qn_records_next(r, &record, &line);
        if (status == QN_OK && !record) break;
        if (status == QN_OK) status = read_record(x, f, r, record, line);
        x->notes.records++;
        bool about_data = status == QN_ERR_DATA || status == QN_ERR_FORMAT;
        if (about_data && x->o->skip_broken)
            status = note(x, QNI_NOTE_SKIPPED, f, line, qn_error_message());
        if (status != QN_OK) goto done;
    }
    x->notes.format = qn_records_format(r);
    x->notes.layout = x->format;
done:
    qn_records_free(r);
    return status;
}

/* A cache that cannot be written to costs time only, so it is told and no more. */
static qn_status read_file(reading *x, const qni_file *f) {
    qni_samples *s = &x->home[f->home];
    qni_kept kept;
    bool found = false;
    int64_t first = s->n;
    qn_status status;
    qni_notes_free(&x->notes);
    QN_TRY(qni_kept_find(x->o, f, &kept));
    QN_TRY_GOTO(qni_kept_read(&kept, x->o, s, &x->notes, &found));
    if (!found) {
        QN_TRY_GOTO(read_records(x, f));
        status = qni_kept_write(&kept, x->o, s, first, &x->notes);
        if (status == QN_ERR_IO)
            QN_TRY_GOTO(qni_say(&x->head, "  tokens are not kept: %s\n", qn_error_message()));
        else if (status != QN_OK)
            goto done;
    }
    if (kept.why) QN_TRY_GOTO(qni_say(&x->head, "  tokens are not kept: %s\n", kept.why));
    QN_TRY_GOTO(qni_say(&x->head, "  %s: %s, %s, %" PRId64 " records%s\n", f->relative,
                        qn_record_format_name(x->notes.format),
                        qn_example_format_name(x->notes.layout), x->notes.records,
                        found ? ", tokens from the cache" : ""));
    status = take_notes(x, f, first);
done:
    qni_kept_free(&kept);
    return status;
}

/* ---- division -------------------------------------------------------------------------------- */

static qn_status copy_samples(const qni_samples *from, const int64_t *index, int64_t first,
                              int64_t n, qni_samples *to) {
    for (int64_t i = 0; i < n; i++) {
        int64_t k = index ? index[first + i] : first + i, at = from->first[k];
        QN_TRY(qni_samples_add(to, from->id + at, from->target + at, from->type + at,
                               from->first[k + 1] - at, from->label[k]));
    }
    return QN_OK;
}

/* Takes val and test out of the training examples. */
static qn_status divide(reading *x) {
    const qn_data_options *o = x->o;
    int64_t count[QN_SPLIT_COUNT], first = 0, *index = NULL;
    if (!(o->val_fraction > 0 || o->test_fraction > 0)) return QN_OK;
    qni_samples all = x->home[QN_SPLIT_TRAIN];
    x->home[QN_SPLIT_TRAIN] = (qni_samples){0};
    qn_status status;
    QN_TRY_GOTO(qni_divide_items(o, all.n, "examples", count, &index));
    for (int s = 0; s < QN_SPLIT_COUNT; first += count[s++])
        QN_TRY_GOTO(copy_samples(&all, index, first, count[s], &x->home[s]));
done:
    qni_samples_free(&all);
    qn_free(index);
    return status;
}

/* ---- the source ------------------------------------------------------------------------------ */

static uint64_t identity(const reading *x, const qni_samples_options *so) {
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    qni_identity_text(
        &state, "examples kind %d block %" PRId64 " classes %" PRId64 " tokenizer %s\n",
        (int)so->kind, so->block, so->classes, qn_tokenizer_identity(x->o->tokenizer));
    for (int s = 0; s < QN_SPLIT_COUNT; s++) {
        const qni_samples *p = &x->home[s];
        qni_identity_text(&state, "split %d n %" PRId64 "\n", s, p->n);
        if (p->n == 0) continue;
        size_t tokens = (size_t)p->first[p->n];
        XXH3_64bits_update(&state, p->first, (size_t)(p->n + 1) * sizeof *p->first);
        XXH3_64bits_update(&state, p->id, tokens * sizeof *p->id);
        XXH3_64bits_update(&state, p->target, tokens);
        XXH3_64bits_update(&state, p->type, tokens);
        XXH3_64bits_update(&state, p->label, (size_t)p->n * sizeof *p->label);
    }
    return XXH3_64bits_digest(&state);
}

static qn_status describe(reading *x) {
    for (int k = 0; k < QNI_NOTES; k++) {
        if (x->count[k] == 0) continue;
        QN_TRY(qni_say(&x->head, "warning: %" PRId64 " example%s: %s\n%s%s", x->count[k],
                       x->count[k] == 1 ? "" : "s", note_text[k], x->places[k],
                       x->count[k] > QNI_TOLD ? "  ...\n" : ""));
    }
    return QN_OK;
}

static int32_t padding_of(const qn_tokenizer *t) {
    int32_t id = qn_tokenizer_role(t, QN_TOKEN_PAD);
    if (id < 0) id = qn_tokenizer_role(t, QN_TOKEN_EOS);
    return id < 0 ? 0 : id;
}

static qn_status finish(reading *x, qn_source *out) {
    const qn_data_options *o = x->o;
    bool labelled = o->type == QN_DATA_LABELLED_TEXT;
    int64_t classes = o->label_names.n ? o->label_names.n
                      : o->classes     ? o->classes
                                       : x->largest + 1;
    qni_samples_options so = {.kind = !labelled
                                          ? o->unpacked ? QNI_SAMPLES_SINGLE : QNI_SAMPLES_PACKED
                                      : o->token_labels ? QNI_SAMPLES_TOKENS
                                      : o->regress      ? QNI_SAMPLES_REGRESS
                                      : o->multi_label  ? QNI_SAMPLES_MULTI_LABEL
                                                        : QNI_SAMPLES_CLASSIFY,
                              .block = o->block_size,
                              .pad = padding_of(o->tokenizer),
                              .classes = !labelled    ? qn_tokenizer_size(o->tokenizer)
                                         : o->regress ? 0
                                                      : classes,
                              .pairs = x->pairs,
                              .seed = o->seed};
    if (x->home[QN_SPLIT_TRAIN].n == 0)
        return qn_fail(QN_ERR_DATA, "data: found no examples to learn from");
    if (o->multi_label && classes > QN_MOST_LABELS) {
        return qn_fail(QN_ERR_CONFIG,
                       "data: found %lld labels of which a text may have several, "
                       "expected at most %d",
                       (long long)classes, QN_MOST_LABELS);
    }
    so.identity = identity(x, &so);
    QN_TRY(describe(x));
    char *text = x->head.text;
    x->head.text = NULL;
    return qni_samples_source(&so, x->home, text, out);
}

qn_status qni_examples_source(const qn_data_options *o, qn_source *out) {
    reading x = {.o = o};
    qn_status status;
    if (!o->tokenizer) {
        return qn_fail(QN_ERR_CONFIG, "data: found no tokenizer to read examples with, expected "
                                      "data.tokenizer (or model.pretrained)");
    }
    for (int s = 0; s < QN_SPLIT_COUNT; s++) QN_TRY_GOTO(qni_files_open(o, (qn_split)s, &x.files));
    QN_TRY_GOTO(qni_files_check_leak(&x.files));
    QN_TRY_GOTO(
        qni_say(&x.head, "examples: %" PRId64 " file%s\n", x.files.n, x.files.n == 1 ? "" : "s"));
    for (int64_t i = 0; i < x.files.n; i++) QN_TRY_GOTO(read_file(&x, &x.files.file[i]));
    QN_TRY_GOTO(divide(&x));
    status = finish(&x, out);
done:
    for (int s = 0; s < QN_SPLIT_COUNT; s++) qni_samples_free(&x.home[s]);
    for (int k = 0; k < QNI_NOTES; k++) qn_free(x.places[k]);
    qni_notes_free(&x.notes);
    qni_files_close(&x.files);
    qni_encoded_free(&x.encoded);
    qn_free(x.seen);
    qn_free(x.head.text);
    return status;
}
