/* ptx_rules_tensor.c — matrix loads and stores, mma and wgmma. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <stdlib.h>
#include <string.h>

static bool operand_count(ptx_writer *w, int least, int most) {
    if (w->line->n_operands >= least && w->line->n_operands <= most) return true;
    ptx_problem(w, "%d operands", w->line->n_operands);
    return false;
}

/* " name[n] = {a, b};" of a vector operand of n parts. */
static void add_array(ptx_writer *w, ptx_text *x, const char *name, const ptx_type *type,
                      const ptx_operand *o, int n) {
    if (o->kind != PTX_VECTOR || o->n_items != n) {
        ptx_problem(w, "a vector of %d, expected %d", o->n_items, n);
        return;
    }
    ptx_add(x, " %s %s[] = {", type->c, name);
    for (int i = 0; i < n; i++) ptx_add(x, "%s%s", i ? ", " : "", ptx_value(w, &o->items[i], type));
    ptx_add(x, "};");
}

static void add_results(ptx_writer *w, ptx_text *x, const char *name, const ptx_type *type,
                        const ptx_operand *o) {
    for (int i = 0; i < o->n_items; i++)
        ptx_add(x, " %s", ptx_assign(w, &o->items[i], type, ptx_say("%s[%d]", name, i)));
}

/* ---- ldmatrix, stmatrix ---------------------------------------------------------------------- */

static const char *emit_matrix(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    bool load = strcmp(w->line->op, "ldmatrix") == 0;
    int n = m->capture['N' - 'A'][1] - '0';
    if (!operand_count(w, 2, 2)) return NULL;
    const ptx_operand *registers = load ? &o[0] : &o[1];
    const ptx_type *b32 = ptx_named("b32");
    const char *call = ptx_say("qe_%s(t, %s, %d, %s, r, %s);", w->line->op,
                               ptx_shared_address(w, load ? &o[1] : &o[0]), n,
                               ptx_has(w, "trans") ? "true" : "false", ptx_site(w));
    ptx_operand one = {.kind = PTX_VECTOR, .items = (ptx_operand *)registers, .n_items = 1};
    if (registers->kind != PTX_VECTOR) registers = &one;
    ptx_text x = {0};
    ptx_add(&x, "{");
    if (load && registers->n_items == n) {
        ptx_add(&x, " uint32_t r[%d]; %s", n, call);
        add_results(w, &x, "r", b32, registers);
    } else {
        add_array(w, &x, "r", b32, registers, n);
        ptx_add(&x, " %s", call);
    }
    ptx_add(&x, " }");
    return x.data;
}

/* ---- mma ------------------------------------------------------------------------------------- */

static const char *matrix_type(const char *name) {
    static const char *const names[][2] = {{"bf16", "QE_MMA_BF16"}, {"f16", "QE_MMA_F16"},
                                           {"tf32", "QE_MMA_TF32"}, {"e4m3", "QE_MMA_E4M3"},
                                           {"e5m2", "QE_MMA_E5M2"}, {"s8", "QE_MMA_S8"},
                                           {"u8", "QE_MMA_U8"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i][0], name) == 0) return names[i][1];
    return "";
}

static int matrix_bits(const char *name) {
    if (strcmp(name, "tf32") == 0) return 32;
    return strcmp(name, "bf16") == 0 || strcmp(name, "f16") == 0 ? 16 : 8;
}

static const char *emit_mma(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    const char *a = m->capture['A' - 'A'], *b = m->capture['E' - 'A'], *d = m->capture['D' - 'A'];
    const ptx_type *b32 = ptx_named("b32");
    if (!operand_count(w, 4, 4)) return NULL;
    int k = (int)strtol(strchr(m->capture['M' - 'A'], 'k') + 1, NULL, 10);
    int bits = matrix_bits(a), n_a = 16 * k * bits / 32 / 32, n_b = n_a / 2;
    bool half = strcmp(d, "f16") == 0;
    if (strcmp(d, m->capture['C' - 'A']) != 0 || matrix_bits(b) != bits) {
        ptx_problem(w, "types that do not go together");
        return NULL;
    }
    ptx_text x = {0};
    ptx_add(&x, "{ static const qe_mma kind = {16, 8, %d, %s, %s, %s};", k, matrix_type(a),
            matrix_type(b), half ? "true" : "false");
    ptx_add(&x, " uint32_t d[%d];", half ? 2 : 4);
    add_array(w, &x, "a", b32, &o[1], n_a);
    if (n_b == 1 && o[2].kind != PTX_VECTOR)
        ptx_add(&x, " uint32_t b[] = {%s};", ptx_value(w, &o[2], b32));
    else
        add_array(w, &x, "b", b32, &o[2], n_b);
    add_array(w, &x, "c", b32, &o[3], half ? 2 : 4);
    if (o[0].kind != PTX_VECTOR || o[0].n_items != (half ? 2 : 4)) {
        ptx_problem(w, "a result of %d registers", o[0].n_items);
        return NULL;
    }
    ptx_add(&x, " qe_mma_sync(t, &kind, d, a, b, c, %s);", ptx_site(w));
    add_results(w, &x, "d", b32, &o[0]);
    ptx_add(&x, " }");
    return x.data;
}

/* ---- wgmma ----------------------------------------------------------------------------------- */

static const char *immediate(ptx_writer *w, const ptx_operand *o) {
    if (o->kind != PTX_INTEGER) ptx_problem(w, "expected a constant");
    return ptx_say("%lld", (long long)o->bits);
}

/* m64nNkK of A and B, both from shared memory or A from registers. */
static const char *emit_wgmma(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    const char *a = m->capture['A' - 'A'], *b = m->capture['E' - 'A'];
    const char *shape = m->capture['M' - 'A'];
    int n = (int)strtol(shape + 4, NULL, 10), k = (int)strtol(strchr(shape, 'k') + 1, NULL, 10);
    bool registers = w->line->n_operands > 1 && o[1].kind == PTX_VECTOR;
    int trans = matrix_bits(a) == 16 ? (registers ? 1 : 2) : 0;
    if (!operand_count(w, 6 + trans, 6 + trans)) return NULL;
    if (n < 8 || n > 256 || n % 8 || k * matrix_bits(a) != 256 ||
        matrix_bits(a) != matrix_bits(b)) {
        ptx_problem(w, "unknown shape `.%s` of .%s", shape, a);
        return NULL;
    }
    const char *trans_a = trans == 2 ? immediate(w, &o[6]) : "0";
    const char *trans_b = trans ? immediate(w, &o[5 + trans]) : "0";
    ptx_text x = {0};
    ptx_add(&x, "{ static const qe_wgmma kind = {%d, %s, %s, %s, %s, %s, %s, %s};", n,
            matrix_type(a), matrix_type(b), registers ? "true" : "false", immediate(w, &o[4]),
            immediate(w, &o[5]), trans_a, trans_b);
    add_array(w, &x, "d", ptx_named("f32"), &o[0], n / 2);
    if (registers) add_array(w, &x, "a", ptx_named("b32"), &o[1], 4);
    ptx_add(&x, " qe_wgmma_async(t, &kind, d, %s, %s, %s, %s, %s);", registers ? "a" : "NULL",
            registers ? "0" : ptx_value(w, &o[1], ptx_named("b64")),
            ptx_value(w, &o[2], ptx_named("b64")), ptx_value(w, &o[3], ptx_named("pred")),
            ptx_site(w));
    if (!w->failed) add_results(w, &x, "d", ptx_named("f32"), &o[0]);
    ptx_add(&x, " }");
    return x.data;
}

#define WGMMA "mma_async sync aligned M:m64n* f32 "

const ptx_rule ptx_rules_tensor[] = {
    {"ldmatrix", "sync aligned m8n8 N:x1|x2|x4 trans? shared|shared::cta? b16", "", NULL,
     emit_matrix},
    {"stmatrix", "sync aligned m8n8 N:x1|x2|x4 trans? shared|shared::cta? b16", "", NULL,
     emit_matrix},

    {"mma", "sync aligned M:m16n8k8|m16n8k16 row col D:f32 A:bf16 E:bf16 C:f32", "", NULL,
     emit_mma},
    {"mma", "sync aligned M:m16n8k8|m16n8k16 row col D:f32|f16 A:f16 E:f16 C:f32|f16", "", NULL,
     emit_mma},
    {"mma", "sync aligned M:m16n8k4|m16n8k8 row col D:f32 A:tf32 E:tf32 C:f32", "", NULL, emit_mma},
    {"mma", "sync aligned M:m16n8k16|m16n8k32 row col D:f32|f16 A:e4m3|e5m2 E:e4m3|e5m2 C:f32|f16",
     "", NULL, emit_mma},
    {"mma", "sync aligned M:m16n8k16|m16n8k32 row col D:s32 A:s8|u8 E:s8|u8 C:s32", "", NULL,
     emit_mma},

    {"wgmma", "fence sync aligned", "", "qe_wgmma_fence(t, $S)", NULL},
    {"wgmma", "commit_group sync aligned", "", "qe_wgmma_commit(t, $S)", NULL},
    {"wgmma", "wait_group sync aligned", "u32", "qe_wgmma_wait(t, $1, $S)", NULL},
    {"wgmma", WGMMA "A:bf16 E:bf16", "", NULL, emit_wgmma},
    {"wgmma", WGMMA "A:f16 E:f16", "", NULL, emit_wgmma},
    {"wgmma", WGMMA "A:tf32 E:tf32", "", NULL, emit_wgmma},
    {"wgmma", WGMMA "A:e4m3|e5m2 E:e4m3|e5m2", "", NULL, emit_wgmma},
    {0},
};
