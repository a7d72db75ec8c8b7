/* gpu_entry.h — Quern's ops and training steps for a program that is not Quern's own.
 *
 * The plain C face of libquern_gpu.so: bench/gpu_torch.py calls it through ctypes on PyTorch's own
 * tensors, so that both sides run in one process, on one memory, under one clock. Tensors and
 * attributes are the structs of kernels/kernels.h and kernels/attrs.h. Functions that return int
 * return a qn_status, 0 on success; qn_gpu_error then tells what went wrong.
 */
#ifndef QN_GPU_ENTRY_H
#define QN_GPU_ENTRY_H

#include "engine/engine.h"

const char *qn_gpu_error(void);
/* "cuda" or "cpu": starts it and says what it is. */
int qn_gpu_start(const char *device, char *text, size_t size);

/* ---- one op (gpu_entry.c) -------------------------------------------------------------------- */

typedef struct qn_gpu_call qn_gpu_call;

/* Describes and prepares a call of the op of that name. in and out have its n_in and n_out slots;
 * NULL where an optional one is absent. An output must have the shape that the op gives it; its
 * dtype may be another (f32 gradients). The tensors and attributes are copied, what they point to
 * stays the caller's and must outlive the call. */
int qn_gpu_open(const char *op, const char *device, const qn_tensor *const *in,
                const qn_tensor *const *out, const void *attrs, size_t attr_bytes,
                uint32_t accumulate, qn_gpu_call **handle);
/* Enqueues it on the stream (cudaStream_t, NULL = the default one). May be captured as a graph. */
int qn_gpu_run(qn_gpu_call *handle, void *stream);
/* Compulsory bytes and flops. */
void qn_gpu_cost(const qn_gpu_call *handle, double *bytes, double *flops);
void qn_gpu_close(qn_gpu_call *handle);

/* ---- training (gpu_session.c) ---------------------------------------------------------------- */

typedef struct qn_gpu_model { /* GPT-2, in Hugging Face's words */
    int64_t vocab_size, hidden_size, layers, heads, positions;
    int64_t batch_size, accumulate;
    double lr, weight_decay, beta1, beta2, eps, clip_norm;
    int64_t seed;
    const char *precision, *device; /* "f32", "bf16", "bf16_sr"; "cuda", "cpu" */
} qn_gpu_model;

typedef struct qn_gpu_training qn_gpu_training;

int qn_gpu_train_open(const qn_gpu_model *model, qn_gpu_training **handle);
/* Parameters by number; name is Hugging Face's; *transposed: Hugging Face stores it [in,out], here
 * it is [out,in]. Returns 0 past the last one. */
int qn_gpu_train_param(const qn_gpu_training *handle, int i, const char **name, int *transposed,
                       int64_t *count);
/* Takes `count` f32 values of host memory for parameter i, in the order of storage here. */
int qn_gpu_train_set(qn_gpu_training *handle, int i, const float *values, int64_t count);
/* One optimizer step on host arrays (accumulate, batch, positions) of i32, every target counting;
 * waits for its loss. Steps count from 0. */
int qn_gpu_train_step(qn_gpu_training *handle, const int32_t *tokens, const int32_t *targets,
                      double *loss, double *norm);
/* `steps` of them on the same batch, for timing: as training runs, one step ahead of the host. */
int qn_gpu_train_steps(qn_gpu_training *handle, const int32_t *tokens, const int32_t *targets,
                       int64_t steps, double *seconds);
void qn_gpu_train_memory(const qn_gpu_training *handle, int64_t *run_bytes, int64_t *pool_bytes);
void qn_gpu_train_close(qn_gpu_training *handle);

#endif
