/* hf_dir.h — where a Hugging Face model lies on this machine. */
#ifndef QN_HF_DIR_H
#define QN_HF_DIR_H

#include "engine/engine.h"

/* Whether a text has the form of a hub's name: NAME or ORG/NAME, then @REVISION or nothing. */
bool qn_hf_is_hub_name(const char *name);

/* The folder of a model in the hub's cache ($HF_HUB_CACHE, else $HF_HOME/hub, else
 * $XDG_CACHE_HOME or ~/.cache with /huggingface/hub): the snapshot that refs/REVISION (main) points
 * to, or of that commit. Nothing is downloaded. QN_ERR_DATA says where it was looked for. */
qn_status qn_hf_cached(const char *name, char *out, size_t size) QN_CHECKED;

#endif
