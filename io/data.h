/* data.h — data sources: text, token files and IDX files behind the qn_source of the training loop.
 *
 * qn_data_open looks at the files, divides them into train, val and test, checks what can be
 * checked before the first step, and gives a source whose samples are a function of (split,
 * position) alone. Files are mapped, never read whole; a file whose name ends in ".gz" is unpacked
 * once to a cache.
 *
 * Samples
 *   text, tokens   "tokens" i32[T], "targets" i32[T]: T = block_size, each target is the next
 *                  token.
 *     train        each epoch cuts its stream into windows of T from a random phase on and visits
 *                  them in a random order; of N tokens it makes max(1, N/T - 1) windows.
 *     val, test    windows of T one after the other; in the last one the targets past the end are
 *                  QN_IGNORE_INDEX, so each token but the first is predicted exactly once.
 *   conversations  "tokens", "positions", "documents", "targets" i32[T]: examples packed into rows,
 *                  best fit first, told apart by their documents, each with positions from 0.
 *   labelled_text  "tokens", "documents", for pairs "token_types" i32[T], "labels" i32, f32[1], or
 *                  f32[classes] of zeros and ones; for labels of words "targets" i32[T].
 *   idx            "features" f32[D], D = all axes but the first; "labels" i32 scalar.
 *                  u8 elements are divided by 255; then (x - mean) / std.
 *     train        with `shift` s, the planes of the last two axes are moved together by dy and dx,
 *                  each drawn from -s..s by (seed, position); what comes in at the edges is 0
 *                  before the scaling.
 */
#ifndef QN_DATA_H
#define QN_DATA_H

#include "engine/train.h"
#include "io/chat_template.h"
#include "io/examples.h"
#include "io/tokenizer.h"

typedef enum qn_data_type {
    QN_DATA_TEXT,
    QN_DATA_TOKENS,
    QN_DATA_IDX,
    QN_DATA_CONVERSATIONS,
    QN_DATA_LABELLED_TEXT
} qn_data_type;

/* How val and test are taken from the training files. */
typedef enum qn_data_division {
    QN_DATA_CHRONOLOGICAL, /* the last fraction; train comes first, then val, then test */
    QN_DATA_RANDOM,        /* idx: items; text and tokens: pieces of 16 * block_size tokens */
    QN_DATA_BY_FILE        /* text and tokens: whole files, by a hash of the relative path, which
                              more files do not change */
} qn_data_division;

/* What a token file without a header holds, little-endian. */
typedef enum qn_raw_tokens {
    QN_RAW_NONE, /* every file has a header */
    QN_RAW_U16,
    QN_RAW_U32
} qn_raw_tokens;

/* What a fine-tuned model learns to write; a message's own "train" or "weight" goes first. */
typedef enum qn_train_on {
    QN_TRAIN_ON_ASSISTANT, /* every answer */
    QN_TRAIN_ON_LAST,      /* the last answer only */
    QN_TRAIN_ON_ALL        /* the whole text */
} qn_train_on;

/* What becomes of an example longer than block_size. */
enum { QN_MOST_LABELS = 52 };

typedef enum qn_truncate {
    QN_TRUNCATE_ERROR,
    QN_TRUNCATE_RIGHT, /* its beginning stays */
    QN_TRUNCATE_LEFT,  /* its end stays */
    QN_TRUNCATE_DROP
} qn_truncate;

typedef struct qn_strings {
    const char *const *item;
    int64_t n;
} qn_strings;

/* Plain data; zero means the default, and only fields of the type in use may be set. Paths are
 * opened as they are given. */
typedef struct qn_data_options {
    qn_data_type type;
    uint64_t seed; /* of the order, the phase and the random division */

    /* val and test come from their own paths, or from the training data by fraction, not both. */
    qn_data_division division;
    double val_fraction, test_fraction; /* 0 = none; together below 1 */
    /* of unpacked .gz files and of the tokens of conversations; NULL: $XDG_CACHE_HOME/quern,
     * $HOME/.cache/quern or $TMPDIR/quern-cache-UID, the first that can be written */
    const char *cache_dir;

    /* text and tokens. A path is a file, a directory (walked, without names that begin with a dot)
     * or a glob of file names. Globs in include and exclude select files of a directory: one
     * without '/' is compared with the base name, any other with the path below the directory; `*`
     * and `?` stop at
     * '/', `**` does not. An excluded directory is not entered. Files come in path order. */
    qn_strings paths[QN_SPLIT_COUNT];
    qn_strings include, exclude;
    int64_t block_size;

    /* text */
    qn_vocab_kind vocabulary;      /* a char vocabulary holds the characters of all splits */
    const qn_vocab *given;         /* encode with this one instead (a checkpoint's) */
    const qn_tokenizer *tokenizer; /* or with this; it outlives qn_data_open only. Each file begins
                                      and ends as the tokenizer has it, and files are separated by
                                      its EOS */
    const char *separator;         /* put between two files; NULL: a line end */

    /* tokens. Headers of GPT-2, Llama-3 and llmq files give their own size of the vocabulary, which
     * a larger vocab_size may extend (added tokens); files without a header need it. */
    qn_raw_tokens raw;
    int64_t vocab_size;

    /* idx */
    const char *images[QN_SPLIT_COUNT], *labels[QN_SPLIT_COUNT];
    int64_t classes;  /* 0: the largest training label + 1 */
    double mean, std; /* std 0: 1 */
    int64_t shift;    /* largest random move of a training item, below its height and width */

    /* conversations and labelled text: records (examples.h) in the files of `paths`, read by
     * `tokenizer`. classes: of labelled text, 0 = the largest label + 1 */
    qn_example_format format;
    qn_example_keys keys;
    const qn_chat_template
        *chat; /* outlives qn_data_open only; may be NULL without conversations */
    qn_train_on train_on;
    qn_truncate truncate;
    bool unpacked;          /* one example a row */
    bool skip_broken;       /* leave bad records out and count them, instead of failing */
    bool regress;           /* labels are numbers to predict */
    bool token_labels;      /* a class for each word, of at most 255; the first token of a word has
                               its word's, all others none */
    bool multi_label;       /* any number of classes a text, of at most QN_MOST_LABELS */
    qn_strings label_names; /* class i is called item[i] */
} qn_data_options;

/* Opens the data. *vocab is the vocabulary of a text source and the caller's to free; NULL for
 * other types and with a tokenizer. The source's identity is XXH3-64 over the type, the division
 * and its parameters, block size, vocabulary or tokenizer, and of each file the relative name, size
 * and content digest: the whole
 * content up to 256 MiB, beyond that 256 evenly spread blocks of 64 KiB (a change between the
 * blocks that keeps the size goes unnoticed). Compressed and plain files have the same identity.
 * The seed is part of it for the random division only.
 *
 * The source's fetch, which may be called from several threads at once, fails with QN_ERR_DATA when
 * a token or label is out of range, an element is not finite, or a file has become shorter than it
 * was; a file that shrinks during the copy itself is beyond what can be caught. The largest text of
 * a char vocabulary is what memory holds: 1 byte a character up to 256 different ones.
 *
 * Errors: QN_ERR_CONFIG for options that contradict themselves, QN_ERR_DATA and QN_ERR_FORMAT
 * naming the file, QN_ERR_IO, QN_ERR_OOM. */
qn_status qn_data_open(const qn_data_options *o, qn_source *out, qn_vocab **vocab) QN_CHECKED;

/* What was found: files, bytes, tokens, vocabulary, splits. Lines, each ended. Of a source made by
 * qn_data_open and not wrapped; lives as long as the source. */
const char *qn_data_describe(const qn_source *s);

/* ---- background loading (data_prefetch.c) ---------------------------------------------------- */

/* Wraps a source: what expect announces is loaded by one background thread, up to `depth` >= 1
 * requests ahead; fetch takes a prepared request or loads itself, and returns the same bytes and
 * errors as the wrapped source, which is never called by two threads at once. wait_seconds is
 * the time fetch waited for data, prepared or not. Expectations that turn out wrong cost time
 * only. Takes `inner` over: *out frees it, and a failure leaves it with the caller. `out` may be
 * `inner`. */
qn_status qn_prefetch_create(const qn_source *inner, int depth, qn_source *out) QN_CHECKED;

/* ---- masked language models (data_masked.c) -------------------------------------------------- */

typedef struct qn_masking {
    double probability; /* that a token is hidden */
    int32_t mask;       /* stands for 8 of 10 hidden tokens; 1 is replaced by any, 1 stays */
    int64_t vocabulary; /* the ids that replace are below it */
    const bool *kept;   /* per id below vocabulary: never hidden; NULL = none; copied */
    uint64_t seed;
} qn_masking;
/* Wraps a source of tokens: some are hidden, those are the targets, all others QN_IGNORE_INDEX.
 * Padding (a negative document) is never hidden. A sample is a function of split and position as
 * before. The identity stays the inner one's: what is masked is the configuration's. Takes `inner`
 * over; `out` may be `inner`; a failure leaves it with the caller. */
qn_status qn_masked_create(const qn_source *inner, const qn_masking *o, qn_source *out) QN_CHECKED;

/* ---- token files (data_tokens.c; the formats are told there) --------------------------------- */

typedef struct qn_tokens {
    const char *format;        /* "Quern v1", "llm.c v1", ... */
    const unsigned char *data; /* count little-endian tokens of `width` bytes */
    int width;                 /* 2 or 4 */
    int64_t count;
    int64_t vocab_size;
    bool vocab_open; /* a larger vocabulary is legal: the header counts base tokens only */
    const unsigned char
        *mask; /* bit i, least significant first: token i counts as a target; or NULL */
    const unsigned char
        *documents; /* n_documents little-endian u64: first token of each; or NULL */
    int64_t n_documents;
    uint64_t tokenizer; /* hash of the tokenizer, 0 = unknown */
} qn_tokens;

/* Finds the format of a token file in memory and checks all of its structure, not the token values.
 * vocab_size 0 = not stated. The result points into `bytes`. Messages do not name the file. */
qn_status qn_tokens_parse(const void *bytes, int64_t size, qn_raw_tokens raw, int64_t vocab_size,
                          qn_tokens *out) QN_CHECKED;
int64_t qn_tokens_get(const qn_tokens *t, int64_t i);
bool qn_tokens_counts(const qn_tokens *t, int64_t i);      /* as a target */
int64_t qn_tokens_document(const qn_tokens *t, int64_t i); /* first token of document i */

typedef struct qn_tokens_content {
    const int32_t *ids;
    int64_t count, vocab_size;
    uint64_t tokenizer;
    const int64_t *documents; /* first token of each, from 0, increasing; NULL = no index */
    int64_t n_documents;
    const unsigned char *mask; /* a byte per token, 0 = not a target; NULL = all are */
} qn_tokens_content;

/* Writes Quern's own format: to a temporary file beside `path`, synced, then renamed over it. */
qn_status qn_tokens_write(const char *path, const qn_tokens_content *c) QN_CHECKED;

/* ---- IDX files (data_idx.c) ------------------------------------------------------------------ */

typedef struct qn_idx {
    int type; /* the format's code: 8 u8, 9 i8, 11 i16, 12 i32, 13 f32, 14 f64; big-endian */
    int width;
    int ndim;
    int64_t shape[QN_MAX_DIMS];
    int64_t items, per_item; /* shape[0] and the product of the others */
    const unsigned char *data;
} qn_idx;

/* Checks the structure of an IDX file in memory; at most QN_MAX_DIMS axes, none of them empty,
 * exact size. The result points into `bytes`. Messages do not name the file. */
qn_status qn_idx_parse(const void *bytes, int64_t size, qn_idx *out) QN_CHECKED;
bool qn_idx_is_float(const qn_idx *x);
double qn_idx_get(const qn_idx *x, int64_t element);

#endif
