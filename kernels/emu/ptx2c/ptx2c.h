/* ptx2c.h — the translator's own types: a PTX file as read, and the text it becomes.
 *
 * Reading (ptx_lex.c, ptx_parse.c, ptx_operand.c) turns a file into a ptx_module; nothing of the
 * meaning of an instruction is known there. Writing (ptx_emit*.c) asks the rules (ptx_rules*.c),
 * one row per form of an opcode, for the C of each instruction. Strings and nodes are allocated
 * and never freed: the program ends with its file.
 */
#ifndef QE_PTX2C_H
#define QE_PTX2C_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- text (ptx_text.c) ----------------------------------------------------------------------- */

typedef struct ptx_text {
    char *data;
    size_t length, capacity;
} ptx_text;

void *ptx_alloc(size_t bytes); /* zeroed; out of memory ends */
void *ptx_grow(void *items, int n, int *capacity, size_t item_bytes); /* room for item n */
void ptx_add(ptx_text *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *ptx_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *ptx_copy(const char *s, size_t length);
char *ptx_identifier(const char *s); /* letters, digits and _ only, no two names alike */
char *ptx_quoted(const char *s);     /* as the inside of a C string literal */
bool ptx_begins(const char *s, const char *with);
/* Whether `word` is one of the n characters "a|b|c*"; the star stands for any ending. */
bool ptx_one_of(const char *word, const char *words, size_t n);
_Noreturn void ptx_stop(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- tokens (ptx_lex.c) ---------------------------------------------------------------------- */

typedef enum ptx_token_kind { PTX_WORD, PTX_NUMBER, PTX_STRING, PTX_MARK, PTX_END } ptx_token_kind;
typedef struct ptx_token {
    ptx_token_kind kind;
    const char *text; /* its own copy */
    uint32_t line;
    size_t at, end; /* in the file */
} ptx_token;
ptx_token *ptx_lex(const char *file, const char *text);
/* The value of a number: 0x, 0f, 0d, decimal. *width: 0 an integer, else 32 or 64 bits of real. */
bool ptx_number(const char *text, uint64_t *bits, int *width);

/* ---- types (ptx_text.c) ---------------------------------------------------------------------- */

typedef enum ptx_class { PTX_PRED, PTX_BITS, PTX_UNSIGNED, PTX_SIGNED, PTX_FLOAT } ptx_class;
typedef struct ptx_type {
    const char *name;
    int bits;
    ptx_class class;
    const char *c;       /* C type of a value in an expression */
    const char *storage; /* C type of a register */
    const char *lane;    /* packed types: the name of the type of each half, else NULL */
} ptx_type;
const ptx_type *ptx_type_find(const char *name, size_t length);
static inline int ptx_type_bytes(const ptx_type *t) { return t->bits < 8 ? 1 : t->bits / 8; }

/* ---- a file as read -------------------------------------------------------------------------- */

typedef enum ptx_operand_kind {
    PTX_NAME,    /* register or symbol, with offset */
    PTX_INTEGER, /* bits */
    PTX_REAL,    /* bits of an f32 or (width 64) f64 */
    PTX_VECTOR,  /* {a, b}, and (a, b) of calls */
    PTX_ADDRESS, /* [a], [a, {b, c}] */
    PTX_PAIR,    /* a|b */
    PTX_SINK     /* _ */
} ptx_operand_kind;

typedef struct ptx_operand {
    ptx_operand_kind kind;
    bool negated; /* !p */
    int width;
    const char *name;
    int64_t offset;
    uint64_t bits;
    struct ptx_operand *items;
    int n_items;
} ptx_operand;

typedef struct ptx_variable {
    const char *name;  /* without the number if ranged */
    const char *c;     /* in C; of a range: without the number */
    const char *space; /* reg, local, param, shared, global, const */
    const ptx_type *type;
    int64_t bytes, align, offset; /* offset: entry parameters, shared memory */
    int range;                    /* %r<8>: 8, else 0 */
    bool external;                /* .extern */
    bool dynamic;                 /* [] */
    bool argument;                /* a parameter of a .func: a pointer in C */
    ptx_operand *values;          /* initial values */
    int n_values;
} ptx_variable;

typedef struct ptx_scope {
    int id;
    struct ptx_scope *parent;
    ptx_variable *variables;
    int n, capacity;
} ptx_scope;

typedef struct ptx_loc {
    int file;
    uint32_t line;
    int parent; /* index of the .loc it was inlined at, -1 none */
} ptx_loc;

enum { PTX_MAX_PARTS = 16 };
typedef struct ptx_line {             /* an instruction; a label if op is NULL */
    const char *op;                   /* first part */
    const char *parts[PTX_MAX_PARTS]; /* modifiers, without dots */
    int n_parts;
    const char *text; /* as written, blanks collapsed; label: its name */
    const char *guard;
    bool guard_not;
    ptx_operand *operands;
    int n_operands;
    ptx_scope *scope;
    int loc;
    uint32_t at;   /* line of the PTX file */
    uint32_t used; /* a load: bit per byte, 0 = all; the compiler widens loads across gaps */
} ptx_line;

typedef struct ptx_label {
    const char *name, *c;
    const ptx_scope *scope;
    ptx_operand *targets; /* of .branchtargets */
    int n_targets;
} ptx_label;

typedef struct ptx_function {
    const char *name, *c;
    bool entry, defined;
    ptx_scope *top;          /* parameters and results of the head, then the body's own variables */
    int n_params, n_results; /* the first variables of top: results, then parameters */
    int64_t param_bytes, static_shared, local_bytes;
    uint32_t max_threads, min_blocks, required_threads[3], required_cluster[3];
    ptx_line *lines;
    int n_lines, lines_capacity;
    ptx_label *labels;
    int n_labels, labels_capacity;
    ptx_scope **scopes;
    int n_scopes, scopes_capacity;
    bool calls; /* some other function */
    int first_range, n_ranges;
} ptx_function;

typedef struct ptx_module {
    const char *shown; /* the .cu, as messages and #line name it */
    int arch;
    const char *text;
    ptx_token *tokens;
    ptx_scope globals;
    ptx_function **functions;
    int n_functions, functions_capacity;
    const char **files; /* by number */
    int n_files;
    const char *root; /* of the project: what stands before `shown` in its full path */
    ptx_loc *locs;
    int n_locs, locs_capacity;
    int problems;
} ptx_module;

void ptx_parse(ptx_module *m);
/* ptx_operand.c: operands from token *at on, up to the ';', which is left. */
ptx_operand *ptx_parse_operands(ptx_module *m, int *at, int *n);
/* Numbers and addresses of an initial value: {1, 2, generic(x)+4}. */
ptx_operand *ptx_parse_values(ptx_module *m, int *at, int *n);
ptx_function *ptx_function_find(const ptx_module *m, const char *name);
ptx_variable *ptx_scope_add(ptx_scope *s, const char *name);
/* The innermost variable of that name; *number: the register's number in a range, else -1. */
ptx_variable *ptx_variable_find(const ptx_module *m, const ptx_scope *from, const char *name,
                                int *number);
/* Where an instruction comes from: the nearest line of the project along its inlining, or that of
 * the instruction before. Of a file without debug information, the line of the PTX. */
void ptx_place(const ptx_module *m, const ptx_function *f, const ptx_line *l, const char **file,
               uint32_t *line);
/* The line of the .cu that an instruction of a header was inlined into; 0: no header, unknown. */
uint32_t ptx_caller(const ptx_module *m, const ptx_line *l);

/* ---- writing (ptx_emit.c, ptx_value.c) ------------------------------------------------------- */

typedef struct ptx_writer {
    ptx_module *module;
    ptx_function *function;
    const ptx_line *line;
    int site;        /* of this instruction */
    ptx_text body;   /* statements */
    ptx_text tables; /* rows of S */
    ptx_text ranges; /* rows of ranges */
    int n_sites, n_ranges, range_first;
    bool failed; /* this instruction has a problem */
} ptx_writer;

char *ptx_translate(ptx_module *m); /* the C file */
void ptx_module_head(ptx_writer *w, ptx_text *out);
void ptx_module_tables(ptx_writer *w, ptx_text *out);
char *ptx_signature(const ptx_function *f);
const char *ptx_call_code(ptx_writer *w);

/* Reports what is unknown about the instruction at hand; the translation goes on to find all. */
void ptx_problem(ptx_writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool ptx_has(const ptx_writer *w, const char *modifier);
/* The operand as a C expression of type->c. */
const char *ptx_value(ptx_writer *w, const ptx_operand *o, const ptx_type *type);
/* "register = expression;" with the conversion between the type and the register. */
const char *ptx_assign(ptx_writer *w, const ptx_operand *o, const ptx_type *type,
                       const char *expression);
const ptx_type *ptx_register_type(ptx_writer *w, const ptx_operand *o); /* NULL: no register */
/* An address operand: its integer expression; *space: that of a symbol, else NULL. */
const char *ptx_address(ptx_writer *w, const ptx_operand *o, const char **space);
/* 32-bit shared-window address, whether the instruction names the space or is generic. */
const char *ptx_shared_address(ptx_writer *w, const ptx_operand *o);
const char *ptx_site(const ptx_writer *w); /* "&S[12]" */
const char *ptx_label_code(ptx_writer *w, const ptx_operand *o);
const ptx_type *ptx_named(const char *name); /* a type known to exist */

/* ---- rules (ptx_rules.c) --------------------------------------------------------------------- */

typedef struct ptx_match {
    const char *capture[26]; /* by letter */
    const ptx_type *type;    /* T */
} ptx_match;
typedef const char *ptx_emitter(ptx_writer *w, const ptx_match *m);

/* modifiers: words, separated by blanks, each for one modifier of the instruction: the first left
 * that it takes. `a|b` one of them, `a|b?` perhaps, `a|b/a` perhaps, else as if it were a, `a*` any
 * word that begins so; `X:` before it names the choice for the code. T is the operands' type.
 * operands: types, `=` before a result; `u32?0` may be absent, then 0. A capture's letter stands
 * for its type, W for twice the width of T.
 * code: C, an expression if there is one result. $1 $2 ...: operands after the result, $X a
 * capture, $T the C type, $n the type's name, $K its letter, $B its bits, $S the site. Of packed
 * types the code is that of one half. `ftz` and `sat` on f32 are added around it.
 */
typedef struct ptx_rule {
    const char *op, *modifiers, *operands, *code;
    ptx_emitter *emit; /* instead of code */
} ptx_rule;

/* A row without op ends each. */
extern const ptx_rule ptx_rules_integer[];
extern const ptx_rule ptx_rules_float[];
extern const ptx_rule ptx_rules_memory[];
extern const ptx_rule ptx_rules_control[];
extern const ptx_rule ptx_rules_async[];
extern const ptx_rule ptx_rules_tensor[];

const char *ptx_emit_cvt(ptx_writer *w, const ptx_match *m);

/* The C of the instruction at hand; NULL after ptx_problem. */
const char *ptx_instruction_code(ptx_writer *w);

#define PTX_INTEGERS "u16|s16|u32|s32|u64|s64"
#define PTX_HALVES   "f16|bf16|f16x2|bf16x2"

#endif
