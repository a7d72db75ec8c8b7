/* tokenizer_forms.c — which form the files have, and the small files beside it: special tokens and
 * their roles. */
#include "io/tokenizer_sentencepiece.h"
#include "io/tokenizer_wordpiece.h"

#include <string.h>

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && strcmp(name + n - m, with) == 0;
}

qn_status qni_read_files(qn_tokenizer *t) {
    if (t->files.n == 0) return qn_fail(QN_ERR_FORMAT, "tokenizer: found no files");
    const qni_bytes *f = &t->files.file[0];
    if (ends(f->name, ".json")) return qni_read_json(t, f);
    if (qni_is_sentencepiece(f)) return qni_read_sentencepiece(t, f);
    if (ends(f->name, "vocab.txt")) return qni_read_vocab_txt(t, f);
    return qn_fail(QN_ERR_FORMAT, "%s: found no form of tokenizer that Quern knows", f->name);
}
