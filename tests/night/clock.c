/* Preloaded into a broker: its wall clock is off by the seconds that the file
 * WRONG_CLOCK holds. Its monotonic clock is right. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic long offset, read_at = -1;

/* The file is read once a second. */
static long seconds_off(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    if (now.tv_sec != read_at) {
        char text[32] = {0};
        const char *path = getenv("WRONG_CLOCK");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        read_at = now.tv_sec;
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0)
                offset = atol(text);
            close(file);
        }
    }
    return offset;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += seconds_off();
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    int result = syscall(SYS_gettimeofday, time, zone);
    if (result == 0)
        time->tv_sec += seconds_off();
    return result;
}
