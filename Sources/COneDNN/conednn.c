#include "conednn.h"

#include <dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int conednn_version(void) {
    const dnnl_version_t *version = dnnl_version();
    return version->major * 10000 + version->minor * 100 + version->patch;
}

int conednn_sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    return dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

// MARK: bfloat16

enum { TRANSPOSE_A = 1, TRANSPOSE_B = 2, ACCUMULATING = 4 };

/// What determines a primitive: the shape, the strides, the orientation of the operands, whether C is added to.
typedef struct {
    int64_t m, n, k, lda, ldb, ldc;
    int64_t flags;
} shape_key;

typedef struct plan {
    shape_key key;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
    struct plan *next;
} plan;

// Each thread has its own primitives: their memory objects point at the operands of one call.
static pthread_once_t once = PTHREAD_ONCE_INIT;
static dnnl_engine_t engine;
static _Thread_local dnnl_stream_t stream;
static _Thread_local plan *plans;

static void create_engine(void) {
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
}

static dnnl_status_t start(void) {
    pthread_once(&once, create_engine);
    if (!engine) return dnnl_runtime_error;
    return stream ? dnnl_success : dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
}

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t owned_desc;
#define DESC(d) (d)
static dnnl_status_t describe(owned_desc *desc, dnnl_dims_t dims, dnnl_data_type_t type, dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(desc, 2, dims, type, strides);
}
static void release(owned_desc *desc) {
    if (*desc) dnnl_memory_desc_destroy(*desc);
}
static dnnl_status_t primitive_desc(dnnl_primitive_desc_t *out, owned_desc *a, owned_desc *b, owned_desc *c,
                                    dnnl_primitive_attr_t attributes) {
    return dnnl_matmul_primitive_desc_create(out, engine, *a, *b, NULL, *c, attributes);
}
static dnnl_status_t append_sum(dnnl_post_ops_t operations) {
    return dnnl_post_ops_append_sum(operations, 1, 0, dnnl_f32);
}
#else
typedef dnnl_memory_desc_t owned_desc;
#define DESC(d) (&(d))
static dnnl_status_t describe(owned_desc *desc, dnnl_dims_t dims, dnnl_data_type_t type, dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(desc, 2, dims, type, strides);
}
static void release(owned_desc *desc) { (void)desc; }
static dnnl_status_t append_sum(dnnl_post_ops_t operations) { return dnnl_post_ops_append_sum(operations, 1); }
static dnnl_status_t primitive_desc(dnnl_primitive_desc_t *out, owned_desc *a, owned_desc *b, owned_desc *c,
                                    dnnl_primitive_attr_t attributes) {
    dnnl_matmul_desc_t operation;
    dnnl_status_t status = dnnl_matmul_desc_init(&operation, a, b, NULL, c);
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &operation, attributes, engine, NULL) : status;
}
#endif

/// Attributes that add the product to C.
static dnnl_status_t accumulate(dnnl_primitive_attr_t *attributes) {
    dnnl_post_ops_t operations = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(attributes);
    if (status == dnnl_success) status = dnnl_post_ops_create(&operations);
    if (status == dnnl_success) status = append_sum(operations);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(*attributes, operations);
    if (operations) dnnl_post_ops_destroy(operations);
    return status;
}

static void release_parts(plan *p) {
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->a) dnnl_memory_destroy(p->a);
    if (p->b) dnnl_memory_destroy(p->b);
    if (p->c) dnnl_memory_destroy(p->c);
}

/// Makes the primitive and the memory objects of a plan; `name`, unless NULL, receives a copy of what the library calls
/// the implementation that it chose.
static dnnl_status_t build(plan *p, char **name) {
    const shape_key *key = &p->key;
    dnnl_dims_t dims_a = {key->m, key->k}, dims_b = {key->k, key->n}, dims_c = {key->m, key->n};
    dnnl_dims_t strides_a = {key->flags & TRANSPOSE_A ? 1 : key->lda, key->flags & TRANSPOSE_A ? key->lda : 1};
    dnnl_dims_t strides_b = {key->flags & TRANSPOSE_B ? 1 : key->ldb, key->flags & TRANSPOSE_B ? key->ldb : 1};
    dnnl_dims_t strides_c = {key->ldc, 1};
    owned_desc a, b, c;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    memset(&c, 0, sizeof c);
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t status = describe(&a, dims_a, dnnl_bf16, strides_a);
    if (status == dnnl_success) status = describe(&b, dims_b, dnnl_bf16, strides_b);
    if (status == dnnl_success) status = describe(&c, dims_c, dnnl_f32, strides_c);
    if (status == dnnl_success && key->flags & ACCUMULATING) status = accumulate(&attributes);
    if (status == dnnl_success) status = primitive_desc(&desc, &a, &b, &c, attributes);
    if (status == dnnl_success) status = dnnl_primitive_create(&p->primitive, desc);
    if (status == dnnl_success && name) {
        const char *text = NULL;
        if (dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &text) == dnnl_success && text)
            *name = strdup(text);
    }
    if (status == dnnl_success) status = dnnl_memory_create(&p->a, DESC(a), engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success) status = dnnl_memory_create(&p->b, DESC(b), engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success) status = dnnl_memory_create(&p->c, DESC(c), engine, DNNL_MEMORY_NONE);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    release(&a);
    release(&b);
    release(&c);
    return status;
}

static dnnl_status_t find(const shape_key *key, plan **found) {
    for (plan *p = plans; p; p = p->next) {
        if (memcmp(&p->key, key, sizeof *key) == 0) {
            *found = p;
            return dnnl_success;
        }
    }
    plan *p = calloc(1, sizeof *p);
    if (!p) return dnnl_out_of_memory;
    p->key = *key;
    dnnl_status_t status = build(p, NULL);
    if (status != dnnl_success) {
        release_parts(p);
        free(p);
        return status;
    }
    p->next = plans;
    plans = p;
    *found = p;
    return dnnl_success;
}

/// Whether the library offers a product of this orientation that is more than its reference loop, which is there for
/// checking and hundreds of times slower.
static bool offers(int64_t flags) {
    plan p = {.key = {64, 64, 64, 64, 64, 64, flags}};
    char *name = NULL;
    bool is_offered = build(&p, &name) == dnnl_success && !strstr(name ? name : "ref", "ref");
    free(name);
    release_parts(&p);
    return is_offered;
}

bool conednn_has_bf16_gemm(void) {
    if (start() != dnnl_success) return false;
    for (int64_t flags = 0; flags <= (TRANSPOSE_A | TRANSPOSE_B | ACCUMULATING); flags++) {
        if (!offers(flags)) return false;
    }
    return true;
}

int conednn_bf16_gemm(bool transpose_a, bool transpose_b, bool accumulating, int64_t m, int64_t n, int64_t k,
                      const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float *c, int64_t ldc) {
    shape_key key = {m, n, k, lda, ldb, ldc, (transpose_a ? TRANSPOSE_A : 0) | (transpose_b ? TRANSPOSE_B : 0) |
                                                 (accumulating ? ACCUMULATING : 0)};
    plan *p = NULL;
    dnnl_status_t status = start();
    if (status == dnnl_success) status = find(&key, &p);
    if (status == dnnl_success) status = dnnl_memory_set_data_handle(p->a, (void *)a);
    if (status == dnnl_success) status = dnnl_memory_set_data_handle(p->b, (void *)b);
    if (status == dnnl_success) status = dnnl_memory_set_data_handle(p->c, c);
    if (status == dnnl_success) {
        dnnl_exec_arg_t arguments[3] = {{DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
        status = dnnl_primitive_execute(p->primitive, stream, 3, arguments);
        if (status == dnnl_success) status = dnnl_stream_wait(stream);
    }
    return status;
}

bool conednn_is_limited_to_avx2(void) {
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return isa == dnnl_cpu_isa_avx2 || isa == dnnl_cpu_isa_avx2_vnni;
}
