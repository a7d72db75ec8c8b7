/* ptx_emit_cvt.c — conversions: the source as an exact double or an integer, then one rounding. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

typedef struct conversion {
    ptx_writer *w;
    const ptx_type *to, *from;
    const char *rounding;
} conversion;

static bool named(const ptx_type *t, const char *name) { return strcmp(t->name, name) == 0; }
static bool is_half(const ptx_type *t) { return named(t, "f16") || named(t, "bf16"); }
static bool is_integer(const ptx_type *t) {
    return t->class == PTX_UNSIGNED || t->class == PTX_SIGNED;
}
static bool is_integral(const char *rounding) {
    return strlen(rounding) == 3 && rounding[2] == 'i';
}

/* The source with its own type: half values as float, denormals flushed where asked. */
static const char *source(const conversion *c, const ptx_operand *o) {
    const char *x = ptx_value(c->w, o, c->from);
    if (is_half(c->from)) return ptx_say("qe_from_%s(%s)", c->from->name, x);
    if (named(c->from, "f32") && ptx_has(c->w, "ftz")) return ptx_say("qe_ftz(%s)", x);
    return x;
}

static const char *to_integer(const conversion *c, const char *x) {
    const ptx_type *to = c->to;
    if (is_integer(c->from)) {
        if (!ptx_has(c->w, "sat")) return ptx_say("(%s)%s", to->c, x);
        if (c->from->class == PTX_UNSIGNED) return ptx_say("qe_clamp_u_to_%s(%s)", to->name, x);
        return ptx_say("qe_clamp_to_%s(%s)", to->name, x);
    }
    if (!is_integral(c->rounding)) {
        ptx_problem(c->w, "no rounding to an integer");
        return "0";
    }
    /* The integer of NaN. */
    bool lowest = named(c->from, "f64") || to->bits == 64;
    const char *nan = lowest ? ptx_say("1ull << %d", to->bits - 1) : "0";
    return ptx_say("qe_integer_%s(qe_%s(%s), %s)", to->name, c->rounding, x, nan);
}

static const char *to_f32(const conversion *c, const char *x) {
    const char *r = c->rounding, *y = x;
    if (is_integral(r))
        y = ptx_say("qe_nan32((float)qe_%s(%s))", r, x);
    else if (*r && strcmp(r, "rn") != 0)
        y = ptx_say("qe_round_f32((long double)%s, qe_%s)", x, r);
    else if (named(c->from, "f64"))
        y = ptx_say("qe_nan32((float)%s)", x);
    else if (is_integer(c->from))
        y = ptx_say("(float)%s", x);
    if (ptx_has(c->w, "ftz")) y = ptx_say("qe_ftz(%s)", y);
    return ptx_has(c->w, "sat") ? ptx_say("qe_sat(%s)", y) : y;
}

static const char *to_f64(const conversion *c, const char *x) {
    const char *r = c->rounding, *y = ptx_say("(double)%s", x);
    if (is_integral(r))
        y = ptx_say("qe_%s(%s)", r, x);
    else if (*r && strcmp(r, "rn") != 0)
        y = ptx_say("qe_round_f64((long double)%s, qe_%s)", x, r);
    return ptx_has(c->w, "sat") ? ptx_say("qe_sat64(%s)", y) : y;
}

/* A value in the narrow format `name`. */
static const char *to_narrow(const conversion *c, const char *name, const char *x) {
    const char *r = *c->rounding ? c->rounding : "rn";
    if (is_integer(c->from) && c->from->bits == 64) x = ptx_say("qe_odd_%s(%s)", c->from->name, x);
    if (is_integral(r)) {
        x = ptx_say("qe_%s(%s)", r, x);
        r = "rn";
    }
    if (ptx_has(c->w, "relu")) x = ptx_say("qe_relu(%s)", x);
    if (ptx_has(c->w, "sat")) x = ptx_say("qe_sat64(%s)", x);
    if (ptx_has(c->w, "satfinite")) x = ptx_say("qe_finite_%s(%s)", name, x);
    if (strcmp(r, "rn") == 0 && strcmp(name, "tf32") != 0) return ptx_say("qe_to_%s(%s)", name, x);
    return ptx_say("qe_narrow_%s(%s, qe_%s)", name, x, r);
}

/* Two values, the first to the upper half. */
static const char *to_pair(const conversion *c, const char *format) {
    const ptx_operand *o = c->w->line->operands;
    return ptx_say(c->to->bits == 16 ? "qe_pair8(%s, %s)" : "qe_pair(%s, %s)",
                   to_narrow(c, format, source(c, &o[2])), to_narrow(c, format, source(c, &o[1])));
}

static const char *packed(const conversion *c) {
    ptx_writer *w = c->w;
    const ptx_operand *o = w->line->operands;
    bool to8 = c->to->bits == 16 && !is_half(c->to);
    const char *format = c->to->lane;
    if (to8) format = named(c->to, "e4m3x2") ? "e4m3" : "e5m2";
    if (to8 && !ptx_has(w, "satfinite")) ptx_problem(w, "a conversion to fp8 without .satfinite");
    if (named(c->from, "f32") && w->line->n_operands == 3) return to_pair(c, format);
    if (named(c->from, "f16x2") && to8 && w->line->n_operands == 2) {
        const char *x = ptx_value(w, &o[1], c->from);
        return ptx_say("qe_pair8(%s, %s)",
                       to_narrow(c, format, ptx_say("qe_from_f16((uint16_t)%s)", x)),
                       to_narrow(c, format, ptx_say("qe_from_f16((uint16_t)(%s >> 16))", x)));
    }
    if (named(c->to, "f16x2") && w->line->n_operands == 2 && c->from->bits == 16 &&
        !is_half(c->from) && !is_integer(c->from)) {
        const char *x = ptx_value(w, &o[1], c->from);
        const char *from = named(c->from, "e4m3x2") ? "e4m3" : "e5m2";
        return ptx_say("qe_pair(%s, %s)",
                       to_narrow(c, "f16", ptx_say("qe_from_%s((uint8_t)%s)", from, x)),
                       to_narrow(c, "f16", ptx_say("qe_from_%s((uint8_t)(%s >> 8))", from, x)));
    }
    ptx_problem(w, "no conversion from .%s to .%s", c->from->name, c->to->name);
    return "0";
}

const char *ptx_emit_cvt(ptx_writer *w, const ptx_match *m) {
    const conversion c = {w, ptx_named(m->capture['D' - 'A']), ptx_named(m->capture['A' - 'A']),
                          m->capture['R' - 'A']};
    const ptx_type *to = c.to;
    const ptx_operand *o = w->line->operands;
    if (w->line->n_operands < 2) {
        ptx_problem(w, "%d operands", w->line->n_operands);
        return NULL;
    }
    bool from8 = named(c.from, "e4m3x2") || named(c.from, "e5m2x2") || named(c.from, "f16x2");
    if (to->lane || named(to, "e4m3x2") || named(to, "e5m2x2") || from8)
        return ptx_assign(w, &o[0], to, packed(&c));
    if (w->line->n_operands != 2) {
        ptx_problem(w, "%d operands, expected 2", w->line->n_operands);
        return NULL;
    }
    const char *x = source(&c, &o[1]), *y;
    if (is_integer(to))
        y = to_integer(&c, x);
    else if (named(to, "f32"))
        y = to_f32(&c, x);
    else if (named(to, "f64"))
        y = to_f64(&c, x);
    else
        y = to_narrow(&c, to->name, x);
    return ptx_assign(w, &o[0], to, y);
}
