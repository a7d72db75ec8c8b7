/* ptx_rules_memory.c — loads, stores and atomics; addresses and spaces; hints, which do nothing. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

#define SPACES                                                                                     \
    "Z:global|shared|shared::cta|shared::cluster|local|param|param::entry|param::func|const?"
#define CACHE                                                                                      \
    "ca|cg|cs|lu|cv|wb|wt? nc? "                                                                   \
    "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate? "        \
    "L2::evict_normal|L2::evict_first|L2::evict_last? L2::cache_hint? L2::64B|L2::128B|L2::256B?"
#define STORED "T:b8|u8|s8|b16|u16|s16|b32|u32|s32|b64|u64|s64|b128|f16|bf16|f16x2|bf16x2|f32|f64"

/* ---- where an access goes -------------------------------------------------------------------- */

typedef enum place { AT_GENERIC, AT_SHARED, AT_PRIVATE } place;
typedef struct access {
    place place;
    const char *address;
    int bytes;
    const char *flags, *order; /* order NULL: an ordinary access */
} access;

static bool read_access(ptx_writer *w, const ptx_match *m, const ptx_operand *o, access *a) {
    const char *space, *named = m->capture['Z' - 'A'];
    a->address = ptx_address(w, o, &space);
    if (w->failed) return false;
    if (!*named && space) named = space;
    a->place = AT_GENERIC;
    if (ptx_begins(named, "shared"))
        a->place = AT_SHARED;
    else if (ptx_begins(named, "param") || strcmp(named, "local") == 0)
        a->place = AT_PRIVATE;
    return true;
}

/* A char * at which the access was checked. */
static const char *checked(ptx_writer *w, const access *a) {
    if (a->place == AT_PRIVATE) return ptx_say("(char *)(uintptr_t)(%s)", a->address);
    const char *cast = a->place == AT_SHARED ? "(uint32_t)" : "";
    const char *where = a->place == AT_SHARED ? "qe_shared" : "qe";
    if (a->order)
        return ptx_say("%s_ordered_at(t, %s(%s), %d, %s, %s, %s)", where, cast, a->address,
                       a->bytes, a->flags, a->order, ptx_site(w));
    return ptx_say("%s_at(t, %s(%s), %d, %s, %s)", where, cast, a->address, a->bytes, a->flags,
                   ptx_site(w));
}

static const ptx_type *stored(const ptx_type *type) { /* as bits, signedness kept */
    if (type->class == PTX_SIGNED) return type;
    return ptx_named(ptx_say("b%d", type->bits));
}

static int vector_length(const ptx_match *m) {
    const char *n = m->capture['N' - 'A'];
    return *n ? n[1] - '0' : 1;
}

static const char *order_of(const char *word) {
    if (strcmp(word, "acquire") == 0) return "QE_ACQUIRE";
    if (strcmp(word, "release") == 0) return "QE_RELEASE";
    if (strcmp(word, "acq_rel") == 0) return "QE_ACQ_REL";
    return "QE_RELAXED";
}

/* The operand or its n parts. */
static const ptx_operand *elements(ptx_writer *w, const ptx_operand *o, int n) {
    if (n == 1) return o;
    if (o->kind == PTX_VECTOR && o->n_items == n) return o->items;
    ptx_problem(w, "expected a vector of %d", n);
    return NULL;
}

/* ---- loads and stores ------------------------------------------------------------------------ */

static bool access_operands(ptx_writer *w, int least) {
    if (w->line->n_operands == least) return true;
    if (w->line->n_operands == least + 1 && ptx_has(w, "L2::cache_hint")) return true;
    ptx_problem(w, "%d operands, expected %d", w->line->n_operands, least);
    return false;
}

static void set_order(const ptx_match *m, access *a, bool store) {
    const char *how = m->capture['O' - 'A'];
    a->flags = store ? "QE_WRITE" : "QE_READ";
    if (!*how || strcmp(how, "weak") == 0) return;
    a->order = order_of(how);
    a->flags =
        ptx_say("%s | %s", a->flags, strcmp(how, "volatile") == 0 ? "QE_VOLATILE" : "QE_ATOMIC");
}

static const char *emit_load(ptx_writer *w, const ptx_match *m) {
    int n = vector_length(m), bytes = ptx_type_bytes(m->type);
    access a = {.bytes = n * bytes};
    if (!access_operands(w, 2) || !read_access(w, m, &w->line->operands[1], &a)) return NULL;
    const ptx_operand *to = elements(w, &w->line->operands[0], n);
    if (!to) return NULL;
    const ptx_type *type = stored(m->type);
    set_order(m, &a, false);
    uint32_t all = (uint32_t)((1ull << a.bytes) - 1);
    if (w->line->used && a.bytes <= 16)
        a.flags = ptx_say("%s | 0x%xu << QE_UNUSED", a.flags, all & ~w->line->used);
    const char *cast = type->class == PTX_SIGNED ? ptx_say("(%s)", type->c) : "";
    if (n == 1 && !a.order)
        return ptx_assign(w, to, type, ptx_say("%sqe_get%d(%s)", cast, type->bits, checked(w, &a)));
    ptx_text x = {0};
    ptx_add(&x, "{ const char *p = %s;", checked(w, &a));
    for (int i = 0; i < n; i++)
        if (to[i].kind != PTX_SINK)
            ptx_add(&x, " %s",
                    ptx_assign(w, &to[i], type,
                               ptx_say("%sqe_get%d(p + %d)", cast, type->bits, i * bytes)));
    if (a.order && a.place != AT_PRIVATE) ptx_add(&x, " qe_poll(t, %s);", ptx_site(w));
    ptx_add(&x, " }");
    return x.data;
}

static const char *emit_store(ptx_writer *w, const ptx_match *m) {
    int n = vector_length(m), bytes = ptx_type_bytes(m->type);
    access a = {.bytes = n * bytes};
    if (!access_operands(w, 2) || !read_access(w, m, &w->line->operands[0], &a)) return NULL;
    const ptx_operand *from = elements(w, &w->line->operands[1], n);
    if (!from) return NULL;
    const ptx_type *type = ptx_named(ptx_say("b%d", m->type->bits));
    set_order(m, &a, true);
    if (n == 1)
        return ptx_say("qe_put%d(%s, %s);", type->bits, checked(w, &a), ptx_value(w, from, type));
    ptx_text x = {0};
    ptx_add(&x, "{ char *p = %s;", checked(w, &a));
    for (int i = 0; i < n; i++)
        ptx_add(&x, " qe_put%d(p + %d, %s);", type->bits, i * bytes, ptx_value(w, &from[i], type));
    ptx_add(&x, " }");
    return x.data;
}

/* ---- atomics --------------------------------------------------------------------------------- */

/* What becomes of x, the value in memory, with operand y. */
static const char *combined(ptx_writer *w, const ptx_match *m, const ptx_type *type) {
    static const char *const plain[][2] = {{"and", "x & y"},
                                           {"or", "x | y"},
                                           {"xor", "x ^ y"},
                                           {"exch", "y"},
                                           {"cas", "x == y ? z : x"},
                                           {"add", "x + y"},
                                           {"min", "x < y ? x : y"},
                                           {"max", "x > y ? x : y"},
                                           {"inc", "x >= y ? 0 : x + 1"},
                                           {"dec", "x == 0 || x > y ? y : x - 1"}};
    static const char *const reals[][2] = {{"add", "qe_atom_add_f32(p, x, y)"}};
    static const char *const halves[][2] = {
        {"add", "qe_to_%s((double)qe_from_%s(x) + (double)qe_from_%s(y))"},
        {"min", "qe_to_%s(qe_min_f32(qe_from_%s(x), qe_from_%s(y)))"},
        {"max", "qe_to_%s(qe_max_f32(qe_from_%s(x), qe_from_%s(y)))"}};
    const char *op = m->capture['A' - 'A'], *name = type->name;
    bool half = strcmp(name, "f16") == 0 || strcmp(name, "bf16") == 0;
    if (half)
        for (int i = 0; i < 3; i++)
            if (strcmp(halves[i][0], op) == 0) {
                const char *h = halves[i][1];
                ptx_text x = {0};
                for (; *h; h++)
                    if (h[0] == '%')
                        ptx_add(&x, "%s", name), h++;
                    else
                        ptx_add(&x, "%c", *h);
                return x.data;
            }
    if (strcmp(name, "f32") == 0 && strcmp(reals[0][0], op) == 0) return reals[0][1];
    static const char bitwise[] = "and|or|xor|exch|cas";
    bool logical = ptx_one_of(op, bitwise, strlen(bitwise));
    if (!half && !(type->class == PTX_FLOAT && strcmp(op, "add") != 0) &&
        (type->class != PTX_BITS || logical))
        for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
            if (strcmp(plain[i][0], op) == 0) return plain[i][1];
    ptx_problem(w, "no atomic `.%s` of .%s", op, name);
    return "x";
}

/* One element at p + at: the old value goes to `to` (NULL: red). */
static void add_element(ptx_writer *w, const ptx_match *m, ptx_text *x, const ptx_operand *to,
                        const ptx_operand *y, const ptx_operand *z, int at) {
    const ptx_type *type = m->type, *lane = type->lane ? ptx_named(type->lane) : type;
    int lanes = type->lane ? 2 : 1;
    ptx_add(x, " { %s w = %s;", type->c, ptx_value(w, y, type));
    if (z) ptx_add(x, " %s z = %s;", type->c, ptx_value(w, z, type));
    ptx_add(x, " %s old, now;", stored(type)->c);
    ptx_add(x, " old = now = qe_get%d(p + %d);", type->bits, at);
    for (int i = 0; i < lanes; i++) {
        const char *get = "x = old", *put = "now = r";
        if (type->lane) {
            get = ptx_say("x = (uint16_t)(old >> %d), y = (uint16_t)(w >> %d)", 16 * i, 16 * i);
            put = ptx_say("now = qe_lane_set(now, %d, r)", i);
        } else if (type->class == PTX_FLOAT) {
            get = ptx_say("x = qe_f%d(old), y = w", type->bits);
            put = ptx_say("now = qe_bits%d(r)", type->bits);
        } else {
            get = "x = old, y = w";
        }
        ptx_add(x, " { %s %s, r = %s; %s; }", lane->c, get, combined(w, m, lane), put);
    }
    ptx_add(x, " qe_put%d(p + %d, now);", type->bits, at);
    if (to && to->kind != PTX_SINK) {
        ptx_add(x, " %s", ptx_assign(w, to, stored(type), "old"));
        ptx_add(x, " if (now == old) qe_poll(t, %s);", ptx_site(w));
    }
    ptx_add(x, " }");
}

static const char *emit_atomic(ptx_writer *w, const ptx_match *m) {
    bool result = strcmp(w->line->op, "atom") == 0, cas = ptx_has(w, "cas");
    int n = vector_length(m), first = result ? 1 : 0, bytes = ptx_type_bytes(m->type);
    access a = {.bytes = n * bytes, .flags = "QE_ATOMIC | QE_WRITE | QE_UPDATE"};
    const ptx_operand *o = w->line->operands;
    if (!access_operands(w, first + 2 + cas) || !read_access(w, m, &o[first], &a)) return NULL;
    a.order = order_of(m->capture['O' - 'A']);
    const ptx_operand *to = result ? elements(w, &o[0], n) : NULL;
    const ptx_operand *y = elements(w, &o[first + 1], n);
    if (w->failed) return NULL;
    ptx_text x = {0};
    ptx_add(&x, "{ char *p = %s;", checked(w, &a));
    for (int i = 0; i < n; i++)
        add_element(w, m, &x, to ? &to[i] : NULL, &y[i], cas ? &o[first + 2] : NULL, i * bytes);
    ptx_add(&x, " }");
    return x.data;
}

/* ---- addresses ------------------------------------------------------------------------------- */

static const char *emit_cvta(ptx_writer *w, const ptx_match *m) {
    const ptx_type *u64 = ptx_named("u64");
    const char *space = m->capture['Z' - 'A'], *c;
    if (w->line->n_operands != 2) {
        ptx_problem(w, "%d operands, expected 2", w->line->n_operands);
        return NULL;
    }
    const char *x = ptx_value(w, &w->line->operands[1], u64);
    bool shared = ptx_begins(space, "shared"), to = strcmp(m->capture['D' - 'A'], "to") == 0;
    if (!shared)
        c = x;
    else if (to)
        c = ptx_say("qe_shared_address(t, (const void *)(uintptr_t)%s, %s)", x, ptx_site(w));
    else
        c = ptx_say("qe_generic(t, (uint32_t)%s, %s)", x, ptx_site(w));
    return ptx_assign(w, &w->line->operands[0], u64, c);
}

static const char *emit_policy(ptx_writer *w, const ptx_match *m) {
    (void)m;
    if (!w->line->n_operands) {
        ptx_problem(w, "no operands");
        return NULL;
    }
    return ptx_assign(w, &w->line->operands[0], ptx_named("b64"), "0");
}

static const char *emit_nothing(ptx_writer *w, const ptx_match *m) {
    (void)w;
    (void)m;
    return ";";
}

#define ORDER       "O:relaxed|acquire|release|acq_rel? P:cta|cluster|gpu|sys?"
#define WHERE       "Z:global|shared|shared::cta|shared::cluster? cta|cluster|gpu|sys?"
#define ATOMIC      "A:add|min|max|and|or|xor|exch|cas|inc|dec"
#define ATOMIC_TYPE "T:b16|b32|b64|b128|u32|s32|u64|s64|f32|f64|f16|bf16|f16x2|bf16x2"
#define LEVEL       "L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged"

const ptx_rule ptx_rules_memory[] = {
    {"ld",
     "O:weak|volatile|relaxed|acquire? P:cta|cluster|gpu|sys? " SPACES " " CACHE
     " N:v2|v4|v8? " STORED,
     "", NULL, emit_load},
    {"ldu", "O:weak? Z:global? N:v2|v4? " STORED, "", NULL, emit_load},
    {"st",
     "O:weak|volatile|relaxed|release? P:cta|cluster|gpu|sys? " SPACES " " CACHE
     " N:v2|v4|v8? " STORED,
     "", NULL, emit_store},
    {"atom", ORDER " " WHERE " " ATOMIC " noftz? L2::cache_hint? N:v2|v4|v8? " ATOMIC_TYPE, "",
     NULL, emit_atomic},
    {"red", ORDER " " WHERE " " ATOMIC " noftz? L2::cache_hint? N:v2|v4|v8? " ATOMIC_TYPE, "", NULL,
     emit_atomic},
    {"cvta", "D:to? Z:global|shared|shared::cta|shared::cluster|local|const|param|param::entry u64",
     "", NULL, emit_cvta},
    {"isspacep", "global", "=pred u64", "qe_is_global_address(t, $1)", NULL},
    {"isspacep", "shared|shared::cluster", "=pred u64", "qe_is_shared((const void *)(uintptr_t)$1)",
     NULL},
    {"isspacep", "shared::cta", "=pred u64", "qe_is_own_shared(t, $1)", NULL},
    {"isspacep", "local", "=pred u64", "qe_is_local_address($1)", NULL},
    {"isspacep", "const|param|param::entry", "=pred u64", "((void)$1, false)", NULL},
    {"mapa", "shared::cluster u32", "=u32 u32 u32", "qe_mapa(t, $1, $2, $S)", NULL},
    {"mapa", "shared::cluster u64", "=u64 u64 u32", "qe_mapa(t, (uint32_t)$1, $2, $S)", NULL},
    {"mapa", "u64", "=u64 u64 u32", "qe_mapa_generic(t, $1, $2, $S)", NULL},
    {"getctarank", "shared::cluster T:u32|u64", "=u32 T", "qe_rank_of(t, (uint32_t)$1)", NULL},
    {"getctarank", "u64", "=u32 u64",
     "qe_rank_of(t, qe_shared_address(t, (const void *)(uintptr_t)$1, $S))", NULL},
    {"prefetch", "global|local? L1|L2", "", NULL, emit_nothing},
    {"prefetch", "global " LEVEL, "", NULL, emit_nothing},
    {"prefetch", "param|const? tensormap", "", NULL, emit_nothing},
    {"prefetchu", "L1", "", NULL, emit_nothing},
    {"applypriority", "global? L2::evict_normal", "", NULL, emit_nothing},
    {"discard", "global? L2", "", NULL, emit_nothing},
    {"createpolicy", "fractional " LEVEL " " LEVEL "? b64", "", NULL, emit_policy},
    {"createpolicy", "range global? " LEVEL " " LEVEL "? b64", "", NULL, emit_policy},
    {"createpolicy", "cvt L2 b64", "=b64 b64", "$1", NULL},
    {0},
};
