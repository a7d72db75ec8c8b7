/* gpu_tune.h — every tile that can run a product, timed on the shapes that training multiplies. */
#ifndef QN_GPU_TUNE_H
#define QN_GPU_TUNE_H

#include "engine/engine.h"

/* Prints one JSON line per shape and tile: what the chooser expects, what it takes, whether it is
 * what the chooser takes. `device`: for the records. Needs CUDA. */
qn_status qn_gpu_tune(bool tiny, const char *device) QN_CHECKED;

#endif
