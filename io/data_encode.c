/* data_encode.c — examples to tokens and targets.
 *
 * A conversation is rendered to one text, which is encoded as a whole; a token is learned if it
 * reaches into a part that is. So the ids are those the model sees when it is asked, whatever the
 * mask.
 */
#include "io/data_encode.h"

#include <string.h>

void qni_encoded_free(qni_encoded *e) {
    qn_ids_free(&e->ids);
    qn_free(e->target);
    qn_free(e->type);
    *e = (qni_encoded){0};
}

static qn_status make_room(qni_encoded *e, int64_t n) {
    if (n <= e->room) return QN_OK;
    int64_t room = n + n / 2 + 64;
    unsigned char *target = qn_realloc(e->target, (size_t)e->room, (size_t)room, "targets");
    if (!target) return QN_ERR_OOM;
    e->target = target;
    unsigned char *type = qn_realloc(e->type, (size_t)e->room, (size_t)room, "token types");
    if (!type) return QN_ERR_OOM;
    e->type = type;
    e->room = room;
    return QN_OK;
}

/* Encodes a text; all of its tokens are as `learned` says. */
static qn_status encode(const qn_data_options *o, const char *text, size_t bytes, bool special,
                        unsigned char learned, qni_encoded *e) {
    const qn_encode_options how = {.add_special = special, .parse_special = true, .offsets = true};
    QN_TRY(qn_tokenizer_encode(o->tokenizer, text, (int64_t)bytes, &how, &e->ids));
    QN_TRY(make_room(e, e->ids.n + 1)); /* one more for an end */
    memset(e->target, learned, (size_t)e->ids.n);
    memset(e->type, 0, (size_t)e->ids.n + 1);
    return QN_OK;
}

/* The tokens of which some byte lies in the part, as transformers has it: one that begins before an
 * answer and reaches into it is learned. */
static void mark(qni_encoded *e, size_t begin, size_t end, unsigned char learned) {
    const int64_t n = e->ids.n, *start = e->ids.start;
    for (int64_t i = 0; i < n; i++) {
        bool reaches = i + 1 == n || (size_t)start[i + 1] > begin;
        if ((size_t)start[i] < end && ((size_t)start[i] >= begin || reaches))
            e->target[i] = learned;
    }
}

/* The model has to learn where to stop. */
static qn_status add_end(const qn_data_options *o, qni_encoded *e) {
    int32_t eos = qn_tokenizer_role(o->tokenizer, QN_TOKEN_EOS);
    if (eos < 0) return QN_OK;
    if (e->ids.n > 0 && e->ids.id[e->ids.n - 1] == eos) {
        e->target[e->ids.n - 1] = 1;
        return QN_OK;
    }
    QN_TRY(qn_ids_add(&e->ids, eos, e->ids.n > 0 ? e->ids.start[e->ids.n - 1] : 0));
    e->target[e->ids.n - 1] = 1;
    return QN_OK;
}

/* ---- conversations --------------------------------------------------------------------------- */

static const char *role_of(const cJSON *message) {
    return qn_json_get(message, "role")->valuestring;
}

static bool is_learned(const qn_data_options *o, const qn_example *x, int64_t message,
                       bool assistant, int64_t last) {
    if (message >= 0 && message < x->n_messages && x->train[message] != QN_TRAIN_BY_ROLE)
        return x->train[message] == QN_TRAIN_YES;
    if (o->train_on == QN_TRAIN_ON_ALL) return true;
    return assistant && (o->train_on == QN_TRAIN_ON_ASSISTANT || message == last);
}

static qn_status encode_conversation(const qn_data_options *o, const qn_example *x,
                                     qni_encoded *e) {
    if (!o->chat) {
        return qn_fail(QN_ERR_CONFIG,
                       "data: found a conversation and no chat template beside the tokenizer, "
                       "expected data.chat_template, for example \"chatml\"");
    }
    bool flags = false;
    int64_t last = -1, i = 0;
    for (const cJSON *m = x->messages->child; m; m = m->next, i++) {
        bool assistant = strcmp(role_of(m), "assistant") == 0;
        if (assistant) last = i;
        if (x->train[i] == QN_TRAIN_YES && !assistant) flags = true;
        if (x->train[i] == QN_TRAIN_NO && o->train_on == QN_TRAIN_ON_ALL) flags = true;
    }
    bool all = o->train_on == QN_TRAIN_ON_ALL;
    const qn_chat_options how = {.tools = x->tools,
                                 .parts = flags ? QN_CHAT_ALL
                                          : all ? QN_CHAT_NO_PARTS
                                                : QN_CHAT_ASSISTANT};
    qn_chat_text text = {0};
    qn_status status;
    QN_TRY_GOTO(qn_chat_render(o->chat, x->messages, &how, &text));
    QN_TRY_GOTO(encode(o, text.text, text.bytes, false, all, e));
    for (int64_t p = 0; p < text.n_parts; p++) {
        const qn_chat_part *part = &text.parts[p];
        const cJSON *m =
            part->message < 0 ? NULL : cJSON_GetArrayItem(x->messages, (int)part->message);
        bool assistant = !m || strcmp(role_of(m), "assistant") == 0;
        mark(e, part->begin, part->end, is_learned(o, x, part->message, assistant, last));
    }
done:
    qn_chat_text_free(&text);
    return status;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static qn_status encode_prompt(const qn_data_options *o, const qn_example *x, qni_encoded *e) {
    size_t prompt = strlen(x->prompt), n = prompt + strlen(x->text);
    char *both = qn_alloc(n + 1, "an example");
    if (!both) return QN_ERR_OOM;
    memcpy(both, x->prompt, prompt);
    memcpy(both + prompt, x->text, n - prompt + 1);
    qn_status s = encode(o, both, n, true, o->train_on == QN_TRAIN_ON_ALL, e);
    qn_free(both);
    QN_TRY(s);
    mark(e, prompt, n, 1);
    return add_end(o, e);
}

static qn_status encode_labelled(const qn_data_options *o, const qn_example *x, qni_encoded *e) {
    size_t n = strlen(x->text);
    if (!x->text_pair) return encode(o, x->text, n, true, 0, e);
    const qn_encode_options how = {.add_special = true, .parse_special = true};
    qn_ids types = {0};
    qn_status s = qn_tokenizer_encode_pair(o->tokenizer, x->text, (int64_t)n, x->text_pair,
                                           (int64_t)strlen(x->text_pair), &how, &e->ids, &types);
    if (s == QN_OK) s = make_room(e, e->ids.n + 1);
    for (int64_t i = 0; s == QN_OK && i < e->ids.n; i++) {
        e->type[i] = (unsigned char)types.id[i];
        e->target[i] = 0;
    }
    qn_ids_free(&types);
    return s;
}

/* ---- length ---------------------------------------------------------------------------------- */

static void move_tokens(qni_encoded *e, int64_t to, int64_t from, int64_t n) {
    memmove(e->ids.id + to, e->ids.id + from, (size_t)n * sizeof *e->ids.id);
    memmove(e->target + to, e->target + from, (size_t)n);
    memmove(e->type + to, e->type + from, (size_t)n);
    if (e->ids.start)
        memmove(e->ids.start + to, e->ids.start + from, (size_t)n * sizeof *e->ids.start);
}

/* Takes tokens out so that `block` stay; what the tokenizer put at the ends of a labelled text
 * ([CLS] ... [SEP]) is kept. */
static void truncate(const qn_data_options *o, bool labelled, qni_encoded *e) {
    int64_t n = e->ids.n, block = o->block_size, excess = n - block, head = 0, tail = 0;
    const qn_tokenizer *t = o->tokenizer;
    while (labelled && head < block && qn_tokenizer_is_special(t, e->ids.id[head])) head++;
    while (labelled && tail < block - head && qn_tokenizer_is_special(t, e->ids.id[n - 1 - tail]))
        tail++;
    int64_t gap = o->truncate == QN_TRUNCATE_LEFT ? head : block - tail; /* the first taken away */
    move_tokens(e, gap, gap + excess, n - gap - excess);
    e->ids.n = block;
    e->cut = excess;
}

static qn_status fit(const qn_data_options *o, bool labelled, qni_encoded *e) {
    e->cut = 0;
    e->dropped = false;
    if (e->ids.n <= o->block_size) return QN_OK;
    switch (o->truncate) {
    case QN_TRUNCATE_ERROR:
        return qn_fail(QN_ERR_DATA,
                       "found %lld tokens, expected at most data.block_size = %lld (or "
                       "data.truncate \"right\", \"left\" or \"drop\")",
                       (long long)e->ids.n, (long long)o->block_size);
    case QN_TRUNCATE_DROP: e->dropped = true; return QN_OK;
    default: truncate(o, labelled, e); return QN_OK;
    }
}

/* A token is learned by predicting it, so the first one never is. */
static int64_t count_learned(const qni_encoded *e, int64_t *first) {
    int64_t n = 0;
    *first = -1;
    for (int64_t i = 1; i < e->ids.n; i++) {
        if (e->target[i] && *first < 0) *first = i;
        n += e->target[i];
    }
    return n;
}

qn_status qni_encode_example(const qn_data_options *o, const qn_example *x, qni_encoded *e) {
    bool labelled = x->label != NULL;
    int64_t first;
    e->ids.n = 0;
    if (labelled) {
        QN_TRY(encode_labelled(o, x, e));
    } else if (x->messages) {
        QN_TRY(encode_conversation(o, x, e));
    } else if (x->prompt) {
        QN_TRY(encode_prompt(o, x, e));
    } else {
        QN_TRY(encode(o, x->text, strlen(x->text), true, 1, e));
        QN_TRY(add_end(o, e));
    }
    int64_t before = count_learned(e, &first), tokens = e->ids.n;
    QN_TRY(fit(o, labelled, e));
    e->learned = count_learned(e, &(int64_t){0});
    if (labelled || e->learned > 0 || e->dropped) return QN_OK;
    if (before == 0) {
        return qn_fail(QN_ERR_DATA,
                       "found nothing to learn in %lld tokens: no answer, or all of it masked by "
                       "data.train_on or by \"train\" and \"weight\" of the messages",
                       (long long)tokens);
    }
    return qn_fail(QN_ERR_DATA,
                   "found nothing to learn after truncation: what is learned begins at token %lld "
                   "of %lld, data.block_size is %lld (data.truncate \"left\" keeps the end, "
                   "\"drop\" leaves such examples out)",
                   (long long)first, (long long)tokens, (long long)o->block_size);
}
