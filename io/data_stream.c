/* data_stream.c — tokens that lie in many files as one sequence: spans, slices, reading, and the
 * division of documents into train, val and test. */
#include "io/data_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- streams --------------------------------------------------------------------------------- */

qn_status qni_stream_append(qni_stream *s, qni_span span) {
    if (span.count == 0) return QN_OK;
    if (s->n == s->capacity) {
        int64_t more = s->capacity ? 2 * s->capacity : 8;
        qni_span *grown = qn_realloc(s->span, (size_t)s->capacity * sizeof *grown,
                                     (size_t)more * sizeof *grown, "token spans");
        if (!grown) return QN_ERR_OOM;
        s->span = grown;
        s->capacity = more;
    }
    span.start = s->tokens;
    s->span[s->n++] = span;
    s->tokens += span.count;
    s->masked |= span.mask != NULL;
    return QN_OK;
}

void qni_stream_free(qni_stream *s) {
    qn_free(s->span);
    *s = (qni_stream){0};
}

/* The span that holds token `at`, 0 <= at < s->tokens. */
static int64_t find_span(const qni_stream *s, int64_t at) {
    int64_t low = 0, high = s->n - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (s->span[middle].start <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

qn_status qni_stream_slice(const qni_stream *from, int64_t first, int64_t count, qni_stream *to) {
    for (int64_t i = count > 0 ? find_span(from, first) : 0; count > 0; i++) {
        qni_span part = from->span[i];
        int64_t skip = first - part.start, left = part.count - skip;
        part.data += skip * part.width;
        part.first += skip;
        part.count = left < count ? left : count;
        first += part.count;
        count -= part.count;
        QN_TRY(qni_stream_append(to, part));
    }
    return QN_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Widens n little-endian ids and returns the largest. */
static uint32_t widen(const unsigned char *p, int width, int64_t n, int32_t *ids) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t id = p[i * width];
        if (width > 1) id |= (uint32_t)p[i * width + 1] << 8;
        if (width > 2) id |= (uint32_t)p[i * width + 2] << 16 | (uint32_t)p[i * width + 3] << 24;
        largest = id > largest ? id : largest;
        ids[i] = (int32_t)id;
    }
    return largest;
}

static qn_status out_of_range(const qni_span *s, int64_t skip, const int32_t *ids, int64_t vocab) {
    int64_t i = 0;
    while ((uint32_t)ids[i] < (uint64_t)vocab) i++;
    return qn_fail(QN_ERR_DATA, "%s: found token %u at place %lld, expected less than %lld",
                   s->file->path, (uint32_t)ids[i], (long long)(s->first + skip + i),
                   (long long)vocab);
}

static void apply_mask(const qni_span *s, int64_t skip, int64_t n, int32_t *ids) {
    for (int64_t i = 0; i < n; i++) {
        int64_t bit = s->first + skip + i;
        if (!(s->mask[bit >> 3] >> (bit & 7) & 1)) ids[i] = QN_IGNORE_INDEX;
    }
}

qn_status qni_stream_read(const qni_stream *s, int64_t first, int64_t count, int64_t vocab,
                          bool targets, int32_t *ids) {
    for (int64_t i = count > 0 ? find_span(s, first) : 0; count > 0; i++) {
        const qni_span *part = &s->span[i];
        int64_t skip = first - part->start,
                n = part->count - skip < count ? part->count - skip : count;
        const unsigned char *p = part->data + skip * part->width;
        if (part->file && !part->file->own) QN_TRY(qni_view_intact(&part->file->view));
        uint32_t largest = part->width == 1   ? widen(p, 1, n, ids)
                           : part->width == 2 ? widen(p, 2, n, ids)
                                              : widen(p, 4, n, ids);
        if (largest >= (uint64_t)vocab) return out_of_range(part, skip, ids, vocab);
        if (targets && part->mask) apply_mask(part, skip, n, ids);
        first += n;
        count -= n;
        ids += n;
    }
    return QN_OK;
}

/* ---- division -------------------------------------------------------------------------------- */

qn_status qni_divide_count(const qn_data_options *o, int64_t n, const char *unit,
                           int64_t count[QN_SPLIT_COUNT]) {
    /* The small term undoes what rounding takes from 1 - 0.1 - 0.2 and the like. */
    int64_t before_test = (int64_t)floor((double)n * (1.0 - o->test_fraction) + 1e-6);
    int64_t train = (int64_t)floor((double)n * (1.0 - o->val_fraction - o->test_fraction) + 1e-6);
    count[QN_SPLIT_TRAIN] = train;
    count[QN_SPLIT_VAL] = o->val_fraction > 0 ? before_test - train : 0;
    count[QN_SPLIT_TEST] = n - count[QN_SPLIT_TRAIN] - count[QN_SPLIT_VAL];
    const double fraction[QN_SPLIT_COUNT] = {1, o->val_fraction, o->test_fraction};
    for (int s = 0; s < QN_SPLIT_COUNT; s++)
        if (fraction[s] > 0 && count[s] == 0)
            return qn_fail(QN_ERR_DATA,
                           "data: found %lld %s, too few to divide: the %s split would be empty",
                           (long long)n, unit,
                           s == 0   ? "train"
                           : s == 1 ? "val"
                                    : "test");
    return QN_OK;
}

/* A point in [0, 1) that only the path decides. */
static double path_point(const char *relative) {
    return (double)(XXH3_64bits(relative, strlen(relative)) >> 11) * 0x1p-53;
}

static qn_status divide_by_file(const qn_data_options *o, qni_files *files) {
    int64_t count[QN_SPLIT_COUNT] = {0};
    for (int64_t i = 0; i < files->n; i++) {
        qni_file *f = &files->file[i];
        double at = f->home == QN_SPLIT_TRAIN ? path_point(f->relative) : 1.0;
        if (at < o->val_fraction)
            f->home = QN_SPLIT_VAL;
        else if (at < o->val_fraction + o->test_fraction)
            f->home = QN_SPLIT_TEST;
        count[f->home]++;
    }
    const double fraction[QN_SPLIT_COUNT] = {1, o->val_fraction, o->test_fraction};
    for (int s = 0; s < QN_SPLIT_COUNT; s++)
        if (fraction[s] > 0 && count[s] == 0)
            return qn_fail(QN_ERR_DATA,
                           "data: found %lld files, of which the division by file puts none into "
                           "the %s split; use another division or more files",
                           (long long)files->n,
                           s == 0   ? "train"
                           : s == 1 ? "val"
                                    : "test");
    return QN_OK;
}

static qn_status divide_in_order(const qn_data_options *o, const qni_stream *all,
                                 qni_stream split[QN_SPLIT_COUNT]) {
    int64_t count[QN_SPLIT_COUNT], first = 0;
    QN_TRY(qni_divide_count(o, all->tokens, "tokens", count));
    for (int s = 0; s < QN_SPLIT_COUNT; first += count[s++])
        QN_TRY(qni_stream_slice(all, first, count[s], &split[s]));
    return QN_OK;
}

/* Pieces of 16 windows; the last one takes the rest. Neighbours in one split stay joined. */
static qn_status divide_randomly(const qn_data_options *o, const qni_stream *all,
                                 qni_stream split[QN_SPLIT_COUNT]) {
    int64_t piece = 0, count[QN_SPLIT_COUNT];
    if (!qn_mul_i64(o->block_size, 16, &piece)) piece = INT64_MAX;
    int64_t pieces = all->tokens / piece;
    QN_TRY(qni_divide_count(o, pieces, "pieces of 16 * block_size tokens", count));
    uint64_t key = qn_rng_key(o->seed, "data", "division");
    for (int64_t i = 0; i < pieces; i++) {
        int64_t place = (int64_t)qn_rng_permute(key, (uint64_t)pieces, (uint64_t)i);
        int s = place < count[0] ? 0 : place < count[0] + count[1] ? 1 : 2;
        int64_t end = i == pieces - 1 ? all->tokens : (i + 1) * piece;
        QN_TRY(qni_stream_slice(all, i * piece, end - i * piece, &split[s]));
    }
    return QN_OK;
}

/* The documents at home in one split, the separator between each two. */
static qn_status join(const qni_files *files, qn_split home, const qni_span *document,
                      const qni_span *separator, qni_stream *out) {
    for (int64_t i = 0; i < files->n; i++) {
        if (files->file[i].home != home) continue;
        if (separator && out->tokens > 0) QN_TRY(qni_stream_append(out, *separator));
        QN_TRY(qni_stream_append(out, document[i]));
    }
    return QN_OK;
}

qn_status qni_divide(const qn_data_options *o, qni_files *files, const qni_span *document,
                     const qni_span *separator, qni_stream split[QN_SPLIT_COUNT]) {
    bool divided = o->val_fraction > 0 || o->test_fraction > 0;
    if (divided && o->division == QN_DATA_BY_FILE) QN_TRY(divide_by_file(o, files));
    for (int s = 0; s < QN_SPLIT_COUNT; s++)
        QN_TRY(join(files, (qn_split)s, document, separator, &split[s]));
    if (!divided || o->division == QN_DATA_BY_FILE) return QN_OK;

    qni_stream all = split[QN_SPLIT_TRAIN], part[QN_SPLIT_COUNT] = {{0}};
    qn_status status = o->division == QN_DATA_RANDOM ? divide_randomly(o, &all, part)
                                                     : divide_in_order(o, &all, part);
    split[QN_SPLIT_TRAIN] = part[QN_SPLIT_TRAIN];
    for (int s = QN_SPLIT_VAL; s < QN_SPLIT_COUNT; s++) {
        if (part[s].n == 0) continue; /* val or test may have files of its own */
        qni_stream_free(&split[s]);
        split[s] = part[s];
    }
    qni_stream_free(&all);
    return status;
}

static int compare_i64(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

qn_status qni_divide_items(const qn_data_options *o, int64_t n, const char *unit,
                           int64_t count[QN_SPLIT_COUNT], int64_t **place) {
    *place = NULL;
    QN_TRY(qni_divide_count(o, n, unit, count));
    if (o->division != QN_DATA_RANDOM) return QN_OK;
    uint64_t key = qn_rng_key(o->seed, "data", "division");
    int64_t *items = *place = qn_alloc((size_t)n * sizeof *items, "random division");
    if (!items) return QN_ERR_OOM;
    for (int64_t i = 0; i < n; i++)
        items[i] = (int64_t)qn_rng_permute(key, (uint64_t)n, (uint64_t)i);
    for (int s = 0; s < QN_SPLIT_COUNT; items += count[s++])
        qsort(items, (size_t)count[s], sizeof *items, compare_i64);
    return QN_OK;
}
