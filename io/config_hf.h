/* config_hf.h — what Hugging Face's config.json calls the keys of a model, for reading one as a
 * layer of a configuration and for writing one. */
#ifndef QN_CONFIG_HF_H
#define QN_CONFIG_HF_H

#include "io/config_table.h"

#define QNI_HF_DECODERS "llama|mistral|qwen2|qwen3"
#define QNI_HF_ENCODERS "bert|roberta"

/* ---- config_hf_table.c ----------------------------------------------------------------------- */

typedef struct qni_hf_key {
    const char *families; /* model_types that have it */
    const char *hf;       /* key of config.json; "a|b" = either */
    const char *key;
    const char *absent;  /* value where config.json lacks it; NULL = Quern's default */
    const char *neutral; /* a value that needs no support where `key` does not exist; NULL = none */
} qni_hf_key;
extern const qni_hf_key qni_hf_keys[];
extern const int qni_hf_key_count;

/* Quern's name of an activation: itself if it is called the same. */
const char *qni_hf_activation(const char *hf);
/* Hugging Face's, as this family's models are usually stored. */
const char *qni_hf_activation_name(const char *ours, const char *family);
/* The head of an architecture's name ("LlamaForCausalLM": "lm"), NULL if it says nothing of one;
 * and the architecture of a head, of at most 64 characters; false if the family has none. */
const char *qni_hf_head(const char *architecture);
bool qni_hf_architecture(const char *family, const char *head, char out[64]);

bool qni_hf_is_one_of(const char *word, const char *list); /* "a|b|c" */
/* The member of an object with one of the names "a|b", NULL if it has none. */
cJSON *qni_hf_member(const cJSON *root, const char *names);

/* ---- config_hf_write.c ----------------------------------------------------------------------- */

/* config.json of a configuration's model, whose embedding has `vocab` rows, whose head of labels
 * gives `labels` numbers and whose weights are stored as `dtype` ("float32"). base: the parsed
 * config.json it was trained from, whose other members are kept; NULL = none. QN_ERR_UNSUPPORTED
 * if Hugging Face has no such model. */
qn_status qni_hf_config_write(const qn_config *c, const cJSON *base, int64_t vocab, int64_t labels,
                              const char *dtype, qn_text *out) QN_CHECKED;

#endif
