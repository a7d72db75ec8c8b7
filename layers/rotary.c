/* rotary.c — how far each pair of a head turns per position: the kinds of rotary embedding.
 *
 * The plain table is theta^(-2j/D) (Su et al. 2021). The kinds stretch it to sequences longer than
 * those of pre-training, each exactly as Hugging Face's transformers does:
 *   linear   every frequency divided by factor (Chen et al. 2023)
 *   dynamic  beyond the longest position L: theta * (factor n/L - (factor - 1))^(D/(D-2)), n the
 *            length of the sequence
 *   llama3   wavelengths above original/low_freq_factor divided by factor, those below
 *            original/high_freq_factor left alone, a blend between
 *   yarn     the same between two pairs, found from the turns they make over the original length,
 *            and sines and cosines multiplied by 0.1 ln(factor) + 1 (Peng et al. 2023)
 */
#include "layers/layers.h"

#include <math.h>

#define TWO_PI 6.283185307179586476925

/* ---- the kinds ------------------------------------------------------------------------------- */

static void llama3(const qn_rotary *r, double original, qn_rope_attrs *out) {
    double low = r->low_freq_factor, high = r->high_freq_factor;
    for (int j = 0; j < out->pairs; j++) {
        double f = out->frequency[j], wave = TWO_PI / f;
        if (wave < original / high) continue;
        double blend = wave > original / low ? 0.0 : (original / wave - low) / (high - low);
        out->frequency[j] = (1.0 - blend) * f / r->factor + blend * f;
    }
}

/* The pair, counted continuously in elements of a head, that makes `turns` turns. */
static double pair_of_turns(const qn_rotary *r, int64_t width, double original, double turns) {
    return (double)width * log(original / (turns * TWO_PI)) / (2.0 * log(r->theta));
}

static double magnitude(double factor, double scale) {
    return factor <= 1.0 ? 1.0 : 0.1 * scale * log(factor) + 1.0;
}

static void yarn(const qn_rotary *r, int64_t width, double original, double factor,
                 qn_rope_attrs *out) {
    double fast = r->beta_fast > 0.0 ? r->beta_fast : 32.0;
    double slow = r->beta_slow > 0.0 ? r->beta_slow : 1.0;
    double low = pair_of_turns(r, width, original, fast);
    double high = pair_of_turns(r, width, original, slow);
    if (!r->untruncated) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0.0);
    high = fmin(high, (double)width - 1.0);
    if (low == high) high += 0.001;
    for (int j = 0; j < out->pairs; j++) {
        double ramp = fmin(fmax((j - low) / (high - low), 0.0), 1.0), f = out->frequency[j];
        out->frequency[j] = f / factor * ramp + f * (1.0 - ramp);
    }
    bool both = r->mscale > 0.0 && r->mscale_all_dim > 0.0;
    out->scale = r->attention_factor > 0.0 ? r->attention_factor
                 : both ? magnitude(factor, r->mscale) / magnitude(factor, r->mscale_all_dim)
                        : magnitude(factor, 1.0);
}

/* ---- the table ------------------------------------------------------------------------------- */

static double original_length(const qn_model_config *c) {
    int64_t stated = c->rotary.original_max_position_embeddings;
    return (double)(stated > 0 ? stated : c->max_position_embeddings);
}

/* yarn's factor may be left to the two lengths. */
static double stretch(const qn_model_config *c) {
    double factor = c->rotary.factor;
    return factor > 0.0 ? factor : (double)c->max_position_embeddings / original_length(c);
}

static qn_status check(const qn_model_config *c, int64_t width) {
    const qn_rotary *r = &c->rotary;
    if (width < 0 || width > c->head_dim || width % 2 != 0 || width > 2 * QN_ROPE_PAIRS) {
        return qn_fail(
            QN_ERR_UNSUPPORTED,
            "rotary embedding: %lld of the %lld elements of a head are to turn, expected "
            "an even number of at most %d",
            (long long)width, (long long)c->head_dim, 2 * QN_ROPE_PAIRS);
    }
    bool factor = r->kind != QN_ROTARY_DEFAULT && r->kind != QN_ROTARY_YARN;
    if (!(r->theta > 0.0) || (factor && !(r->factor > 0.0)) || original_length(c) <= 0.0) {
        return qn_fail(QN_ERR_CONFIG,
                       "rotary embedding: theta %g, factor %g, length %g; expected all above 0",
                       r->theta, r->factor, original_length(c));
    }
    if (r->kind == QN_ROTARY_LLAMA3 &&
        !(r->low_freq_factor > 0.0 && r->high_freq_factor > r->low_freq_factor)) {
        return qn_fail(QN_ERR_CONFIG,
                       "rotary embedding llama3: low_freq_factor %g, high_freq_factor %g; expected "
                       "0 < low < high",
                       r->low_freq_factor, r->high_freq_factor);
    }
    return QN_OK;
}

qn_status qn_rotary_table(const qn_model_config *c, int64_t length, qn_rope_attrs *out) {
    const qn_rotary *r = &c->rotary;
    double part = r->partial_rotary_factor > 0.0 ? r->partial_rotary_factor : 1.0, theta = r->theta;
    int64_t width = (int64_t)((double)c->head_dim * part);
    QN_TRY(check(c, width));
    if (r->kind == QN_ROTARY_DYNAMIC && length > c->max_position_embeddings && width > 2) {
        double n = (double)length / (double)c->max_position_embeddings;
        theta *= pow(r->factor * n - (r->factor - 1.0), (double)width / (double)(width - 2));
    }
    *out = qn_rope_plain(theta, width);
    if (r->kind == QN_ROTARY_LINEAR) {
        for (int j = 0; j < out->pairs; j++) out->frequency[j] /= r->factor;
    } else if (r->kind == QN_ROTARY_LLAMA3) {
        llama3(r, original_length(c), out);
    } else if (r->kind == QN_ROTARY_YARN) {
        yarn(r, width, original_length(c), stretch(c), out);
    }
    return QN_OK;
}

int64_t qn_rotary_reach(const qn_model_config *c) {
    int64_t stated = c->max_position_embeddings;
    bool extends = c->rotary.kind == QN_ROTARY_LINEAR || c->rotary.kind == QN_ROTARY_DYNAMIC ||
                   c->rotary.kind == QN_ROTARY_YARN;
    int64_t reach = extends ? (int64_t)(stretch(c) * original_length(c)) : stated;
    return reach > stated ? reach : stated;
}
