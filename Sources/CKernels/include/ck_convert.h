#ifndef CK_CONVERT_H
#define CK_CONVERT_H

#include <stddef.h>
#include <stdint.h>

/// bfloat16 and IEEE half precision are given by their 16 bits.
void ck_bf16_to_f32(const uint16_t *in, float *out, size_t count);
/// Rounds to nearest, ties to even; NaN stays NaN.
void ck_f32_to_bf16(const float *in, uint16_t *out, size_t count);
void ck_f16_to_f32(const uint16_t *in, float *out, size_t count);
/// Rounds to nearest, ties to even; beyond the largest half it becomes infinity.
void ck_f32_to_f16(const float *in, uint16_t *out, size_t count);
void ck_f64_to_f32(const double *in, float *out, size_t count);
void ck_f32_to_f64(const float *in, double *out, size_t count);

/// Index of the first element that is infinite or not a number, or `count` if there is none.
size_t ck_first_not_finite(const float *in, size_t count);

#endif
