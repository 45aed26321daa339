#ifndef CK_MOMENTS_H
#define CK_MOMENTS_H

#include <stddef.h>

/// Columns of one packed panel; a moment matrix is stored in square blocks of this edge.
enum { ck_panel = 24 };

/// Widens rows × `count` (≤ ck_panel) single-precision columns to double precision and lays them out row after row,
/// ck_panel wide, missing columns zero. Adds each column's sum over the rows to `sums`.
void ck_moments_pack(const float *x, size_t rows, size_t stride, size_t count, double *packed, double *sums);

/// block ← block + aᵀ·b in double precision, for two packed panels of `rows` rows; `block` is ck_panel × ck_panel.
void ck_moments_update(const double *a, const double *b, size_t rows, double *block);

/// The widest instruction set that this processor and `ck_moments_update` have: "avx512", "avx2" or "baseline".
const char *ck_instruction_set(void);

#endif
