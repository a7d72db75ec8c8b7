/* hf_export.h — a trained model as a Hugging Face directory. */
#ifndef QN_HF_EXPORT_H
#define QN_HF_EXPORT_H

#include "io/config.h"
#include "engine/params.h"

typedef struct qn_hf_export_options {
    const char *dir; /* must not exist */
    const qn_config *config;
    const qn_params *params; /* bound; those of adapters are left out */
    qn_dtype dtype;          /* QN_F32, QN_BF16 or QN_F16 */
    int64_t shard_bytes;     /* of tensors in one file */
} qn_hf_export_options;

/* Writes config.json, generation_config.json, model.safetensors (or shards and their index), and
 * the tokenizer's files as they lie in data.tokenizer or model.pretrained. From that directory's
 * config.json and generation_config.json come the members that are not about the model's shape,
 * such as special tokens. The directory appears whole or not at all. *notes (qn_free)
 * has a line for what a reader may miss, "" if nothing. */
qn_status qn_hf_export(const qn_hf_export_options *o, char **notes) QN_CHECKED;

#endif
