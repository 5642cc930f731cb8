/* Put before libc's calls in a daemon under test: kills it at the n-th call, fails calls, shortens writes, moves the
 * clock. Only files below FAULT_UNDER count; what the kernel itself does is left to the kernel.
 *
 *   FAULT_KILL_AT=n   the n-th open, write, fsync, rename, unlink or truncation is not made: SIGKILL instead
 *   FAULT_TORN=1      where that is a write, half of it is made first
 *   FAULT_TRACE=path  gets a line for each call that counts
 *   FAULT_CALL=names  these calls fail with FAULT_ERRNO, while the file FAULT_WHILE is there
 *   FAULT_EVERY=n     only each n-th of them
 *   FAULT_SHORT=1     each write takes a part
 *   FAULT_CLOCK=path  a file that holds how many seconds the wall clock is ahead
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }

/* The file's name where it counts, else 0. A descriptor is named by what the kernel says that it is. */
static const char *counted(int fd, const char *name, char *path) {
    const char *under = getenv("FAULT_UNDER");
    char link[64];
    ssize_t length = 0;
    if (!under || (!name && fd <= 2)) return 0;
    path[0] = 0;
    if (!name || name[0] != '/') {
        if (name && fd == AT_FDCWD) return 0;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = readlink(link, path, PATH_MAX - 1);
        if (length < 0) return 0;
        path[length] = 0;
    }
    if (name) snprintf(path + length, PATH_MAX - length, length ? "/%s" : "%s", name);
    return strncmp(path, under, strlen(under)) == 0 ? path : 0;
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

/* Counts a call; returns 1 where it has to die now, -1 with errno set where it has to fail, else 0. */
static int meet(const char *call, int fd, const char *name) {
    static int calls, failures;
    char path[PATH_MAX];
    const char *what = counted(fd, name, path), *trace = getenv("FAULT_TRACE"), *failing = getenv("FAULT_CALL");
    if (!what) return 0;
    if (trace) {
        char line[PATH_MAX + 64];
        int out = syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_CREAT | O_APPEND, 0600);
        int length = snprintf(line, sizeof line, "%s %s\n", call, what);
        syscall(SYS_write, out, line, length);
        syscall(SYS_close, out);
    }
    if (failing && strstr(failing, call) && access(getenv("FAULT_WHILE"), F_OK) == 0) {
        int every = number("FAULT_EVERY");
        if (!every || ++failures % every == 0) { errno = number("FAULT_ERRNO"); return -1; }
    }
    return ++calls == number("FAULT_KILL_AT");
}

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define MEET(call, fd, name) \
    switch (meet(call, fd, name)) { case 1: die(); break; case -1: return -1; }

static int open_at(int directory, const char *name, int flags, mode_t mode) {
    MEET("open", directory, name)
    return syscall(SYS_openat, directory, name, flags, mode);
}

#define OPEN(function) \
    int function(const char *name, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        return open_at(AT_FDCWD, name, flags, mode); }
#define OPENAT(function) \
    int function(int directory, const char *name, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        return open_at(directory, name, flags, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    static unsigned seed = 7;
    char path[PATH_MAX];
    switch (meet("write", fd, 0)) {
        case 1: if (number("FAULT_TORN")) syscall(SYS_write, fd, data, (size + 1) / 2); die(); break;
        case -1: return -1;
    }
    if (size > 1 && number("FAULT_SHORT") && counted(fd, 0, path)) size = 1 + rand_r(&seed) % size;
    return syscall(SYS_write, fd, data, size);
}

int fsync(int fd) { MEET("fsync", fd, 0) return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { MEET("fsync", fd, 0) return syscall(SYS_fdatasync, fd); }
int ftruncate(int fd, off_t size) { MEET("truncate", fd, 0) return syscall(SYS_ftruncate, fd, size); }
int ftruncate64(int fd, off_t size) { MEET("truncate", fd, 0) return syscall(SYS_ftruncate, fd, size); }

int renameat(int from, const char *old, int to, const char *new) {
    MEET("rename", from, old)
    return syscall(SYS_renameat, from, old, to, new);
}
int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }
int unlinkat(int directory, const char *name, int flags) {
    MEET("unlink", directory, name)
    return syscall(SYS_unlinkat, directory, name, flags);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*gettime)(clockid_t, struct timespec *);
    char text[32] = "";
    if (!gettime) gettime = real("clock_gettime");
    int result = gettime(clock, now);
    const char *path = clock == CLOCK_REALTIME ? getenv("FAULT_CLOCK") : 0;
    if (path) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
        if (fd >= 0) {
            syscall(SYS_read, fd, text, sizeof text - 1);
            syscall(SYS_close, fd);
            now->tv_sec += atol(text);
        }
    }
    return result;
}
