/* The wall clock of a process, stepped: CLOCK_REALTIME reads as the machine's plus an offset that is read from a file.
 *
 * For faults on purpose only (vitalgate/torture/stepped_clock.py builds it, LD_PRELOAD brings it in). CLOCK_MONOTONIC is
 * untouched, as when somebody sets a machine's clock. Waits until an absolute wall time are given back to the kernel in
 * its own time: a step must not make a wait longer than it was meant to be.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define WALL 1000000000LL /* seconds: an absolute time beyond this is a wall time, no monotonic one */

static volatile int64_t none, *offset = &none; /* nanoseconds */
static int (*next_clock_gettime)(clockid_t, struct timespec *);
static int (*next_cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*next_sem_timedwait)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("STEPPED_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) offset = mapped;
        close(file);
    }
}

static void add(struct timespec *at, int64_t by) {
    int64_t total = (int64_t)at->tv_sec * SECOND + at->tv_nsec + by;
    at->tv_sec = (time_t)(total / SECOND);
    at->tv_nsec = (long)(total % SECOND);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (!next_clock_gettime) next_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int status = next_clock_gettime(clock, at);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) add(at, *offset);
    return status;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (!at || clock_gettime(CLOCK_REALTIME, &now)) return at ? -1 : 0;
    at->tv_sec = now.tv_sec;
    at->tv_usec = (suseconds_t)(now.tv_nsec / 1000);
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return (time_t)-1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *at, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, at) == 0 ? base : 0;
}

static const struct timespec *kernels(const struct timespec *until, struct timespec *own) {
    if (until->tv_sec < WALL) return until;
    *own = *until;
    add(own, -*offset);
    return own;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    struct timespec own;
    if (!next_cond_timedwait) {
        /* The oldest version of this symbol, which a plain look-up may find, is of another kind of condition. */
        next_cond_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
        if (!next_cond_timedwait) next_cond_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    }
    return next_cond_timedwait(cond, mutex, kernels(until, &own));
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    struct timespec own;
    if (!next_sem_timedwait) next_sem_timedwait = dlsym(RTLD_NEXT, "sem_timedwait");
    return next_sem_timedwait(semaphore, kernels(until, &own));
}
