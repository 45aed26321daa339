#include <math.h>

#include "ck_backward.h"
#include "ck_transformer.h"
#include "exponential.h"
#include "variants.h"

enum { column_block = 16 };

/// A first approximation of the mean of a row. What it is wrong by, about a rounding of the mean for each element of a
/// lane, the second pass over the row finds: see `mean_and_scale`.
INLINE float rough_mean(const float *x, size_t count) {
    float sums[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) sums[l] += x[i + l];
    }
    double sum = 0;
    for (; i < count; i++) sum += x[i];
    for (int l = 0; l < lanes; l++) sum += sums[l];
    return (float)(sum / (double)count);
}

/// The mean of a row, and 1 / √(var + epsilon), from `rough`, the sum of x − rough and the sum of its squares: the
/// corrected algorithm of two passes in Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
INLINE float mean_and_scale(float rough, double sum, double square, size_t count, float epsilon, float *mean) {
    double correction = sum / (double)count;
    double variance = square / (double)count - correction * correction;
    // Rounding alone can make it negative, where all elements are equal.
    variance = variance < 0 ? 0 : variance;
    *mean = (float)(rough + correction);
    return (float)(1.0 / sqrt(variance + epsilon));
}

VARIANTS(void, ck_layer_norm,
         (const float *x, const float *weight, const float *bias, float *out, size_t count, float epsilon),
         (x, weight, bias, out, count, epsilon)) {
    float rough = rough_mean(x, count);
    float sums[lanes] = {0}, squares[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) {
            float d = x[i + l] - rough;
            sums[l] += d;
            squares[l] += d * d;
        }
    }
    double sum = 0, square = 0;
    for (; i < count; i++) {
        double d = x[i] - rough;
        sum += d;
        square += d * d;
    }
    for (int l = 0; l < lanes; l++) {
        sum += sums[l];
        square += squares[l];
    }
    float mean, scale = mean_and_scale(rough, sum, square, count, epsilon, &mean);
    if (bias) {
        SAME_INDEX
        for (i = 0; i < count; i++) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
    } else {
        SAME_INDEX
        for (i = 0; i < count; i++) out[i] = (x[i] - mean) * scale * weight[i];
    }
}

VARIANTS(float, ck_layer_norm_backward,
         (const float *restrict x, const float *restrict weight, const float *restrict dy, float *restrict dx,
          size_t count, float epsilon, float *mean), (x, weight, dy, dx, count, epsilon, mean)) {
    float rough = rough_mean(x, count);
    float sums[lanes] = {0}, squares[lanes] = {0}, gradients[lanes] = {0}, products[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) {
            float d = x[i + l] - rough, g = weight[i + l] * dy[i + l];
            sums[l] += d;
            squares[l] += d * d;
            gradients[l] += g;
            products[l] += g * d;
        }
    }
    double sum = 0, square = 0, gradient = 0, product = 0;
    for (; i < count; i++) {
        double d = x[i] - rough, g = (double)weight[i] * dy[i];
        sum += d;
        square += d * d;
        gradient += g;
        product += g * d;
    }
    for (int l = 0; l < lanes; l++) {
        sum += sums[l];
        square += squares[l];
        gradient += gradients[l];
        product += products[l];
    }
    float scale = mean_and_scale(rough, sum, square, count, epsilon, mean), center = *mean;
    // Of g · (x − µ), from the sum of g · (x − rough).
    product -= sum / (double)count * gradient;
    float level = (float)(gradient / (double)count);
    float shift = (float)(product / (double)count * scale) * scale;
    for (i = 0; i < count; i++) dx[i] += scale * (weight[i] * dy[i] - level - (x[i] - center) * shift);
    return scale;
}

VARIANTS(void, ck_centered_weighted_column_sums,
         (const float *dy, size_t dy_stride, const float *x, size_t x_stride, const float *scales, const float *means,
          size_t rows, size_t columns, bool accumulating, float *sums),
         (dy, dy_stride, x, x_stride, scales, means, rows, columns, accumulating, sums)) {
    for (size_t first = 0; first < columns; first += column_block) {
        size_t width = columns - first < column_block ? columns - first : column_block;
        double block[column_block] = {0};
        for (size_t row = 0; row < rows; row++) {
            const float *a = dy + row * dy_stride + first, *b = x + row * x_stride + first;
            float scale = scales[row], mean = means[row];
            if (width == column_block) {
                for (int l = 0; l < column_block; l++) block[l] += a[l] * ((b[l] - mean) * scale);
            } else {
                for (size_t l = 0; l < width; l++) block[l] += a[l] * ((b[l] - mean) * scale);
            }
        }
        for (size_t l = 0; l < width; l++) sums[first + l] = (float)(block[l] + (accumulating ? sums[first + l] : 0));
    }
}
