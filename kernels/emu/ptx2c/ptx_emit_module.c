/* ptx_emit_module.c — writes what surrounds the functions: device variables before them; sites,
 * ranges, kernels and their registration after them. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <string.h>

/* ---- device variables ------------------------------------------------------------------------ */

static bool is_device_variable(const ptx_variable *v) {
    return strcmp(v->space, "global") == 0 || strcmp(v->space, "const") == 0;
}

static bool names_symbols(const ptx_variable *v) {
    for (int i = 0; i < v->n_values; i++)
        if (v->values[i].kind == PTX_NAME) return true;
    return false;
}

static const char *address_value(const ptx_module *m, const ptx_operand *o) {
    int number;
    if (o->kind == PTX_INTEGER) return ptx_say("0x%llxull", (unsigned long long)o->bits);
    const ptx_variable *v = ptx_variable_find(m, NULL, o->name, &number);
    const ptx_function *f = ptx_function_find(m, o->name);
    if (v && is_device_variable(v))
        return ptx_say("(uint64_t)(uintptr_t)G_%s + %lld", v->c, (long long)o->offset);
    if (f && f->defined) return ptx_say("(uint64_t)(uintptr_t)%s", f->c);
    ptx_stop("%s: an initial value names `%s`, which is no device variable", m->shown, o->name);
}

/* The bits of a value of that type: 1.5 and 0f3fc00000 are the same f32. */
static uint64_t value_bits(const ptx_operand *o, const ptx_type *type) {
    if (o->kind != PTX_REAL || o->width == type->bits) return o->bits;
    double d;
    float f;
    uint64_t bits = o->bits;
    uint32_t half;
    memcpy(&d, &bits, sizeof d);
    f = (float)d;
    memcpy(&half, &f, sizeof half);
    return half;
}

static void declare_variable(const ptx_variable *v, ptx_text *out) {
    int64_t align = v->align > 16 ? v->align : 16;
    if (names_symbols(v))
        ptx_add(out, "static _Alignas(%lld) uint64_t G_%s[%lld]", (long long)align, v->c,
                (long long)(v->bytes + 7) / 8);
    else
        ptx_add(out, "static _Alignas(%lld) uint8_t G_%s[%lld]", (long long)align, v->c,
                (long long)(v->bytes ? v->bytes : 1));
}

static void define_variable(const ptx_module *m, const ptx_variable *v, ptx_text *out) {
    int bytes = ptx_type_bytes(v->type);
    bool symbols = names_symbols(v);
    if (symbols && bytes != 8)
        ptx_stop("%s: `%s` is made of pieces of addresses", m->shown, v->name);
    declare_variable(v, out);
    ptx_add(out, " = {");
    for (int i = 0; i < v->n_values; i++) {
        if (symbols) {
            ptx_add(out, "%s, ", address_value(m, &v->values[i]));
            continue;
        }
        uint64_t bits = value_bits(&v->values[i], v->type);
        for (int b = 0; b < bytes; b++) ptx_add(out, "%u,", (unsigned)(bits >> 8 * b & 255));
        if (i % 16 == 15) ptx_add(out, "\n    ");
    }
    ptx_add(out, "};\n");
}

void ptx_module_head(ptx_writer *w, ptx_text *out) {
    ptx_module *m = w->module;
    ptx_add(out, "/* Translated from the PTX of %s, sm_%d. */\n", m->shown, m->arch);
    ptx_add(out, "#include \"kernels/emu/ptx_ops.h\"\n\n");
    ptx_add(out, "static const qe_site S[%d];\nstatic uint64_t R[%d];\n", w->n_sites + 1,
            w->n_ranges + 1);
    for (int i = 0; i < m->globals.n; i++) {
        const ptx_variable *v = &m->globals.variables[i];
        if (!is_device_variable(v)) continue;
        if (v->external)
            ptx_stop("%s: `%s` is defined elsewhere: device code is not linked", m->shown, v->name);
        declare_variable(v, out);
        ptx_add(out, ";\n");
    }
    for (int i = 0; i < m->n_functions; i++)
        if (m->functions[i]->defined && !m->functions[i]->entry)
            ptx_add(out, "%s;\n", ptx_signature(m->functions[i]));
    for (int i = 0; i < m->globals.n; i++) {
        const ptx_variable *v = &m->globals.variables[i];
        if (is_device_variable(v) && v->n_values) define_variable(m, v, out);
    }
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void kernel_row(const ptx_function *f, ptx_text *params, ptx_text *kernels) {
    const uint32_t *r = f->required_threads, *c = f->required_cluster;
    if (f->n_params) ptx_add(params, "static const qe_param P_%s[] = {", f->c);
    for (int i = 0; i < f->n_params; i++)
        ptx_add(params, "{%lld, %lld}, ", (long long)f->top->variables[i].offset,
                (long long)f->top->variables[i].bytes);
    if (f->n_params) ptx_add(params, "};\n");
    ptx_add(kernels, "    {\"%s\", %s, %lld, %lld, %lld, %d, %s%s, %u, ", f->name, f->c,
            (long long)f->static_shared, (long long)f->local_bytes, (long long)f->param_bytes,
            f->n_params, f->n_params ? "P_" : "NULL", f->n_params ? f->c : "", f->max_threads);
    ptx_add(kernels, "{%u, %u, %u}, {%u, %u, %u}, %u, %d, %d, NULL},\n", r[0], r[1], r[2], c[0],
            c[1], c[2], f->min_blocks, f->first_range, f->n_ranges);
}

void ptx_module_tables(ptx_writer *w, ptx_text *out) {
    ptx_module *m = w->module;
    ptx_text params = {0}, kernels = {0}, symbols = {0};
    int n_kernels = 0, n_symbols = 0;
    for (int i = 0; i < m->n_functions; i++) {
        const ptx_function *f = m->functions[i];
        if (!f->entry || !f->defined) continue;
        kernel_row(f, &params, &kernels);
        n_kernels++;
    }
    for (int i = 0; i < m->globals.n; i++) {
        const ptx_variable *v = &m->globals.variables[i];
        if (!is_device_variable(v)) continue;
        ptx_add(&symbols, "    {\"%s\", G_%s, %lld},\n", v->name, v->c, (long long)v->bytes);
        n_symbols++;
    }
    ptx_add(out, "\n#line 1 \"tables of %s\"\n", m->shown);
    ptx_add(out, "static const qe_site S[%d] = {\n%s    {0}\n};\n", w->n_sites + 1,
            w->tables.data ? w->tables.data : "");
    ptx_add(out, "static const qe_range ranges[%d] = {\n%s    {0}\n};\n", w->n_ranges + 1,
            w->ranges.data ? w->ranges.data : "");
    ptx_add(out, "%s", params.data ? params.data : "");
    ptx_add(out, "static qe_kernel kernels[] = {\n%s    {0}\n};\n",
            kernels.data ? kernels.data : "");
    ptx_add(out, "static const qe_symbol symbols[] = {\n%s    {0}\n};\n",
            symbols.data ? symbols.data : "");
    ptx_add(
        out,
        "static qe_module module = {\"%s\", %d, kernels, %d, symbols, %d, S, %d, ranges, R, %d, "
        "NULL};\n",
        m->shown, m->arch, n_kernels, n_symbols, w->n_sites, w->n_ranges);
    ptx_add(out, "__attribute__((constructor)) static void enter(void) { "
                 "qe_module_register(&module); }\n");
}
