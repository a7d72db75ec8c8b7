/* jinja_parts.h — what the files of the template engine share: values, the tree, a rendering.
 *
 * jinja_lex.c cuts a template into tokens, jinja_parse.c and jinja_expression.c make a tree of
 * them, jinja_eval.c walks it, jinja_operate.c computes, jinja_value.c makes and spells values, and
 * jinja_filters.c, jinja_select.c, jinja_is.c, jinja_strings.c and jinja_methods.c hold the
 * functions a template may call.
 */
#ifndef QN_JINJA_PARTS_H
#define QN_JINJA_PARTS_H

#include "io/jinja.h"

#include <string.h>

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum qni_jkind {
    QNI_J_UNDEFINED,
    QNI_J_NONE,
    QNI_J_BOOL,
    QNI_J_INT,
    QNI_J_FLOAT,
    QNI_J_STRING,
    QNI_J_LIST,
    QNI_J_TUPLE,
    QNI_J_VIEW,     /* range() and the views of a dict: counted, never indexed or printed */
    QNI_J_ITERATOR, /* what map and select give: true, uncounted, empty once it was walked */
    QNI_J_DICT,
    QNI_J_NAMESPACE,
    QNI_J_LOOP,
    QNI_J_FUNCTION,
    QNI_J_METHOD,
    QNI_J_MACRO
} qni_jkind;

typedef struct qni_jstring { /* UTF-8, not terminated */
    const char *text;
    size_t bytes;
} qni_jstring;

typedef struct qni_jlist qni_jlist;
typedef struct qni_jdict qni_jdict;
typedef struct qni_jloop qni_jloop;
typedef struct qni_jmacro qni_jmacro;
typedef struct qni_jmethod qni_jmethod;
typedef struct qni_jfunction qni_jfunction;

typedef struct qni_jval {
    uint8_t kind;
    uint8_t of; /* of an undefined value: 1 + kind of the object that lacks it; 0 = a variable */
    union {
        bool b;
        int64_t i;
        double d;
        const qni_jstring *s; /* also: what an undefined value would have been called, or NULL */
        qni_jlist *list;
        qni_jdict *dict;
        qni_jloop *loop;
        const qni_jfunction *function;
        const qni_jmethod *method;
        const qni_jmacro *macro;
    } as;
} qni_jval;

struct qni_jlist {
    qni_jval *items;
    int64_t count, capacity;
};

struct qni_jdict { /* in order of insertion; also a namespace */
    qni_jval *keys, *values;
    int64_t count, capacity;
};

struct qni_jloop {
    const qni_jlist *items;
    int64_t index; /* of the present item */
    int depth;
};

struct qni_jmethod {
    qni_jval self;
    const qni_jfunction *function;
};

/* ---- the tree -------------------------------------------------------------------------------- */

typedef enum qni_jtype {
    /* statements */
    QNI_J_TEXT,         /* value */
    QNI_J_OUTPUT,       /* a */
    QNI_J_IF,           /* a: condition, b: then, c: else */
    QNI_J_FOR,          /* a: target, b: iterated, c: body, d: else, e: condition */
    QNI_J_SET,          /* a: target, b: value */
    QNI_J_SET_BLOCK,    /* a: target, b: filters or NULL, c: body */
    QNI_J_FILTER_BLOCK, /* b: filters, c: body */
    QNI_J_WITH,         /* a: SETs, c: body */
    QNI_J_MACRO_DEF,    /* value: name, a: parameters, c: body */
    QNI_J_CALL_BLOCK,   /* a: parameters, b: the call, c: body */
    QNI_J_GENERATION,   /* c: body */
    QNI_J_BREAK,
    QNI_J_CONTINUE,
    QNI_J_PARAMETER, /* value: name, a: default or NULL */
    /* expressions */
    QNI_J_CONST,     /* value */
    QNI_J_NAME,      /* value: name */
    QNI_J_MAKE_LIST, /* a: items */
    QNI_J_MAKE_TUPLE,
    QNI_J_MAKE_DICT,  /* a: key, value, key, value... */
    QNI_J_ATTRIBUTE,  /* a, value: name */
    QNI_J_ITEM,       /* a, b: subscript */
    QNI_J_SLICE,      /* a, b: start, c: stop, d: step; each but a may be NULL */
    QNI_J_CALL,       /* a, b: ARGUMENTs */
    QNI_J_ARGUMENT,   /* op: QNI_J_BY_..., value: keyword, a */
    QNI_J_FILTER,     /* a (NULL: the block's text), function, b: ARGUMENTs */
    QNI_J_TEST,       /* a, function, b: ARGUMENTs, op: 1 = negated */
    QNI_J_UNARY,      /* op, a */
    QNI_J_BINARY,     /* op, a, b */
    QNI_J_COMPARE,    /* a, b: OPERANDs */
    QNI_J_OPERAND,    /* op, a */
    QNI_J_CONCAT,     /* a: items */
    QNI_J_AND,        /* a, b */
    QNI_J_OR,         /* a, b */
    QNI_J_NOT,        /* a */
    QNI_J_CONDITIONAL /* a: condition, b: then, c: else or NULL */
} qni_jtype;

enum { QNI_J_BY_PLACE, QNI_J_BY_NAME, QNI_J_BY_LIST, QNI_J_BY_DICT };

typedef enum qni_jop {
    QNI_J_ADD,
    QNI_J_SUBTRACT,
    QNI_J_MULTIPLY,
    QNI_J_DIVIDE,
    QNI_J_FLOOR_DIVIDE,
    QNI_J_MODULO,
    QNI_J_POWER,
    QNI_J_EQ,
    QNI_J_NE,
    QNI_J_LT,
    QNI_J_LE,
    QNI_J_GT,
    QNI_J_GE,
    QNI_J_IN,
    QNI_J_NOT_IN
} qni_jop;

typedef struct qni_jnode qni_jnode;
struct qni_jnode {
    uint8_t type, op;
    uint32_t offset; /* in the template */
    qni_jval value;
    const qni_jfunction *function;
    qni_jnode *a, *b, *c, *d, *e;
    qni_jnode *next; /* in the list that a field of the parent begins */
};

struct qn_jinja {
    qn_setup *arena;
    const char *name;
    const char *text; /* with '\n' for every kind of line end, without the last one */
    size_t length;
    qni_jnode *body;
    bool has_generation;
};

/* "name:line:column: what", for a place in the template. */
qn_status qni_jinja_error(const qn_jinja *t, size_t offset, qn_status s, const char *format, ...)
    QN_PRINTF(4, 5);

/* ---- tokens ---------------------------------------------------------------------------------- */

typedef enum qni_jtoken_type {
    QNI_JT_END,
    QNI_JT_TEXT,
    QNI_JT_OPEN_BLOCK,
    QNI_JT_CLOSE_BLOCK,
    QNI_JT_OPEN_OUTPUT,
    QNI_JT_CLOSE_OUTPUT,
    QNI_JT_NAME,
    QNI_JT_STRING,
    QNI_JT_INT,
    QNI_JT_FLOAT,
    QNI_JT_OPERATOR /* text is the operator */
} qni_jtoken_type;

typedef struct qni_jtoken {
    uint8_t type;
    uint32_t offset;
    qni_jstring text; /* of a string: what it means */
    qni_jval value;   /* of a number */
} qni_jtoken;

/* Cuts t->text into tokens that live in t->arena; the last one is an END. */
qn_status qni_jinja_lex(qn_jinja *t, qni_jtoken **tokens, int64_t *count) QN_CHECKED;

/* ---- parsing --------------------------------------------------------------------------------- */

enum { QNI_J_MAX_NESTING = 100 };

typedef struct qni_jparser {
    qn_jinja *t;
    const qni_jtoken *at;
    int nesting; /* of expressions and blocks */
    int loops;   /* that break and continue may leave */
} qni_jparser;

qni_jnode *qni_jinja_node(qni_jparser *p, qni_jtype type); /* at p->at; NULL = OOM */
qn_status qni_jinja_unexpected(const qni_jparser *p, const char *expected) QN_CHECKED;
bool qni_jinja_is_name(const qni_jparser *p, const char *word);
bool qni_jinja_is_operator(const qni_jparser *p, const char *op);
bool qni_jinja_skip_name(qni_jparser *p, const char *word);
bool qni_jinja_skip_operator(qni_jparser *p, const char *op);
qn_status qni_jinja_expect_operator(qni_jparser *p, const char *op) QN_CHECKED;
qn_status qni_jinja_expect_name(qni_jparser *p, qni_jval *name) QN_CHECKED;
qn_status qni_jinja_enter(qni_jparser *p) QN_CHECKED; /* one level deeper; leave: p->nesting-- */

qn_status qni_jinja_parse(qn_jinja *t) QN_CHECKED;
/* One expression; conditional: whether `a if b else c` may stand there. */
qn_status qni_jinja_expression(qni_jparser *p, bool conditional, qni_jnode **out) QN_CHECKED;
/* The same, but `a, b` is a tuple. */
qn_status qni_jinja_tuple(qni_jparser *p, bool conditional, qni_jnode **out) QN_CHECKED;
/* What is assigned to: a name, a tuple of targets, or (attributes) namespace.name. */
qn_status qni_jinja_target(qni_jparser *p, bool attributes, qni_jnode **out) QN_CHECKED;
/* `name(arguments) | name ...` over `input`, which may be NULL. */
qn_status qni_jinja_filters(qni_jparser *p, qni_jnode *input, qni_jnode **out) QN_CHECKED;
qn_status qni_jinja_unary(qni_jparser *p, qni_jnode **out) QN_CHECKED;

/* ---- functions a template may call ----------------------------------------------------------- */

enum { QNI_J_MAX_PARAMETERS = 5 };

typedef struct qni_jargs { /* as they were written */
    const qni_jval *values;
    const qni_jstring *const *names; /* NULL for those by place, which come first */
    int64_t count;
} qni_jargs;

typedef struct qni_jrun qni_jrun;
/* v: one value per parameter, QNI_J_UNDEFINED and of = QNI_J_ABSENT where none was given. */
typedef qn_status qni_jbody(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out);
enum { QNI_J_ABSENT = 255 };

struct qni_jfunction {
    const char *name;
    qni_jbody *body;
    int required;
    const char *parameters[QNI_J_MAX_PARAMETERS]; /* "*": the body reads args itself */
};

const qni_jfunction *qni_jinja_find_filter(const char *name, size_t bytes);
const qni_jfunction *qni_jinja_find_test(const char *name, size_t bytes);
const qni_jfunction *qni_jinja_find_global(const char *name, size_t bytes);
const qni_jfunction *qni_jinja_find_selector(const char *name, size_t bytes);
const qni_jfunction *qni_jinja_find_string_method(const char *name, size_t bytes);
const qni_jfunction *qni_jinja_find_method(qni_jkind kind, const char *name, size_t bytes);
const qni_jfunction *qni_jinja_find_in(const qni_jfunction *rows, size_t n, const char *name,
                                       size_t bytes);
/* Binds args to the parameters and calls. */
qn_status qni_jinja_apply(qni_jrun *r, const qni_jfunction *f, const qni_jval *self,
                          const qni_jargs *args, qni_jval *out) QN_CHECKED;

/* ---- a rendering ----------------------------------------------------------------------------- */

typedef struct qni_jscope {
    struct qni_jscope *parent;
    qni_jdict names; /* keys are strings */
} qni_jscope;

struct qni_jmacro {
    const qni_jnode *node; /* MACRO_DEF or CALL_BLOCK */
    qni_jscope *scope;     /* that it was defined in */
};

struct qni_jrun {
    const qn_jinja *t;
    qn_setup *arena;
    qn_text out;
    qni_jscope *scope;
    uint32_t at; /* where errors point */
    int depth;
    int captures; /* blocks whose text does not go to the output directly */
    int loops;
    int64_t steps; /* left */
    size_t memory, output;
    int64_t now;
    qn_jinja_spans *generated;
    enum { QNI_J_GOES_ON, QNI_J_BREAKS, QNI_J_CONTINUES } flow;
};

qn_status qni_jinja_fail(const qni_jrun *r, const char *format, ...) QN_PRINTF(2, 3) QN_CHECKED;
qn_status qni_jinja_charge(qni_jrun *r, size_t steps) QN_CHECKED;
/* Memory until the end of the rendering, zeroed. */
qn_status qni_jinja_alloc(qni_jrun *r, size_t bytes, void *out) QN_CHECKED;
qn_status qni_jinja_emit(qni_jrun *r, const char *text, size_t bytes) QN_CHECKED;
qn_status qni_jinja_enter_run(qni_jrun *r) QN_CHECKED; /* leave: r->depth-- */

qn_status qni_jinja_run(qni_jrun *r, const qni_jnode *list) QN_CHECKED; /* statements */
qn_status qni_jinja_eval(qni_jrun *r, const qni_jnode *node, qni_jval *out) QN_CHECKED;
qn_status qni_jinja_call(qni_jrun *r, const qni_jval *callee, const qni_jargs *args,
                         qni_jval *out) QN_CHECKED;
qn_status qni_jinja_lookup(qni_jrun *r, const qni_jstring *name, qni_jval *out) QN_CHECKED;

/* ---- making values (jinja_value.c) ----------------------------------------------------------- */

static inline qni_jval qni_jnone(void) { return (qni_jval){.kind = QNI_J_NONE}; }
static inline qni_jval qni_jbool(bool b) { return (qni_jval){.kind = QNI_J_BOOL, .as.b = b}; }
static inline qni_jval qni_jint(int64_t i) { return (qni_jval){.kind = QNI_J_INT, .as.i = i}; }
static inline qni_jval qni_jfloat(double d) { return (qni_jval){.kind = QNI_J_FLOAT, .as.d = d}; }
static inline bool qni_jabsent(const qni_jval *v) {
    return v->kind == QNI_J_UNDEFINED && v->of == QNI_J_ABSENT;
}
static inline bool qni_jnumeric(const qni_jval *v) {
    return v->kind == QNI_J_BOOL || v->kind == QNI_J_INT || v->kind == QNI_J_FLOAT;
}
static inline bool qni_jis_list(const qni_jval *v) {
    return v->kind >= QNI_J_LIST && v->kind <= QNI_J_ITERATOR;
}
static inline double qni_jdouble(const qni_jval *v) { /* of a numeric value */
    return v->kind == QNI_J_FLOAT ? v->as.d : v->kind == QNI_J_BOOL ? v->as.b : (double)v->as.i;
}
static inline bool qni_jsame_text(const qni_jstring *s, const char *text, size_t bytes) {
    return s->bytes == bytes && memcmp(s->text, text, bytes) == 0;
}

qn_status qni_jinja_string(qni_jrun *r, const char *text, size_t bytes, qni_jval *out) QN_CHECKED;
/* The same over text that outlives the rendering or lies in its arena. */
qn_status qni_jinja_borrow(qni_jrun *r, const char *text, size_t bytes, qni_jval *out) QN_CHECKED;
/* Takes the text of a buffer, which is empty afterwards, also after a failure. */
qn_status qni_jinja_take(qni_jrun *r, qn_text *text, qni_jval *out) QN_CHECKED;
qn_status qni_jinja_list(qni_jrun *r, qni_jkind kind, int64_t capacity, qni_jval *out) QN_CHECKED;
qn_status qni_jinja_append(qni_jrun *r, qni_jlist *list, const qni_jval *item) QN_CHECKED;
qn_status qni_jinja_dict(qni_jrun *r, qni_jkind kind, qni_jval *out) QN_CHECKED;
qn_status qni_jinja_put(qni_jrun *r, qni_jdict *dict, const qni_jval *key,
                        const qni_jval *value) QN_CHECKED;
bool qni_jinja_same_number(const qni_jval *a, const qni_jval *b);          /* of numeric values */
const qni_jval *qni_jinja_get(const qni_jdict *dict, const qni_jval *key); /* NULL: absent */
const qni_jval *qni_jinja_get_text(const qni_jdict *dict, const char *text, size_t bytes);
qn_status qni_jinja_from_json(qni_jrun *r, const cJSON *item, qni_jval *out) QN_CHECKED;
/* The items of anything that can be walked, as a list of their own. */
qn_status qni_jinja_walk(qni_jrun *r, const qni_jval *v, const qni_jlist **out) QN_CHECKED;

bool qni_jinja_truth(const qni_jval *v);
const char *qni_jinja_kind_name(const qni_jval *v);
qn_status qni_jinja_undefined_error(const qni_jrun *r, const qni_jval *v) QN_CHECKED;

/* ---- spelling values (jinja_print.c) --------------------------------------------------------- */

/* As Python's str; of a string: itself. */
qn_status qni_jinja_text(qni_jrun *r, const qni_jval *v, qni_jval *out) QN_CHECKED;
qn_status qni_jinja_print(qni_jrun *r, const qni_jval *v) QN_CHECKED; /* to the output */
typedef struct qni_jjson {
    bool ascii, sorted;
    const qni_jstring *indent; /* NULL = one line */
    const qni_jstring *between_items, *after_key;
} qni_jjson;
qn_status qni_jinja_json(qni_jrun *r, const qni_jval *v, const qni_jjson *style,
                         qni_jval *out) QN_CHECKED;
bool qni_jinja_space(uint32_t character); /* as Python's str.isspace */

/* ---- computing (jinja_operate.c) ------------------------------------------------------------- */

bool qni_jinja_equal(qni_jrun *r, const qni_jval *a, const qni_jval *b);
qn_status qni_jinja_less(qni_jrun *r, const qni_jval *a, const qni_jval *b, bool *out) QN_CHECKED;
qn_status qni_jinja_contains(qni_jrun *r, const qni_jval *in, const qni_jval *item,
                             bool *out) QN_CHECKED;
qn_status qni_jinja_compare(qni_jrun *r, qni_jop op, const qni_jval *a, const qni_jval *b,
                            bool *out) QN_CHECKED;
qn_status qni_jinja_binary(qni_jrun *r, qni_jop op, const qni_jval *a, const qni_jval *b,
                           qni_jval *out) QN_CHECKED;
qn_status qni_jinja_format(qni_jrun *r, const qni_jstring *format, const qni_jval *values,
                           int64_t count, qni_jval *out) QN_CHECKED;
qn_status qni_jinja_length(qni_jrun *r, const qni_jval *v, int64_t *out) QN_CHECKED;
/* a.name, and a[key]: what is not there is undefined. */
qn_status qni_jinja_attribute(qni_jrun *r, const qni_jval *a, const qni_jval *name,
                              qni_jval *out) QN_CHECKED;
qn_status qni_jinja_item(qni_jrun *r, const qni_jval *a, const qni_jval *key,
                         qni_jval *out) QN_CHECKED;
qn_status qni_jinja_slice(qni_jrun *r, const qni_jval *a, const qni_jval *start,
                          const qni_jval *stop, const qni_jval *step, qni_jval *out) QN_CHECKED;

#endif
