/* data.c — opens data: checks the options, hands over to the source of the type, and holds what the
 * sources share: the order of an epoch, the description and the identity. */
#include "io/data_parts.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- options --------------------------------------------------------------------------------- */

static qn_status check_fractions(const qn_data_options *o, bool own_val, bool own_test) {
    const double v = o->val_fraction, t = o->test_fraction;
    if (!(v >= 0 && t >= 0 && v + t < 1))
        return qn_fail(
            QN_ERR_CONFIG,
            "data: found val_fraction %g and test_fraction %g, expected numbers from 0 on "
            "with a sum below 1",
            v, t);
    if ((own_val && v > 0) || (own_test && t > 0))
        return qn_fail(QN_ERR_CONFIG,
                       "data: found both a path and a fraction for the %s split, "
                       "expected one of them",
                       own_val && v > 0 ? "val" : "test");
    return QN_OK;
}

static qn_status check_windows(const qn_data_options *o) {
    if (o->paths[QN_SPLIT_TRAIN].n < 1)
        return qn_fail(QN_ERR_CONFIG, "data: found no path, expected at least one");
    if (o->block_size < 1 || o->block_size > INT32_MAX)
        return qn_fail(QN_ERR_CONFIG, "data: found block_size %lld, expected 1 to %d",
                       (long long)o->block_size, INT32_MAX);
    if (o->vocab_size < 0 || o->vocab_size > INT32_MAX)
        return qn_fail(QN_ERR_CONFIG, "data: found vocab_size %lld, expected 1 to %d",
                       (long long)o->vocab_size, INT32_MAX);
    return check_fractions(o, o->paths[QN_SPLIT_VAL].n > 0, o->paths[QN_SPLIT_TEST].n > 0);
}

static qn_status check_items(const qn_data_options *o) {
    for (int s = 0; s < QN_SPLIT_COUNT; s++)
        if ((s == QN_SPLIT_TRAIN && !o->images[s]) || !o->images[s] != !o->labels[s])
            return qn_fail(QN_ERR_CONFIG,
                           "data: found %s for the %s split, expected both images and "
                           "labels",
                           o->images[s]   ? "images without labels"
                           : o->labels[s] ? "labels without images"
                                          : "no images",
                           qni_split_name[s]);
    if (o->division == QN_DATA_BY_FILE)
        return qn_fail(QN_ERR_CONFIG,
                       "data: IDX items lie in one file and cannot be divided by file");
    if (!(o->std >= 0 && o->std <= 1e30 && o->mean >= -1e30 && o->mean <= 1e30))
        return qn_fail(QN_ERR_CONFIG,
                       "data: found mean %g and std %g, expected finite numbers and a "
                       "positive std",
                       o->mean, o->std);
    if (o->shift < 0)
        return qn_fail(QN_ERR_CONFIG, "data: found shift %lld, expected 0 or more",
                       (long long)o->shift);
    if (o->classes < 0 || o->classes > INT32_MAX)
        return qn_fail(QN_ERR_CONFIG, "data: found %lld classes, expected 1 to %d",
                       (long long)o->classes, INT32_MAX);
    return check_fractions(o, o->images[QN_SPLIT_VAL], o->images[QN_SPLIT_TEST]);
}

qn_status qn_data_open(const qn_data_options *o, qn_source *out, qn_vocab **vocab) {
    *vocab = NULL;
    switch (o->type) {
    case QN_DATA_TEXT:
    case QN_DATA_TOKENS: QN_TRY(check_windows(o)); return qni_window_source(o, out, vocab);
    case QN_DATA_CONVERSATIONS:
    case QN_DATA_LABELLED_TEXT: QN_TRY(check_windows(o)); return qni_examples_source(o, out);
    case QN_DATA_IDX: QN_TRY(check_items(o)); return qni_items_source(o, out);
    }
    return qn_fail(QN_ERR_CONFIG, "data: found type %d, which there is not", (int)o->type);
}

const char *const qni_split_name[QN_SPLIT_COUNT] = {"train", "val", "test"};

/* ---- order ----------------------------------------------------------------------------------- */

int64_t qni_epoch_index(uint64_t key, int64_t n, int64_t position, int64_t *epoch) {
    *epoch = position / n;
    qn_u32x4 r = qn_philox(key, (uint64_t)*epoch, 0);
    uint64_t epoch_key = (uint64_t)r.v[1] << 32 | r.v[0];
    return (int64_t)qn_rng_permute(epoch_key, (uint64_t)n, (uint64_t)(position % n));
}

/* ---- description ----------------------------------------------------------------------------- */

qn_status qni_say(qni_head *h, const char *format, ...) {
    char line[QN_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0) return qn_fail(QN_ERR_INTERNAL, "data: a line of the description cannot be formed");
    size_t length = strlen(line), old = h->text ? strlen(h->text) + 1 : 0, at = old ? old - 1 : 0;
    char *text = qn_realloc(h->text, old, at + length + 1, "data description");
    if (!text) return QN_ERR_OOM;
    memcpy(text + at, line, length + 1);
    h->text = text;
    return QN_OK;
}

const char *qn_data_describe(const qn_source *s) { return ((const qni_head *)s->self)->text; }

/* ---- identity -------------------------------------------------------------------------------- */

void qni_identity_text(XXH3_state_t *state, const char *format, ...) {
    char line[QN_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n > 0) XXH3_64bits_update(state, line, strlen(line));
}

void qni_identity_begin(XXH3_state_t *state, const qn_data_options *o) {
    XXH3_64bits_reset(state);
    qni_identity_text(state, "type %d block %" PRId64 " division %d %.17g %.17g seed %" PRIu64 "\n",
                      (int)o->type, o->block_size, (int)o->division, o->val_fraction,
                      o->test_fraction, o->division == QN_DATA_RANDOM ? o->seed : 0);
}

void qni_identity_file(XXH3_state_t *state, const qni_file *f) {
    XXH3_64bits_update(state, f->relative, strlen(f->relative));
    qni_identity_text(state, " home %d size %" PRId64 " digest %016" PRIx64 "\n", (int)f->home,
                      f->size, f->digest);
}
