// Clock of a Redis that a simulation sets: replaces gettimeofday, time and clock_gettime of the wall clock by a number of
// microseconds since 1970 at the beginning of the file that VIRTUAL_CLOCK names, little endian. 0 shows the real time.
// Monotonic clocks are left alone.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t *shown;

static uint64_t micros(void) {
    if (!shown) {
        const char *path = getenv("VIRTUAL_CLOCK");
        int file = path ? open(path, O_RDONLY) : -1;
        if (file < 0) return 0;
        void *page = mmap(0, sizeof *shown, PROT_READ, MAP_SHARED, file, 0);
        if (page != MAP_FAILED) shown = page;
        close(file);
    }
    return shown ? *shown : 0;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    uint64_t now = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? micros() : 0;
    if (!now) return syscall(SYS_clock_gettime, clock, at);
    at->tv_sec = now / 1000000;
    at->tv_nsec = now % 1000000 * 1000;
    return 0;
}

int gettimeofday(struct timeval *at, void *zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
