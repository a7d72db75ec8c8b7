/* jinja.h — Jinja templates as chat templates use them, rendered over JSON values.
 *
 * The language is jinja2's with the environment that transformers renders chat templates in:
 * trim_blocks and lstrip_blocks on, nothing escaped, `break` and `continue`, `{% generation %}`, a
 * `tojson` like Python's json.dumps without ASCII escapes, the functions raise_exception and
 * strftime_now, and data that a template cannot change. Values, operators and their spelling as
 * text are Python's. Output is equal to jinja2's or there is an error; what is left out (import,
 * include, extends, block, recursive loops, format strings other than %s and %d, keyword arguments
 * collected by macros, integers beyond 64 bits) is an error, too. Known differences: case mapping
 * and `isalpha` and its kin treat characters beyond ASCII as caseless, a container printed as text
 * does not escape unassigned code points, and a loop's `if` is evaluated for all items at first.
 *
 * Templates and data may be hostile: nesting, steps, output and memory are bounded.
 */
#ifndef QN_JINJA_H
#define QN_JINJA_H

#include "io/json.h"

enum { QN_JINJA_MAX_BYTES = 1 << 20 }; /* of a template */

typedef struct qn_jinja qn_jinja; /* immutable: may be rendered by several threads at once */

/* Compiles a template. `name` is what errors call it; both texts are copied. QN_ERR_FORMAT with
 * "name:line:column: what", QN_ERR_OOM. */
qn_status qn_jinja_compile(const char *name, const char *text, size_t length,
                           qn_jinja **out) QN_CHECKED;
void qn_jinja_free(qn_jinja *t); /* NULL is legal */

/* Whether the template has a `{% generation %}` block. */
bool qn_jinja_has_generation(const qn_jinja *t);

typedef struct qn_jinja_variable {
    const char *name;
    const cJSON *value; /* any cJSON tree; its numbers must be nodes of qn_json_parse */
} qn_jinja_variable;

typedef struct qn_jinja_options { /* {0} is what a chat wants */
    int64_t max_steps;            /* 0 = 10 million */
    size_t max_output;            /* bytes; 0 = 16 MiB */
    size_t max_memory;            /* bytes of values made while rendering; 0 = 64 MiB */
    int64_t now;                  /* what strftime_now shows, seconds since 1970; 0 = the clock */
} qn_jinja_options;

typedef struct qn_jinja_span { /* bytes [begin, end) of the rendered text */
    size_t begin, end;
} qn_jinja_span;

typedef struct qn_jinja_spans {
    qn_jinja_span *items; /* qn_free */
    int64_t count, capacity;
} qn_jinja_spans;

/* Renders into *text (NUL-terminated, qn_free) and *bytes. Variables with a NULL value are not
 * defined. `generated`, if not NULL, gets what stood in generation blocks, in order, also the empty
 * ones; it must be {0}. QN_ERR_DATA with "name:line:column: what" for everything a template does
 * wrong; for raise_exception `what` is the template's own message. o may be NULL. */
qn_status qn_jinja_render(const qn_jinja *t, const qn_jinja_variable *variables, int n_variables,
                          const qn_jinja_options *o, char **text, size_t *bytes,
                          qn_jinja_spans *generated) QN_CHECKED;

#endif
