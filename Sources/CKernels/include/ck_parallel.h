#ifndef CK_PARALLEL_H
#define CK_PARALLEL_H

#include <stddef.h>

/// Calls `body(context, i)` for every i in 0..<count on the process' OpenMP threads – the pool that oneDNN uses too, so
/// that two pools never spin against each other. Order is not defined; returns when all calls have returned.
/// Called inside a parallel region it runs on the calling thread.
void ck_parallel_for(size_t count, void (*body)(void *context, size_t index), void *context);

/// Which of the threads of `ck_parallel_for` is calling, from 0; 0 outside.
int ck_thread_index(void);

/// The number of threads that `ck_parallel_for` uses (OMP_NUM_THREADS, or the processors this process may run on).
int ck_thread_count(void);

/// Sets that number for the rest of the process.
void ck_set_thread_count(int count);

#endif
