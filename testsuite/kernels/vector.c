/* Packed arithmetic: SSE, bytes in SSSE3, AVX2 and FMA. */

#include "kernels.h"
#include <immintrin.h>

enum { COUNT = 4096 };

static float x[COUNT] __attribute__((aligned(32))), y[COUNT] __attribute__((aligned(32)));

static void fill(void) {
    for (int i = 0; i < COUNT; i++)
        x[i] = i * 0.5f, y[i] = 1;
}

static uint64_t whole(float value) {
    return (uint64_t)(int64_t)(value * 16);
}

static uint64_t saxpy(void) {
    fill();
    const __m128 half = _mm_set1_ps(0.5f);
    for (int round = 0; round < 250000; round++)
        for (int i = 0; i < COUNT; i += 4)
            _mm_store_ps(y + i, _mm_add_ps(_mm_mul_ps(_mm_load_ps(y + i), half), _mm_load_ps(x + i)));
    return whole(y[77]) + whole(y[4000]);
}

/* Blocks of one row by sixteen columns, as matrix libraries have them. */
static uint64_t sgemm(void) {
    enum { SIZE = 64 };
    static float c[SIZE * SIZE] __attribute__((aligned(16)));
    fill();
    for (int round = 0; round < 2500; round++) {
        x[round % COUNT] += 1;
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j += 16) {
                __m128 s0 = _mm_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
                for (int k = 0; k < SIZE; k++) {
                    __m128 a = _mm_set1_ps(x[i * SIZE + k]);
                    const float *b = y + k * SIZE + j;
                    s0 = _mm_add_ps(s0, _mm_mul_ps(a, _mm_load_ps(b)));
                    s1 = _mm_add_ps(s1, _mm_mul_ps(a, _mm_load_ps(b + 4)));
                    s2 = _mm_add_ps(s2, _mm_mul_ps(a, _mm_load_ps(b + 8)));
                    s3 = _mm_add_ps(s3, _mm_mul_ps(a, _mm_load_ps(b + 12)));
                }
                float *out = c + i * SIZE + j;
                _mm_store_ps(out, s0), _mm_store_ps(out + 4, s1), _mm_store_ps(out + 8, s2), _mm_store_ps(out + 12, s3);
            }
    }
    return whole(c[5]) + whole(c[4000]);
}

static int have_ssse3(void) {
    return __builtin_cpu_supports("ssse3");
}

/* Text to lower case, its lines counted, and hexadecimal digits made of it. */
__attribute__((target("ssse3"))) static uint64_t text(void) {
    static unsigned char source[1 << 16] __attribute__((aligned(16))), digits[2 << 16] __attribute__((aligned(16)));
    const __m128i hex = _mm_setr_epi8('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f');
    const __m128i low = _mm_set1_epi8(15), line = _mm_set1_epi8('\n'), space = _mm_set1_epi8(32);
    uint64_t sum = 0;
    for (int i = 0; i < 1 << 16; i++)
        source[i] = i * 7 % 128;
    for (int round = 0; round < 12000; round++)
        for (int i = 0; i < 1 << 16; i += 16) {
            __m128i text = _mm_load_si128((__m128i *)(source + i));
            sum += __builtin_popcount(_mm_movemask_epi8(_mm_cmpeq_epi8(text, line)));
            __m128i above = _mm_cmpgt_epi8(text, _mm_set1_epi8('A' - 1)), below = _mm_cmplt_epi8(text, _mm_set1_epi8('Z' + 1));
            text = _mm_or_si128(text, _mm_and_si128(_mm_and_si128(above, below), space));
            __m128i first = _mm_shuffle_epi8(hex, _mm_and_si128(_mm_srli_epi16(text, 4), low));
            __m128i second = _mm_shuffle_epi8(hex, _mm_and_si128(text, low));
            _mm_store_si128((__m128i *)(digits + 2 * i), _mm_unpacklo_epi8(first, second));
            _mm_store_si128((__m128i *)(digits + 2 * i + 16), _mm_unpackhi_epi8(first, second));
        }
    for (int i = 0; i < 2 << 16; i++)
        sum = sum * 31 + digits[i];
    return sum;
}

static int have_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* 32-bit lanes mixed, multiplied, shuffled and moved between halves. */
__attribute__((target("avx2"))) static uint64_t avx2_integer(void) {
    static uint32_t lanes[COUNT] __attribute__((aligned(32)));
    const __m256i turn = _mm256_setr_epi8(1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10,
                                          11, 8, 13, 14, 15, 12);
    __m256i state = _mm256_set1_epi32(0x9e3779b9);
    uint64_t sum = 0;
    for (int round = 0; round < 300000; round++)
        for (int i = 0; i < COUNT; i += 32) {
            __m256i data = _mm256_add_epi32(_mm256_load_si256((__m256i *)(lanes + i)), state);
            data = _mm256_xor_si256(_mm256_shuffle_epi8(data, turn), _mm256_srli_epi32(data, 13));
            state = _mm256_mullo_epi32(_mm256_permute2x128_si256(data, state, 0x21), _mm256_or_si256(data, turn));
            _mm256_store_si256((__m256i *)(lanes + i), _mm256_max_epi32(data, state));
        }
    for (int i = 0; i < COUNT; i++)
        sum = sum * 31 + lanes[i];
    return sum;
}

/* Dot products in four accumulators. */
__attribute__((target("avx2,fma"))) static uint64_t avx2_float(void) {
    float lanes[8], sum = 0;
    fill();
    for (int round = 0; round < 250000; round++) {
        __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
        x[round % COUNT] += 1;
        for (int i = 0; i < COUNT; i += 32) {
            s0 = _mm256_fmadd_ps(_mm256_load_ps(x + i), _mm256_load_ps(y + i), s0);
            s1 = _mm256_fmadd_ps(_mm256_load_ps(x + i + 8), _mm256_load_ps(y + i + 8), s1);
            s2 = _mm256_fmadd_ps(_mm256_load_ps(x + i + 16), _mm256_load_ps(y + i + 16), s2);
            s3 = _mm256_fmadd_ps(_mm256_load_ps(x + i + 24), _mm256_load_ps(y + i + 24), s3);
        }
        _mm256_storeu_ps(lanes, _mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
        sum = sum * 0.5f + lanes[round % 8];
    }
    return whole(sum);
}

const struct kernel vector_kernels[] = {
    {"saxpy", "packed single precision in SSE, load and store", saxpy},
    {"sgemm", "a single-precision matrix product in SSE registers", sgemm},
    {"text", "bytes in SSSE3: compare, mask, shuffle, unpack", text, have_ssse3},
    {"avx2-int", "AVX2 on 32-bit lanes", avx2_integer, have_avx2},
    {"avx2-float", "AVX2 and FMA dot products", avx2_float, have_avx2},
    {0},
};
