/* ptx_rules_async.c — asynchronous copies, their groups, and mbarriers. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

static bool operand_count(ptx_writer *w, int least, int most) {
    if (w->line->n_operands >= least && w->line->n_operands <= most) return true;
    ptx_problem(w, "%d operands", w->line->n_operands);
    return false;
}

static const char *u32_value(ptx_writer *w, const ptx_operand *o) {
    return ptx_value(w, o, ptx_named("u32"));
}

/* An address in global memory (or a generic one). */
static const char *global_address(ptx_writer *w, const ptx_operand *o) {
    const char *space;
    return ptx_say("(void *)(uintptr_t)(%s)", ptx_address(w, o, &space));
}

/* An address that the instruction's words say to be shared. */
static const char *window_address(ptx_writer *w, const ptx_operand *o) {
    const char *space;
    return ptx_say("(uint32_t)(%s)", ptx_address(w, o, &space));
}

/* ---- cp.async -------------------------------------------------------------------------------- */

static const char *emit_cp_async(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    (void)m;
    int hint = ptx_has(w, "L2::cache_hint");
    if (!operand_count(w, 3 + hint, 4 + hint)) return NULL;
    const char *bytes = u32_value(w, &o[2]), *from = bytes;
    if (w->line->n_operands > 3 + hint) {
        const ptx_type *type = ptx_register_type(w, &o[3]);
        if (type && type->class == PTX_PRED) /* ignore-src */
            from = ptx_say("(%s ? 0 : %s)", ptx_value(w, &o[3], type), bytes);
        else
            from = u32_value(w, &o[3]);
    }
    return ptx_say("qe_cp_async(t, %s, %s, %s, %s, %s);", window_address(w, &o[0]),
                   global_address(w, &o[1]), bytes, from, ptx_site(w));
}

/* ---- bulk copies ----------------------------------------------------------------------------- */

static const char *element(const char *type) {
    static const char *const names[][2] = {
        {"f32", "QE_F32"}, {"f64", "QE_F64"}, {"f16", "QE_F16"}, {"bf16", "QE_BF16"},
        {"u32", "QE_U32"}, {"s32", "QE_S32"}, {"b32", "QE_U32"}, {"u64", "QE_U64"},
        {"s64", "QE_S64"}, {"b64", "QE_U64"}, {"", "QE_B8"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i][0], type) == 0) return names[i][1];
    return "QE_B8";
}

static const char *reduction(const char *op) {
    static const char *const names[][2] = {{"add", "QE_ADD"}, {"min", "QE_MIN"}, {"max", "QE_MAX"},
                                           {"inc", "QE_INC"}, {"dec", "QE_DEC"}, {"and", "QE_AND"},
                                           {"or", "QE_OR"},   {"xor", "QE_XOR"}};
    for (size_t i = 0; op && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i][0], op) == 0) return names[i][1];
    return "QE_COPY";
}

static const char *emit_bulk_load(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    int cast = ptx_has(w, "multicast::cluster"), hint = ptx_has(w, "L2::cache_hint");
    (void)m;
    if (!operand_count(w, 4 + cast + hint, 4 + cast + hint)) return NULL;
    return ptx_say("qe_bulk_load(t, %s, %s, %s, %s, %s, %s);", window_address(w, &o[0]),
                   global_address(w, &o[1]), u32_value(w, &o[2]), window_address(w, &o[3]),
                   cast ? ptx_value(w, &o[4], ptx_named("u16")) : "0", ptx_site(w));
}

static const char *emit_bulk_shared(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    (void)m;
    if (!operand_count(w, 4, 4)) return NULL;
    return ptx_say("qe_bulk_shared(t, %s, %s, %s, %s, %s);", window_address(w, &o[0]),
                   window_address(w, &o[1]), u32_value(w, &o[2]), window_address(w, &o[3]),
                   ptx_site(w));
}

static const char *emit_bulk_store(ptx_writer *w, const ptx_match *m) { /* and reduction */
    const ptx_operand *o = w->line->operands;
    int hint = ptx_has(w, "L2::cache_hint");
    const char *type = m->capture['U' - 'A'];
    if (!operand_count(w, 3 + hint, 3 + hint)) return NULL;
    return ptx_say("qe_bulk_store(t, %s, %s, %s, %s, %s, %s);", global_address(w, &o[0]),
                   window_address(w, &o[1]), u32_value(w, &o[2]), reduction(m->capture['A' - 'A']),
                   element(type ? type : ""), ptx_site(w));
}

/* [map, {coordinates}]: "map, rank, (const int32_t[]){..}" */
static const char *tensor_operand(ptx_writer *w, const ptx_match *m, const ptx_operand *o) {
    int rank = m->capture['N' - 'A'][0] - '0';
    if (o->kind != PTX_ADDRESS || o->n_items != 2 || o->items[1].n_items != rank) {
        ptx_problem(w, "expected [map, {%d coordinates}]", rank);
        return "";
    }
    ptx_text x = {0};
    ptx_add(&x, "%s, %d, (const int32_t[]){", global_address(w, o), rank);
    for (int i = 0; i < rank; i++)
        ptx_add(&x, "%s%s", i ? ", " : "", ptx_value(w, &o->items[1].items[i], ptx_named("s32")));
    ptx_add(&x, "}");
    return x.data;
}

static const char *emit_tensor_load(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    int cast = ptx_has(w, "multicast::cluster"), hint = ptx_has(w, "L2::cache_hint");
    if (!operand_count(w, 3 + cast + hint, 3 + cast + hint)) return NULL;
    return ptx_say("qe_tensor_load(t, %s, %s, %s, %s, %s);", window_address(w, &o[0]),
                   tensor_operand(w, m, &o[1]), window_address(w, &o[2]),
                   cast ? ptx_value(w, &o[3], ptx_named("u16")) : "0", ptx_site(w));
}

static const char *emit_tensor_store(ptx_writer *w, const ptx_match *m) { /* and reduction */
    const ptx_operand *o = w->line->operands;
    int hint = ptx_has(w, "L2::cache_hint");
    if (!operand_count(w, 2 + hint, 2 + hint)) return NULL;
    return ptx_say("qe_tensor_store(t, %s, %s, %s, %s);", tensor_operand(w, m, &o[0]),
                   window_address(w, &o[1]), reduction(m->capture['A' - 'A']), ptx_site(w));
}

static const char *emit_nothing(ptx_writer *w, const ptx_match *m) {
    (void)w;
    (void)m;
    return ";";
}

/* ---- mbarrier -------------------------------------------------------------------------------- */

static const char *emit_mbarrier_set(ptx_writer *w, const ptx_match *m) { /* address[, number] */
    const ptx_operand *o = w->line->operands;
    const char *verb = m->capture['V' - 'A'];
    bool alone = strcmp(verb, "inval") == 0;
    if (!operand_count(w, alone ? 1 : 2, alone ? 1 : 2)) return NULL;
    return ptx_say("qe_mbarrier_%s(t, %s%s%s, %s);", verb, ptx_shared_address(w, &o[0]),
                   alone ? "" : ", ", alone ? "" : u32_value(w, &o[1]), ptx_site(w));
}

static const char *emit_mbarrier_arrive(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    bool expects = ptx_has(w, "expect_tx");
    const char *drop = strcmp(m->capture['V' - 'A'], "arrive_drop") == 0 ? "true" : "false";
    int n = w->line->n_operands, state = n && o[0].kind != PTX_ADDRESS;
    if (!operand_count(w, state + 1 + expects, state + 2)) return NULL;
    const char *address = ptx_shared_address(w, &o[state]);
    const char *number = n > state + 1 ? u32_value(w, &o[state + 1]) : "1";
    const char *arrive = ptx_say("qe_mbarrier_arrive%s(t, a, %s, %s, %s)",
                                 ptx_has(w, "noComplete") ? "_no_complete" : "",
                                 expects ? "1" : number, drop, ptx_site(w));
    ptx_text x = {0};
    ptx_add(&x, "{ uint32_t a = %s;", address);
    if (expects) ptx_add(&x, " qe_mbarrier_expect_tx(t, a, %s, %s);", number, ptx_site(w));
    if (state)
        ptx_add(&x, " %s }", ptx_assign(w, &o[0], ptx_named("b64"), arrive));
    else
        ptx_add(&x, " (void)%s; }", arrive);
    return x.data;
}

static const char *emit_mbarrier_wait(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    bool parity = ptx_has(w, "parity"), blocking = strcmp(m->capture['V' - 'A'], "try_wait") == 0;
    if (!operand_count(w, 3, blocking ? 4 : 3)) return NULL;
    const char *c = ptx_say("qe_mbarrier_wait_%s(t, %s, %s, %s, %s)", parity ? "parity" : "state",
                            ptx_shared_address(w, &o[1]),
                            ptx_value(w, &o[2], ptx_named(parity ? "u32" : "u64")),
                            blocking ? "true" : "false", ptx_site(w));
    return ptx_assign(w, &o[0], ptx_named("pred"), c);
}

static const char *emit_cp_async_arrive(ptx_writer *w, const ptx_match *m) {
    (void)m;
    if (!operand_count(w, 1, 1)) return NULL;
    return ptx_say("qe_cp_async_mbarrier_arrive(t, %s, %s, %s);",
                   ptx_shared_address(w, &w->line->operands[0]),
                   ptx_has(w, "noinc") ? "true" : "false", ptx_site(w));
}

#define SHARED  "shared|shared::cta|shared::cluster?"
#define SEM     "release|acquire|relaxed? cta|cluster?"
#define DONE    "mbarrier::complete_tx::bytes"
#define RANK    "N:1d|2d|3d|4d|5d"
#define REDUCED "U:f16|bf16|b32|u32|s32|b64|u64|s64|f32|f64"

const ptx_rule ptx_rules_async[] = {
    {"cp", "async ca|cg shared|shared::cta global L2::cache_hint? L2::64B|L2::128B|L2::256B?", "",
     NULL, emit_cp_async},
    {"cp", "async commit_group", "", "qe_cp_async_commit(t, $S)", NULL},
    {"cp", "async wait_group", "u32", "qe_cp_async_wait(t, $1, $S)", NULL},
    {"cp", "async wait_all", "", "qe_cp_async_wait_all(t, $S)", NULL},
    {"cp", "async mbarrier arrive noinc? " SHARED " b64", "", NULL, emit_cp_async_arrive},

    {"cp",
     "async bulk shared::cluster|shared::cta global " DONE " multicast::cluster? L2::cache_hint?",
     "", NULL, emit_bulk_load},
    {"cp", "async bulk shared::cluster shared::cta " DONE, "", NULL, emit_bulk_shared},
    {"cp", "async bulk global shared::cta bulk_group L2::cache_hint?", "", NULL, emit_bulk_store},
    {"cp",
     "reduce async bulk global shared::cta bulk_group L2::cache_hint? "
     "A:add|min|max|inc|dec|and|or|xor noftz? " REDUCED,
     "", NULL, emit_bulk_store},
    {"cp", "async bulk prefetch L2 global L2::cache_hint?", "", NULL, emit_nothing},
    {"cp", "async bulk commit_group", "", "qe_bulk_commit(t, $S)", NULL},
    {"cp", "async bulk wait_group", "u32", "qe_bulk_wait(t, $1, false, $S)", NULL},
    {"cp", "async bulk wait_group read", "u32", "qe_bulk_wait(t, $1, true, $S)", NULL},

    {"cp",
     "async bulk tensor " RANK " shared::cluster|shared::cta global tile? " DONE
     " multicast::cluster? L2::cache_hint?",
     "", NULL, emit_tensor_load},
    {"cp", "async bulk tensor " RANK " global shared::cta tile? bulk_group L2::cache_hint?", "",
     NULL, emit_tensor_store},
    {"cp",
     "reduce async bulk tensor " RANK
     " global shared::cta A:add|min|max|inc|dec|and|or|xor tile? bulk_group L2::cache_hint?",
     "", NULL, emit_tensor_store},
    {"cp", "async bulk prefetch tensor " RANK " L2 global tile? L2::cache_hint?", "", NULL,
     emit_nothing},

    {"mbarrier", "V:init|inval " SHARED " b64", "", NULL, emit_mbarrier_set},
    {"mbarrier", "V:expect_tx|complete_tx " SEM " " SHARED " b64", "", NULL, emit_mbarrier_set},
    {"mbarrier", "V:arrive|arrive_drop expect_tx? " SEM " " SHARED " b64", "", NULL,
     emit_mbarrier_arrive},
    {"mbarrier", "V:arrive|arrive_drop noComplete " SEM " " SHARED " b64", "", NULL,
     emit_mbarrier_arrive},
    {"mbarrier", "pending_count b64", "=u32 b64", "qe_mbarrier_pending_count($1)", NULL},
    {"mbarrier", "V:test_wait|try_wait parity? " SEM " " SHARED " b64", "", NULL,
     emit_mbarrier_wait},
    {0},
};
