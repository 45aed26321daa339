#include "ck_backward.h"

#include <math.h>

#include "variants.h"
#include "exponential.h"

enum { column_block = 16 };

VARIANTS(void, ck_multiply_backward,
         (const float *restrict gate, const float *restrict up, float *restrict gradient, float *restrict up_gradient,
          size_t count), (gate, up, gradient, up_gradient, count)) {
    for (size_t i = 0; i < count; i++) {
        float d = gradient[i];
        up_gradient[i] = d * gate[i];
        gradient[i] = d * up[i];
    }
}

VARIANTS(float, ck_rms_norm_backward,
         (const float *restrict x, const float *restrict weight, float offset, const float *restrict dy,
          float *restrict dx, size_t count, float epsilon), (x, weight, offset, dy, dx, count, epsilon)) {
    float squares[lanes] = {0}, products[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) {
            squares[l] += x[i + l] * x[i + l];
            products[l] += (offset + weight[i + l]) * dy[i + l] * x[i + l];
        }
    }
    double square = 0, product = 0;
    for (; i < count; i++) {
        square += (double)x[i] * x[i];
        product += (double)(offset + weight[i]) * dy[i] * x[i];
    }
    for (int l = 0; l < lanes; l++) {
        square += squares[l];
        product += products[l];
    }
    double mean = square / (double)count + epsilon;
    float scale = (float)(1.0 / sqrt(mean));
    float shift = (float)(product / ((double)count * mean)) * scale;
    for (i = 0; i < count; i++) dx[i] += scale * (offset + weight[i]) * dy[i] - shift * x[i];
    return scale;
}

VARIANTS(void, ck_column_sums,
         (const float *x, size_t stride, size_t rows, size_t columns, bool accumulating, float *sums),
         (x, stride, rows, columns, accumulating, sums)) {
    for (size_t first = 0; first < columns; first += column_block) {
        size_t width = columns - first < column_block ? columns - first : column_block;
        double block[column_block] = {0};
        for (size_t row = 0; row < rows; row++) {
            const float *a = x + row * stride + first;
            if (width == column_block) {
                for (int l = 0; l < column_block; l++) block[l] += a[l];
            } else {
                for (size_t l = 0; l < width; l++) block[l] += a[l];
            }
        }
        for (size_t l = 0; l < width; l++) sums[first + l] = (float)(block[l] + (accumulating ? sums[first + l] : 0));
    }
}

VARIANTS(void, ck_weighted_column_sums,
         (const float *dy, size_t dy_stride, const float *x, size_t x_stride, const float *scales, size_t rows,
          size_t columns, bool accumulating, float *sums),
         (dy, dy_stride, x, x_stride, scales, rows, columns, accumulating, sums)) {
    for (size_t first = 0; first < columns; first += column_block) {
        size_t width = columns - first < column_block ? columns - first : column_block;
        double block[column_block] = {0};
        for (size_t row = 0; row < rows; row++) {
            const float *a = dy + row * dy_stride + first, *b = x + row * x_stride + first;
            float scale = scales[row];
            if (width == column_block) {
                for (int l = 0; l < column_block; l++) block[l] += a[l] * (b[l] * scale);
            } else {
                for (size_t l = 0; l < width; l++) block[l] += a[l] * (b[l] * scale);
            }
        }
        for (size_t l = 0; l < width; l++) sums[first + l] = (float)(block[l] + (accumulating ? sums[first + l] : 0));
    }
}

VARIANTS(void, ck_softmax_row,
         (float *row, size_t count, float scale, float most, float inverse_sum),
         (row, count, scale, most, inverse_sum)) {
    for (size_t i = 0; i < count; i++) row[i] = exponential((row[i] - most) * scale) * inverse_sum;
}

VARIANTS(void, ck_softmax_backward,
         (const float *restrict probabilities, float *restrict gradient, size_t count, float mean, float scale),
         (probabilities, gradient, count, mean, scale)) {
    for (size_t i = 0; i < count; i++) gradient[i] = probabilities[i] * (gradient[i] - mean) * scale;
}

VARIANTS(float, ck_dot, (const float *a, const float *b, size_t count), (a, b, count)) {
    float sums[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) sums[l] += a[i + l] * b[i + l];
    }
    double sum = 0;
    for (; i < count; i++) sum += (double)a[i] * b[i];
    for (int l = 0; l < lanes; l++) sum += sums[l];
    return (float)sum;
}

VARIANTS(double, ck_cross_entropy,
         (float *row, size_t count, size_t target, float scale), (row, count, target, scale)) {
    float most = maximum(row, count), wanted = row[target];
    double sum = 0;
    size_t stretch = stretch_of(count);
    for (size_t begin = 0; begin < count; begin += stretch) {
        size_t end = count - begin < stretch ? count : begin + stretch, i = begin;
        float sums[lanes] = {0};
        for (; i + lanes <= end; i += lanes) {
            for (int l = 0; l < lanes; l++) {
                float e = exponential(row[i + l] - most);
                row[i + l] = e;
                sums[l] += e;
            }
        }
        for (; i < end; i++) {
            row[i] = exponential(row[i] - most);
            sum += row[i];
        }
        for (int l = 0; l < lanes; l++) sum += sums[l];
    }
    float factor = (float)(scale / sum);
    for (size_t i = 0; i < count; i++) row[i] *= factor;
    row[target] -= scale;
    return log(sum) + ((double)most - wanted);
}

VARIANTS(double, ck_distillation,
         (float *row, float *teacher, size_t count, size_t target, float share, float scale),
         (row, teacher, count, target, share, scale)) {
    float most = maximum(row, count), best = maximum(teacher, count), wanted = row[target];
    double sum = 0, teacher_sum = 0, product = 0;
    size_t stretch = stretch_of(count);
    for (size_t begin = 0; begin < count; begin += stretch) {
        size_t end = count - begin < stretch ? count : begin + stretch, i = begin;
        float sums[lanes] = {0}, teacher_sums[lanes] = {0}, products[lanes] = {0};
        for (; i + lanes <= end; i += lanes) {
            for (int l = 0; l < lanes; l++) {
                float x = row[i + l] - most, t = teacher[i + l] - best;
                float e = exponential(x), p = exponential(t);
                row[i + l] = e;
                teacher[i + l] = p;
                sums[l] += e;
                teacher_sums[l] += p;
                products[l] += p * (t - x);
            }
        }
        for (; i < end; i++) {
            float x = row[i] - most, t = teacher[i] - best;
            row[i] = exponential(x);
            teacher[i] = exponential(t);
            sum += row[i];
            teacher_sum += teacher[i];
            product += (double)teacher[i] * (t - x);
        }
        for (int l = 0; l < lanes; l++) {
            sum += sums[l];
            teacher_sum += teacher_sums[l];
            product += products[l];
        }
    }
    double normalizer = log(sum);
    // Σ p·(log p − log q) with both logarithms taken against their own maximum.
    double divergence = product / teacher_sum - log(teacher_sum) + normalizer;
    double entropy = normalizer + ((double)most - wanted);
    float factor = (float)(scale / sum), teacher_factor = (float)(scale * share / teacher_sum);
    for (size_t i = 0; i < count; i++) row[i] = row[i] * factor - teacher[i] * teacher_factor;
    row[target] -= scale * (1 - share);
    return share * divergence + (1 - (double)share) * entropy;
}
