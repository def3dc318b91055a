/* What a kernel is: a piece of work of one kind and its checksum, which must be the same on every machine. It is sized for
 * a tenth to a quarter of a second on a processor of 2024, and for less than ten seconds on a plain emulator. */

#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

struct kernel {
    const char *name;
    const char *what;
    uint64_t (*run)(void);
    /* Whether this processor can run it; NULL for all. */
    int (*can_run)(void);
};

/* Each ends with a row without a name. */
extern const struct kernel integer_kernels[], control_kernels[], memory_kernels[], float_kernels[], vector_kernels[],
    system_kernels[], code_kernels[], thread_kernels[];

/* The path of the running program. */
extern const char *program_path;

/* The next of a sequence of numbers without a pattern (Numerical Recipes' generator). */
static inline uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* A sum whose last bits may differ, because a library chooses its code by the processor's features. */
static inline uint64_t rounded(double sum) {
    return (uint64_t)(int64_t)(sum * 1000 + 0.5);
}

#endif
