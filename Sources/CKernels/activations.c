#include "ck_activations.h"

#include <math.h>

#include "exponential.h"
#include "variants.h"

// MARK: - silu

VARIANTS(void, ck_silu, (const float *x, float *out, size_t count), (x, out, count)) {
    SAME_INDEX
    for (size_t i = 0; i < count; i++) out[i] = x[i] / (1.0f + exponential(-x[i]));
}

VARIANTS(void, ck_silu_multiply,
         (const float *gate, const float *up, float *out, size_t count), (gate, up, out, count)) {
    SAME_INDEX
    for (size_t i = 0; i < count; i++) out[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

VARIANTS(void, ck_silu_backward,
         (const float *restrict x, float *restrict gradient, size_t count), (x, gradient, count)) {
    for (size_t i = 0; i < count; i++) {
        float s = 1.0f / (1.0f + exponential(-x[i]));
        gradient[i] *= s * (1.0f + x[i] * (1.0f - s));
    }
}

VARIANTS(void, ck_silu_multiply_backward,
         (const float *restrict gate, const float *restrict up, float *restrict gradient, float *restrict up_gradient,
          size_t count), (gate, up, gradient, up_gradient, count)) {
    for (size_t i = 0; i < count; i++) {
        float s = 1.0f / (1.0f + exponential(-gate[i]));
        float d = gradient[i];
        up_gradient[i] = d * gate[i] * s;
        gradient[i] = d * up[i] * s * (1.0f + gate[i] * (1.0f - s));
    }
}

// MARK: - The others, each a curve from which its four loops are made

typedef struct {
    float value, slope;
} curve;

/// |x|, but no more than `most`; NaN stays NaN.
INLINE float limited_size(float x, float most) {
    float size = fabsf(x);
    return size > most ? most : size;
}

/// x · F(x) and its derivative, where F rises from 0 to 1 with F(−x) = 1 − F(x): from `tail` = F(−|x|), so that nothing
/// cancels in it, and from `slope`, the derivative at −|x|, which is 1 minus that at |x|. `size` is |x|, limited where
/// the tail is 0, so that −∞ gives 0 and not NaN.
INLINE curve gated_by(float x, float size, float tail, float slope) {
    return (curve){x < 0 ? -size * tail : x * (1.0f - tail), x < 0 ? slope : 1.0f - slope};
}

/// ½x·(1 + tanh z) with z = √(2/π)·(x + 0.044715·x³): as (1 + tanh z) / 2 = 1 / (1 + e^−2z), it needs no tanh.
INLINE curve gelu_tanh_at(float x) {
    float size = limited_size(x, 16.0f), square = size * size;
    // 2√(2/π), that times 0.044715, and that times 3.
    float e = exponential(-size * (1.59576912f + 0.0713548163f * square));
    float rest = 1.0f / (1.0f + e);
    float tail = e * rest;
    return gated_by(x, size, tail, tail * (1.0f - size * rest * (1.59576912f + 0.214064449f * square)));
}

/// Φ(−x) = (1 − erf(x / √2)) / 2 for 0 ≤ x ≤ 14, where `e` is e^(−x²/2): what it is multiplied with falls slowly from ½,
/// by x times a quotient of polynomials. That was fitted with least largest error relative to the factor (by Lawson's
/// weights), 6·10⁻⁹; all coefficients are positive, so that neither polynomial cancels. Near 0 the factor is rounded but
/// once, so that erf is accurate to 1.6·10⁻⁷.
INLINE float normal_tail(float x, float e) {
    float p = 5.07321239e-3f;
    p = p * x + 4.63221169e-2f;
    p = p * x + 1.92824748e-1f;
    p = p * x + 4.16639137e-1f;
    p = p * x + 3.98942414e-1f;
    float q = 1.01464248e-2f;
    q = q * x + 1.00740015e-1f;
    q = q * x + 4.66022857e-1f;
    q = q * x + 1.19714143f;
    q = q * x + 1.67102115f;
    q = q * x + 1.0f;
    return e * (0.5f - x * (p / q));
}

/// x·Φ(x), Φ(x) = (1 + erf(x / √2)) / 2, whose derivative is Φ(x) + x·e^(−x²/2) / √(2π).
INLINE curve gelu_at(float x) {
    float size = limited_size(x, 14.0f);
    float e = exponential(-0.5f * size * size);
    float tail = normal_tail(size, e);
    return gated_by(x, size, tail, tail - size * (e * 0.398942280f));
}

/// x / (1 + e^(−1.702·x))
INLINE curve quick_gelu_at(float x) {
    float size = limited_size(x, 64.0f);
    float e = exponential(-1.702f * size);
    float rest = 1.0f / (1.0f + e);
    float tail = e * rest;
    return gated_by(x, size, tail, tail * (1.0f - 1.702f * size * rest));
}

INLINE curve relu_at(float x) { return (curve){x < 0 ? 0.0f : x, x > 0 ? 1.0f : x <= 0 ? 0.0f : x}; }

INLINE curve relu2_at(float x) {
    float positive = x < 0 ? 0.0f : x;
    return (curve){positive * positive, 2.0f * positive};
}

#define ACTIVATION(name)                                                                                             \
    VARIANTS(void, ck_##name, (const float *x, float *out, size_t count), (x, out, count)) {                         \
        SAME_INDEX                                                                                                   \
        for (size_t i = 0; i < count; i++) out[i] = name##_at(x[i]).value;                                           \
    }                                                                                                                \
    VARIANTS(void, ck_##name##_multiply, (const float *gate, const float *up, float *out, size_t count),             \
             (gate, up, out, count)) {                                                                               \
        SAME_INDEX                                                                                                   \
        for (size_t i = 0; i < count; i++) out[i] = name##_at(gate[i]).value * up[i];                                \
    }                                                                                                                \
    VARIANTS(void, ck_##name##_backward, (const float *restrict x, float *restrict gradient, size_t count),          \
             (x, gradient, count)) {                                                                                 \
        for (size_t i = 0; i < count; i++) gradient[i] *= name##_at(x[i]).slope;                                     \
    }                                                                                                                \
    VARIANTS(void, ck_##name##_multiply_backward,                                                                    \
             (const float *restrict gate, const float *restrict up, float *restrict gradient,                        \
              float *restrict up_gradient, size_t count), (gate, up, gradient, up_gradient, count)) {                \
        for (size_t i = 0; i < count; i++) {                                                                         \
            curve at = name##_at(gate[i]);                                                                           \
            float d = gradient[i];                                                                                   \
            up_gradient[i] = d * at.value;                                                                           \
            gradient[i] = d * up[i] * at.slope;                                                                      \
        }                                                                                                            \
    }

ACTIVATION(gelu_tanh)
ACTIVATION(gelu)
ACTIVATION(quick_gelu)
ACTIVATION(relu)
ACTIVATION(relu2)
