#ifndef CK_OPTIMIZER_H
#define CK_OPTIMIZER_H

#include <stddef.h>
#include <stdint.h>

/// What one AdamW step multiplies with; the step's corrections for the moments' start at zero are already in them.
typedef struct {
    /// Factor of every gradient: clipping and the mean over accumulated batches.
    float gradient_scale;
    /// β₁ and 1 − β₁.
    float beta1, rest1;
    /// β₂ and 1 − β₂.
    float beta2, rest2;
    /// η / (1 − β₁ᵗ).
    float rate;
    /// 1 / √(1 − β₂ᵗ).
    float root_scale;
    /// Added to the root.
    float epsilon;
    /// η·λ.
    float decay;
} ck_adamw_factors;

/// One AdamW step over `count` parameters w with gradients g and moments m, v:
///
///     g′ = gradient_scale · g,  m ← β₁·m + (1 − β₁)·g′,  v ← β₂·v + (1 − β₂)·g′²
///     w ← w − (decay · w + rate · m / (root_scale · √v + epsilon))
///
/// Moments below the smallest normal number become 0. If `rounded` is not NULL, it receives w in bfloat16.
/// An element's result does not depend on its place nor on `count`.
void ck_adamw(float *w, float *m, float *v, const float *g, uint16_t *rounded, size_t count,
              const ck_adamw_factors *factors);

/// Σ x², exact squares added in double precision in one fixed order on every processor. It cannot overflow: it is
/// finite exactly where all elements are.
double ck_sum_of_squares(const float *x, size_t count);

#endif
