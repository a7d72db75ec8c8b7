/* data_notes.h — what reading a file of examples had to say about it, and both its notes and its
 * tokens kept for the next start.
 *
 * An entry of the cache is two files: KEY.tokens, Quern's own token format with a document for each
 * example and the mask of what is learned; KEY.notes, whose trailer has the digests of both. The
 * key is a digest of the file's content and of all that decides what becomes of it: tokenizer,
 * template, options, version of Quern. A damaged entry is made anew without a word.
 */
#ifndef QN_DATA_NOTES_H
#define QN_DATA_NOTES_H

#include "io/data_parts.h"

enum { QNI_TOLD = 5 }; /* places told of each kind of note */

typedef enum qni_note {
    QNI_NOTE_DUPLICATE, /* among all files: never part of a file's own notes */
    QNI_NOTE_CUT,
    QNI_NOTE_DROPPED,
    QNI_NOTE_SKIPPED,
    QNI_NOTE_EMPTY_ANSWER,
    QNI_NOTE_TURN_ORDER,
    QNI_NOTES
} qni_note;

typedef struct qni_notes { /* of one file; {0} is none */
    qn_record_format format;
    qn_example_format layout;
    int64_t records;
    int64_t count[QNI_NOTES];
    char *place[QNI_NOTES][QNI_TOLD]; /* of the first ones, as behind the path: ":12", or ":12:3:
                                         found ..." */
    int32_t *line;                    /* of each example that became a sample */
    int64_t n, room;                  /* of these */
} qni_notes;

qn_status qni_notes_add(qni_notes *t, qni_note kind, const char *place) QN_CHECKED;
qn_status qni_notes_add_line(qni_notes *t, int64_t line) QN_CHECKED;
void qni_notes_free(qni_notes *t);

/* Where the tokens of a file are kept; path NULL: nowhere. Conversations in files of some size
 * only, as others are read in no time, and not those whose template asks for the date. */
typedef struct qni_kept {
    char *path; /* without .tokens and .notes */
    char *why;  /* there is none: the directory's error, or NULL */
} qni_kept;
qn_status qni_kept_find(const qn_data_options *o, const qni_file *f, qni_kept *out) QN_CHECKED;
void qni_kept_free(qni_kept *k);

/* Appends the samples of a file. *found false, and nothing appended, if there is no good entry. */
qn_status qni_kept_read(const qni_kept *k, const qn_data_options *o, qni_samples *s, qni_notes *t,
                        bool *found) QN_CHECKED;
/* Keeps the samples from number `first` on. */
qn_status qni_kept_write(const qni_kept *k, const qn_data_options *o, const qni_samples *s,
                         int64_t first, const qni_notes *t) QN_CHECKED;

#endif
