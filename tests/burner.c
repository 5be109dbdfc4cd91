/* Native threads whose CPU is known exactly: each reads its own clock. */
#include <pthread.h>
#include <stdint.h>
#include <time.h>

struct share { int64_t want_ns, used_ns; };

static int64_t own_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *spend(void *argument) {
    struct share *share = argument;
    volatile double x = 1;
    while (own_clock() < share->want_ns)
        for (int i = 0; i < 2000; i++) x = x * 1.0000001 + 1e-9;
    share->used_ns = own_clock();
    return 0;
}

/* `threads` (at most 64) new threads use `want_ns` of CPU each while the caller waits; returns what they used together. */
int64_t burn_native(int threads, int64_t want_ns) {
    pthread_t ids[64];
    struct share shares[64];
    int64_t used = 0;
    for (int i = 0; i < threads; i++) {
        shares[i] = (struct share){want_ns, 0};
        pthread_create(&ids[i], 0, spend, &shares[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], 0);
        used += shares[i].used_ns;
    }
    return used;
}
