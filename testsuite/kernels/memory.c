/* Memory: strings, copies, chains of loads, and more pages than a TLB holds. */

#define _GNU_SOURCE
#include "kernels.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static unsigned char from[1 << 20], to[1 << 20];

/* Short strings through the C library: records of key=value, split, compared and read. */
static uint64_t strings(void) {
    static const char *const records[] = {"memory=512", "name=a guest with a longer name than others", "cpus=1",
                                          "timeout=86400", "path=/usr/lib/x86_64-linux-gnu/libc.so.6"};
    uint64_t sum = 0;
    for (int i = 0; i < 6000000; i++) {
        char record[80], key[16];
        strcpy(record, records[i % 5]);
        const char *value = strchr(record, '=') + 1;
        size_t length = value - 1 - record;
        memcpy(key, record, length);
        key[length] = 0;
        sum += strlen(value) + (strcmp(key, "timeout") == 0 ? strtoul(value, NULL, 10) : 0);
        sum += strstr(value, "gnu") != NULL;
    }
    return sum;
}

/* The repeated string instructions themselves, at lengths from 8 bytes to 4 KiB. */
static uint64_t rep(void) {
    uint64_t sum = 0;
    memset(from, 0, sizeof from);
    for (int i = 0; i < 250000; i++) {
        size_t length = 8u << i % 10, count = length;
        void *source = from, *target = to;
        __asm__ volatile("rep stosb" : "+D"(target), "+c"(count) : "a"(i) : "memory");
        target = from, source = to, count = length;
        __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
        target = to, source = from, count = length;
        __asm__ volatile("repe cmpsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory", "cc");
        sum += count + ((unsigned char *)target)[-1];
        target = from, count = length;
        __asm__ volatile("repne scasb" : "+D"(target), "+c"(count) : "a"(i + 1) : "memory", "cc");
        sum += count;
    }
    return sum;
}

static uint64_t copy(void) {
    uint64_t sum = 0;
    memset(from, 5, sizeof from);
    for (int i = 0; i < 4000; i++) {
        from[i] = i;
        memcpy(to, from, sizeof to);
        memmove(to + 1, to, sizeof to - 1);
        sum += to[i + 1] + (memcmp(from, to, sizeof to) < 0);
    }
    return sum;
}

/* One chain through a megabyte, in an order without a pattern: each load waits for the one before. */
static uint64_t chase(void) {
    enum { COUNT = 1 << 17 };
    static uint64_t next[COUNT];
    uint32_t random = 1;
    uint64_t at = 0;
    for (int i = 0; i < COUNT; i++)
        next[i] = i;
    for (int i = COUNT - 1; i > 0; i--) {
        int j = next_random(&random) % i;
        uint64_t swapped = next[i];
        next[i] = next[j];
        next[j] = swapped;
    }
    for (int i = 0; i < 35000000; i++)
        at = next[at];
    return at;
}

/* A byte of each of 16,384 small pages, again and again. */
static uint64_t tlb(void) {
    enum { BYTES = 64 << 20 };
    uint64_t sum = 0;
    unsigned char *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return 0;
    madvise(map, BYTES, MADV_NOHUGEPAGE);
    for (int round = 0; round < 400; round++)
        for (size_t i = 0; i < BYTES; i += 4096)
            sum += map[i] += round;
    munmap(map, BYTES);
    return sum;
}

const struct kernel memory_kernels[] = {
    {"strings", "short strings through the C library", strings},
    {"rep", "REP STOS, MOVS, CMPS and SCAS of 8 bytes to 4 KiB", rep},
    {"memcpy", "copies and comparisons of a megabyte", copy},
    {"chase", "dependent loads over a megabyte", chase},
    {"tlb", "a byte of each of 16,384 pages", tlb},
    {0},
};
