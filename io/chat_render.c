/* chat_render.c — a conversation through its template, and which part of the text is whose.
 *
 * A part is found in one of several ways. Generation blocks say it themselves. Otherwise the
 * conversation cut off before the message, with a generation prompt, and behind the message are
 * rendered: if both texts are beginnings of the whole, the part lies between their ends. Templates
 * that rewrite earlier turns (by leaving out reasoning, say) break that; then the message's content
 * is replaced by a mark that is nowhere in the text, and the part is what changes, with what the
 * template writes behind the mark when the conversation ends there. If more than that changes, the
 * part begins where the text leaves the generation prompt.
 */
#include "io/chat_parts.h"

#include <stdlib.h>
#include <string.h>

enum { MARK_LENGTH = 3 };

typedef struct text {
    char *data;
    size_t bytes;
} text;

static void free_text(text *s) {
    qn_free(s->data);
    *s = (text){0};
}

/* ---- conversations made of another ----------------------------------------------------------- */

static cJSON *copy_node(qn_setup *arena, const cJSON *from) {
    cJSON *to = qn_setup_alloc(arena, sizeof *to);
    if (to) *to = *from;
    if (to) to->next = to->prev = NULL;
    return to;
}

/* A message without members that are null, and with `content` in place of its own if not NULL. */
static cJSON *copy_message(qn_setup *arena, const cJSON *from, const char *content) {
    cJSON *to = copy_node(arena, from);
    if (!to || !cJSON_IsObject(from)) return to;
    cJSON **link = &to->child;
    *link = NULL;
    for (const cJSON *i = from->child; i; i = i->next) {
        bool replaced = content && i->string && strcmp(i->string, "content") == 0;
        if (cJSON_IsNull(i)) continue;
        /* Numbers are told from their node in the parsed text: they keep their own. */
        cJSON *member =
            cJSON_IsNumber(i) ? qn_setup_alloc(arena, sizeof(qn_json_node)) : copy_node(arena, i);
        if (!member) return NULL;
        if (cJSON_IsNumber(i)) memcpy(member, i, sizeof(qn_json_node));
        member->next = NULL;
        if (replaced) {
            member->type = cJSON_String;
            member->valuestring = qn_setup_strdup(arena, content);
            if (!member->valuestring) return NULL;
        }
        *link = member;
        link = &member->next;
    }
    return to;
}

/* The first `count` messages; that at place `marked` with the content `mark`. */
static qn_status cut(qn_setup *arena, const cJSON *messages, int64_t count, int64_t marked,
                     const char *mark, cJSON **out) {
    cJSON *array = copy_node(arena, messages);
    if (!array) return QN_ERR_OOM;
    cJSON **link = &array->child;
    *link = NULL;
    const cJSON *m = messages->child;
    for (int64_t i = 0; i < count && m; i++, m = m->next) {
        if (!(*link = copy_message(arena, m, i == marked ? mark : NULL))) return QN_ERR_OOM;
        link = &(*link)->next;
    }
    *out = array;
    return QN_OK;
}

/* ---- rendering ------------------------------------------------------------------------------- */

typedef struct chat {
    const qn_chat_template *t;
    const qn_jinja *jinja;
    const cJSON *messages;
    const qn_chat_options *o;
    int64_t count;
    qn_setup *arena;
    text whole;
} chat;

static bool any(const cJSON *array) { return array && array->child; }

static qn_status render(const chat *c, const cJSON *messages, bool prompt, text *out,
                        qn_jinja_spans *spans) {
    static const cJSON none = {.type = cJSON_NULL};
    const cJSON flag = {.type = prompt ? cJSON_True : cJSON_False};
    const qn_jinja_options options = {.now = c->o->now};
    qn_jinja_variable v[5 + 2 * QNI_CHAT_MAX_TOKENS];
    int n = 0;
    const cJSON *lists[] = {c->t->tokens, c->o->variables};
    for (int i = 0; i < 2; i++) {
        int most = n + QNI_CHAT_MAX_TOKENS;
        for (const cJSON *k = lists[i] ? lists[i]->child : NULL; k; k = k->next) {
            if (n == most) {
                return qn_fail(QN_ERR_DATA, "chat template: more than %d variables",
                               QNI_CHAT_MAX_TOKENS);
            }
            v[n++] = (qn_jinja_variable){k->string, k};
        }
    }
    v[n++] = (qn_jinja_variable){"messages", messages};
    v[n++] = (qn_jinja_variable){"tools", any(c->o->tools) ? c->o->tools : &none};
    v[n++] = (qn_jinja_variable){"documents", c->o->documents ? c->o->documents : &none};
    v[n++] = (qn_jinja_variable){"add_generation_prompt", &flag};
    return qn_jinja_render(c->jinja, v, n, &options, &out->data, &out->bytes, spans);
}

static qn_status render_cut(const chat *c, int64_t count, int64_t marked, const char *mark,
                            bool prompt, text *out) {
    cJSON *messages;
    QN_TRY(cut(c->arena, c->messages, count, marked, mark, &messages));
    return render(c, messages, prompt, out, NULL);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static bool begins(const text *whole, const text *part) {
    return part->bytes <= whole->bytes && memcmp(whole->data, part->data, part->bytes) == 0;
}

static size_t without_space(const char *s, size_t begin, size_t end) {
    while (end > begin && strchr(" \t\r\n", s[end - 1])) end--;
    return end;
}

/* Where the whole leaves a generation prompt that it does not begin with (one that switches
 * reasoning off, before a turn with reasoning): behind the last whole line or `<...>` they share,
 * which must be behind the messages before. 0 if there is no such place. */
static size_t leaves_prompt(const chat *c, int64_t message, const text *prompted) {
    text before = {0};
    size_t same = 0;
    if (render_cut(c, message, -1, NULL, false, &before) == QN_OK && begins(&c->whole, &before)) {
        while (same < prompted->bytes && prompted->data[same] == c->whole.data[same]) same++;
        while (same > 0 && prompted->data[same - 1] != '>' && prompted->data[same - 1] != '\n') {
            same--;
        }
        if (same <= before.bytes) same = 0;
    }
    free_text(&before);
    return same;
}

/* Between the conversation before the message and behind it, where both begin the whole; or only
 * the second does, and the whole leaves the generation prompt. */
static bool between_cuts(const chat *c, int64_t message, bool leaves, qn_chat_part *out) {
    text before = {0}, behind = {0};
    bool found = message > 0 && render_cut(c, message + 1, -1, NULL, false, &behind) == QN_OK &&
                 begins(&c->whole, &behind) &&
                 render_cut(c, message, -1, NULL, true, &before) == QN_OK;
    if (found) {
        bool begun = begins(&c->whole, &before);
        out->begin = begun ? before.bytes : leaves ? leaves_prompt(c, message, &before) : 0;
        out->end = without_space(c->whole.data, out->begin, behind.bytes);
        found = (leaves ? out->begin > 0 : begun) && out->end > out->begin;
    }
    free_text(&before);
    free_text(&behind);
    return found;
}

/* A text that is nowhere in the whole: a control character that no template knows, repeated. */
static bool find_mark(const text *whole, char mark[MARK_LENGTH + 1]) {
    for (char c = 1; c < 9; c++) {
        if (memchr(whole->data, c, whole->bytes)) continue;
        memset(mark, c, MARK_LENGTH);
        mark[MARK_LENGTH] = '\0';
        return true;
    }
    return false;
}

/* The bytes of the whole that change when the message's content is the mark. */
static bool changed_bytes(const chat *c, int64_t message, const char *mark, qn_chat_part *out) {
    text other = {0};
    const text *w = &c->whole;
    size_t front = 0, back = 0;
    bool found =
        render_cut(c, c->count, message, mark, c->o->add_generation_prompt, &other) == QN_OK;
    if (found) {
        size_t least = w->bytes < other.bytes ? w->bytes : other.bytes;
        while (front < least && w->data[front] == other.data[front]) front++;
        while (back < least - front &&
               w->data[w->bytes - 1 - back] == other.data[other.bytes - 1 - back]) {
            back++;
        }
        found = other.bytes == front + MARK_LENGTH + back &&
                memcmp(other.data + front, mark, MARK_LENGTH) == 0;
    }
    out->begin = front;
    out->end = w->bytes - back;
    free_text(&other);
    return found;
}

/* Extends a part by what ends the turn: what stands behind the mark in a conversation that ends
 * there, as far as the whole has it, too. A template may end a conversation with more than a turn
 * (Phi-3 adds the end-of-text token); then the turn ends with the last whole `<...>` in common. */
static void add_end_of_turn(const chat *c, int64_t message, const char *mark, qn_chat_part *part) {
    text cut_off = {0};
    if (render_cut(c, message + 1, message, mark, false, &cut_off) == QN_OK) {
        const char *at = memmem(cut_off.data, cut_off.bytes, mark, MARK_LENGTH);
        const char *tail = at ? at + MARK_LENGTH : "", *whole = c->whole.data + part->end;
        size_t length = without_space(tail, 0, strlen(tail)), same = 0;
        while (same < length && whole[same] == tail[same]) same++;
        while (same < length && same > 0 && tail[same - 1] != '>') same--;
        part->end += same;
    }
    free_text(&cut_off);
}

static qn_status find_part(const chat *c, int64_t message, bool assistant, qn_chat_part *out) {
    char mark[MARK_LENGTH + 1];
    out->message = message;
    if (assistant && between_cuts(c, message, false, out)) return QN_OK;
    if (find_mark(&c->whole, mark) && changed_bytes(c, message, mark, out)) {
        if (assistant) add_end_of_turn(c, message, mark, out);
        return QN_OK;
    }
    if (assistant && between_cuts(c, message, true, out)) return QN_OK;
    return qn_fail(QN_ERR_DATA,
                   "chat template: message %lld: its part of the text cannot be told from the "
                   "rest; expected a template with {%% generation %%} blocks, or one that writes "
                   "messages one after another",
                   (long long)message);
}

static const char *role_of(const cJSON *message) {
    const cJSON *role = qn_json_get(message, "role");
    return cJSON_IsString(role) ? role->valuestring : "";
}

static qn_status add_part(qn_chat_text *out, const qn_chat_part *part, int64_t capacity) {
    if (!out->parts) {
        out->parts = qn_alloc((size_t)(capacity ? capacity : 1) * sizeof *out->parts, "parts");
        if (!out->parts) return QN_ERR_OOM;
    }
    out->parts[out->n_parts++] = *part;
    return QN_OK;
}

static qn_status generated_parts(const chat *c, const qn_jinja_spans *spans, qn_chat_text *out) {
    int64_t assistants = 0;
    for (const cJSON *m = c->messages->child; m; m = m->next) {
        assistants += strcmp(role_of(m), "assistant") == 0;
    }
    const cJSON *m = c->messages->child;
    int64_t message = 0;
    for (int64_t i = 0; i < spans->count; i++, message++, m = m ? m->next : NULL) {
        qn_chat_part part = {spans->items[i].begin, spans->items[i].end, -1};
        if (spans->count == assistants) {
            for (; strcmp(role_of(m), "assistant") != 0; m = m->next) message++;
            part.message = message;
        }
        QN_TRY(add_part(out, &part, spans->count));
    }
    return QN_OK;
}

static qn_status found_parts(chat *c, qn_chat_text *out) {
    const cJSON *m = c->messages->child;
    c->whole = (text){out->text, out->bytes};
    for (int64_t i = 0; m; i++, m = m->next) {
        qn_chat_part part;
        bool assistant = strcmp(role_of(m), "assistant") == 0;
        if (!assistant && c->o->parts != QN_CHAT_ALL) continue;
        QN_TRY(find_part(c, i, assistant, &part));
        QN_TRY(add_part(out, &part, c->count));
    }
    return QN_OK;
}

static qn_status render_chat(chat *c, qn_chat_text *out) {
    cJSON *messages;
    text whole = {0};
    qn_jinja_spans spans = {0};
    bool marks = c->o->parts == QN_CHAT_ASSISTANT && qn_jinja_has_generation(c->jinja);
    QN_TRY(cut(c->arena, c->messages, c->count, -1, NULL, &messages));
    QN_TRY(render(c, messages, c->o->add_generation_prompt, &whole, marks ? &spans : NULL));
    out->text = whole.data;
    out->bytes = whole.bytes;
    qn_status status = QN_OK;
    if (marks) {
        status = generated_parts(c, &spans, out);
    } else if (c->o->parts != QN_CHAT_NO_PARTS) {
        status = found_parts(c, out);
    }
    qn_free(spans.items);
    return status;
}

/* For the built-in templates: nothing that they would drop or write as a Python list. */
static qn_status check_plain(const cJSON *messages, const qn_chat_options *o) {
    long long n = 0;
    bool tools = any(o->tools);
    for (const cJSON *m = messages->child; m && !tools; m = m->next, n++) {
        tools = any(qn_json_get(m, "tool_calls"));
        if (!tools && !cJSON_IsString(qn_json_get(m, "content"))) {
            return qn_fail(QN_ERR_DATA, "chat template: message %lld: content, expected a string",
                           n);
        }
    }
    if (!tools) return QN_OK;
    return qn_fail(QN_ERR_DATA, "chat template: the built-in templates have no place for tools and "
                                "calls of them; use the model's own");
}

qn_status qn_chat_render(const qn_chat_template *t, const cJSON *messages, const qn_chat_options *o,
                         qn_chat_text *out) {
    static const qn_chat_options nothing = {0};
    chat c = {.t = t, .jinja = t->plain, .messages = messages, .o = o ? o : &nothing};
    *out = (qn_chat_text){0};
    if (!cJSON_IsArray(messages)) {
        return qn_fail(QN_ERR_DATA, "chat template: messages, expected an array");
    }
    if (any(c.o->tools) && t->with_tools) c.jinja = t->with_tools;
    for (const cJSON *m = messages->child; m; m = m->next) {
        if (!cJSON_IsObject(m)) {
            return qn_fail(QN_ERR_DATA, "chat template: message %lld, expected an object",
                           (long long)c.count);
        }
        c.count++;
    }
    if (t->builtin) QN_TRY(check_plain(messages, c.o));
    QN_TRY(qn_setup_create("a conversation", &c.arena));
    qn_status status = render_chat(&c, out);
    qn_setup_free(c.arena);
    if (status != QN_OK) qn_chat_text_free(out);
    return status;
}

void qn_chat_text_free(qn_chat_text *t) {
    qn_free(t->text);
    qn_free(t->parts);
    *t = (qn_chat_text){0};
}

qn_status qn_chat_end_of_turn(const qn_chat_template *t, char **out) {
    static const char json[] = "[{\"role\": \"user\", \"content\": \"Hello\"},"
                               " {\"role\": \"assistant\", \"content\": \"\\u0001\\u0002\"}]";
    const qn_json_options o = {.name = "a conversation"};
    qn_setup *arena;
    cJSON *messages;
    qn_chat_text whole = {0};
    qn_text end = {0};
    QN_TRY(qn_setup_create("a conversation", &arena));
    qn_status status = qn_json_parse(arena, json, sizeof json - 1, &o, &messages);
    if (status == QN_OK) status = qn_chat_render(t, messages, NULL, &whole);
    if (status == QN_OK) {
        const char *at = strstr(whole.text, "\x01\x02");
        const char *tail = at ? at + 2 : "";
        tail += strspn(tail, " \t\r\n");
        qn_text_add_bytes(&end, tail, without_space(tail, 0, strlen(tail)));
        status = qn_text_take(&end, out);
    }
    qn_chat_text_free(&whole);
    qn_setup_free(arena);
    return status;
}
