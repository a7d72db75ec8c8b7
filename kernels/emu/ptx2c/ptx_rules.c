/* ptx_rules.c — finds the rule of an instruction and fills in its C. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

/* ---- matching -------------------------------------------------------------------------------- */

/* One word of ptx_rule.modifiers: `X:a|b?`. */
typedef struct slot {
    char letter; /* 0 = not captured */
    const char *words, *otherwise;
    size_t n_words, n_otherwise;
    bool optional;
} slot;

static const char *next_slot(const char *s, slot *x) {
    while (*s == ' ') s++;
    if (!*s) return NULL;
    *x = (slot){0};
    if (s[0] >= 'A' && s[0] <= 'Z' && s[1] == ':' && s[2] != ':') {
        x->letter = s[0];
        s += 2;
    }
    x->words = s;
    x->n_words = strcspn(s, " ?/");
    s += x->n_words;
    if (*s == '?')
        x->optional = true, s++;
    else if (*s == '/') {
        x->optional = true;
        x->otherwise = ++s;
        x->n_otherwise = strcspn(s, " ");
        s += x->n_otherwise;
    }
    return s;
}

static bool slot_takes(const slot *x, const char *word) {
    return ptx_one_of(word, x->words, x->n_words);
}

static int count_operands(const char *spec, int *least) {
    int n = 0;
    *least = 0;
    while (*spec) {
        while (*spec == ' ') spec++;
        if (!*spec) break;
        size_t length = strcspn(spec, " ");
        n++;
        if (!memchr(spec, '?', length)) *least = n;
        spec += length;
    }
    return n;
}

/* The first modifier that the slot takes and no other slot has: compilers disagree on the order of
 * some. */
static const char *take(const slot *x, const ptx_line *l, uint32_t *taken) {
    for (int i = 0; i < l->n_parts; i++)
        if (!(*taken >> i & 1) && slot_takes(x, l->parts[i])) {
            *taken |= 1u << i;
            return l->parts[i];
        }
    return NULL;
}

/* Whether the rule takes the instruction; *taken: which of its modifiers it takes. */
static bool matches(const ptx_rule *r, const ptx_line *l, ptx_match *m, uint32_t *taken) {
    slot x;
    bool complete = true;
    memset(m, 0, sizeof *m);
    *taken = 0;
    for (const char *s = r->modifiers; (s = next_slot(s, &x));) {
        const char *chosen = take(&x, l, taken);
        if (!chosen && x.otherwise) chosen = ptx_copy(x.otherwise, x.n_otherwise);
        if (!chosen && !x.optional) complete = false;
        if (x.letter) m->capture[x.letter - 'A'] = chosen ? chosen : "";
    }
    if (!complete || *taken != (1u << l->n_parts) - 1) return false;
    const char *type = m->capture['T' - 'A'];
    if (type) m->type = ptx_named(type);
    int least, most = count_operands(r->operands, &least);
    if (r->emit) return true;
    return l->n_operands >= least && l->n_operands <= most;
}

/* ---- filling in ------------------------------------------------------------------------------ */

typedef struct part { /* an operand of the rule */
    bool result;
    const ptx_type *type;
    const char *c;
} part;

static const ptx_type *wide(const ptx_type *t) {
    static const char kind[] = {[PTX_BITS] = 'b', [PTX_UNSIGNED] = 'u', [PTX_SIGNED] = 's'};
    return ptx_named(ptx_say("%c%d", kind[t->class], 2 * t->bits));
}

static const ptx_type *operand_type(const ptx_match *m, const char *word, size_t n) {
    if (n == 1 && *word == 'W') return wide(m->type);
    if (n == 1 && *word >= 'A' && *word <= 'Z') return ptx_named(m->capture[*word - 'A']);
    return ptx_named(ptx_copy(word, n));
}

/* Reads the rule's operands; returns how many. */
static int read_parts(ptx_writer *w, const ptx_rule *r, const ptx_match *m, part *parts, int max) {
    int n = 0;
    for (const char *s = r->operands; n < max;) {
        while (*s == ' ') s++;
        if (!*s) break;
        part *p = &parts[n];
        p->result = *s == '=';
        s += p->result;
        size_t length = strcspn(s, " ?");
        p->type = operand_type(m, s, length);
        s += length;
        const char *absent = NULL;
        if (*s == '?') {
            size_t k = strcspn(++s, " ");
            absent = ptx_copy(s, k);
            s += k;
        }
        if (!p->result) {
            bool given = n < w->line->n_operands;
            p->c = given ? ptx_value(w, &w->line->operands[n], p->type) : absent;
            if (ptx_has(w, "ftz") && strcmp(p->type->name, "f32") == 0)
                p->c = ptx_say("qe_ftz(%s)", p->c);
        }
        n++;
    }
    return n;
}

static const char *letter_code(const ptx_writer *w, const ptx_match *m, const ptx_type *type,
                               char c) {
    switch (c) {
    case 'S': return ptx_site(w);
    case 'T': return type->c;
    case 'n': return type->name;
    case 'K': return type->class == PTX_SIGNED ? "s" : "u";
    case 'B': return ptx_say("%d", type->bits);
    default: return m->capture[c - 'A'];
    }
}

/* The code for one half (lane 0, 1) of packed operands, or for whole ones (lane -1). */
static const char *fill(const ptx_writer *w, const ptx_rule *r, const ptx_match *m,
                        const part *sources, int lane) {
    const ptx_type *type = m->type;
    if (lane >= 0) type = ptx_named(type->lane);
    ptx_text x = {0};
    for (const char *s = r->code; *s; s++) {
        if (*s != '$') {
            ptx_add(&x, "%c", *s);
            continue;
        }
        s++;
        if (*s < '1' || *s > '9') {
            ptx_add(&x, "%s", letter_code(w, m, type, *s));
            continue;
        }
        const part *p = &sources[*s - '1'];
        if (lane >= 0 && p->type->lane)
            ptx_add(&x, "(%s)(%s >> %d)", ptx_named(p->type->lane)->c, p->c, 16 * lane);
        else
            ptx_add(&x, "%s", p->c);
    }
    return x.data ? x.data : "";
}

static const char *rule_code(ptx_writer *w, const ptx_rule *r, const ptx_match *m) {
    enum { MAX = 8 };
    part parts[MAX] = {{0}};
    int n = read_parts(w, r, m, parts, MAX);
    if (w->failed) return NULL;
    if (!n || !parts[0].result) return ptx_say("%s;", fill(w, r, m, parts, -1));
    const ptx_type *type = parts[0].type;
    const char *c;
    if (m->type && m->type->lane)
        c = ptx_say("qe_pair(%s, %s)", fill(w, r, m, parts + 1, 0), fill(w, r, m, parts + 1, 1));
    else
        c = fill(w, r, m, parts + 1, -1);
    if (strcmp(type->name, "f32") == 0) {
        if (ptx_has(w, "ftz")) c = ptx_say("qe_ftz(%s)", c);
        if (ptx_has(w, "sat")) c = ptx_say("qe_sat(%s)", c);
    }
    return ptx_assign(w, &w->line->operands[0], type, c);
}

/* ---- the instruction at hand ----------------------------------------------------------------- */

const char *ptx_instruction_code(ptx_writer *w) {
    const ptx_rule *const tables[] = {ptx_rules_integer, ptx_rules_float, ptx_rules_memory,
                                      ptx_rules_control, ptx_rules_async, ptx_rules_tensor};
    const ptx_line *l = w->line;
    bool opcode = false;
    uint32_t best = 0;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const ptx_rule *r = tables[i]; r->op; r++) {
            ptx_match m;
            uint32_t taken;
            if (strcmp(r->op, l->op) != 0) continue;
            opcode = true;
            if (matches(r, l, &m, &taken)) return r->emit ? r->emit(w, &m) : rule_code(w, r, &m);
            if (__builtin_popcount(taken) > __builtin_popcount(best)) best = taken;
        }
    int unknown = __builtin_ctz(~best);
    if (!opcode)
        ptx_problem(w, "unknown opcode `%s`", l->op);
    else if (unknown < l->n_parts)
        ptx_problem(w, "unknown modifier `.%s`", l->parts[unknown]);
    else
        ptx_problem(w, "%d operands, or a modifier is missing", l->n_operands);
    return NULL;
}
