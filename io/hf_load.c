/* hf_load.c — finds every parameter's tensor in a model directory, then reads them. */
#include "io/hf_load.h"

#include "io/safetensors.h"
#include "io/text_buffer.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { BLOCK = 1 << 18, ROWS = 64, NAME = 512 }; /* elements of a block; rows of a transposition */

typedef struct loading {
    qn_params *p;
    const qn_hf_options *o;
    qn_safetensors *file;
    const qn_safetensor **source; /* per parameter; NULL = keeps what it has */
    bool *used;                   /* per tensor of the file */
    qn_text missing, unexpected, misshapen, notes;
} loading;

/* ---- names ----------------------------------------------------------------------------------- */

static const char *const prefixes[] = {"transformer.", "model.", "bert.", "roberta."};

static bool begins_with(const char *s, const char *start) {
    return strncmp(s, start, strlen(start)) == 0;
}

static bool ends_in(const char *s, const char *ending) {
    size_t n = strlen(s), m = strlen(ending);
    return n >= m && strcmp(s + n - m, ending) == 0;
}

static const qn_safetensor *find_exact(const loading *l, const char *name) {
    static const struct {
        const char *now, *before;
    } norms[] = {{"LayerNorm.weight", "gamma"}, {"LayerNorm.bias", "beta"}};
    const qn_safetensor *t = qn_safetensors_find(l->file, name);
    for (size_t i = 0; !t && i < 2; i++) {
        char old[NAME];
        if (!ends_in(name, norms[i].now)) continue;
        int n = (int)(strrchr(name, '.') - name) + 1;
        snprintf(old, sizeof old, "%.*s%s", n, name, norms[i].before);
        t = qn_safetensors_find(l->file, old);
    }
    return t;
}

/* By the name, the name without the base model's prefix, and with one. */
static const qn_safetensor *find(const loading *l, const char *name) {
    const qn_safetensor *t = find_exact(l, name);
    for (size_t i = 0; !t && i < sizeof prefixes / sizeof *prefixes; i++) {
        char longer[NAME];
        if (begins_with(name, prefixes[i])) {
            t = find_exact(l, name + strlen(prefixes[i]));
        } else {
            snprintf(longer, sizeof longer, "%s%s", prefixes[i], name);
            t = find_exact(l, longer);
        }
    }
    return t;
}

static const char *const output_names[] = {"lm_head.weight", "cls.predictions.decoder.weight",
                                           "lm_head.decoder.weight"};

/* The tensor that stores the output layer of a model whose output layer is the embedding. */
static const qn_safetensor *find_tied(const loading *l) {
    const qn_safetensor *t = NULL;
    for (int i = 0; i < l->p->n; i++) /* an output layer of its own */
        if (strcmp(l->p->item[i].hf_name, output_names[0]) == 0) return NULL;
    for (int i = 0; !t && i < 3; i++) t = qn_safetensors_find(l->file, output_names[i]);
    return t;
}

/* Buffers of older files, and second names of what is stored elsewhere. */
static bool is_ignored(const char *name) {
    static const char *const buffers[] = {".attn.bias",
                                          ".attn.masked_bias",
                                          ".rotary_emb.inv_freq",
                                          "position_ids",
                                          "cls.predictions.decoder.bias",
                                          "lm_head.decoder.bias",
                                          "embeddings.token_type_ids"};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (ends_in(name, buffers[i])) return true;
    return strcmp(name, "attn.bias") == 0;
}

/* A head: a part of a checkpoint that a model for another task has no use for. */
static bool is_head(const char *name) {
    static const char *const roots[] = {"lm_head.", "score.",  "classifier.",
                                        "cls.",     "pooler.", "qa_outputs."};
    for (size_t k = 0; k < sizeof prefixes / sizeof *prefixes; k++)
        if (begins_with(name, prefixes[k])) {
            name += strlen(prefixes[k]);
            break;
        }
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        if (begins_with(name, roots[i])) return true;
    return false;
}

/* ---- matching -------------------------------------------------------------------------------- */

static void check_shape(loading *l, const qn_param *q, const qn_safetensor *t) {
    char found[160], expected[160];
    int64_t shape[QN_MAX_DIMS];
    for (int k = 0; k < q->ndim; k++) shape[k] = q->shape[q->hf_transposed ? q->ndim - 1 - k : k];
    bool same = t->ndim == q->ndim && t->known && qn_dtype_is_float(t->type);
    for (int k = 0; same && k < q->ndim; k++) same = t->shape[k] == shape[k];
    if (same) return;
    const qn_tensor like = qn_tensor_make(NULL, QN_F32, q->ndim, shape);
    const char *brackets = strchr(qn_tensor_describe(&like, expected, sizeof expected), '[');
    qn_text_printf(&l->misshapen, "%s: found %s, expected a float %s\n", t->name,
                   qn_safetensor_describe(t, found, sizeof found), brackets);
}

static void match_parameters(loading *l) {
    for (int i = 0; i < l->p->n; i++) {
        const qn_param *q = &l->p->item[i];
        if (q->role == QN_ROLE_ADAPTER) continue;
        const qn_safetensor *t = q->hf_name ? find(l, q->hf_name) : NULL;
        if (!t && strcmp(q->name, "embed.token.weight") == 0) t = find_tied(l);
        if (t) {
            l->source[i] = t;
            l->used[t - qn_safetensors_get(l->file, 0)] = true;
            check_shape(l, q, t);
        } else if (l->o->new_head && !q->external && begins_with(q->name, "head.")) {
            qn_text_printf(&l->notes, "%s is not in the pretrained model: starts from new values\n",
                           q->name);
        } else {
            qn_text_printf(&l->missing, "%s\n", q->hf_name ? q->hf_name : q->name);
        }
    }
}

/* Both names of a tied embedding: the embedding is taken. */
static void compare_tied(loading *l, const qn_safetensor *t) {
    for (int i = 0; i < l->p->n; i++) {
        const qn_safetensor *e = l->source[i];
        if (!e || strcmp(l->p->item[i].name, "embed.token.weight") != 0) continue;
        if (e->bytes != t->bytes || memcmp(e->data, t->data, (size_t)t->bytes) != 0)
            qn_text_printf(&l->notes,
                           "%s differs from %s, although the model ties them: %s is used\n",
                           t->name, e->name, e->name);
    }
}

static void match_tensors(loading *l) {
    const qn_safetensor *tied = find_tied(l);
    int64_t n = qn_safetensors_count(l->file), passed = 0;
    for (int64_t i = 0; i < n; i++) {
        const qn_safetensor *t = qn_safetensors_get(l->file, i);
        if (l->used[i] || is_ignored(t->name)) continue;
        if (t == tied) {
            compare_tied(l, t);
        } else if (is_head(t->name)) {
            if (passed++ < 4)
                qn_text_printf(&l->notes, "%s of the pretrained model is not used\n", t->name);
        } else {
            qn_text_printf(&l->unexpected, "%s\n", t->name);
        }
    }
    if (passed > 4)
        qn_text_printf(&l->notes, "and %lld more tensors of its head\n", (long long)passed - 4);
}

/* ---- what did not match ---------------------------------------------------------------------- */

static int64_t count_lines(const qn_text *t) {
    int64_t n = 0;
    for (size_t i = 0; i < t->length; i++) n += t->data[i] == '\n';
    return n;
}

/* Appends "missing: a, b, c" as far as `room` bytes go. */
static void add_list(qn_text *to, const char *what, const qn_text *lines, size_t room) {
    int64_t shown = 0, n = count_lines(lines);
    size_t end = to->length + room;
    if (n == 0) return;
    qn_text_printf(to, "; %s: ", what);
    for (const char *s = lines->data; *s; s += strcspn(s, "\n") + 1) {
        size_t length = strcspn(s, "\n");
        if (to->length + length + 24 > end) break;
        qn_text_add(to, shown++ ? ", " : "");
        qn_text_add_bytes(to, s, length);
    }
    if (shown < n)
        qn_text_printf(to, "%s%lld %s", shown ? " and " : "", (long long)(n - shown),
                       shown ? "more" : "tensors");
}

static qn_status refuse(loading *l, const char *path, char **details) {
    qn_text all = {0}, message = {0};
    const struct {
        const char *what;
        const qn_text *lines;
    } list[] = {{"missing", &l->missing},
                {"of another shape", &l->misshapen},
                {"unexpected", &l->unexpected}};
    qn_status status = QN_OK;
    for (int i = 0; i < 3; i++) {
        for (const char *s = list[i].lines->data; s && *s; s += strcspn(s, "\n") + 1)
            qn_text_printf(&all, "%s: %.*s\n", list[i].what, (int)strcspn(s, "\n"), s);
        add_list(&message, list[i].what, list[i].lines, 280);
        if (list[i].lines->status != QN_OK) status = list[i].lines->status;
    }
    if (status == QN_OK) status = message.status;
    if (status == QN_OK && details) status = qn_text_take(&all, details);
    if (status == QN_OK)
        status = qn_fail(QN_ERR_DATA, "%s does not fit the model%.850s", path,
                         message.data ? message.data : "");
    qn_text_free(&all);
    qn_text_free(&message);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct buffers { /* of BLOCK elements of up to 8 bytes each */
    char *values;        /* in the master's dtype, or the weights' */
    char *rounded;       /* in the weights' dtype, where there is a master */
    char *rows;          /* of the tensor as it is stored */
} buffers;

/* to[i * stride] = from[i] for n elements of 2, 4 or 8 bytes. */
static void spread(char *to, size_t stride, const char *from, int64_t n, size_t width) {
    if (width == 4) {
        for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * stride * 4, from + 4 * i, 4);
    } else if (width == 2) {
        for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * stride * 2, from + 2 * i, 2);
    } else {
        for (int64_t i = 0; i < n; i++)
            memcpy(to + (size_t)i * stride * width, from + (size_t)i * width, width);
    }
}

/* Elements first .. first+n-1 of a parameter stored [in,out]; both a multiple of `in`. */
static qn_status read_transposed(const qn_param *q, const qn_safetensor *t, int64_t first,
                                 int64_t n, qn_dtype dt, const buffers *b) {
    int64_t in = q->shape[1], out = q->shape[0];
    size_t width = qn_dtype_bytes(dt);
    for (int64_t row = first / in, end = (first + n) / in; row < end; row += ROWS) {
        int64_t rows = end - row < ROWS ? end - row : ROWS;
        char *to = b->values + (size_t)(row * in - first) * width;
        for (int64_t k = 0; k < in; k++) {
            QN_TRY(qn_safetensor_read(t, k * out + row, rows, dt, b->rows));
            spread(to + (size_t)k * width, (size_t)in, b->rows, rows, width);
        }
    }
    return QN_OK;
}

static qn_status put_block(const qn_params *p, const qn_tensor *to, int64_t first, int64_t n,
                           const void *from) {
    size_t width = qn_dtype_bytes(to->dtype);
    return qn_device_copy(p->device, (char *)to->data + (size_t)first * width, from,
                          (size_t)n * width);
}

static qn_status read_parameter(const loading *l, int i, const buffers *b) {
    const qn_params *p = l->p;
    const qn_param *q = &p->item[i];
    const qn_tensor weight = qn_param_tensor(p, i, &p->weights);
    bool mastered = p->master.shape[0] > 0 && !q->frozen;
    const qn_tensor master = qn_param_tensor(p, i, mastered ? &p->master : &p->weights);
    int64_t step = q->hf_transposed ? BLOCK / q->shape[1] * q->shape[1] : BLOCK;
    if (step == 0)
        return qn_fail(QN_ERR_UNSUPPORTED, "%s: rows longer than %d elements", q->name, BLOCK);
    for (int64_t first = 0; first < q->count; first += step) {
        int64_t n = q->count - first < step ? q->count - first : step;
        if (q->hf_transposed)
            QN_TRY(read_transposed(q, l->source[i], first, n, master.dtype, b));
        else
            QN_TRY(qn_safetensor_read(l->source[i], first, n, master.dtype, b->values));
        QN_TRY(put_block(p, &master, first, n, b->values));
        if (!mastered) continue;
        for (int64_t k = 0; k < n; k++) /* a master is f32, beside bf16 weights */
            ((uint16_t *)b->rounded)[k] = qn_f32_to_bf16(((const float *)b->values)[k]);
        QN_TRY(put_block(p, &weight, first, n, b->rounded));
    }
    return QN_OK;
}

/* A tensor's share of the digest. */
static void digest_tensor(XXH3_state_t *state, const qn_safetensor *t) {
    XXH3_128bits_update(state, t->name, strlen(t->name) + 1);
    XXH3_128bits_update(state, t->dtype, strlen(t->dtype) + 1);
    XXH3_128bits_update(state, t->shape, (size_t)t->ndim * sizeof *t->shape);
    XXH3_128bits_update(state, t->data, (size_t)t->bytes);
}

static qn_status read_all(const loading *l, char digest[QN_HF_DIGEST]) {
    qn_status status = QN_OK;
    qn_arena *staging = NULL;
    XXH3_state_t *state = XXH3_createState();
    const size_t part = (size_t)BLOCK * sizeof(double);
    QN_TRY_GOTO(state ? QN_OK : qn_fail(QN_ERR_OOM, "out of memory: the state of a digest"));
    XXH3_128bits_reset(state);
    QN_TRY_GOTO(qn_arena_create_staging(l->p->device, "blocks of weights", 3 * part, &staging));
    char *base = qn_arena_base(staging);
    const buffers b = {base, base + part, base + 2 * part};
    QN_TRY_GOTO(qn_safetensors_intact(l->file));
    for (int i = 0; i < l->p->n; i++) {
        if (!l->source[i]) continue;
        if (!l->o->external_only || l->p->item[i].external) QN_TRY_GOTO(read_parameter(l, i, &b));
        digest_tensor(state, l->source[i]);
    }
    XXH128_hash_t h = XXH3_128bits_digest(state);
    snprintf(digest, QN_HF_DIGEST, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
done:
    XXH3_freeState(state);
    qn_arena_free(staging);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------- */

qn_status qn_hf_load(qn_params *p, const char *path, const qn_hf_options *o, qn_hf_loaded *out,
                     char **details) {
    loading l = {.p = p, .o = o};
    qn_status status = QN_OK;
    *out = (qn_hf_loaded){.notes = NULL};
    if (details) *details = NULL;
    QN_TRY_GOTO(qn_safetensors_open(path, &l.file));
    l.source = qn_alloc(((size_t)p->n + 1) * sizeof *l.source, "tensors of parameters");
    l.used = qn_alloc((size_t)qn_safetensors_count(l.file) + 1, "tensors in use");
    if (!l.source || !l.used) QN_TRY_GOTO(QN_ERR_OOM);
    match_parameters(&l);
    match_tensors(&l);
    if (l.missing.length || l.misshapen.length || l.unexpected.length)
        QN_TRY_GOTO(refuse(&l, path, details));
    QN_TRY_GOTO(read_all(&l, out->digest));
    status = qn_text_take(&l.notes, &out->notes);
done:
    qn_text_free(&l.missing);
    qn_text_free(&l.unexpected);
    qn_text_free(&l.misshapen);
    qn_text_free(&l.notes);
    qn_safetensors_close(l.file);
    qn_free(l.source);
    qn_free(l.used);
    return status;
}
