/* Threads: locks, turns and short lives. */

#include "kernels.h"
#include <pthread.h>

enum { THREADS = 4, TURNS = 20000, ADDITIONS = 6000000, LIVES = 1500 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;
static uint64_t total;

/* Waits for its turn and gives it to the next. */
static void *take_turns(void *argument) {
    int mine = *(int *)argument;
    for (int i = 0; i < TURNS / THREADS; i++) {
        pthread_mutex_lock(&lock);
        while (turn != mine)
            pthread_cond_wait(&changed, &lock);
        turn = (turn + 1) % THREADS;
        total += mine;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* Adds under the lock and with a locked instruction. */
static void *add(void *argument) {
    static uint64_t atomically;
    for (int i = 0; i < ADDITIONS / THREADS; i++) {
        pthread_mutex_lock(&lock);
        total += *(int *)argument;
        pthread_mutex_unlock(&lock);
        __atomic_fetch_add(&atomically, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void *nothing(void *argument) {
    return argument;
}

static void together(void *(*work)(void *)) {
    static int numbers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        pthread_create(&threads[i], NULL, work, &numbers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static uint64_t threads(void) {
    total = turn = 0;
    together(take_turns);
    for (int i = 0; i < LIVES; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, nothing, NULL) == 0)
            total += pthread_join(thread, NULL) == 0;
    }
    return total;
}

static uint64_t locks(void) {
    total = 0;
    together(add);
    return total;
}

const struct kernel thread_kernels[] = {
    {"threads", "threads that take turns, and short-lived ones", threads},
    {"locks", "mutexes and locked additions", locks},
    {0},
};
