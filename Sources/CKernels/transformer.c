#include "ck_transformer.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "clones.h"

#define INLINE static inline __attribute__((always_inline))

/// Partial sums: enough to fill two AVX-512 registers, always added up in the same order.
enum { lanes = 32 };

INLINE float from_bits(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// e^x to about 1.5 units in the last place: x = n·ln 2 + f, a polynomial of degree 6 for e^f (minimax on
/// |f| ≤ ln 2 / 2), and n added to the exponent. Below −87.3 it is 0 – so no subnormal results –, from
/// 88.4 on infinity, a little before it would have to be.
INLINE float exponential(float x) {
    float n = x * 1.44269504088896341f;
    n = (n + 12582912.0f) - 12582912.0f;
    n = n < -127.0f ? -127.0f : n > 128.0f ? 128.0f : n;
    float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    float result = p * from_bits(((int32_t)n + 127) << 23);
    result = x < -87.3f ? 0.0f : result;
    return x > 88.7f ? INFINITY : result;
}

CLONES void ck_silu(float *x, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] / (1.0f + exponential(-x[i]));
}

CLONES void ck_silu_multiply(float *restrict gate, const float *restrict up, size_t count) {
    for (size_t i = 0; i < count; i++) gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

CLONES void ck_multiply(float *restrict gate, const float *restrict up, size_t count) {
    for (size_t i = 0; i < count; i++) gate[i] *= up[i];
}

CLONES void ck_add(float *restrict x, const float *restrict y, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] += y[i];
}

CLONES void ck_scale(float *x, float factor, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] *= factor;
}

CLONES void ck_rms_norm(const float *x, const float *weight, float *out, size_t count, float epsilon) {
    float sums[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) sums[l] += x[i + l] * x[i + l];
    }
    double sum = 0;
    for (; i < count; i++) sum += (double)x[i] * x[i];
    for (int l = 0; l < lanes; l++) sum += sums[l];
    float scale = (float)(1.0 / sqrt(sum / (double)count + epsilon));
    for (i = 0; i < count; i++) out[i] = x[i] * scale * weight[i];
}

CLONES void ck_rotate_halves(float *row, size_t heads, size_t size, const float *restrict cosine,
                             const float *restrict sine) {
    size_t half = size / 2;
    for (size_t h = 0; h < heads; h++) {
        float *restrict a = row + h * size;
        float *restrict b = a + half;
        for (size_t i = 0; i < half; i++) {
            float first = a[i], second = b[i];
            a[i] = first * cosine[i] - second * sine[i];
            b[i] = second * cosine[i] + first * sine[i];
        }
    }
}

INLINE float maximum(const float *row, size_t count) {
    float best[lanes];
    for (int l = 0; l < lanes; l++) best[l] = -INFINITY;
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) best[l] = row[i + l] > best[l] ? row[i + l] : best[l];
    }
    float most = -INFINITY;
    for (; i < count; i++) most = row[i] > most ? row[i] : most;
    for (int l = 0; l < lanes; l++) most = best[l] > most ? best[l] : most;
    return most;
}

CLONES float ck_softmax_numerators(float *row, size_t count, float scale) {
    float most = maximum(row, count);
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

CLONES float ck_log_sum_exp(const float *row, size_t count, size_t *argmax) {
    float most = maximum(row, count);
    size_t first = 0;
    while (first < count && row[first] != most) first++;
    *argmax = first;
    float sums[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) sums[l] += exponential(row[i + l] - most);
    }
    double sum = 0;
    for (; i < count; i++) sum += exponential(row[i] - most);
    for (int l = 0; l < lanes; l++) sum += sums[l];
    return (float)(most + log(sum));
}
