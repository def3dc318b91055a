/* Integer work in registers and small tables. */

#include "kernels.h"
#include <stdlib.h>
#include <string.h>

static unsigned char bytes[1 << 20];

__attribute__((noinline)) static int fibonacci(int n) {
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t fib(void) {
    return fibonacci(39);
}

/* Places the queens of the remaining rows; a bit is a column or a diagonal under attack. */
static uint64_t place(uint32_t all, uint32_t columns, uint32_t left, uint32_t right) {
    uint64_t count = 0;
    if (columns == all)
        return 1;
    for (uint32_t free = all & ~(columns | left | right); free; free &= free - 1) {
        uint32_t queen = free & -free;
        count += place(all, columns | queen, (left | queen) << 1, (right | queen) >> 1);
    }
    return count;
}

static uint64_t queens(void) {
    return place((1 << 14) - 1, 0, 0, 0);
}

static uint64_t sieve(void) {
    uint64_t primes = 0;
    for (int round = 0; round < 150; round++) {
        memset(bytes, 1, sizeof bytes);
        for (int i = 2; i < 1024; i++)
            if (bytes[i])
                for (int j = i * i; j < 1 << 20; j += i)
                    bytes[j] = 0;
        primes += bytes[1000003];
    }
    return primes;
}

static uint64_t crc32(void) {
    uint32_t table[256], crc = ~0;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] & 1 ? 0xedb88320 ^ (table[i] >> 1) : table[i] >> 1;
    }
    for (int round = 0; round < 80; round++)
        for (size_t i = 0; i < sizeof bytes; i++)
            crc = table[(crc ^ i) & 255] ^ (crc >> 8);
    return crc;
}

static uint32_t rotate(uint32_t x, int count) {
    return x >> count | x << (32 - count);
}

/* FIPS 180-4's compression function with constants of our own: what is timed is the arithmetic. */
static void compress(uint32_t state[8], const uint32_t block[16]) {
    uint32_t w[64], s[8];
    memcpy(w, block, 64);
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t big1 = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
        uint32_t t1 = s[7] + big1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + 0x9e3779b9 * (i + 1) + w[i];
        uint32_t big0 = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
        uint32_t t2 = big0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

static uint64_t sha256(void) {
    uint32_t state[8] = {1, 2, 3, 4, 5, 6, 7, 8}, block[16];
    for (uint32_t round = 0; round < 400000; round++) {
        for (int i = 0; i < 16; i++)
            block[i] = round + i;
        compress(state, block);
    }
    return (uint64_t)state[0] << 32 | state[7];
}

/* Euclid's algorithm: chains of 64-bit divisions. */
static uint64_t divide(void) {
    uint64_t sum = 0;
    uint32_t random = 1;
    for (int i = 0; i < 2000000; i++) {
        uint64_t a = (uint64_t)next_random(&random) << 24 | 1, b = (uint64_t)next_random(&random) << 20 | 3;
        while (b) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        sum += a;
    }
    return sum;
}

#define SLOTS (1 << 16)

/* Counts numbers in a table with linear probing. */
static uint64_t hash(void) {
    static struct { uint32_t key, count; } table[SLOTS];
    uint32_t random = 7;
    uint64_t sum = 0;
    for (int i = 0; i < 80000000; i++) {
        uint32_t key = next_random(&random) % 40000 + 1;
        uint32_t slot = (key * 0x9e3779b9u) >> 16;
        while (table[slot].key && table[slot].key != key)
            slot = (slot + 1) % SLOTS;
        table[slot].key = key;
        sum += ++table[slot].count;
    }
    return sum;
}

static int compare(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

static uint64_t sort(void) {
    enum { COUNT = 1 << 17 };
    static int numbers[COUNT];
    uint64_t sum = 0;
    uint32_t random = 1;
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < COUNT; i++)
            numbers[i] = next_random(&random);
        qsort(numbers, COUNT, sizeof *numbers, compare);
        sum += numbers[1000];
    }
    return sum;
}

const struct kernel integer_kernels[] = {
    {"fib", "recursive calls", fib},
    {"queens", "recursion over bit sets", queens},
    {"sieve", "byte stores at strides", sieve},
    {"crc32", "a chain of table look-ups", crc32},
    {"sha256", "32-bit rotations and additions", sha256},
    {"divide", "64-bit division", divide},
    {"hash", "a hash table with linear probing", hash},
    {"qsort", "the C library's sort, comparing through a pointer", sort},
    {0},
};
