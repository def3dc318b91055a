/* Work for guests with several processors: what is measured, and what is checked. */

#ifndef SMP_H
#define SMP_H

#include <pthread.h>
#include <stdint.h>

enum { MOST_THREADS = 64 };

/* Work of one thread; returns its part of the checksum. */
typedef uint64_t work(int thread, int threads, int rounds);

struct measured {
    const char *name;
    work *run;
};

struct checked {
    const char *name;
    /* Returns what went wrong; NULL for nothing. `threads` do it, `rounds` times each. */
    const char *(*run)(int threads, int rounds);
    int rounds;
};

/* Each ends with a row without a name. */
extern const struct measured measured_work[];
extern const struct checked checked_work[], checked_code[];

/* To be called before measured work is done once more. */
void begin_anew(void);

/* The path of the running program. */
extern const char *program_path;

/* Runs `body` in so many threads, each with its number, and waits for them. */
void together(int threads, void *(*body)(void *number));

/* Keeps the calling thread on one processor. */
void stay_on(int processor);

/* The next of a sequence of numbers without a pattern (Numerical Recipes' generator). */
uint32_t next_random(uint32_t *state);

#endif
