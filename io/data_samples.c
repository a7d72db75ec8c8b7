/* data_samples.c — the source over encoded examples: rows of one or several, padded to a length. */
#include "io/data_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- samples --------------------------------------------------------------------------------- */

static qn_status grow(void **array, int64_t used, int64_t capacity, size_t size) {
    void *p = qn_realloc(*array, (size_t)used * size, (size_t)capacity * size, "samples");
    if (!p) return QN_ERR_OOM;
    *array = p;
    return QN_OK;
}

static qn_status make_room(qni_samples *s, int64_t tokens) {
    int64_t used = s->n ? s->first[s->n] : 0;
    if (s->n + 1 >= s->capacity) {
        int64_t capacity = s->capacity ? 2 * s->capacity : 256;
        QN_TRY(grow((void **)&s->first, s->capacity, capacity, sizeof *s->first));
        QN_TRY(grow((void **)&s->label, s->capacity, capacity, sizeof *s->label));
        if (s->n == 0) s->first[0] = 0;
        s->capacity = capacity;
    }
    if (used + tokens > s->room) {
        int64_t room = 2 * (used + tokens) + 4096;
        QN_TRY(grow((void **)&s->id, s->room, room, sizeof *s->id));
        QN_TRY(grow((void **)&s->target, s->room, room, 1));
        QN_TRY(grow((void **)&s->type, s->room, room, 1));
        s->room = room;
    }
    return QN_OK;
}

qn_status qni_samples_add(qni_samples *s, const int32_t *id, const unsigned char *target,
                          const unsigned char *type, int64_t n, double label) {
    QN_TRY(make_room(s, n));
    int64_t at = s->first[s->n];
    memcpy(s->id + at, id, (size_t)n * sizeof *id);
    if (target)
        memcpy(s->target + at, target, (size_t)n);
    else
        memset(s->target + at, 0, (size_t)n);
    if (type)
        memcpy(s->type + at, type, (size_t)n);
    else
        memset(s->type + at, 0, (size_t)n);
    s->label[s->n++] = label;
    s->first[s->n] = at + n;
    return QN_OK;
}

void qni_samples_free(qni_samples *s) {
    qn_free(s->first);
    qn_free(s->id);
    qn_free(s->target);
    qn_free(s->type);
    qn_free(s->label);
    *s = (qni_samples){0};
}

/* ---- rows ------------------------------------------------------------------------------------ */

typedef struct rows { /* row r holds samples order[first[r]] to order[first[r + 1] - 1] */
    int64_t n;
    int64_t *order, *first;
} rows;

typedef struct source {
    qni_head head;
    qni_samples_options o;
    uint64_t order_key;
    qni_samples split[QN_SPLIT_COUNT];
    rows row[QN_SPLIT_COUNT];
} source;

static int64_t length_of(const qni_samples *s, int64_t i) { return s->first[i + 1] - s->first[i]; }

/* Samples by falling length, equal ones in order: counting sort. */
static qn_status sort_by_length(const qni_samples *s, int64_t block, int64_t *sorted) {
    int64_t *start = qn_alloc((size_t)(block + 2) * sizeof *start, "packing");
    if (!start) return QN_ERR_OOM;
    memset(start, 0, (size_t)(block + 2) * sizeof *start);
    for (int64_t i = 0; i < s->n; i++) start[block - length_of(s, i) + 1]++;
    for (int64_t k = 0; k <= block; k++) start[k + 1] += start[k];
    for (int64_t i = 0; i < s->n; i++) sorted[start[block - length_of(s, i)]++] = i;
    qn_free(start);
    return QN_OK;
}

typedef struct packing { /* best fit: the open row with the least space that is enough */
    int64_t *row_of;     /* per sample */
    int64_t *next;       /* per row: another one with the same space, -1 = none */
    int64_t *open;       /* per space: a row, -1 = none */
    uint64_t *some;      /* bit per space: there is one */
} packing;

static int64_t least_space(const packing *p, int64_t from, int64_t block) {
    for (int64_t word = from >> 6; word <= block >> 6; word++) {
        uint64_t bits = p->some[word];
        if (word == from >> 6) bits &= ~UINT64_C(0) << (from & 63);
        if (bits) return (word << 6) + __builtin_ctzll(bits);
    }
    return -1;
}

static void put_row(packing *p, int64_t row, int64_t space) {
    p->next[row] = p->open[space];
    p->open[space] = row;
    p->some[space >> 6] |= UINT64_C(1) << (space & 63);
}

static int64_t take_row(packing *p, int64_t space) {
    int64_t row = p->open[space];
    p->open[space] = p->next[row];
    if (p->open[space] < 0) p->some[space >> 6] &= ~(UINT64_C(1) << (space & 63));
    return row;
}

static int64_t best_fit(const qni_samples *s, int64_t block, const int64_t *sorted, packing *p) {
    int64_t n = 0;
    for (int64_t k = 0; k < s->n; k++) {
        int64_t i = sorted[k], length = length_of(s, i), space = least_space(p, length, block);
        int64_t row = space < 0 ? n++ : take_row(p, space);
        p->row_of[i] = row;
        put_row(p, row, (space < 0 ? block : space) - length);
    }
    return n;
}

/* row_of to rows, the samples of a row in order, rows by their first sample. */
static qn_status list_rows(const qni_samples *s, const int64_t *row_of, int64_t n, rows *out) {
    int64_t *rank = qn_alloc((size_t)(n + 1) * sizeof *rank, "packing");
    if (!rank) return QN_ERR_OOM;
    for (int64_t r = 0; r < n; r++) rank[r] = -1;
    memset(out->first, 0, (size_t)(n + 2) * sizeof *out->first);
    int64_t seen = 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (rank[row_of[i]] < 0) rank[row_of[i]] = seen++;
        out->first[rank[row_of[i]] + 2]++;
    }
    for (int64_t r = 0; r < n; r++) out->first[r + 2] += out->first[r + 1];
    for (int64_t i = 0; i < s->n; i++) out->order[out->first[rank[row_of[i]] + 1]++] = i;
    qn_free(rank);
    out->n = n;
    return QN_OK;
}

static qn_status pack(const qni_samples *s, int64_t block, rows *out) {
    qn_status status = QN_OK;
    size_t n = (size_t)s->n, words = ((size_t)block >> 6) + 1;
    int64_t *sorted = qn_alloc((n + 1) * sizeof *sorted, "packing");
    packing p = {.row_of = qn_alloc((n + 1) * sizeof *p.row_of, "packing"),
                 .next = qn_alloc((n + 1) * sizeof *p.next, "packing"),
                 .open = qn_alloc((size_t)(block + 1) * sizeof *p.open, "packing"),
                 .some = qn_alloc(words * sizeof *p.some, "packing")};
    if (!sorted || !p.row_of || !p.next || !p.open || !p.some) {
        status = QN_ERR_OOM;
        goto done;
    }
    memset(p.some, 0, words * sizeof *p.some);
    for (int64_t k = 0; k <= block; k++) p.open[k] = -1;
    QN_TRY_GOTO(sort_by_length(s, block, sorted));
    QN_TRY_GOTO(list_rows(s, p.row_of, best_fit(s, block, sorted, &p), out));
done:
    qn_free(sorted);
    qn_free(p.row_of);
    qn_free(p.next);
    qn_free(p.open);
    qn_free(p.some);
    return status;
}

static qn_status make_rows(const qni_samples_options *o, const qni_samples *s, rows *out) {
    out->order = qn_alloc(((size_t)s->n + 1) * sizeof *out->order, "rows");
    out->first = qn_alloc(((size_t)s->n + 2) * sizeof *out->first, "rows");
    if (!out->order || !out->first) return QN_ERR_OOM;
    for (int64_t i = 0; i < s->n; i++) {
        if (length_of(s, i) <= o->block) continue;
        return qn_fail(QN_ERR_INTERNAL, "data: a sample of %lld tokens in rows of %lld",
                       (long long)length_of(s, i), (long long)o->block);
    }
    if (o->kind == QNI_SAMPLES_PACKED) return pack(s, o->block, out);
    for (int64_t i = 0; i <= s->n; i++) out->first[i] = i;
    for (int64_t i = 0; i < s->n; i++) out->order[i] = i;
    out->n = s->n;
    return QN_OK;
}

/* ---- fetch ----------------------------------------------------------------------------------- */

enum { TOKENS, POSITIONS, DOCUMENTS, TARGETS }; /* fields of a language model */

static int64_t fill_language_row(const source *d, qn_split split, int64_t row,
                                 int32_t *const to[4]) {
    const qni_samples *s = &d->split[split];
    const rows *r = &d->row[split];
    int64_t at = 0, block = d->o.block, labels = 0;
    int32_t document = 0;
    for (int64_t k = row < 0 ? 0 : r->first[row]; row >= 0 && k < r->first[row + 1]; k++) {
        int64_t from = s->first[r->order[k]], n = length_of(s, r->order[k]);
        for (int64_t i = 0; i < n; i++, at++) {
            bool learned = i + 1 < n && s->target[from + i + 1];
            to[TOKENS][at] = s->id[from + i];
            to[POSITIONS][at] = (int32_t)i;
            to[DOCUMENTS][at] = document;
            to[TARGETS][at] = learned ? s->id[from + i + 1] : QN_IGNORE_INDEX;
            labels += learned;
        }
        document++;
    }
    for (int32_t i = 0; at < block; at++, i++) {
        to[TOKENS][at] = d->o.pad;
        to[POSITIONS][at] = i;
        to[DOCUMENTS][at] = -1;
        to[TARGETS][at] = QN_IGNORE_INDEX;
    }
    return labels;
}

/* Elements of the last field of a sample. */
static int64_t labels_of(const qni_samples_options *o) {
    return o->kind == QNI_SAMPLES_MULTI_LABEL ? o->classes
           : o->kind == QNI_SAMPLES_TOKENS    ? o->block
                                              : 1;
}

/* The classes of n tokens from `from` on; returns how many have one. */
static int64_t fill_classes(const source *d, const qni_samples *s, int64_t from, int64_t n,
                            int32_t *target) {
    int64_t labels = 0;
    for (int64_t i = 0; i < d->o.block; i++) {
        bool has = i < n && s->target[from + i] > 0;
        target[i] = has ? s->target[from + i] - 1 : QN_IGNORE_INDEX;
        labels += has;
    }
    return labels;
}

static int64_t fill_labelled_row(const source *d, qn_split split, int64_t row, int32_t *const to[4],
                                 void *label) {
    const qni_samples *s = &d->split[split];
    int64_t sample = row < 0 ? 0 : d->row[split].order[row], block = d->o.block;
    int64_t n = row < 0 ? 0 : length_of(s, sample), from = row < 0 ? 0 : s->first[sample];
    for (int64_t i = 0; i < block; i++) {
        to[0][i] = i < n ? s->id[from + i] : d->o.pad;
        to[1][i] = i < n ? 0 : -1;
        if (d->o.pairs) to[2][i] = i < n ? s->type[from + i] : 0;
    }
    if (d->o.kind == QNI_SAMPLES_TOKENS) return fill_classes(d, s, from, n, label);
    if (d->o.kind == QNI_SAMPLES_CLASSIFY) {
        *(int32_t *)label = row < 0 ? QN_IGNORE_INDEX : (int32_t)s->label[sample];
    } else if (d->o.kind == QNI_SAMPLES_REGRESS) {
        *(float *)label = row < 0 ? NAN : (float)s->label[sample];
    } else {
        for (int64_t k = 0; k < d->o.classes; k++) {
            bool has = row >= 0 && (int64_t)s->label[sample] >> k & 1;
            ((float *)label)[k] = row < 0 ? NAN : has ? 1.0f : 0.0f;
        }
    }
    return row >= 0 ? labels_of(&d->o) : 0;
}

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    const source *d = self;
    const int64_t n = d->row[split].n, block = d->o.block;
    if (n == 0) return qn_fail(QN_ERR_DATA, "data: there is no %s split", qni_split_name[split]);
    bool language = d->o.kind == QNI_SAMPLES_PACKED || d->o.kind == QNI_SAMPLES_SINGLE;
    int last = language ? TARGETS : d->o.pairs ? 3 : 2;
    *labels = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t row = position + i, epoch;
        if (split == QN_SPLIT_TRAIN)
            row = qni_epoch_index(d->order_key, n, row, &epoch);
        else if (row >= n)
            row = -1;
        int32_t *to[4] = {0};
        for (int f = 0; f < last + language; f++) to[f] = (int32_t *)dst[f] + i * block;
        *labels += language ? fill_language_row(d, split, row, to)
                            : fill_labelled_row(d, split, row, to,
                                                (int32_t *)dst[last] + i * labels_of(&d->o));
    }
    return QN_OK;
}

/* ---- the source ------------------------------------------------------------------------------ */

static void source_free(void *self) {
    source *d = self;
    for (int s = 0; s < QN_SPLIT_COUNT; s++) {
        qni_samples_free(&d->split[s]);
        qn_free(d->row[s].order);
        qn_free(d->row[s].first);
    }
    qn_free(d->head.text);
    qn_free(d);
}

static qn_status describe(source *d) {
    for (int s = 0; s < QN_SPLIT_COUNT; s++) {
        const qni_samples *x = &d->split[s];
        if (x->n == 0) continue;
        int64_t tokens = x->first[x->n], learned = 0;
        for (int64_t i = 0; i < tokens; i++) learned += x->target[i];
        double full = 100.0 * (double)tokens / ((double)d->row[s].n * (double)d->o.block);
        QN_TRY(qni_say(&d->head, "%s: %lld examples, %lld tokens", qni_split_name[s],
                       (long long)x->n, (long long)tokens));
        if (d->o.kind == QNI_SAMPLES_PACKED || d->o.kind == QNI_SAMPLES_SINGLE)
            QN_TRY(qni_say(&d->head, ", %lld of them learned", (long long)learned));
        QN_TRY(qni_say(&d->head, ", in %lld rows of %lld, %.1f %% filled\n", (long long)d->row[s].n,
                       (long long)d->o.block, full));
    }
    return QN_OK;
}

qn_status qni_samples_source(const qni_samples_options *o, qni_samples split[QN_SPLIT_COUNT],
                             char *text, qn_source *out) {
    qn_status status = QN_OK;
    source *d = qn_alloc(sizeof *d, "data source");
    if (!d) {
        for (int s = 0; s < QN_SPLIT_COUNT; s++) qni_samples_free(&split[s]);
        qn_free(text);
        return QN_ERR_OOM;
    }
    *d = (source){.head = {text}, .o = *o, .order_key = qn_rng_key(o->seed, "data", "epoch")};
    for (int s = 0; s < QN_SPLIT_COUNT; s++) {
        d->split[s] = split[s];
        split[s] = (qni_samples){0};
    }
    for (int s = 0; s < QN_SPLIT_COUNT; s++) QN_TRY_GOTO(make_rows(o, &d->split[s], &d->row[s]));
    QN_TRY_GOTO(describe(d));
    *out = (qn_source){.self = d,
                       .classes = o->classes,
                       .identity = o->identity,
                       .fetch = fetch,
                       .free = source_free};
    bool language = o->kind == QNI_SAMPLES_PACKED || o->kind == QNI_SAMPLES_SINGLE;
    static const char *const names[2][4] = {{"tokens", "documents", "token_types", ""},
                                            {"tokens", "positions", "documents", "targets"}};
    int rows_of_tokens = language ? 4 : o->pairs ? 3 : 2;
    for (int f = 0; f < rows_of_tokens; f++)
        out->field[out->n_fields++] = (qn_field){names[language][f], QN_I32, 1, {o->block}};
    if (o->kind == QNI_SAMPLES_TOKENS)
        out->field[out->n_fields++] = (qn_field){"targets", QN_I32, 1, {o->block}};
    else if (!language)
        out->field[out->n_fields++] = o->kind == QNI_SAMPLES_CLASSIFY
                                          ? (qn_field){"labels", QN_I32, 0, {0}}
                                          : (qn_field){"labels", QN_F32, 1, {labels_of(o)}};
    for (int s = 0; s < QN_SPLIT_COUNT; s++) out->n[s] = d->row[s].n;
done:
    if (status != QN_OK) source_free(d);
    return status;
}
