/* tokenizer_regex.c — split patterns, run by PCRE2 (UTF, UCP, JIT) with the meaning they have in
 * the reference's engine, Oniguruma with Ruby's syntax.
 *
 * The pattern is rewritten where the two differ, and refused where Quern does not know:
 *   \s \S    the 25 White_Space characters (PCRE2 would add U+180E)
 *   \w \W    [\p{Alphabetic}\p{M}\p{Nd}\p{Pc}] and the superscripts and fractions of Latin-1
 *   \uHHHH   \x{HHHH}
 *   \p{Han}  characters of the script (PCRE2 would add those of its extensions)
 *   ^ $      at every line
 * Options other than i, a class within a class, `&&`, `{n,m}+`, back references and the escapes not
 * listed are refused.
 */
#include "io/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct qni_regex {
    pcre2_code *code;
};

/* ---- rewriting ------------------------------------------------------------------------------- */

#define SPACES                                                                                     \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define NO_SPACES                                                                                  \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-"         \
    "\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"        \
    "\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}"
#define WORDS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

static qn_status refuse(const char *pattern, const char *at, const char *what) {
    return qn_fail(QN_ERR_FORMAT,
                   "split pattern \"%.200s\": found %s at byte %lld, which Quern "
                   "does not run as the reference does",
                   pattern, what, (long long)(at - pattern));
}

static bool is_script(const char *name, int length) {
    char pattern[64];
    int error;
    PCRE2_SIZE at;
    snprintf(pattern, sizeof pattern, "\\p{sc:%.*s}", length, name);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &error, &at, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

/* \p{NAME} or \P{NAME} from its backslash on; *p stands at the brace and moves behind its end. */
static qn_status rewrite_property(const char *pattern, const char *at, const char **p,
                                  qn_text *out) {
    const char *name = *p + 1, *close = strchr(name, '}');
    if (!close || close - name > 32) return refuse(pattern, at, "an open brace");
    const char *caret = *name == '^' ? "^" : "";
    name += *name == '^';
    int length = (int)(close - name);
    qn_text_printf(out, "%.2s{%s%s%.*s}", at, caret, is_script(name, length) ? "sc:" : "", length,
                   name);
    *p = close + 1;
    return QN_OK;
}

/* An escape at p ("\s"); *p moves behind it. */
static qn_status rewrite_escape(const char *pattern, const char **p, bool class, qn_text *out) {
    const char *at = *p;
    char c = at[1];
    *p += 2;
    if (c == 's' || c == 'S') {
        const char *set = c == 's' ? SPACES : NO_SPACES;
        qn_text_printf(out, class ? "%s" : "[%s]", set);
    } else if (c == 'w') {
        qn_text_add(out, class ? WORDS : "[" WORDS "]");
    } else if (c == 'W' && !class) {
        qn_text_add(out, "[^" WORDS "]");
    } else if (c == 'u') {
        if (strspn(at + 2, "0123456789abcdefABCDEF") < 4) return refuse(pattern, at, "\\u");
        qn_text_printf(out, "\\x{%.4s}", at + 2);
        *p += 4;
    } else if (c && (strchr("pPdDrntfvaex", c) ||
                     ((unsigned char)c < 0x80 && !qni_is_word((uint32_t)c)))) {
        if (strchr("pP", c) && **p == '{') return rewrite_property(pattern, at, p, out);
        if (c == 'x' && **p == '{') { /* its braces are no repetition */
            const char *close = strchr(*p, '}');
            if (!close) return refuse(pattern, at, "an open brace");
            *p = close + 1;
        }
        qn_text_add_bytes(out, at, (size_t)(*p - at));
    } else {
        char what[8] = {'\\', c};
        return refuse(pattern, at, what);
    }
    return QN_OK;
}

/* A class from its bracket on; *p moves behind it. */
static qn_status rewrite_class(const char *pattern, const char **p, qn_text *out) {
    const char *at = *p;
    qn_text_add_bytes(out, at++, 1);
    if (*at == '^') qn_text_add_bytes(out, at++, 1);
    if (*at == ']') return refuse(pattern, at, "an empty class");
    while (*at && *at != ']') {
        if (*at == '[' || (at[0] == '&' && at[1] == '&'))
            return refuse(pattern, at, "a class within a class");
        if (*at == '\\')
            QN_TRY(rewrite_escape(pattern, &at, true, out));
        else
            qn_text_add_bytes(out, at++, 1);
    }
    if (!*at) return refuse(pattern, at, "an open class");
    qn_text_add_bytes(out, at++, 1);
    *p = at;
    return QN_OK;
}

static qn_status rewrite(const char *pattern, qn_text *out) {
    for (const char *p = pattern; *p;) {
        if (*p == '\\')
            QN_TRY(rewrite_escape(pattern, &p, false, out));
        else if (*p == '[')
            QN_TRY(rewrite_class(pattern, &p, out));
        else if (p[0] == '(' && p[1] == '?' && p[2 + strspn(p + 2, "-i")] >= 'a' &&
                 p[2 + strspn(p + 2, "-i")] <= 'z')
            return refuse(pattern, p, "an option");
        else if (p[0] == '}' && p[1] == '+')
            return refuse(pattern, p, "}+");
        else
            qn_text_add_bytes(out, p++, 1);
    }
    return QN_OK;
}

/* ---- compile and find ------------------------------------------------------------------------ */

qn_status qni_regex_compile(qn_tokenizer *t, const char *pattern, qni_regex **out) {
    if (t->n_regexes == QNI_MAX_STEPS)
        return qn_fail(QN_ERR_FORMAT, "tokenizer: found more than %d patterns", QNI_MAX_STEPS);
    qni_regex *r = qn_setup_alloc(t->arena, sizeof *r);
    if (!r) return QN_ERR_OOM;
    qn_text text = {0};
    char *rewritten = NULL;
    qn_status status = rewrite(pattern, &text);
    if (status != QN_OK) {
        qn_text_free(&text);
        return status;
    }
    QN_TRY(qn_text_take(&text, &rewritten));
    int error;
    PCRE2_SIZE at;
    r->code = pcre2_compile((PCRE2_SPTR)rewritten, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE |
                                PCRE2_NEVER_BACKSLASH_C,
                            &error, &at, NULL);
    qn_free(rewritten);
    if (!r->code) {
        PCRE2_UCHAR text_of_error[160];
        pcre2_get_error_message(error, text_of_error, sizeof text_of_error);
        return qn_fail(QN_ERR_FORMAT, "split pattern \"%.200s\": %s", pattern,
                       (char *)text_of_error);
    }
    (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* without it the interpreter runs */
    t->regex[t->n_regexes++] = r;
    *out = r;
    return QN_OK;
}

void qni_regex_release(qni_regex *r) { pcre2_code_free(r->code); }

qn_status qni_regex_find(const qni_regex *r, const char *text, int64_t bytes, int64_t at,
                         int64_t *begin, int64_t *end) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match) return qn_fail(QN_ERR_OOM, "out of memory: a match of a split pattern");
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int n = pcre2_match(r->code, (PCRE2_SPTR)text, (PCRE2_SIZE)bytes, (PCRE2_SIZE)at, options,
                        match, NULL);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter has the heap */
        n = pcre2_match(r->code, (PCRE2_SPTR)text, (PCRE2_SIZE)bytes, (PCRE2_SIZE)at,
                        options | PCRE2_NO_JIT, match, NULL);
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(match);
    *begin = n < 0 ? -1 : (int64_t)place[0];
    *end = n < 0 ? -1 : (int64_t)place[1];
    pcre2_match_data_free(match);
    if (n >= 0 || n == PCRE2_ERROR_NOMATCH) return QN_OK;
    return qn_fail(QN_ERR_DATA, "split pattern: gave up at byte %lld of a text (PCRE2 error %d)",
                   (long long)at, n);
}
