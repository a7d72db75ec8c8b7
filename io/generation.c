/* generation.c — rows that take prompts, draw tokens, and end. */
#include "io/generation.h"

#include <string.h>

typedef struct row {
    int64_t prompt; /* its number, -1: nothing to do */
    int64_t drawn;
    size_t handed; /* bytes of the text given to the sink */
    const int32_t *feed;
    int64_t n_feed;
    qn_token_stream *stream;
} row;

typedef struct generation {
    qn_generator *g;
    const qn_tokenizer *t;
    const qn_generation_options *o;
    const qn_generation_sink *sink;
    const qn_ids *prompts;
    qn_completion *out;
    int64_t n, next; /* next: the first prompt no row has taken */
    int64_t rows;
    row *row;
    const int32_t **ids;
    int64_t *counts;
    qn_sampler *sampler;
} generation;

const char *qn_finish_name(qn_finish f) {
    static const char *const name[] = {"length", "eos", "stop"};
    return name[f];
}

void qn_completion_free(qn_completion *c) {
    qn_text_free(&c->text);
    qn_ids_free(&c->ids);
    *c = (qn_completion){0};
}

/* ---- stop strings ---------------------------------------------------------------------------- */

/* Place of the first stop string that ends behind `from`, or -1. */
static int64_t find_stop(const qn_generation_options *o, const char *text, size_t length,
                         size_t from) {
    int64_t first = -1;
    for (int i = 0; i < o->n_stop; i++) {
        size_t m = strlen(o->stop[i]), begin = from >= m ? from - m + 1 : 0;
        for (size_t at = begin; at + m <= length; at++) {
            if (memcmp(text + at, o->stop[i], m) != 0) continue;
            if (first < 0 || (int64_t)at < first) first = (int64_t)at;
            break;
        }
    }
    return first;
}

/* Bytes at the end of the text that begin a stop string. */
static size_t held_back(const qn_generation_options *o, const char *text, size_t length) {
    size_t most = 0;
    for (int i = 0; i < o->n_stop; i++) {
        size_t m = strlen(o->stop[i]);
        for (size_t k = m - 1 < length ? m - 1 : length; k > most; k--) {
            if (memcmp(text + length - k, o->stop[i], k) == 0) most = k;
        }
    }
    return most;
}

static void hand_out(generation *s, row *r, size_t to) {
    const qn_text *text = &s->out[r->prompt].text;
    if (to > r->handed && s->sink->text)
        s->sink->text(s->sink->self, r->prompt, text->data + r->handed, to - r->handed);
    if (to > r->handed) r->handed = to;
}

/* ---- a row's life ---------------------------------------------------------------------------- */

static qn_status finish(generation *s, row *r, qn_finish why) {
    qn_completion *c = &s->out[r->prompt];
    size_t before = c->text.length;
    c->finish = why;
    if (why != QN_FINISH_STOP) {
        QN_TRY(qn_token_stream_finish(r->stream, &c->text));
        int64_t stop = find_stop(s->o, c->text.data, c->text.length, before);
        if (stop >= 0) {
            c->text.length = (size_t)stop;
            c->text.data[stop] = '\0';
            c->finish = QN_FINISH_STOP;
        }
    } else { /* what the stream holds back comes behind the stop string */
        qn_text rest = {0};
        qn_status status = qn_token_stream_finish(r->stream, &rest);
        qn_text_free(&rest);
        QN_TRY(status);
    }
    QN_TRY(c->text.status);
    hand_out(s, r, c->text.length);
    int64_t prompt = r->prompt;
    r->prompt = -1;
    r->n_feed = 0;
    return s->sink->done ? s->sink->done(s->sink->self, prompt, c) : QN_OK;
}

/* Has a row read a sequence, or the later half of one that does not fit; what it has read before in
 * the same places stays. */
static void slide(generation *s, int64_t index, const qn_ids *ids) {
    int64_t capacity = qn_generator_capacity(s->g),
            keep = ids->n < capacity ? ids->n : capacity - capacity / 2;
    const int32_t *from = ids->id + ids->n - keep;
    int64_t known = qn_generator_rejoin(s->g, index, from, keep);
    s->row[index].feed = from + known;
    s->row[index].n_feed = keep - known;
}

static qn_status take_prompt(generation *s, int64_t index) {
    row *r = &s->row[index];
    const qn_ids *p = &s->prompts[s->next];
    qn_completion *c = &s->out[s->next];
    int64_t capacity = qn_generator_capacity(s->g);
    if (p->n < 1) return qn_fail(QN_ERR_DATA, "generate: prompt %lld is empty", (long long)s->next);
    if (p->n > capacity && !s->o->slide) {
        return qn_fail(QN_ERR_DATA, "generate: prompt %lld has %lld tokens, the context holds %lld",
                       (long long)s->next, (long long)p->n, (long long)capacity);
    }
    for (int64_t i = 0; i < p->n; i++) QN_TRY(qn_ids_add(&c->ids, p->id[i], 0));
    c->prompt_tokens = p->n;
    qn_text_add(&c->text, "");
    *r = (row){.prompt = s->next++, .stream = r->stream};
    slide(s, index, &c->ids);
    return QN_OK;
}

static bool ends(const qn_generation_options *o, int32_t id) {
    for (int i = 0; i < o->n_eos; i++) {
        if (o->eos[i] == id) return true;
    }
    return false;
}

/* Draws the row's next token and decides what becomes of it. */
static qn_status advance(generation *s, int64_t index) {
    row *r = &s->row[index];
    qn_completion *c = &s->out[r->prompt];
    qn_tensor logits = qn_generator_logits(s->g, index);
    int32_t id = qn_sampler_draw(s->sampler, &logits, r->prompt, r->drawn, c->ids.id, c->ids.n);
    QN_TRY(qn_ids_add(&c->ids, id, 0));
    r->drawn++;
    if (ends(s->o, id)) return finish(s, r, QN_FINISH_EOS);
    size_t before = c->text.length;
    QN_TRY(qn_token_stream_push(r->stream, id, &c->text));
    QN_TRY(c->text.status);
    int64_t stop = find_stop(s->o, c->text.data, c->text.length, before);
    if (stop >= 0) {
        c->text.length = (size_t)stop;
        c->text.data[stop] = '\0';
        return finish(s, r, QN_FINISH_STOP);
    }
    hand_out(s, r, c->text.length - held_back(s->o, c->text.data, c->text.length));
    bool full = qn_generator_position(s->g, index) == qn_generator_capacity(s->g);
    if (r->drawn >= s->o->max_new_tokens || (full && !s->o->slide))
        return finish(s, r, QN_FINISH_LENGTH);
    r->feed = &c->ids.id[c->ids.n - 1];
    r->n_feed = 1;
    if (full) slide(s, index, &c->ids);
    return QN_OK;
}

static qn_status work(generation *s) {
    for (;;) {
        bool busy = false;
        for (int64_t i = 0; i < s->rows; i++) {
            row *r = &s->row[i];
            if (r->prompt < 0 && s->next < s->n) QN_TRY(take_prompt(s, i));
            s->ids[i] = r->feed;
            s->counts[i] = r->prompt < 0 ? 0 : r->n_feed;
            busy = busy || r->prompt >= 0;
        }
        if (!busy) return QN_OK;
        QN_TRY(qn_generator_feed(s->g, s->ids, s->counts));
        bool stop = s->sink->interrupted && s->sink->interrupted();
        for (int64_t i = 0; i < s->rows; i++) {
            row *r = &s->row[i];
            if (r->prompt < 0) continue;
            QN_TRY(stop ? finish(s, r, QN_FINISH_LENGTH) : advance(s, i));
        }
        if (stop) return QN_OK;
    }
}

static qn_status prepare(generation *s) {
    size_t rows = (size_t)s->rows;
    s->row = qn_alloc(rows * sizeof *s->row, "generation");
    s->ids = qn_alloc(rows * sizeof *s->ids, "generation");
    s->counts = qn_alloc(rows * sizeof *s->counts, "generation");
    if (!s->row || !s->ids || !s->counts) return QN_ERR_OOM;
    for (size_t i = 0; i < rows; i++) s->row[i] = (row){.prompt = -1};
    for (size_t i = 0; i < rows; i++) QN_TRY(qn_token_stream_create(s->t, true, &s->row[i].stream));
    /* Logits beyond the tokenizer's are padding of the embedding. */
    qn_tensor logits = qn_generator_logits(s->g, 0);
    int64_t known = qn_tokenizer_size(s->t), v = qn_tensor_count(&logits);
    return qn_sampler_create(&s->o->sampling, known < v ? known : v, &s->sampler);
}

qn_status qn_generate(qn_generator *g, const qn_tokenizer *t, const qn_generation_options *o,
                      const qn_ids *prompt, int64_t n, const qn_generation_sink *sink,
                      qn_completion *out) {
    generation s = {.g = g,
                    .t = t,
                    .o = o,
                    .sink = sink,
                    .prompts = prompt,
                    .out = out,
                    .n = n,
                    .rows = qn_generator_rows(g)};
    qn_status status = prepare(&s);
    if (status == QN_OK) status = work(&s);
    for (int64_t i = 0; s.row && i < s.rows; i++) qn_token_stream_free(s.row[i].stream);
    qn_sampler_free(s.sampler);
    qn_free(s.row);
    qn_free(s.ids);
    qn_free(s.counts);
    return status;
}
