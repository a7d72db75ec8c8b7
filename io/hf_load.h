/* hf_load.h — weights of a pretrained model, from safetensors into a session's parameters. */
#ifndef QN_HF_LOAD_H
#define QN_HF_LOAD_H

#include "engine/params.h"

enum { QN_HF_DIGEST = 33 }; /* 32 hexadecimal digits and a NUL */

typedef struct qn_hf_options {
    /* The output layer may be new: `head` parameters without a tensor keep their initial values. */
    bool new_head;
    bool external_only; /* read only what checkpoints leave to the pretrained model */
} qn_hf_options;

typedef struct qn_hf_loaded {
    char digest[QN_HF_DIGEST]; /* of names, shapes and bytes of the tensors that were used */
    char *notes;               /* lines people should see, "" if none; qn_free */
} qn_hf_loaded;

/* Fills the weights (and masters) of bound parameters from `path`, as qn_safetensors_open takes it,
 * straight from the mapping, block by block. A parameter's tensor is found by its hf_name, with or
 * without the base model's prefix, under LayerNorm's old names gamma and beta too; floats of any
 * width are converted; hf_transposed ones are transposed. A tied embedding may be stored under
 * either name or both. Buffers that older files hold (attention masks, rotary frequencies, position
 * ids) are passed over; so is the head of another task, with a note. Parameters of adapters are not
 * looked for.
 *
 * Tensors that are missing, unexpected or of another shape are QN_ERR_DATA, before any weight is
 * written: the message lists as many as it can hold, *details (qn_free; NULL if there is nothing to
 * tell) all of them, a line each. details may be NULL. */
qn_status qn_hf_load(qn_params *p, const char *path, const qn_hf_options *o, qn_hf_loaded *out,
                     char **details) QN_CHECKED;

#endif
