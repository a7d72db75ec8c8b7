/* config.h — configurations: one JSON file says what a run is.
 *
 * A configuration is read in layers: the config.json of the model that model.pretrained names, the
 * files it extends, the file itself, then the --set assignments; later layers win key by key,
 * arrays are replaced whole, and null takes a key back to what it was below. Every key is a row of
 * the table in config_keys.c, and from that table come the checks, the defaults, the JSON Schema,
 * the reference page, the starter files and the shell completion. Unknown keys, wrong types and
 * values out of range are errors, reported all together.
 *
 * In strings, ${env:NAME} is replaced by the environment variable; ${env:NAME:?text} says what to
 * tell the user when it is not set; $${ stands for a plain ${. Paths are relative to the directory
 * of the file that holds them, those in --set to the working directory; after loading they are
 * absolute.
 */
#ifndef QN_CONFIG_H
#define QN_CONFIG_H

#include "engine/engine.h"

typedef struct qn_config qn_config;

/* ---- loading (config.c) ---------------------------------------------------------------------- */

/* Reads a configuration file (at most 1 MiB, comments allowed) and what it extends, then the
 * assignments "a.b=v" of `sets`. v is JSON; a bare word is a string where the key takes one; null
 * takes the key back; an index names an array element ("optimizer.groups.0.lr=1e-4", one past the
 * end appends).
 *
 * On failure returns QN_ERR_CONFIG (QN_ERR_OOM when memory runs out); the message is the first
 * error, and *diagnostics, if asked for, all of them, each as file:line:column: error: key:
 * expected ..., found ... with the source line, a mark under the place and a hint. The caller frees
 * it; it is NULL when there is nothing to tell and after QN_ERR_OOM. */
qn_status qn_config_load(const char *path, const char *const *sets, int n_sets, qn_config **out,
                         char **diagnostics) QN_CHECKED;

/* The same for a text in memory, such as the resolved configuration of a checkpoint; nothing is
 * read for it, so the directory of model.pretrained need not be there any more. `name` stands
 * for the file in errors; relative paths start at base_dir (NULL = the working directory). */
qn_status qn_config_load_text(const char *name, const char *text, size_t length,
                              const char *base_dir, const char *const *sets, int n_sets,
                              qn_config **out, char **diagnostics) QN_CHECKED;
/* A configuration of nothing but a pretrained model: model.pretrained is `dir`; data.* and train.*
 * are there for form's sake. */
qn_status qn_config_load_model(const char *dir, const char *const *sets, int n_sets,
                               qn_config **out, char **diagnostics) QN_CHECKED;
void qn_config_free(qn_config *c); /* NULL is legal */

/* A size as configurations write it: bytes, or with a unit ("40GiB", "512 MB"). */
bool qn_config_parse_bytes(const char *text, int64_t *out);

/* ---- reading --------------------------------------------------------------------------------- */

/* Keys are dotted; elements of arrays by index: "optimizer.groups.0.match", "optimizer.betas.1",
 * "data.path.0". Values are checked and defaults filled in, so these do not fail: a key without a
 * value gives false, 0, "" or 0 elements. Strings live as long as the configuration. Keys that take
 * one value or a list ("data.path") always read as a list. */
bool qn_config_is_set(const qn_config *c, const char *key); /* has a value, stated or default */
/* Whether it is this string; false for a key without a value. */
bool qn_config_is(const qn_config *c, const char *key, const char *value);
bool qn_config_is_stated(const qn_config *c, const char *key); /* given in a file or by --set */
bool qn_config_boolean(const qn_config *c, const char *key);
int64_t qn_config_int(const qn_config *c, const char *key);
double qn_config_number(const qn_config *c, const char *key);
const char *qn_config_string(const qn_config *c, const char *key);
const char *qn_config_optional(const qn_config *c, const char *key); /* a string, NULL without */
int64_t qn_config_count(const qn_config *c, const char *key);        /* elements of an array */

/* ---- writing (config_show.c); *out is freed with qn_free ------------------------------------- */

/* All values as plain JSON. Loading it gives the same configuration, from any directory. */
qn_status qn_config_resolved(const qn_config *c, char **out) QN_CHECKED;
/* The same with the origin of each value as a comment: file:line, --set or default. */
qn_status qn_config_show(const qn_config *c, char **out) QN_CHECKED;

typedef struct qn_config_changes {
    int changed; /* keys whose values differ */
    int refused; /* of these, keys that may not change when a run is resumed */
    char *text;  /* a line each, "key: before -> after", refused ones first; "" if none differ */
} qn_config_changes;
/* What differs between the configuration of a checkpoint and the one to resume with. Fills *out
 * only on success. */
qn_status qn_config_diff(const qn_config *before, const qn_config *after,
                         qn_config_changes *out) QN_CHECKED;

/* ---- from the table of keys (config_schema.c, config_docs.c, config_templates.c) ------------- */

/* JSON Schema (draft-07) of the whole configuration, or of one key or section. QN_ERR_USAGE for a
 * key that does not exist, with the nearest one in the message. field may be NULL. */
qn_status qn_config_schema(const char *field, char **out) QN_CHECKED;
/* The reference page, Markdown. */
qn_status qn_config_reference(char **out) QN_CHECKED;
/* A bash completion script for `quern`: `verbs` (separated by spaces), files, --set keys and
 * values. */
qn_status qn_config_completion(const char *verbs, char **out) QN_CHECKED;

int qn_config_template_count(void);
/* Name and one-line summary of starter file i; NULL outside 0 .. count-1. */
const char *qn_config_template_name(int i);
const char *qn_config_template_summary(int i);
/* A commented starter file. QN_ERR_USAGE for a name that does not exist, listing those that do. */
qn_status qn_config_template(const char *name, char **out) QN_CHECKED;

#endif
