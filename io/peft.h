/* peft.h — adapters in PEFT's files: adapter_config.json and adapter_model.safetensors.
 *
 * A tensor's key is `base_model.model.`, the module's path in Hugging Face's model, and
 * lora_A.weight (r, in), lora_B.weight (out, r) or lora_magnitude_vector (out). Modules that are
 * trained whole are there under their own names, the bias of an adapted layer as `base_layer.bias`.
 * Which layers have adapters, and of which rank, the tensors tell; alpha comes from the
 * configuration, whose patterns are regular expressions.
 */
#ifndef QN_PEFT_H
#define QN_PEFT_H

#include "io/config.h"
#include "layers/layers.h"

typedef struct qn_peft qn_peft;

/* Opens a directory. QN_ERR_FORMAT or QN_ERR_DATA for anything but a LoRA adapter as PEFT writes
 * one, and for what this engine has no counterpart of (adapted embeddings, biases of adapters,
 * adapters that come with changed base weights): it names file and key. */
qn_status qn_peft_open(const char *dir, qn_peft **out) QN_CHECKED;
void qn_peft_close(qn_peft *a); /* NULL is legal */
/* Lines people should see: keys of adapter_config.json that are not known. "" if there is none. */
const char *qn_peft_notes(const qn_peft *a);
/* What the model must be declared with; lives as long as the adapter is open. */
const qn_lora_config *qn_peft_config(const qn_peft *a);
/* base_model_name_or_path, "" if it is not stated. */
const char *qn_peft_base(const qn_peft *a);
/* model.head by its task_type, NULL if that says nothing; *labels: of a classifier that was saved
 * with the adapter, else 0. */
const char *qn_peft_head(const qn_peft *a, int64_t *labels);

/* Fills the adapters of bound parameters, and the modules trained beside them. Tensors that are
 * missing, unexpected or of another shape are QN_ERR_DATA that lists them, and so are layers whose
 * adapter is multiplied by another number here; nothing is written then. */
qn_status qn_peft_load(const qn_peft *a, qn_params *p) QN_CHECKED;

/* Writes DIR, which must not exist, with adapter_config.json and adapter_model.safetensors (f32):
 * the adapters of bound parameters and what was trained beside them. The configuration tells the
 * base model, the task and how the adapters were made. The directory appears whole or not at
 * all. */
qn_status qn_peft_write(const char *dir, const qn_config *c, const qn_params *p) QN_CHECKED;

/* The key of a parameter in PEFT's file. */
void qn_peft_key(const qn_params *p, int i, char *key, size_t size);

#endif
