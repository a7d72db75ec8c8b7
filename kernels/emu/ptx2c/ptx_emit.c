/* ptx_emit.c — writes functions: one C statement per instruction, its site, its range. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <stdio.h>
#include <string.h>

void ptx_problem(ptx_writer *w, const char *format, ...) {
    const char *file;
    uint32_t line;
    va_list ap;
    w->failed = true;
    w->module->problems++;
    ptx_place(w->module, w->function, w->line, &file, &line);
    fprintf(stderr, "%s:%u: %s: ", file, line, w->line->text);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* ---- shared memory --------------------------------------------------------------------------- */

static int64_t round_up(int64_t x, int64_t to) { return to ? (x + to - 1) / to * to : x; }

typedef struct layout {
    const ptx_module *m;
    int64_t top, dynamic_align;
} layout;

/* Gives static shared variables that an operand names their place, once (offset -1: none yet). */
static void place_operand(layout *x, const ptx_scope *s, const ptx_operand *o) {
    for (int i = 0; i < o->n_items; i++) place_operand(x, s, &o->items[i]);
    if (o->kind != PTX_NAME) return;
    int number;
    ptx_variable *v = ptx_variable_find(x->m, s, o->name, &number);
    if (!v || strcmp(v->space, "shared") != 0) return;
    if (v->dynamic) {
        if (v->align > x->dynamic_align) x->dynamic_align = v->align;
    } else if (v->offset < 0) {
        v->offset = round_up(x->top, v->align);
        x->top = v->offset + v->bytes;
    }
}

static void place_function(layout *x, const ptx_function *f) {
    for (int i = 0; i < f->n_lines; i++)
        for (int j = 0; j < f->lines[i].n_operands; j++)
            place_operand(x, f->lines[i].scope, &f->lines[i].operands[j]);
}

static void forget_places(ptx_scope *s) {
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->variables[i].space, "shared") == 0) s->variables[i].offset = -1;
}

/* What the functions use comes first, at one place in every kernel that calls any. */
static void lay_out_shared(ptx_module *m, ptx_function *f) {
    layout x = {.m = m};
    forget_places(&m->globals);
    for (int i = 0; i < m->n_functions; i++)
        for (int j = 0; j < m->functions[i]->n_scopes; j++)
            forget_places(m->functions[i]->scopes[j]);
    if (!f->entry || f->calls)
        for (int i = 0; i < m->n_functions; i++)
            if (!m->functions[i]->entry) place_function(&x, m->functions[i]);
    if (f->entry) place_function(&x, f);
    f->static_shared = round_up(x.top, x.dynamic_align);
}

/* ---- declarations ---------------------------------------------------------------------------- */

char *ptx_signature(const ptx_function *f) {
    ptx_text x = {0};
    ptx_add(&x, "static void %s(qe_thread *t", f->c);
    if (f->entry)
        ptx_add(&x, ", char *params");
    else
        for (int i = 0; i < f->n_results + f->n_params; i++)
            ptx_add(&x, ", char *%s", f->top->variables[i].c);
    ptx_add(&x, ")");
    return x.data;
}

static void declare_registers(const ptx_variable *v, ptx_text *out) {
    enum { PER_LINE = 16 };
    const char *zero = v->type->class == PTX_PRED ? "false" : "0";
    if (!v->range) ptx_add(out, "    %s %s = %s;\n", v->type->storage, v->c, zero);
    for (int i = 0; i < v->range; i++) {
        const char *before = i % PER_LINE ? "," : ptx_say("    %s", v->type->storage);
        bool last = i % PER_LINE == PER_LINE - 1 || i == v->range - 1;
        ptx_add(out, "%s %s%d = %s%s", before, v->c, i, zero, last ? ";\n" : "");
    }
}

static void declare_locals(ptx_writer *w, ptx_text *out) {
    ptx_function *f = w->function;
    for (int i = 0; i < f->n_scopes; i++)
        for (int j = 0; j < f->scopes[i]->n; j++) {
            ptx_variable *v = &f->scopes[i]->variables[j];
            bool parameter = i == 0 && j < f->n_results + f->n_params;
            if (strcmp(v->space, "reg") == 0) {
                declare_registers(v, out);
            } else if (strcmp(v->space, "shared") != 0 && !parameter) {
                ptx_add(out, "    _Alignas(%lld) char %s[%lld];\n", (long long)v->align, v->c,
                        (long long)(v->bytes ? v->bytes : 1));
                if (strcmp(v->space, "local") == 0) f->local_bytes += v->bytes;
            }
        }
    ptx_add(out, "    bool cc = false;\n    (void)cc;\n");
}

/* ---- ranges and instructions ----------------------------------------------------------------- */

static void close_range(ptx_writer *w) {
    if (w->range_first < 0) return;
    ptx_add(&w->ranges, "    {%d, %d},\n", w->range_first, w->n_sites - w->range_first);
    w->range_first = -1;
}

static const char *open_range(ptx_writer *w) { /* the statement that counts it */
    if (w->range_first >= 0) return "";
    w->range_first = w->n_sites;
    return ptx_say("R[%d]++; ", w->n_ranges++);
}

static bool ends_block(const ptx_line *l) {
    static const char ops[] = "bra|brx|ret|exit";
    return ptx_one_of(l->op, ops, strlen(ops));
}

static const char *guard_code(ptx_writer *w) {
    const ptx_line *l = w->line;
    const ptx_operand o = {.kind = PTX_NAME, .name = l->guard, .negated = l->guard_not};
    return ptx_value(w, &o, ptx_named("pred"));
}

static void write_instruction(ptx_writer *w) {
    const ptx_line *l = w->line;
    const char *file;
    uint32_t line;
    bool ends = ends_block(l), alone = l->guard && !ends;
    if (alone) close_range(w);
    const char *count = open_range(w);
    w->site = w->n_sites++;
    w->failed = false;
    ptx_place(w->module, w->function, l, &file, &line);
    uint32_t caller = ptx_caller(w->module, l);
    ptx_add(&w->tables, "    {\"%s\", %u, \"%s\"", file, line, ptx_quoted(l->text));
    if (caller) ptx_add(&w->tables, ", \"%s\", %u", w->module->shown, caller);
    ptx_add(&w->tables, "},\n");
    const char *code = ptx_instruction_code(w);
    ptx_add(&w->body, "#line %u \"%s\"\n", line, file);
    if (alone)
        ptx_add(&w->body, "    if (%s) { %s%s }\n", guard_code(w), count, code ? code : ";");
    else if (l->guard)
        ptx_add(&w->body, "    %sif (%s) %s\n", count, guard_code(w), code ? code : ";");
    else
        ptx_add(&w->body, "    %s%s\n", count, code ? code : ";");
    if (alone || ends) close_range(w);
}

static void write_function(ptx_writer *w, ptx_function *f, ptx_text *out) {
    w->function = f;
    w->body = (ptx_text){0};
    w->range_first = -1;
    f->first_range = w->n_ranges;
    lay_out_shared(w->module, f);
    for (int i = 0; i < f->n_lines; i++) {
        w->line = &f->lines[i];
        if (w->line->op) {
            write_instruction(w);
        } else {
            close_range(w);
            ptx_add(&w->body, "%s:;\n", w->line->text);
        }
    }
    close_range(w);
    f->n_ranges = w->n_ranges - f->first_range;
    ptx_add(out, "\n%s {\n", ptx_signature(f));
    declare_locals(w, out);
    ptx_add(out, "%s}\n", w->body.data ? w->body.data : "");
}

char *ptx_translate(ptx_module *m) {
    ptx_writer w = {.module = m, .range_first = -1};
    ptx_text functions = {0}, out = {0};
    for (int i = 0; i < m->n_functions; i++)
        if (m->functions[i]->defined) write_function(&w, m->functions[i], &functions);
    ptx_module_head(&w, &out);
    ptx_add(&out, "%s", functions.data ? functions.data : "");
    ptx_module_tables(&w, &out);
    return out.data;
}
