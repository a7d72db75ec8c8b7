/* spelling.h — how far a word is from a name that may have been meant. */
#ifndef QN_SPELLING_H
#define QN_SPELLING_H

#include <stddef.h>

/* Optimal string alignment distance, ignoring case: insertions, deletions, changes and swaps of
 * neighbours. A word of more than 128 bytes is at 128 from everything. */
int qni_spelling_distance(const char *a, size_t na, const char *b, size_t nb);
/* The largest distance at which a word of this length still counts as a misspelling. */
int qni_spelling_tolerance(size_t length);

#endif
