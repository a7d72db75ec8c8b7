/* ptx_operand.c — reads the operands of an instruction and the values of a variable. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

static const ptx_token *token(const ptx_module *m, int at) { return &m->tokens[at]; }
static bool is(const ptx_module *m, int at, const char *text) {
    const ptx_token *t = token(m, at);
    return t->kind != PTX_STRING && strcmp(t->text, text) == 0;
}

static _Noreturn void unexpected(const ptx_module *m, int at) {
    const ptx_token *t = token(m, at);
    ptx_stop("%s: line %u of the PTX: unexpected %s", m->shown, t->line,
             t->kind == PTX_END ? "end of the file" : ptx_say("`%s`", t->text));
}

static int64_t signed_number(ptx_module *m, int *at) {
    bool minus = is(m, *at, "-");
    if (minus) ++*at;
    uint64_t bits;
    int width;
    if (token(m, *at)->kind != PTX_NUMBER || !ptx_number(token(m, *at)->text, &bits, &width) ||
        width)
        unexpected(m, *at);
    ++*at;
    return (int64_t)(minus ? 0 - bits : bits);
}

static void parse_operand(ptx_module *m, int *at, ptx_operand *o);

static void parse_list(ptx_module *m, int *at, ptx_operand *o, const char *close) {
    int capacity = 0;
    while (!is(m, *at, close)) {
        o->items = ptx_grow(o->items, o->n_items, &capacity, sizeof *o->items);
        parse_operand(m, at, &o->items[o->n_items++]);
        if (is(m, *at, ","))
            ++*at;
        else if (!is(m, *at, close))
            unexpected(m, *at);
    }
    ++*at;
}

static void parse_number(ptx_module *m, int *at, ptx_operand *o) {
    bool minus = is(m, *at, "-");
    if (minus) ++*at;
    if (token(m, *at)->kind != PTX_NUMBER || !ptx_number(token(m, *at)->text, &o->bits, &o->width))
        unexpected(m, *at);
    o->kind = o->width ? PTX_REAL : PTX_INTEGER;
    if (minus && o->kind == PTX_INTEGER)
        o->bits = 0 - o->bits;
    else if (minus)
        o->bits ^= 1ull << (o->width - 1);
    ++*at;
}

static void parse_name(ptx_module *m, int *at, ptx_operand *o) {
    o->kind = is(m, *at, "_") ? PTX_SINK : PTX_NAME;
    o->name = token(m, *at)->text;
    ++*at;
    if (is(m, *at, "+")) {
        ++*at;
        o->offset = signed_number(m, at);
    } else if (is(m, *at, "-")) {
        o->offset = signed_number(m, at);
    }
    if (!is(m, *at, "|")) return;
    ++*at;
    ptx_operand first = *o;
    memset(o, 0, sizeof *o);
    o->kind = PTX_PAIR;
    o->items = ptx_alloc(2 * sizeof *o->items);
    o->n_items = 2;
    o->items[0] = first;
    parse_operand(m, at, &o->items[1]);
}

static void parse_operand(ptx_module *m, int *at, ptx_operand *o) {
    memset(o, 0, sizeof *o);
    const ptx_token *t = token(m, *at);
    if (is(m, *at, "{") || is(m, *at, "(")) {
        o->kind = PTX_VECTOR;
        ++*at;
        parse_list(m, at, o, t->text[0] == '{' ? "}" : ")");
    } else if (is(m, *at, "[")) {
        o->kind = PTX_ADDRESS;
        ++*at;
        parse_list(m, at, o, "]");
        if (!o->n_items) unexpected(m, *at);
    } else if (is(m, *at, "!")) {
        ++*at;
        parse_operand(m, at, o);
        o->negated = !o->negated;
    } else if (t->kind == PTX_NUMBER || is(m, *at, "-")) {
        parse_number(m, at, o);
    } else if (t->kind == PTX_WORD) {
        parse_name(m, at, o);
    } else {
        unexpected(m, *at);
    }
}

ptx_operand *ptx_parse_operands(ptx_module *m, int *at, int *n) {
    ptx_operand list = {0};
    int capacity = 0;
    while (!is(m, *at, ";")) {
        list.items = ptx_grow(list.items, list.n_items, &capacity, sizeof *list.items);
        parse_operand(m, at, &list.items[list.n_items++]);
        if (is(m, *at, ","))
            ++*at;
        else if (!is(m, *at, ";"))
            unexpected(m, *at);
    }
    *n = list.n_items;
    return list.items;
}

ptx_operand *ptx_parse_values(ptx_module *m, int *at, int *n) {
    ptx_operand list = {0};
    int capacity = 0, depth = 0;
    while (!is(m, *at, ";")) {
        if (is(m, *at, "{") || is(m, *at, "}")) {
            depth += is(m, *at, "{") ? 1 : -1;
            ++*at;
            continue;
        }
        if (is(m, *at, ",")) {
            ++*at;
            continue;
        }
        list.items = ptx_grow(list.items, list.n_items, &capacity, sizeof *list.items);
        ptx_operand *o = &list.items[list.n_items++];
        memset(o, 0, sizeof *o);
        if (is(m, *at, "generic") && is(m, *at + 1, "(")) {
            *at += 2;
            parse_operand(m, at, o);
            if (!is(m, *at, ")")) unexpected(m, *at);
            ++*at;
            if (is(m, *at, "+")) {
                ++*at;
                o->offset += signed_number(m, at);
            }
        } else {
            parse_operand(m, at, o);
        }
    }
    if (depth) unexpected(m, *at);
    *n = list.n_items;
    return list.items;
}
