/* ptx_parse.c — reads functions, variables, labels and instructions of a PTX file. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <stdlib.h>
#include <string.h>

typedef struct parser {
    ptx_module *m;
    int at;
    ptx_function *f;
    ptx_scope *scope;
    int loc;
    uint32_t used_bytes; /* of the next instruction; 0 = all */
} parser;

static const ptx_token *token(const parser *p) { return &p->m->tokens[p->at]; }
static const char *text(const parser *p) { return token(p)->text; }
static bool is(const parser *p, const char *s) {
    return token(p)->kind != PTX_STRING && strcmp(text(p), s) == 0;
}
static bool accept(parser *p, const char *s) {
    if (!is(p, s)) return false;
    p->at++;
    return true;
}
static _Noreturn void unexpected(const parser *p) {
    const ptx_token *t = token(p);
    ptx_stop("%s: line %u of the PTX: unexpected %s", p->m->shown, t->line,
             t->kind == PTX_END ? "end of the file" : ptx_say("`%s`", t->text));
}
static void expect(parser *p, const char *s) {
    if (!accept(p, s)) unexpected(p);
}
static int64_t integer(parser *p) {
    uint64_t bits;
    int width;
    if (token(p)->kind != PTX_NUMBER || !ptx_number(text(p), &bits, &width) || width) unexpected(p);
    p->at++;
    return (int64_t)bits;
}
static void skip_line(parser *p) {
    uint32_t line = token(p)->line;
    while (token(p)->kind != PTX_END && token(p)->line == line) p->at++;
}

/* ---- where things come from ------------------------------------------------------------------ */

static void parse_file(parser *p) { /* .file 1 "path" */
    ptx_module *m = p->m;
    uint32_t line = token(p)->line;
    p->at++;
    int64_t number = integer(p);
    if (token(p)->kind != PTX_STRING || number < 0 || number > 1 << 20) unexpected(p);
    if (number >= m->n_files) {
        const char **files = ptx_alloc((size_t)(number + 1) * sizeof *files);
        for (int i = 0; i < m->n_files; i++) files[i] = m->files[i];
        m->files = files;
        m->n_files = (int)number + 1;
    }
    m->files[number] = text(p);
    while (token(p)->kind != PTX_END && token(p)->line == line) p->at++;
}

/* .loc file line column[, function_name label, inlined_at file line column]: callers come first. */
static void parse_loc(parser *p) {
    enum { LOOK_BACK = 256 };
    ptx_module *m = p->m;
    uint32_t line = token(p)->line;
    ptx_loc loc = {.parent = -1};
    p->at++;
    loc.file = (int)integer(p);
    loc.line = (uint32_t)integer(p);
    for (; token(p)->kind != PTX_END && token(p)->line == line; p->at++) {
        if (!is(p, "inlined_at")) continue;
        p->at++;
        int file = (int)integer(p);
        uint32_t caller = (uint32_t)integer(p);
        for (int i = m->n_locs - 1; i >= 0 && i >= m->n_locs - LOOK_BACK; i--)
            if (m->locs[i].file == file && m->locs[i].line == caller) {
                loc.parent = i;
                break;
            }
        if (loc.parent < 0) {
            m->locs = ptx_grow(m->locs, m->n_locs, &m->locs_capacity, sizeof *m->locs);
            loc.parent = m->n_locs;
            m->locs[m->n_locs++] = (ptx_loc){.file = file, .line = caller, .parent = -1};
        }
    }
    m->locs = ptx_grow(m->locs, m->n_locs, &m->locs_capacity, sizeof *m->locs);
    m->locs[m->n_locs] = loc;
    p->loc = m->n_locs++;
}

/* ---- variables ------------------------------------------------------------------------------- */

static const ptx_type *parse_type(parser *p) {
    const ptx_type *t = text(p)[0] == '.' ? ptx_type_find(text(p) + 1, strlen(text(p)) - 1) : NULL;
    if (!t)
        ptx_stop("%s: line %u of the PTX: unknown type `%s`", p->m->shown, token(p)->line, text(p));
    p->at++;
    return t;
}

/* After the space: .align 4 .b8 name[8] = {..}, or .reg's list. */
static void parse_variable(parser *p, ptx_scope *s, const char *space, bool external) {
    int64_t align = 0;
    int vector = 1;
    const ptx_type *type = NULL;
    for (;;) {
        if (accept(p, ".align"))
            align = integer(p);
        else if (accept(p, ".v2"))
            vector = 2;
        else if (accept(p, ".v4"))
            vector = 4;
        else if (accept(p, ".attribute"))
            while (!accept(p, ")")) p->at++;
        else if (accept(p, ".ptr")) {
            while (text(p)[0] == '.' && !is(p, ".align")) p->at++;
            if (accept(p, ".align")) integer(p); /* of what it points to */
        } else if (!type && text(p)[0] == '.')
            type = parse_type(p);
        else
            break;
    }
    if (!type || token(p)->kind != PTX_WORD) unexpected(p);
    do {
        ptx_variable *v = ptx_scope_add(s, text(p));
        p->at++;
        v->space = space;
        v->type = type;
        v->external = external;
        v->bytes = (int64_t)ptx_type_bytes(type) * vector;
        v->align = align > v->bytes ? align : align ? align : v->bytes;
        if (s->id)
            v->c = ptx_say("%s_%d", ptx_identifier(v->name), s->id);
        else
            v->c = ptx_identifier(v->name);
        if (accept(p, "<")) {
            v->range = (int)integer(p);
            expect(p, ">");
        }
        while (accept(p, "[")) {
            if (is(p, "]"))
                v->dynamic = true;
            else
                v->bytes *= integer(p);
            expect(p, "]");
        }
        if (accept(p, "=")) v->values = ptx_parse_values(p->m, &p->at, &v->n_values);
    } while (accept(p, ","));
}

static bool parse_spaced_variable(parser *p, ptx_scope *s, bool external) {
    static const char spaces[] = "reg|local|param|shared|global|const";
    const char *word = text(p);
    if (word[0] != '.' || !ptx_one_of(word + 1, spaces, strlen(spaces))) return false;
    p->at++;
    parse_variable(p, s, word + 1, external);
    expect(p, ";");
    return true;
}

/* ---- instructions ---------------------------------------------------------------------------- */

static const char *instruction_text(const ptx_module *m, size_t from, size_t to) {
    ptx_text x = {0};
    bool blank = false;
    for (const char *s = m->text + from; s < m->text + to; s++) {
        if (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r') {
            blank = true;
            continue;
        }
        if (blank && x.length) ptx_add(&x, " ");
        ptx_add(&x, "%c", *s);
        blank = false;
    }
    return x.data;
}

static ptx_line *add_line(parser *p) {
    ptx_function *f = p->f;
    f->lines = ptx_grow(f->lines, f->n_lines, &f->lines_capacity, sizeof *f->lines);
    ptx_line *l = &f->lines[f->n_lines++];
    l->scope = p->scope;
    l->loc = p->loc;
    l->at = token(p)->line;
    return l;
}

static void split_opcode(parser *p, ptx_line *l, const char *word) {
    size_t n = strcspn(word, ".");
    l->op = ptx_copy(word, n);
    for (word += n; *word == '.'; word += n) {
        n = strcspn(++word, ".");
        if (l->n_parts == PTX_MAX_PARTS) unexpected(p);
        l->parts[l->n_parts++] = ptx_copy(word, n);
    }
}

/* .pragma "used_bytes_mask N": the next load reads bytes that nobody uses. */
static void parse_pragma(parser *p) {
    static const char mask[] = "used_bytes_mask ";
    for (p->at++; !accept(p, ";"); p->at++)
        if (token(p)->kind == PTX_STRING && ptx_begins(text(p), mask))
            p->used_bytes = (uint32_t)strtoul(text(p) + strlen(mask), NULL, 10);
}

static void parse_instruction(parser *p) {
    ptx_line *l = add_line(p);
    l->used = p->used_bytes;
    p->used_bytes = 0;
    size_t from = token(p)->at;
    if (accept(p, "@")) {
        l->guard_not = accept(p, "!");
        l->guard = text(p);
        p->at++;
    }
    if (token(p)->kind != PTX_WORD) unexpected(p);
    split_opcode(p, l, text(p));
    p->at++;
    l->operands = ptx_parse_operands(p->m, &p->at, &l->n_operands);
    l->text = instruction_text(p->m, from, token(p)->at);
    if (strcmp(l->op, "call") == 0) p->f->calls = true;
    expect(p, ";");
}

static void parse_label(parser *p) { /* name: and what may follow it instead of an instruction */
    ptx_function *f = p->f;
    const char *name = text(p);
    p->at += 2;
    if (accept(p, ".callprototype")) {
        while (!accept(p, ";")) p->at++;
        return;
    }
    f->labels = ptx_grow(f->labels, f->n_labels, &f->labels_capacity, sizeof *f->labels);
    ptx_label *label = &f->labels[f->n_labels++];
    label->name = name;
    label->scope = p->scope;
    label->c = ptx_say("L%d_%s", p->scope->id, ptx_identifier(name));
    if (accept(p, ".branchtargets")) {
        label->targets = ptx_parse_operands(p->m, &p->at, &label->n_targets);
        expect(p, ";");
        return;
    }
    ptx_line *l = add_line(p);
    l->text = label->c;
}

static void open_scope(parser *p) {
    ptx_function *f = p->f;
    ptx_scope *s = ptx_alloc(sizeof *s);
    s->parent = p->scope;
    f->scopes = ptx_grow(f->scopes, f->n_scopes, &f->scopes_capacity, sizeof *f->scopes);
    s->id = f->n_scopes;
    f->scopes[f->n_scopes++] = s;
    p->scope = s;
}

static void parse_body(parser *p) { /* after the { */
    for (;;) {
        const ptx_token *next = token(p) + 1;
        if (accept(p, "}")) {
            if (p->scope == p->f->top) return;
            p->scope = p->scope->parent;
        } else if (accept(p, "{")) {
            open_scope(p);
        } else if (is(p, ".loc")) {
            parse_loc(p);
        } else if (is(p, ".file")) {
            parse_file(p);
        } else if (is(p, ".pragma")) {
            parse_pragma(p);
        } else if (accept(p, ";") || parse_spaced_variable(p, p->scope, false)) {
            continue;
        } else if (token(p)->kind == PTX_WORD && strcmp(next->text, ":") == 0) {
            parse_label(p);
        } else if (token(p)->kind == PTX_WORD || is(p, "@")) {
            if (text(p)[0] == '.') unexpected(p);
            parse_instruction(p);
        } else {
            unexpected(p);
        }
    }
}

/* ---- functions ------------------------------------------------------------------------------- */

static int parse_parameters(parser *p, ptx_scope *s) { /* ( .param .. name, .. ) */
    int n = 0;
    if (!accept(p, "(")) return 0;
    while (!accept(p, ")")) {
        if (!accept(p, ".param"))
            ptx_stop("%s: line %u of the PTX: a parameter in `%s`, expected .param", p->m->shown,
                     token(p)->line, text(p));
        /* One at a time: a comma there begins the next parameter. */
        int comma = p->at;
        while (strcmp(p->m->tokens[comma].text, ",") != 0 &&
               strcmp(p->m->tokens[comma].text, ")") != 0)
            comma++;
        ptx_token *t = &p->m->tokens[comma];
        const char *mark = t->text;
        t->text = ";";
        parse_variable(p, s, "param", false);
        t->text = mark;
        if (p->at != comma) unexpected(p);
        accept(p, ",");
        n++;
    }
    return n;
}

static void triple(parser *p, uint32_t *v) {
    for (int i = 0; i < 3; i++) {
        v[i] = 1;
        if (i && !accept(p, ",")) continue;
        v[i] = (uint32_t)integer(p);
    }
}

static void parse_head_directives(parser *p, ptx_function *f) {
    while (text(p)[0] == '.') {
        uint32_t v[3];
        if (accept(p, ".maxntid")) {
            triple(p, v);
            f->max_threads = v[0] * v[1] * v[2];
        } else if (accept(p, ".reqntid")) {
            triple(p, f->required_threads);
        } else if (accept(p, ".reqnctapercluster")) {
            triple(p, f->required_cluster);
        } else if (accept(p, ".minnctapersm")) {
            f->min_blocks = (uint32_t)integer(p);
        } else if (accept(p, ".maxnreg") || accept(p, ".maxnctapersm") ||
                   accept(p, ".maxclusterrank")) {
            integer(p);
        } else if (accept(p, ".pragma")) {
            while (!accept(p, ";")) p->at++;
        } else if (!accept(p, ".noreturn") && !accept(p, ".explicitcluster") &&
                   !accept(p, ".blocksareclusters")) {
            unexpected(p);
        }
    }
}

static void place_parameters(ptx_function *f) {
    for (int i = 0; i < f->n_results + f->n_params; i++) {
        ptx_variable *v = &f->top->variables[i];
        v->argument = !f->entry;
        v->offset = (f->param_bytes + v->align - 1) / v->align * v->align;
        f->param_bytes = v->offset + v->bytes;
    }
}

static ptx_function *add_function(ptx_module *m) {
    ptx_function *f = ptx_alloc(sizeof *f);
    m->functions =
        ptx_grow(m->functions, m->n_functions, &m->functions_capacity, sizeof *m->functions);
    m->functions[m->n_functions++] = f;
    return f;
}

static void parse_function(parser *p, bool entry) {
    ptx_module *m = p->m;
    ptx_function *f = ptx_alloc(sizeof *f);
    p->f = f;
    p->scope = NULL;
    open_scope(p);
    f->top = p->scope;
    f->entry = entry;
    p->loc = -1;
    while (accept(p, ".attribute"))
        while (!accept(p, ")")) p->at++;
    f->n_results = parse_parameters(p, f->top);
    f->name = text(p);
    f->c = ptx_say("%c_%s", entry ? 'K' : 'F', ptx_identifier(f->name));
    if (token(p)->kind != PTX_WORD) unexpected(p);
    p->at++;
    f->n_params = parse_parameters(p, f->top);
    parse_head_directives(p, f);
    place_parameters(f);
    if (accept(p, "{")) {
        f->defined = true;
        parse_body(p);
    } else {
        expect(p, ";");
    }
    ptx_function *known = ptx_function_find(m, f->name);
    if (!known) known = add_function(m);
    if (!known->defined) *known = *f; /* a declaration gives way */
    p->f = NULL;
}

/* The full path of the .cu ends in the name it goes by here: what stands before is the root. */
static void find_root(ptx_module *m) {
    size_t shown = strlen(m->shown);
    for (int i = 0; i < m->n_files; i++) {
        size_t n = m->files[i] ? strlen(m->files[i]) : 0;
        if (n < shown || strcmp(m->files[i] + n - shown, m->shown) != 0) continue;
        if (n > shown && m->files[i][n - shown - 1] != '/') continue;
        m->root = ptx_copy(m->files[i], n - shown);
        return;
    }
}

void ptx_parse(ptx_module *m) {
    parser p = {.m = m, .loc = -1};
    while (token(&p)->kind != PTX_END) {
        bool external = false;
        if (is(&p, ".section")) break; /* debug information to the end */
        if (is(&p, ".file")) {
            parse_file(&p);
            continue;
        }
        if (is(&p, ".version") || is(&p, ".target") || is(&p, ".address_size") || is(&p, ".loc")) {
            skip_line(&p);
            continue;
        }
        while (is(&p, ".visible") || is(&p, ".weak") || is(&p, ".extern") || is(&p, ".common"))
            external |= strcmp(m->tokens[p.at++].text, ".extern") == 0;
        if (accept(&p, ".entry"))
            parse_function(&p, true);
        else if (accept(&p, ".func"))
            parse_function(&p, false);
        else if (is(&p, ".pragma"))
            skip_line(&p);
        else if (!parse_spaced_variable(&p, &m->globals, external))
            unexpected(&p);
    }
    find_root(m);
}

/* ---- finding --------------------------------------------------------------------------------- */

ptx_variable *ptx_scope_add(ptx_scope *s, const char *name) {
    s->variables = ptx_grow(s->variables, s->n, &s->capacity, sizeof *s->variables);
    ptx_variable *v = &s->variables[s->n++];
    v->name = name;
    return v;
}

static ptx_variable *find_in(const ptx_scope *s, const char *name, int *number) {
    size_t stem = strlen(name);
    while (stem && name[stem - 1] >= '0' && name[stem - 1] <= '9') stem--;
    for (int i = 0; i < s->n; i++) {
        ptx_variable *v = &s->variables[i];
        *number = -1;
        if (!v->range && strcmp(v->name, name) == 0) return v;
        if (!v->range || !name[stem] || strncmp(v->name, name, stem) || v->name[stem]) continue;
        *number = (int)strtol(name + stem, NULL, 10);
        if (*number < v->range) return v;
    }
    return NULL;
}

ptx_variable *ptx_variable_find(const ptx_module *m, const ptx_scope *from, const char *name,
                                int *number) {
    for (; from; from = from->parent) {
        ptx_variable *v = find_in(from, name, number);
        if (v) return v;
    }
    return find_in(&m->globals, name, number);
}

ptx_function *ptx_function_find(const ptx_module *m, const char *name) {
    for (int i = 0; i < m->n_functions; i++)
        if (strcmp(m->functions[i]->name, name) == 0) return m->functions[i];
    return NULL;
}

/* A .loc's file as the project names it; NULL: not of the project. */
static const char *project_file(const ptx_module *m, const ptx_loc *l) {
    const char *path = l->file < m->n_files ? m->files[l->file] : NULL;
    if (!path || !l->line || !m->root || !ptx_begins(path, m->root)) return NULL;
    if (!m->root[0] && path[0] == '/') return NULL;
    return path + strlen(m->root);
}

/* The nearest line of the project along the inlining of a .loc. */
static bool project_line(const ptx_module *m, int loc, const char **file, uint32_t *line) {
    for (int i = loc; i >= 0; i = m->locs[i].parent) {
        const char *name = project_file(m, &m->locs[i]);
        if (!name) continue;
        *file = name;
        *line = m->locs[i].line;
        return true;
    }
    return false;
}

uint32_t ptx_caller(const ptx_module *m, const ptx_line *l) {
    bool in_header = false;
    for (int i = l->loc; i >= 0; i = m->locs[i].parent) {
        const char *name = project_file(m, &m->locs[i]);
        if (name && strcmp(name, m->shown) == 0) return in_header ? m->locs[i].line : 0;
        if (name) in_header = true;
    }
    return 0;
}

void ptx_place(const ptx_module *m, const ptx_function *f, const ptx_line *l, const char **file,
               uint32_t *line) {
    *file = m->shown;
    *line = m->n_files ? 1 : l->at;
    int at = (int)(l - f->lines);
    for (int i = at; i >= 0; i--)
        if (project_line(m, f->lines[i].loc, file, line)) return;
    for (int i = at; i < f->n_lines; i++)
        if (project_line(m, f->lines[i].loc, file, line)) return;
}
