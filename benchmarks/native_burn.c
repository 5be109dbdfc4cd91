/* Work whose truth is known: every thread measures its own CPU and adds up the joules that it stands for.
 *
 * draw(n) is what a CPU-second costs while n threads burn, as a multiple of what one alone costs: 1 for every n in a world
 * that is linear in CPU time, less for a concave load curve or for two threads on one core.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define MOST 128

typedef struct {
    int64_t want_ns, cpu_ns;
    double watts, nj;
} work;

static double draws[MOST + 1];
static atomic_int busy;
static atomic_llong all_cpu_ns, all_nj;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void book(work *w, int64_t ns) {
    int n = atomic_load(&busy);
    double nj = (double)ns * w->watts * draws[n < 1 ? 1 : n > MOST ? MOST : n];
    atomic_fetch_add(&all_cpu_ns, ns);
    atomic_fetch_add(&all_nj, (long long)(w->nj + nj) - (long long)w->nj);
    w->cpu_ns += ns;
    w->nj += nj;
}

static void work_from(work *w, int64_t begun) {
    volatile double y = 1;
    int64_t last = begun, t;
    atomic_fetch_add(&busy, 1);
    do {
        for (int i = 0; i < 2000; i++) y = y * 1.0000001 + 1e-9;
        t = now();
        book(w, t - last);
        last = t;
    } while (w->cpu_ns < w->want_ns);
    atomic_fetch_sub(&busy, 1);
}

static void *in_thread(void *w) {
    work_from(w, 0); /* a new thread's clock begins at 0: its start is part of its work */
    return 0;
}

void set_draws(const double *given, int count) {
    for (int n = 0; n <= MOST; n++) draws[n] = given[n < count ? n : count - 1];
}

void totals(int64_t out[2]) {
    out[0] = atomic_load(&all_cpu_ns);
    out[1] = atomic_load(&all_nj);
}

/* `threads` threads, the caller one of them, each burn `ns` of CPU at `watts`; out: CPU (ns) and energy (nJ) of them all. */
void burn(int threads, int64_t ns, double watts, int64_t out[2]) {
    pthread_t ids[64];
    work each[64];
    int64_t begun = now();
    for (int i = 0; i < threads; i++) each[i] = (work){ns, 0, watts, 0};
    for (int i = 1; i < threads; i++) pthread_create(&ids[i], 0, in_thread, &each[i]);
    work_from(&each[0], begun);
    for (int i = 1; i < threads; i++) pthread_join(ids[i], 0);
    double nj = 0;
    out[0] = 0;
    for (int i = 0; i < threads; i++) {
        out[0] += each[i].cpu_ns;
        nj += each[i].nj;
    }
    out[1] = (int64_t)nj;
}
