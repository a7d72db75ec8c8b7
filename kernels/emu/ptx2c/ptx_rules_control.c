/* ptx_rules_control.c — branches, calls, barriers, collectives of a warp, fences. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

static bool operand_count(ptx_writer *w, int least, int most) {
    if (w->line->n_operands >= least && w->line->n_operands <= most) return true;
    ptx_problem(w, "%d operands", w->line->n_operands);
    return false;
}

/* ---- branches and calls ---------------------------------------------------------------------- */

static const char *emit_branch(ptx_writer *w, const ptx_match *m) {
    (void)m;
    if (!operand_count(w, 1, 1)) return NULL;
    return ptx_say("goto %s;", ptx_label_code(w, &w->line->operands[0]));
}

static const char *emit_indexed_branch(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    (void)m;
    if (!operand_count(w, 2, 2)) return NULL;
    const char *table = ptx_label_code(w, &o[1]);
    ptx_text x = {0};
    ptx_add(&x, "switch (%s) {", ptx_value(w, &o[0], ptx_named("u32")));
    for (int i = 0; i < w->function->n_labels; i++) {
        const ptx_label *l = &w->function->labels[i];
        for (int j = 0; j < l->n_targets && strcmp(l->c, table) == 0; j++)
            ptx_add(&x, " case %d: goto %s;", j, ptx_label_code(w, &l->targets[j]));
    }
    ptx_add(&x, " default: qe_trap(t, \"brx.idx outside of its table\", %s); }", ptx_site(w));
    return x.data;
}

static const char *emit_exit(ptx_writer *w, const ptx_match *m) {
    (void)m;
    if (!w->function->entry) ptx_problem(w, "exit inside a function that is not inlined");
    return "return;";
}

/* Functions of the CUDA library that the machine has: their arguments stand in memory. */
static const char *library_call(const char *name) {
    if (strcmp(name, "vprintf") == 0) return "qe_vprintf";
    if (strcmp(name, "__assertfail") == 0) return "qe_assert_fail";
    return NULL;
}

static void add_arguments(ptx_writer *w, ptx_text *x, const ptx_operand *list) {
    for (int i = 0; i < list->n_items; i++) {
        const ptx_operand *o = &list->items[i];
        int number;
        const ptx_variable *v = o->kind == PTX_NAME
                                    ? ptx_variable_find(w->module, w->line->scope, o->name, &number)
                                    : NULL;
        if (!v || strcmp(v->space, "param") != 0)
            ptx_problem(w, "an argument or result is no .param variable");
        else
            ptx_add(x, ", %s", v->c);
    }
}

static const char *emit_call(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands, *end = o + w->line->n_operands;
    ptx_text arguments = {0};
    int n = 0;
    (void)m;
    if (o < end && o->kind == PTX_VECTOR) n += o->n_items, add_arguments(w, &arguments, o++);
    const ptx_operand *callee = o++;
    if (o < end && o->kind == PTX_VECTOR) n += o->n_items, add_arguments(w, &arguments, o);
    const char *list = arguments.data ? arguments.data : "";
    if (callee >= end || callee->kind != PTX_NAME) {
        ptx_problem(w, "a call of unknown form");
        return NULL;
    }
    const ptx_function *f = ptx_function_find(w->module, callee->name);
    if (f && f->defined) return ptx_say("%s(t%s);", f->c, list);
    const char *library = library_call(callee->name);
    if (library) return ptx_say("%s(t%s, %s);", library, list, ptx_site(w));
    if (!ptx_register_type(w, callee)) {
        ptx_problem(w, "a call of `%s`, which is not defined here", callee->name);
        return NULL;
    }
    ptx_text type = {0};
    for (int i = 0; i < n; i++) ptx_add(&type, ", char *");
    return ptx_say("((void (*)(qe_thread *%s))(uintptr_t)%s)(t%s);", type.data ? type.data : "",
                   ptx_value(w, callee, ptx_named("u64")), list);
}

/* ---- barriers -------------------------------------------------------------------------------- */

static const char *emit_barrier(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    const ptx_type *u32 = ptx_named("u32");
    bool arrive = strcmp(m->capture['A' - 'A'], "arrive") == 0;
    if (!operand_count(w, arrive ? 2 : 1, 2)) return NULL;
    return ptx_say("qe_barrier_%s(t, %s, %s, %s);", m->capture['A' - 'A'], ptx_value(w, &o[0], u32),
                   w->line->n_operands > 1 ? ptx_value(w, &o[1], u32) : "0", ptx_site(w));
}

static const char *emit_barrier_reduce(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    const ptx_type *u32 = ptx_named("u32"), *pred = ptx_named("pred");
    const char *op = m->capture['A' - 'A'];
    if (!operand_count(w, 3, 4)) return NULL;
    int last = w->line->n_operands - 1;
    const char *name = strcmp(op, "popc") == 0  ? "QE_BAR_POPC"
                       : strcmp(op, "and") == 0 ? "QE_BAR_AND"
                                                : "QE_BAR_OR";
    const char *c = ptx_say("qe_barrier_reduce(t, %s, %s, %s, %s, %s)", ptx_value(w, &o[1], u32),
                            last > 2 ? ptx_value(w, &o[2], u32) : "0", name,
                            ptx_value(w, &o[last], pred), ptx_site(w));
    return ptx_assign(w, &o[0], strcmp(op, "popc") == 0 ? u32 : pred, c);
}

/* ---- collectives with two results ------------------------------------------------------------ */

/* d|p or d alone: `c` uses &p for the predicate. */
static const char *two_results(ptx_writer *w, const ptx_type *type, const char *c) {
    const ptx_operand *o = &w->line->operands[0];
    bool pair = o->kind == PTX_PAIR;
    return ptx_say("{ bool p; uint32_t d = %s; %s %s }", c,
                   ptx_assign(w, pair ? &o->items[0] : o, type, "d"),
                   pair ? ptx_assign(w, &o->items[1], ptx_named("pred"), "p") : "");
}

static const char *emit_shuffle(ptx_writer *w, const ptx_match *m) {
    static const char *const modes[][2] = {
        {"idx", "IDX"}, {"up", "UP"}, {"down", "DOWN"}, {"bfly", "BFLY"}};
    const ptx_operand *o = w->line->operands;
    const ptx_type *u32 = ptx_named("u32");
    const char *mode = "";
    if (!operand_count(w, 5, 5)) return NULL;
    for (int i = 0; i < 4; i++)
        if (strcmp(modes[i][0], m->capture['M' - 'A']) == 0) mode = modes[i][1];
    return two_results(w, ptx_named("b32"),
                       ptx_say("qe_shfl(t, QE_SHFL_%s, %s, %s, %s, %s, &p, %s)", mode,
                               ptx_value(w, &o[4], u32), ptx_value(w, &o[1], u32),
                               ptx_value(w, &o[2], u32), ptx_value(w, &o[3], u32), ptx_site(w)));
}

static const char *emit_match_all(ptx_writer *w, const ptx_match *m) {
    const ptx_operand *o = w->line->operands;
    if (!operand_count(w, 3, 3)) return NULL;
    return two_results(w, ptx_named("b32"),
                       ptx_say("qe_match_all(t, %s, %s, &p, %s)",
                               ptx_value(w, &o[2], ptx_named("u32")), ptx_value(w, &o[1], m->type),
                               ptx_site(w)));
}

static const char *emit_elect(ptx_writer *w, const ptx_match *m) {
    (void)m;
    if (!operand_count(w, 2, 2)) return NULL;
    return two_results(w, ptx_named("b32"),
                       ptx_say("qe_elect(t, %s, &p, %s)",
                               ptx_value(w, &w->line->operands[1], ptx_named("u32")), ptx_site(w)));
}

static const char *emit_redux(ptx_writer *w, const ptx_match *m) {
    static const char *const ops[][3] = {{"add", "ADD", "ADD"},     {"min", "MIN_U", "MIN_S"},
                                         {"max", "MAX_U", "MAX_S"}, {"and", "AND", "AND"},
                                         {"or", "OR", "OR"},        {"xor", "XOR", "XOR"}};
    const ptx_operand *o = w->line->operands;
    const ptx_type *u32 = ptx_named("u32");
    if (!operand_count(w, 3, 3)) return NULL;
    for (int i = 0; i < 6; i++)
        if (strcmp(ops[i][0], m->capture['A' - 'A']) == 0)
            return ptx_assign(w, &o[0], u32,
                              ptx_say("qe_redux(t, QE_REDUX_%s, %s, %s, %s)",
                                      ops[i][m->type->class == PTX_SIGNED ? 2 : 1],
                                      ptx_value(w, &o[2], u32), ptx_value(w, &o[1], u32),
                                      ptx_site(w)));
    return NULL;
}

/* ---- fences ---------------------------------------------------------------------------------- */

static const char *emit_fence(ptx_writer *w, const ptx_match *m) {
    static const char *const scopes[][2] = {
        {"cta", "CTA"}, {"cluster", "CLUSTER"}, {"gl", "GPU"}, {"gpu", "GPU"}, {"sys", "SYS"}};
    for (int i = 0; i < 5; i++)
        if (strcmp(scopes[i][0], m->capture['P' - 'A']) == 0)
            return ptx_say("qe_fence(t, QE_SCOPE_%s, %s);", scopes[i][1], ptx_site(w));
    return NULL;
}

#define TRAP  "qe_trap(t, \"trap\", $S)"
#define SCOPE "P:cta|cluster|gpu|sys"

const ptx_rule ptx_rules_control[] = {
    {"bra", "uni?", "", NULL, emit_branch},
    {"brx", "idx uni?", "", NULL, emit_indexed_branch},
    {"call", "uni?", "", NULL, emit_call},
    {"ret", "uni?", "", "return", NULL},
    {"exit", "", "", NULL, emit_exit},
    {"trap", "", "", TRAP, NULL},
    {"brkpt", "", "", TRAP, NULL},
    {"pmevent", "mask?", "u32", "(void)$1", NULL},
    {"nanosleep", "u32", "u32", "qe_nanosleep(t, $S)", NULL},
    {"griddepcontrol", "launch_dependents|wait", "", "", NULL},
    {"setmaxnreg", "inc sync aligned u32", "u32", "qe_setmaxnreg(t, $1, true, $S)", NULL},
    {"setmaxnreg", "dec sync aligned u32", "u32", "qe_setmaxnreg(t, $1, false, $S)", NULL},

    {"bar", "cta? A:sync|arrive", "", NULL, emit_barrier},
    {"barrier", "cta? A:sync|arrive aligned?", "", NULL, emit_barrier},
    {"bar", "cta? red A:popc|and|or u32|pred", "", NULL, emit_barrier_reduce},
    {"barrier", "cta? red A:popc|and|or aligned? u32|pred", "", NULL, emit_barrier_reduce},
    {"bar", "warp sync", "b32", "qe_warp_sync(t, $1, $S)", NULL},
    {"barrier", "cluster arrive release? aligned?", "", "qe_cluster_arrive(t, true, $S)", NULL},
    {"barrier", "cluster arrive relaxed aligned?", "", "qe_cluster_arrive(t, false, $S)", NULL},
    {"barrier", "cluster wait acquire? aligned?", "", "qe_cluster_wait(t, true, $S)", NULL},
    {"barrier", "cluster wait relaxed aligned?", "", "qe_cluster_wait(t, false, $S)", NULL},

    {"shfl", "sync M:idx|up|down|bfly b32", "", NULL, emit_shuffle},
    {"vote", "sync all pred", "=pred pred u32", "qe_vote(t, QE_VOTE_ALL, $2, $1, $S) != 0", NULL},
    {"vote", "sync any pred", "=pred pred u32", "qe_vote(t, QE_VOTE_ANY, $2, $1, $S) != 0", NULL},
    {"vote", "sync uni pred", "=pred pred u32", "qe_vote(t, QE_VOTE_UNI, $2, $1, $S) != 0", NULL},
    {"vote", "sync ballot b32", "=b32 pred u32", "qe_vote(t, QE_VOTE_BALLOT, $2, $1, $S)", NULL},
    {"match", "any sync T:b32|b64", "=b32 T u32", "qe_match_any(t, $2, $1, $S)", NULL},
    {"match", "all sync T:b32|b64", "", NULL, emit_match_all},
    {"redux", "sync A:add|min|max T:u32|s32", "", NULL, emit_redux},
    {"redux", "sync A:and|or|xor T:b32", "", NULL, emit_redux},
    {"elect", "sync", "", NULL, emit_elect},
    {"activemask", "b32", "=b32", "qe_activemask(t)", NULL},

    {"membar", "P:cta|gl|sys", "", NULL, emit_fence},
    {"fence", "sc|acq_rel|acquire|release? " SCOPE, "", NULL, emit_fence},
    {"fence", "proxy async global|shared::cta|shared::cluster?", "", "qe_fence_proxy_async(t, $S)",
     NULL},
    {"fence",
     "proxy async::generic release|acquire "
     "sync_restrict::shared::cta|sync_restrict::shared::cluster cluster",
     "", "qe_fence_proxy_async(t, $S)", NULL},
    {"fence", "proxy alias", "", "qe_fence(t, QE_SCOPE_CTA, $S)", NULL},
    {"fence", "proxy tensormap::generic acquire|release|acq_rel " SCOPE, "u64?0 u32?0", NULL,
     emit_fence},
    {"fence", "mbarrier_init release cluster", "", "qe_fence_mbarrier_init(t, $S)", NULL},
    {0},
};
