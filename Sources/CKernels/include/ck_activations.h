#ifndef CK_ACTIVATIONS_H
#define CK_ACTIVATIONS_H

#include <stddef.h>

// Four loops for each activation f:
//
//     ck_f(x, out, count)                                              out ← f(x)
//     ck_f_multiply(gate, up, out, count)                              out ← f(gate) · up
//     ck_f_backward(x, gradient, count)                                gradient ← gradient · f'(x)
//     ck_f_multiply_backward(gate, up, gradient, up_gradient, count)   backward of f(gate) · up: `gradient` comes as the
//                                                                      product's and leaves as the gate's
//
// `out` may be one of the operands.

/// silu(x) = x / (1 + e^−x); silu'(x) = s·(1 + x·(1 − s)) for s = 1 / (1 + e^−x).
void ck_silu(const float *x, float *out, size_t count);
void ck_silu_multiply(const float *gate, const float *up, float *out, size_t count);
void ck_silu_backward(const float *x, float *gradient, size_t count);
void ck_silu_multiply_backward(const float *gate, const float *up, float *gradient, float *up_gradient, size_t count);

// Of the others NaN gives NaN, and ±∞ the limit. The first three are x · F(x), where F rises from 0 to 1 and depends on an
// exponential, e^−z for positive x. With u = 2⁻²⁴ they are wrong by at most (10 + 5z)·u·|x|·F(−|x|), with z as for |x|,
// and by 2u·x more for positive x; their derivatives, F(x) + x·F'(x), by (10 + 5z)·u·(F(−|x|) + |x|·F'(x)), and by 2u more
// for positive x. Where the exponential becomes 0, beyond z = 87, that loses less than 2·10⁻³⁸ · (|x| or 1 + 3z).

/// GELU's approximation, ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), of Hendrycks and Gimpel, "Gaussian Error Linear Units",
/// 2016; z = 2√(2/π)·(x + 0.044715·x³).
void ck_gelu_tanh(const float *x, float *out, size_t count);
void ck_gelu_tanh_multiply(const float *gate, const float *up, float *out, size_t count);
void ck_gelu_tanh_backward(const float *x, float *gradient, size_t count);
void ck_gelu_tanh_multiply_backward(const float *gate, const float *up, float *gradient, float *up_gradient,
                                    size_t count);

/// GELU itself, ½x·(1 + erf(x / √2)); z = x² / 2. The error function in it is wrong by at most 2·10⁻⁷.
void ck_gelu(const float *x, float *out, size_t count);
void ck_gelu_multiply(const float *gate, const float *up, float *out, size_t count);
void ck_gelu_backward(const float *x, float *gradient, size_t count);
void ck_gelu_multiply_backward(const float *gate, const float *up, float *gradient, float *up_gradient, size_t count);

/// x / (1 + e^(−1.702·x)), the same authors' cheaper one; z = 1.702·x.
void ck_quick_gelu(const float *x, float *out, size_t count);
void ck_quick_gelu_multiply(const float *gate, const float *up, float *out, size_t count);
void ck_quick_gelu_backward(const float *x, float *gradient, size_t count);
void ck_quick_gelu_multiply_backward(const float *gate, const float *up, float *gradient, float *up_gradient,
                                     size_t count);

/// max(x, 0), exactly; its derivative at 0 is 0.
void ck_relu(const float *x, float *out, size_t count);
void ck_relu_multiply(const float *gate, const float *up, float *out, size_t count);
void ck_relu_backward(const float *x, float *gradient, size_t count);
void ck_relu_multiply_backward(const float *gate, const float *up, float *gradient, float *up_gradient, size_t count);

/// max(x, 0)², rounded once.
void ck_relu2(const float *x, float *out, size_t count);
void ck_relu2_multiply(const float *gate, const float *up, float *out, size_t count);
void ck_relu2_backward(const float *x, float *gradient, size_t count);
void ck_relu2_multiply_backward(const float *gate, const float *up, float *gradient, float *up_gradient, size_t count);

#endif
