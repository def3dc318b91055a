/* Runs the named kernels, or all, each between a line `start NAME` and a line `end NAME CHECKSUM`. */

#define _GNU_SOURCE
#include "kernels.h"
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *program_path;

static const struct kernel *const tables[] = {integer_kernels, control_kernels, memory_kernels, float_kernels,
                                              vector_kernels,  system_kernels,  code_kernels,   thread_kernels};
#define TABLES (sizeof tables / sizeof *tables)

/* One write for a line, so that it arrives as a whole. */
static void print(const char *line) {
    if (write(1, line, strlen(line)) < 0)
        _exit(1);
}

static void run(const struct kernel *kernel) {
    char line[100];
    if (kernel->can_run && !kernel->can_run()) {
        snprintf(line, sizeof line, "skip %s\n", kernel->name);
        print(line);
        return;
    }
    snprintf(line, sizeof line, "start %s\n", kernel->name);
    print(line);
    uint64_t sum = kernel->run();
    snprintf(line, sizeof line, "end %s %llx\n", kernel->name, (unsigned long long)sum);
    print(line);
}

static int is_wanted(const char *name, int count, char **names) {
    for (int i = 0; i < count; i++)
        if (!strcmp(name, names[i]))
            return 1;
    return count == 0;
}

/* The guests have one processor, so the native run has one, too. */
static void stay_on_one_processor(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    sched_setaffinity(0, sizeof set, &set);
}

int main(int count, char **arguments) {
    program_path = arguments[0];
    if (count == 2 && !strcmp(arguments[1], "--nothing"))
        return 7;
    if (count == 2 && !strcmp(arguments[1], "--list")) {
        for (size_t t = 0; t < TABLES; t++)
            for (const struct kernel *k = tables[t]; k->name; k++)
                printf("%s %s\n", k->name, k->what);
        return 0;
    }
    stay_on_one_processor();
    for (size_t t = 0; t < TABLES; t++)
        for (const struct kernel *k = tables[t]; k->name; k++)
            if (is_wanted(k->name, count - 1, arguments + 1))
                run(k);
    return 0;
}
