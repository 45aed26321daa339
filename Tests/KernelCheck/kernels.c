/// The loops of CKernels against naive twins in double precision, for a compiler and a processor that Swift does not run
/// on here: `scripts/check-aarch64` builds it for aarch64 and for this machine. The argument is the instruction set whose
/// loops are checked; the process' own if there is none. What has to be the same to the bit on every processor is printed
/// as a digest, for the script to compare. Ends with 1 if a loop is wrong, naming its worst element, and with 2 if the
/// processor does not have the instruction set.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CKernels.h"

enum { most = 257 };
static const size_t sizes[] = {1, 2, 31, 32, 33, 63, 64, 65, 130, most};
static const double u = 0x1p-24, u2 = 0x1p-53;
static int failures;

// MARK: - Numbers

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/// About normal with this deviation: the sum of twelve uniform numbers. Exact in every rounding mode but its last step.
static float normal(double deviation) {
    int64_t sum = 0;
    for (int i = 0; i < 12; i++) sum += (int64_t)(next() >> 40) - (1 << 23);
    return (float)(deviation * (double)sum / (1 << 24));
}

static void fill(float *x, size_t count, double deviation) {
    for (size_t i = 0; i < count; i++) x[i] = normal(deviation);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

// MARK: - Comparing

/// Reports the element that is furthest out of its bound.
static void expect(const char *what, size_t count, const double *found, const double *expected, const double *bounds) {
    double worst = 1;
    size_t place = 0;
    for (size_t i = 0; i < count; i++) {
        if (found[i] == expected[i]) continue;
        double ratio = fabs(found[i] - expected[i]) / bounds[i];
        if (ratio > worst || isnan(ratio)) {
            worst = isnan(ratio) ? INFINITY : ratio;
            place = i;
        }
    }
    if (worst <= 1) return;
    failures++;
    printf("%s of %zu: [%zu]: found %.17g, expected %.17g ± %.3g\n", what, count, place, found[place], expected[place],
           bounds[place]);
}

static double found[4 * most], expected[4 * most], bounds[4 * most];

static void expect_floats(const char *what, size_t count, const float *values) {
    for (size_t i = 0; i < count; i++) found[i] = values[i];
    expect(what, count, found, expected, bounds);
}

static void expect_one(const char *what, double value, double wanted, double bound) {
    expect(what, 1, &value, &wanted, &bound);
}

/// What is the same on every processor.
static void digest(const char *what, const void *bytes, size_t count) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < count; i++) hash = (hash ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
    printf("digest %s %016llx\n", what, (unsigned long long)hash);
}

// MARK: - Forward

static void check_elements(size_t n) {
    float x[most], y[most], out[most];
    fill(x, n, 3);
    fill(y, n, 1);
    // exponential is within 2 units in the last place, and four roundings follow.
    for (size_t i = 0; i < n; i++) {
        expected[i] = x[i] * sigmoid(x[i]);
        bounds[i] = 8 * u * fabs(expected[i]) + 1e-37;
    }
    ck_silu(x, out, n);
    expect_floats("silu", n, out);
    for (size_t i = 0; i < n; i++) {
        expected[i] *= y[i];
        bounds[i] = 9 * u * fabs(expected[i]) + 1e-37;
    }
    ck_silu_multiply(x, y, out, n);
    expect_floats("silu_multiply", n, out);
    for (size_t i = 0; i < n; i++) expected[i] = x[i] * y[i], bounds[i] = 0;
    ck_multiply(x, y, out, n);
    expect_floats("multiply", n, out);
    for (size_t i = 0; i < n; i++) expected[i] = x[i] + y[i];
    ck_sum(x, y, out, n);
    expect_floats("sum", n, out);
    for (size_t i = 0; i < n; i++) expected[i] = -1.75f * x[i];
    memcpy(out, x, sizeof x);
    ck_scale(out, -1.75f, n);
    expect_floats("scale", n, out);
}

static void check_norm(size_t n, float offset) {
    float x[most], weight[most], out[most], dy[most], dx[most] = {0};
    fill(x, n, 2);
    fill(weight, n, 1);
    fill(dy, n, 1);
    double square = 0, product = 0, products = 0;
    for (size_t i = 0; i < n; i++) {
        double w = offset + weight[i];
        square += (double)x[i] * x[i];
        product += w * dy[i] * x[i];
        products += fabs(w * dy[i] * x[i]);
    }
    double mean = square / (double)n + 1e-5, error = (double)(n / 32 + 8) * u;
    for (size_t i = 0; i < n; i++) {
        expected[i] = x[i] / sqrt(mean) * (offset + weight[i]);
        bounds[i] = error * fabs(expected[i]);
    }
    ck_rms_norm(x, weight, offset, out, n, 1e-5f);
    expect_floats("rms_norm", n, out);
    float scale = ck_rms_norm_backward(x, weight, offset, dy, dx, n, 1e-5f);
    expect_one("rms_norm_backward's scale", scale, 1 / sqrt(mean), error / sqrt(mean));
    for (size_t i = 0; i < n; i++) {
        double direct = (offset + weight[i]) * dy[i] / sqrt(mean), shift = x[i] / ((double)n * mean * sqrt(mean));
        expected[i] = direct - shift * product;
        bounds[i] = error * (fabs(direct) + fabs(shift) * products) * 2;
    }
    expect_floats("rms_norm_backward", n, dx);
}

/// Of rows that are far from zero, as many deviations as `level` says.
static void check_layer_norm(size_t n, float level) {
    float x[most], weight[most], bias[most], out[most], dy[most], dx[most] = {0}, found_mean;
    fill(x, n, 1);
    for (size_t i = 0; i < n; i++) x[i] += level;
    fill(weight, n, 1);
    fill(bias, n, 1);
    fill(dy, n, 1);
    double mean = 0, variance = 0, spread = 0, gradient = 0, product = 0, magnitude = 0;
    for (size_t i = 0; i < n; i++) mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        variance += (x[i] - mean) * (x[i] - mean) / (double)n;
        spread += fabs(x[i] - mean) / (double)n;
    }
    double scale = 1 / sqrt(variance + 1e-3f), roundings = (double)(n / 32 + 10) * u;
    // The mean's rounding, and what adding the deviations does; then the deviation's, the scale's and the product's.
    double shifted = u * fabs(mean) + roundings * spread;
    for (int has_bias = 0; has_bias < 2; has_bias++) {
        for (size_t i = 0; i < n; i++) {
            double size = fabs((x[i] - mean) * scale * weight[i]);
            expected[i] = (x[i] - mean) * scale * weight[i] + (has_bias ? bias[i] : 0);
            bounds[i] = shifted * scale * fabs(weight[i]) + roundings * size + u * fabs(expected[i]);
        }
        ck_layer_norm(x, weight, has_bias ? bias : NULL, out, n, 1e-3f);
        expect_floats("layer_norm", n, out);
    }
    float found_scale = ck_layer_norm_backward(x, weight, dy, dx, n, 1e-3f, &found_mean);
    expect_one("layer_norm_backward's mean", found_mean, mean, shifted);
    expect_one("layer_norm_backward's scale", found_scale, scale, roundings * scale);
    for (size_t i = 0; i < n; i++) {
        double g = (double)weight[i] * dy[i], normalized = (x[i] - mean) * scale;
        gradient += g / (double)n;
        product += g * normalized / (double)n;
        magnitude += fabs(g) * (1 + fabs(normalized)) / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        double g = (double)weight[i] * dy[i], normalized = (x[i] - mean) * scale;
        expected[i] = scale * (g - gradient - normalized * product);
        bounds[i] = scale * (2 * roundings * (fabs(g) + magnitude * (1 + fabs(normalized)))
                             + shifted * scale * fabs(product));
    }
    expect_floats("layer_norm_backward", n, dx);
}

static void check_rotation(size_t half) {
    enum { heads = 2 };
    float row[heads * 2 * most], before[heads * 2 * most], cosine[most], sine[most];
    size_t size = 2 * half;
    fill(row, heads * size, 1);
    memcpy(before, row, sizeof row);
    for (size_t i = 0; i < half; i++) cosine[i] = cosf(0.1f * (float)i), sine[i] = sinf(0.1f * (float)i);
    ck_rotate_halves(row, heads, size, cosine, sine, -1);
    for (size_t h = 0; h < heads; h++) {
        for (size_t i = 0; i < half; i++) {
            double a = before[h * size + i], b = before[h * size + half + i], c = cosine[i], s = -sine[i];
            expected[h * size + i] = a * c - b * s;
            expected[h * size + half + i] = b * c + a * s;
            bounds[h * size + i] = bounds[h * size + half + i] = 3 * u * (fabs(a) + fabs(b));
        }
    }
    expect_floats("rotate_halves", heads * size, row);
}

static void check_softmax(size_t n) {
    float x[most], row[most], gradient[most], largest;
    size_t argmax;
    fill(x, n, 4);
    double top = -INFINITY, sum = 0;
    size_t place = 0;
    for (size_t i = 0; i < n; i++) {
        if (x[i] > top) top = x[i], place = i;
    }
    for (size_t i = 0; i < n; i++) sum += expected[i] = exp(0.5 * (x[i] - top));
    // The argument is rounded, which is worth its size in the result.
    for (size_t i = 0; i < n; i++) bounds[i] = expected[i] * u * (8 + fabs(x[i] - top));
    memcpy(row, x, sizeof x);
    float numerators = ck_softmax_numerators(row, n, 0.5f, &largest);
    expect_floats("softmax_numerators", n, row);
    expect_one("softmax_numerators' sum", numerators, sum, sum * u * (double)(n / 32 + 40));
    expect_one("softmax_numerators' maximum", largest, top, 0);
    memcpy(row, x, sizeof x);
    ck_softmax_row(row, n, 0.5f, largest, (float)(1 / sum));
    for (size_t i = 0; i < n; i++) expected[i] /= sum, bounds[i] = (bounds[i] + 2 * u) / sum;
    expect_floats("softmax_row", n, row);
    fill(gradient, n, 1);
    double mean = 0;
    for (size_t i = 0; i < n; i++) mean += row[i] * gradient[i];
    for (size_t i = 0; i < n; i++) {
        expected[i] = row[i] * (gradient[i] - (float)mean) * 0.5;
        bounds[i] = 4 * u * row[i] * (fabs(gradient[i]) + fabs(mean));
    }
    ck_softmax_backward(row, gradient, n, (float)mean, 0.5f);
    expect_floats("softmax_backward", n, gradient);
    sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp(x[i] - top);
    float logarithm = ck_log_sum_exp(x, n, &argmax);
    expect_one("log_sum_exp", logarithm, top + log(sum), u * (40 + fabs(top)));
    expect_one("log_sum_exp's place", (double)argmax, (double)place, 0);
}

// MARK: - Activations

/// Those of the shape x · F(x): F's tail F(−|x|), its derivative, and the size of the exponential's argument.
typedef struct {
    double tail, density, exponent;
} curve;

static curve gelu_tanh(double x) {
    double factor = 2 * sqrt(2 / M_PI), z = factor * (x + 0.044715 * x * x * x);
    return (curve){sigmoid(-fabs(z)), sigmoid(z) * sigmoid(-z) * factor * (1 + 0.134145 * x * x), fabs(z)};
}

static curve gelu(double x) {
    return (curve){erfc(fabs(x) * sqrt(0.5)) / 2, exp(-x * x / 2) / sqrt(2 * M_PI), x * x / 2};
}

static curve quick_gelu(double x) {
    double z = 1.702 * x;
    return (curve){sigmoid(-fabs(z)), 1.702 * sigmoid(z) * sigmoid(-z), fabs(z)};
}

typedef struct {
    const char *name;
    void (*plain)(const float *, float *, size_t);
    void (*gated)(const float *, const float *, float *, size_t);
    void (*backward)(const float *, float *, size_t);
    void (*gated_backward)(const float *, const float *, float *, float *, size_t);
    /// NULL for relu and, with `is_square`, relu2.
    curve (*at)(double);
    int is_square;
} activation;

#define LOOPS(name) #name, ck_##name, ck_##name##_multiply, ck_##name##_backward, ck_##name##_multiply_backward
static const activation activations[] = {
    {LOOPS(gelu_tanh), gelu_tanh, 0}, {LOOPS(gelu), gelu, 0}, {LOOPS(quick_gelu), quick_gelu, 0},
    {LOOPS(relu), NULL, 0},           {LOOPS(relu2), NULL, 1},
};

static void check_activation(const activation *f, size_t n, double deviation) {
    float x[most], up[most], d[most], out[most], gradient[most], up_gradient[most];
    static double values[most], errors[most], slopes[most], slope_errors[most];
    fill(x, n, deviation);
    fill(up, n, 1);
    fill(d, n, 1);
    for (size_t i = 0; i < n; i++) {
        double a = x[i], size = fabs(a);
        if (f->at) {
            curve at = f->at(a);
            double error = (10 + 5 * at.exponent) * u, positive = a < 0 ? at.tail : 1 - at.tail;
            values[i] = a * positive;
            errors[i] = error * size * at.tail + (a > 0 ? 2 * u * a : 0) + 2e-38 * size;
            slopes[i] = positive + a * at.density;
            slope_errors[i] = error * (at.tail + size * at.density) + (a > 0 ? 2 * u : 0);
            slope_errors[i] += 2e-38 * (1 + 3 * at.exponent);
        } else {
            values[i] = a < 0 ? 0 : f->is_square ? a * a : a;
            errors[i] = u * values[i];
            slopes[i] = a < 0 ? 0 : f->is_square ? 2 * a : 1;
            slope_errors[i] = 0;
        }
    }
    char what[64];
    f->plain(x, out, n);
    memcpy(expected, values, sizeof values);
    memcpy(bounds, errors, sizeof errors);
    expect_floats(f->name, n, out);
    snprintf(what, sizeof what, "%s_multiply", f->name);
    for (size_t i = 0; i < n; i++) {
        expected[i] = values[i] * up[i];
        bounds[i] = 1.01 * errors[i] * fabs(up[i]) + u * fabs(expected[i]);
    }
    f->gated(x, up, out, n);
    expect_floats(what, n, out);
    snprintf(what, sizeof what, "%s_backward", f->name);
    for (size_t i = 0; i < n; i++) {
        expected[i] = d[i] * slopes[i];
        bounds[i] = 1.01 * slope_errors[i] * fabs(d[i]) + u * fabs(expected[i]);
    }
    memcpy(gradient, d, sizeof d);
    f->backward(x, gradient, n);
    expect_floats(what, n, gradient);
    snprintf(what, sizeof what, "%s_multiply_backward", f->name);
    for (size_t i = 0; i < n; i++) {
        expected[i] *= up[i];
        bounds[i] = bounds[i] * fabs(up[i]) + 1.01 * u * fabs(expected[i]);
    }
    memcpy(gradient, d, sizeof d);
    f->gated_backward(x, up, gradient, up_gradient, n);
    expect_floats(what, n, gradient);
    for (size_t i = 0; i < n; i++) {
        expected[i] = d[i] * values[i];
        bounds[i] = 1.01 * errors[i] * fabs(d[i]) + u * fabs(expected[i]);
    }
    expect_floats(what, n, up_gradient);
}

// MARK: - Backward

static void check_backward(size_t n) {
    float x[most], up[most], d[most], gradient[most], up_gradient[most];
    fill(x, n, 3);
    fill(up, n, 1);
    fill(d, n, 1);
    double dot = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double s = sigmoid(x[i]), slope = s * (1 + x[i] * (1 - s)), magnitude = s * (1 + fabs(x[i]) * (1 - s));
        expected[i] = d[i] * slope;
        bounds[i] = 12 * u * fabs(d[i]) * magnitude + 1e-37;
        dot += (double)x[i] * d[i];
        size += fabs((double)x[i] * d[i]);
    }
    memcpy(gradient, d, sizeof d);
    ck_silu_backward(x, gradient, n);
    expect_floats("silu_backward", n, gradient);
    for (size_t i = 0; i < n; i++) expected[i] *= up[i], bounds[i] = 1.2 * bounds[i] * fabs(up[i]) + 1e-37;
    memcpy(gradient, d, sizeof d);
    ck_silu_multiply_backward(x, up, gradient, up_gradient, n);
    expect_floats("silu_multiply_backward", n, gradient);
    for (size_t i = 0; i < n; i++) {
        expected[i] = d[i] * x[i] * sigmoid(x[i]);
        bounds[i] = 9 * u * fabs(expected[i]) + 1e-37;
    }
    expect_floats("silu_multiply_backward, up", n, up_gradient);
    for (size_t i = 0; i < n; i++) expected[i] = d[i] * up[i], bounds[i] = 0;
    memcpy(gradient, d, sizeof d);
    ck_multiply_backward(x, up, gradient, up_gradient, n);
    expect_floats("multiply_backward", n, gradient);
    for (size_t i = 0; i < n; i++) expected[i] = d[i] * x[i];
    expect_floats("multiply_backward, up", n, up_gradient);
    expect_one("dot", ck_dot(x, d, n), dot, u * (double)(n / 32 + 34) * size);
}

static void check_columns(size_t columns) {
    enum { rows = 5, kinds = 3 };
    static const char *const names[kinds] = {"column_sums", "weighted_column_sums", "centered_weighted_column_sums"};
    static float x[rows * most], y[rows * most];
    float scales[rows], means[rows], sums[most], before[most];
    fill(x, rows * columns, 1);
    fill(y, rows * columns, 1);
    fill(scales, rows, 1);
    fill(means, rows, 3);
    fill(before, columns, 1);
    for (int accumulating = 0; accumulating < 2; accumulating++) {
        for (int kind = 0; kind < kinds; kind++) {
            for (size_t c = 0; c < columns; c++) {
                expected[c] = accumulating ? before[c] : 0;
                bounds[c] = fabs(expected[c]);
                for (size_t r = 0; r < rows; r++) {
                    double value = x[r * columns + c];
                    if (kind > 0) value *= ((double)y[r * columns + c] - (kind == 2 ? means[r] : 0)) * scales[r];
                    expected[c] += value;
                    bounds[c] += fabs(value);
                }
                bounds[c] *= 4 * u;
            }
            memcpy(sums, before, sizeof before);
            if (kind == 0) ck_column_sums(x, columns, rows, columns, accumulating, sums);
            if (kind == 1) ck_weighted_column_sums(x, columns, y, columns, scales, rows, columns, accumulating, sums);
            if (kind == 2) {
                ck_centered_weighted_column_sums(x, columns, y, columns, scales, means, rows, columns, accumulating,
                                                 sums);
            }
            expect_floats(names[kind], columns, sums);
        }
    }
}

static void check_losses(size_t n) {
    float x[most], t[most], row[most], teacher[most];
    fill(x, n, 3);
    fill(t, n, 3);
    size_t target = n / 2;
    double sum = 0, teacher_sum = 0, divergence = 0, share = 0.25, scale = 0.5;
    for (size_t i = 0; i < n; i++) sum += exp(x[i]), teacher_sum += exp(t[i]);
    for (size_t i = 0; i < n; i++) {
        double p = exp(t[i]) / teacher_sum;
        divergence += p * (t[i] - log(teacher_sum) - x[i] + log(sum));
    }
    double entropy = log(sum) - x[target];
    for (size_t i = 0; i < n; i++) {
        expected[i] = scale * (exp(x[i]) / sum - (i == target));
        bounds[i] = 60 * u * scale;
    }
    memcpy(row, x, sizeof x);
    double loss = ck_cross_entropy(row, n, target, (float)scale);
    expect_floats("cross_entropy's gradient", n, row);
    expect_one("cross_entropy", loss, entropy, 60 * u * (1 + fabs(entropy)));
    for (size_t i = 0; i < n; i++) {
        expected[i] = scale * (exp(x[i]) / sum - share * exp(t[i]) / teacher_sum - (1 - share) * (i == target));
    }
    memcpy(row, x, sizeof x);
    memcpy(teacher, t, sizeof t);
    loss = ck_distillation(row, teacher, n, target, (float)share, (float)scale);
    expect_floats("distillation's gradient", n, row);
    expect_one("distillation", loss, share * divergence + (1 - share) * entropy, 60 * u * (10 + fabs(entropy)));
}

// MARK: - Moments, optimiser

static void check_moments(size_t rows) {
    enum { panels = 3, square = ck_panel * ck_panel };
    static double left[panels * 130 * ck_panel], right[130 * ck_panel], blocks[panels * square], wanted[panels * square],
        size[panels * square];
    // Products of numbers in single precision are exact, so that the order alone decides about the bits.
    size_t stride = rows * ck_panel;
    for (size_t i = 0; i < panels * stride; i++) left[i] = normal(1);
    for (size_t i = 0; i < stride; i++) right[i] = normal(1000);
    for (size_t i = 0; i < panels * square; i++) blocks[i] = wanted[i] = normal(1);
    for (size_t p = 0; p < panels; p++) {
        for (size_t i = 0; i < ck_panel; i++) {
            for (size_t j = 0; j < ck_panel; j++) {
                double *block = wanted + p * square + i * ck_panel + j, magnitude = fabs(*block);
                for (size_t r = 0; r < rows; r++) {
                    double term = left[p * stride + r * ck_panel + i] * right[r * ck_panel + j];
                    *block += term;
                    magnitude += fabs(term);
                }
                size[p * square + i * ck_panel + j] = 2 * (double)(rows + 1) * u2 * magnitude;
            }
        }
    }
    ck_moments_update(left, panels, stride, right, rows, blocks);
    expect("moments_update", panels * square, blocks, wanted, size);
    char what[64];
    snprintf(what, sizeof what, "moments of %zu rows", rows);
    digest(what, blocks, sizeof blocks);
}

static void check_packing(size_t columns) {
    enum { rows = 7 };
    static float x[rows * most];
    static double packed[(most / ck_panel + 1) * rows * ck_panel];
    double first[most] = {0}, second[most] = {0}, fourth[most] = {0}, sums[ck_panel] = {0}, widened[most] = {0};
    fill(x, rows * columns, 1);
    size_t panels = (columns + ck_panel - 1) / ck_panel;
    memset(packed, 0xFF, sizeof packed);
    ck_moments_pack(x, rows, columns, columns, packed, rows * ck_panel);
    ck_moments_sum(packed, rows, sums);
    ck_column_powers(x, rows, columns, columns, first, second, fourth);
    for (size_t r = 0; r < rows; r++) ck_add_widened(x + r * columns, widened, columns);
    int wrong = 0;
    for (size_t p = 0; p < panels; p++) {
        for (size_t r = 0; r < rows; r++) {
            for (size_t i = 0; i < ck_panel; i++) {
                size_t c = p * ck_panel + i;
                wrong += packed[(p * rows + r) * ck_panel + i] != (c < columns ? x[r * columns + c] : 0);
            }
        }
    }
    expect_one("moments_pack's wrong elements", wrong, 0, 0);
    for (int power = 1; power <= 4; power *= 2) {
        for (size_t c = 0; c < columns; c++) {
            expected[c] = 0;
            for (size_t r = 0; r < rows; r++) expected[c] += pow(x[r * columns + c], power);
            bounds[c] = 0;
            for (size_t r = 0; r < rows; r++) bounds[c] += 16 * u2 * pow(fabs(x[r * columns + c]), power);
        }
        expect("column_powers", columns, power == 1 ? first : power == 2 ? second : fourth, expected, bounds);
        if (power > 1) continue;
        expect("add_widened", columns, widened, expected, bounds);
        expect("moments_sum", columns < ck_panel ? columns : ck_panel, sums, expected, bounds);
    }
}

static void check_adamw(size_t n) {
    float w[most], m[most], v[most], g[most], before[most];
    uint16_t rounded[most], again[most];
    fill(w, n, 1);
    fill(m, n, 0.1);
    fill(v, n, 0.1);
    fill(g, n, 0.3);
    memcpy(before, w, sizeof w);
    ck_adamw_factors f = {0.5f, 0.9f, 0.1f, 0.999f, 0.001f, 1e-2f, 1.5f, 1e-8f, 1e-4f};
    static double first[most], second[most], first_bounds[most], second_bounds[most];
    for (size_t i = 0; i < n; i++) {
        v[i] *= v[i];
        double gradient = (double)f.gradient_scale * g[i];
        first[i] = (double)f.beta1 * m[i] + (double)f.rest1 * gradient;
        second[i] = (double)f.beta2 * v[i] + (double)f.rest2 * gradient * gradient;
        first_bounds[i] = 4 * u * (fabs((double)f.beta1 * m[i]) + fabs((double)f.rest1 * gradient));
        second_bounds[i] = 5 * u * second[i];
        double root = (double)f.root_scale * sqrt(second[i]) + (double)f.epsilon, step = (double)f.rate * first[i] / root;
        expected[i] = w[i] - ((double)f.decay * w[i] + step);
        bounds[i] = u * fabs((double)w[i]) + 12 * u * (fabs(step) + fabs((double)f.decay * w[i]))
                    + (double)f.rate / root * first_bounds[i] + u * fabs(expected[i]);
    }
    ck_adamw(w, m, v, g, rounded, n, &f);
    expect_floats("adamw, w", n, w);
    ck_f32_to_bf16(w, again, n);
    expect_one("adamw, rounded", memcmp(rounded, again, 2 * n), 0, 0);
    memcpy(expected, first, sizeof first);
    memcpy(bounds, first_bounds, sizeof first_bounds);
    expect_floats("adamw, m", n, m);
    memcpy(expected, second, sizeof second);
    memcpy(bounds, second_bounds, sizeof second_bounds);
    expect_floats("adamw, v", n, v);
}

// MARK: - To the bit

static void check_conversions(void) {
    static uint16_t patterns[65536], narrowed[65536];
    static float wide[65536], others[65536];
    for (int i = 0; i < 65536; i++) patterns[i] = (uint16_t)i;
    ck_bf16_to_f32(patterns, wide, 65536);
    ck_f32_to_bf16(wide, narrowed, 65536);
    int wrong = 0;
    for (int i = 0; i < 65536; i++) {
        uint32_t bits;
        memcpy(&bits, wide + i, 4);
        // A NaN becomes a quiet one.
        int isNaN = (i & 0x7F80) == 0x7F80 && (i & 0x7F);
        wrong += bits != (uint32_t)i << 16 || narrowed[i] != (isNaN ? i | 0x40 : i);
    }
    expect_one("bfloat16's wrong patterns", wrong, 0, 0);
    ck_f16_to_f32(patterns, wide, 65536);
    ck_f32_to_f16(wide, narrowed, 65536);
    wrong = 0;
    for (int i = 0; i < 65536; i++) {
        int exponent = i >> 10 & 31, fraction = i & 1023, isNaN = exponent == 31 && fraction;
        double value = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                      : ldexp(fraction, -24);
        double widened = i >> 15 ? -value : value;
        wrong += isNaN ? !isnan(wide[i]) || (narrowed[i] & 0x7C00) != 0x7C00 || !(narrowed[i] & 0x3FF)
                       : wide[i] != (float)widened || narrowed[i] != i;
    }
    expect_one("half precision's wrong patterns", wrong, 0, 0);
    for (int i = 0; i < 65536; i++) others[i] = normal(i % 3 == 0 ? 1e-6 : i % 3 == 1 ? 1 : 4e4);
    ck_f32_to_bf16(others, narrowed, 65536);
    digest("f32_to_bf16", narrowed, sizeof narrowed);
    ck_f32_to_f16(others, narrowed, 65536);
    digest("f32_to_f16", narrowed, sizeof narrowed);
    double sum = ck_sum_of_squares(others, 65531);
    digest("sum_of_squares", &sum, sizeof sum);
    uint64_t hash = ck_hash((const uint32_t *)others, 65531);
    digest("hash", &hash, sizeof hash);
    expect_one("first_not_finite", (double)ck_first_not_finite(others, 65536), 65536, 0);
    others[50001] = -INFINITY;
    expect_one("first_not_finite", (double)ck_first_not_finite(others, 65536), 50001, 0);
    static double doubles[65536];
    ck_f32_to_f64(others, doubles, 65536);
    digest("f32_to_f64", doubles, sizeof doubles);
    for (int i = 0; i < 65536; i++) doubles[i] *= 1.1;
    ck_f64_to_f32(doubles, others, 65536);
    digest("f64_to_f32", others, sizeof others);
}

static void check_checksum(void) {
    uint8_t bytes[20000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)next();
    for (size_t count = 0; count <= sizeof bytes; count = count * 3 + 2) {
        uint64_t low = 0, high = 0;
        for (size_t i = 0; i < count; i += 2) {
            low = (low + (uint64_t)bytes[i] * 256 + bytes[i + 1]) % 65535;
            high = (high + low) % 65535;
        }
        uint32_t sum = (uint32_t)(high << 16 | low);
        expect_one("fletcher32", ck_has_fletcher32(bytes, count, sum), 1, 0);
        expect_one("fletcher32 of other bytes", ck_has_fletcher32(bytes, count, sum ^ 0x100), 0, 0);
    }
}

static void check_dequantization(void) {
    static const struct {
        const char *name;
        void (*loop)(const uint8_t *, float *, size_t);
        size_t bytes, elements;
    } formats[] = {
        {"q4_0", ck_dequantize_q4_0, 18, 32},  {"q4_1", ck_dequantize_q4_1, 20, 32},
        {"q5_0", ck_dequantize_q5_0, 22, 32},  {"q5_1", ck_dequantize_q5_1, 24, 32},
        {"q8_0", ck_dequantize_q8_0, 34, 32},  {"q2_k", ck_dequantize_q2_k, 84, 256},
        {"q3_k", ck_dequantize_q3_k, 110, 256}, {"q4_k", ck_dequantize_q4_k, 144, 256},
        {"q5_k", ck_dequantize_q5_k, 176, 256}, {"q6_k", ck_dequantize_q6_k, 210, 256},
    };
    enum { blocks = 9 };
    // Of any alignment.
    static uint8_t in[1 + blocks * 210];
    static float out[blocks * 256];
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        // Any bytes are scales and quanta; those that make a scale infinite or no number are left out.
        for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)(next() % 0x7B);
        formats[f].loop(in + 1, out, blocks);
        digest(formats[f].name, out, 4 * blocks * formats[f].elements);
    }
}

// MARK: - Threads

static unsigned char visits[1000];

static void visit(void *context, size_t index) { ((unsigned char *)context)[index]++; }

static void check_threads(void) {
    for (int threads = 1; threads <= 3; threads++) {
        ck_set_thread_count(threads);
        memset(visits, 0, sizeof visits);
        ck_parallel_for(sizeof visits, visit, visits);
        int wrong = 0;
        for (size_t i = 0; i < sizeof visits; i++) wrong += visits[i] != 1;
        expect_one("parallel_for's wrong visits", wrong, 0, 0);
    }
}

int main(int count, char **arguments) {
    ck_instruction_set set = ck_avx512;
    while (set && count > 1 && strcmp(arguments[1], ck_instruction_set_name(set))) set--;
    if (!set || !ck_has_instruction_set(count > 1 ? set : ck_baseline)) {
        printf("this processor does not have it\n");
        return 2;
    }
    if (count > 1) ck_use_instruction_set(set);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        check_elements(n);
        check_norm(n, 0);
        check_norm(n, 1);
        check_layer_norm(n, 0);
        check_layer_norm(n, 300);
        check_rotation(n);
        check_softmax(n);
        check_backward(n);
        for (size_t f = 0; f < sizeof activations / sizeof *activations; f++) {
            check_activation(activations + f, n, 0.1);
            check_activation(activations + f, n, 3);
            check_activation(activations + f, n, 30);
        }
        check_columns(n);
        check_losses(n);
        check_packing(n);
        check_adamw(n);
    }
    check_checksum();
    check_threads();
    // From here on the results are the same everywhere, to the bit.
    state = 88172645463325252u;
    for (size_t rows = 0; rows <= 130; rows = rows * 4 + 2) check_moments(rows);
    check_conversions();
    check_dequantization();
    printf("%d failures\n", failures);
    return failures > 0;
}
