/* Programs that write programs. */

#define _GNU_SOURCE
#include "kernels.h"
#include <string.h>
#include <sys/mman.h>

typedef uint32_t (*function)(uint32_t);

enum { FUNCTION_BYTES = 64, ARENA_BYTES = 1 << 18 };

/* x -> (x * 5 + value) ^ value; returns the bytes written. */
static void emit(unsigned char *at, uint32_t value) {
    static const unsigned char lea[] = {0x8d, 0x04, 0xbf}; /* lea eax, [rdi + rdi * 4] */
    memcpy(at, lea, 3);
    at[3] = 0x05; /* add eax, value */
    memcpy(at + 4, &value, 4);
    at[8] = 0x35; /* xor eax, value */
    memcpy(at + 9, &value, 4);
    at[13] = 0xc3; /* ret */
}

static unsigned char *arena(void) {
    void *map = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return map == MAP_FAILED ? NULL : map;
}

/* One function whose constants are patched in place between calls, as inline caches are. */
static uint64_t patch(void) {
    unsigned char *code = arena();
    uint32_t x = 1;
    if (!code)
        return 0;
    emit(code, 0);
    for (uint32_t round = 0; round < 400000; round++) {
        uint32_t value = round * 77;
        memcpy(code + 4, &value, 4);
        memcpy(code + 9, &value, 4);
        for (int i = 0; i < 100; i++)
            x = ((function)code)(x);
    }
    munmap(code, ARENA_BYTES);
    return x;
}

/* A just-in-time compiler: an arena filled with functions, each called often, then filled anew. */
static uint64_t generate(void) {
    unsigned char *code = arena();
    uint32_t x = 1;
    if (!code)
        return 0;
    for (uint32_t round = 0; round < 15; round++)
        for (uint32_t at = 0; at < ARENA_BYTES; at += FUNCTION_BYTES) {
            emit(code + at, round * 99 + at);
            for (int i = 0; i < 1000; i++)
                x = ((function)(code + at))(x);
        }
    munmap(code, ARENA_BYTES);
    return x;
}

const struct kernel code_kernels[] = {
    {"patch", "a function patched between calls", patch},
    {"generate", "functions written and called", generate},
    {0},
};
