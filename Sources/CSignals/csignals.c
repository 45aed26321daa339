#include "csignals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { slots = 32 };
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

/// Only calls that are safe in a signal handler.
static void stop(int signal) {
    (void)signal;
    for (int i = 0; i < slots; i++) {
        char *path = atomic_load(&files[i]);
        if (path) unlink(path);
    }
    static const char message[] = "\ninterrupted: unfinished output was removed\n";
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void)written;
    _exit(130);
}

void csignals_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = stop;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}
