/* data_masked.c — dynamic masking for masked language models (Devlin et al. 2018; drawn anew each
 * time a sample comes round, as Liu et al. 2019 do).
 *
 * Whether a token is hidden, and what stands in its place, is a function of the seed, the split and
 * the position of its sample alone: counter = (position * tokens + token, 0), whose four words say
 * whether, how, and which other token. Training positions count samples since the start, so every
 * epoch hides others; evaluation always hides the same.
 */
#include "io/data.h"

#include <string.h>

typedef struct masked {
    qn_source inner;
    qn_masking o;
    bool *copy; /* of o.kept */
    uint64_t key[QN_SPLIT_COUNT];
    int64_t tokens;              /* of a sample */
    int tokens_field, documents; /* places among the fields; -1 = absent */
} masked;

static uint32_t scaled(double p) { return (uint32_t)(p * 4294967295.0); }

/* Hides some of a sample's tokens and makes those the targets. Returns how many. */
static int64_t hide(const masked *m, uint64_t key, int64_t position, int32_t *tokens,
                    const int32_t *documents, int32_t *targets) {
    int64_t hidden = 0;
    for (int64_t t = 0; t < m->tokens; t++) {
        int32_t id = tokens[t];
        targets[t] = QN_IGNORE_INDEX;
        if (documents && documents[t] < 0) continue;
        if (m->o.kept && id >= 0 && id < m->o.vocabulary && m->o.kept[id]) continue;
        qn_u32x4 draw = qn_philox(key, (uint64_t)(position * m->tokens + t), 0);
        if (draw.v[0] >= scaled(m->o.probability)) continue;
        targets[t] = id;
        hidden++;
        if (draw.v[1] < scaled(0.8)) {
            tokens[t] = m->o.mask;
        } else if (draw.v[1] < scaled(0.9)) {
            tokens[t] = (int32_t)((uint64_t)draw.v[2] * (uint64_t)m->o.vocabulary >> 32);
        }
    }
    return hidden;
}

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    const masked *m = self;
    QN_TRY(m->inner.fetch(m->inner.self, split, position, count, dst, labels));
    int32_t *tokens = dst[m->tokens_field], *targets = dst[m->inner.n_fields - 1];
    const int32_t *documents = m->documents >= 0 ? dst[m->documents] : NULL;
    *labels = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = i * m->tokens;
        bool padding = split != QN_SPLIT_TRAIN && position + i >= m->inner.n[split];
        if (padding) continue; /* its targets are ignored already */
        *labels += hide(m, m->key[split], position + i, tokens + at,
                        documents ? documents + at : NULL, targets + at);
    }
    return QN_OK;
}

static void expect(void *self, qn_split split, int64_t position, int64_t count) {
    const masked *m = self;
    if (m->inner.expect) m->inner.expect(m->inner.self, split, position, count);
}

static void masked_free(void *self) {
    masked *m = self;
    if (m->inner.free) m->inner.free(m->inner.self);
    qn_free(m->copy);
    qn_free(m);
}

static qn_status check(const qn_masking *o) {
    if (!(o->probability > 0 && o->probability <= 1)) {
        return qn_fail(QN_ERR_CONFIG,
                       "masking: the probability is %g, expected more than 0, at most 1",
                       o->probability);
    }
    if (o->mask >= 0 && o->vocabulary > 0) return QN_OK;
    return qn_fail(QN_ERR_CONFIG, "masking: mask token %d of %lld tokens", (int)o->mask,
                   (long long)o->vocabulary);
}

/* The source of *m, whose `inner` and `o` are set. */
static qn_status set_up(masked *m) {
    static const char *const sites[QN_SPLIT_COUNT] = {"train", "val", "test"};
    const qn_field *last = &m->inner.field[m->inner.n_fields - 1];
    m->tokens_field = m->documents = -1;
    for (int i = 0; i < m->inner.n_fields; i++) {
        if (strcmp(m->inner.field[i].name, "tokens") == 0) m->tokens_field = i;
        if (strcmp(m->inner.field[i].name, "documents") == 0) m->documents = i;
    }
    if (m->tokens_field < 0 || last->ndim != 1 || last->dtype != QN_I32)
        return qn_fail(QN_ERR_CONFIG, "masking: expected tokens with a target for each");
    m->tokens = last->shape[0];
    for (int s = 0; s < QN_SPLIT_COUNT; s++) m->key[s] = qn_rng_key(m->o.seed, "masking", sites[s]);
    if (!m->o.kept) return QN_OK;
    bool *kept = qn_alloc((size_t)m->o.vocabulary * sizeof *kept, "masking");
    if (!kept) return QN_ERR_OOM;
    memcpy(kept, m->o.kept, (size_t)m->o.vocabulary * sizeof *kept);
    m->o.kept = m->copy = kept;
    return QN_OK;
}

qn_status qn_masked_create(const qn_source *inner, const qn_masking *o, qn_source *out) {
    QN_TRY(check(o));
    masked *m = qn_alloc(sizeof *m, "masking");
    if (!m) return QN_ERR_OOM;
    *m = (masked){.inner = *inner, .o = *o};
    qn_status status = set_up(m);
    if (status != QN_OK) {
        qn_free(m);
        return status;
    }
    *out = *inner;
    out->self = m;
    out->fetch = fetch;
    out->expect = expect;
    out->wait_seconds = NULL;
    out->free = masked_free;
    if (out->classes <= o->mask) out->classes = (int64_t)o->mask + 1;
    return QN_OK;
}
