/* data_items.c — the classification source over IDX files: features and a label per item. */
#include "io/data_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { U8 = 0x08, U8_VALUES = 256 };

typedef struct part { /* where the items of a split are */
    const qni_file *images_file, *labels_file;
    qn_idx images, labels;
    int64_t n;
    int64_t first;       /* item of place 0, when in file order */
    const int64_t *item; /* items by place, or NULL */
} part;

typedef struct items {
    qni_head head;
    int64_t features, classes;
    double mean, std;
    float byte_value[U8_VALUES]; /* of u8 features */
    uint64_t order_key, shift_key;
    int64_t shift, height, width; /* of training items: planes of height x width are moved */
    part split[QN_SPLIT_COUNT];
    qni_file images[QN_SPLIT_COUNT], labels[QN_SPLIT_COUNT]; /* zero where a split has none */
    int64_t *shuffled;                                       /* of a random division */
} items;

/* ---- fetch ----------------------------------------------------------------------------------- */

static qn_status read_features(const items *d, const part *s, int64_t item, float *to) {
    const qn_idx *x = &s->images;
    const int64_t n = d->features, from = item * n;
    if (x->type == U8) {
        for (int64_t i = 0; i < n; i++) to[i] = d->byte_value[x->data[from + i]];
        return QN_OK;
    }
    for (int64_t i = 0; i < n; i++) {
        double v = qn_idx_get(x, from + i);
        to[i] = (float)((v - d->mean) / d->std);
        if (!isfinite(to[i]))
            return qn_fail(QN_ERR_DATA,
                           "%s: found %g in item %lld, element %lld, expected a finite f32",
                           s->images_file->path, qn_nan_plain(v), (long long)item, (long long)i);
    }
    return QN_OK;
}

static qn_status read_label(const part *s, int64_t classes, int64_t item, int32_t *to) {
    double v = qn_idx_get(&s->labels, item);
    if (!(v >= 0 && v < (double)classes))
        return qn_fail(QN_ERR_DATA, "%s: found label %g of item %lld, expected 0 to %lld",
                       s->labels_file->path, v, (long long)item, (long long)classes - 1);
    *to = (int32_t)v;
    return QN_OK;
}

/* Moves every plane of an item down by dy and right by dx. */
static void move(const items *d, float *plane, int64_t dy, int64_t dx) {
    const int64_t h = d->height, w = d->width;
    const int64_t kept = w - (dx < 0 ? -dx : dx);
    const float zero = (float)((0 - d->mean) / d->std);
    for (const float *end = plane + d->features; plane < end; plane += h * w) {
        for (int64_t i = 0; i < h; i++) {
            int64_t y = dy > 0 ? h - 1 - i : i; /* rows are read before they are written */
            float *to = plane + y * w;
            bool inside = y - dy >= 0 && y - dy < h;
            if (inside)
                memmove(to + (dx > 0 ? dx : 0), plane + (y - dy) * w - (dx < 0 ? dx : 0),
                        (size_t)kept * sizeof *to);
            for (int64_t x = 0; x < w; x++)
                if (!inside || x - dx < 0 || x - dx >= w) to[x] = zero;
        }
    }
}

static void move_at_random(const items *d, int64_t position, float *item) {
    const uint64_t choices = 2 * (uint64_t)d->shift + 1;
    qn_u32x4 r = qn_philox(d->shift_key, (uint64_t)position, 0);
    int64_t dy = (int64_t)(r.v[0] * choices >> 32) - d->shift;
    int64_t dx = (int64_t)(r.v[1] * choices >> 32) - d->shift;
    move(d, item, dy, dx);
}

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    const items *d = self;
    const part *s = &d->split[split];
    float *features = dst[0];
    int32_t *label = dst[1];
    int64_t valid = 0;
    if (s->n == 0) return qn_fail(QN_ERR_DATA, "data: there is no %s split", qni_split_name[split]);
    QN_TRY(qni_view_intact(&s->images_file->view));
    QN_TRY(qni_view_intact(&s->labels_file->view));
    for (int64_t i = 0; i < count; i++, features += d->features, label++) {
        int64_t place = position + i, epoch;
        if (split == QN_SPLIT_TRAIN) {
            place = qni_epoch_index(d->order_key, s->n, place, &epoch);
        } else if (place >= s->n) {
            memset(features, 0, (size_t)d->features * sizeof *features);
            *label = QN_IGNORE_INDEX;
            continue;
        }
        int64_t item = s->item ? s->item[place] : s->first + place;
        QN_TRY(read_features(d, s, item, features));
        if (split == QN_SPLIT_TRAIN && d->shift > 0) move_at_random(d, position + i, features);
        QN_TRY(read_label(s, d->classes, item, label));
        valid++;
    }
    *labels = valid;
    return QN_OK;
}

static void items_free(void *self) {
    items *d = self;
    for (int s = 0; s < QN_SPLIT_COUNT; s++) {
        qni_file_close(&d->images[s]);
        qni_file_close(&d->labels[s]);
    }
    qn_free(d->shuffled);
    qn_free(d->head.text);
    qn_free(d);
}

/* ---- open ------------------------------------------------------------------------------------ */

static qn_status open_idx(const qn_data_options *o, const char *path, qn_split home, qni_file *file,
                          qn_idx *x) {
    const char *slash = strrchr(path, '/');
    QN_TRY(qni_file_open(path, slash ? slash + 1 : path, o->cache_dir, file));
    file->home = home;
    qn_status status = qn_idx_parse(file->view.bytes, file->size, x);
    return status == QN_OK ? QN_OK : qn_fail_prefix(status, "%s", path);
}

static qn_status open_split(const qn_data_options *o, qn_split home, items *d) {
    part *s = &d->split[home];
    QN_TRY(open_idx(o, o->images[home], home, &d->images[home], &s->images));
    QN_TRY(open_idx(o, o->labels[home], home, &d->labels[home], &s->labels));
    s->images_file = &d->images[home];
    s->labels_file = &d->labels[home];
    s->n = s->images.items;
    if (s->images.ndim < 2)
        return qn_fail(QN_ERR_DATA,
                       "%s: found one axis, expected items and at least one of features",
                       s->images_file->path);
    if (s->labels.ndim != 1 || qn_idx_is_float(&s->labels))
        return qn_fail(QN_ERR_DATA,
                       "%s: found %d axes of type 0x%02X, expected one axis of integers",
                       s->labels_file->path, s->labels.ndim, s->labels.type);
    if (s->labels.items != s->n)
        return qn_fail(QN_ERR_DATA,
                       "%s: found %lld labels, expected one for each of the %lld items of %s",
                       s->labels_file->path, (long long)s->labels.items, (long long)s->n,
                       s->images_file->path);
    if (home != QN_SPLIT_TRAIN && (s->images.per_item != d->features ||
                                   s->images.type != d->split[QN_SPLIT_TRAIN].images.type))
        return qn_fail(
            QN_ERR_DATA,
            "%s: found items of %lld elements of type 0x%02X, expected the training data's "
            "%lld of type 0x%02X",
            s->images_file->path, (long long)s->images.per_item, s->images.type,
            (long long)d->features, d->split[QN_SPLIT_TRAIN].images.type);
    d->features = s->images.per_item;
    return QN_OK;
}

/* Takes val and test out of the training items. */
static qn_status divide(const qn_data_options *o, items *d) {
    part all = d->split[QN_SPLIT_TRAIN];
    int64_t count[QN_SPLIT_COUNT], first = 0;
    if (!(o->val_fraction > 0 || o->test_fraction > 0)) return QN_OK;
    QN_TRY(qni_divide_items(o, all.n, "items", count, &d->shuffled));
    for (int s = 0; s < QN_SPLIT_COUNT; first += count[s++]) {
        if (count[s] == 0) continue;
        d->split[s] = all;
        d->split[s].n = count[s];
        d->split[s].first = first;
        if (d->shuffled) d->split[s].item = d->shuffled + first;
    }
    return QN_OK;
}

static qn_status set_shift(const qn_data_options *o, items *d) {
    const qn_idx *x = &d->split[QN_SPLIT_TRAIN].images;
    if (o->shift == 0) return QN_OK;
    if (x->ndim < 3)
        return qn_fail(QN_ERR_DATA,
                       "%s: found items of one axis, expected images of at least two axes for "
                       "data.augment.shift",
                       o->images[QN_SPLIT_TRAIN]);
    d->height = x->shape[x->ndim - 2];
    d->width = x->shape[x->ndim - 1];
    if (o->shift >= d->height || o->shift >= d->width)
        return qn_fail(QN_ERR_DATA,
                       "%s: found images of %lld x %lld, expected more than data.augment.shift, "
                       "%lld, in both directions",
                       o->images[QN_SPLIT_TRAIN], (long long)d->height, (long long)d->width,
                       (long long)o->shift);
    d->shift = o->shift;
    d->shift_key = qn_rng_key(o->seed, "data", "shift");
    return QN_OK;
}

/* Every label of every split is looked at once, so that a bad one is found before the first
 * step. */
static qn_status check_labels(const qn_data_options *o, items *d) {
    double largest = -1;
    const part *train = &d->split[QN_SPLIT_TRAIN];
    for (int64_t i = 0; i < train->labels.items; i++)
        largest = fmax(largest, qn_idx_get(&train->labels, i));
    d->classes = o->classes ? o->classes : (int64_t)fmax(largest, 0) + 1;
    for (int s = 0; s < QN_SPLIT_COUNT; s++)
        for (int64_t i = 0; d->split[s].n && i < d->split[s].labels.items; i++) {
            int32_t ignored;
            QN_TRY(read_label(&d->split[s], d->classes, i, &ignored));
        }
    return QN_OK;
}

static qn_status check_leak(const items *d) {
    for (int s = 0; s < QN_SPLIT_COUNT; s++)
        for (int other = 0; other < s; other++)
            if (d->images[s].path && d->images[other].path &&
                d->images[s].device == d->images[other].device &&
                d->images[s].inode == d->images[other].inode)
                return qn_fail(QN_ERR_DATA, "%s: found the same file in the %s and the %s split",
                               d->images[s].path, qni_split_name[other], qni_split_name[s]);
    return QN_OK;
}

static qn_status describe(const qn_data_options *o, items *d) {
    const qn_idx *x = &d->split[QN_SPLIT_TRAIN].images;
    QN_TRY(qni_say(&d->head, "IDX items of %d", (int)x->shape[1]));
    for (int i = 2; i < x->ndim; i++) QN_TRY(qni_say(&d->head, " x %d", (int)x->shape[i]));
    QN_TRY(qni_say(&d->head, " elements of type 0x%02X, %lld classes\n", x->type,
                   (long long)d->classes));
    for (int s = 0; s < QN_SPLIT_COUNT; s++) {
        const part *p = &d->split[s];
        if (p->n == 0) continue;
        bool divided = d->images[s].path == NULL;
        QN_TRY(qni_say(&d->head, "%s: %lld items, %s%s\n", qni_split_name[s], (long long)p->n,
                       p->images_file->relative,
                       !divided                        ? ""
                       : o->division == QN_DATA_RANDOM ? ", drawn at random"
                                                       : ", the last part"));
    }
    return QN_OK;
}

static void make_source(const qn_data_options *o, items *d, qn_source *out) {
    XXH3_state_t state;
    qni_identity_begin(&state, o);
    qni_identity_text(&state, "classes %lld mean %.17g std %.17g\n", (long long)d->classes, d->mean,
                      d->std);
    *out = (qn_source){.self = d, .n_fields = 2, .classes = d->classes};
    out->field[0] = (qn_field){"features", QN_F32, 1, {d->features}};
    out->field[1] = (qn_field){"labels", QN_I32, 0, {0}};
    for (int s = 0; s < QN_SPLIT_COUNT; s++) {
        out->n[s] = d->split[s].n;
        if (!d->images[s].path) continue;
        qni_identity_file(&state, &d->images[s]);
        qni_identity_file(&state, &d->labels[s]);
    }
    out->identity = XXH3_64bits_digest(&state);
    out->fetch = fetch;
    out->free = items_free;
}

qn_status qni_items_source(const qn_data_options *o, qn_source *out) {
    qn_status status = QN_OK;
    items *d = qn_alloc(sizeof *d, "data source");
    if (!d) return QN_ERR_OOM;
    d->mean = o->mean;
    d->std = o->std > 0 ? o->std : 1;
    d->order_key = qn_rng_key(o->seed, "data", "epoch");
    for (int i = 0; i < U8_VALUES; i++) d->byte_value[i] = (float)((i / 255.0 - d->mean) / d->std);
    for (int s = 0; s < QN_SPLIT_COUNT; s++)
        if (o->images[s]) QN_TRY_GOTO(open_split(o, (qn_split)s, d));
    QN_TRY_GOTO(check_leak(d));
    QN_TRY_GOTO(set_shift(o, d));
    QN_TRY_GOTO(divide(o, d));
    QN_TRY_GOTO(check_labels(o, d));
    QN_TRY_GOTO(describe(o, d));
    make_source(o, d, out);
done:
    if (status != QN_OK) items_free(d);
    return status;
}
