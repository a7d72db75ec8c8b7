/* config_table.h — the table of configuration keys and what the parts of io/config*.c share. */
#ifndef QN_CONFIG_TABLE_H
#define QN_CONFIG_TABLE_H

#include "io/config.h"
#include "io/json.h"

/* ---- the table (config_keys.c) --------------------------------------------------------------- */

typedef enum qni_key_type {
    QNI_SECTION, /* object of keys */
    QNI_GROUPS,  /* array of objects whose keys are the rows "name[].x" */
    QNI_BOOL,
    QNI_INT,
    QNI_NUMBER,
    QNI_STRING,
    QNI_NAME, /* string that is fit for a file name */
    QNI_ENUM,
    QNI_PATH,     /* made absolute on loading */
    QNI_MODEL,    /* a directory, or a name in the hub's cache; an absolute path after loading */
    QNI_TEMPLATE, /* a built-in chat template's name, or a path, made absolute on loading */
    QNI_BYTES,    /* integer, or string such as "2GiB"; an integer after loading */
    QNI_DEPTH /* integer or boolean; an integer after loading: false is 0, true is the default */
} qni_key_type;

enum {
    QNI_LIST = 1,        /* array of that type */
    QNI_ONE_OR_LIST = 2, /* one value stands for a list of one; a list after loading */
    QNI_REQUIRED = 4,    /* must have a value where it applies */
    QNI_IDENTITY = 8,    /* may not change when a run is resumed */
    QNI_DIRECTIVE = 16   /* about the file itself; not part of the resolved configuration */
};

typedef struct qni_key {
    const char *name; /* dotted */
    qni_key_type type;
    unsigned flags;
    const char *range;    /* of numbers: "[0,1)", "(0,inf)"; the lower end is finite; NULL = any */
    int items;            /* exact length of a list; 0 = any */
    const char *choices;  /* of QNI_ENUM: "adamw|sgd" */
    const char *only;     /* "model.type=gpt2|llama": has a meaning only then; NULL = always */
    const char *fallback; /* default as JSON; NULL = none, or in qni_fallbacks, or computed */
    const char *computed; /* how the default follows from other keys (config_rules.c), in words */
    const char *unit;
    const char *since; /* version it came with */
    const char *doc;
} qni_key;

extern const qni_key qni_keys[]; /* a section comes before its keys */
extern const int qni_key_count;

typedef struct qni_fallback { /* a default that depends on another key */
    const char *name, *when, *json;
} qni_fallback;
extern const qni_fallback qni_fallbacks[];
extern const int qni_fallback_count;

typedef struct qni_alias { /* what other tools call a key; only ever a hint */
    const char *alias, *tool, *name;
} qni_alias;
extern const qni_alias qni_aliases[];
extern const int qni_alias_count;

/* Row of a dotted key, in which indices stand for "[]"; -1 if there is none. */
int qni_key_find(const char *name);
bool qni_key_is_textual(const qni_key *k); /* its values are strings */
/* Whether row i lies directly in section row `parent` (-1: top level). */
bool qni_key_in(int i, int parent);
const char *qni_key_leaf(const qni_key *k); /* after the last dot */
/* What `key` may have been meant to be: an alias ("axolotl's `x` is `y` here"), the same name in
 * another section, or the nearest name. Writes "" if nothing is near. */
void qni_key_suggest(const char *key, char *hint, size_t size);
/* The nearest of choices "a|b|c", "" if none is near. */
void qni_choice_suggest(const char *choices, const char *found, char *hint, size_t size);

typedef struct qni_interval {
    double low, high; /* infinite where unbounded */
    bool low_open, high_open;
} qni_interval;
qni_interval qni_range_parse(const char *range); /* NULL = everything */
/* "integer >= 1", "number > 0 and < 1", "array of strings": what a key accepts, for people. */
void qni_key_describe(const qni_key *k, char *text, size_t size);

/* "model.type is gpt2 or llama" for a condition. */
void qni_condition_describe(const char *condition, char *text, size_t size);
/* The default in words: JSON, or how it follows from other keys; "" if there is none. */
void qni_default_describe(const qni_key *k, char *text, size_t size);

/* ---- a configuration being loaded ------------------------------------------------------------ */

struct qn_config {
    qn_setup *arena;     /* texts, nodes, the arrays below: everything but the diagnostics */
    cJSON **slot;        /* value of each row that is no section and not inside "[]"; NULL = none */
    bool *stated;        /* it comes from a file or --set and not from a default */
    bool *bad;           /* its value was refused: no further error may follow from it */
    const char *stem;    /* file name without directory and extension */
    qn_text diagnostics; /* freed or handed out by the loader */
    char first[QN_MESSAGE_MAX]; /* first error, one line */
    int errors;
    bool broken; /* a file could not be read or parsed: keys may be missing because of it */
};

/* Value of a dotted key, NULL = none. */
const cJSON *qni_config_get(const qn_config *c, const char *key);
typedef enum qni_truth { QNI_NO, QNI_YES, QNI_UNKNOWN } qni_truth;
/* Whether the condition "key=a|b" holds; unknown when the key has no valid value. NULL holds. */
qni_truth qni_config_when(const qn_config *c, const char *condition);

/* config_report.c: adds one error at a node (at its key if at_key); at no place if node is NULL.
 * key and hint may be NULL. */
void qni_report(qn_config *c, const cJSON *node, bool at_key, const char *key, const char *hint,
                const char *format, ...) QN_PRINTF(6, 7);
/* The same at bytes offset .. offset+length of a source. */
void qni_report_at(qn_config *c, const qn_json_source *s, size_t offset, size_t length,
                   const char *key, const char *hint, const char *format, ...) QN_PRINTF(7, 8);
/* For a key without a value. */
void qni_report_missing(qn_config *c, int row, const char *hint);

/* config_check.c. Checking a value expands its variables, makes paths absolute and brings it to
 * its final form; a refused value has been reported. base_dir is absolute and free of symbolic
 * links. */
/* A value of row `row`; *out is its final form, or NULL when it was refused. */
qn_status qni_check_value(qn_config *c, int row, const char *key, cJSON *value,
                          const char *base_dir, cJSON **out) QN_CHECKED;
/* One element of a row that takes a list, or one object of QNI_GROUPS; *good = not refused. */
qn_status qni_check_element(qn_config *c, int row, const char *key, cJSON *value,
                            const char *base_dir, bool *good) QN_CHECKED;
/* The members of an object at the section `prefix` ("" = the root), into the slots. */
qn_status qni_check_section(qn_config *c, const char *prefix, cJSON *object,
                            const char *base_dir) QN_CHECKED;
/* A value for a row that has a slot: null clears it, anything else is checked and put there. */
qn_status qni_check_key(qn_config *c, int row, const char *key, cJSON *value,
                        const char *base_dir) QN_CHECKED;
void qni_clear_section(qn_config *c, int section); /* takes all its keys back */

/* config_set.c: one --set assignment. */
qn_status qni_config_assign(qn_config *c, const char *assignment, const char *base_dir) QN_CHECKED;

/* config_rules.c: checks what no single key shows; skips what depends on refused values. */
void qni_config_cross_check(qn_config *c);

/* config_hf.c: model.* keys from the config.json of model.pretrained, where nothing is stated. */
qn_status qni_config_pretrained(qn_config *c) QN_CHECKED;

/* config_defaults.c: gives a row a value that has no place, */
qn_status qni_put_json(qn_config *c, int row, const char *json) QN_CHECKED;
/* refuses stated keys that have no meaning here and fills in the defaults. */
qn_status qni_config_fill(qn_config *c, const char *working_dir) QN_CHECKED;
/* Rows of the position table before the one of position 0 (RoBERTa's padding). */
int64_t qni_position_offset(const qn_config *c);

#endif
