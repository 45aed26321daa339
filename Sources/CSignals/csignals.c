#define _GNU_SOURCE
#include "csignals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { slots = 32, mappings = 256 };

static _Atomic(char *) files[slots];

int csignals_remember(const char *path) {
    char *copy = strdup(path);
    if (!copy) return -1;
    for (int i = 0; i < slots; i++) {
        char *empty = NULL;
        if (atomic_compare_exchange_strong(&files[i], &empty, copy)) return i;
    }
    free(copy);
    return -1;
}

void csignals_forget(int slot) {
    if (slot >= 0 && slot < slots) free(atomic_exchange(&files[slot], NULL));
}

static _Thread_local const char *volatile reading;

const char *csignals_begin_reading(const char *path) {
    const char *outer = reading;
    reading = path;
    return outer;
}

void csignals_end_reading(const char *outer) { reading = outer; }

static _Atomic(int) is_installed;
static _Thread_local timer_t watch;
static _Thread_local int is_watching;

void csignals_begin_short_work(int seconds) {
    if (!is_installed || is_watching) return;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &watch) != 0) return;
    struct itimerspec limit = {.it_value = {.tv_sec = seconds}};
    timer_settime(watch, 0, &limit, NULL);
    is_watching = 1;
}

void csignals_end_short_work(void) {
    if (!is_watching) return;
    timer_delete(watch);
    is_watching = 0;
}

/// The path is set last and removed first: with it the other two are valid.
static struct {
    _Atomic(char *) path;
    uintptr_t start, end;
    atomic_flag taken;
} mapped[mappings];

int csignals_map(const void *start, size_t bytes, const char *path) {
    char *copy = strdup(path);
    if (!copy) return -1;
    for (int i = 0; i < mappings; i++) {
        if (atomic_flag_test_and_set(&mapped[i].taken)) continue;
        mapped[i].start = (uintptr_t)start;
        mapped[i].end = (uintptr_t)start + bytes;
        atomic_store(&mapped[i].path, copy);
        return i;
    }
    free(copy);
    return -1;
}

void csignals_unmap(int slot) {
    if (slot < 0 || slot >= mappings) return;
    free(atomic_exchange(&mapped[slot].path, NULL));
    atomic_flag_clear(&mapped[slot].taken);
}

// From here on only calls that are safe in a signal handler.

static char tool_name[64];

static void say(const char *text) {
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

void csignals_remove_files(void) {
    for (int i = 0; i < slots; i++) {
        char *path = atomic_load(&files[i]);
        if (path) unlink(path);
    }
    // One of them may be in another.
    for (int removed = 1; removed;) {
        removed = 0;
        for (int i = 0; i < slots; i++) {
            char *path = atomic_load(&files[i]);
            if (path && rmdir(path) == 0) removed = 1;
        }
    }
}

static _Atomic(int) is_deferring;
static _Atomic(int) requested;

static void stop(int signal) {
    int none = 0;
    if (atomic_load(&is_deferring) && atomic_compare_exchange_strong(&requested, &none, signal)) {
        // The interrupted call may be about to look at it.
        int error = errno;
        say("\ninterrupted: will save and stop; a second signal ends at once, without saving\n");
        errno = error;
        return;
    }
    csignals_remove_files();
    say("\ninterrupted: unfinished output was removed\n");
    _exit(130);
}

static void blame(const char *path, const char *reason) {
    say(tool_name);
    say(": error: ");
    say(path);
    say(reason);
    _exit(65);
}

static void overdue(int signal) {
    (void)signal;
    if (!is_watching || !reading) return;
    csignals_remove_files();
    blame(reading, ": is corrupt: its HDF5 structures are damaged so badly that the library does not come to an end\n");
}

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGTRAP};
enum { fatal_count = sizeof fatal / sizeof fatal[0] };
static struct sigaction former[fatal_count];

static void crash(int signal, siginfo_t *info, void *context) {
    (void)context;
    // Several threads may run into the same hole; the first one speaks for all and ends the process.
    static atomic_flag crashed = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&crashed)) pause();
    csignals_remove_files();
    if (signal == SIGBUS) {
        uintptr_t place = (uintptr_t)info->si_addr;
        for (int i = 0; i < mappings; i++) {
            const char *path = atomic_load(&mapped[i].path);
            if (path && place >= mapped[i].start && place < mapped[i].end)
                blame(path, ": was cut short or became unreadable while it was read\n");
        }
    }
    // A failed precondition of ours (SIGILL, SIGTRAP) is our bug whatever was read.
    if (reading && signal != SIGILL && signal != SIGTRAP)
        blame(reading, ": is corrupt: its HDF5 structures are damaged so badly that the library crashed over them\n");
    // All of them: what handles this one next may end in another, which must not wait here for ever.
    for (int i = 0; i < fatal_count; i++) sigaction(fatal[i], &former[i], NULL);
    // Delivered as soon as this handler returns.
    raise(signal);
}

static void catch_interrupts(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = stop;
    // Where the handler returns, the work goes on as if there had been no signal. On a stack of its own: while oneDNN
    // multiplies in single precision, the stack pointer points into a buffer, and a handler would write over that.
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    const int stopping[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) {
        struct sigaction present;
        sigaction(stopping[i], NULL, &present);
        if (present.sa_handler != SIG_IGN) sigaction(stopping[i], &action, NULL);
    }
}

void csignals_defer_interrupts(void) {
    atomic_store(&requested, 0);
    atomic_store(&is_deferring, 1);
    catch_interrupts();
}

int csignals_interrupt_requested(void) { return atomic_load(&requested); }

void csignals_stop_deferring(void) { atomic_store(&is_deferring, 0); }

void csignals_install(const char *tool) {
    strncpy(tool_name, tool, sizeof tool_name - 1);
    catch_interrupts();
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = overdue;
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    sigaction(SIGVTALRM, &action, NULL);
    action.sa_flags = 0;
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);

    // Damaged structures can send a library into a recursion that uses up the stack, the handler's included.
    static char stack[1 << 16];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    action.sa_handler = NULL;
    action.sa_sigaction = crash;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < fatal_count; i++) sigaction(fatal[i], &action, &former[i]);
    is_installed = 1;
}
