/* Code that one thread writes while others execute it, by the protocols that make it visible. */

#define _GNU_SOURCE
#include "smp.h"
#include <cpuid.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint32_t function(void);

enum { FUNCTIONS = 64, BYTES = 64 };

static int rounds;
static volatile int with_barrier;
static const char *volatile fault;
/* The same pages twice: to be written, and to be executed. */
static unsigned char *writable, *executable;
/* The round whose functions are complete, and how far each reader is. */
static volatile uint32_t complete;
static volatile uint32_t done[MOST_THREADS];
static int readers;

/* MOV EAX, value; in every other round an ADD too, so that the length changes; RET. */
static void write_function(unsigned char *at, uint32_t value) {
    uint32_t addend = value % 2 ? 1000 : 0, first = value - addend;
    unsigned char *p = at;
    *p++ = 0xb8;
    memcpy(p, &first, 4), p += 4;
    if (addend) {
        *p++ = 0x05;
        memcpy(p, &addend, 4), p += 4;
    }
    *p = 0xc3;
}

static void serialize(void) {
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
}

/* Writes all functions anew in each round, says so, and waits until all have called them (SDM vol. 3, 9.1.3). */
static void write_rounds(void) {
    for (uint32_t round = 1; round <= (uint32_t)rounds; round++) {
        for (int i = 0; i < FUNCTIONS; i++)
            write_function(writable + i * BYTES, round * 100 + i);
        if (with_barrier)
            syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
        __atomic_store_n(&complete, round, __ATOMIC_RELEASE);
        for (int reader = 0; reader < readers; reader++)
            while (done[reader] < round)
                sched_yield();
    }
}

static void call_rounds(int reader) {
    for (uint32_t round = 1; round <= (uint32_t)rounds; round++) {
        while (__atomic_load_n(&complete, __ATOMIC_ACQUIRE) < round)
            __builtin_ia32_pause();
        if (!with_barrier)
            serialize();
        for (int pass = 0; pass < 20; pass++)
            for (int i = 0; i < FUNCTIONS; i++)
                if (((function *)(executable + i * BYTES))() != round * 100 + i)
                    fault = "old code was executed";
        done[reader] = round;
    }
}

static void *write_or_call(void *number) {
    if ((long)number == 0)
        write_rounds();
    else
        call_rounds((long)number - 1);
    return NULL;
}

static const char *rewrite(int threads, int with_rounds) {
    int file = memfd_create("code", 0);
    rounds = with_rounds;
    readers = threads - 1;
    complete = 0;
    fault = NULL;
    memset((void *)done, 0, sizeof done);
    if (file < 0 || ftruncate(file, FUNCTIONS * BYTES))
        return "no memory file";
    writable = mmap(NULL, FUNCTIONS * BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    executable = mmap(NULL, FUNCTIONS * BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    close(file);
    if (writable == MAP_FAILED || executable == MAP_FAILED)
        return "the code cannot be mapped";
    together(threads, write_or_call);
    munmap(writable, FUNCTIONS * BYTES);
    munmap(executable, FUNCTIONS * BYTES);
    return fault;
}

/* The executing threads serialize themselves. */
static const char *cross_modified(int threads, int with_rounds) {
    with_barrier = 0;
    return rewrite(threads, with_rounds);
}

/* The kernel serializes them. */
static const char *barrier_modified(int threads, int with_rounds) {
    with_barrier = 1;
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0))
        return "no membarrier";
    return rewrite(threads, with_rounds);
}

/* A function of one aligned quadword that changes by one store while others call it: each call gives the old or the new. */
static volatile uint64_t *patched;
static volatile int finished;

static uint64_t patch(uint32_t value) {
    /* MOV EAX, value; RET. */
    return 0xb8 | (uint64_t)value << 8 | 0xc3ull << 40;
}

static void *patch_or_call(void *number) {
    if ((long)number == 0) {
        for (int i = 0; i < rounds; i++) {
            *patched = patch(i % 2 ? 1234567 : 7654321);
            for (int j = 0; j < 300; j++)
                __builtin_ia32_pause();
        }
        finished = 1;
        return NULL;
    }
    while (!finished) {
        uint32_t value = ((function *)patched)();
        if (value != 1234567 && value != 7654321)
            fault = "a mixture of two instructions was executed";
    }
    return NULL;
}

static const char *patched_at_once(int threads, int with_rounds) {
    patched = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (patched == MAP_FAILED)
        return "the code cannot be mapped";
    rounds = with_rounds;
    finished = 0;
    fault = NULL;
    *patched = patch(1234567);
    together(threads, patch_or_call);
    munmap((void *)patched, 4096);
    return fault;
}

const struct checked checked_code[] = {
    {"cross-modified", cross_modified, 500},
    {"barrier-modified", barrier_modified, 500},
    {"patched", patched_at_once, 20000},
    {0},
};
