#ifndef CK_MOMENTS_H
#define CK_MOMENTS_H

#include <stddef.h>

/// Columns of one packed panel; a moment matrix is stored in square blocks of this edge.
enum { ck_panel = 24 };

/// Widens `rows` single-precision rows of `columns` to double precision and cuts them into panels of ck_panel columns,
/// the missing columns of the last one zero: row r of panel p starts at `packed + p * panel_stride + r * ck_panel`.
void ck_moments_pack(const float *x, size_t rows, size_t stride, size_t columns, double *packed, size_t panel_stride);

/// Adds each of the ck_panel columns' sum over the rows of a packed panel to `sums`.
void ck_moments_sum(const double *panel, size_t rows, double *sums);

/// blocks[p] ← blocks[p] + leftₚᵀ·right in double precision, for `panels` packed panels at `left`, `stride` numbers apart,
/// and one at `right`, each of `rows` rows. A block is ck_panel × ck_panel numbers; they follow each other.
///
/// An element's products are added up in the order of the rows, from zero, and then to the block. Those of numbers in
/// single precision are exact in double, so that all instruction sets give the same bits.
void ck_moments_update(const double *left, size_t panels, size_t stride, const double *right, size_t rows,
                       double *blocks);

/// Adds Σ x, Σ x² and Σ x⁴ of each column, in double precision, to `first`, `second` and `fourth`.
void ck_column_powers(const float *x, size_t rows, size_t stride, size_t columns, double *first, double *second,
                      double *fourth);

/// sums ← sums + x.
void ck_add_widened(const float *x, double *sums, size_t count);

#endif
