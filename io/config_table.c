/* config_table.c — looking keys up, guessing which one was meant, and telling what one accepts. */
#include "io/config_table.h"
#include "io/spelling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 128 };

/* ---- looking up ------------------------------------------------------------------------------ */

/* "a.groups.0.lr" becomes "a.groups[].lr". False if the result is longer than any key. */
static bool pattern_of(const char *name, char *out, size_t size) {
    size_t n = 0;
    for (const char *s = name; *s;) {
        size_t word = strcspn(s, ".");
        bool index = word > 0 && n > 0 && strspn(s, "0123456789") == word;
        if (n + word + 3 >= size) return false;
        if (index) {
            memcpy(out + n - 1, "[]", 2); /* over the dot */
            n++;
        } else {
            memcpy(out + n, s, word);
            n += word;
        }
        s += word;
        if (*s == '.') {
            out[n++] = '.';
            s++;
        }
    }
    out[n] = '\0';
    return true;
}

int qni_key_find(const char *name) {
    char pattern[NAME_MAX_BYTES];
    if (!pattern_of(name, pattern, sizeof pattern)) return -1;
    for (int i = 0; i < qni_key_count; i++) {
        if (strcmp(qni_keys[i].name, pattern) == 0) return i;
    }
    return -1;
}

const char *qni_key_leaf(const qni_key *k) {
    const char *dot = strrchr(k->name, '.');
    return dot ? dot + 1 : k->name;
}

bool qni_key_in(int i, int parent) {
    const char *name = qni_keys[i].name, *leaf = qni_key_leaf(&qni_keys[i]);
    if (parent < 0) return leaf == name;
    size_t length = strlen(qni_keys[parent].name);
    bool groups = qni_keys[parent].type == QNI_GROUPS;
    return strncmp(name, qni_keys[parent].name, length) == 0 &&
           strncmp(name + length, groups ? "[]." : ".", groups ? 3 : 1) == 0 &&
           leaf == name + length + (groups ? 3 : 1);
}

bool qni_key_is_textual(const qni_key *k) {
    return k->type == QNI_STRING || k->type == QNI_NAME || k->type == QNI_ENUM ||
           k->type == QNI_PATH || k->type == QNI_MODEL || k->type == QNI_TEMPLATE;
}

/* ---- guessing -------------------------------------------------------------------------------- */

void qni_choice_suggest(const char *choices, const char *found, char *hint, size_t size) {
    int best = qni_spelling_tolerance(strlen(found)) + 1;
    hint[0] = '\0';
    for (const char *s = choices; *s; s += s[strcspn(s, "|")] ? strcspn(s, "|") + 1 : strlen(s)) {
        size_t length = strcspn(s, "|");
        int d = qni_spelling_distance(found, strlen(found), s, length);
        if (d < best) {
            best = d;
            snprintf(hint, size, "%.*s", (int)length, s);
        }
    }
}

static size_t section_length(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

void qni_key_suggest(const char *key, char *hint, size_t size) {
    char pattern[NAME_MAX_BYTES];
    hint[0] = '\0';
    if (!pattern_of(key, pattern, sizeof pattern)) return;
    size_t section = section_length(pattern);
    const char *leaf = pattern + section + (section ? 1 : 0);
    for (int i = 0; i < qni_alias_count; i++) {
        const qni_alias *a = &qni_aliases[i];
        if (strcmp(a->alias, leaf) == 0) {
            snprintf(hint, size, "%s's `%s` is `%s` here", a->tool, leaf, a->name);
            return;
        }
    }
    /* Distance in the last word, which costs extra in another section; the same word anywhere
     * counts. */
    int best = 2 * qni_spelling_tolerance(strlen(leaf)) + 1, found = -1;
    for (int i = 0; i < qni_key_count; i++) {
        const qni_key *k = &qni_keys[i];
        const char *other = qni_key_leaf(k);
        size_t length = section_length(k->name);
        bool same = length == section && strncmp(k->name, pattern, section) == 0;
        int most = qni_spelling_tolerance(strlen(leaf)) - (same ? 0 : 1);
        if (abs((int)strlen(leaf) - (int)strlen(other)) > most) continue;
        int d = qni_spelling_distance(leaf, strlen(leaf), other, strlen(other));
        if (d > most) continue;
        d = 2 * d + (same ? 0 : 1);
        if (d < best) {
            best = d;
            found = i;
        }
    }
    if (found >= 0) snprintf(hint, size, "did you mean `%s`?", qni_keys[found].name);
}

/* ---- telling --------------------------------------------------------------------------------- */

qni_interval qni_range_parse(const char *range) {
    qni_interval r = {-INFINITY, INFINITY, false, false};
    if (!range) return r;
    const char *comma = strchr(range, ','), *end = range + strlen(range) - 1;
    r.low_open = *range == '(';
    r.high_open = *end == ')';
    r.low = strtod(range + 1, NULL);
    r.high = strtod(comma + 1, NULL); /* reads "inf" too */
    return r;
}

static const char *noun(qni_key_type type) {
    switch (type) {
    case QNI_SECTION: return "object";
    case QNI_GROUPS: return "array of objects";
    case QNI_BOOL: return "true or false";
    case QNI_INT: return "integer";
    case QNI_NUMBER: return "number";
    case QNI_STRING: return "string";
    case QNI_NAME:
        return "string of letters, digits, `.`, `_` and `-` that begins with a letter or "
               "digit";
    case QNI_ENUM: return "one of";
    case QNI_PATH: return "path (string)";
    case QNI_MODEL: return "directory, or ORG/NAME of a model in the hub's cache (string)";
    case QNI_TEMPLATE: return "name, or path (string)";
    case QNI_BYTES: return "bytes (integer, or string such as \"2GiB\")";
    case QNI_DEPTH: return "integer or boolean";
    }
    return "value";
}

/* Large round numbers as 1e+12, everything else in full. */
static void bound_text(double v, char text[32]) {
    snprintf(text, 32, "%g", v);
    if (fabs(v) < 1e9 || strtod(text, NULL) != v) snprintf(text, 32, "%.15g", v);
}

static void describe_range(const qni_key *k, char *text, size_t size) {
    qni_interval r = qni_range_parse(k->range);
    bool low = isfinite(r.low), high = isfinite(r.high);
    char least[32], most[32];
    bound_text(r.low, least);
    bound_text(r.high, most);
    text[0] = '\0';
    if (low && high) {
        snprintf(text, size, " %s %s and %s %s", r.low_open ? ">" : ">=", least,
                 r.high_open ? "<" : "<=", most);
    } else if (low) {
        snprintf(text, size, " %s %s", r.low_open ? ">" : ">=", least);
    } else if (k->type == QNI_INT) {
        snprintf(text, size, " of 64 bits");
    }
}

void qni_key_describe(const qni_key *k, char *text, size_t size) {
    char range[80], one[320];
    describe_range(k, range, sizeof range);
    if (k->type == QNI_ENUM) {
        size_t n = (size_t)snprintf(one, sizeof one, "one of");
        for (const char *s = k->choices; *s;) {
            int length = (int)strcspn(s, "|");
            n += (size_t)snprintf(one + n, sizeof one - n, "%s \"%.*s\"",
                                  s == k->choices ? "" : ",", length, s);
            s += length + (s[length] == '|');
        }
    } else {
        snprintf(one, sizeof one, "%s%s", noun(k->type), range);
    }
    if (k->flags & QNI_ONE_OR_LIST) {
        snprintf(text, size, "%s, or array of these", one);
    } else if (k->flags & QNI_LIST && k->items) {
        snprintf(text, size, "array of %d: %s", k->items, one);
    } else if (k->flags & QNI_LIST) {
        snprintf(text, size, "array of: %s", one);
    } else {
        snprintf(text, size, "%s", one);
    }
}

void qni_condition_describe(const char *condition, char *text, size_t size) {
    size_t n = strcspn(condition, "=");
    snprintf(text, size, "%.*s is ", (int)n, condition);
    for (const char *s = condition + n + 1; *s; s++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, *s == '|' ? " or " : "%c", *s);
    }
}

void qni_default_describe(const qni_key *k, char *text, size_t size) {
    snprintf(text, size, "%s", k->fallback ? k->fallback : k->computed ? k->computed : "");
    for (int i = 0; i < qni_fallback_count; i++) {
        if (strcmp(qni_fallbacks[i].name, k->name) != 0) continue;
        char when[128];
        size_t n = strlen(text);
        qni_condition_describe(qni_fallbacks[i].when, when, sizeof when);
        snprintf(text + n, size - n, "%s%s if %s", n ? "; " : "", qni_fallbacks[i].json, when);
    }
}
