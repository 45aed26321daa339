#include "ck_moments.h"

#include "variants.h"

VARIANTS(void, ck_moments_pack,
         (const float *restrict x, size_t rows, size_t stride, size_t columns, double *restrict packed,
          size_t panel_stride), (x, rows, stride, columns, packed, panel_stride)) {
    size_t whole = columns / ck_panel, rest = columns % ck_panel;
    // Row by row: the rows are read as one stream, which the processor fetches ahead.
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * stride;
        double *out = packed + r * ck_panel;
        for (size_t p = 0; p < whole; p++) {
            for (size_t c = 0; c < ck_panel; c++) out[c] = row[c];
            row += ck_panel;
            out += panel_stride;
        }
        if (rest) {
            for (size_t c = 0; c < ck_panel; c++) out[c] = c < rest ? row[c] : 0;
        }
    }
}

VARIANTS(void, ck_moments_sum,
         (const double *restrict panel, size_t rows, double *restrict sums), (panel, rows, sums)) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < ck_panel; c++) sums[c] += panel[r * ck_panel + c];
    }
}

VARIANTS(void, ck_add_widened, (const float *restrict x, double *restrict sums, size_t count), (x, sums, count)) {
    for (size_t i = 0; i < count; i++) sums[i] += (double)x[i];
}

VARIANTS(void, ck_column_powers,
         (const float *restrict x, size_t rows, size_t stride, size_t columns, double *restrict first,
          double *restrict second, double *restrict fourth), (x, rows, stride, columns, first, second, fourth)) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            double value = x[r * stride + c], square = value * value;
            first[c] += value;
            second[c] += square;
            fourth[c] += square * square;
        }
    }
}

/// Defines a kernel that keeps `height` rows × ck_panel columns of the block in registers while it runs down the panels.
/// `width` doubles make a vector; height · ck_panel / width accumulators must fit the register file.
#define KERNEL(name, attributes, width, height)                                                                \
    attributes static void name(const double *restrict a, const double *restrict b, size_t rows,               \
                                double *restrict block) {                                                      \
        typedef double vector __attribute__((vector_size(width * 8), aligned(8)));                             \
        enum { vectors = ck_panel / width };                                                                   \
        for (size_t top = 0; top < ck_panel; top += height) {                                                  \
            vector sum[height][vectors];                                                                       \
            for (int i = 0; i < height; i++)                                                                   \
                for (int j = 0; j < vectors; j++) sum[i][j] = (vector){0};                                     \
            for (size_t r = 0; r < rows; r++) {                                                                \
                const double *left = a + r * ck_panel + top;                                                   \
                const vector *right = (const vector *)(b + r * ck_panel);                                      \
                for (int i = 0; i < height; i++)                                                               \
                    for (int j = 0; j < vectors; j++) sum[i][j] += left[i] * right[j];                         \
            }                                                                                                  \
            for (int i = 0; i < height; i++) {                                                                 \
                vector *out = (vector *)(block + (top + (size_t)i) * ck_panel);                                \
                for (int j = 0; j < vectors; j++) out[j] += sum[i][j];                                         \
            }                                                                                                  \
        }                                                                                                      \
    }

#if defined(__x86_64__)
KERNEL(update_avx512, AVX512 __attribute__((min_vector_width(512))), 8, 8)
KERNEL(update_avx2, AVX2, 4, 2)
#endif
KERNEL(update_baseline, , 2, 1)

void ck_moments_update(const double *a, const double *b, size_t rows, double *block) {
    switch (ck_chosen()) {
#if defined(__x86_64__)
    case ck_avx512: update_avx512(a, b, rows, block); break;
    case ck_avx2: update_avx2(a, b, rows, block); break;
#endif
    default: update_baseline(a, b, rows, block);
    }
}
