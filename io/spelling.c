/* spelling.c — how far a word is from a name that may have been meant. */
#include "io/spelling.h"

#include <ctype.h>

enum { MAX_BYTES = 128 };

int qni_spelling_distance(const char *a, size_t na, const char *b, size_t nb) {
    int row[3][MAX_BYTES + 1];
    if (na > MAX_BYTES || nb > MAX_BYTES) return MAX_BYTES;
    for (size_t j = 0; j <= nb; j++) row[0][j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            int best = last[j - 1] + (x != y);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                tolower((unsigned char)a[i - 2]) == y && before[j - 2] + 1 < best) {
                best = before[j - 2] + 1;
            }
            now[j] = best;
        }
    }
    return row[na % 3][nb];
}

int qni_spelling_tolerance(size_t length) { return length <= 3 ? 1 : length <= 7 ? 2 : 3; }
