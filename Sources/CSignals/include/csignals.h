/// What a process must see to when a signal ends it: files that must not outlive it, and a word on a file that broke it.
#ifndef CSIGNALS_H
#define CSIGNALS_H

#include <stddef.h>

/// Remembers a temporary file, or a folder that is to go if it is empty; returns a slot, or -1 when all are taken (it is
/// then left behind on a signal).
int csignals_remember(const char *path);
/// Forgets what a slot remembers: it was renamed, removed or filled.
void csignals_forget(int slot);

/// Removes all that is remembered, for a process that ends without going back through its callers.
void csignals_remove_files(void);

/// Says that this thread is inside a library that reads a file and is not made for damaged ones (HDF5): a crash is then
/// the file's fault. Returns what it said before, for `csignals_end_reading`. The text must live until then.
const char *csignals_begin_reading(const char *path);
void csignals_end_reading(const char *outer);

/// Says that what this thread does inside the library takes no more than so many seconds of its time unless the library
/// goes round in circles, which then ends the process as a crash would. Only after `csignals_install`; does not nest.
void csignals_begin_short_work(int seconds);
void csignals_end_short_work(void);

/// Remembers that memory is a mapping of a file: a bus error in it then says that the file was cut short meanwhile.
/// Returns a slot, or -1 when all are taken.
int csignals_map(const void *start, size_t bytes, const char *path);
void csignals_unmap(int slot);

/// From now on
/// - SIGINT, SIGTERM and SIGHUP remove the remembered files, say so on standard error and end the process with status 130,
///   unless they were ignored before, as nohup has it;
/// - SIGSEGV, SIGBUS, SIGFPE and SIGABRT over a damaged file remove them too, name the file in one line that starts with
///   the tool's name, and end the process with status 65. Anywhere else they and SIGILL and SIGTRAP – bugs – remove the
///   files and then do what they did before;
/// - SIGVTALRM says that short work was none;
/// - SIGPIPE and SIGXFSZ are ignored, so that the failed write is reported as an error.
void csignals_install(const char *tool);

/// From now on the first SIGINT, SIGTERM or SIGHUP – unless it was ignored before – says on standard error that the tool
/// will save and stop, and does no more than that: the tool asks for it between two steps. The second one, whichever
/// it is, does what `csignals_install` says. Forgets a signal that was deferred earlier.
void csignals_defer_interrupts(void);
/// The number of the signal that came since then, or 0.
int csignals_interrupt_requested(void);
/// From now on the next signal ends the process again; one that was deferred is still there to be asked for.
void csignals_stop_deferring(void);

#endif
