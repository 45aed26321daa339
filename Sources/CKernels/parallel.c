#include "ck_parallel.h"

#include <stdatomic.h>

// The entry points of libgomp that compiled OpenMP code calls. Declared here because `-fopenmp` would be an unsafe flag
// in a package manifest; they are part of the library's stable binary interface.
extern void GOMP_parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags);
extern int omp_get_max_threads(void);
extern void omp_set_num_threads(int);
extern int omp_in_parallel(void);
extern int omp_get_thread_num(void);

typedef struct {
    size_t count;
    void (*body)(void *, size_t);
    void *context;
    _Atomic size_t next;
} work;

static void run(void *data) {
    work *w = data;
    for (;;) {
        size_t index = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
        if (index >= w->count) return;
        w->body(w->context, index);
    }
}

void ck_parallel_for(size_t count, void (*body)(void *, size_t), void *context) {
    int threads = omp_get_max_threads();
    if (count <= 1 || threads <= 1 || omp_in_parallel()) {
        for (size_t i = 0; i < count; i++) body(context, i);
        return;
    }
    work w = {count, body, context, 0};
    GOMP_parallel(run, &w, (unsigned)((size_t)threads < count ? (size_t)threads : count), 0);
}

int ck_thread_count(void) { return omp_get_max_threads(); }
void ck_set_thread_count(int count) { omp_set_num_threads(count); }
int ck_thread_index(void) { return omp_get_thread_num(); }
