/* Floating point: scalar SSE, x87, and the C library's functions. */

#include "kernels.h"
#include <math.h>
#include <string.h>

static uint64_t bits(double value) {
    uint64_t result;
    memcpy(&result, &value, sizeof result);
    return result;
}

struct body {
    double x, y, z, vx, vy, vz, mass;
};

/* Five bodies that attract each other. */
static uint64_t nbody(void) {
    struct body bodies[5];
    for (int i = 0; i < 5; i++)
        bodies[i] = (struct body){i * 3.1, i * i - 2.5, 1.0 / (i + 1), 0.1 * i, 0.2, -0.05 * i, 1.0 / (1 + 4 * i)};
    for (int step = 0; step < 1500000; step++) {
        for (struct body *a = bodies; a < bodies + 5; a++)
            for (struct body *b = a + 1; b < bodies + 5; b++) {
                double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
                double square = dx * dx + dy * dy + dz * dz + 0.01, pull = 0.001 / (square * sqrt(square));
                a->vx -= dx * b->mass * pull, a->vy -= dy * b->mass * pull, a->vz -= dz * b->mass * pull;
                b->vx += dx * a->mass * pull, b->vy += dy * a->mass * pull, b->vz += dz * a->mass * pull;
            }
        for (struct body *a = bodies; a < bodies + 5; a++)
            a->x += 0.001 * a->vx, a->y += 0.001 * a->vy, a->z += 0.001 * a->vz;
    }
    return bits(bodies[0].x) ^ bits(bodies[4].vz);
}

static uint64_t mandelbrot(void) {
    uint64_t inside = 0;
    for (int row = 0; row < 400; row++)
        for (int column = 0; column < 400; column++) {
            double cr = column / 160.0 - 2, ci = row / 160.0 - 1.25, r = 0, i = 0;
            int n = 0;
            for (; n < 1000 && r * r + i * i < 4; n++) {
                double next = r * r - i * i + cr;
                i = 2 * r * i + ci;
                r = next;
            }
            inside += n;
        }
    return inside;
}

static uint64_t matmul(void) {
    enum { SIZE = 160 };
    static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++)
            a[i][j] = i + 0.5 * j, b[i][j] = i - 0.25 * j;
    for (int round = 0; round < 80; round++)
        for (int i = 0; i < SIZE; i++)
            for (int j = 0; j < SIZE; j++) {
                double sum = round;
                for (int k = 0; k < SIZE; k++)
                    sum += a[i][k] * b[k][j];
                c[i][j] = sum;
            }
    return bits(c[5][7]) ^ bits(c[159][3]);
}

/* A series in 80-bit arithmetic, with divisions, square roots and comparisons. */
static uint64_t x87(void) {
    long double sum = 1, largest = 0;
    for (int i = 1; i < 12000000; i++) {
        long double term = sum * 1.0000001L + 1.0L / i;
        if (term > largest)
            largest = term;
        sum = i % 64 ? term - 0.5L * largest : sqrtl(largest) + 1;
    }
    return bits(sum) ^ bits(largest);
}

static uint64_t libm(void) {
    double sum = 0;
    for (int i = 1; i < 3000000; i++) {
        double x = i * 0.001;
        sum += sin(x) * exp(-x * 0.001) + log(x) + pow(x, 0.3) * cos(x) + floor(x) * 1e-3;
    }
    return rounded(sum / 1000);
}

const struct kernel float_kernels[] = {
    {"nbody", "scalar double precision with square roots", nbody},
    {"mandelbrot", "scalar double precision, a chain and a comparison", mandelbrot},
    {"matmul", "a double-precision matrix product, scalar", matmul},
    {"x87", "80-bit arithmetic", x87},
    {"libm", "sin, cos, exp, log and pow", libm},
    {0},
};
