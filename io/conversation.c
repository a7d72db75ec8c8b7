/* conversation.c — messages to prompts. */
#include "io/conversation.h"

#include <string.h>

qn_status qn_chat_open(const char *which, const char *text, const qn_tokenizer *t, qn_chat *out) {
    *out = (qn_chat){.tokenizer = t};
    QN_TRY(qn_chat_template_of(which, text, t, &out->form));
    qn_status status = qn_chat_end_of_turn(out->form, &out->end);
    if (status != QN_OK) qn_chat_close(out);
    return status;
}

void qn_chat_close(qn_chat *c) {
    qn_chat_template_free(c->form);
    qn_free(c->end);
    *c = (qn_chat){0};
}

/* Decoding leaves special tokens out, so that only their ids can be seen; all else is text. */
qn_status qn_chat_stops(const qn_chat *c, qn_generation_options *o) {
    const qn_encode_options how = {.parse_special = true};
    qn_ids ids = {0};
    if (!*c->end) return QN_OK;
    qn_status status =
        qn_tokenizer_encode(c->tokenizer, c->end, (int64_t)strlen(c->end), &how, &ids);
    if (status == QN_OK) {
        bool special = ids.n > 0 && qn_tokenizer_is_special(c->tokenizer, ids.id[0]);
        if ((special ? o->n_eos : o->n_stop) == QN_MAX_STOPS)
            status = qn_fail(QN_ERR_USAGE, "generate: more than %d ends", QN_MAX_STOPS);
        else if (special)
            o->eos[o->n_eos++] = ids.id[0];
        else
            o->stop[o->n_stop++] = c->end;
    }
    qn_ids_free(&ids);
    return status;
}

qn_status qn_chat_prompt(const qn_chat *c, const cJSON *messages, const cJSON *tools, char **text,
                         qn_ids *ids) {
    const qn_chat_options o = {.tools = tools, .add_generation_prompt = true};
    const qn_encode_options how = {.parse_special = true};
    qn_chat_text written;
    const cJSON *last = cJSON_IsArray(messages) && messages->child ? messages->child->prev : NULL;
    const cJSON *role = qn_json_get(last, "role");
    if (cJSON_IsString(role) && strcmp(role->valuestring, "assistant") == 0)
        return qn_fail(QN_ERR_DATA, "messages: the last one is an answer, expected a question");
    QN_TRY(qn_chat_render(c->form, messages, &o, &written));
    qn_status status =
        qn_tokenizer_encode(c->tokenizer, written.text, (int64_t)written.bytes, &how, ids);
    if (status == QN_OK && text) {
        *text = written.text;
        written.text = NULL;
    }
    qn_chat_text_free(&written);
    return status;
}

/* ---- a conversation that grows --------------------------------------------------------------- */

qn_status qn_conversation_say(qn_conversation *v, const char *role, const char *text) {
    if (!qn_utf8_valid(text, strlen(text)))
        return qn_fail(QN_ERR_DATA, "message: found bytes that are not UTF-8");
    if (v->n == v->capacity) {
        int64_t more = v->capacity ? 2 * v->capacity : 16;
        qn_turn *turn = qn_realloc(v->turn, (size_t)v->capacity * sizeof *turn,
                                   (size_t)more * sizeof *turn, "a conversation");
        if (!turn) return QN_ERR_OOM;
        v->turn = turn;
        v->capacity = more;
    }
    qn_turn t = {.role = qn_strdup(role, "a role"), .content = qn_strdup(text, "a message")};
    if (!t.role || !t.content) {
        qn_free(t.role);
        qn_free(t.content);
        return QN_ERR_OOM;
    }
    v->turn[v->n++] = t;
    return QN_OK;
}

void qn_conversation_take_back(qn_conversation *v) {
    if (v->n == 0) return;
    v->n--;
    qn_free(v->turn[v->n].role);
    qn_free(v->turn[v->n].content);
}

void qn_conversation_free(qn_conversation *v) {
    while (v->n > 0) qn_conversation_take_back(v);
    qn_free(v->turn);
    *v = (qn_conversation){0};
}

static int64_t systems(const qn_conversation *v) {
    return v->n > 0 && strcmp(v->turn[0].role, "system") == 0 ? 1 : 0;
}

static qn_status encode(const qn_conversation *v, const qn_chat *c, qn_ids *ids) {
    qn_text t = {0};
    qn_text_add(&t, "[");
    for (int64_t i = 0; i < v->n; i++) {
        if (i >= systems(v) && i < systems(v) + v->forgotten) continue;
        qn_text_add(&t, t.length > 1 ? ", {\"role\": " : "{\"role\": ");
        qn_text_json_string(&t, v->turn[i].role);
        qn_text_add(&t, ", \"content\": ");
        qn_text_json_string(&t, v->turn[i].content);
        qn_text_add(&t, "}");
    }
    qn_text_add(&t, "]");
    qn_setup *arena = NULL;
    cJSON *messages;
    const qn_json_options o = {.name = "conversation", .max_bytes = SIZE_MAX};
    qn_status status = t.status;
    if (status == QN_OK) status = qn_setup_create("a conversation", &arena);
    if (status == QN_OK) status = qn_json_parse(arena, t.data, t.length, &o, &messages);
    if (status == QN_OK) status = qn_chat_prompt(c, messages, NULL, NULL, ids);
    qn_setup_free(arena);
    qn_text_free(&t);
    return status;
}

qn_status qn_conversation_prompt(qn_conversation *v, const qn_chat *c, int64_t most, qn_ids *ids) {
    for (;;) {
        ids->n = 0;
        QN_TRY(encode(v, c, ids));
        if (ids->n <= most || systems(v) + v->forgotten + 2 >= v->n) return QN_OK;
        v->forgotten += 2;
    }
}
