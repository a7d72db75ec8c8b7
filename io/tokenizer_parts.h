/* tokenizer_parts.h — what a tokenizer is made of; not for use outside io/tokenizer*.c.
 *
 * Encoding: added tokens are cut out of the text, each rest is normalised, cut at the added tokens
 * that are looked for in normalised text, split into pieces by the splitters, and the model turns
 * each piece into ids; a template puts special tokens around them. Decoding: a chain of decoders
 * that strings are pushed through.
 *
 * Every step is an immutable struct in the tokenizer's arena that begins with the struct of its
 * kind; what a call needs to write to is handed to it.
 */
#ifndef QN_TOKENIZER_PARTS_H
#define QN_TOKENIZER_PARTS_H

#include "io/json.h"
#include "io/sha256.h"
#include "io/tokenizer.h"

#include <pthread.h>

enum { QNI_MAX_STEPS = 16, QNI_MAX_FILE = 1 << 28 };

/* ---- tokenizer_files.c: the files it is made of ---------------------------------------------- */

typedef struct qni_bytes {
    const char *name; /* base name, without .gz */
    const char *data; /* NUL-terminated */
    int64_t size;
} qni_bytes;

typedef struct qni_file_set {
    qni_bytes file[12];
    int n;
} qni_file_set;

/* Finds and reads what belongs to the tokenizer at `path`; bytes live in the arena. */
qn_status qni_files_read(qn_setup *arena, const char *path, qni_file_set *out) QN_CHECKED;
/* The files as one JSON text, deflated; and back. *is_files is false for other JSON texts. */
qn_status qni_files_pack(const qni_file_set *f, char **json) QN_CHECKED;
qn_status qni_files_unpack(qn_setup *arena, const char *json, qni_file_set *out,
                           bool *is_files) QN_CHECKED;
/* Strict base64 with padding: how many bytes of `out`, which has room for 3 n / 4, it gives; -1 if
 * it is not. */
int64_t qni_base64(const char *text, int64_t n, char *out);
/* tokenizer.c. The tokenizer of files in memory, the first of which says which form it is; the
 * caller keeps them until it is freed. */
qn_status qni_open_files(const qni_file_set *files, qn_tokenizer **out) QN_CHECKED;
/* NULL if there is none of that name. */
const qni_bytes *qni_file_find(const qni_file_set *f, const char *name);

/* ---- tokenizer_table.c: texts and their ids -------------------------------------------------- */

typedef struct qni_entry {
    const char *text; /* NULL: this id is no token */
    int32_t bytes;
    bool added; /* an added token that the model does not know */
} qni_entry;

typedef struct qni_table {
    qn_setup *arena;
    qni_entry *entry; /* by id */
    int64_t size, capacity;
    int32_t *slot; /* open addressing over the texts: an id, or -1 */
    int64_t slots, used;
} qni_table;

enum { QNI_MAX_TOKENS = 1 << 24, QNI_MAX_TOKEN_BYTES = 1 << 16 };

/* `expected` tokens make it the right size at once; it grows. */
qn_status qni_table_create(qn_setup *arena, int64_t expected, qni_table *out) QN_CHECKED;
/* Copies the text. QN_ERR_FORMAT if the id is out of range or taken, or the text has another id. */
qn_status qni_table_set(qni_table *t, int64_t id, const char *text, int64_t bytes) QN_CHECKED;
int32_t qni_table_find(const qni_table *t, const char *text, int64_t bytes); /* -1: none */
/* The same for the model's own tokens only. */
int32_t qni_table_find_model(const qni_table *t, const char *text, int64_t bytes);

/* ---- strings with their origin (tokenizer_text.c) -------------------------------------------- */

/* Normalised or otherwise rewritten text. With `tracked`, origin[i] is the byte of the whole input
 * that byte i came from. Failure is sticky, as in qn_text. */
typedef struct qni_string {
    char *data;
    int64_t *origin;
    int64_t length, capacity;
    bool tracked;
    qn_status status;
} qni_string;

/* A part of a text on its way through the steps. */
typedef struct qni_piece {
    const char *text;
    int64_t bytes;
    const int64_t *origin; /* NULL: byte i came from `at` + i, or nobody asks */
    int64_t at;
    bool first; /* it starts where the whole input starts */
} qni_piece;

qni_piece qni_piece_of(const qni_string *s); /* `first` is false */
qni_piece qni_piece_part(const qni_piece *p, int64_t from, int64_t to);
int64_t qni_piece_origin(const qni_piece *p, int64_t at); /* at == bytes is legal */

void qni_string_clear(qni_string *s); /* keeps the memory */
void qni_string_free(qni_string *s);
/* Appends n bytes that all stand for what is at `at` in `from`. */
void qni_string_put(qni_string *s, const char *bytes, int64_t n, const qni_piece *from, int64_t at);
/* Appends bytes from..to of a piece as they are. */
void qni_string_copy(qni_string *s, const qni_piece *from, int64_t begin, int64_t end);

/* ---- Unicode (tokenizer_text.c) -------------------------------------------------------------- */

/* The character at p[at], which must be UTF-8; *length gets its bytes. */
uint32_t qni_char_at(const char *p, int64_t at, int *length);
/* The character that ends before p[at]. */
uint32_t qni_char_before(const char *p, int64_t at, int *length);
bool qni_is_space(uint32_t c);       /* White_Space: the 25 code points */
bool qni_is_letter(uint32_t c);      /* category L */
bool qni_is_number(uint32_t c);      /* category N */
bool qni_is_punctuation(uint32_t c); /* ASCII punctuation or category P */
bool qni_is_word(uint32_t c);        /* \w: Alphabetic, M, Nd, Pc, Join_Control */

/* ---- normalizers ----------------------------------------------------------------------------- */

typedef struct qni_normalizer {
    /* Puts the normalised text of `in` into *out, which is empty; or sets *same and leaves *out
     * alone if it would be the same text. */
    qn_status (*apply)(const struct qni_normalizer *self, const qni_piece *in, qni_string *out,
                       bool *same);
} qni_normalizer;

/* tokenizer_encode.c. Runs all normalizers; *piece becomes one of the buffers, or stays. */
qn_status qni_normalize(const qn_tokenizer *t, qni_string buffer[2], qni_piece *piece) QN_CHECKED;

/* ---- splitters (pre-tokenizers) -------------------------------------------------------------- */

struct qni_walk;

typedef struct qni_splitter {
    /* Cuts or rewrites a piece and hands each part on with qni_walk_next. */
    qn_status (*split)(const struct qni_splitter *self, struct qni_walk *w, int depth,
                       const qni_piece *piece);
} qni_splitter;

/* Hands a piece to the splitter after number `depth`, or to the model. Empty pieces are dropped. */
qn_status qni_walk_next(struct qni_walk *w, int depth, const qni_piece *piece) QN_CHECKED;
/* The empty string that the splitter at `depth` may write to; valid until it is asked for again. */
qni_string *qni_walk_string(struct qni_walk *w, int depth);

/* tokenizer_split.c: steps for forms that do not come as JSON. */
qn_status qni_add_pattern(qn_tokenizer *t, const char *regex) QN_CHECKED;
qn_status qni_add_byte_level(qn_tokenizer *t, bool add_prefix_space, bool use_regex) QN_CHECKED;
/* Takes the last step away again if it maps bytes to their alphabet: true if it did. */
bool qni_drop_byte_map(qn_tokenizer *t);

/* tokenizer_scan.c. The end of the piece that a split pattern finds at `at` < bytes. */
typedef int64_t qni_scan(const char *text, int64_t at, int64_t bytes);
/* The scanner of a pattern that is known letter by letter, else NULL. */
qni_scan *qni_scan_known(const char *regex);
const char *qni_scan_regex(int index); /* the known patterns from 0; NULL ends them */
#define QNI_GPT2_PATTERN                                                                           \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* tokenizer_regex.c. Patterns as the reference's engine (Oniguruma) reads them, run by PCRE2. */
typedef struct qni_regex qni_regex;
/* QN_ERR_FORMAT with the place in the pattern for what the two engines do not read alike. */
qn_status qni_regex_compile(qn_tokenizer *t, const char *pattern, qni_regex **out) QN_CHECKED;
void qni_regex_release(qni_regex *r);
/* The next match in text[at..bytes); *begin = -1 if there is none. */
qn_status qni_regex_find(const qni_regex *r, const char *text, int64_t bytes, int64_t at,
                         int64_t *begin, int64_t *end) QN_CHECKED;

/* ---- model ----------------------------------------------------------------------------------- */

typedef struct qni_token {
    int32_t id;    /* -1: bytes of the piece that give no token */
    int32_t bytes; /* of the piece that it covers */
} qni_token;

typedef struct qni_tokens {
    qni_token *token;
    int64_t n, capacity;
} qni_tokens;

qn_status qni_tokens_reserve(qni_tokens *t, int64_t more) QN_CHECKED;
static inline void qni_tokens_put(qni_tokens *t, int32_t id, int64_t bytes) { /* room is there */
    t->token[t->n++] = (qni_token){id, (int32_t)bytes};
}

typedef struct qni_memory { /* working memory of a call: contents are lost when it grows */
    void *data;
    size_t bytes;
} qni_memory;

void *qni_memory_get(qni_memory *m, size_t bytes); /* NULL: out of memory, message set */

typedef struct qni_model {
    /* Appends the tokens of a piece of 1 to 2^30 bytes, which together cover it. A function of the
     * piece alone: short pieces are remembered. */
    qn_status (*encode)(const struct qni_model *self, qni_memory *memory, const char *piece,
                        int64_t bytes, qni_tokens *out);
    bool remember; /* pieces are words that come again */
} qni_model;

/* ---- decoders -------------------------------------------------------------------------------- */

/* Tokens go through the chain as strings. A decoder may pass a string on in several chunks: `begin`
 * marks the first chunk of a string, `end` its last. */
typedef struct qni_chunk {
    const char *text;
    int64_t bytes;
    bool begin, end;
} qni_chunk;

typedef struct qni_decode_state { /* what a decoder remembers between pushes; starts as {0} */
    qn_text held;
    int64_t count;
    bool started;
} qni_decode_state;

struct qni_decoding;

typedef struct qni_decoder {
    /* Takes a chunk and hands on what is certain with qni_decode_next. */
    qn_status (*push)(const struct qni_decoder *self, qni_decode_state *state,
                      struct qni_decoding *d, int depth, const qni_chunk *chunk);
    /* No more strings come: hands on what is held. NULL if nothing ever is. */
    qn_status (*finish)(const struct qni_decoder *self, qni_decode_state *state,
                        struct qni_decoding *d, int depth);
} qni_decoder;

/* tokenizer_decode.c: the alphabet of byte-level models back to bytes. */
qn_status qni_add_byte_decoder(qn_tokenizer *t) QN_CHECKED;

/* Hands a chunk to the decoder after number `depth`, or to the text. */
qn_status qni_decode_next(struct qni_decoding *d, int depth, const qni_chunk *chunk) QN_CHECKED;

/* ---- added tokens (tokenizer_added.c) -------------------------------------------------------- */

typedef struct qni_added {
    const char *text;
    int32_t bytes, id;
    bool single_word, lstrip, rstrip, normalized, special;
    const char *shown; /* what it decodes to, if that is not its text: the text normalised */
    int64_t shown_bytes;
} qni_added;

enum { QNI_SPECIAL = 1, QNI_SHOWN = 2 }; /* what qn_tokenizer's `mark` says of an id */

struct qni_matcher; /* leftmost-longest search for the added tokens of one kind */

/* Makes t->raw and t->normal; once all tokens and normalizers are there. */
qn_status qni_make_matchers(qn_tokenizer *t) QN_CHECKED;

typedef struct qni_match {
    int32_t id;
    int64_t begin, end;
} qni_match;

/* The next added token in a piece. *search is where to go on, 0 at first; `from` the end of the
 * last match, which lstrip does not pass. False if there is none. */
bool qni_match_next(const struct qni_matcher *m, const qni_piece *p, bool parse_special,
                    int64_t *search, int64_t from, qni_match *out);

/* ---- post-processing ------------------------------------------------------------------------- */

typedef struct qni_template_item {
    int32_t id; /* a special token; -1: the first text, -2: the second */
    int32_t type;
} qni_template_item;

typedef struct qni_template {
    qni_template_item item[16];
    int n; /* 0: the texts alone */
} qni_template;

/* ---- the object ------------------------------------------------------------------------------ */

struct qni_scratch; /* buffers and remembered pieces of a call */
void qni_scratch_free_all(struct qni_scratch *s);
qn_status qni_ids_reserve(qn_ids *ids, int64_t more, bool offsets) QN_CHECKED;

struct qn_tokenizer {
    qn_setup *arena; /* owns everything here but `regex`, `vocab` and the scratch */
    qni_file_set files;
    char identity[QN_SHA256_HEX];
    qn_vocab *vocab; /* a byte or character vocabulary: then nothing below is used */
    char *vocab_json;

    qni_table table; /* every token by its spelling: the model's and the added ones */
    int64_t model_size;
    const qni_normalizer *normalizer[QNI_MAX_STEPS];
    const qni_splitter *splitter[QNI_MAX_STEPS];
    const qni_model *model;
    const qni_decoder *decoder[QNI_MAX_STEPS];
    int n_normalizers, n_splitters, n_decoders;
    qni_added *added;
    int64_t n_added, added_capacity;
    struct qni_matcher *raw, *normal; /* NULL: no such token */
    uint8_t *mark;                    /* by id: QNI_SPECIAL, QNI_SHOWN */
    qni_template single, pair;
    int32_t role[QN_TOKEN_ROLES];
    qni_regex *regex[QNI_MAX_STEPS]; /* released with the tokenizer */
    int n_regexes;

    pthread_mutex_t lock; /* of `idle` alone */
    struct qni_scratch *idle;
};

/* Readers append steps; QN_ERR_FORMAT if there are too many. The step is arena memory. */
qn_status qni_add_normalizer(qn_tokenizer *t, const qni_normalizer *n) QN_CHECKED;
qn_status qni_add_splitter(qn_tokenizer *t, const qni_splitter *s) QN_CHECKED;
qn_status qni_add_decoder(qn_tokenizer *t, const qni_decoder *d) QN_CHECKED;
/* Enters a copy of the token into the table; one that is already added is replaced. */
qn_status qni_add_token(qn_tokenizer *t, const qni_added *a) QN_CHECKED;

/* ---- reading tokenizer.json: tokenizer_json.c ------------------------------------------------ */

/* QN_ERR_FORMAT "name:line:column: what" for the place of `at`. */
qn_status qni_json_fail(const cJSON *at, const char *format, ...) QN_PRINTF(2, 3) QN_CHECKED;
/* The same for a status of QN_ERR_FORMAT and its message; another status is passed on. */
qn_status qni_json_prefix(const cJSON *at, qn_status s) QN_CHECKED;
/* A member of a component: absent or null gives *inout unchanged where `fallback` is true, else an
 * error. Strings point into the JSON tree. */
qn_status qni_json_bool(const cJSON *object, const char *key, bool fallback,
                        bool *inout) QN_CHECKED;
qn_status qni_json_int(const cJSON *object, const char *key, bool fallback, int64_t low,
                       int64_t high, int64_t *inout) QN_CHECKED;
qn_status qni_json_string(const cJSON *object, const char *key, bool fallback,
                          const char **inout) QN_CHECKED;
/* Memory of a step, zeroed; NULL: out of memory. */
#define QNI_STEP(t, type) ((type *)qn_setup_alloc((t)->arena, sizeof(type)))

/* One row per "type" of a component: reads its members and appends the step. */
typedef struct qni_component {
    const char *type;
    qn_status (*read)(qn_tokenizer *t, const cJSON *json);
} qni_component;

/* Each ends with a NULL type. A room file per kind of component: */
extern const qni_component qni_normalizers[]; /* tokenizer_normalize.c */
extern const qni_component qni_splitters[];   /* tokenizer_split.c */
extern const qni_component qni_decoders[];    /* tokenizer_decode_steps.c */
extern const qni_component qni_models[];      /* tokenizer_json.c: sets t->table, model, role */

/* tokenizer_metaspace.c */
qn_status qni_read_metaspace(qn_tokenizer *t, const cJSON *json) QN_CHECKED;
qn_status qni_read_metaspace_decoder(qn_tokenizer *t, const cJSON *json) QN_CHECKED;

/* A vocabulary {"token": id, ...} into t->table. */
qn_status qni_json_vocab(qn_tokenizer *t, const cJSON *vocab) QN_CHECKED;
/* The id of a model's unk_token, which becomes the role; -1 stays without one. */
qn_status qni_json_unk(qn_tokenizer *t, const cJSON *json, int32_t *inout) QN_CHECKED;
/* tokenizer_template.c: the post-processor, NULL or null for none. */
qn_status qni_json_template(qn_tokenizer *t, const cJSON *json) QN_CHECKED;
/* {"String": s} or {"Regex": r}; exactly one of *text and *regex is set. */
qn_status qni_json_pattern(const cJSON *object, const char *key, const char **text,
                           const char **regex) QN_CHECKED;

/* ---- the forms of tokenizers ----------------------------------------------------------------- */

/* Picks the form by what is in t->files and builds everything but the matchers. */
qn_status qni_read_files(qn_tokenizer *t) QN_CHECKED;

/* Each form. `class` is tokenizer_config.json's tokenizer_class, NULL if it has none. */
qn_status qni_read_json(qn_tokenizer *t, const qni_bytes *file) QN_CHECKED;
qn_status qni_read_merges(qn_tokenizer *t, const qni_bytes *vocab, const qni_bytes *merges,
                          const char *class) QN_CHECKED;
bool qni_is_ranks(const qni_bytes *file); /* the first line is one of a rank file */
qn_status qni_read_ranks(qn_tokenizer *t, const qni_bytes *file) QN_CHECKED;

#endif
