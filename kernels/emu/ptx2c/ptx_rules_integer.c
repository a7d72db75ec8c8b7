/* ptx_rules_integer.c — integer and bit instructions. Wrap-around is that of -fwrapv. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

/* ---- mov: vectors are packed and unpacked ---------------------------------------------------- */

static const ptx_type *piece(ptx_writer *w, const ptx_type *whole, int n) {
    int bits = whole->bits / n;
    if (n < 2 || whole->bits % n || bits < 8) {
        ptx_problem(w, "a vector of %d is no .%s", n, whole->name);
        return ptx_named("b8");
    }
    return ptx_named(ptx_say("b%d", bits));
}

static const char *emit_mov(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *to = &w->line->operands[0], *from = &w->line->operands[1];
    ptx_text x = {0};
    if (w->line->n_operands != 2) {
        ptx_problem(w, "%d operands, expected 2", w->line->n_operands);
        return NULL;
    }
    if (to->kind == PTX_VECTOR) {
        const ptx_type *part = piece(w, m->type, to->n_items);
        ptx_add(&x, "{ %s x = %s;", m->type->c, ptx_value(w, from, m->type));
        for (int i = 0; i < to->n_items; i++)
            if (to->items[i].kind != PTX_SINK)
                ptx_add(&x, " %s",
                        ptx_assign(w, &to->items[i], part,
                                   ptx_say("(%s)(x >> %d)", part->c, i * part->bits)));
        ptx_add(&x, " }");
        return x.data;
    }
    if (from->kind == PTX_VECTOR) {
        const ptx_type *part = piece(w, m->type, from->n_items);
        for (int i = 0; i < from->n_items; i++)
            ptx_add(&x, "%s(%s)%s << %d", i ? " | " : "", m->type->c,
                    ptx_value(w, &from->items[i], part), i * part->bits);
        return ptx_assign(w, to, m->type, x.data);
    }
    return ptx_assign(w, to, m->type, ptx_value(w, from, m->type));
}

/* ---- comparisons ----------------------------------------------------------------------------- */

typedef struct comparison {
    const char *name, *integers, *reals;
} comparison;
static const comparison comparisons[] = {
    {"eq", "%s == %s", "%s == %s"},
    {"ne", "%s != %s", "qe_ordered_ne(%s, %s)"},
    {"lt", "%s < %s", "%s < %s"},
    {"le", "%s <= %s", "%s <= %s"},
    {"gt", "%s > %s", "%s > %s"},
    {"ge", "%s >= %s", "%s >= %s"},
    {"lo", "%s < %s", NULL},
    {"ls", "%s <= %s", NULL},
    {"hi", "%s > %s", NULL},
    {"hs", "%s >= %s", NULL},
    {"equ", NULL, "!qe_ordered_ne(%s, %s)"},
    {"neu", NULL, "%s != %s"},
    {"ltu", NULL, "!(%s >= %s)"},
    {"leu", NULL, "!(%s > %s)"},
    {"gtu", NULL, "!(%s <= %s)"},
    {"geu", NULL, "!(%s < %s)"},
    {"num", NULL, "!qe_unordered(%s, %s)"},
    {"nan", NULL, "qe_unordered(%s, %s)"},
};
#define COMPARE  "C:eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan"
#define COMPARED "b16|b32|b64|u16|u32|u64|s16|s32|s64|f16|f16x2|bf16|bf16x2|f32|f64"

/* The comparison of two values, or of one lane of two packed ones. */
static const char *compare(ptx_writer *w, const ptx_match *m, int lane) {
    const ptx_type *type = ptx_named(m->capture['T' - 'A']);
    const char *name = m->capture['C' - 'A'], *v[2], *half = NULL;
    for (int i = 0; i < 2; i++) v[i] = ptx_value(w, &w->line->operands[1 + i], type);
    if (type->lane)
        half = type->lane;
    else if (strcmp(type->name, "f16") == 0 || strcmp(type->name, "bf16") == 0)
        half = type->name;
    for (int i = 0; i < 2 && half; i++)
        v[i] = ptx_say("qe_from_%s((uint16_t)(%s >> %d))", half, v[i], 16 * lane);
    if (ptx_has(w, "ftz") && strcmp(type->name, "f32") == 0)
        for (int i = 0; i < 2; i++) v[i] = ptx_say("qe_ftz(%s)", v[i]);
    bool real = half || type->class == PTX_FLOAT;
    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++) {
        const comparison *c = &comparisons[i];
        const char *format = real ? c->reals : c->integers;
        if (strcmp(c->name, name) != 0 || !format) continue;
        const char *mark = strstr(format, "%s"), *second = strstr(mark + 2, "%s");
        return ptx_say("%s%s%s%s%s", ptx_copy(format, (size_t)(mark - format)), v[0],
                       ptx_copy(mark + 2, (size_t)(second - mark - 2)), v[1], second + 2);
    }
    ptx_problem(w, "unknown comparison `.%s` of .%s", name, type->name);
    return "false";
}

static const char *combine(ptx_writer *w, const ptx_match *m, const char *c) {
    static const char *const names[] = {"and", "or", "xor"};
    const char *op = m->capture['O' - 'A'];
    for (int i = 0; i < 3; i++)
        if (strcmp(op, names[i]) == 0)
            return ptx_say("(%s) %c %s", c, "&|^"[i],
                           ptx_value(w, &w->line->operands[3], ptx_named("pred")));
    return c;
}

static bool compare_operands(ptx_writer *w, const ptx_match *m) {
    int expected = m->capture['O' - 'A'][0] ? 4 : 3;
    if (w->line->n_operands == expected) return true;
    ptx_problem(w, "%d operands, expected %d", w->line->n_operands, expected);
    return false;
}

static const char *emit_setp(ptx_writer *w, const ptx_match *m) {
    const ptx_type *pred = ptx_named("pred");
    const ptx_operand *to = &w->line->operands[0];
    if (!compare_operands(w, m)) return NULL;
    bool packed = ptx_named(m->capture['T' - 'A'])->lane != NULL;
    if (to->kind != PTX_PAIR && !packed) {
        return ptx_assign(w, to, pred, combine(w, m, compare(w, m, 0)));
    }
    if (to->kind != PTX_PAIR) {
        ptx_problem(w, "one result, expected two");
        return NULL;
    }
    const char *second = packed ? compare(w, m, 1) : "!x";
    /* Both before either is written: a result may be the predicate combined with. */
    return ptx_say("{ bool x = %s, c = %s, d = %s; %s %s }", compare(w, m, 0), combine(w, m, "x"),
                   combine(w, m, second), ptx_assign(w, &to->items[0], pred, "c"),
                   ptx_assign(w, &to->items[1], pred, "d"));
}

/* set: all ones or 1.0 where the comparison holds; packed results lane by lane. */
static const char *emit_set(ptx_writer *w, const ptx_match *m) {
    const ptx_type *to = ptx_named(m->capture['D' - 'A']);
    const ptx_type *from = ptx_named(m->capture['T' - 'A']);
    if (!compare_operands(w, m)) return NULL;
    const char *one = "~0u";
    if (to->class == PTX_FLOAT)
        one = "1.0f";
    else if (strcmp(to->name, "f16") == 0)
        one = "0x3c00";
    else if (strcmp(to->name, "bf16") == 0)
        one = "0x3f80";
    const char *low = combine(w, m, compare(w, m, 0)), *c;
    if (from->lane) {
        const char *lane = to->lane && *to->lane == 'f' ? "0x3c00" : to->lane ? "0x3f80" : "0xffff";
        c = ptx_say("qe_pair((%s) ? %s : 0, (%s) ? %s : 0)", low, lane,
                    combine(w, m, compare(w, m, 1)), lane);
    } else {
        c = ptx_say("(%s) ? %s : 0", low, one);
    }
    return ptx_assign(w, &w->line->operands[0], to, c);
}

/* ---- lop3 with a predicate beside its result ------------------------------------------------- */

static const char *emit_lop3(ptx_writer *w, const ptx_match *m) {
    const ptx_type *b32 = ptx_named("b32"), *pred = ptx_named("pred");
    const ptx_operand *o = w->line->operands, *to = &o[0];
    const char *op = m->capture['O' - 'A'];
    if (w->line->n_operands != (*op ? 6 : 5) || (*op && to->kind != PTX_PAIR)) {
        ptx_problem(w, "%d operands", w->line->n_operands);
        return NULL;
    }
    const char *c =
        ptx_say("qe_lop3(%s, %s, %s, %s)", ptx_value(w, &o[1], b32), ptx_value(w, &o[2], b32),
                ptx_value(w, &o[3], b32), ptx_value(w, &o[4], b32));
    if (!*op) return ptx_assign(w, to, b32, c);
    const char *p =
        ptx_say("(x != 0) %s %s", strcmp(op, "or") == 0 ? "|" : "&", ptx_value(w, &o[5], pred));
    return ptx_say("{ uint32_t x = %s; %s %s }", c, ptx_assign(w, &to->items[0], b32, "x"),
                   ptx_assign(w, &to->items[1], pred, p));
}

/* ---- rows ------------------------------------------------------------------------------------ */

#define ALL   "T:" PTX_INTEGERS
#define UP_32 "T:u16|s16|u32|s32"
#define W_32  "T:u32|s32"
#define W_64  "T:u64|s64"
#define BITS  "T:b16|b32|b64"

const ptx_rule ptx_rules_integer[] = {
    {"mov", "T:b16|b32|b64|b128|u16|u32|u64|s16|s32|s64|f16|bf16|f16x2|bf16x2|f32|f64|pred", "",
     NULL, emit_mov},
    {"add", ALL, "=T T T", "$1 + $2", NULL},
    {"add", "sat T:s32", "=T T T", "qe_clamp((int64_t)$1 + $2, INT32_MIN, INT32_MAX)", NULL},
    {"add", "T:u16x2|s16x2", "=T T T", "$1 + $2", NULL},
    {"sub", ALL, "=T T T", "$1 - $2", NULL},
    {"sub", "sat T:s32", "=T T T", "qe_clamp((int64_t)$1 - $2, INT32_MIN, INT32_MAX)", NULL},
    {"add", "cc T:u32|s32|u64|s64", "=T T T", "qe_add_carry$B($1, $2, false, &cc)", NULL},
    {"addc", "T:u32|s32|u64|s64", "=T T T", "$1 + $2 + cc", NULL},
    {"addc", "cc T:u32|s32|u64|s64", "=T T T", "qe_add_carry$B($1, $2, cc, &cc)", NULL},
    {"sub", "cc T:u32|s32|u64|s64", "=T T T", "qe_sub_borrow$B($1, $2, false, &cc)", NULL},
    {"subc", "T:u32|s32|u64|s64", "=T T T", "$1 - $2 - cc", NULL},
    {"subc", "cc T:u32|s32|u64|s64", "=T T T", "qe_sub_borrow$B($1, $2, cc, &cc)", NULL},
    {"mul", "lo " UP_32, "=T T T", "(uint32_t)$1 * (uint32_t)$2", NULL},
    {"mul", "lo " W_64, "=T T T", "$1 * $2", NULL},
    {"mul", "hi " UP_32, "=T T T", "((int64_t)$1 * $2) >> $B", NULL},
    {"mul", "hi " W_64, "=T T T", "qe_mul_hi_$K64($1, $2)", NULL},
    {"mul", "wide " UP_32, "=W T T", "qe_mul_wide_$K32($1, $2)", NULL},
    {"mad", "lo " UP_32, "=T T T T", "(uint32_t)$1 * (uint32_t)$2 + (uint32_t)$3", NULL},
    {"mad", "lo " W_64, "=T T T T", "$1 * $2 + $3", NULL},
    {"mad", "hi " UP_32, "=T T T T", "(((int64_t)$1 * $2) >> $B) + $3", NULL},
    {"mad", "hi " W_64, "=T T T T", "qe_mul_hi_$K64($1, $2) + $3", NULL},
    {"mad", "hi sat T:s32", "=T T T T",
     "qe_clamp((((int64_t)$1 * $2) >> 32) + $3, INT32_MIN, INT32_MAX)", NULL},
    {"mad", "wide " UP_32, "=W T T W", "qe_mul_wide_$K32($1, $2) + $3", NULL},
    {"mad", "lo cc " W_32, "=T T T T", "qe_add_carry32($1 * $2, $3, false, &cc)", NULL},
    {"mad", "lo cc " W_64, "=T T T T", "qe_add_carry64($1 * $2, $3, false, &cc)", NULL},
    {"mad", "hi cc " W_32, "=T T T T",
     "qe_add_carry32((uint32_t)(((int64_t)$1 * $2) >> 32), $3, false, &cc)", NULL},
    {"mad", "hi cc " W_64, "=T T T T", "qe_add_carry64(qe_mul_hi_$K64($1, $2), $3, false, &cc)",
     NULL},
    {"madc", "lo " W_32, "=T T T T", "$1 * $2 + $3 + cc", NULL},
    {"madc", "lo " W_64, "=T T T T", "$1 * $2 + $3 + cc", NULL},
    {"madc", "hi " W_32, "=T T T T", "(((int64_t)$1 * $2) >> 32) + $3 + cc", NULL},
    {"madc", "hi " W_64, "=T T T T", "qe_mul_hi_$K64($1, $2) + $3 + cc", NULL},
    {"madc", "lo cc " W_32, "=T T T T", "qe_add_carry32($1 * $2, $3, cc, &cc)", NULL},
    {"madc", "lo cc " W_64, "=T T T T", "qe_add_carry64($1 * $2, $3, cc, &cc)", NULL},
    {"madc", "hi cc " W_32, "=T T T T",
     "qe_add_carry32((uint32_t)(((int64_t)$1 * $2) >> 32), $3, cc, &cc)", NULL},
    {"madc", "hi cc " W_64, "=T T T T", "qe_add_carry64(qe_mul_hi_$K64($1, $2), $3, cc, &cc)",
     NULL},
    {"mul24", "lo " W_32, "=T T T", "qe_mul24_$K($1, $2)", NULL},
    {"mul24", "hi " W_32, "=T T T", "qe_mul24_$K($1, $2) >> 16", NULL},
    {"mad24", "lo " W_32, "=T T T T", "qe_mul24_$K($1, $2) + $3", NULL},
    {"mad24", "hi " W_32, "=T T T T", "(qe_mul24_$K($1, $2) >> 16) + $3", NULL},
    {"sad", ALL, "=T T T T", "$3 + ($1 < $2 ? $2 - $1 : $1 - $2)", NULL},
    {"div", UP_32, "=T T T", "qe_div_$K32($1, $2)", NULL},
    {"div", W_64, "=T T T", "qe_div_$K64($1, $2)", NULL},
    {"rem", UP_32, "=T T T", "qe_rem_$K32($1, $2)", NULL},
    {"rem", W_64, "=T T T", "qe_rem_$K64($1, $2)", NULL},
    {"abs", "T:s16|s32|s64", "=T T", "$1 < 0 ? 0 - $1 : $1", NULL},
    {"neg", "T:s16|s32|s64", "=T T", "0 - $1", NULL},
    {"min", ALL, "=T T T", "$1 < $2 ? $1 : $2", NULL},
    {"max", ALL, "=T T T", "$1 > $2 ? $1 : $2", NULL},
    {"min", "T:u16x2|s16x2", "=T T T", "$1 < $2 ? $1 : $2", NULL},
    {"max", "T:u16x2|s16x2", "=T T T", "$1 > $2 ? $1 : $2", NULL},
    {"min", "relu T:s32|s16x2", "=T T T", "qe_relu_s32($1 < $2 ? $1 : $2)", NULL},
    {"max", "relu T:s32|s16x2", "=T T T", "qe_relu_s32($1 > $2 ? $1 : $2)", NULL},
    {"and", BITS, "=T T T", "$1 & $2", NULL},
    {"and", "T:pred", "=T T T", "$1 & $2", NULL},
    {"or", BITS, "=T T T", "$1 | $2", NULL},
    {"or", "T:pred", "=T T T", "$1 | $2", NULL},
    {"xor", BITS, "=T T T", "$1 ^ $2", NULL},
    {"xor", "T:pred", "=T T T", "$1 ^ $2", NULL},
    {"not", BITS, "=T T", "~$1", NULL},
    {"not", "T:pred", "=T T", "!$1", NULL},
    {"cnot", BITS, "=T T", "$1 == 0", NULL},
    {"shl", BITS, "=T T u32", "$2 >= $B ? 0 : $1 << $2", NULL},
    {"shr", BITS "|u16|u32|u64|s16|s32|s64", "=T T u32", "qe_shr_$K($1, $2, $B)", NULL},
    {"shf", "D:l|r M:wrap|clamp b32", "=b32 b32 b32 u32", "qe_shf_$D_$M($1, $2, $3)", NULL},
    {"popc", "T:b32|b64", "=u32 T", "__builtin_popcountll($1)", NULL},
    {"clz", "T:b32|b64", "=u32 T", "qe_clz$B($1)", NULL},
    {"brev", "T:b32|b64", "=T T", "qe_brev$B($1)", NULL},
    {"bfind", "T:u32|s32|u64|s64", "=u32 T", "qe_bfind_$K$B($1)", NULL},
    {"bfind", "shiftamt T:u32|s32|u64|s64", "=u32 T", "qe_bfind_shift(qe_bfind_$K$B($1), $B)",
     NULL},
    {"bfe", "T:u32|s32|u64|s64", "=T T u32 u32", "qe_bfe_$K$B($1, $2, $3)", NULL},
    {"bfi", "T:b32|b64", "=T T T u32 u32", "qe_bfi$B($1, $2, $3, $4)", NULL},
    {"bmsk", "M:clamp|wrap b32", "=b32 u32 u32", "qe_bmsk_$M($1, $2)", NULL},
    {"szext", "M:clamp|wrap T:u32|s32", "=T T u32", "qe_szext_$M_$K($1, $2)", NULL},
    {"fns", "b32", "=b32 b32 b32 s32", "qe_fns($1, $2, $3)", NULL},
    {"prmt", "b32", "=b32 b32 b32 b32", "qe_prmt($1, $2, $3)", NULL},
    {"prmt", "b32 M:f4e|b4e|rc8|ecl|ecr|rc16", "=b32 b32 b32 b32", "qe_prmt_$M($1, $2, $3)", NULL},
    {"lop3", "O:or|and? b32", "", NULL, emit_lop3},
    {"dp4a", "A:u32|s32 D:u32|s32", "=b32 b32 b32 b32",
     "qe_dp4a($1, $2, qe_byte_$A, qe_byte_$D) + $3", NULL},
    {"dp2a", "M:lo|hi A:u32|s32 D:u32|s32", "=b32 b32 b32 b32",
     "qe_dp2a_$M($1, $2, qe_half_$A, qe_byte_$D) + $3", NULL},
    {"setp", COMPARE " O:and|or|xor? ftz? T:" COMPARED, "", NULL, emit_setp},
    {"set", COMPARE " O:and|or|xor? ftz? D:u32|s32|f32|u16|f16|bf16|f16x2|bf16x2 T:" COMPARED, "",
     NULL, emit_set},
    {"selp", "T:b16|b32|b64|u16|u32|u64|s16|s32|s64|f16|bf16|f16x2|bf16x2|f32|f64", "=T T T pred",
     "$3 ? $1 : $2", NULL},
    {"slct", "T:b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 s32", "=T T T s32", "$3 >= 0 ? $1 : $2",
     NULL},
    {"slct", "ftz? T:b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 f32", "=T T T f32",
     "$3 >= 0 ? $1 : $2", NULL},
    {"cvt", "pack sat T:s16|u16 s32", "=u32 s32 s32",
     "qe_pair(qe_clamp_to_$n($2), qe_clamp_to_$n($1))", NULL},
    {"cvt", "pack sat T:s8|u8 s32 b32", "=u32 s32 s32 b32",
     "(uint32_t)(uint8_t)qe_clamp_to_$n($2) | (uint32_t)(uint8_t)qe_clamp_to_$n($1) << 8 | $3 << "
     "16",
     NULL},
    {0},
};
