/* ptx_value.c — operands as C: registers, constants, symbols, special registers and addresses. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

typedef struct special {
    const char *name, *c;
} special;

/* The C has the register's own width or less. */
static const special specials[] = {
    {"%tid.x", "t->tid[0]"},
    {"%tid.y", "t->tid[1]"},
    {"%tid.z", "t->tid[2]"},
    {"%ntid.x", "t->block->ntid[0]"},
    {"%ntid.y", "t->block->ntid[1]"},
    {"%ntid.z", "t->block->ntid[2]"},
    {"%ctaid.x", "t->block->ctaid[0]"},
    {"%ctaid.y", "t->block->ctaid[1]"},
    {"%ctaid.z", "t->block->ctaid[2]"},
    {"%nctaid.x", "t->block->nctaid[0]"},
    {"%nctaid.y", "t->block->nctaid[1]"},
    {"%nctaid.z", "t->block->nctaid[2]"},
    {"%clusterid.x", "t->block->clusterid[0]"},
    {"%clusterid.y", "t->block->clusterid[1]"},
    {"%clusterid.z", "t->block->clusterid[2]"},
    {"%nclusterid.x", "t->block->nclusterid[0]"},
    {"%nclusterid.y", "t->block->nclusterid[1]"},
    {"%nclusterid.z", "t->block->nclusterid[2]"},
    {"%cluster_ctaid.x", "t->block->cluster_ctaid[0]"},
    {"%cluster_ctaid.y", "t->block->cluster_ctaid[1]"},
    {"%cluster_ctaid.z", "t->block->cluster_ctaid[2]"},
    {"%cluster_nctaid.x", "t->block->cluster_nctaid[0]"},
    {"%cluster_nctaid.y", "t->block->cluster_nctaid[1]"},
    {"%cluster_nctaid.z", "t->block->cluster_nctaid[2]"},
    {"%cluster_ctarank", "t->block->cluster_rank"},
    {"%cluster_nctarank", "t->block->cluster_size"},
    {"%is_explicit_cluster", "(t->block->cluster_size > 1)"},
    {"%laneid", "t->lane"},
    {"%warpid", "t->warp->index"},
    {"%nwarpid", "t->block->n_warps"},
    {"%lanemask_eq", "(1u << t->lane)"},
    {"%lanemask_lt", "((1u << t->lane) - 1u)"},
    {"%lanemask_le", "((2u << t->lane) - 1u)"},
    {"%lanemask_gt", "~((2u << t->lane) - 1u)"},
    {"%lanemask_ge", "~((1u << t->lane) - 1u)"},
    {"%dynamic_smem_size", "t->block->dynamic_bytes"},
    {"%total_smem_size", "t->block->shared_bytes"},
    {"%aggr_smem_size", "t->block->shared_bytes"},
    {"%smid", "qe_sm_id(t)"},
    {"%nsmid", "qe_sm_count()"},
    {"%gridid", "t->block->cluster->launch->id"},
    {"%clock", "(uint32_t)qe_clock()"},
    {"%clock_hi", "(uint32_t)(qe_clock() >> 32)"},
    {"%clock64", "qe_clock()"},
    {"%globaltimer", "qe_clock()"},
    {"%globaltimer_lo", "(uint32_t)qe_clock()"},
    {"%globaltimer_hi", "(uint32_t)(qe_clock() >> 32)"},
    {"WARP_SZ", "32u"},
};

static const char *special_code(const char *name) {
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++)
        if (strcmp(specials[i].name, name) == 0) return specials[i].c;
    return NULL;
}

const char *ptx_site(const ptx_writer *w) { return ptx_say("&S[%d]", w->site); }

bool ptx_has(const ptx_writer *w, const char *modifier) {
    for (int i = 0; i < w->line->n_parts; i++)
        if (strcmp(w->line->parts[i], modifier) == 0) return true;
    return false;
}

/* ---- symbols and registers ------------------------------------------------------------------- */

static const ptx_variable *find(const ptx_writer *w, const ptx_operand *o, int *number) {
    if (o->kind != PTX_NAME) return NULL;
    return ptx_variable_find(w->module, w->line->scope, o->name, number);
}

static const char *register_code(const ptx_variable *v, int number) {
    return number < 0 ? v->c : ptx_say("%s%d", v->c, number);
}

const ptx_type *ptx_register_type(ptx_writer *w, const ptx_operand *o) {
    int number;
    const ptx_variable *v = find(w, o, &number);
    return v && strcmp(v->space, "reg") == 0 ? v->type : NULL;
}

/* The address of a variable, as an integer of C. */
static const char *symbol_code(ptx_writer *w, const ptx_variable *v, int64_t offset) {
    const char *base;
    (void)w;
    if (strcmp(v->space, "shared") == 0) {
        if (v->dynamic)
            base = "t->block->dynamic_shared";
        else
            base = ptx_say("(t->block->shared_low + %lldu)", (long long)v->offset);
    } else if (strcmp(v->space, "param") == 0 && !v->argument && v->bytes && v->offset >= 0 &&
               w->function->entry && v < w->function->top->variables + w->function->n_params &&
               v >= w->function->top->variables) {
        base = ptx_say("(uint64_t)(uintptr_t)(params + %lld)", (long long)v->offset);
    } else if (strcmp(v->space, "global") == 0 || strcmp(v->space, "const") == 0) {
        base = ptx_say("(uint64_t)(uintptr_t)G_%s", v->c);
    } else {
        base = ptx_say("(uint64_t)(uintptr_t)%s", v->c);
    }
    return offset ? ptx_say("(%s + %lld)", base, (long long)offset) : base;
}

/* A name that is no register: variable, function, special register. */
static const char *name_code(ptx_writer *w, const ptx_operand *o, const char **space) {
    int number;
    const ptx_variable *v = find(w, o, &number);
    *space = NULL;
    if (v) {
        *space = v->space;
        return symbol_code(w, v, o->offset);
    }
    const char *c = special_code(o->name);
    if (c) return c;
    const ptx_function *f = ptx_function_find(w->module, o->name);
    if (f && f->defined) return ptx_say("(uint64_t)(uintptr_t)%s", f->c);
    ptx_problem(w, "the name `%s` is unknown", o->name);
    return "0";
}

/* ---- values ---------------------------------------------------------------------------------- */

static const char *constant(const ptx_operand *o, const ptx_type *type) {
    if (type->class == PTX_FLOAT && o->kind == PTX_INTEGER)
        return ptx_say("(%s)%lld", type->c, (long long)o->bits);
    if (type->class == PTX_FLOAT && o->width != type->bits) { /* 1.5 of an f32 */
        double d;
        float f;
        uint64_t bits = o->bits;
        uint32_t half = (uint32_t)bits;
        if (o->width == 64)
            memcpy(&d, &bits, sizeof d);
        else
            memcpy(&f, &half, sizeof f), d = (double)f;
        return ptx_say("(%s)%a", type->c, d);
    }
    if (type->bits == 32 && type->class == PTX_FLOAT)
        return ptx_say("qe_f32(0x%08llxu)", (unsigned long long)o->bits);
    if (type->class == PTX_FLOAT)
        return ptx_say("qe_f64(0x%016llxull)", (unsigned long long)o->bits);
    if (type->class == PTX_PRED) return o->bits ? "true" : "false";
    if (o->bits < 1 << 16) return ptx_say("(%s)%llu", type->c, (unsigned long long)o->bits);
    return ptx_say("(%s)0x%llxull", type->c, (unsigned long long)o->bits);
}

static const char *register_value(const ptx_variable *v, int number, const ptx_type *type) {
    const char *c = register_code(v, number);
    if (v->type->class == PTX_FLOAT && type->class == PTX_FLOAT) {
        if (v->type->bits == type->bits) return c;
    } else if (v->type->class == PTX_FLOAT) {
        return ptx_say("(%s)qe_bits%d(%s)", type->c, v->type->bits, c);
    } else if (type->class == PTX_FLOAT) {
        return ptx_say("qe_f%d(%s)", type->bits, c);
    }
    return strcmp(type->c, v->type->storage) == 0 ? c : ptx_say("(%s)%s", type->c, c);
}

const char *ptx_value(ptx_writer *w, const ptx_operand *o, const ptx_type *type) {
    int number;
    const char *space, *c;
    if (o->kind == PTX_INTEGER || o->kind == PTX_REAL) {
        c = constant(o, type);
    } else if (o->kind != PTX_NAME) {
        ptx_problem(w, "an operand is no value");
        return "0";
    } else {
        const ptx_variable *v = find(w, o, &number);
        if (v && strcmp(v->space, "reg") == 0) {
            if ((v->type->class == PTX_PRED) != (type->class == PTX_PRED))
                ptx_problem(w, "`%s` is of type .%s, expected .%s", o->name, v->type->name,
                            type->name);
            c = register_value(v, number, type);
        } else {
            c = ptx_say("(%s)%s", type->c, name_code(w, o, &space));
        }
    }
    return o->negated ? ptx_say("!%s", c) : c;
}

const char *ptx_assign(ptx_writer *w, const ptx_operand *o, const ptx_type *type,
                       const char *expression) {
    if (o->kind == PTX_SINK) return ptx_say("(void)(%s);", expression);
    int number;
    const ptx_variable *v = find(w, o, &number);
    if (!v || strcmp(v->space, "reg") != 0) {
        ptx_problem(w, "the result is no register");
        return ";";
    }
    const char *c = register_code(v, number);
    if ((v->type->class == PTX_PRED) != (type->class == PTX_PRED))
        ptx_problem(w, "`%s` is of type .%s, expected .%s", o->name, v->type->name, type->name);
    if (v->type->class == PTX_FLOAT && type->class != PTX_FLOAT)
        return ptx_say("%s = qe_f%d(%s);", c, v->type->bits, expression);
    if (v->type->class != PTX_FLOAT && type->class == PTX_FLOAT)
        return ptx_say("%s = qe_bits%d(%s);", c, type->bits, expression);
    if (type->class == PTX_PRED || strcmp(type->c, v->type->storage) == 0)
        return ptx_say("%s = %s;", c, expression);
    return ptx_say("%s = (%s)(%s)(%s);", c, v->type->storage, type->c, expression);
}

/* ---- addresses ------------------------------------------------------------------------------- */

const char *ptx_address(ptx_writer *w, const ptx_operand *o, const char **space) {
    *space = NULL;
    if (o->kind != PTX_ADDRESS) {
        ptx_problem(w, "an operand is no address");
        return "0";
    }
    const ptx_operand *base = &o->items[0];
    if (base->kind == PTX_INTEGER) return ptx_say("%lluu", (unsigned long long)base->bits);
    const ptx_type *type = ptx_register_type(w, base);
    if (!type) {
        if (base->kind == PTX_NAME) return name_code(w, base, space);
        ptx_problem(w, "an address of unknown form");
        return "0";
    }
    const char *c = ptx_value(w, base, ptx_named(type->bits == 64 ? "u64" : "u32"));
    if (!base->offset) return c;
    return ptx_say("(%s %c %llu)", c, base->offset < 0 ? '-' : '+',
                   (unsigned long long)(base->offset < 0 ? -base->offset : base->offset));
}

const char *ptx_shared_address(ptx_writer *w, const ptx_operand *o) {
    const char *space;
    const char *c = ptx_address(w, o, &space);
    if (ptx_has(w, "shared") || ptx_has(w, "shared::cta") || ptx_has(w, "shared::cluster") ||
        (space && strcmp(space, "shared") == 0))
        return ptx_say("(uint32_t)(%s)", c);
    return ptx_say("qe_shared_address(t, (const void *)(uintptr_t)(%s), %s)", c, ptx_site(w));
}

const char *ptx_label_code(ptx_writer *w, const ptx_operand *o) {
    const ptx_function *f = w->function;
    for (const ptx_scope *s = w->line->scope; s; s = s->parent)
        for (int i = 0; i < f->n_labels; i++)
            if (f->labels[i].scope == s && o->kind == PTX_NAME &&
                strcmp(f->labels[i].name, o->name) == 0)
                return f->labels[i].c;
    ptx_problem(w, "no label `%s`", o->kind == PTX_NAME ? o->name : "?");
    return "none";
}
