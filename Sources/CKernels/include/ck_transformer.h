#ifndef CK_TRANSFORMER_H
#define CK_TRANSFORMER_H

#include <stddef.h>

// `out` may be one of the operands.

/// out ← gate · up.
void ck_multiply(const float *gate, const float *up, float *out, size_t count);
/// out ← x + y.
void ck_sum(const float *x, const float *y, float *out, size_t count);
/// x ← factor · x.
void ck_scale(float *x, float factor, size_t count);

/// out ← (offset + weight) · x / √(mean(x²) + epsilon), one row. `out` may be `x`.
void ck_rms_norm(const float *x, const float *weight, float offset, float *out, size_t count, float epsilon);
/// out ← weight · (x − µ) / √(var + epsilon) + bias, one row, with its mean µ and var = mean((x − µ)²). `out` may be `x`;
/// a `bias` of NULL is none.
void ck_layer_norm(const float *x, const float *weight, const float *bias, float *out, size_t count, float epsilon);

/// Rotates each head of one row by its position: (a, b) ← (a·cos − b·sin, b·cos + a·sin), where a is the first and b the
/// second half of the head. `cosine` and `sine` hold size / 2 numbers; a direction of −1 rotates back, 1 forward.
void ck_rotate_halves(float *row, size_t heads, size_t size, const float *cosine, const float *sine, float direction);

/// row ← e^(scale · (row − maximum)); returns the sum of the new entries and, in `largest`, the maximum. `scale` is
/// positive.
float ck_softmax_numerators(float *row, size_t count, float scale, float *largest);

/// log Σ e^row, and in `argmax` the index of the largest entry (the first of equals).
float ck_log_sum_exp(const float *row, size_t count, size_t *argmax);

#endif
