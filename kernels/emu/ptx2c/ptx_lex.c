/* ptx_lex.c — a PTX file as tokens. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool starts_word(int c) {
    return isalpha(c) || c == '_' || c == '$' || c == '%' || c == '.';
}
static bool in_word(int c) { return isalnum(c) || c == '_' || c == '$' || c == '.'; }

/* Past blanks and comments; counts lines. */
static const char *skip(const char *s, uint32_t *line) {
    for (;;) {
        if (isspace((unsigned char)*s)) {
            *line += *s == '\n';
            s++;
        } else if (s[0] == '/' && s[1] == '/') {
            s += strcspn(s, "\n");
        } else if (s[0] == '/' && s[1] == '*') {
            const char *end = strstr(s + 2, "*/");
            if (!end) return s + strlen(s);
            for (; s < end + 2; s++) *line += *s == '\n';
        } else {
            return s;
        }
    }
}

/* `shared::cta` is one word, `label:` is a word and a mark, `.reg.b32` is two words. */
static const char *end_of_word(const char *s) {
    bool directive = *s++ == '.';
    for (;;) {
        if (in_word((unsigned char)*s) && !(directive && *s == '.'))
            s++;
        else if (s[0] == ':' && s[1] == ':' && in_word((unsigned char)s[2]))
            s += 2;
        else
            return s;
    }
}

static const char *end_of_number(const char *s) {
    if (s[0] == '0' && strchr("xXfFdDbB", s[1]) && s[1]) {
        s += 2;
        while (isxdigit((unsigned char)*s)) s++;
    } else {
        while (isdigit((unsigned char)*s)) s++;
        if (*s == '.') {
            s++;
            while (isdigit((unsigned char)*s)) s++;
        }
        if (*s == 'e' || *s == 'E') {
            s++;
            if (*s == '+' || *s == '-') s++;
            while (isdigit((unsigned char)*s)) s++;
        }
    }
    return *s == 'U' ? s + 1 : s;
}

ptx_token *ptx_lex(const char *file, const char *text) {
    ptx_token *tokens = NULL;
    int n = 0, capacity = 0;
    uint32_t line = 1;
    const char *s = text;
    for (;;) {
        s = skip(s, &line);
        tokens = ptx_grow(tokens, n, &capacity, sizeof *tokens);
        ptx_token *t = &tokens[n++];
        const char *end = s + 1;
        if (!*s)
            t->kind = PTX_END, end = s;
        else if (*s == '"') {
            t->kind = PTX_STRING;
            while (*end && *end != '"') end++;
            if (!*end++) ptx_stop("%s:%u: a string without end", file, line);
        } else if (isdigit((unsigned char)*s))
            t->kind = PTX_NUMBER, end = end_of_number(s);
        else if (starts_word((unsigned char)*s))
            t->kind = PTX_WORD, end = end_of_word(s);
        else
            t->kind = PTX_MARK;
        t->text = t->kind == PTX_STRING ? ptx_copy(s + 1, (size_t)(end - s) - 2)
                                        : ptx_copy(s, (size_t)(end - s));
        t->line = line;
        t->at = (size_t)(s - text);
        t->end = (size_t)(end - text);
        if (t->kind == PTX_END) return tokens;
        s = end;
    }
}

bool ptx_number(const char *text, uint64_t *bits, int *width) {
    char *end = NULL;
    *width = 0;
    if (text[0] == '0' && strchr("fFdD", text[1]) && text[1]) {
        *width = strchr("fF", text[1]) ? 32 : 64;
        *bits = strtoull(text + 2, &end, 16);
        return *end == '\0' && end - text == 2 + *width / 4;
    }
    if (text[strspn(text, "0123456789")] && strpbrk(text, ".eE") && !strpbrk(text, "xX")) {
        double d = strtod(text, &end);
        memcpy(bits, &d, sizeof d);
        *width = 64;
        return *end == '\0';
    }
    if (text[0] == '0' && strchr("bB", text[1]) && text[1])
        *bits = strtoull(text + 2, &end, 2);
    else
        *bits = strtoull(text, &end, 0);
    return strcmp(end, "") == 0 || strcmp(end, "U") == 0;
}
