/* Work of which the speed is measured: independent, contended, and round trips between two threads. */

#define _GNU_SOURCE
#include "smp.h"
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Multiplications, shifts and unpredictable branches in registers. */
static uint64_t arithmetic(int thread, int threads, int rounds) {
    uint64_t x = 88172645463325252ull, sum = 0;
    for (int i = 0; i < rounds * 100; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        sum += x & 64 ? x * 0x9e3779b97f4a7c15ull : x >> 3;
    }
    return sum;
}

/* Loads and stores in order, and look-ups by a hash, in memory of its own that a processor's own caches hold. */
static uint64_t memory(int thread, int threads, int rounds) {
    enum { INDEX_BITS = 15, WORDS = 1 << INDEX_BITS };
    uint64_t *words = calloc(WORDS, sizeof *words), sum = 0;
    for (int round = 0; round < rounds; round++)
        for (uint32_t i = 0; i < WORDS; i++) {
            words[i] += sum ^ i;
            sum += words[(i * 0x9e3779b1u) >> (32 - INDEX_BITS)];
        }
    free(words);
    return sum;
}

enum { MEGABYTE = 1 << 20, PAGE = 4096 };

/* Fresh memory in pages of 4 KiB, or NULL. */
static char *small_pages(size_t bytes) {
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    madvise(map, bytes, MADV_NOHUGEPAGE);
    return map;
}

static volatile char *alternating;

/* Two megabytes whose pages are taken in turns, so that they alternate in physical memory. */
static void take_in_turns(void) {
    alternating = small_pages(2 * MEGABYTE);
    if (!alternating)
        _exit(1);
    for (int at = 0; at < MEGABYTE; at += PAGE)
        alternating[at] = alternating[MEGABYTE + at] = 0;
}

static pthread_once_t taken = PTHREAD_ONCE_INIT;

/* Loads and stores by steps of 8 and of 616 bytes, in a megabyte whose pages lie between those of the other thread. A processor that
 * foresees the steps loads what lies behind a page's end ahead. */
static uint64_t neighbours(int thread, int threads, int rounds) {
    enum { WORDS = MEGABYTE / 8 };
    pthread_once(&taken, take_in_turns);
    uint64_t *words = (uint64_t *)(alternating + thread % 2 * MEGABYTE), sum = 0;
    memset(words, 0, MEGABYTE);
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < WORDS; i++) {
            words[i] += sum ^ i;
            sum += words[i * 77 & (WORDS - 1)];
        }
    return sum;
}

static uint64_t calls(int thread, int threads, int rounds) {
    uint64_t count = 0;
    for (int i = 0; i < rounds; i++)
        count += syscall(SYS_getppid) >= 0;
    return count;
}

/* Processes made and waited for: page tables copied, pages copied on write. */
static uint64_t processes(int thread, int threads, int rounds) {
    uint64_t sum = 0;
    for (int i = 0; i < rounds; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0)
            _exit(3);
        waitpid(child, &status, 0);
        sum += WEXITSTATUS(status);
    }
    return sum;
}

static uint64_t counter;

static uint64_t additions(int thread, int threads, int rounds) {
    for (int i = 0; i < rounds; i++)
        __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
    return rounds;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t mutex(int thread, int threads, int rounds) {
    static uint64_t total;
    for (int i = 0; i < rounds; i++) {
        pthread_mutex_lock(&lock);
        total++;
        pthread_mutex_unlock(&lock);
    }
    return rounds;
}

/* Pages of one address space touched for the first time and given back, by all threads. */
static uint64_t faults(int thread, int threads, int rounds) {
    uint64_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        char *map = small_pages(MEGABYTE);
        if (!map)
            return 0;
        for (int at = 0; at < MEGABYTE; at += PAGE)
            sum += ++map[at];
        munmap(map, MEGABYTE);
    }
    return sum;
}

static volatile int finished;

/* The first thread asks for work on the processors of the others, which are in user code, by `call`. */
static uint64_t interrupt_others(int thread, int rounds, int (*call)(void)) {
    uint64_t sum = 0;
    if (thread != 0) {
        while (!finished)
            __builtin_ia32_pause();
        return 0;
    }
    for (int i = 0; i < rounds; i++)
        sum += call() == 0;
    finished = 1;
    return sum;
}

static int barrier(void) {
    return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* An interprocessor interrupt and its completion. */
static uint64_t ipi(int thread, int threads, int rounds) {
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    return interrupt_others(thread, rounds, barrier);
}

static char *page;

static int protect(void) {
    page[0]++;
    return mprotect(page, 4096, PROT_READ) | mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

/* A page's rights taken away, which the others' TLBs have to learn, and given back. */
static uint64_t shootdown(int thread, int threads, int rounds) {
    /* Not a second one beside it: the two would be one area, to be split each time. */
    if (thread == 0 && !page)
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return interrupt_others(thread, rounds, protect);
}

static int turn;

/* Two threads in turn, each asleep while the other one runs. */
static uint64_t futex(int thread, int threads, int rounds) {
    if (thread > 1)
        return 0;
    for (int i = 0; i < rounds; i++) {
        int mine = 2 * i + thread, now;
        while ((now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) != mine)
            syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
        __atomic_store_n(&turn, mine + 1, __ATOMIC_RELEASE);
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return rounds;
}

static int ends[4];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static void make_pipes(void) {
    if (pipe(ends) || pipe(ends + 2))
        _exit(1);
}

/* A byte to the other thread and back. */
static uint64_t pipes(int thread, int threads, int rounds) {
    pthread_once(&made, make_pipes);
    char byte = 0;
    uint64_t sum = 0;
    for (int i = 0; thread < 2 && i < rounds; i++) {
        if (thread == 0)
            sum += write(ends[1], &byte, 1) + read(ends[2], &byte, 1);
        else
            sum += read(ends[0], &byte, 1) + write(ends[3], &byte, 1);
    }
    return sum;
}

void begin_anew(void) {
    finished = 0;
    turn = 0;
}

const struct measured measured_work[] = {
    {"arithmetic", arithmetic}, {"memory", memory},       {"calls", calls}, {"neighbours", neighbours},
    {"processes", processes},   {"additions", additions}, {"mutex", mutex}, {"faults", faults},
    {"ipi", ipi},               {"shootdown", shootdown}, {"futex", futex}, {"pipes", pipes},
    {0},
};
