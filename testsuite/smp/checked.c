/* Loads that know their results: locks, maps, signals, processes. */

#define _GNU_SOURCE
#include "smp.h"
#include <linux/futex.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int threads, rounds;
static const char *volatile fault;
static uint64_t total;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;

static const char *run(int with_threads, int with_rounds, void *(*body)(void *)) {
    threads = with_threads;
    rounds = with_rounds;
    fault = NULL;
    total = 0;
    turn = 0;
    together(threads, body);
    return fault;
}

/* Adds under the lock, and takes turns by condition variable. */
static void *lock_and_wait(void *number) {
    long mine = (long)number;
    for (int i = 0; i < rounds; i++) {
        for (int j = 0; j < 50; j++) {
            pthread_mutex_lock(&lock);
            total++;
            pthread_mutex_unlock(&lock);
        }
        pthread_mutex_lock(&lock);
        while (turn % threads != mine)
            pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static const char *mutexes(int with_threads, int with_rounds) {
    run(with_threads, with_rounds, lock_and_wait);
    uint64_t turns = (uint64_t)threads * rounds;
    return total != 50 * turns || (uint64_t)turn != turns ? "an addition or a turn was lost" : NULL;
}

static int tokens[MOST_THREADS];

static long futex(int *word, int operation, int value) {
    return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

/* Takes a token from its place and puts one into the next, as many as there are threads going round. */
static void *pass_tokens(void *number) {
    int *own = &tokens[(long)number], *next = &tokens[((long)number + 1) % threads];
    for (int i = 0; i < rounds; i++) {
        for (;;) {
            int here = __atomic_load_n(own, __ATOMIC_SEQ_CST);
            if (here == 0)
                futex(own, FUTEX_WAIT_PRIVATE, 0);
            else if (__atomic_compare_exchange_n(own, &here, here - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
                break;
        }
        __atomic_fetch_add(next, 1, __ATOMIC_SEQ_CST);
        futex(next, FUTEX_WAKE_PRIVATE, 1);
    }
    return NULL;
}

static const char *futexes(int with_threads, int with_rounds) {
    int left = 0;
    for (int i = 0; i < with_threads; i++)
        tokens[i] = 1;
    run(with_threads, with_rounds, pass_tokens);
    for (int i = 0; i < threads; i++)
        left += tokens[i];
    return left == threads ? NULL : "a token was lost or doubled";
}

/* Maps, fills, reads and unmaps; the address was often another thread's a moment ago. */
static void *map_and_unmap(void *number) {
    enum { PAGES = 16, WORDS = 512 };
    uint32_t state = (long)number;
    for (int i = 0; i < rounds && !fault; i++) {
        uint64_t mark = ((uint64_t)(long)number << 32) + i;
        uint64_t *map = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) {
            fault = "mmap failed";
            break;
        }
        for (int page = 0; page < PAGES; page++) {
            if (map[page * WORDS + 7] != 0)
                fault = "a new page is not empty";
            map[page * WORDS + 7] = mark + page;
        }
        int page = next_random(&state) % PAGES;
        mprotect(&map[page * WORDS], 4096, PROT_READ);
        if (next_random(&state) % 4 == 0)
            sched_yield();
        for (page = 0; page < PAGES; page++)
            if (map[page * WORDS + 7] != mark + page)
                fault = "a page holds what another thread has written";
        munmap(map, PAGES * 4096);
    }
    return NULL;
}

static const char *maps(int with_threads, int with_rounds) {
    return run(with_threads, with_rounds, map_and_unmap);
}

static volatile uint32_t *shared_page;
static volatile int finished;
static __thread sigjmp_buf refused;

static void jump_back(int number) {
    siglongjmp(refused, number);
}

/* The first thread takes the right to write away; once it has, what the others write must not arrive. */
static void *write_or_protect(void *number) {
    if ((long)number != 0) {
        while (!finished) {
            if (sigsetjmp(refused, 1) == 0)
                while (!finished)
                    shared_page[(long)number]++;
            sched_yield();
        }
        return NULL;
    }
    for (int i = 0; i < rounds; i++) {
        uint32_t before[MOST_THREADS];
        mprotect((void *)shared_page, 4096, PROT_READ);
        memcpy(before, (void *)shared_page, sizeof before);
        for (int j = 0; j < 2000; j++)
            __builtin_ia32_pause();
        if (memcmp(before, (void *)shared_page, sizeof before))
            fault = "a store arrived at a page that may not be written any more";
        mprotect((void *)shared_page, 4096, PROT_READ | PROT_WRITE);
        sched_yield();
    }
    finished = 1;
    return NULL;
}

static const char *rights(int with_threads, int with_rounds) {
    struct sigaction action = {.sa_handler = jump_back};
    sigaction(SIGSEGV, &action, NULL);
    finished = 0;
    shared_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const char *found = run(with_threads, with_rounds, write_or_protect);
    signal(SIGSEGV, SIG_DFL);
    munmap((void *)shared_page, 4096);
    return found;
}

static pthread_t others[MOST_THREADS];
static pthread_barrier_t all_here;
static uint64_t taken;

static void take_signal(int number, siginfo_t *info, void *context) {
    __atomic_fetch_add(&taken, info->si_value.sival_int, __ATOMIC_SEQ_CST);
}

/* Sends queued signals to its neighbour, which computes meanwhile. */
static void *send_signals(void *number) {
    others[(long)number] = pthread_self();
    pthread_barrier_wait(&all_here);
    pthread_t neighbour = others[((long)number + 1) % threads];
    volatile double x = 1;
    for (int i = 0; i < rounds; i++) {
        while (pthread_sigqueue(neighbour, SIGRTMIN, (union sigval){.sival_int = 3}))
            sched_yield();
        double expected = x * 1.0000001 + (long)number;
        x = x * 1.0000001 + (long)number;
        if (x != expected)
            fault = "a handler has changed a register";
    }
    pthread_barrier_wait(&all_here);
    return NULL;
}

static const char *signals(int with_threads, int with_rounds) {
    struct sigaction action = {.sa_sigaction = take_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGRTMIN, &action, NULL);
    taken = 0;
    pthread_barrier_init(&all_here, NULL, with_threads);
    const char *found = run(with_threads, with_rounds, send_signals);
    if (taken != 3ull * threads * rounds)
        return "a signal was lost or doubled";
    return found;
}

/* Programs started and waited for by all threads, as `make -j` does. */
static void *run_jobs(void *number) {
    for (int i = 0; i < rounds && !fault; i++) {
        char text[20];
        int job = (long)number * rounds + i, status = 0;
        snprintf(text, sizeof text, "%d", job);
        pid_t child = vfork();
        if (child == 0) {
            execl(program_path, program_path, "--job", text, NULL);
            _exit(0x80);
        }
        uint32_t state = job;
        for (int j = 0; j < 1000; j++)
            next_random(&state);
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
            WEXITSTATUS(status) != (next_random(&state) & 0x7f))
            fault = "a program gave a wrong result";
    }
    return NULL;
}

static const char *jobs(int with_threads, int with_rounds) {
    return run(with_threads, with_rounds, run_jobs);
}

/* Processes that share memory copied on write: each changes its own. */
static void *copy_on_write(void *number) {
    enum { PAGES = 8 };
    for (int i = 0; i < rounds && !fault; i++) {
        uint32_t *map = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int page = 0; page < PAGES; page++)
            map[page * 1024] = i + page;
        pid_t child = fork();
        for (int page = 0; page < PAGES; page++)
            map[page * 1024] += child ? 1 : 2;
        int good = 1, status = 0;
        for (int page = 0; page < PAGES; page++)
            good &= map[page * 1024] == (uint32_t)(i + page + (child ? 1 : 2));
        if (child == 0)
            _exit(good ? 5 : 6);
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 5 || !good)
            fault = "a process saw another's writes";
        munmap(map, PAGES * 4096);
    }
    return NULL;
}

static const char *forks(int with_threads, int with_rounds) {
    return run(with_threads, with_rounds, copy_on_write);
}

static uint64_t latest[2];

static uint64_t read_clock(int clock) {
    if (clock == 0)
        return __builtin_ia32_rdtscp(&(unsigned){0});
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void *read_clocks(void *number) {
    for (int i = 0; i < rounds; i++)
        for (int clock = 0; clock < 2; clock++) {
            uint64_t before = __atomic_load_n(&latest[clock], __ATOMIC_SEQ_CST), now = read_clock(clock);
            if (now < before)
                fault = clock ? "CLOCK_MONOTONIC went back" : "a time stamp counter is behind another";
            while (before < now && !__atomic_compare_exchange_n(&latest[clock], &before, now, 0, __ATOMIC_SEQ_CST,
                                                                __ATOMIC_SEQ_CST))
                ;
        }
    return NULL;
}

/* No thread reads an earlier time than any has read before. */
static const char *clocks(int with_threads, int with_rounds) {
    return run(with_threads, with_rounds, read_clocks);
}

const struct checked checked_work[] = {
    {"mutexes", mutexes, 2000}, {"futexes", futexes, 5000}, {"maps", maps, 2000}, {"rights", rights, 1000},
    {"signals", signals, 3000}, {"jobs", jobs, 60},         {"forks", forks, 100}, {"clocks", clocks, 200000},
    {0},
};
