/* smp measure NAME THREADS ROUNDS: so many rounds of work in each thread, the threads kept on processors of their own. They are done
 * twice: the first time all that is done once is done, the second is between a line `start NAME` and a line `end NAME CHECKSUM`.
 * smp check THREADS PERCENT [NAME...]: a line `check NAME ok` for each, or what is wrong with it. */

#define _GNU_SOURCE
#include "smp.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *program_path;

uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

void stay_on(int processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof set, &set);
}

void together(int threads, void *(*body)(void *)) {
    pthread_t running[MOST_THREADS];
    for (long i = 0; i < threads; i++)
        if (pthread_create(&running[i], NULL, body, (void *)i)) {
            perror("pthread_create");
            exit(1);
        }
    for (int i = 0; i < threads; i++)
        pthread_join(running[i], NULL);
}

/* One write for a line, so that it arrives as a whole. */
static void print(const char *line) {
    if (write(1, line, strlen(line)) < 0)
        _exit(1);
}

static struct {
    work *run;
    int threads, rounds;
    uint64_t sum;
} present;

static void *measured_thread(void *number) {
    stay_on((long)number);
    uint64_t sum = present.run((long)number, present.threads, present.rounds);
    __atomic_fetch_add(&present.sum, sum, __ATOMIC_SEQ_CST);
    return NULL;
}

static int measure(const char *name, int threads, int rounds) {
    const struct measured *m = measured_work;
    while (m->name && strcmp(m->name, name))
        m++;
    if (!m->name || threads < 1 || threads > MOST_THREADS)
        return 2;
    char line[100];
    present.run = m->run;
    present.threads = threads;
    present.rounds = rounds;
    together(threads, measured_thread);
    present.sum = 0;
    begin_anew();
    snprintf(line, sizeof line, "start %s\n", name);
    print(line);
    together(threads, measured_thread);
    snprintf(line, sizeof line, "end %s %llx\n", name, (unsigned long long)present.sum);
    print(line);
    return 0;
}

static int check_all(const struct checked *table, int threads, int percent, int names, char **wanted) {
    int failures = 0;
    for (const struct checked *c = table; c->name; c++) {
        int is_wanted = names == 0;
        for (int i = 0; i < names; i++)
            is_wanted |= !strcmp(wanted[i], c->name);
        if (!is_wanted)
            continue;
        char line[200];
        const char *fault = c->run(threads, c->rounds * percent / 100 + 1);
        snprintf(line, sizeof line, "check %s %s%s\n", c->name, fault ? "FAILED: " : "ok", fault ? fault : "");
        print(line);
        failures += fault != NULL;
    }
    return failures;
}

int main(int count, char **arguments) {
    program_path = arguments[0];
    /* A job of the check `jobs`. */
    if (count == 3 && !strcmp(arguments[1], "--job")) {
        uint32_t state = atoi(arguments[2]);
        for (int i = 0; i < 1000; i++)
            next_random(&state);
        return next_random(&state) & 0x7f;
    }
    if (count == 5 && !strcmp(arguments[1], "measure"))
        return measure(arguments[2], atoi(arguments[3]), atoi(arguments[4]));
    if (count >= 4 && !strcmp(arguments[1], "check")) {
        int threads = atoi(arguments[2]), percent = atoi(arguments[3]);
        if (threads < 2 || threads > MOST_THREADS)
            return 2;
        return check_all(checked_work, threads, percent, count - 4, arguments + 4) +
               check_all(checked_code, threads, percent, count - 4, arguments + 4);
    }
    return 2;
}
