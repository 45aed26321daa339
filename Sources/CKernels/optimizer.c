#include "ck_optimizer.h"

#include <float.h>

#include "ck_convert.h"
#include "variants.h"

/// Elements that are updated and then rounded while they are still in the first-level cache.
enum { piece = 2048 };

/// Partial sums, always added up in the same order.
enum { lanes = 32 };

// The decay is subtracted together with the step, so that w is rounded once: w · (1 − decay) alone would round a decay
// of 10⁻⁶ to 1.013·10⁻⁶, and one below 3·10⁻⁸ to nothing. What subnormal moments add to w is nothing beside epsilon,
// but a moment that only fades would stay subnormal for good, and processors compute with those many times slower.
INLINE void step(float *restrict w, float *restrict m, float *restrict v, const float *restrict g, size_t count,
                        ck_adamw_factors f) {
    for (size_t i = 0; i < count; i++) {
        float gradient = f.gradient_scale * g[i];
        float first = f.beta1 * m[i] + f.rest1 * gradient;
        float second = f.beta2 * v[i] + f.rest2 * (gradient * gradient);
        first = __builtin_fabsf(first) < FLT_MIN ? 0.0f : first;
        second = second < FLT_MIN ? 0.0f : second;
        m[i] = first;
        v[i] = second;
        // Not sqrtf, which may set errno and so keeps a loop from being vectorised.
        float root = f.root_scale * __builtin_elementwise_sqrt(second) + f.epsilon;
        w[i] -= f.decay * w[i] + f.rate * (first / root);
    }
}

VARIANTS(void, ck_adamw,
         (float *w, float *m, float *v, const float *g, uint16_t *rounded, size_t count,
          const ck_adamw_factors *factors), (w, m, v, g, rounded, count, factors)) {
    if (!rounded) {
        step(w, m, v, g, count, *factors);
        return;
    }
    for (size_t start = 0; start < count; start += piece) {
        size_t length = count - start < piece ? count - start : piece;
        step(w + start, m + start, v + start, g + start, length, *factors);
        ck_f32_to_bf16(w + start, rounded + start, length);
    }
}

VARIANTS(double, ck_sum_of_squares, (const float *x, size_t count), (x, count)) {
    double sums[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) sums[l] += (double)x[i + l] * x[i + l];
    }
    double sum = 0;
    for (; i < count; i++) sum += (double)x[i] * x[i];
    for (int l = 0; l < lanes; l++) sum += sums[l];
    return sum;
}
