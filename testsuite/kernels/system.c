/* The operating system: calls, processes, pages, files and signals. */

#define _GNU_SOURCE
#include "kernels.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t call(void) {
    uint64_t count = 0;
    for (int i = 0; i < 2000000; i++)
        count += syscall(SYS_getppid) >= 0;
    return count;
}

/* A byte to another process and back. */
static uint64_t ping_pong(void) {
    int there[2], back[2], rounds = 50000;
    char byte = 'a';
    uint64_t sum = 0;
    if (pipe(there) || pipe(back))
        return 0;
    pid_t child = fork();
    if (child == 0) {
        while (read(there[0], &byte, 1) == 1 && byte != 'x') {
            byte++;
            if (write(back[1], &byte, 1) != 1)
                break;
        }
        _exit(0);
    }
    for (int i = 0; i < rounds; i++) {
        byte = 'a' + i % 16;
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            return 0;
        sum += byte;
    }
    byte = 'x';
    sum += write(there[1], &byte, 1);
    waitpid(child, NULL, 0);
    for (int i = 0; i < 2; i++)
        close(there[i]), close(back[i]);
    return sum;
}

static uint64_t processes(int count, int executed) {
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            if (executed)
                execl(program_path, program_path, "--nothing", NULL);
            _exit(3);
        }
        waitpid(child, &status, 0);
        sum += WEXITSTATUS(status);
    }
    return sum;
}

static uint64_t fork_wait(void) {
    return processes(800, 0);
}

static uint64_t fork_exec_wait(void) {
    return processes(350, 1);
}

/* Pages that are touched for the first time. */
static uint64_t faults(void) {
    enum { BYTES = 4 << 20 };
    uint64_t sum = 0;
    for (int round = 0; round < 100; round++) {
        unsigned char *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED)
            return 0;
        madvise(map, BYTES, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < BYTES; i += 4096)
            sum += ++map[i];
        munmap(map, BYTES);
    }
    return sum;
}

/* Small files made, read and removed. */
static uint64_t files(void) {
    char name[40], data[3000] = "data";
    uint64_t sum = 0;
    for (int i = 0; i < 8000; i++) {
        snprintf(name, sizeof name, "/tmp/rx86-kernels-%d", i % 100);
        int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (file < 0)
            return 0;
        sum += write(file, data, sizeof data);
        sum += pread(file, data, sizeof data, 100);
        close(file);
        sum += unlink(name) == 0;
    }
    return sum;
}

static volatile uint64_t handled;
static char *guarded;

static void count_signal(int number) {
    handled += number;
}

static void open_page(int number) {
    handled += number;
    mprotect(guarded, 4096, PROT_READ | PROT_WRITE);
}

/* Signals to oneself, and writes to a page that is protected until the handler opens it. */
static uint64_t signals(void) {
    struct sigaction counting = {.sa_handler = count_signal}, opening = {.sa_handler = open_page};
    handled = 0;
    guarded = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guarded == MAP_FAILED)
        return 0;
    sigaction(SIGUSR1, &counting, NULL);
    sigaction(SIGSEGV, &opening, NULL);
    for (int i = 0; i < 50000; i++) {
        kill(getpid(), SIGUSR1);
        if (i % 4 == 0) {
            guarded[0]++;
            mprotect(guarded, 4096, PROT_READ);
        }
    }
    signal(SIGSEGV, SIG_DFL);
    return handled + (unsigned char)guarded[0];
}

const struct kernel system_kernels[] = {
    {"syscall", "the shortest system call", call},
    {"pipe", "a byte to another process and back", ping_pong},
    {"fork", "processes made and waited for", fork_wait},
    {"exec", "programs started and waited for", fork_exec_wait},
    {"faults", "pages touched for the first time", faults},
    {"files", "small files made, read and removed", files},
    {"signals", "signals and protection faults handled", signals},
    {0},
};
