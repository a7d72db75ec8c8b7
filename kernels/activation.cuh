/* activation.cuh — the activations and their derivatives on the device, in f32.
 *
 * One definition for the elementwise kernels and the epilogues of the products. Formulas are those
 * of the reference (engine/vecmath.h); exp, erfc and tanh are CUDA's (2 to 4 ulp), the division is
 * IEEE. 1 + erf(z) is erfc(-z): no cancellation where it is small.
 */
#ifndef QN_ACTIVATION_CUH
#define QN_ACTIVATION_CUH

#include "kernels/common.cuh"

/* The tanh form of GELU is x sigmoid(x (A + B x^2)), A = 2 sqrt(2/pi), B = 0.044715 A. */
#define QN_GELU_A 1.5957691216057308f
#define QN_GELU_B 0.0713548162726009f

QN_DEV float sigmoid_f32(float x) { return 1.0f / (1.0f + expf(-x)); }

QN_DEV float act_f32(qn_activation kind, float x) {
    switch (kind) {
    case QN_ACT_GELU: return 0.5f * x * erfcf(x * -0.70710678118654752f);
    case QN_ACT_GELU_TANH: return x * sigmoid_f32(x * (QN_GELU_A + QN_GELU_B * x * x));
    case QN_ACT_RELU: return x < 0.0f ? 0.0f : x;
    case QN_ACT_SILU: return x * sigmoid_f32(x);
    case QN_ACT_SIGMOID: return sigmoid_f32(x);
    case QN_ACT_TANH: return tanhf(x);
    default: return x;
    }
}

QN_DEV float act_slope_f32(qn_activation kind, float x) {
    float s;
    switch (kind) {
    case QN_ACT_GELU:
        s = 0.5f * erfcf(x * -0.70710678118654752f);
        return s + x * 0.39894228040143268f * expf(-0.5f * x * x);
    case QN_ACT_GELU_TANH:
        s = sigmoid_f32(x * (QN_GELU_A + QN_GELU_B * x * x));
        return s + s * (1.0f - s) * x * (QN_GELU_A + 3.0f * QN_GELU_B * x * x);
    case QN_ACT_RELU: return x <= 0.0f ? 0.0f : 1.0f;
    case QN_ACT_SILU: s = sigmoid_f32(x); return s + s * x * (1.0f - s);
    case QN_ACT_SIGMOID: s = sigmoid_f32(x); return s * (1.0f - s);
    case QN_ACT_TANH: s = tanhf(x); return 1.0f - s * s;
    default: return 1.0f;
    }
}

#endif
