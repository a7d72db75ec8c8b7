/* tokenizer_normalize.c — the normalizers of tokenizer.json. */
#include "io/tokenizer_parts.h"

const qni_component qni_normalizers[] = {{0}};
