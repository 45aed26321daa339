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

// A tile of the block – some columns of a left panel by some of the right one – stays in registers while the kernel runs
// down the rows. The right panel's columns stay in the first-level cache for all left panels. Every element is a sum
// over the rows in order, started from zero and then added to the block, whatever the shape of the tiles.

/// Rows that a kernel asks for ahead of their use: strips of the left panel come from the second-level cache, and a third
/// of the lines, as a strip has them, is not what processors fetch by themselves. Measured on Zen 4: 4 to 8 %.
enum { ahead = 12 };

/// Defines `name(left, right, rows, block)`: the `height` × `vectors` · `width` tile at `block`, whose rows are ck_panel
/// apart, as those of the panels are.
#define TILE(name, attributes, width, height, vectors)                                                         \
    attributes static void name(const double *restrict left, const double *restrict right, size_t rows,        \
                                double *restrict block) {                                                      \
        typedef double vector __attribute__((vector_size(width * 8), aligned(8)));                             \
        for (int i = 0; i < height; i++) {                                                                     \
            __builtin_prefetch(block + i * ck_panel, 1);                                                       \
            __builtin_prefetch(block + i * ck_panel + vectors * width - 1, 1);                                 \
        }                                                                                                      \
        vector sum[height][vectors];                                                                           \
        for (int i = 0; i < height; i++)                                                                       \
            for (int j = 0; j < vectors; j++) sum[i][j] = (vector){0};                                         \
        for (size_t r = 0; r < rows; r++) {                                                                    \
            const vector *b = (const vector *)(right + r * ck_panel);                                          \
            __builtin_prefetch(left + (r + ahead) * ck_panel);                                                 \
            for (int i = 0; i < height; i++)                                                                   \
                for (int j = 0; j < vectors; j++) sum[i][j] += left[r * ck_panel + i] * b[j];                  \
        }                                                                                                      \
        for (int i = 0; i < height; i++) {                                                                     \
            vector *out = (vector *)(block + i * ck_panel);                                                    \
            for (int j = 0; j < vectors; j++) out[j] += sum[i][j];                                             \
        }                                                                                                      \
    }

/// Defines `name`, a whole update by tiles of `height` × `across` columns.
#define UPDATE(name, attributes, tile, height, across)                                                         \
    attributes static void name(const double *left, size_t panels, size_t stride, const double *right,         \
                                size_t rows, double *blocks) {                                                 \
        for (int column = 0; column < ck_panel; column += across)                                              \
            for (size_t p = 0; p < panels; p++)                                                                \
                for (int row = 0; row < ck_panel; row += height)                                               \
                    tile(left + p * stride + row, right + column, rows,                                        \
                         blocks + (p * ck_panel + (size_t)row) * ck_panel + column);                           \
    }

#if defined(__x86_64__)
TILE(tile_avx512, AVX512 __attribute__((min_vector_width(512))), 8, 8, 3)
UPDATE(update_avx512, AVX512, tile_avx512, 8, 24)
// 12 sums, a row of the right panel and one number of the left in 16 registers.
TILE(tile_avx2, AVX2, 4, 4, 3)
UPDATE(update_avx2, AVX2, tile_avx2, 4, 12)

/// The same for SSE2, which cannot load one number into both halves of a register: a pair of left columns is multiplied
/// by a pair of right ones, and by the same with its halves exchanged. Eight sums, 4 × 4 columns: with twelve, the
/// compiler keeps one of them in memory, and all wait for it.
static void tile_baseline(const double *restrict left, const double *restrict right, size_t rows,
                          double *restrict block) {
    typedef double vector __attribute__((vector_size(16), aligned(8)));
    vector straight[2][2] = {0}, crossed[2][2] = {0};
    for (size_t r = 0; r < rows; r++) {
        const vector *a = (const vector *)(left + r * ck_panel), *b = (const vector *)(right + r * ck_panel);
        for (int j = 0; j < 2; j++) {
            vector pair = b[j], exchanged = __builtin_shufflevector(pair, pair, 1, 0);
            for (int i = 0; i < 2; i++) {
                straight[i][j] += a[i] * pair;
                crossed[i][j] += a[i] * exchanged;
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            double *out = block + 2 * i * ck_panel + 2 * j;
            out[0] += straight[i][j][0];
            out[1] += crossed[i][j][0];
            out[ck_panel] += crossed[i][j][1];
            out[ck_panel + 1] += straight[i][j][1];
        }
    }
}

/// Two tiles side by side use whole lines of the right panel.
static void tiles_baseline(const double *left, const double *right, size_t rows, double *block) {
    tile_baseline(left, right, rows, block);
    tile_baseline(left, right + 4, rows, block + 4);
}
UPDATE(update_baseline, , tiles_baseline, 4, 8)
#else
// 24 sums, four registers for the right panel and one for the left: NEON has 32.
TILE(tile_baseline, , 2, 6, 4)
UPDATE(update_baseline, , tile_baseline, 6, 8)
#endif

void ck_moments_update(const double *left, size_t panels, size_t stride, const double *right, size_t rows,
                       double *blocks) {
    switch (ck_chosen()) {
#if defined(__x86_64__)
    case ck_avx512: update_avx512(left, panels, stride, right, rows, blocks); break;
    case ck_avx2: update_avx2(left, panels, stride, right, rows, blocks); break;
#endif
    default: update_baseline(left, panels, stride, right, rows, blocks);
    }
}
