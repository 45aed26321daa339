/// Files that must not outlive an interrupted process.
#ifndef CSIGNALS_H
#define CSIGNALS_H

/// Remembers a temporary file; returns a slot, or -1 when all are taken (the file is then left behind on a signal).
int csignals_remember(const char *path);
/// Forgets the file of a slot: it was renamed or removed.
void csignals_forget(int slot);

/// From now on SIGINT, SIGTERM and SIGHUP remove the remembered files, say so on standard error and end the process
/// with status 130; SIGPIPE and SIGXFSZ are ignored, so that the failed write is reported as an error.
void csignals_install(void);

#endif
