#ifndef CK_BACKWARD_H
#define CK_BACKWARD_H

#include <stdbool.h>
#include <stddef.h>

/// Backward of gate · up: `gradient` comes as the product's and leaves as the gate's.
void ck_multiply_backward(const float *gate, const float *up, float *gradient, float *up_gradient, size_t count);

/// Backward of `ck_rms_norm` for one row: adds the gradient of x to `dx`, returns 1 / √(mean(x²) + epsilon).
float ck_rms_norm_backward(const float *x, const float *weight, float offset, const float *dy, float *dx, size_t count,
                           float epsilon);
/// Backward of `ck_layer_norm` for one row: adds the gradient of x to `dx`, r · (g − mean(g) − x̂ · mean(g · x̂)) with
/// g = dy · weight and x̂ = r · (x − µ). Returns r = 1 / √(var + epsilon), and µ in `mean`.
float ck_layer_norm_backward(const float *x, const float *weight, const float *dy, float *dx, size_t count,
                             float epsilon, float *mean);

/// sums ← Σ over rows of x, or sums + that, added up in double precision.
void ck_column_sums(const float *x, size_t stride, size_t rows, size_t columns, bool accumulating, float *sums);
/// sums ← Σ over rows of dy · x · scale of the row, or sums + that, added up in double precision.
void ck_weighted_column_sums(const float *dy, size_t dy_stride, const float *x, size_t x_stride, const float *scales,
                             size_t rows, size_t columns, bool accumulating, float *sums);
/// sums ← Σ over rows of dy · (x − mean of the row) · scale of the row, or sums + that, added up in double precision.
void ck_centered_weighted_column_sums(const float *dy, size_t dy_stride, const float *x, size_t x_stride,
                                      const float *scales, const float *means, size_t rows, size_t columns,
                                      bool accumulating, float *sums);

/// row ← e^(scale · (row − most)) · inverse_sum: a row of softmax whose maximum and sum are known.
void ck_softmax_row(float *row, size_t count, float scale, float most, float inverse_sum);
/// Backward of softmax: gradient ← probabilities · (gradient − mean) · scale; `mean` is Σ probabilities · gradient.
void ck_softmax_backward(const float *probabilities, float *gradient, size_t count, float mean, float scale);

/// Σ a · b.
float ck_dot(const float *a, const float *b, size_t count);

/// −log softmax(row)[target]; the row becomes the loss' gradient, scale · (softmax(row) − one at target).
double ck_cross_entropy(float *row, size_t count, size_t target, float scale);

/// share · KL(softmax(teacher) ‖ softmax(row)) − (1 − share) · log softmax(row)[target], in nats; the row becomes the
/// gradient, scale · (softmax(row) − share · softmax(teacher) − (1 − share) · one at target). `teacher` is overwritten.
double ck_distillation(float *row, float *teacher, size_t count, size_t target, float share, float scale);

#endif
