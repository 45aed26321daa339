#include "ck_moments.h"

#include <stdatomic.h>
#include <string.h>

#include "clones.h"

CLONES void ck_moments_pack(const float *restrict x, size_t rows, size_t stride, size_t columns,
                            double *restrict packed, size_t panel_stride) {
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

CLONES void ck_moments_sum(const double *restrict panel, size_t rows, double *restrict sums) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < ck_panel; c++) sums[c] += panel[r * ck_panel + c];
    }
}

CLONES void ck_add_widened(const float *restrict x, double *restrict sums, size_t count) {
    for (size_t i = 0; i < count; i++) sums[i] += (double)x[i];
}

CLONES void ck_column_powers(const float *restrict x, size_t rows, size_t stride, size_t columns,
                             double *restrict first, double *restrict second, double *restrict fourth) {
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
KERNEL(update_avx512, __attribute__((target("avx512f,fma"), min_vector_width(512))), 8, 8)
KERNEL(update_avx2, __attribute__((target("avx2,fma"))), 4, 2)
#endif
KERNEL(update_baseline, , 2, 1)

typedef void (*kernel)(const double *, const double *, size_t, double *);

static kernel kernel_for(const char *instruction_set) {
#if defined(__x86_64__)
    if (strcmp(instruction_set, "avx512") == 0 && __builtin_cpu_supports("avx512f")) return update_avx512;
    if (strcmp(instruction_set, "avx2") == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return update_avx2;
#endif
    return strcmp(instruction_set, "baseline") == 0 ? update_baseline : NULL;
}

const char *ck_instruction_set(void) { return kernel_for("avx512") ? "avx512" : kernel_for("avx2") ? "avx2" : "baseline"; }

void ck_moments_update(const double *a, const double *b, size_t rows, double *block) {
    static _Atomic(kernel) best;
    kernel update = best;
    if (!update) best = update = kernel_for(ck_instruction_set());
    update(a, b, rows, block);
}

bool ck_moments_update_by(const char *instruction_set, const double *a, const double *b, size_t rows, double *block) {
    kernel update = kernel_for(instruction_set);
    if (update) update(a, b, rows, block);
    return update != NULL;
}
