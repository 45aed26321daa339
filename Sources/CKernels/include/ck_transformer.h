#ifndef CK_TRANSFORMER_H
#define CK_TRANSFORMER_H

#include <stddef.h>

/// x ← silu(x) = x / (1 + e^−x).
void ck_silu(float *x, size_t count);
/// gate ← silu(gate) · up.
void ck_silu_multiply(float *gate, const float *up, size_t count);
/// gate ← gate · up.
void ck_multiply(float *gate, const float *up, size_t count);
/// x ← x + y.
void ck_add(float *x, const float *y, size_t count);
/// x ← factor · x.
void ck_scale(float *x, float factor, size_t count);

/// out ← weight · x / √(mean(x²) + epsilon), one row. `out` may be `x`.
void ck_rms_norm(const float *x, const float *weight, float *out, size_t count, float epsilon);

/// Rotates each head of one row by its position: (a, b) ← (a·cos − b·sin, b·cos + a·sin), where a is the first and b the
/// second half of the head. `cosine` and `sine` hold size / 2 numbers.
void ck_rotate_halves(float *row, size_t heads, size_t size, const float *cosine, const float *sine);

/// row ← e^(scale · (row − maximum)); returns the sum of the new entries. `scale` is positive.
float ck_softmax_numerators(float *row, size_t count, float scale);

/// log Σ e^row, and in `argmax` the index of the largest entry (the first of equals).
float ck_log_sum_exp(const float *row, size_t count, size_t *argmax);

#endif
