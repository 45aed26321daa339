#include "ck_transformer.h"

#include <math.h>

#include "variants.h"
#include "exponential.h"

VARIANTS(void, ck_multiply, (const float *gate, const float *up, float *out, size_t count), (gate, up, out, count)) {
    SAME_INDEX
    for (size_t i = 0; i < count; i++) out[i] = gate[i] * up[i];
}

VARIANTS(void, ck_sum, (const float *x, const float *y, float *out, size_t count), (x, y, out, count)) {
    SAME_INDEX
    for (size_t i = 0; i < count; i++) out[i] = x[i] + y[i];
}

VARIANTS(void, ck_scale, (float *x, float factor, size_t count), (x, factor, count)) {
    for (size_t i = 0; i < count; i++) x[i] *= factor;
}

VARIANTS(void, ck_rms_norm,
         (const float *x, const float *weight, float offset, float *out, size_t count, float epsilon),
         (x, weight, offset, out, count, epsilon)) {
    float sums[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) sums[l] += x[i + l] * x[i + l];
    }
    double sum = 0;
    for (; i < count; i++) sum += (double)x[i] * x[i];
    for (int l = 0; l < lanes; l++) sum += sums[l];
    float scale = (float)(1.0 / sqrt(sum / (double)count + epsilon));
    for (i = 0; i < count; i++) out[i] = x[i] * scale * (offset + weight[i]);
}

VARIANTS(void, ck_rotate_halves,
         (float *row, size_t heads, size_t size, const float *restrict cosine, const float *restrict sine,
          float direction), (row, heads, size, cosine, sine, direction)) {
    size_t half = size / 2;
    for (size_t h = 0; h < heads; h++) {
        float *restrict a = row + h * size;
        float *restrict b = a + half;
        for (size_t i = 0; i < half; i++) {
            float first = a[i], second = b[i];
            float sin = direction * sine[i];
            a[i] = first * cosine[i] - second * sin;
            b[i] = second * cosine[i] + first * sin;
        }
    }
}

VARIANTS(float, ck_softmax_numerators,
         (float *row, size_t count, float scale, float *largest), (row, count, scale, largest)) {
    float most = maximum(row, count);
    *largest = most;
    float sums[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) {
            float e = exponential((row[i + l] - most) * scale);
            row[i + l] = e;
            sums[l] += e;
        }
    }
    float sum = 0;
    for (; i < count; i++) {
        row[i] = exponential((row[i] - most) * scale);
        sum += row[i];
    }
    for (int l = 0; l < lanes; l++) sum += sums[l];
    return sum;
}

VARIANTS(float, ck_log_sum_exp, (const float *row, size_t count, size_t *argmax), (row, count, argmax)) {
    float most = maximum(row, count);
    size_t first = 0;
    while (first < count && row[first] != most) first++;
    *argmax = first;
    double sum = 0;
    size_t stretch = stretch_of(count);
    for (size_t begin = 0; begin < count; begin += stretch) {
        size_t end = count - begin < stretch ? count : begin + stretch, i = begin;
        float sums[lanes] = {0};
        for (; i + lanes <= end; i += lanes) {
            for (int l = 0; l < lanes; l++) sums[l] += exponential(row[i + l] - most);
        }
        for (; i < end; i++) sum += exponential(row[i] - most);
        for (int l = 0; l < lanes; l++) sum += sums[l];
    }
    return (float)(most + log(sum));
}
