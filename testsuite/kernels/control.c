/* Control flow that a translator cannot see ahead: function pointers and interpreters. */

#include "kernels.h"

typedef uint64_t (*step)(uint64_t);

static uint64_t triple(uint64_t x) { return x * 3 + 1; }
static uint64_t mix(uint64_t x) { return x ^ x >> 7; }
static uint64_t shift(uint64_t x) { return x + 0x9e37; }
static uint64_t turn(uint64_t x) { return x << 9 | x >> 55; }

static uint64_t indirect(void) {
    static step const steps[] = {triple, mix, shift, turn};
    uint64_t x = 1;
    for (int i = 0; i < 30000000; i++)
        x = steps[x >> 3 & 3](x) + i;
    return x;
}

/* A machine of sixteen registers, and a program for it that adds up the lengths of Collatz sequences. */
enum opcode { LOAD, ADD, HALVE, TRIPLE, IF_ODD, IF_ABOVE, IF_NOT_ONE, GO, STOP };

struct instruction {
    unsigned char opcode, a, b, target;
    uint32_t value;
};

static const struct instruction collatz[] = {
    {LOAD, 0, 0, 0, 1},        /* r0: the start of a sequence */
    {LOAD, 1, 0, 0, 0},        /* r1: the sum of lengths */
    {LOAD, 2, 0, 0, 250000},   /* r2: the last start */
    {LOAD, 3, 0, 0, 1},        /* r3: one */
    {LOAD, 4, 0, 0, 0},        /* r4: the sequence's number now */
    {ADD, 4, 0, 0, 0},
    {IF_NOT_ONE, 4, 0, 8, 0},
    {GO, 0, 0, 14, 0},
    {ADD, 1, 3, 0, 0},
    {IF_ODD, 4, 0, 12, 0},
    {HALVE, 4, 0, 0, 0},
    {GO, 0, 0, 6, 0},
    {TRIPLE, 4, 0, 0, 0},
    {GO, 0, 0, 6, 0},
    {ADD, 0, 3, 0, 0},
    {IF_ABOVE, 0, 2, 17, 0},
    {GO, 0, 0, 4, 0},
    {STOP, 0, 0, 0, 0},
};

/* One jump for all instructions, through a table. */
static uint64_t bytecode(void) {
    uint64_t r[16] = {0};
    for (const struct instruction *i = collatz;; i++) {
        switch ((enum opcode)i->opcode) {
        case LOAD: r[i->a] = i->value; break;
        case ADD: r[i->a] += r[i->b]; break;
        case HALVE: r[i->a] >>= 1; break;
        case TRIPLE: r[i->a] = r[i->a] * 3 + 1; break;
        case IF_ODD: if (r[i->a] & 1) i = collatz + i->target - 1; break;
        case IF_ABOVE: if (r[i->a] > r[i->b]) i = collatz + i->target - 1; break;
        case IF_NOT_ONE: if (r[i->a] != 1) i = collatz + i->target - 1; break;
        case GO: i = collatz + i->target - 1; break;
        case STOP: return r[1];
        }
    }
}

/* A jump behind every instruction. */
static uint64_t threaded(void) {
    static const void *const labels[] = {&&load, &&add, &&halve, &&triple, &&if_odd, &&if_above, &&if_not_one, &&go, &&stop};
    uint64_t r[16] = {0};
    const struct instruction *i = collatz;
#define NEXT goto *labels[(++i)->opcode]
#define GO_TO(place) do { i = collatz + (place); goto *labels[i->opcode]; } while (0)
    goto *labels[i->opcode];
load: r[i->a] = i->value; NEXT;
add: r[i->a] += r[i->b]; NEXT;
halve: r[i->a] >>= 1; NEXT;
triple: r[i->a] = r[i->a] * 3 + 1; NEXT;
if_odd: if (r[i->a] & 1) GO_TO(i->target); NEXT;
if_above: if (r[i->a] > r[i->b]) GO_TO(i->target); NEXT;
if_not_one: if (r[i->a] != 1) GO_TO(i->target); NEXT;
go: GO_TO(i->target);
stop: return r[1];
}

const struct kernel control_kernels[] = {
    {"indirect", "calls through a table of functions", indirect},
    {"bytecode", "an interpreter around a switch", bytecode},
    {"threaded", "an interpreter with a jump behind each instruction", threaded},
    {0},
};
